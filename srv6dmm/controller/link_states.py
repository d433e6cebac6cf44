"""Which links work: what routers report, made durable; links that come back are held down.

A link is out of use when either end says so, and in use again when both ends have said otherwise
for as long as core.hold_down asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from srv6dmm.controller.clock import Clock
from srv6dmm.core import hold_down
from srv6dmm.core.hold_down import History
from srv6dmm.model.state import Change, State
from srv6dmm.model.topology import LinkEnd, Topology
from srv6dmm.model.wire import LinkReport

log = structlog.get_logger()

RETRY_S = 1.0
"""How soon a change is tried again that could not be made durable."""

Commit = Callable[[Change], Awaitable[bool]]
"""Makes a change durable and has it followed; False: it could not be."""


class LinkStates:
    """Takes reports in and turns them into changes."""

    def __init__(
        self,
        topology: Callable[[], Topology],
        newest: Callable[[], State],
        commit: Commit,
        clock: Clock,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        self._topology = topology
        self._newest = newest
        self._commit = commit
        self._clock = clock
        self._spawn = spawn
        self._down: dict[str, frozenset[str]] = {}
        """Router -> interfaces it says are down; routers that said nothing yet are not in it."""
        self._histories: dict[LinkEnd, History] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    def take(self, router: str, report: LinkReport) -> None:
        """Take in what a router says of its links."""
        self._down[router] = frozenset(report.down)
        self._spawn(self._settle())

    def close(self) -> None:
        """Stop waiting for links to become usable."""
        if self._timer is not None:
            self._timer.cancel()

    async def _settle(self) -> None:
        """Bring the state to what was reported, as far as it is time for that."""
        async with self._turn:
            now = self._clock.now_ms()
            change, due_ms = self._judge(now)
            if change and not await self._commit(change):
                due_ms = now + round(RETRY_S * 1e3)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ms is not None:
            wait_s = max(0, due_ms - now) / 1e3
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._spawn(self._settle())

    def _judge(self, now_ms: int) -> tuple[Change, int | None]:
        """Return what changes now, and when to look again."""
        state = self._newest()
        failed: list[LinkEnd] = []
        usable: list[LinkEnd] = []
        due: list[int] = []
        for end in self._reported():
            down = end.interface in self._down[end.node]
            history = self._histories.get(end, History())
            was_down = end in state.links_down
            if down:
                if history.up_ms is not None or not was_down:
                    history = hold_down.failed(history, now_ms)
                if not was_down:
                    failed.append(end)
            elif was_down:
                history = hold_down.recovered(history, now_ms)
                at_ms = hold_down.usable_at(history)
                if at_ms is None or at_ms > now_ms:
                    due += [] if at_ms is None else [at_ms]
                else:
                    history = hold_down.used(history, now_ms)
                    usable.append(end)
            else:
                continue
            self._histories[end] = history
        if failed or usable:
            log.info("links.changed", down=[*map(str, failed)], up=[*map(str, usable)])
        return Change(links_down=tuple(failed), links_up=tuple(usable)), min(due, default=None)

    def _reported(self) -> list[LinkEnd]:
        """Return the ends of core links whose routers have said something, sorted."""
        ends = {end for link in self._topology().core_links() for end in link.ends()}
        return sorted((end for end in ends if end.node in self._down), key=str)
