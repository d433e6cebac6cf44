"""Neighbouring routers: their link-layer addresses, for packets that go there without a lookup."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from srv6dmm.dataplane.fastpath.hops import Neighbourhood

log = structlog.get_logger()

PROBE_S = 15.0
"""Between two questions to every neighbour in use: half of REACHABLE_TIME (RFC 4861 section 10)."""
_LOOK_AGAIN_S = 1.0


class Adjacencies:
    """Follows the kernel's neighbour table from the event loop.

    An agent that is killed leaves addresses behind: a neighbour that gets another one while no
    agent runs is out of reach of the fast path until one does.
    """

    def __init__(self, neighbourhood: Neighbourhood) -> None:
        self._neighbourhood = neighbourhood
        self._next: asyncio.TimerHandle | None = None
        self._probe_at = 0.0

    def start(self) -> None:
        """Listen in the running event loop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._neighbourhood.fileno(), self._changed)
        self._probe_at = loop.time() + PROBE_S
        self._look()

    def close(self) -> None:
        """Stop listening. Without us nobody would notice what changes: packets look it up again."""
        if self._next is not None:
            self._next.cancel()
        asyncio.get_running_loop().remove_reader(self._neighbourhood.fileno())
        self._attempt(self._neighbourhood.forget)
        self._neighbourhood.close()

    def _changed(self) -> None:
        self._attempt(self._follow)

    def _follow(self) -> None:
        if self._neighbourhood.changed():
            self._neighbourhood.resolve()

    def _look(self) -> None:
        """Entries that were written since name next hops that nobody has looked up."""
        loop = asyncio.get_running_loop()
        self._attempt(self._neighbourhood.resolve)
        if loop.time() >= self._probe_at:
            self._attempt(self._neighbourhood.probe)
            self._probe_at = loop.time() + PROBE_S
        self._next = loop.call_later(_LOOK_AGAIN_S, self._look)

    @staticmethod
    def _attempt(work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:
            log.warning("neighbours.unreadable", error=str(error))
