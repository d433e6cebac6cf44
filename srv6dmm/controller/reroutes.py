"""Changes of the underlay, told to routers in an order in which packets never run in circles.

What any order is right for goes first, with the first round of plain routes. Each round waits for
its routers; one that is silent or refuses is not waited for for ever: it converges when it can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from srv6dmm.controller.acknowledgements import Acknowledgements
from srv6dmm.controller.clock import Clock
from srv6dmm.controller.hub import Hub
from srv6dmm.core.rerouting import EntryDelta, Rerouting
from srv6dmm.model.errors import Refusal
from srv6dmm.model.plan import PlanEntry

log = structlog.get_logger()

Step = Callable[[Callable[[int], None]], Awaitable[bool]]
"""Takes a new revision and calls back with it, in order with all others; False: it could not."""
Order = Callable[[Rerouting], list[frozenset[str]]]
"""Routers whose plain routes change, in rounds."""


class Reroutes:
    """One change of the underlay at a time; a newer one takes in what is left of the one before."""

    def __init__(
        self,
        hub: Hub,
        acknowledgements: Acknowledgements,
        clock: Clock,
        step: Step,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        self._hub = hub
        self._acknowledgements = acknowledgements
        self._clock = clock
        self._step = step
        self._spawn = spawn
        self._pending: dict[str, dict[str, PlanEntry | None]] = {}
        """Router -> key -> entry it is to be told; None: the key goes."""
        self._rounds: list[frozenset[str]] = []
        self._rolling = False
        self.done: list[asyncio.Future[float]] = []
        """What callers wait on who want to know when all is told and acknowledged."""

    def begin(
        self, revision: int, change: Rerouting, rounds: list[frozenset[str]]
    ) -> asyncio.Future[float]:
        """Tell routers of a change that `revision` made; return a future of its milliseconds."""
        for router, delta in change.routes.items():
            _merge(self._pending.setdefault(router, {}), delta)
        self._rounds = [*rounds, frozenset(self._pending).difference(*rounds)]
        at_once = {router: _merge({}, delta) for router, delta in change.at_once.items()}
        first = self._rounds.pop(0) if self._rounds else frozenset()
        told = self._tell(revision, first, at_once)
        done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.done.append(done)
        started = self._clock.monotonic()
        acknowledged = self._acknowledgements.wait(revision, told, started)
        if not self._rolling:
            self._rolling = True
            self._spawn(self._roll(acknowledged, started))
        return done

    def _tell(
        self,
        revision: int,
        routers: frozenset[str],
        more: dict[str, dict[str, PlanEntry | None]],
    ) -> dict[str, frozenset[str]]:
        """Push what routers of a round are to know; return the keys they must acknowledge."""
        told: dict[str, frozenset[str]] = {}
        for router in sorted(routers | more.keys()):
            entries = dict(more.get(router, {}))
            if router in routers:
                entries |= self._pending.pop(router, {})
            if not entries:
                continue
            put = tuple(entry for entry in entries.values() if entry is not None)
            gone = tuple(key for key, entry in entries.items() if entry is None)
            self._hub.push(router, revision, (put, gone))
            if not self._hub.connected(router):
                continue  # it is told all when it comes back
            told[router] = frozenset(entry.key for entry in put)
        return told

    async def _roll(self, acknowledged: asyncio.Future[float], started: float) -> None:
        """Go through the rounds, those too that are added meanwhile."""
        try:
            await self._heard(acknowledged)
            while any(self._rounds):
                routers = self._rounds.pop(0)
                waits: list[asyncio.Future[float]] = []

                def push(
                    revision: int,
                    routers: frozenset[str] = routers,
                    waits: list[asyncio.Future[float]] = waits,
                ) -> None:
                    told = self._tell(revision, routers, {})
                    waits.append(self._acknowledgements.wait(revision, told, started))

                if not await self._step(push):
                    self._rounds.insert(0, routers)
                    await asyncio.sleep(1.0)
                    continue
                for wait in waits:
                    await self._heard(wait)
        finally:
            self._rolling = False
        elapsed_ms = round((self._clock.monotonic() - started) * 1e3, 3)
        for done in self.done:
            if not done.done():
                done.set_result(elapsed_ms)
        self.done.clear()

    async def _heard(self, acknowledged: asyncio.Future[float]) -> None:
        try:
            await acknowledged
        except Refusal as refusal:
            log.warning("reroute.behind", reason=refusal.detail)


def _merge(entries: dict[str, PlanEntry | None], delta: EntryDelta) -> dict[str, PlanEntry | None]:
    put, gone = delta
    entries.update((key, None) for key in gone)
    entries.update((entry.key, entry) for entry in put)
    return entries
