"""Waits for routers to acknowledge what they were told, outside any mobile node's roll-out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from srv6dmm.controller.clock import Clock
from srv6dmm.controller.hub import Hub
from srv6dmm.model.errors import Refusal


@dataclass(slots=True, eq=False)
class _Wait:
    revision: int
    keys: Mapping[str, frozenset[str]]
    """Router -> keys of the entries it was told."""
    started: float
    applied: asyncio.Future[float]
    timeout: asyncio.TimerHandle | None = None


class Acknowledgements:
    """Futures that resolve when all routers concerned have applied a revision."""

    def __init__(self, hub: Hub, clock: Clock, patience_s: float) -> None:
        self._hub = hub
        self._clock = clock
        self._patience_s = patience_s
        self._waits: set[_Wait] = set()
        hub.on_progress.append(self._progress)

    def wait(
        self, revision: int, keys: Mapping[str, frozenset[str]], started: float
    ) -> asyncio.Future[float]:
        """Return a future of the milliseconds since `started` (monotonic, seconds).

        It has the Refusal `not-applied` when a router refuses an entry, or is silent for too long:
        the change stays, and the router is told again when it comes back.
        """
        loop = asyncio.get_running_loop()
        wait = _Wait(revision, keys, started, loop.create_future())
        self._waits.add(wait)
        wait.timeout = loop.call_later(self._patience_s, self._overdue, wait)
        loop.call_soon(self._check, wait)
        return wait.applied

    def close(self) -> None:
        """Stop waiting; who waits is not told any more."""
        for wait in list(self._waits):
            self._end(wait)

    def _progress(self, router: str) -> None:
        for wait in [wait for wait in self._waits if router in wait.keys]:
            self._check(wait)

    def _check(self, wait: _Wait) -> None:
        if wait not in self._waits:
            return
        if not all(self._hub.has(router, wait.revision) for router in wait.keys):
            return
        self._end(wait)
        if wait.applied.done():
            return
        failures = [
            (router, failure)
            for router, keys in sorted(wait.keys.items())
            if (failure := self._hub.failure(router, keys)) is not None
        ]
        if not failures:
            wait.applied.set_result(round((self._clock.monotonic() - wait.started) * 1e3, 3))
            return
        router, failure = failures[0]
        self._refuse(
            wait,
            f"{router} could not apply {failure.key!r}: {failure.reason}; it goes on trying",
            sorted(router for router, _ in failures),
        )

    def _overdue(self, wait: _Wait) -> None:
        if wait not in self._waits:
            return
        self._end(wait)
        missing = sorted(r for r in wait.keys if not self._hub.has(r, wait.revision))
        self._refuse(
            wait,
            f"{', '.join(missing)} did not acknowledge within {self._patience_s:g} s; the change "
            "is kept and takes effect there as soon as the router is back; is its agent running?",
            missing,
        )

    def _refuse(self, wait: _Wait, detail: str, routers: list[str]) -> None:
        if not wait.applied.done():
            extra: dict[str, object] = {"routers": routers, "revision": wait.revision}
            wait.applied.set_exception(Refusal("not-applied", detail, 504, extra=extra))
            wait.applied.exception()  # a caller that does not wait is no error

    def _end(self, wait: _Wait) -> None:
        self._waits.discard(wait)
        if wait.timeout is not None:
            wait.timeout.cancel()
