"""What one router's agent is asked, and who waits for its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import TypeVar, cast

from srv6dmm.model.errors import Refusal
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.wire import (
    ForwardingMode,
    FromController,
    Inspect,
    Inspection,
    ModeReport,
    Probe,
    Probed,
    Report,
    Resync,
    SetMode,
    Sighting,
    Unwatch,
    Watch,
    Watching,
)

REPORT_TIMEOUT_S = 10.0
MODE_TIMEOUT_S = 60.0
"""Programs that were never compiled on a host are compiled first."""

T = TypeVar("T")
Answer = Report | ModeReport | Inspection | Watching | Probed | Sighting
Key = tuple[type, int | str]


class Questions:
    """The questions on one connection. An agent answers those of a kind in order."""

    def __init__(self, router: str, post: Callable[[FromController], None]) -> None:
        self._router = router
        self._post = post
        self._reports: list[asyncio.Future[Report]] = []
        self._modes: list[tuple[ForwardingMode, asyncio.Future[ModeReport]]] = []
        self._numbers = count(1)
        self._keyed: dict[Key, asyncio.Future[object]] = {}
        """By the kind of the answer, and its number or token."""
        self._watched: dict[str, Callable[[Sighting], None]] = {}

    async def resync(self) -> Report:
        """Have the agent read its kernel back and repair. Raises Refusal `router-not-connected`."""
        waiting: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._reports.append(waiting)
        self._post(Resync())
        return await self._answer(waiting, REPORT_TIMEOUT_S)

    async def set_mode(self, mode: ForwardingMode) -> None:
        """Have the agent change over to a mode.

        Raises Refusal `mode-unavailable` with the agent's reason, or `router-not-connected`.
        """
        waiting: asyncio.Future[ModeReport] = asyncio.get_running_loop().create_future()
        self._modes.append((mode, waiting))
        self._post(SetMode(mode))
        report = await self._answer(waiting, MODE_TIMEOUT_S)
        if report.mode != mode:
            raise Refusal(
                "mode-unavailable",
                f"{self._router} stays in mode {report.mode}: {report.reason}",
                extra={"mode": report.mode},
            )

    async def inspect(self, entries: Sequence[PlanEntry], patience_s: float) -> Inspection:
        """Have the agent read back what entries are in its kernel; nothing is repaired.

        Raises TimeoutError, or Refusal `router-not-connected`.
        """
        number = next(self._numbers)
        question = Inspect(number, tuple(entries))
        return await self._ask(question, Inspection, number, patience_s)

    async def watch(
        self, watch: Watch, seen: Callable[[Sighting], None], patience_s: float
    ) -> Watching:
        """Have the agent look out for a token; `seen` is told until `unwatch`. Raises as above."""
        self._watched[watch.token] = seen
        return await self._ask(watch, Watching, watch.token, patience_s)

    async def unwatch(self, token: str, patience_s: float) -> None:
        """Have the agent look no more; what it saw was told when this returns. Raises as above."""
        try:
            await self._ask(Unwatch(token), Watching, token, patience_s)
        finally:
            self._watched.pop(token, None)

    def forget(self, token: str) -> None:
        """End a watch that nobody waits for any more."""
        if self._watched.pop(token, None) is not None:
            self._post(Unwatch(token))

    async def probe(self, probe: Probe, patience_s: float) -> Probed:
        """Have the agent send a probe. Raises as `inspect` does."""
        return await self._ask(probe, Probed, probe.token, patience_s)

    async def _ask(
        self, question: FromController, kind: type[T], key: int | str, patience_s: float
    ) -> T:
        waiting: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._keyed[kind, key] = cast("asyncio.Future[object]", waiting)
        self._post(question)
        try:
            return await asyncio.wait_for(waiting, patience_s)
        finally:
            self._keyed.pop((kind, key), None)

    def take(self, message: Answer) -> None:
        """Take in an answer. Every report answers all who wait for one."""
        match message:
            case Report():
                for waiting in self._reports:
                    _resolve(waiting, message)
                self._reports.clear()
            case ModeReport():
                self._take_mode(message)
            case Inspection(number=number):
                self._take_keyed(message, number)
            case Watching(token=token) | Probed(token=token):
                self._take_keyed(message, token)
            case Sighting(token=token):
                seen = self._watched.get(token)
                if seen is not None:
                    seen(message)

    def _take_keyed(self, message: object, key: int | str) -> None:
        waiting = self._keyed.get((type(message), key))
        if waiting is not None:
            _resolve(waiting, message)

    def _take_mode(self, message: ModeReport) -> None:
        for number, (asked, wanted) in enumerate(self._modes):
            if asked == message.asked:
                del self._modes[number]
                _resolve(wanted, message)
                return

    def close(self) -> None:
        """Tell everybody who waits that no answer will come."""
        for report in self._reports:
            _refuse(report, self._router)
        for _, wanted in self._modes:
            _refuse(wanted, self._router)
        for asked in self._keyed.values():
            _refuse(asked, self._router)
        self._reports.clear()
        self._modes.clear()
        self._watched.clear()

    async def _answer(self, waiting: asyncio.Future[T], timeout_s: float) -> T:
        try:
            return await asyncio.wait_for(waiting, timeout_s)
        except TimeoutError:
            raise not_connected(self._router) from None


def _resolve(waiting: asyncio.Future[T], answer: T) -> None:
    if not waiting.done():
        waiting.set_result(answer)


def _refuse(waiting: asyncio.Future[T], router: str) -> None:
    if not waiting.done():
        waiting.set_exception(not_connected(router))


def not_connected(router: str) -> Refusal:
    """Return the refusal of what only a router's running agent can do."""
    return Refusal(
        "router-not-connected",
        f"the agent of {router} is not connected; start it and look at its log",
    )
