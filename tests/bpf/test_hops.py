"""Next hops whose link-layer addresses are known: the same packets, addressed on the spot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from tests.bpf import scene
from tests.bpf.checked import Router, to_kernel, unlabelled
from tests.bpf.running import DEVICES, OK, REDIRECT
from tests.bpf.scene import (
    AWAY,
    CORRESPONDENT,
    MOVED,
    MOVED_FAR,
    NODE,
    SEGMENTS,
    SID_DT6,
    SID_END,
    SID_MAP,
    SID_X,
    at_access,
    at_core,
    datagram,
    ether,
    to_sid,
)
from tests.bpf.tables import DIRECT, Hop, mac

pytestmark = pytest.mark.root
NUMBER = 3
PEER_MAC = "02:00:00:00:ee:01"
ADDRESSED = mac(PEER_MAC) + mac(DEVICES["core0"])
INNER = datagram(CORRESPONDENT, NODE)
STEERED = at_access(datagram(NODE, AWAY))
LATE = at_core(to_sid(SID_DT6, datagram(CORRESPONDENT, MOVED)))
CROSSED = at_core(to_sid(SID_X, INNER, after=SEGMENTS[:2]))
CASES = {"steer": ("steer", "access0", STEERED), "late": ("sid", "core0", LATE)}
CASES["end.x"] = ("sid", "core0", CROSSED)


def known(router: Router, **members: object) -> None:
    """Make the next hop known to every path and to End.X."""
    tables = router.tables
    hop = Hop(router.devices["core0"], PEER_MAC, DEVICES["core0"])
    tables.hops[NUMBER] = replace(hop, **members)  # type: ignore[arg-type]
    for number, path in tables.paths.items():
        tables.paths[number] = replace(path, hop=NUMBER)
    tables.sids[SID_X] = replace(tables.sids[SID_X], hop=NUMBER)
    router.fastpath.fill(tables)


def towards(router: Router, segment: str, **members: object) -> None:
    """Make the next hop known for what an End sends on to a segment's locator, and no other."""
    hop = Hop(router.devices["core0"], PEER_MAC, DEVICES["core0"])
    router.tables.hops[NUMBER] = replace(hop, **members)  # type: ignore[arg-type]
    router.tables.routes = {f"{segment.removesuffix(':e001::')}::/48": NUMBER}
    router.fastpath.fill(router.tables)


@pytest.mark.parametrize("case", CASES)
def test_only_the_addresses_differ(router: Router, case: str) -> None:
    program, device, frame = CASES[case]
    without = router.send(program, device, frame)
    assert without.verdict == REDIRECT
    known(router)
    outcome = router.fastpath.send(program, device, frame, (0, 0))
    assert (outcome.verdict, outcome.reasons) == (without.verdict, without.reasons)
    assert outcome.counted == without.counted
    assert outcome.frame == ADDRESSED + without.frame[12:]
    known(router, resolved=False)
    again = router.fastpath.send(program, device, frame, (0, 0))
    assert again == without


@pytest.mark.parametrize("sid", [SID_END, SID_MAP])
def test_a_locator_with_a_next_hop_saves_the_kernels_route(router: Router, sid: str) -> None:
    """And then the hop limit is decremented here (RFC 8986 section 4.1)."""
    router.tables.sids[SID_MAP] = replace(router.tables.sids[SID_MAP], mapped=SEGMENTS[0])
    towards(router, SEGMENTS[0])
    packet = to_sid(sid, INNER, after=SEGMENTS[:2], hlim=9)
    wanted = packet.copy()
    wanted.hlim = 8
    wanted.dst = SEGMENTS[0]
    if sid == SID_END:
        wanted[IPv6ExtHdrSegmentRouting].segleft -= 1
    outcome = router.fastpath.send("sid", "core0", at_core(packet), (0, 0))
    assert (outcome.verdict, outcome.reasons) == (REDIRECT, ("ENDPOINT",))
    assert outcome.frame == ADDRESSED + bytes(ether("core0", scene.CORE_MAC) / wanted)[12:]


def test_other_locators_are_the_kernels(router: Router) -> None:
    towards(router, SEGMENTS[0])
    frame = at_core(to_sid(SID_END, INNER, after=SEGMENTS[1:3], hlim=9))
    outcome = router.fastpath.send("sid", "core0", frame, (0, 0))
    assert (outcome.verdict, outcome.reasons) == (OK, ("ENDPOINT",))
    assert outcome.frame[21] == 9


FAR_LATE = to_sid(SID_DT6, datagram(CORRESPONDENT, MOVED_FAR), before=SEGMENTS[:1], hlim=9)


def late_by(router: Router, locator: str, hop: int) -> None:
    """Have the path of MOVED_FAR begin with next hop NUMBER, and a locator's way with `hop`."""
    tables = router.tables
    device = router.devices["core0"]
    tables.hops = {n: Hop(device, PEER_MAC, DEVICES["core0"]) for n in (NUMBER, NUMBER + 1)}
    tables.paths[3] = replace(tables.paths[3], hop=NUMBER)
    tables.routes = {locator: hop}
    router.fill()


def test_late_packets_of_a_longer_list_are_redirected_where_the_way_begins_alike(
    router: Router,
) -> None:
    """They go to the last segment alone: nothing is taken off and put on again."""
    last = SEGMENTS[4]
    late_by(router, f"{last.removesuffix(':e0f9::')}::/48", NUMBER)
    outcome = router.fastpath.send("sid", "core0", at_core(FAR_LATE), (0, 0))
    assert (outcome.verdict, outcome.reasons) == (REDIRECT, ("REDIRECTED",))
    wanted = FAR_LATE.copy()
    wanted.dst, wanted.hlim = last, 8
    assert outcome.frame == ADDRESSED + bytes(ether("core0", scene.CORE_MAC) / wanted)[12:]
    size = len(FAR_LATE)
    assert outcome.counted == {34: (1, size), 12: (1, size)}


@pytest.mark.parametrize(
    ("locator", "hop"), [("fd00:5a:25::/48", NUMBER + 1), ("fd00:5a:26::/48", NUMBER)]
)
def test_late_packets_are_the_kernels_where_the_way_begins_otherwise(
    router: Router, locator: str, hop: int
) -> None:
    late_by(router, locator, hop)
    frame = at_core(FAR_LATE)
    to_kernel(router.sid(frame), "NOT_IN_PLACE", frame)


def test_a_next_hop_that_is_not_known_is_the_kernels(router: Router) -> None:
    towards(router, SEGMENTS[0], resolved=False)
    frame = at_core(to_sid(SID_END, INNER, after=SEGMENTS[:2], hlim=9))
    outcome = router.fastpath.send("sid", "core0", frame, (0, 0))
    assert (outcome.verdict, outcome.reasons) == (OK, ("ENDPOINT",))
    assert outcome.frame[21] == 9


@pytest.mark.parametrize("above", [0, 1])
@pytest.mark.parametrize("kind", ["end", "end.x", "late"])
def test_too_big_for_the_way_on_is_the_kernels_to_say(
    router: Router, kind: str, above: int
) -> None:
    packet = {
        "end": to_sid(SID_END, INNER, after=SEGMENTS[:2]),
        "end.x": to_sid(SID_X, INNER, after=SEGMENTS[:2]),
        "late": to_sid(SID_DT6, datagram(CORRESPONDENT, MOVED)),
    }[kind]
    size = len(bytes(packet)) - above
    if kind == "end":
        towards(router, SEGMENTS[0], mtu=size)
    else:
        known(router, mtu=size)
    for number, path in router.tables.paths.items():
        router.tables.paths[number] = replace(path, mtu=size)
    router.fastpath.fill(router.tables)
    frame = at_core(packet)
    outcome = router.fastpath.send("sid", "core0", frame, (0, 0))
    if above:
        assert (outcome.verdict, outcome.reasons) == (OK, ("OVERSIZE",))
        assert outcome.frame == frame
    else:
        assert outcome.verdict == REDIRECT


def test_a_delivery_may_bring_its_addresses(router: Router) -> None:
    frame = at_core(to_sid(SID_DT6, datagram(CORRESPONDENT, NODE)))
    without = router.sid(frame)
    tables = router.tables
    for prefix, delivery in tables.deliveries.items():
        tables.deliveries[prefix] = replace(delivery, flags=DIRECT)
    router.fastpath.fill(tables)
    outcome = router.fastpath.send("sid", "core0", frame, (0, 0))
    delivery = tables.deliveries[NODE]
    assert (outcome.verdict, outcome.reasons) == (REDIRECT, ("DELIVERED",))
    assert outcome.frame == mac(delivery.mac) + mac(delivery.source_mac) + without.frame[12:]


def test_flow_labels_differ_where_flows_do(router: Router) -> None:
    """Two thousand flows that differ by one port or one address have nearly as many labels."""
    known(router)
    labels = set()
    for number in range(1000):
        for packet in (
            IPv6(src=NODE, dst=AWAY) / UDP(sport=1024 + number, dport=9),
            IPv6(src=NODE, dst=AWAY.replace("::8", f"::{number + 16:x}")) / UDP(sport=9, dport=9),
        ):
            frame = router.fastpath.send("steer", "access0", at_access(packet), (0, 0)).frame
            labels.add(IPv6(frame[14:]).fl)
            assert unlabelled(frame)[:12] == ADDRESSED
    assert 0 not in labels
    assert len(labels) > 1990


@pytest.mark.parametrize("case", CASES)
def test_without_a_carrier_packets_are_left_whole_to_routes_that_know_another_way(
    router: Router, case: str
) -> None:
    program, device, frame = CASES[case]
    known(router, down=True)
    outcome = router.fastpath.send(program, device, frame, (0, 0))
    assert (outcome.verdict, outcome.reasons) == (OK, ("HOP_DOWN",))
    assert outcome.frame == bytes(frame)
    known(router)
    assert router.fastpath.send(program, device, frame, (0, 0)).verdict == REDIRECT


def test_an_end_towards_a_dead_next_hop_is_left_to_the_kernel(router: Router) -> None:
    frame = at_core(to_sid(SID_END, INNER, after=SEGMENTS[:2]))
    towards(router, SEGMENTS[0], down=True)
    outcome = router.fastpath.send("sid", "core0", frame, (0, 0))
    assert (outcome.verdict, outcome.reasons) == (OK, ("HOP_DOWN",))
    assert outcome.frame == bytes(frame)
