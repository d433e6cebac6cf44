"""Probes of segment lists: their bytes, whose turn it is, and what is made of answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from srv6dmm.agent.list_book import ListBook
from srv6dmm.agent.liveness import MOST_PER_S, Liveness
from srv6dmm.core import list_probe
from srv6dmm.core.list_probe import Answering, ListProbe, decode, probe_packet
from srv6dmm.model.plan import (
    FlowSelector,
    FlowSteering,
    PlanEntry,
    RouterSettings,
    SteeringEntry,
    SteeringList,
    UnderlayRoute,
    WatchedList,
)
from srv6dmm.model.sid import EncapMode, SegmentList
from srv6dmm.model.wire import FromAgent, ListReport
from tests.agents import AWAY, HOME, SETTINGS, steering
from tests.simulated import quickly

LOOPBACK = IPv6Address("fc00:0:1::1")
A, B, C, D = (IPv6Address(f"fc00:0:{n}:e00::") for n in "abcd")
GRACE_S = 5.0

# --- bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [EncapMode.ENCAP, EncapMode.ENCAP_RED])
@pytest.mark.parametrize("segments", [(A,), (A, B), (A, B, C)])
@pytest.mark.parametrize("back", [(), (D,), (C, D)])
def test_a_probe_is_built_as_packets_of_its_list_are(
    mode: EncapMode, segments: SegmentList, back: SegmentList
) -> None:
    message = ListProbe(7, b"12345678").encode()
    packet = IPv6(probe_packet(mode, LOOPBACK, 40000, segments, back, message))
    layer = packet
    for wanted in filter(None, (segments, back)):
        assert (layer.src, layer.dst) == (str(LOOPBACK), str(wanted[0]))
        assert layer.plen == len(layer.payload)
        listed = wanted[1:] if mode is EncapMode.ENCAP_RED else wanted
        layer = layer.payload
        if listed:
            assert isinstance(layer, IPv6ExtHdrSegmentRouting)
            assert layer.addresses == [str(sid) for sid in reversed(listed)]
            assert (layer.segleft, layer.lastentry) == (len(wanted) - 1, len(listed) - 1)
            layer = layer.payload
        assert isinstance(layer, IPv6)
    assert (layer.src, layer.dst) == (str(LOOPBACK), str(LOOPBACK))
    datagram = layer[UDP]
    assert (datagram.sport, datagram.dport) == (40000, 40000)
    assert bytes(datagram.payload) == message
    given = datagram.chksum
    del datagram.chksum
    assert IPv6(bytes(layer))[UDP].chksum == given, "scapy computes the same checksum"


def test_messages_read_as_they_were_written_and_nothing_else_does() -> None:
    probe = ListProbe((1 << 32) - 1, b"\0abcdefg")
    whole = probe.encode()
    assert decode(whole) == probe
    for bad in (b"", whole[:-1], whole + b"\0", b"X" + whole[1:]):
        assert decode(bad) is None


def test_three_misses_in_a_row_and_three_answers_in_a_row() -> None:
    known = Answering()
    for step in (list_probe.missed, list_probe.missed, list_probe.answered, list_probe.missed):
        known = step(known)
    assert not known.silent
    known = list_probe.missed(list_probe.missed(known))
    assert known.silent
    known = list_probe.answered(list_probe.answered(known))
    assert known.silent
    assert list_probe.missed(known).answered == 0
    assert not list_probe.answered(known).silent
    assert not list_probe.missed(list_probe.missed(list_probe.excused(Answering(False, 2)))).silent


# --- which lists ----------------------------------------------------------------------------


def way(*segments: IPv6Address) -> SteeringList:
    return SteeringList(segments, "core0", IPv6Address("fe80::2"), 1600, return_segments=(D,))


def flow(name: str, *ways: SteeringList, backup: SteeringList | None = None) -> FlowSteering:
    return FlowSteering(name, FlowSelector(HOME, AWAY), 0, ways, EncapMode.ENCAP_RED, "mn1", backup)


def test_each_list_is_known_once_and_for_as_long_as_anybody_uses_it() -> None:
    book = ListBook()
    entry = replace(steering(AWAY, str(A)), backup=way(B))
    book.full([SETTINGS, entry, flow("f", way(A), way(C), backup=way(B))], 1.0)
    assert book.lists.keys() == {(A,), (B,), (C,)}
    assert book.lists[C,].back == (D,)
    book.changed((replace(entry, backup=way(D)),), (), 2.0)
    assert book.lists.keys() == {(A,), (B,), (C,), (D,)}
    assert book.since == {(A,): 1.0, (B,): 1.0, (C,): 1.0, (D,): 2.0}
    book.changed((WatchedList((B,), EncapMode.ENCAP_RED),), (entry.key,), 3.0)
    assert book.watched == {(B,)}
    assert book.lists.keys() == {(A,), (B,), (C,)}
    book.changed((), (flow("f").key, "watch " + str(B)), 4.0)
    assert (book.lists, book.since, book.watched) == ({}, {}, set())
    book.full([entry], 5.0)
    book.full([], 6.0)
    assert book.lists == {}


def test_routes_of_the_router_itself_are_a_change() -> None:
    book = ListBook()
    book.changed((steering(),), (), 3.0)
    assert book.moved_at == float("-inf")
    route = UnderlayRoute(IPv6Network("fc00:0:a::/48"), (("core0", IPv6Address("fe80::2")),))
    book.changed((route,), (), 4.0)
    assert book.moved_at == 4.0


# --- the loop -------------------------------------------------------------------------------


class Loopback:
    """A socket by which all comes home that does not pass a broken SID."""

    def __init__(self) -> None:
        self.home, self.port = LOOPBACK, 40000
        self.broken: set[IPv6Address] = set()
        self.sent: list[tuple[float, bytes]] = []
        self._came: list[bytes] = []

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        pass

    def send(self, packet: bytes) -> None:
        self.sent.append((asyncio.get_running_loop().time(), packet))
        if not any(sid.packed in packet for sid in self.broken):
            self._came.append(IPv6(packet)[UDP].payload.original)

    def read(self) -> bytes | None:
        return self._came.pop(0) if self._came else None


class Rig:
    """A Liveness, what it says, and its socket."""

    def __init__(self, every_s: float = 1.0) -> None:
        self.said: list[tuple[float, FromAgent]] = []
        self.socket = Loopback()
        self._count = 0
        self.liveness = Liveness(self._open, self._nonce, every_s, GRACE_S, True)

    def _open(self, home: IPv6Address) -> Loopback:
        assert home == LOOPBACK
        return self.socket

    def _nonce(self) -> bytes:
        self._count += 1
        return self._count.to_bytes(8, "big")

    def start(self, *entries: PlanEntry) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader = lambda *_: None  # type: ignore[method-assign, assignment]
        loop.remove_reader = lambda *_: True  # type: ignore[method-assign, assignment]
        self.liveness.start(lambda message: self.said.append((loop.time(), message)))
        self.liveness.full([SETTINGS, *entries])

    def told(self) -> list[tuple[tuple[SegmentList, ...], tuple[SegmentList, ...]]]:
        return [(m.silent, m.answering) for _, m in self.said if isinstance(m, ListReport)]


TWO = replace(steering(AWAY, str(A)), backup=way(B))


@quickly
async def test_a_list_that_breaks_is_told_of_within_four_seconds_and_so_is_its_return() -> None:
    rig = Rig()
    rig.start(TWO)
    await asyncio.sleep(10)
    assert rig.said == []
    rig.socket.broken.add(A)
    broke = asyncio.get_running_loop().time()
    await asyncio.sleep(10)
    assert rig.told() == [(((A,),), ())]
    assert 3.0 <= rig.said[0][0] - broke <= 4.2
    rig.socket.broken.clear()
    await asyncio.sleep(5)
    assert rig.told()[1:] == [((), ((A,),))]
    rig.liveness.close()


@quickly
async def test_what_is_lost_while_a_change_is_under_way_says_nothing() -> None:
    rig = Rig()
    rig.socket.broken.add(A)
    rig.start(TWO)
    await asyncio.sleep(GRACE_S + 2)  # the list is new
    assert rig.said == []
    route = UnderlayRoute(IPv6Network("fc00:0:a::/48"), (("core0", IPv6Address("fe80::2")),))
    for change in (rig.liveness.links_changed, lambda: rig.liveness.changed((route,), ())):
        change()
        await asyncio.sleep(GRACE_S + 2)
        assert rig.said == []
    await asyncio.sleep(2)
    assert rig.told() == [(((A,),), ())]
    rig.liveness.close()


@quickly
async def test_who_listens_anew_is_told_again() -> None:
    rig = Rig()
    rig.socket.broken.add(A)
    rig.start(TWO)
    await asyncio.sleep(10)
    rig.said.clear()
    rig.liveness.start_over()
    await asyncio.sleep(1)
    assert rig.told() == [(((A,),), ())]
    rig.liveness.close()


@quickly
async def test_a_watched_list_is_probed_until_it_answers_also_by_an_agent_born_now() -> None:
    rig = Rig()
    rig.socket.broken.add(C)
    rig.start(TWO, WatchedList((C,), EncapMode.ENCAP_RED))
    await asyncio.sleep(8)
    rig.said.clear()
    rig.socket.broken.clear()
    await asyncio.sleep(5)
    assert rig.told() == [((), ((C,),))]
    rig.liveness.close()


@quickly
async def test_probes_are_spread_out_and_never_more_than_the_most() -> None:
    rig = Rig()
    few = [IPv6Address(f"fc00:0:{n:x}:d06::") for n in range(1, 11)]
    rig.start(flow("f", *(way(sid) for sid in few)))
    await asyncio.sleep(30)
    times = [at for at, _ in rig.socket.sent]
    assert 270 <= len(times) <= 300
    fullest = max(sum(at <= other < at + 0.09 for other in times) for at in times)
    assert fullest <= 2
    rig.socket.sent.clear()
    many = [IPv6Address(f"fc00:0:{n:x}:d06::") for n in range(1, 1001)]
    rig.liveness.changed((flow("f", *(way(sid) for sid in many)),), ())
    await asyncio.sleep(20)
    assert 18 * MOST_PER_S <= len(rig.socket.sent) <= 20 * MOST_PER_S
    assert rig.said == []
    rig.liveness.close()


@quickly
async def test_switched_off_it_probes_nothing_and_holds_nothing_down() -> None:
    rig = Rig(every_s=0)
    rig.start(TWO, WatchedList((C,), EncapMode.ENCAP_RED))
    await asyncio.sleep(10)
    assert rig.socket.sent == []
    assert rig.told() == [((), ((C,),))]
    rig.liveness.close()


@quickly
async def test_a_plain_router_probes_nothing() -> None:
    rig = Rig()
    rig.start()
    assert isinstance(SETTINGS, RouterSettings)
    rig.liveness.full([replace(SETTINGS, loopback=None)])
    await asyncio.sleep(5)
    assert rig.socket.sent == []
    rig.liveness.close()


def test_a_steering_entry_takes_its_way_home_along() -> None:
    book = ListBook()
    entry: SteeringEntry = replace(TWO, return_segments=(C, D))
    book.full([entry], 0.0)
    assert book.lists[A,].back == (C, D)
