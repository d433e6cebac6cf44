"""Measures what the links to other routers take, and answers those that measure theirs.

A probe a second goes over every core interface to the router at its far end; the least of the last
ten counts. One way is half of the way there and back, without the time the far end held the probe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Protocol

import structlog

from srv6dmm.agent.followers import Say
from srv6dmm.agent.rate_limit import RateLimit
from srv6dmm.core.link_delay import LeastOfLate, differs
from srv6dmm.dataplane.link_probe import HeardProbe, LinkProbe, fresh_nonce
from srv6dmm.model.plan import PlanEntry, RouterSettings
from srv6dmm.model.topology import MAX_DELAY_US
from srv6dmm.model.wire import DelayReport

log = structlog.get_logger()

WINDOW = 10
"""Probes of which the least counts."""
NEWS_SHARE, NEWS_US = 0.1, 20
"""What is said anew differs by more than this from what was said: finer than what the controller
acts on, and rarer than the probes."""
ANSWERS_PER_S, ANSWERS_AT_ONCE = 20.0, 20.0
"""To one far end."""
_STEPPED_NS = 50_000
"""The clock was set meanwhile if it and the monotonic one differ by more."""
_AT_ONCE = 64


class Socket(Protocol):
    """What probes go by: dataplane.link_probe.LinkProbeSocket."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def indices(self) -> dict[str, int]: ...
    def read(self) -> HeardProbe | None: ...
    def reply(self, heard: HeardProbe, source: IPv6Address) -> None: ...
    def send(
        self, probe: LinkProbe, source: IPv6Address, destination: IPv6Address, index: int
    ) -> None: ...


@dataclass(slots=True)
class _Neighbour:
    address: IPv6Address
    least: LeastOfLate
    sequence: int = 0
    sent: LinkProbe | None = None
    """The newest, until it is answered."""
    sent_ns: tuple[int, int] = field(default=(0, 0))
    """CLOCK_REALTIME and CLOCK_MONOTONIC."""


class DelayProbes:
    """A Follower: probes the neighbours that the router's settings name."""

    def __init__(self, opened: Socket, every_s: float) -> None:
        """`every_s`: between two probes of a link; 0: probes of others are answered, no more."""
        self._socket = opened
        self._every_s = every_s
        self._address: IPv6Address | None = None
        self._neighbours: dict[str, _Neighbour] = {}
        self._interfaces: dict[int, str] = {}
        self._said: dict[str, int] = {}
        self._say: Say = lambda message: None
        self._next: asyncio.TimerHandle | None = None
        self._limit = RateLimit(ANSWERS_PER_S, ANSWERS_AT_ONCE)

    # --- as a Follower -----------------------------------------------------------------------

    def start(self, say: Say) -> None:
        """Begin in the running event loop."""
        self._say = say
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._heard)
        self._tick()

    def close(self) -> None:
        """Stop measuring and answering."""
        if self._next is not None:
            self._next.cancel()
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def start_over(self) -> None:
        """Say all again at the next probe."""
        self._said = {}

    def full(self, entries: Collection[PlanEntry]) -> None:
        """Follow another plan."""
        for entry in entries:
            if isinstance(entry, RouterSettings):
                self._follow(entry)

    def changed(self, put: tuple[PlanEntry, ...], gone: tuple[str, ...]) -> None:
        """Follow a change of the plan."""
        self.full(put)

    def links_changed(self) -> None:
        """Nothing follows: a link without carrier does not answer."""

    # --- measuring ---------------------------------------------------------------------------

    def _follow(self, settings: RouterSettings) -> None:
        known = self._neighbours
        self._address = settings.link_local
        self._neighbours = {
            interface: known[interface]
            if interface in known and known[interface].address == address
            else _Neighbour(address, LeastOfLate(WINDOW * max(self._every_s, 0.1)))
            for interface, address in settings.neighbours
        }
        self._look()

    def _look(self) -> None:
        indices = self._socket.indices()
        self._interfaces = {
            indices[name]: name for name in self._neighbours if indices.get(name) is not None
        }

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(self._every_s or 1.0, self._tick)
        self._look()
        if self._every_s <= 0:
            return
        self._news(loop.time())
        for index, name in self._interfaces.items():
            self._probe(self._neighbours[name], index)

    def _probe(self, neighbour: _Neighbour, index: int) -> None:
        neighbour.sequence = (neighbour.sequence + 1) & 0xFFFFFFFF
        probe = LinkProbe(neighbour.sequence, fresh_nonce())
        assert self._address is not None
        neighbour.sent, neighbour.sent_ns = probe, (time.time_ns(), time.monotonic_ns())
        try:
            self._socket.send(probe, self._address, neighbour.address, index)
        except OSError as error:  # the interface is down, say: it measures nothing then
            neighbour.sent = None
            log.debug("link-probe.unsent", neighbour=str(neighbour.address), error=str(error))

    def _heard(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                heard = self._socket.read()
            except OSError:
                continue  # an error that an earlier message of ours met
            if heard is None:
                return
            self._take(heard)

    def _take(self, heard: HeardProbe) -> None:
        neighbour = self._neighbours.get(self._interfaces.get(heard.index, ""))
        if neighbour is None or heard.source != neighbour.address or self._address is None:
            return
        if heard.probe.reply:
            self._measure(neighbour, heard)
        elif self._limit.allow(heard.index, asyncio.get_running_loop().time()):
            try:
                self._socket.reply(heard, self._address)
            except OSError as error:
                log.debug("link-probe.unanswered", neighbour=str(heard.source), error=str(error))

    def _measure(self, neighbour: _Neighbour, heard: HeardProbe) -> None:
        sent, (real_ns, monotonic_ns) = neighbour.sent, neighbour.sent_ns
        answer = (heard.probe.sequence, heard.probe.nonce)
        if sent is None or answer != (sent.sequence, sent.nonce):
            return
        neighbour.sent = None
        step_ns = (time.time_ns() - real_ns) - (time.monotonic_ns() - monotonic_ns)
        both_ways_ns = heard.at_ns - real_ns - heard.probe.held_ns
        if abs(step_ns) > _STEPPED_NS or not 0 <= both_ways_ns <= 2000 * MAX_DELAY_US:
            return
        now = asyncio.get_running_loop().time()
        neighbour.least.add(now, round(both_ways_ns / 2000))

    def _news(self, now: float) -> None:
        measured = {
            name: least
            for name, neighbour in sorted(self._neighbours.items())
            if (least := neighbour.least.value(now)) is not None
        }
        if measured.keys() != self._said.keys() or any(
            differs(self._said[name], least, NEWS_SHARE, NEWS_US)
            for name, least in measured.items()
        ):
            self._said = measured
            self._say(DelayReport(measured))
