"""Flow rules as map elements: what is written in which order, read back, adopted and left behind.

The maps are dictionaries here; tests/netns/test_fastpath_flows.py has the kernel's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from typing import cast

import pytest

from srv6dmm.dataplane.fastpath import rulesets
from srv6dmm.dataplane.fastpath.flow_entries import FlowEntries
from srv6dmm.dataplane.fastpath.hops import Hops
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.objects import FastFlow, FastList
from srv6dmm.dataplane.fastpath.paths import Numbers
from srv6dmm.dataplane.fastpath.rule_layout import (
    MAX_LISTS,
    MAX_RULES,
    NO_ORDER,
    FlowKey,
    Rule,
    RuledKey,
    Ruleset,
)
from srv6dmm.dataplane.fastpath.ways import Ways
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable, LinkState
from srv6dmm.model.plan import FlowSelector
from srv6dmm.model.sid import EncapMode

SOURCE, HOP = IPv6Address("fc00:0:1::1"), IPv6Address("fe80::2")
SEGMENTS = tuple(IPv6Address(f"fc00:0:{number}::d06") for number in range(2, 8))
HOME, OTHER = IPv6Network("2001:db8:a1:1::/64"), IPv6Network("2001:db8:a1:2::/64")
NODE, PEER = IPv6Network("2001:db8:a1:1::5/128"), IPv6Network("2001:db8:c::9/128")
ANY = IPv6Network("::/0")
FIRST = RuledKey(HOME.network_address.packed[:8], False)


class MemoryMaps:
    """Maps in memory, and what was done to them."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {
            name: {} for name in ("paths", "hops", "ruled", "flows")
        }
        self.done: list[tuple[str, str, int]] = []
        self.refused: str | None = None
        self.zeroed: set[int] = set()

    def size(self, name: str) -> int:
        return {"paths": 64, "counters": 256}[name]

    def zero_counters(self, numbers: Iterable[int]) -> None:
        self.zeroed.update(numbers)

    def put(self, name: str, elements: Mapping[bytes, bytes]) -> None:
        if name == self.refused:
            raise OSError(7, f"map {name}: too many elements")
        self.done.append(("put", name, len(elements)))
        self.tables[name].update(elements)

    def delete(self, name: str, keys: Sequence[bytes]) -> None:
        if keys:
            self.done.append(("delete", name, len(keys)))
        for key in keys:
            self.tables[name].pop(key, None)

    def get(self, name: str, key: bytes) -> bytes | None:
        return self.tables[name].get(key)

    def read_all(self, name: str) -> dict[bytes, bytes]:
        return dict(self.tables[name])


class Process:
    """An agent's view of the maps."""

    def __init__(self, memory: MemoryMaps) -> None:
        self.memory = memory
        maps = cast(Maps, memory)
        links = [LinkState(3, "core0", True, None), LinkState(4, "core1", True, None)]
        self.counters = Numbers(256)
        hops = Hops(maps)
        self.ways = Ways(maps, InterfaceTable(lambda: links), self.counters, hops)
        self.flows = FlowEntries(maps, self.counters, self.ways)
        self.adopt()

    def adopt(self) -> None:
        used: Counter[int] = Counter()
        taken = self.flows.adopt(used)
        self.counters.adopt((taken | self.ways.adopt(used)) - {0})

    def held(self) -> dict[object, FastFlow]:
        return {item.identity: item for item in self.flows.read_all() if item is not None}

    def put(self, *items: FastFlow) -> None:
        assert self.flows.put(items) == []

    def delete(self, *items: FastFlow) -> list[int]:
        failures, free = self.flows.delete(items)
        assert failures == []
        for number in free:
            self.counters.give_back(number)
        return free

    def read(self, item: FastFlow) -> FastFlow | None:
        return self.flows.read(item.prefix, item.uplink, item.number)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """Where no set is too small for 5-tuples of its own."""
    monkeypatch.setattr(rulesets, "FEW_RULES", 0)
    return Process(MemoryMaps())


def way(*numbers: int, interface: str = "core0", weight: int = 1) -> FastList:
    segments = tuple(SEGMENTS[number] for number in numbers)
    return FastList(EncapMode.ENCAP_RED, segments, SOURCE, interface, HOP, 1600, weight)


def flow(number: int, *lists: FastList, order: int | None = None, **fields: object) -> FastFlow:
    selector = FlowSelector(ANY, HOME)
    selector = replace(selector, **fields)  # type: ignore[arg-type]
    at = number if order is None else order
    return FastFlow(0x4000_0000 + number, selector, False, at, lists)


def exact(number: int, *lists: FastList, port: int = 7000, **fields: object) -> FastFlow:
    ports = (port, port)
    return flow(
        number,
        *lists,
        source=PEER,
        destination=NODE,
        protocol=17,
        source_ports=ports,
        destination_ports=ports,
        **fields,
    )


KINDS = [
    flow(1, way(0)),
    flow(2, way(0, 1), protocol=17),
    flow(3, way(0, 1, 2, 3, 4, 5), protocol=17, destination_ports=(0, 65535)),
    flow(4, way(1), protocol=6, source_ports=(0, 0), destination_ports=(65535, 65535)),
    flow(5, way(1), dscp=0),
    flow(6, way(1), dscp=63, protocol=0),
    flow(7, way(0, weight=3), way(1, interface="core1", weight=2)),
    flow(8, *(way(n, weight=1 << 20 + n) for n in range(MAX_LISTS))),
    flow(9),
    replace(flow(10), to_kernel=True),
    flow(11, way(2), source=IPv6Network("2001:db8::/33"), destination=NODE),
    exact(12, way(3)),
    exact(13, way(4), port=0),
    exact(14, way(3), port=7001, dscp=0),
    exact(15, way(0, weight=5), port=7002),
    exact(16, port=7003),
    replace(exact(17, port=7004), to_kernel=True),
    flow(18, way(0), source=PEER, destination=NODE, protocol=58),
    replace(flow(19, way(5), source=HOME, destination=ANY), uplink=True),
    replace(exact(20, way(5)), uplink=True, selector=FlowSelector(NODE, PEER, 6, (1, 1), (2, 2))),
    flow(21, way(0), destination=OTHER),
]
WANTED = {item.identity: item for item in KINDS}


def test_everything_is_read_back_as_it_was_put_and_by_a_successor(process: Process) -> None:
    process.put(*KINDS)
    assert process.held() == WANTED
    assert {item.identity: process.read(item) for item in KINDS} == WANTED
    successor = Process(process.memory)
    assert successor.held() == WANTED
    assert {item.identity: successor.read(item) for item in KINDS} == WANTED
    successor.put(*KINDS)
    assert successor.held() == WANTED


def ruleset(process: Process, key: RuledKey = FIRST) -> Ruleset:
    return Ruleset.unpack(process.memory.tables["ruled"][key.pack()])


def test_one_put_of_many_rules_is_one_element(process: Process) -> None:
    many = [flow(n, way(n % 3), protocol=n) for n in range(9)]
    process.put(*many)
    process.put(*(replace(item, lists=(way(4),)) for item in many))
    written = [done for done in process.memory.done if done[1] == "ruled"]
    assert written == [("put", "ruled", 1)] * 2
    assert [rule.order for rule in ruleset(process).rules] == list(range(9))


def test_what_is_named_is_written_first_and_goes_last(process: Process) -> None:
    process.put(exact(1, way(0)), flow(2, way(1)))
    assert [name for _, name, _ in process.memory.done] == ["hops", "paths", "flows", "ruled"]
    process.memory.done.clear()
    many = [flow(n, way(2)) for n in range(30, 60)]
    process.put(flow(1, way(0), order=1), *many)
    assert process.memory.done == [
        ("put", "paths", 1),
        ("put", "ruled", 1),  # what there is no room for
        ("put", "ruled", 1),
        ("delete", "flows", 1),
    ]
    process.memory.done.clear()
    process.delete(*many)
    assert process.memory.done == [("put", "ruled", 1), ("delete", "ruled", 1)]
    process.memory.done.clear()
    process.delete(flow(1), flow(2))
    assert process.memory.done == [("delete", "ruled", 1)]


def test_5_tuples_are_found_at_once_and_the_first_of_two_equal_ones(process: Process) -> None:
    twice = exact(2, way(1), order=7), exact(1, way(0), order=9)
    process.put(*twice, exact(3, way(2), port=9))
    flows = {FlowKey.unpack(key) for key in process.memory.tables["flows"]}
    ends = PEER.network_address, NODE.network_address
    assert flows == {FlowKey(*ends, port, port, 17) for port in (7000, 9)}
    first = ruleset(process)
    assert first.exact
    assert [rule.order for rule in first.rules] == [9]
    process.delete(twice[0])
    assert ruleset(process).rules == ()
    assert process.held().keys() == {twice[1].identity, exact(3, port=9).identity}


def test_few_rules_are_a_list_whatever_they_are() -> None:
    """And become 5-tuples, and a list again, without a moment in which one is not there."""
    process = Process(MemoryMaps())
    few = [exact(n, way(0), port=n) for n in range(rulesets.FEW_RULES)]
    process.put(*few)
    assert process.memory.tables["flows"] == {}
    assert len(ruleset(process).rules) == len(few)
    more = exact(99, way(1), port=99)
    process.memory.done.clear()
    process.put(more)
    assert [done for done in process.memory.done if done[1] != "paths"] == [
        ("put", "flows", len(few) + 1),
        ("put", "ruled", 1),
    ]
    assert ruleset(process).rules == ()
    wanted = {item.identity: item for item in (*few, more)}
    assert process.held() == Process(process.memory).held() == wanted
    process.memory.done.clear()
    process.delete(more)
    assert process.memory.done == [("put", "ruled", 1), ("delete", "flows", len(few) + 1)]
    assert process.held() == {item.identity: item for item in few}


def test_rules_there_is_no_room_for_are_the_kernels(process: Process) -> None:
    many = [flow(n, way(0), protocol=n) for n in range(40)]
    process.put(*reversed(many), exact(99, way(0), order=50))
    first = ruleset(process)
    assert [rule.order for rule in first.rules] == list(range(MAX_RULES))
    assert (first.known, first.exact) == (MAX_RULES, True)
    assert len(process.memory.tables["ruled"]) == 3
    wanted = {item.identity for item in (*many, exact(99))}
    assert process.held().keys() == Process(process.memory).held().keys() == wanted
    assert process.read(many[39]) == many[39]
    process.delete(*many[:30])
    assert ruleset(process).known == NO_ORDER
    assert len(process.memory.tables["ruled"]) == 1
    assert process.read(many[39]) == many[39]
    assert process.read(many[0]) is None


def test_a_rule_keeps_its_counter(process: Process) -> None:
    process.put(flow(1, way(0)), exact(2, way(0)))
    [before] = ruleset(process).rules
    process.put(flow(1, way(1), protocol=6))
    [after] = ruleset(process).rules
    assert after.counter == before.counter
    assert process.flows.owner(after.counter) == 0x4000_0001
    owners = {n: process.flows.owner(n) for n in range(10) if process.flows.owner(n)}
    assert sorted(owners.values()) == [0x4000_0001, 0x4000_0002]
    successor = Process(process.memory)
    assert {n: successor.flows.owner(n) for n in owners} == owners
    assert process.delete(flow(1)) == [after.counter]
    assert process.flows.owner(after.counter) is None


def test_nothing_is_left(process: Process) -> None:
    process.put(*KINDS)
    assert len(process.ways.known) > 5
    free = process.delete(*KINDS)
    assert sorted(free) == sorted(set(free))
    assert len(free) == len(KINDS)
    assert process.memory.tables["ruled"] == process.memory.tables["flows"] == {}
    assert process.ways.known == {}
    assert not process.flows.sets
    process.memory.done.clear()
    assert process.flows.delete(KINDS) == ([], [])
    assert process.memory.done == []


@pytest.mark.parametrize(
    ("broken", "errno"),
    [
        (flow(5, way(0, interface="core9")), 19),
        (exact(5, way(0, interface="core9")), 19),
        (flow(5, *(way(0) for _ in range(5))), 22),
        (flow(5, way(0, weight=1 << 31), way(1, weight=1 << 31)), 22),
        (flow(5, replace(way(0), segments=())), 22),
        (flow(5, replace(way(0), mode=EncapMode.INLINE)), 22),
    ],
    ids=["interface", "exact", "lists", "weights", "segments", "inline"],
)
def test_a_rule_that_cannot_be_had_is_named_and_its_packets_are_the_kernels(
    process: Process, broken: FastFlow, errno: int
) -> None:
    """Not those of the next rule or of the prefix: that would be another path."""
    process.put(flow(5, way(3)), flow(6, way(4)))
    (failure,) = process.flows.put([broken, flow(7, way(5))])
    assert (failure.identity, failure.errno) == (broken.identity, errno)
    assert process.held() == {
        item.identity: item
        for item in (
            replace(broken, lists=(), to_kernel=True),
            flow(6, way(4)),
            flow(7, way(5)),
        )
    }
    assert len(process.ways.known) == 2
    process.put(flow(5, way(3)))
    assert process.read(flow(5, way(3))) == flow(5, way(3))


def test_a_rule_of_no_mobile_prefix_is_refused(process: Process) -> None:
    wide = flow(1, way(0), destination=IPv6Network("2001:db8::/32"))
    (failure,) = process.flows.put([wide])
    assert failure.errno == 22
    assert "2001:db8::/32" in failure.reason
    assert process.held() == {}


@pytest.mark.parametrize("table", ["ruled", "flows"])
def test_a_full_map_is_named_and_nothing_of_it_stays(process: Process, table: str) -> None:
    process.put(flow(1, way(0), destination=OTHER))
    process.memory.refused = table
    items = [exact(2, way(1)), flow(3, way(2))]
    for _ in range(300):  # more than there are counters
        failures = process.flows.put(items)
        assert {failure.identity for failure in failures} == {item.identity for item in items}
        assert all(table in failure.reason for failure in failures)
    assert process.held().keys() == {flow(1, destination=OTHER).identity}
    assert process.memory.tables["flows"] == {}
    assert len(process.ways.known) == 1
    process.memory.refused = None
    process.put(*items)
    assert Process(process.memory).held() == process.held()
    assert all(rule.counter for rule in ruleset(process).rules)


def test_a_set_that_cannot_be_replaced_stays_and_so_do_paths_it_may_name(
    process: Process,
) -> None:
    process.put(exact(1, way(0)), flow(2, way(1)))
    before = process.held()
    process.memory.refused = "ruled"
    assert len(process.flows.put([exact(1, way(3)), flow(2, way(4))])) == 2
    process.memory.refused = None
    named = {number for value in process.memory.tables["flows"].values() for number in [value[4]]}
    assert named <= process.ways.known.keys()
    assert process.read(flow(2)) == before[flow(2).identity]
    process.put(exact(1, way(3)), flow(2, way(4)))
    process.adopt()
    assert process.held() == {i.identity: i for i in (exact(1, way(3)), flow(2, way(4)))}
    assert len(process.ways.known) == 2


def test_what_a_kill_left_is_not_taken_for_a_rule_and_goes(process: Process) -> None:
    """Between its writes: 5-tuples and parts that no set leads to."""
    process.put(*(flow(n, way(0)) for n in range(20)), exact(50, way(1)))
    orphaned = dict(process.memory.tables["ruled"])
    del process.memory.tables["ruled"][FIRST.pack()]
    successor = Process(process.memory)
    assert successor.held() == {}
    assert successor.read(exact(50)) is None
    successor.flows.tidy()
    assert process.memory.tables["ruled"] == process.memory.tables["flows"] == {}
    assert len(orphaned) == 2


def test_an_element_that_somebody_deleted_comes_back(process: Process) -> None:
    items = [exact(1, way(0)), flow(2, way(1))]
    process.put(*items)
    process.memory.tables["flows"].clear()
    assert process.read(items[0]) is None
    assert process.read(items[1]) == items[1]
    process.put(items[0])
    assert process.read(items[0]) == items[0]
    process.memory.tables["ruled"].clear()
    process.adopt()
    assert process.held() == {}
    process.put(*items)
    assert Process(process.memory).held() == {item.identity: item for item in items}


@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_of_changes(process: Process, seed: int) -> None:
    """What is held is what was put; nothing else is in the maps, and no path is lost."""
    chance = random.Random(seed)
    wanted: dict[object, FastFlow] = {}
    for _ in range(60):
        if chance.random() < 0.65 or not wanted:
            items = [_any_flow(chance) for _ in range(chance.randint(1, 12))]
            items = list({item.identity: item for item in items}.values())
            process.put(*items)
            wanted.update((item.identity, item) for item in items)
        else:
            gone = chance.sample(sorted(wanted, key=str), chance.randint(1, len(wanted)))
            process.delete(*(wanted.pop(identity) for identity in gone))
        if chance.random() < 0.2:
            process = Process(process.memory)
        assert process.held() == wanted
        assert all(process.read(item) == item for item in wanted.values())
        rules = [rule for rules in process.flows._sets.values() for rule in rules.values()]
        assert {path for rule in rules for path in rule.paths} == process.ways.known.keys()
        assert len(_counters(rules)) == len(rules)
    process.delete(*wanted.values())
    assert process.memory.tables["ruled"] == process.memory.tables["flows"] == {}


def _counters(rules: Iterable[Rule]) -> set[int]:
    return {rule.counter for rule in rules} - {0}


def _any_flow(chance: random.Random) -> FastFlow:
    number = chance.randrange(60)
    lists = [way(chance.randrange(6), weight=chance.randint(1, 9)) for _ in range(2)]
    lists = lists[: chance.randint(0, 2)]
    if chance.random() < 0.3:
        return exact(number, *lists, port=chance.randrange(4), order=chance.randrange(40))
    destination = HOME if chance.random() < 0.8 else OTHER
    return flow(
        number,
        *lists,
        order=chance.randrange(40),
        destination=destination,
        dscp=chance.choice([None, 0, 46]),
    )
