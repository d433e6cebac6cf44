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
from srv6dmm.dataplane.fastpath.layout import Counter, Steer
from srv6dmm.dataplane.fastpath.objects import FastDrop, FastSid
from srv6dmm.dataplane.fastpath.tables import Limits
from srv6dmm.model.sid import Behavior
from tests.bpf.calls import Map

pytestmark = pytest.mark.root

PREFIXES = [IPv6Network((0x20010DB8_000B0000 + number << 64, 64)) for number in range(10)]


@dataclass
class Router:
    """A fast path, and its counters as a program would write them."""

    fast: FastPath
    prefixes: Map
    counters: Map

    def number(self, prefix: IPv6Network) -> int:
        [value] = self.prefixes.get(prefix.network_address.packed[:8])
        return Steer.unpack(value).counter

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
        tables = Map(place / "prefixes"), Map(place / "counters")
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


def test_the_counter_of_a_sid_is_no_prefix_s(router: Router) -> None:
    router.fast.put([FastSid(IPv6Address("fc00:0:1::e00"), Behavior.END)])
    router.count(1, 3, 400, 9)
    assert set(router.news()) == {None}
    assert Meter(router.fast).read() is not None


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
