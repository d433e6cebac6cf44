"""Counters of the fast path: whose they are, summed over processors, and only those with news."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

import pytest

from srv6dmm.agent.meter import Meter
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import kernel, maps, pins
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.layout import Counter, Path, Steer
from srv6dmm.dataplane.fastpath.objects import FastDrop, FastSid, FastSteering
from srv6dmm.dataplane.fastpath.tables import Limits
from srv6dmm.model.sid import Behavior, EncapMode
from srv6dmm.model.wire import SidTraffic
from tests.bpf.calls import Map

pytestmark = pytest.mark.root

SOURCE = IPv6Address("fc00::1")
PREFIXES = [IPv6Network((0x20010DB8_000B0000 + number << 64, 64)) for number in range(10)]


@dataclass
class Router:
    """A fast path, and its counters as a program would write them."""

    fast: FastPath
    prefixes: Map
    counters: Map
    paths: Map

    def number(self, prefix: IPv6Network) -> int:
        [value] = self.prefixes.get(prefix.network_address.packed[:8])
        return Steer.unpack(value).counter

    def said(self, number: int) -> set[Counter]:
        """What the processors say of a counter."""
        return {Counter.unpack(value) for value in self.counters.get(number.to_bytes(4, "little"))}

    def count(self, number: int, packets: int, octets: int, last: int) -> None:
        """Let every processor have counted so many."""
        self.counters.put(number.to_bytes(4, "little"), Counter(packets, octets, last).pack())

    def news(self, calls: int = 1) -> dict[IPv6Network | None, Counter]:
        return {prefix: counter for _ in range(calls) for _, prefix, counter in self.fast.counted()}


@pytest.fixture
def router() -> Iterator[Router]:
    name = f"s6-count-{os.getpid()}"
    namespace.create(name)
    try:
        pins.mount()
        place = pins.directory(name)
        maps.create(place, Limits(counters=16))
        fast = FastPath(name, place)
        tables = Map(place / "prefixes"), Map(place / "counters"), Map(place / "paths")
        yield Router(fast, *tables)
        fast.close()
        for table in tables:
            table.close()
    finally:
        pins.remove(name)
        namespace.remove(name)


def test_counters_have_owners_and_news_is_told_once(router: Router) -> None:
    a, b = PREFIXES[:2]
    assert router.fast.put([FastDrop(a), FastDrop(b)]) == []
    assert router.news() == {}
    router.count(router.number(a), 3, 400, 9)
    summed = Counter(3 * router.counters.copies, 400 * router.counters.copies, 9)
    assert router.news() == {a: summed}
    assert router.news() == {}
    router.count(router.number(b), 1, 100, 10)
    assert set(router.news()) == {b}


def test_a_successor_reads_what_was_counted_before(router: Router) -> None:
    a = PREFIXES[0]
    router.fast.put([FastDrop(a)])
    router.count(router.number(a), 3, 400, 9)
    name = f"s6-count-{os.getpid()}"
    successor = FastPath(name, pins.directory(name))
    try:
        [(number, prefix, counter)] = successor.counted()
    finally:
        successor.close()
    assert (number, prefix) == (router.number(a), a)
    assert counter.packets == 3 * router.counters.copies


def test_a_deleted_entry_s_counter_is_nobody_s(router: Router) -> None:
    a = PREFIXES[0]
    router.fast.put([FastDrop(a)])
    router.count(router.number(a), 3, 400, 9)
    router.news()
    router.fast.delete([FastDrop(a)])
    assert router.news() == {None: Counter(0, 0, 0)}


def steering(prefix: IPv6Network, segment: str) -> FastSteering:
    """An entry with a path of its own."""
    segments = (IPv6Address(segment),)
    hop = IPv6Address("fe80::1")
    return FastSteering(prefix, EncapMode.ENCAP, segments, SOURCE, "lo", hop, 1500)


def test_a_path_s_counter_begins_anew_with_its_next_owner(router: Router) -> None:
    """Whoever takes the number, by a process that has seen none of it."""
    a, b = PREFIXES[:2]
    router.fast.put([steering(a, "fc00:1::1")])
    counter = Path.unpack(router.paths.get((1).to_bytes(4, "little"))[0]).counter
    assert counter
    router.count(counter, 1000, 99_000, 9)
    router.fast.put([steering(a, "fc00:2::1")])
    router.fast.delete([steering(a, "fc00:2::1")])
    assert router.said(counter) == {Counter(0, 0, 0)}
    name = f"s6-count-{os.getpid()}"
    successor = FastPath(name, pins.directory(name))
    try:
        assert successor.put([FastDrop(b)]) == []
        assert router.said(router.number(b)) == {Counter(0, 0, 0)}
    finally:
        successor.close()


def test_what_a_killed_process_left_in_nobody_s_counter_goes(router: Router) -> None:
    a = PREFIXES[0]
    router.fast.put([FastDrop(a), FastSid(IPv6Address("fc00:0:1::e00"), Behavior.END)])
    for number in (1, 2, 3, 15):
        router.count(number, 7, 700, 9)
    name = f"s6-count-{os.getpid()}"
    successor = FastPath(name, pins.directory(name))
    try:
        successor.tidy()
    finally:
        successor.close()
    zero, kept = {Counter(0, 0, 0)}, {Counter(7, 700, 9)}
    assert [router.said(number) for number in (1, 2, 3, 15)] == [kept, kept, zero, zero]


def test_the_counter_of_a_sid_is_no_prefix_s(router: Router) -> None:
    router.fast.put([FastSid(IPv6Address("fc00:0:1::e00"), Behavior.END)])
    router.count(1, 3, 400, 9)
    assert set(router.news()) == {None}
    told = Meter(router.fast).read()
    assert told is not None
    copies = router.counters.copies
    sid = SidTraffic(IPv6Address("fc00:0:1::e00"), Behavior.END, 3 * copies, 400 * copies)
    assert told.sids == (sid,)


def test_slices_together_are_everything(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers 1 to 10 in slices of 4, in an array of 16: the fourth is not looked at."""
    monkeypatch.setattr(kernel, "SLICE", 4)
    router.fast.put([FastDrop(prefix) for prefix in PREFIXES])
    for prefix in PREFIXES:
        number = router.number(prefix)
        router.count(number, number, 1, 1)
    copies = router.counters.copies
    found = router.news(3)
    assert found == {p: Counter(router.number(p) * copies, copies, 1) for p in PREFIXES}
    assert router.news(3) == {}
    router.count(router.number(PREFIXES[5]), 99, 1, 2)
    assert set(router.news(3)) == {PREFIXES[5]}


def test_more_entries_than_counters(router: Router) -> None:
    """Those without a counter are entries all the same; they count under no prefix."""
    many = [IPv6Network((0x20010DB8_000C0000 + number << 64, 64)) for number in range(40)]
    assert router.fast.put([FastDrop(prefix) for prefix in many]) == []
    for number in range(1, 16):
        router.count(number, 1, 1, 1)
    assert len(router.news()) == 15
    assert sum(router.number(prefix) == 0 for prefix in many) == 25
