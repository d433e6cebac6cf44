"""Probes every segment list that this head-end uses, and tells the controller which do not answer.

A probe leads around the list and home again (core.list_probe): what breaks on the way without any
link losing its carrier is noticed by that. Each list gets one in `every_s`, all together at most
MOST_PER_S, spread out. What is lost while a change is under way says nothing: for `grace_s` after a
carrier came or went, or routes of this router changed, and until a list has been in the plan for so
long, nothing is counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Protocol

import structlog

from srv6dmm.agent.followers import Say
from srv6dmm.agent.list_book import ListBook
from srv6dmm.core import list_probe
from srv6dmm.core.list_probe import Answering, ListProbe, probe_packet
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.plan import PlanEntry, RouterSettings
from srv6dmm.model.sid import EncapMode, SegmentList
from srv6dmm.model.wire import ListReport

log = structlog.get_logger()

MOST_PER_S = 200
TICK_S = 0.05
_AT_ONCE = 256


class Socket(Protocol):
    """What probes go by: dataplane.list_probe.ListProbeSocket."""

    @property
    def home(self) -> IPv6Address: ...
    @property
    def port(self) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def send(self, packet: bytes) -> None: ...
    def read(self) -> bytes | None: ...


@dataclass(slots=True)
class _Probed:
    answering: Answering = field(default_factory=Answering)
    sent: ListProbe | None = None
    """The newest, until it is answered."""
    told: bool | None = None
    """Whether it was said to be silent; None: nothing was said."""


class Liveness:
    """A Follower: probes the lists of the plan, and those that are watched."""

    def __init__(
        self,
        opened: Callable[[IPv6Address], Socket],
        nonce: Callable[[], bytes],
        every_s: float,
        grace_s: float,
        encap_red: bool,
    ) -> None:
        """`opened` returns the socket of a home address; it may raise OSError, Srv6dmmError.

        `every_s` 0: nothing is probed, and what the controller takes for silent is said to answer.
        """
        self._opened = opened
        self._nonce = nonce
        self._every_s = every_s
        self._grace_s = grace_s
        self._encap_red = encap_red
        self._book = ListBook()
        self._home: IPv6Address | None = None
        self._socket: Socket | None = None
        self._probed: dict[SegmentList, _Probed] = {}
        self._turns: deque[SegmentList] = deque()
        self._waiting: dict[int, SegmentList] = {}
        """Number of a probe -> its list."""
        self._touched: set[SegmentList] = set()
        """Lists of which there may be news."""
        self._sequence = 0
        self._credit = 0.0
        self._ticked = 0.0
        self._disturbed = float("-inf")
        self._say: Say = lambda message: None
        self._next: asyncio.TimerHandle | None = None

    # --- as a Follower -----------------------------------------------------------------------

    def start(self, say: Say) -> None:
        """Begin in the running event loop."""
        self._say = say
        self._ticked = asyncio.get_running_loop().time()
        self._tick()

    def close(self) -> None:
        """Stop probing."""
        if self._next is not None:
            self._next.cancel()
        self._shut()

    def start_over(self) -> None:
        """Say all again with the next probes."""
        for probed in self._probed.values():
            probed.told = None
        self._touched.update(self._probed)

    def full(self, entries: Collection[PlanEntry]) -> None:
        """Follow another plan."""
        self._book.full(entries, asyncio.get_running_loop().time())
        self._follow(entries)

    def changed(self, put: tuple[PlanEntry, ...], gone: tuple[str, ...]) -> None:
        """Follow a change of the plan."""
        self._book.changed(put, gone, asyncio.get_running_loop().time())
        self._follow(put)

    def links_changed(self) -> None:
        """Count nothing for a while: packets are being led another way."""
        self._disturbed = asyncio.get_running_loop().time()

    def _follow(self, entries: Collection[PlanEntry]) -> None:
        for entry in entries:
            if isinstance(entry, RouterSettings) and entry.loopback != self._home:
                self._shut()
                self._home = entry.loopback
        lists = self._book.lists
        for segments in [known for known in self._probed if known not in lists]:
            sent = self._probed.pop(segments).sent
            if sent is not None:
                self._waiting.pop(sent.sequence, None)
        for segments in lists:
            if segments not in self._probed:
                self._probed[segments] = _Probed()
                self._turns.append(segments)

    # --- probing -----------------------------------------------------------------------------

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(TICK_S if self._every_s else 1.0, self._tick)
        now = loop.time()
        elapsed_s, self._ticked = now - self._ticked, now
        if not self._every_s:
            self._deny()
            return
        if self._socket is None and not self._open():
            return
        self._heard()  # before anything counts as lost: we may have been held up ourselves
        lists = len(self._probed)
        rate = min(MOST_PER_S, lists / self._every_s)
        self._credit = min(self._credit + elapsed_s * rate, lists, MOST_PER_S * self._every_s)
        while self._credit >= 1 and self._turns:
            segments = self._turns.popleft()
            if segments in self._probed:
                self._turns.append(segments)
                self._credit -= 1
                self._probe(segments, now)
        self._news()

    def _probe(self, segments: SegmentList, now: float) -> None:
        """Send a list's next probe; the one before is lost if it is not home by now."""
        probed, use, opened = self._probed[segments], self._book.lists[segments], self._socket
        if opened is None:
            return
        if probed.sent is not None:
            self._waiting.pop(probed.sent.sequence, None)
            calm = now - self._grace_s
            settled = max(self._disturbed, self._book.moved_at, self._book.since[segments]) < calm
            judge = list_probe.missed if settled else list_probe.excused
            probed.answering = judge(probed.answering)
            self._touched.add(segments)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        probed.sent = ListProbe(self._sequence, self._nonce())
        self._waiting[self._sequence] = segments
        mode = use.mode
        if mode is EncapMode.ENCAP_RED and not self._encap_red:
            mode = EncapMode.ENCAP
        message = probed.sent.encode()
        try:
            packet = probe_packet(mode, opened.home, opened.port, segments, use.back, message)
            opened.send(packet)
        except (OSError, ValueError) as error:
            log.debug("list-probe.unsent", segments=[*map(str, segments)], error=str(error))

    def _heard(self) -> None:
        opened = self._socket
        if opened is None:
            return
        for _ in range(_AT_ONCE):
            data = opened.read()
            if data is None:
                break
            probe = list_probe.decode(data)
            segments = self._waiting.get(probe.sequence) if probe is not None else None
            probed = self._probed.get(segments) if segments is not None else None
            if probe is None or segments is None or probed is None or probed.sent != probe:
                continue
            del self._waiting[probe.sequence]
            probed.sent = None
            probed.answering = list_probe.answered(probed.answering)
            self._touched.add(segments)

    # --- telling -----------------------------------------------------------------------------

    def _news(self) -> None:
        """Tell of lists that fell silent, and of those that answer and are thought not to."""
        silent: list[SegmentList] = []
        answering: list[SegmentList] = []
        for segments in self._touched:
            probed = self._probed.get(segments)
            if probed is None:
                continue
            if probed.answering.silent:
                if probed.told is not True:
                    probed.told = True
                    silent.append(segments)
            elif probed.told is not False and self._thought_silent(segments, probed):
                probed.told = False
                answering.append(segments)
        self._touched.clear()
        if silent or answering:
            log.info("lists.told", silent=_shown(silent), answering=_shown(answering))
            self._say(ListReport(tuple(silent), tuple(answering)))

    def _thought_silent(self, segments: SegmentList, probed: _Probed) -> bool:
        watched = segments in self._book.watched
        return (probed.told is True or watched) and probed.answering.answered >= list_probe.ANSWERS

    def _deny(self) -> None:
        """Say of every list that is out of use that it answers: nobody would find out here."""
        answering = [s for s in sorted(self._book.watched) if self._probed[s].told is not False]
        for segments in answering:
            self._probed[segments].told = False
        if answering:
            self._say(ListReport((), tuple(answering)))

    # --- sockets -----------------------------------------------------------------------------

    def _open(self) -> bool:
        if self._home is None or not self._probed:
            return False
        try:
            self._socket = self._opened(self._home)
        except (OSError, Srv6dmmError) as error:
            log.debug("list-probe.no-socket", error=str(error))
            return False
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._heard)
        return True

    def _shut(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _shown(lists: Collection[SegmentList]) -> list[str]:
    return [" ".join(map(str, segments)) for segments in lists]
