"""Links to other routers that do not work: told to the controller at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from srv6dmm.model.wire import LinkReport

log = structlog.get_logger()

PATIENCE_S = 2.0
"""For how long a link that has not worked yet is not told of: its far end may be about to be set
up, as when a whole domain starts."""


class Carrier(Protocol):
    """What tells of carriers: dataplane.carrier.CarrierWatch."""

    def fileno(self) -> int: ...
    def working(self) -> frozenset[str]: ...
    def close(self) -> None: ...


class Carriers:
    """Follows the carriers of the core interfaces from the event loop."""

    def __init__(self, carrier: Carrier, say: Callable[[LinkReport], None]) -> None:
        self._carrier = carrier
        self._say = say
        self._interfaces: dict[str, float] = {}
        """Core interface -> from when on it is told of when it does not work; 0: always."""
        self._said: LinkReport | None = None
        self._later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listen in the running event loop."""
        asyncio.get_running_loop().add_reader(self._carrier.fileno(), self._look)

    def close(self) -> None:
        """Stop listening."""
        if self._later is not None:
            self._later.cancel()
        asyncio.get_running_loop().remove_reader(self._carrier.fileno())
        self._carrier.close()

    def follow(self, interfaces: tuple[str, ...]) -> None:
        """Set which interfaces lead to other routers."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        known = self._interfaces
        self._interfaces = {name: known.get(name, until) for name in interfaces}
        if self._interfaces.keys() - known.keys():
            loop.call_later(PATIENCE_S, self._look)
        self._look()

    def start_over(self) -> None:
        """Say all again: whoever listens now knows nothing."""
        self._said = None
        if self._interfaces:
            self._look()

    def _look(self) -> None:
        try:
            working = self._carrier.working()
        except OSError as error:
            log.warning("carriers.unread", error=str(error))
            return
        now = asyncio.get_running_loop().time()
        down: list[str] = []
        for name, patient_until in sorted(self._interfaces.items()):
            if name in working:
                self._interfaces[name] = 0.0
            elif now >= patient_until:
                down.append(name)
        report = LinkReport(tuple(down))
        if self._interfaces and report != self._said:
            self._said = report
            if down:
                log.warning("links.down", interfaces=down)
            self._say(report)
