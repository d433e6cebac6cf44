"""Which routers take part in compression: what agents read back, made durable, step by step.

A router that supports NEXT-C-SID is told its uN; when it has acknowledged that, segment lists use
it. One that does not support it any more, or refuses its uN, is left out of segment lists first,
and its uN goes when head-ends have acknowledged that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from srv6dmm.controller.hub import Hub
from srv6dmm.controller.turns import Turns
from srv6dmm.core.planner import Planner
from srv6dmm.core.static_plans import micro_node
from srv6dmm.model.state import Change, CsidSupport, State
from srv6dmm.model.wire import NEXT_CSID, Hello

log = structlog.get_logger()

RETRY_S = 1.0
"""How soon a change is tried again that could not be made durable."""

Commit = Callable[[Change], Awaitable[asyncio.Future[float] | None]]
"""Makes a change durable; its future resolves when routers were told. None: it could not be."""


class CsidStates:
    """Takes in what routers say of NEXT-C-SID and turns it into changes, one at a time each."""

    def __init__(
        self,
        planner: Planner,
        hub: Hub,
        newest: Callable[[], State],
        commit: Commit,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        self._planner = planner
        self._hub = hub
        self._newest = newest
        self._commit = commit
        self._spawn = spawn
        self._supports: dict[str, bool] = {}
        """As routers said in this life of ours."""
        self._told: dict[str, int] = {}
        """Router -> the first revision known to have its uN."""
        self._turns = Turns()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        hub.on_hello = self.take
        hub.on_progress.append(self._look)

    def take(self, router: str, hello: Hello) -> None:
        """Take in what a router can do, just after it was sent its whole plan."""
        self._supports[router] = hello.capabilities.get(NEXT_CSID, False)
        self._told[router] = self._hub.target(router)
        self._look(router)

    def close(self) -> None:
        """Stop trying."""
        for timer in self._timers.values():
            timer.cancel()

    def _look(self, router: str) -> None:
        if self._judge(router):
            self._spawn(self._settle(router))

    async def _settle(self, router: str) -> None:
        """Bring the state to what the router says, as far as it is time for that."""
        async with self._turns.of(router):
            while change := self._judge(router):
                told = await self._commit(change)
                if told is None:
                    self._timers[router] = asyncio.get_running_loop().call_later(
                        RETRY_S, self._look, router
                    )
                    return
                support = self._newest().csid.get(router)
                log.info("csid.changed", router=router, held=support and support.held)
                if support is not None and not support.held:
                    self._told[router] = self._hub.target(router)
                    if not self._wanted(router):
                        await told  # the uN stays until no list names it any more

    def _wanted(self, router: str) -> bool:
        on = self._planner.topology.domain.usid and router in self._planner.sids
        return on and self._supports[router]

    def _judge(self, router: str) -> Change:
        """Return what changes now; empty for a router that has said nothing yet."""
        if router not in self._supports:
            return Change()
        support = self._newest().csid.get(router)
        if not self._wanted(router):
            if support is None:
                return Change()
            if support.held:
                return Change(csid=(CsidSupport(router, False),))
            return Change(csid_gone=(router,))
        if support is None:
            return Change(csid=(CsidSupport(router, False),))
        if not self._hub.settled(router, self._told[router]):
            return Change()
        key = micro_node(self._planner.sids[router]).key
        held = self._hub.failure(router, frozenset({key})) is None
        return Change(csid=(CsidSupport(router, held),) if held != support.held else ())
