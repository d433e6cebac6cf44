"""Packets of mobile nodes and of the outside: encapsulated, delivered, or left alone.

RFC 8986 section 5 (H.Encaps, H.Encaps.Red), RFC 2473, RFC 6040, RFC 6437, RFC 5213.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath.layout import outer_header
from srv6dmm.model.sid import EncapMode
from tests.bpf import scene
from tests.bpf.checked import Router, dropped, label_of, redirected, to_kernel
from tests.bpf.running import DEVICES, REDIRECT, Outcome
from tests.bpf.scene import (
    AWAY,
    CORRESPONDENT,
    IP_AWAY,
    IP_NODE,
    NODE,
    SEGMENTS,
    at_access,
    at_outside,
    datagram,
    datagram4,
    ether,
    outer,
    template,
)
from tests.bpf.tables import ENCAP, Path, Steer

pytestmark = pytest.mark.root
LINK = ether("access0", scene.NODE_MAC)
LINK_4 = ether("outside0", scene.OUTSIDE_MAC)
LISTS = [
    pytest.param(SEGMENTS[:count], reduced, id=f"{'encap.red' if reduced else 'encap'}-{count}")
    for reduced in (False, True)
    for count in range(1, 7)
]


def steer4(router: Router, packet: Packet, vlan: int | None = None) -> Outcome:
    """Run an IPv4 packet at the outside port: from mobile nodes none is steered."""
    return router.steer(at_outside(packet, vlan), "outside0")


def use(router: Router, segments: tuple[str, ...], reduced: bool, mtu: int = 1600) -> None:
    """Lead AWAY along other segments."""
    path = replace(router.tables.paths[1], header=template(segments, reduced), mtu=mtu)
    router.tables.paths[1] = path
    router.fill()


@pytest.mark.parametrize(("segments", "reduced"), LISTS)
def test_ipv6_is_encapsulated(router: Router, segments: tuple[str, ...], reduced: bool) -> None:
    use(router, segments, reduced)
    outcome = router.steer(at_access(datagram(NODE, AWAY, tc=0xB9, fl=0x12345, hlim=64)))
    header = outer(segments, reduced, traffic_class=0xB9)
    inner = datagram(NODE, AWAY, tc=0xB9, fl=0x12345, hlim=63)
    redirected(outcome, "STEERED", LINK / header / inner)


@pytest.mark.parametrize("reduced", [False, True])
def test_a_container_is_a_segment_like_any_other(router: Router, reduced: bool) -> None:
    """RFC 9800: its bytes are the head-end's to write, not to understand."""
    segments = ("fd00:5a:21:22:23:24:25:26", SEGMENTS[0])
    use(router, segments, reduced)
    outcome = router.steer(at_access(datagram(NODE, AWAY, fl=0x12345, hlim=64)))
    wanted = outer(segments, reduced) / datagram(NODE, AWAY, fl=0x12345, hlim=63)
    redirected(outcome, "STEERED", LINK / wanted)


@pytest.mark.parametrize(("segments", "reduced"), LISTS)
def test_ipv4_is_encapsulated(router: Router, segments: tuple[str, ...], reduced: bool) -> None:
    use(router, segments, reduced)
    outcome = steer4(router, datagram4(IP_NODE, IP_AWAY, tos=0x2A, ttl=64, id=7))
    header = outer(segments, reduced, following=4, traffic_class=0x2A)
    inner = datagram4(IP_NODE, IP_AWAY, tos=0x2A, ttl=63, id=7)
    redirected(outcome, "STEERED", LINK_4 / header / inner)


@pytest.mark.parametrize(("segments", "reduced"), LISTS)
def test_the_agent_writes_the_header_that_the_rfc_asks_for(
    segments: tuple[str, ...], reduced: bool
) -> None:
    mode = EncapMode.ENCAP_RED if reduced else EncapMode.ENCAP
    addresses = tuple(IPv6Address(segment) for segment in segments)
    written = outer_header(mode, addresses, IPv6Address(scene.ROUTER))
    assert written == template(segments, reduced)


@pytest.mark.parametrize("version", [4, 6])
def test_dscp_and_ecn_are_copied_to_the_outer_header(router: Router, version: int) -> None:
    for octet in range(256):
        if version == 6:
            outcome = router.steer(at_access(datagram(NODE, AWAY, tc=octet)))
        else:
            outcome = steer4(router, datagram4(IP_NODE, IP_AWAY, tos=octet))
        assert outcome.reasons == ("STEERED",)
        assert Ether(outcome.frame)[IPv6].tc == octet


@pytest.mark.parametrize("hop_limit", [2, 3, 64, 255])
def test_the_inner_hop_limit_is_one_less_and_the_outer_fresh(
    router: Router, hop_limit: int
) -> None:
    six = Ether(router.steer(at_access(datagram(NODE, AWAY, hlim=hop_limit))).frame)
    assert (six[IPv6].hlim, six[IPv6].payload[IPv6].hlim) == (64, hop_limit - 1)
    four = Ether(steer4(router, datagram4(IP_NODE, IP_AWAY, ttl=hop_limit)).frame)
    assert (four[IPv6].hlim, four[IP].ttl) == (64, hop_limit - 1)
    assert four[IP].chksum == IP(bytes(datagram4(IP_NODE, IP_AWAY, ttl=hop_limit - 1))).chksum


@pytest.mark.parametrize("hop_limit", [0, 1])
def test_time_exceeded_is_the_kernels_to_send(router: Router, hop_limit: int) -> None:
    for packet in (
        datagram(NODE, AWAY, hlim=hop_limit),
        datagram(NODE, scene.PEER_NODE, hlim=hop_limit),
    ):
        frame = at_access(packet)
        to_kernel(router.steer(frame), "HOP_LIMIT", frame)
    packet = datagram4(IP_NODE, IP_AWAY, ttl=hop_limit)
    to_kernel(steer4(router, packet), "HOP_LIMIT", at_outside(packet))


class TestSourcesOfIPv4:
    """Nobody but the outside has IPv4 steered: no IPv4 source is bound to a node's port."""

    @pytest.mark.parametrize("source", [IP_NODE, "9.9.9.9", "127.0.0.1", "0.0.0.0"])
    @pytest.mark.parametrize("destination", [IP_AWAY, scene.IP_LEFT, scene.IP_DELIVERED])
    @pytest.mark.parametrize("vlan", [None, 9])
    def test_from_a_node_none_goes_where_entries_lead(
        self, router: Router, source: str, destination: str, vlan: int | None
    ) -> None:
        frame = at_access(datagram4(source, destination), vlan)
        dropped(router.steer(frame), "SOURCE_UNBOUND", frame)

    @pytest.mark.parametrize(
        ("source", "destination"), [(IP_NODE, "9.9.9.9"), ("0.0.0.0", "255.255.255.255")]
    )
    def test_from_a_node_what_has_no_entry_is_the_kernels(
        self, router: Router, source: str, destination: str
    ) -> None:
        """DHCP among it."""
        frame = at_access(datagram4(source, destination))
        to_kernel(router.steer(frame), "NO_ENTRY", frame)

    @pytest.mark.parametrize(
        "source", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.5", "240.0.0.1", "255.255.255.255"]
    )
    def test_from_outside_an_invalid_one_is_dropped(self, router: Router, source: str) -> None:
        packet = datagram4(source, IP_AWAY)
        dropped(steer4(router, packet), "SOURCE_INVALID", at_outside(packet))

    @pytest.mark.parametrize("source", ["1.0.0.1", "126.0.0.1", "128.0.0.1", "223.255.255.254"])
    def test_from_outside_others_are_steered(self, router: Router, source: str) -> None:
        assert steer4(router, datagram4(source, IP_AWAY)).reasons == ("STEERED",)


@pytest.mark.parametrize("wrong", [0x1111, 0xFFFF, 1, 0x8000])
def test_a_wrong_ipv4_checksum_is_the_kernels_to_drop(router: Router, wrong: int) -> None:
    packet = datagram4(IP_NODE, IP_AWAY, ttl=64)
    packet.chksum = IP(bytes(packet)).chksum ^ wrong
    to_kernel(steer4(router, packet), "BAD_CHECKSUM", at_outside(packet))


class TestFlowLabel:
    """RFC 6437 and RFC 6438."""

    def label(self, router: Router, packet: Packet) -> int:
        outcome = steer4(router, packet) if IP in packet else router.steer(at_access(packet))
        assert outcome.reasons == ("STEERED",)
        return label_of(outcome.frame)

    def udp(self, port: int, size: int = 10, **fields: Any) -> Packet:
        packet = IPv6(src=NODE, dst=AWAY, **fields)
        return packet / UDP(sport=port, dport=9) / Raw(bytes(size))

    def test_it_is_the_same_for_all_packets_of_a_flow(self, router: Router) -> None:
        seen = {
            self.label(router, self.udp(7, size, hlim=hop_limit, tc=mark))
            for size in (0, 1, 900)
            for hop_limit in (2, 64)
            for mark in (0, 0x2E, 3)
        }
        assert len(seen) == 1

    def test_it_differs_between_flows_and_is_never_0(self, router: Router) -> None:
        seen = [self.label(router, self.udp(port)) for port in range(500)]
        assert 0 not in seen
        assert len(set(seen)) > 495

    def test_it_is_not_0_where_the_hash_is(self, router: Router) -> None:
        """Of these flows 0xcc5bb is one whose 20 bits of hash are all 0."""
        run = router.fastpath.programs["steer"].runner(router.devices["access0"])
        frame = bytearray(at_access(datagram(NODE, AWAY)))
        with namespace.inside(router.fastpath.space):
            for label in range(0xCC000, 0xCD000):
                frame[14:18] = (6 << 28 | label).to_bytes(4, "big")
                verdict, left = run(bytes(frame))
                assert verdict == REDIRECT
                assert label_of(bytes(left)) != 0, hex(label)

    def test_the_senders_own_label_stands_for_the_ports(self, router: Router) -> None:
        assert len({self.label(router, self.udp(port, fl=5)) for port in range(20)}) == 1
        assert len({self.label(router, self.udp(7, fl=n)) for n in range(1, 200)}) > 195

    def test_it_depends_on_both_addresses(self, router: Router) -> None:
        prefix, node = AWAY.rsplit("::", maxsplit=1)[0], NODE.rsplit("::", maxsplit=1)[0]
        by_source, by_destination = set(), set()
        for host in range(200):
            here, there = f"{node}::{host:x}", f"{prefix}::{host:x}"
            by_source.add(self.label(router, IPv6(src=here, dst=AWAY) / UDP()))
            by_destination.add(self.label(router, IPv6(src=NODE, dst=there) / UDP()))
        assert min(len(by_source), len(by_destination)) > 195

    def test_fragments_of_a_packet_stay_together(self, router: Router) -> None:
        parts = [
            IPv6(src=NODE, dst=AWAY) / IPv6ExtHdrFragment(nh=17, m=m, offset=at, id=1) / Raw(data)
            for m, at, data in ((1, 0, b"abcdefgh" * 4), (1, 4, b"ijklmnop" * 4), (0, 8, b"q" * 9))
        ]
        assert len({self.label(router, part) for part in parts}) == 1
        first = datagram4(IP_NODE, IP_AWAY, flags=1, frag=0)
        second = datagram4(IP_NODE, IP_AWAY, flags=1, frag=20)
        last = IP(src=IP_NODE, dst=IP_AWAY, frag=40, proto=17) / Raw(b"zzzzzz")
        assert len({self.label(router, part) for part in (first, second, last)}) == 1

    def test_it_differs_between_flows_of_ipv4(self, router: Router) -> None:
        seen = set()
        for port in range(300):
            packet = IP(src=IP_NODE, dst=IP_AWAY) / UDP(sport=port, dport=9)
            seen.add(self.label(router, packet))
        assert 0 not in seen
        assert len(seen) > 295


class TestSize:
    """Packet Too Big is the kernel's to send."""

    @pytest.mark.parametrize("reduced", [False, True])
    @pytest.mark.parametrize("version", [4, 6])
    def test_the_greatest_that_fits_goes(self, router: Router, reduced: bool, version: int) -> None:
        use(router, SEGMENTS[:3], reduced, mtu=400)
        room = 400 - len(template(SEGMENTS[:3], reduced))
        head = IPv6(src=NODE, dst=AWAY) if version == 6 else IP(src=IP_NODE, dst=IP_AWAY)
        device, at_port = ("access0", at_access) if version == 6 else ("outside0", at_outside)
        fits = at_port(head / UDP() / Raw(bytes(room - len(head) - 8)))
        outcome = router.steer(fits, device)
        assert outcome.reasons == ("STEERED",)
        assert len(outcome.frame) == 14 + 400
        frame = at_port(head / UDP() / Raw(bytes(room - len(head) - 7)))
        to_kernel(router.steer(frame, device), "OVERSIZE", frame)

    def test_of_a_super_packet_the_segments_count(self, router: Router) -> None:
        """1500 octets of UDP segments do not fit into 1600 with 80 of header, 1400 do."""
        frame = at_access(IPv6(src=NODE, dst=AWAY) / UDP() / Raw(bytes(3000)))
        to_kernel(router.send("steer", "access0", frame, gso=(1473, 3)), "OVERSIZE", frame)
        # BPF_PROG_TEST_RUN cannot say UDP_SEGMENT: the kernel refuses the room, and the packet
        # must be left as it was. On a wire it goes: tests/netns.
        outcome = router.send("steer", "access0", frame, gso=(1472, 3))
        to_kernel(outcome, "ADJUST_FAILED", frame)


class TestTag:
    """A VLAN of a device is a port of its own; the tag ends here."""

    def test_it_is_taken_off_when_the_packet_is_encapsulated(self, router: Router) -> None:
        outcome = router.steer(at_access(datagram(NODE, AWAY, hlim=9), vlan=9))
        header = outer(SEGMENTS[:2], False)
        redirected(outcome, "STEERED", LINK / header / datagram(NODE, AWAY, hlim=8))

    def test_it_is_taken_off_ipv4(self, router: Router) -> None:
        outcome = steer4(router, datagram4(IP_NODE, IP_AWAY, ttl=9), vlan=9)
        header = outer(SEGMENTS[:2], False, 4)
        redirected(outcome, "STEERED", LINK_4 / header / datagram4(IP_NODE, IP_AWAY, ttl=8))

    def test_it_is_taken_off_when_the_packet_is_delivered(self, router: Router) -> None:
        outcome = router.steer(at_access(datagram(NODE, scene.TAGGED_NODE, hlim=9), vlan=9))
        redirected(outcome, "DELIVERED", LINK / datagram(NODE, scene.TAGGED_NODE, hlim=8))

    def test_it_stays_when_the_packet_is_left_to_the_kernel(self, router: Router) -> None:
        frame = at_access(datagram(NODE, CORRESPONDENT), vlan=9)
        to_kernel(router.steer(frame), "NO_ENTRY", frame)

    @pytest.mark.parametrize("vlan", [1, 7, 10, 4095])
    def test_another_vlan_is_not_our_port(self, router: Router, vlan: int) -> None:
        frame = at_access(datagram(NODE, AWAY), vlan=vlan)
        to_kernel(router.steer(frame), "NOT_OUR_PORT", frame)

    def test_a_priority_tag_is_no_vlan(self, router: Router) -> None:
        outcome = router.steer(at_access(datagram(NODE, AWAY, hlim=9), vlan=0))
        assert outcome.reasons == ("STEERED",)


class TestTrailer:
    """What follows a packet in its frame is not its own, and goes no further (RFC 8200 3)."""

    @pytest.mark.parametrize("more", [1, 22, 1500])
    @pytest.mark.parametrize("vlan", [None, 9])
    @pytest.mark.parametrize("destination", [AWAY, scene.PEER_NODE])
    def test_it_is_left_behind(
        self, router: Router, more: int, vlan: int | None, destination: str
    ) -> None:
        frame = at_access(datagram(NODE, destination), vlan)
        without = router.steer(frame)
        outcome = router.steer(frame + b"t" * more)
        assert outcome == without
        assert outcome.verdict == REDIRECT

    @pytest.mark.parametrize("vlan", [None, 9])
    def test_that_of_ipv4(self, router: Router, vlan: int | None) -> None:
        frame = at_outside(datagram4(IP_NODE, IP_AWAY), vlan)
        without = router.steer(frame, "outside0")
        assert without.reasons == ("STEERED",)
        assert router.steer(frame + b"t" * 18, "outside0") == without

    def test_it_stays_when_the_packet_is_left_to_the_kernel(self, router: Router) -> None:
        frame = at_access(datagram(NODE, CORRESPONDENT)) + b"t" * 9
        to_kernel(router.steer(frame), "NO_ENTRY", frame)


class TestDelivery:
    """The destination is at a port of this router."""

    def test_by_neighbour(self, router: Router) -> None:
        outcome = router.steer(at_outside(datagram(CORRESPONDENT, NODE, hlim=5)), "outside0")
        link = ether("outside0", scene.OUTSIDE_MAC)
        redirected(outcome, "DELIVERED", link / datagram(CORRESPONDENT, NODE, hlim=4))
        assert outcome.counted == {1: (1, 148), 20: (1, 148)}

    def test_straight_into_a_veth(self, router: Router) -> None:
        frame = at_outside(datagram(CORRESPONDENT, scene.PEER_NODE, hlim=5))
        link = Ether(dst="02:00:00:00:03:03", src=DEVICES["access1"])
        inner = datagram(CORRESPONDENT, scene.PEER_NODE, hlim=4)
        redirected(router.steer(frame, "outside0"), "DELIVERED", link / inner)

    def test_every_host_of_the_prefix(self, router: Router) -> None:
        for host in ("2001:db8:a1:1::", "2001:db8:a1:1:ffff:ffff:ffff:ffff"):
            outcome = router.steer(at_outside(datagram(CORRESPONDENT, host)), "outside0")
            assert outcome.reasons == ("DELIVERED",)

    def test_the_greatest_that_the_port_takes_goes(self, router: Router) -> None:
        """Packet Too Big is the kernel's to send, here too."""
        router.tables.deliveries[NODE] = replace(router.tables.deliveries[NODE], mtu=300)
        router.fill()
        fits = at_outside(IPv6(src=CORRESPONDENT, dst=NODE) / UDP() / Raw(bytes(252)))
        assert router.steer(fits, "outside0").reasons == ("DELIVERED",)
        frame = at_outside(IPv6(src=CORRESPONDENT, dst=NODE) / UDP() / Raw(bytes(253)))
        to_kernel(router.steer(frame, "outside0"), "OVERSIZE", frame)

    def test_without_a_neighbour_to_deliver_to(self, router: Router) -> None:
        frame = at_outside(datagram(CORRESPONDENT, scene.GHOST))
        to_kernel(router.steer(frame, "outside0"), "NOT_HERE", frame)


def test_packets_to_a_node_that_just_left_are_dropped(router: Router) -> None:
    """RFC 5213 section 5.3.5."""
    frame = at_access(datagram(NODE, scene.LEFT))
    dropped(router.steer(frame), "NODE_LEFT", frame)
    packet = datagram4(IP_NODE, scene.IP_LEFT)
    dropped(steer4(router, packet), "NODE_LEFT", at_outside(packet))


class TestCounters:
    """Packets and octets of the inner packet, of successes only."""

    def test_they_add_up(self, router: Router) -> None:
        sizes = []
        for length in (0, 1, 500):
            packet = IPv6(src=NODE, dst=AWAY) / UDP() / Raw(bytes(length))
            sizes.append(len(packet))
            router.steer(at_access(packet))
        assert router.fastpath.counters() == {4: (3, sum(sizes)), 10: (3, sum(sizes))}
        assert router.fastpath.last(4) > 0
        assert router.fastpath.last(10) > 0
        assert router.fastpath.last(5) == 0

    def test_padding_of_the_frame_does_not_count(self, router: Router) -> None:
        packet = IPv6(src=NODE, dst=AWAY) / UDP()
        outcome = router.steer(at_access(packet) + bytes(20))
        assert outcome.counted == {4: (1, 48), 10: (1, 48)}

    def test_0_counts_nothing(self, router: Router) -> None:
        router.tables.prefixes[AWAY] = Steer(ENCAP, 1, 0)
        router.tables.paths[1] = replace(router.tables.paths[1], counter=0)
        router.fill()
        outcome = router.steer(at_access(datagram(NODE, AWAY)))
        assert (outcome.reasons, outcome.counted) == (("STEERED",), {})
        assert router.fastpath.counters() == {}

    def test_failures_are_not_counted(self, router: Router) -> None:
        for packet in (
            datagram(NODE, AWAY, hlim=1),
            datagram(NODE, scene.LOST),
            datagram(NODE, AWAY) / Raw(bytes(1500)),
        ):
            assert router.steer(at_access(packet)).verdict == 0
        assert router.fastpath.counters() == {}


def test_a_path_is_exchanged_by_one_update(router: Router) -> None:
    use(router, SEGMENTS[:1], True)
    first = Ether(router.steer(at_access(datagram(NODE, AWAY))).frame)
    path = Path(router.devices["core1"], template(SEGMENTS[4:], False))
    router.tables.paths[1] = path
    router.fastpath.maps["paths"].put((1).to_bytes(4, "little"), path.pack())
    second = Ether(router.steer(at_access(datagram(NODE, AWAY))).frame)
    assert (first[IPv6].dst, second[IPv6].dst) == (SEGMENTS[0], SEGMENTS[4])
