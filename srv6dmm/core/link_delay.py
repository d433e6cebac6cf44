"""Delay of links as routers measure it: the least of a while, and when it counts as another one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


class LeastOfLate:
    """The least value of a sliding window: what waits in queues only ever adds to a delay."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._rising: deque[tuple[float, int]] = deque()
        """(when, value), values rising: an older one that is no less can never be the least."""

    def add(self, now_s: float, value: int) -> None:
        """Take in a value; times never fall."""
        while self._rising and self._rising[-1][1] >= value:
            self._rising.pop()
        self._rising.append((now_s, value))

    def value(self, now_s: float) -> int | None:
        """Return the least of the window; None when nothing is in it."""
        while self._rising and self._rising[0][0] <= now_s - self._window_s:
            self._rising.popleft()
        return self._rising[0][1] if self._rising else None


def differs(held_us: int, seen_us: int, share: float, least_us: int) -> bool:
    """Tell whether a delay is another one than the one held: by more than a share, and by enough.

    `share` is of the delay held; `least_us` in microseconds.
    """
    change = abs(seen_us - held_us)
    return change > least_us and change > share * held_us


@dataclass(frozen=True, slots=True)
class Settling:
    """A delay that may take the place of the one held, if it stays."""

    since_ms: int
    seen_us: int
    """At that time."""


def settle(
    held_us: int,
    seen_us: int,
    settling: Settling | None,
    now_ms: int,
    *,
    share: float,
    least_us: int,
    hold_ms: int,
) -> tuple[int, Settling | None]:
    """Return the delay to hold from now on, and what waits to take its place.

    Another one must be seen for `hold_ms` without a break. On its way it may change: one that
    does so by as much again begins anew. Below `least_us` a delay is none (0): so small, all
    links are alike.
    """
    seen_us = seen_us if seen_us > least_us else 0
    if not differs(held_us, seen_us, share, least_us):
        return held_us, None
    if settling is None or differs(settling.seen_us, seen_us, share, least_us):
        settling = Settling(now_ms, seen_us)
    if now_ms - settling.since_ms >= hold_ms:
        return seen_us, None
    return held_us, settling
