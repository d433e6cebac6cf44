"""Which entry a packet follows: its flow, then the /64, then the longest foreign prefix."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
)
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from tests.bpf import scene
from tests.bpf.checked import Router, dropped, to_kernel
from tests.bpf.scene import AWAY, CORRESPONDENT, FOREIGN, NODE, at_access, at_outside, datagram
from tests.bpf.tables import ENCAP, Exact, Flow, Steer

pytestmark = pytest.mark.root
BY_FLOW, BY_PREFIX = scene.SEGMENTS[5], scene.SEGMENTS[0]


@pytest.fixture
def flows(router: Router) -> Router:
    """The router with flows and foreign prefixes."""
    scene.with_flows(router.tables)
    router.fill()
    return router


def way(router: Router, packet: Packet) -> str:
    """The first segment that a packet of the node is sent to."""
    outcome = router.steer(at_access(packet))
    assert outcome.reasons == ("STEERED",)
    return str(Ether(outcome.frame)[IPv6].dst)


def test_a_flow_goes_before_its_prefix(flows: Router) -> None:
    assert way(flows, datagram(NODE, AWAY)) == BY_FLOW
    assert way(flows, IPv6(src=NODE, dst=AWAY) / UDP(sport=4001, dport=5003)) == BY_PREFIX
    assert way(flows, IPv6(src=NODE, dst=AWAY) / UDP(sport=4002, dport=5002)) == BY_PREFIX
    assert way(flows, IPv6(src=NODE, dst=AWAY) / TCP(sport=4001, dport=5002)) == BY_PREFIX
    assert (
        way(flows, IPv6(src=NODE[:-1] + "6", dst=AWAY) / UDP(sport=4001, dport=5002)) == BY_PREFIX
    )


def test_a_flow_is_counted_as_such(flows: Router) -> None:
    outcome = flows.steer(at_access(datagram(NODE, AWAY)))
    assert outcome.counted == {40: (1, 148), 13: (1, 148)}


def test_flows_are_not_looked_at_unless_a_set_of_rules_says_so(flows: Router) -> None:
    kept = flows.tables.flows
    flows.tables.flows = {}
    flows.fill()
    for flow, entry in kept.items():
        flows.fastpath.maps["flows"].put(flow.pack(), entry.pack())
    assert way(flows, datagram(NODE, AWAY)) == BY_PREFIX


def test_the_other_direction_is_another_flow(flows: Router) -> None:
    outcome = flows.steer(at_outside(datagram(CORRESPONDENT, scene.MOVED)), "outside0")
    assert Ether(outcome.frame)[IPv6].dst == BY_FLOW
    flows.tables.flows = {Flow(AWAY, NODE, 17, 5002, 4001): Exact(ENCAP, 4)}
    flows.fill()
    assert way(flows, datagram(NODE, AWAY)) == BY_PREFIX


@pytest.mark.parametrize("layer", [TCP, UDP, SCTP])
def test_ports_are_read_of(flows: Router, layer: type[Packet]) -> None:
    packet = IPv6(src=NODE, dst=AWAY) / layer(sport=70, dport=80) / Raw(bytes(30))
    flows.tables.flows = {Flow(NODE, AWAY, packet.nh, 70, 80): Exact(ENCAP, 4)}
    flows.fill()
    assert way(flows, packet) == BY_FLOW
    packet[layer].dport = 81
    assert way(flows, packet) == BY_PREFIX


def test_a_protocol_without_ports_is_a_flow_of_its_own(flows: Router) -> None:
    assert way(flows, IPv6(src=NODE, dst=FOREIGN) / ICMPv6EchoRequest()) == BY_FLOW


def options() -> Packet:
    """A Destination Options header of 8 octets."""
    return IPv6ExtHdrDestOpt()


def chained(*headers: Packet) -> Packet:
    """A datagram of the flow, with headers before its UDP."""
    packet = IPv6(src=NODE, dst=AWAY)
    for header in headers:
        packet /= header
    return packet / UDP(sport=4001, dport=5002) / Raw(b"data")


@pytest.mark.parametrize(
    "headers",
    [
        [IPv6ExtHdrHopByHop()],
        [options()],
        [IPv6ExtHdrRouting(type=3)],
        [IPv6ExtHdrSegmentRouting(addresses=["fd00::1", "fd00::2"], len=4, segleft=0)],
        [IPv6ExtHdrFragment(id=9)],  # an atomic fragment (RFC 6946)
        [IPv6ExtHdrFragment(id=9, m=1)],  # a first fragment that holds the ports
        [IPv6ExtHdrHopByHop(), options(), IPv6ExtHdrFragment(), options()],
        [options() for _ in range(6)],
    ],
    ids=["hop-by-hop", "options", "routing", "srh", "atomic", "first", "several", "six"],
)
def test_a_flow_is_found_behind(flows: Router, headers: list[Packet]) -> None:
    assert way(flows, chained(*headers)) == BY_FLOW


@pytest.mark.parametrize(
    "packet",
    [
        chained(*(options() for _ in range(7))),
        IPv6(src=NODE, dst=AWAY, nh=60) / Raw(b"\x11\x00\0\0"),
    ],
    ids=["seven", "cut-option"],
)
def test_what_cannot_be_read_is_the_kernels_where_there_are_rules(
    flows: Router, packet: Packet
) -> None:
    frame = at_access(packet)
    to_kernel(flows.steer(frame), "EXTENSIONS", frame)
    flows.tables.flows = {}
    flows.fill()
    assert way(flows, packet) == BY_PREFIX


@pytest.mark.parametrize(
    "packet",
    [
        chained(IPv6ExtHdrFragment(id=9, offset=1)),
        chained(IPv6ExtHdrFragment(id=9, offset=0x1F00)),
        chained(IPv6ExtHdrFragment(id=9, offset=2, m=1)),
        IPv6(src=NODE, dst=AWAY) / options(),
        IPv6(src=NODE, dst=AWAY, nh=17) / Raw(b"\x0f\xa1\x13"),
        IPv6(src=NODE, dst=AWAY, nh=60) / Raw(b"\x11\xff" + bytes(6)),
        IPv6(src=NODE, dst=AWAY, nh=50) / Raw(b"\x0f\xa1\x13\x8a" + bytes(20)),
    ],
    ids=["next", "last", "middle", "no-upper", "cut-ports", "beyond", "esp"],
)
def test_what_has_no_ports_to_read_goes_by_its_prefix(flows: Router, packet: Packet) -> None:
    assert way(flows, packet) == BY_PREFIX


def test_ports_beyond_the_packet_are_not_read(flows: Router) -> None:
    """What follows the packet in the frame is padding, not its ports."""
    packet = IPv6(src=NODE, dst=AWAY, nh=17, plen=2) / Raw(b"\x0f\xa1\x13\x8a")
    assert way(flows, packet) == BY_PREFIX


class TestForeign:
    """The longest of the foreign prefixes, after the /64."""

    @pytest.mark.parametrize(
        ("destination", "first"),
        [
            ("2001:db8:f:9::1", scene.SEGMENTS[0]),
            ("2001:db8:f:1:3::1", scene.LAST),
            (FOREIGN, scene.SEGMENTS[2]),
            ("2001:db8:b1:77::1", scene.SEGMENTS[2]),
        ],
    )
    def test_the_longest_prefix_wins(self, flows: Router, destination: str, first: str) -> None:
        assert way(flows, datagram(NODE, destination)) == first

    def test_the_64_goes_before_a_longer_foreign_prefix(self, flows: Router) -> None:
        flows.tables.foreign[f"{AWAY}/128"] = Steer(ENCAP, 3)
        flows.tables.flows = {}
        flows.fill()
        assert way(flows, datagram(NODE, AWAY)) == BY_PREFIX

    def test_a_flow_goes_before_a_foreign_prefix(self, flows: Router) -> None:
        flows.tables.flows = {Flow(NODE, FOREIGN, 17, 4001, 5002): Exact(ENCAP, 4)}
        flows.fill()
        assert way(flows, datagram(NODE, FOREIGN)) == BY_FLOW

    def test_a_prefix_of_length_0_takes_all(self, flows: Router) -> None:
        flows.tables.foreign = {"::/0": Steer(ENCAP, 1)}
        flows.fill()
        assert way(flows, datagram(NODE, CORRESPONDENT)) == BY_PREFIX

    def test_one_may_be_dropped(self, flows: Router) -> None:
        frame = at_access(datagram(NODE, "2001:db8:f:dead::1"))
        dropped(flows.steer(frame), "NODE_LEFT", frame)

    def test_outside_all_of_them_the_kernel_routes(self, flows: Router) -> None:
        frame = at_access(datagram(NODE, "2001:db8:e:ffff::1"))
        to_kernel(flows.steer(frame), "NO_ENTRY", frame)

    def test_they_are_not_looked_at_unless_the_configuration_says_so(self, flows: Router) -> None:
        flows.tables.foreign = {}
        flows.fill()
        key = (48).to_bytes(4, "little") + bytes.fromhex("20010db8000f") + bytes(10)
        flows.fastpath.maps["foreign"].put(key, Steer(ENCAP, 1).pack())
        frame = at_access(datagram(NODE, FOREIGN))
        to_kernel(flows.steer(frame), "NO_ENTRY", frame)
