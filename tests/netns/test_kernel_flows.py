"""Flow rules, weights and backups in the kernel: what they are, and where packets then go."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from srv6dmm.agent.host import Host
from srv6dmm.agent.kernel_entries import FLOW_PREFERENCE, flow_table, kernel_objects
from srv6dmm.agent.reconcile import Reconciler
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import (
    METRIC,
    NextHop,
    Route,
    Rule,
    Seg6Encap,
    Sysctl,
)
from srv6dmm.model.plan import (
    FlowSelector,
    FlowSteering,
    LocalSid,
    PlanEntry,
    SteeringEntry,
    SteeringList,
    UnderlayRoute,
)
from srv6dmm.model.sid import Behavior, EncapMode
from tests.netns.kernels import Space, router
from tests.netns.test_kernel_wire import (
    FIRST,
    LEFT_MAC,
    RIGHT_MAC,
    SECOND,
    SOURCE,
    TARGET,
    THIRD,
    TUNNEL_SOURCE,
    Wire,
    destination,
    first_of,
    listen,
    routing_header,
    wire,
)

__all__ = ["wire"]
pytestmark = pytest.mark.root

NEAR, FAR = IPv6Network("2001:db8:2::/64"), IPv6Network("2001:db8:1::/64")
TABLE = 0x4000_0007
RULES = [
    Rule(TABLE, 10_000, NEAR, FAR),
    Rule(TABLE, 10_001, IPv6Network("::/0"), FAR, 17),
    Rule(TABLE, 10_002, NEAR, IPv6Network("::/0"), 6, (1, 65534), (443, 443)),
    Rule(TABLE, 18_191, NEAR, FAR, 17, None, (5000, 5010), 46),
    Rule(TABLE, 10_004, NEAR, FAR, 58, None, None, 1),
]


@pytest.fixture
def space() -> Iterator[Space]:
    with router() as made:
        yield made


@pytest.fixture
def kernel(space: Space) -> Iterator[LinuxKernel]:
    opened = LinuxKernel(space.name)
    yield opened
    opened.close()


def shown(space: Space) -> list[dict[str, object]]:
    """Return the rules that carry our protocol, as `ip` shows them."""
    rules = json.loads(space.ip("-j", "-6", "rule", "show"))
    return [rule for rule in rules if rule.get("protocol") in ("201", "srv6dmm")]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_is_what_was_asked_for_and_is_read_back(
    space: Space, kernel: LinuxKernel, rule: Rule
) -> None:
    assert kernel.put([rule]) == []
    assert kernel.read() == {rule.identity: rule}
    assert kernel.read([rule.identity]) == {rule.identity: rule}
    (found,) = shown(space)
    assert found["priority"] == rule.preference
    assert str(found["table"]) == str(rule.table)
    assert kernel.put([rule]) == []
    assert len(shown(space)) == 1, "put twice is there once"
    assert kernel.delete([rule]) == []
    assert kernel.delete([rule]) == []
    assert shown(space) == []


def test_dscp_zero_is_matched_or_refused_never_taken_for_any(kernel: LinuxKernel) -> None:
    rule = replace(RULES[0], dscp=0)
    failures = kernel.put([rule])
    held = kernel.read([rule.identity]).get(rule.identity)
    assert held == rule or (failures and held is None)


def test_a_changed_rule_takes_the_place_of_the_old(space: Space, kernel: LinuxKernel) -> None:
    for rule in RULES:
        assert kernel.put([rule]) == []
        assert kernel.read() == {rule.identity: rule}
        assert len(shown(space)) == 1


def test_rules_of_others_stay(space: Space, kernel: LinuxKernel) -> None:
    space.ip("-6", "rule", "add", "from", "2001:db8::/32", "table", "77", "pref", "500")
    before = space.ip("-6", "rule", "show")
    assert kernel.put(RULES[:1]) == []
    assert kernel.delete(RULES[:1]) == []
    assert space.ip("-6", "rule", "show") == before


def flow(
    *lists: SteeringList, backup: SteeringList | None = None, ports: int = 7777
) -> FlowSteering:
    selector = FlowSelector(NEAR, FAR, 17, None, (ports, ports))
    return FlowSteering("voice", selector, 5, lists, EncapMode.ENCAP_RED, "mn1", backup)


def way(interface: str, *segments: IPv6Address, weight: int = 1) -> SteeringList:
    return SteeringList(segments, interface, IPv6Address("fe80::2"), 1600, weight)


END_X = IPv6Address("fc00:9:0:f01::")
HOST = Host(encap_red=True, sid_interfaces=("left",))


def reconciler(wire: Wire) -> Reconciler:
    """Return a reconciler of the router, whose neighbours and addresses are somebody else's."""
    made = Reconciler(wire.kernel, encap_red=True)
    assert made.apply_full([]) == []
    for words in (
        ("addr", "add", "fe80::1/64", "dev", "a0", "nodad"),
        ("addr", "add", f"{TUNNEL_SOURCE}/128", "dev", "lo"),
        ("neigh", "add", "fe80::2", "lladdr", LEFT_MAC, "dev", "left", "nud", "permanent"),
        ("neigh", "add", "fe80::2", "lladdr", RIGHT_MAC, "dev", "right", "nud", "permanent"),
    ):
        wire.router.ip("-6", *words)
    return made


def test_one_list_under_two_weights_is_one_way(wire: Wire) -> None:
    """Linux takes no next hop twice: two paths of a policy may come to the same list."""
    agent = reconciler(wire)
    same = (way("left", FIRST, weight=2), way("left", FIRST, weight=3))
    assert agent.apply_delta([flow(*same)], []) == []
    assert agent.apply_delta([flow(*same, way("right", SECOND, weight=5))], []) == []
    (route,) = (item for item in wire.kernel.read().values() if isinstance(item, Route))
    assert {hop.interface: hop.weight for hop in route.next_hops} == {"left": 5, "right": 5}


def test_a_flow_takes_its_list_and_others_the_prefixs(wire: Wire) -> None:
    """By our own reconciler, and back again when the rule goes."""
    agent = reconciler(wire)
    prefix = SteeringEntry(
        FAR, (FIRST,), EncapMode.ENCAP_RED, "left", IPv6Address("fe80::2"), 1600, "mn1", 1
    )
    base: list[PlanEntry] = [
        prefix,
        UnderlayRoute(IPv6Network("fc00::/16"), (("left", IPv6Address("fe80::2")),)),
    ]
    assert agent.apply_full(base) == []
    entry = flow(way("left", SECOND, THIRD))
    for put, gone, expected in (
        ([entry], [], SECOND),
        ([flow(way("left", THIRD, FIRST))], [], THIRD),
        ([flow(way("left", SECOND), ports=1)], [], FIRST),
        ([entry], [], SECOND),
        ([], [entry.key], FIRST),
    ):
        assert agent.apply_delta(put, gone) == []
        with listen(wire.sink, "l0") as tap:
            send_plain(wire, b"by flow")
            assert destination(first_of([tap], b"by flow")[1]) == expected
    assert shown(wire.router) == []
    assert "0x" not in wire.router.ip("-6", "route", "show", "table", "all", "proto", "201")


def send_plain(wire: Wire, payload: bytes, source_port: int = 0) -> None:
    with namespace.inside(wire.host.name):
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sender:
        sender.bind((str(SOURCE), source_port))
        sender.sendto(payload, (str(TARGET), 7777))


def test_a_flow_without_a_list_is_dropped(wire: Wire) -> None:
    agent = reconciler(wire)
    route = UnderlayRoute(IPv6Network("fc00::/16"), (("left", IPv6Address("fe80::2")),))
    plain = UnderlayRoute(FAR, (("left", IPv6Address("fe80::2")),))
    assert agent.apply_full([route, plain, flow()]) == []
    with listen(wire.sink, "l0") as tap:
        send_plain(wire, b"dropped")
        assert agent.apply_delta([], [flow().key]) == []
        send_plain(wire, b"through")
        packet = first_of([tap], b"through")[1]
        assert destination(packet) == TARGET
        assert not any(one.endswith(b"dropped") for one in drained(tap))


@pytest.mark.parametrize("lists", [0, 1, 2])
def test_what_a_flow_passes_on_goes_to_the_next_rule_and_then_by_prefix(
    wire: Wire, lists: int
) -> None:
    agent = reconciler(wire)
    fe80 = IPv6Address("fe80::2")
    ways = (way("left", SECOND), way("left", THIRD))[:lists]
    entry = replace(
        flow(*ways),
        selector=FlowSelector(NEAR, IPv6Network("::/0"), 17, None, (7777, 7777)),
        passes_on=(FAR,),
    )
    other = replace(flow(way("left", THIRD)), rule="downlink", order=9)
    base = [
        SteeringEntry(FAR, (FIRST,), EncapMode.ENCAP_RED, "left", fe80, 1600, "mn1", 1),
        UnderlayRoute(IPv6Network("fc00::/16"), (("left", fe80),)),
    ]
    assert agent.apply_full([*base, entry]) == []
    for put, gone, expected in (([other], [], THIRD), ([], [other.key], FIRST)):
        assert agent.apply_delta(put, gone) == []
        with listen(wire.sink, "l0") as tap:
            send_plain(wire, b"passed on")
            assert destination(first_of([tap], b"passed on")[1]) == expected
    assert not agent.repair()
    assert agent.apply_full([]) == []
    assert "throw" not in wire.router.ip("-6", "route", "show", "table", "all")


def drained(tap: socket.socket) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(tap.recv(4096))
        except BlockingIOError:
            return packets


def test_lists_share_the_flows_by_weight(wire: Wire) -> None:
    """Flows differ in their ports; one flow always takes the same list."""
    agent = reconciler(wire)
    route = UnderlayRoute(IPv6Network("fc00::/16"), (("left", IPv6Address("fe80::2")),))
    entry = flow(way("left", FIRST, weight=3), way("right", SECOND))
    assert agent.apply_full([route, entry]) == []
    taken: dict[int, set[IPv6Address]] = {}
    with listen(wire.sink, "l0") as tap:
        for port in range(20_000, 20_200):
            for _ in range(2):
                send_plain(wire, b"shared", port)
                packet = first_of([tap], b"shared")[1]
                taken.setdefault(port, set()).add(destination(packet))
    assert all(len(lists) == 1 for lists in taken.values())
    first = sum(lists == {FIRST} for lists in taken.values())
    assert 110 <= first <= 185, first  # 150 expected; a standard deviation is 6
    assert agent.repair() == type(agent.repair())()


def test_many_lists_of_any_weight_are_read_back_as_written(wire: Wire) -> None:
    agent = reconciler(wire)
    lists = [
        way("left", FIRST, weight=1_000_000),
        way("right", SECOND, weight=1),
        way("left", THIRD),
    ]
    assert agent.apply_full([flow(*lists)]) == []
    assert not agent.repair()


@pytest.mark.parametrize("kind", ["steering", "one list", "two lists", "route", "End.X"])
def test_what_loses_its_carrier_has_its_backup_at_once(wire: Wire, kind: str) -> None:
    """The far end goes down: nobody tells the agent, and packets take the other way."""
    agent = reconciler(wire)
    for name in ("left", "right"):
        sysctl = Sysctl(f"net/ipv6/conf/{name}/ignore_routes_with_linkdown", "1")
        assert wire.kernel.put([sysctl]) == []
    left, right = ("left", IPv6Address("fe80::2")), ("right", IPv6Address("fe80::2"))
    backup = way("right", THIRD)
    entries: list[PlanEntry] = [
        UnderlayRoute(IPv6Network((FIRST, 128)), (left,)),
        UnderlayRoute(IPv6Network((SECOND, 128)), (left,)),
        UnderlayRoute(IPv6Network((THIRD, 128)), (right,)),
    ]
    expected = THIRD
    match kind:
        case "steering":
            entries.append(
                SteeringEntry(
                    FAR, (FIRST,), EncapMode.ENCAP_RED, *left, 1600, "mn1", 1, backup=backup
                )
            )
        case "one list":
            entries.append(flow(way("left", FIRST), backup=backup))
        case "two lists":
            entries.append(flow(way("left", FIRST), way("left", SECOND), backup=backup))
        case "route":
            entries.append(UnderlayRoute(FAR, (left,), repair=backup))
        case "End.X":
            entries.append(LocalSid(END_X, Behavior.END_X, *left, repair="right"))
    assert agent.apply_full(entries) == []
    send = send_by_end_x if kind == "End.X" else send_plain
    with listen(wire.sink, "l0") as l0, listen(wire.sink, "r0") as r0:
        send(wire, b"before")
        tap, _ = first_of([l0, r0], b"before")
        assert tap is l0
        wire.sink.ip("link", "set", "l0", "down")
        wait_for_dead_routes(wire.router)
        for _ in range(20):
            send(wire, b"during")
            tap, packet = first_of([r0], b"during")
            assert destination(packet) == expected
        if kind == "End.X":
            assert packet[6] == 43
            assert routing_header(packet)[0] == 0
        wire.sink.ip("link", "set", "l0", "up")
    wait_for_carrier(wire.router, "left")
    with listen(wire.sink, "l0") as l0:
        send(wire, b"after")
        first_of([l0], b"after")
    assert not agent.repair()


def send_by_end_x(wire: Wire, payload: bytes) -> None:
    """Send a packet whose segments are the router's End.X and then THIRD (RFC 8754)."""
    with namespace.inside(wire.host.name):
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 43)
    header = struct.pack("=BBBBBBH", 17, 4, 4, 1, 1, 0, 0) + THIRD.packed + END_X.packed
    datagram = struct.pack("!HHHH", 7777, 7777, 8 + len(payload), 0) + payload
    with raw:
        raw.sendto(header + datagram, (str(END_X), 0))


def wait_for_dead_routes(space: Space) -> None:
    """The kernel's own word of a lost carrier comes a moment after the carrier is gone."""
    for _ in range(500):
        if any("linkdown" in route["flags"] for route in space.routes("dev", "left")):
            return
    pytest.fail("no route knows that its carrier is gone")


def wait_for_carrier(space: Space, interface: str) -> None:
    for _ in range(500):
        (link,) = json.loads(space.ip("-j", "link", "show", interface))
        if "LOWER_UP" in link["flags"]:
            return
    pytest.fail(f"{interface} has no carrier")


def test_a_backup_is_read_back_without_a_dump(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hand-over at a head-end of many prefixes must not read all of them."""
    backup = SteeringEntry(
        FAR, (FIRST,), EncapMode.ENCAP_RED, "left", IPv6Address("fe80::2"), 1600, "mn1", 1,
        backup=way("right", SECOND),
    )  # fmt: skip
    objects = kernel_objects(backup, HOST)
    assert [item.metric for item in objects if isinstance(item, Route)] == [METRIC, METRIC + 1]
    assert wire.kernel.put(objects) == []
    monkeypatch.setattr(wire.kernel._channel, "dump", pytest.fail)
    held = wire.kernel.read([item.identity for item in objects])
    assert held == {item.identity: item for item in objects}


def test_somebody_else_deletes_a_rule_or_its_table_and_it_comes_back(wire: Wire) -> None:
    agent = reconciler(wire)
    entry = flow(way("left", FIRST))
    assert agent.apply_full([entry]) == []
    table = flow_table(entry)
    wire.router.ip("-6", "rule", "del", "pref", str(FLOW_PREFERENCE + 5))
    wire.router.ip("-6", "route", "flush", "table", str(table))
    repair = agent.repair()
    assert repair.missing == (entry.key,)
    assert not agent.repair()
    wire.router.ip(
        "-6", "rule", "add", "from", "2001:db8:77::/64", "table", "4321", "pref", "10009",
        "protocol", "201",
    )  # fmt: skip
    assert agent.repair().superfluous == ("rule 4321",)
    assert len(shown(wire.router)) == 1


def test_a_new_agent_takes_over_what_it_finds(wire: Wire) -> None:
    first = reconciler(wire)
    entry = flow(way("left", FIRST), way("right", SECOND), backup=way("right", THIRD))
    assert first.apply_full([entry]) == []
    second = Reconciler(wire.kernel, encap_red=True)
    before = wire.router.ip("-6", "rule", "show")
    assert second.apply_full([entry]) == []
    assert wire.router.ip("-6", "rule", "show") == before
    assert second.apply_full([]) == []
    assert shown(wire.router) == []


def test_next_hops_that_differ_are_one_value_in_any_order() -> None:
    hops = (
        NextHop("b", IPv6Address("fe80::2"), 2, Seg6Encap(EncapMode.ENCAP, (SECOND,))),
        NextHop("a", IPv6Address("fe80::2"), 1, Seg6Encap(EncapMode.ENCAP, (FIRST,))),
    )
    assert Route(FAR, next_hops=hops) == Route(FAR, next_hops=hops[::-1])
