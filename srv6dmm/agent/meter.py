"""What the fast path counted, as messages: the news only, and never more than fits one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Protocol

from srv6dmm.dataplane.fastpath.layout import Counter
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.model.wire import FlowTraffic, PrefixTraffic, SidTraffic, Telemetry

MAX_PREFIXES = 1000
"""Counters in one message, of prefixes and flows: some 80 kB. The rest waits for the next."""

LONGEST_SILENCE_S = 10.0
"""Then it is said that there is no news: who hears nothing must not take that for no packets."""

Owner = IPv6Network | int
"""Whose a counter is: a prefix, or a flow entry by its number."""


class Counting(Protocol):
    """What is read: a FastPath, or what stands for one."""

    def reasons(self) -> dict[Reason, int]:
        """Return the packets counted under each reason."""

    def counted(self) -> list[tuple[int, Owner | None, Counter]]:
        """Return (number, whose it is, value) of counters that changed since the last call."""

    def sid_traffic(self) -> tuple[SidTraffic, ...]:
        """Return what was counted at every local SID that counted anything."""


@dataclass(slots=True)
class _Known:
    owner: Owner
    counter: Counter
    seen_at: float
    """When this value of `last` was first seen: ages need no tick rate of the kernel's."""


class Meter:
    """Follows the counters of one fast path. Not thread-safe."""

    def __init__(self, source: Counting, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._known: dict[int, _Known] = {}
        self._numbers: dict[Owner, int] = {}
        self._untold: dict[int, None] = {}
        """Counters with news, oldest news first."""
        self._gone: dict[Owner, None] = {}
        self._told: dict[str, int] | None = None
        self._told_sids: tuple[SidTraffic, ...] = ()
        self._told_at = clock()

    def start_over(self) -> None:
        """Say everything again: whoever listens now knows nothing."""
        self._untold = dict.fromkeys(self._known)
        self._gone.clear()
        self._told = None
        self._told_sids = ()

    def read(self) -> Telemetry | None:
        """Read the counters; return what is new, or None. Raises OSError.

        After LONGEST_SILENCE_S the word that nothing is.
        """
        now = self._clock()
        for number, owner, counter in self._source.counted():
            self._take(number, owner, counter, now)
        counts = self._source.reasons()
        reasons = {reason.label: count for reason, count in counts.items() if count}
        numbers = [number for number, _ in zip(self._untold, range(MAX_PREFIXES), strict=False)]
        gone = [owner for owner, _ in zip(self._gone, range(MAX_PREFIXES), strict=False)]
        silent_s = now - self._told_at
        counted = self._source.sid_traffic()
        sids = counted if counted != self._told_sids else None
        quiet = reasons == self._told and sids is None and not numbers and not gone
        if quiet and silent_s < LONGEST_SILENCE_S:
            return None
        self._told_sids = counted
        self._told_at = now
        self._told = reasons
        for number in numbers:
            del self._untold[number]
        for owner in gone:
            del self._gone[owner]
        return _message(reasons, [self._known[number] for number in numbers], gone, sids, now)

    def _take(self, number: int, owner: Owner | None, counter: Counter, now: float) -> None:
        known = self._known.get(number)
        if known is not None and (known.owner != owner or not counter.packets):
            self._forget(number, known.owner)
            known = None
        if owner is None or not counter.packets:
            return
        last = known.counter.last if known is not None else None
        seen_at = known.seen_at if known is not None and last == counter.last else now
        self._known[number] = _Known(owner, counter, seen_at)
        self._numbers[owner] = number
        self._gone.pop(owner, None)
        self._untold[number] = None

    def _forget(self, number: int, owner: Owner) -> None:
        del self._known[number]
        self._untold.pop(number, None)
        if self._numbers.get(owner) == number:  # else it is counted elsewhere now
            del self._numbers[owner]
            self._gone[owner] = None


def _message(
    reasons: dict[str, int],
    news: list[_Known],
    gone: list[Owner],
    sids: tuple[SidTraffic, ...] | None,
    now: float,
) -> Telemetry:
    prefixes: list[PrefixTraffic] = []
    flows: list[FlowTraffic] = []
    for known in news:
        counter = known.counter
        counts = counter.packets, counter.octets, round((now - known.seen_at) * 1e3)
        if isinstance(known.owner, int):
            flows.append(FlowTraffic(known.owner, *counts))
        else:
            prefixes.append(PrefixTraffic(known.owner, *counts))
    return Telemetry(
        reasons,
        tuple(prefixes),
        tuple(owner for owner in gone if not isinstance(owner, int)),
        tuple(flows),
        tuple(owner for owner in gone if isinstance(owner, int)),
        sids,
    )
