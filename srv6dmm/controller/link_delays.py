"""What links take: what routers measure, made durable when it is another delay for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from srv6dmm.config import DelaySettings
from srv6dmm.controller.clock import Clock
from srv6dmm.core import link_delay
from srv6dmm.core.link_delay import Settling
from srv6dmm.core.links import measured_at
from srv6dmm.model.state import Change, LinkDelay, State
from srv6dmm.model.topology import LinkEnd, Topology
from srv6dmm.model.wire import DelayReport

log = structlog.get_logger()

LOOK_S = 1.0
"""How often it is judged while a delay waits to be counted: what has waited long enough goes into
one change."""

Commit = Callable[[Change], Awaitable[bool]]
"""Makes a change durable and has it followed; False: it could not be."""


class LinkDelays:
    """Takes reports in and turns them into changes.

    Both ends measure the same way there and back; what they say differs by what they wait for, so
    the lesser counts.
    """

    def __init__(
        self,
        settings: DelaySettings,
        newest: Callable[[], tuple[Topology, State]],
        connected: Callable[[str], bool],
        commit: Commit,
        clock: Clock,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        """`connected`: what a router said last counts for as long as it is."""
        self._settings = settings
        self._newest = newest
        self._connected = connected
        self._commit = commit
        self._clock = clock
        self._spawn = spawn
        self._told: dict[str, dict[str, int]] = {}
        """Router -> interface -> microseconds."""
        self._settling: dict[LinkEnd, Settling] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    def take(self, router: str, report: DelayReport) -> None:
        """Take in what a router says of its links."""
        self._told[router] = dict(report.delays)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._due)

    def close(self) -> None:
        """Stop waiting for delays to settle."""
        if self._timer is not None:
            self._timer.cancel()

    def measured(self) -> dict[LinkEnd, int]:
        """Return what links take as told last, in microseconds, by core.links.measured_at."""
        found: dict[LinkEnd, int] = {}
        for link in self._newest()[0].core_links():
            told = [
                self._told[end.node][end.interface]
                for end in link.ends()
                if end.interface in self._told.get(end.node, ()) and self._connected(end.node)
            ]
            if told:
                found[measured_at(link)] = min(told)
        return found

    def _due(self) -> None:
        self._timer = None
        self._spawn(self._settle())

    async def _settle(self) -> None:
        async with self._turn:
            change = self._judge(self._clock.now_ms())
            kept = not change or await self._commit(change)
        if (self._settling or not kept) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._due)

    def _judge(self, now_ms: int) -> Change:
        """Return what changes now; what is to be looked at again is in `_settling`."""
        topology, state = self._newest()
        settings = self._settings
        put: list[LinkDelay] = []
        gone = state.delays.keys() - {measured_at(link) for link in topology.core_links()}
        settling: dict[LinkEnd, Settling] = {}
        for end, seen_us in sorted(self.measured().items(), key=lambda found: str(found[0])):
            held_us = state.delays.get(end, 0)
            now_us, waits = link_delay.settle(
                held_us,
                seen_us,
                self._settling.get(end),
                now_ms,
                share=settings.share,
                least_us=settings.least_us,
                hold_ms=round(settings.hold_s * 1e3),
            )
            if waits is not None:
                settling[end] = waits
            elif now_us and now_us != held_us:
                put.append(LinkDelay(end, now_us))
            elif now_us != held_us:
                gone.add(end)
        self._settling = settling
        if put or gone:
            log.info("delays.changed", delays={str(new.end): new.delay_us for new in put})
        return Change(delays=tuple(put), delays_gone=tuple(sorted(gone, key=str)))
