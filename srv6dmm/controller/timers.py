"""Timers: one heap, one task; what is due is handed on, and armed again if it was too early."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from contextlib import suppress

from srv6dmm.controller.clock import Clock
from srv6dmm.core.mobility import Timer


class Timers:
    """Calls `due(timer)` for each timer when its wall-clock time has come."""

    def __init__(self, clock: Clock, due: Callable[[Timer], None]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[tuple[int, int, Timer]] = []
        self._count = 0
        self._armed: dict[Timer, int] = {}
        """When each timer goes off next."""
        self._wake = asyncio.Event()

    def add(self, deadlines: Iterable[tuple[int, Timer]]) -> None:
        """Add deadlines in milliseconds since the epoch.

        Of a timer's deadlines the earliest counts: whoever is told too early adds the next one.
        So a timer that is put off a thousand times is in the heap once.
        """
        first = self._heap[0][0] if self._heap else None
        for at_ms, timer in deadlines:
            if self._armed.get(timer, at_ms + 1) <= at_ms:
                continue
            self._armed[timer] = at_ms
            self._count += 1
            heapq.heappush(self._heap, (at_ms, self._count, timer))
        if self._heap and self._heap[0][0] != first:
            self._wake.set()

    def fire(self) -> None:
        """Hand on everything that is due now."""
        now = self._clock.now_ms()
        while self._heap and self._heap[0][0] <= now:
            at_ms, _, timer = heapq.heappop(self._heap)
            if self._armed.get(timer) == at_ms:  # else an earlier deadline took its place
                del self._armed[timer]
                self._due(timer)

    async def run(self) -> None:
        """Wait for the next deadline, for ever. Cancel to stop.

        Wakes once a second at least, because the wall clock may be stepped.
        """
        while True:
            self.fire()
            wait = 1.0
            if self._heap:
                wait = min(wait, max(0.0, (self._heap[0][0] - self._clock.now_ms()) / 1e3))
            self._wake.clear()
            # Not wait_for: in Python 3.11 it can swallow the cancellation that ends us.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
