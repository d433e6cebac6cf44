"""What one router's agent is asked, and who waits for its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from srv6dmm.model.errors import Refusal
from srv6dmm.model.wire import ForwardingMode, FromController, ModeReport, Report, Resync, SetMode

REPORT_TIMEOUT_S = 10.0
MODE_TIMEOUT_S = 60.0
"""Programs that were never compiled on a host are compiled first."""

T = TypeVar("T")


class Questions:
    """The questions on one connection. An agent answers those of a kind in order."""

    def __init__(self, router: str, post: Callable[[FromController], None]) -> None:
        self._router = router
        self._post = post
        self._reports: list[asyncio.Future[Report]] = []
        self._modes: list[tuple[ForwardingMode, asyncio.Future[ModeReport]]] = []

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

    def take(self, message: Report | ModeReport) -> None:
        """Take in an answer. Every report answers all who wait for one."""
        if isinstance(message, Report):
            for waiting in self._reports:
                _resolve(waiting, message)
            self._reports.clear()
            return
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
        self._reports.clear()
        self._modes.clear()

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
