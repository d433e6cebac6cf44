"""What is broken, impossible or forged: each has its own reason, and no packet is changed.

The model is asked as well (checked.Router); what is written here is what a reader of RFC 8200,
RFC 8754 and RFC 791 expects.
"""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import IP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.bpf import scene
from tests.bpf.checked import Router, dropped, to_kernel
from tests.bpf.running import DEVICES
from tests.bpf.scene import (
    AWAY,
    CORRESPONDENT,
    IP_AWAY,
    IP_CORRESPONDENT,
    IP_NODE,
    NEIGHBOUR,
    NODE,
    SEGMENTS,
    SID_DT6,
    SID_DX4,
    at_access,
    at_core,
    at_outside,
    datagram,
    datagram4,
    ether,
    to_sid,
)
from tests.bpf.tables import DELIVER, ENCAP, Path, Steer

pytestmark = pytest.mark.root
INNER = datagram(CORRESPONDENT, NODE)
# BPF_PROG_TEST_RUN itself refuses frames whose IP header is cut, unless a tag stands before it.
LEAST = {6: 54, 4: 34}


def with_bytes(frame: bytes, changes: dict[int, int]) -> bytes:
    """A frame with some octets changed."""
    changed = bytearray(frame)
    for at, value in changes.items():
        changed[at] = value
    return bytes(changed)


class TestCutShort:
    """A frame that ends anywhere before its packet does."""

    @pytest.mark.parametrize("vlan", [None, 9])
    @pytest.mark.parametrize("version", [4, 6])
    def test_at_an_access_port(self, router: Router, version: int, vlan: int | None) -> None:
        packet = datagram(NODE, AWAY) if version == 6 else datagram4(IP_NODE, IP_AWAY)
        device, at_port = ("access0", at_access) if version == 6 else ("outside0", at_outside)
        whole = at_port(packet, vlan)
        for length in range(18 if vlan else LEAST[version], len(whole)):
            to_kernel(router.steer(whole[:length], device), "TRUNCATED", whole[:length])
        assert router.steer(whole, device).reasons == ("STEERED",)

    @pytest.mark.parametrize("vlan", [None, 8])
    @pytest.mark.parametrize("sid", [SID_DT6, scene.SID_X, scene.SID_END, scene.SID_MAP])
    def test_at_a_core_port(self, router: Router, sid: str, vlan: int | None) -> None:
        if sid == SID_DT6:
            whole = at_core(to_sid(sid, INNER, before=SEGMENTS[:2]), vlan)
        else:
            whole = at_core(to_sid(sid, INNER, after=SEGMENTS[:2]), vlan)
        for length in range(18 if vlan else LEAST[6], len(whole)):
            to_kernel(router.sid(whole[:length]), "TRUNCATED", whole[:length])
        assert router.sid(whole).verdict in (0, 7)
        assert router.sid(whole).reasons != ("TRUNCATED",)

    @pytest.mark.parametrize("length", [15, 16, 17])
    def test_within_a_vlan_tag(self, router: Router, length: int) -> None:
        frame = at_access(datagram(NODE, AWAY), vlan=9)[:length]
        to_kernel(router.steer(frame), "TRUNCATED", frame)
        to_kernel(router.sid(frame), "TRUNCATED", frame)


class TestLengths:
    """Lengths that headers claim."""

    @pytest.mark.parametrize("claimed", [109, 200, 1500, 65535])
    def test_a_payload_longer_than_the_frame(self, router: Router, claimed: int) -> None:
        frame = bytearray(at_access(datagram(NODE, AWAY)))
        struct.pack_into("!H", frame, 18, claimed)
        to_kernel(router.steer(bytes(frame)), "TRUNCATED", bytes(frame))

    def test_a_payload_of_nothing(self, router: Router) -> None:
        frame = at_access(IPv6(src=NODE, dst=AWAY, nh=59))
        assert router.steer(frame).reasons == ("STEERED",)

    def test_a_jumbo_payload(self, router: Router) -> None:
        """RFC 2675: payload length 0 and a Jumbo Payload option."""
        jumbo = IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=0xC2, optdata=b"\0\1\0\0")])
        packet = IPv6(src=NODE, dst=AWAY, plen=0, nh=0) / jumbo / UDP() / Raw(bytes(100))
        frame = at_access(packet)
        to_kernel(router.steer(frame), "JUMBO", frame)
        packet.src, packet.dst = NEIGHBOUR, SID_DT6
        to_kernel(router.sid(at_core(packet)), "JUMBO", at_core(packet))
        inner = IPv6(src=CORRESPONDENT, dst=NODE, plen=0, nh=0) / jumbo
        frame = at_core(to_sid(SID_DT6, inner))
        to_kernel(router.sid(frame), "JUMBO", frame)

    @pytest.mark.parametrize("total", [0, 1, 19, 119, 65535])
    def test_an_ipv4_length(self, router: Router, total: int) -> None:
        frame = at_access(IP(src=IP_NODE, dst=IP_AWAY, len=total) / UDP() / Raw(bytes(90)))
        to_kernel(router.steer(frame), "TRUNCATED", frame)
        inner = IP(src=IP_CORRESPONDENT, dst=IP_NODE, len=total) / UDP() / Raw(bytes(90))
        frame = at_core(to_sid(SID_DX4, inner, following=4))
        to_kernel(router.sid(frame), "TRUNCATED", frame)

    @pytest.mark.parametrize("words", range(5))
    def test_an_ipv4_header_of_less_than_20_octets(self, router: Router, words: int) -> None:
        frame = with_bytes(at_access(datagram4(IP_NODE, IP_AWAY)), {14: 0x40 | words})
        to_kernel(router.steer(frame), "TRUNCATED", frame)

    def test_ipv4_options(self, router: Router) -> None:
        options = [IPOption_RR(length=7, routers=["0.0.0.0"])]
        packet = IP(src=IP_NODE, dst=IP_AWAY, options=options) / UDP()
        frame = at_access(packet)
        to_kernel(router.steer(frame), "IP_OPTIONS", frame)
        frame = at_core(to_sid(SID_DX4, packet, following=4))
        to_kernel(router.sid(frame), "IP_OPTIONS", frame)

    @pytest.mark.parametrize("more", [1, 40, 1000])
    def test_an_inner_packet_longer_than_the_outer_one(self, router: Router, more: int) -> None:
        """It must not be completed with what follows in the frame."""
        inner = IPv6(src=CORRESPONDENT, dst=NODE, plen=108 + more) / bytes(INNER)[40:]
        packet = IPv6(bytes(to_sid(SID_DT6, inner)))
        frame = at_core(packet) + bytes(2000)
        to_kernel(router.sid(frame), "TRUNCATED", frame)
        inner4 = datagram4(IP_CORRESPONDENT, IP_NODE)
        inner4.len = 118 + more
        frame = at_core(to_sid(SID_DX4, inner4, following=4)) + bytes(2000)
        to_kernel(router.sid(frame), "TRUNCATED", frame)

    @pytest.mark.parametrize("size", [0, 1, 39])
    def test_an_inner_header_beyond_the_outer_packet(self, router: Router, size: int) -> None:
        whole = at_core(to_sid(SID_DT6, INNER))
        frame = bytearray(whole)
        struct.pack_into("!H", frame, 18, size)
        to_kernel(router.sid(bytes(frame)), "TRUNCATED", bytes(frame))


class TestVersions:
    """The EtherType, the version and the next header must agree."""

    @pytest.mark.parametrize("version", [0, 1, 4, 5, 7, 15])
    def test_of_ipv6(self, router: Router, version: int) -> None:
        frame = with_bytes(at_access(datagram(NODE, AWAY)), {14: version << 4})
        to_kernel(router.steer(frame), "NOT_IP", frame)
        frame = with_bytes(at_core(to_sid(SID_DT6, INNER)), {14: version << 4})
        to_kernel(router.sid(frame), "NOT_IP", frame)
        frame = with_bytes(at_core(to_sid(SID_DT6, INNER)), {54: version << 4})
        to_kernel(router.sid(frame), "NOT_IP", frame)

    @pytest.mark.parametrize("version", [0, 5, 6, 15])
    def test_of_ipv4(self, router: Router, version: int) -> None:
        frame = with_bytes(at_access(datagram4(IP_NODE, IP_AWAY)), {14: version << 4 | 5})
        to_kernel(router.steer(frame), "NOT_IP", frame)
        inner = datagram4(IP_CORRESPONDENT, IP_NODE)
        frame = with_bytes(at_core(to_sid(SID_DX4, inner, 4)), {54: version << 4 | 5})
        to_kernel(router.sid(frame), "NOT_IP", frame)

    def test_ipv4_in_the_core_is_routed(self, router: Router) -> None:
        frame = at_core(datagram4(IP_NODE, IP_AWAY))
        to_kernel(router.sid(frame), "NOT_IP", frame)

    @pytest.mark.parametrize(
        "link",
        [
            ether("access0", scene.NODE_MAC) / ARP(),
            Ether(dst=DEVICES["access0"], src=scene.NODE_MAC, type=0x88CC) / Raw(bytes(50)),
            Ether(dst=DEVICES["access0"], src=scene.NODE_MAC, type=46) / Raw(bytes(46)),
        ],
        ids=["arp", "lldp", "802.3"],
    )
    def test_other_protocols(self, router: Router, link: Packet) -> None:
        to_kernel(router.steer(bytes(link)), "NOT_IP", bytes(link))


PADDED = b"\0\1\4\0\0\0\0"
"""Of a Hop-by-Hop header what follows its next header: no Jumbo Payload, four octets of padding."""


def without_length(source: str, destination: str, inner: Packet, following: int = 41) -> Packet:
    """A packet of payload length 0 that Linux takes all the same: a Hop-by-Hop header follows."""
    rest = bytes((following,)) + PADDED + bytes(inner)
    return IPv6(src=source, dst=destination, plen=0, nh=0) / Raw(rest)


class TestAroundTheChecks:
    """What Linux is lenient about is no way past the checks of who may speak to whom."""

    @pytest.mark.parametrize("device", ["access0", "outside0"])
    @pytest.mark.parametrize("source", [NODE, CORRESPONDENT])
    def test_a_sid_without_a_length(self, router: Router, device: str, source: str) -> None:
        link = ether(device, scene.NODE_MAC)
        frame = bytes(link / without_length(source, SID_DT6, INNER))
        dropped(router.send("steer", device, frame), "TO_SID_BLOCK", frame)

    def test_a_source_without_a_length(self, router: Router) -> None:
        frame = at_access(without_length("2001:db8:bad::1", AWAY, UDP(), 17))
        dropped(router.steer(frame), "SOURCE_UNBOUND", frame)
        frame = at_core(without_length("2001:db8:bad::1", SID_DT6, INNER))
        dropped(router.sid(frame), "OUTER_SOURCE", frame)

    def test_a_bound_source_without_a_length_is_the_kernels(self, router: Router) -> None:
        frame = at_access(without_length(NODE, AWAY, UDP(), 17))
        to_kernel(router.steer(frame), "JUMBO", frame)

    @pytest.mark.parametrize("claimed", [200, 65535])
    def test_a_length_beyond_the_frame(self, router: Router, claimed: int) -> None:
        frame = bytearray(at_access(datagram(NODE, SID_DT6)))
        struct.pack_into("!H", frame, 18, claimed)
        dropped(router.steer(bytes(frame)), "TO_SID_BLOCK", bytes(frame))

    @pytest.mark.parametrize("outside", [0x8100, 0x88A8])
    @pytest.mark.parametrize("within", [0x8100, 0x88A8])
    @pytest.mark.parametrize("packet", [datagram(NODE, SID_DT6), datagram("2001:db8:bad::1", AWAY)])
    def test_a_tag_within_a_tag(
        self, router: Router, outside: int, within: int, packet: Packet
    ) -> None:
        for device in ("access0", "outside0", "core0"):
            link = Ether(dst=DEVICES[device], src=scene.NODE_MAC, type=outside)
            frame = bytes(link / Dot1Q(vlan=0, type=within) / Dot1Q(vlan=0) / packet)
            program = "sid" if device == "core0" else "steer"
            dropped(router.send(program, device, frame), "STACKED_TAGS", frame)

    def test_tags_of_a_vlan_that_is_no_port(self, router: Router) -> None:
        frame = bytes(ether("access0", scene.NODE_MAC, 5) / Dot1Q(vlan=9) / datagram(NODE, AWAY))
        to_kernel(router.steer(frame), "NOT_OUR_PORT", frame)


def routed(**fields: object) -> bytes:
    """A frame to our End.X with a routing header of three segments, some fields as given."""
    packet = to_sid(scene.SID_X, INNER, before=SEGMENTS[:1], after=SEGMENTS[1:2])
    for name, value in fields.items():
        setattr(packet[IPv6ExtHdrSegmentRouting], name, value)
    return at_core(packet)


class TestRoutingHeader:
    """RFC 8754 sections 2 and 4.3.1.1. What is wrong there is the kernel's to answer."""

    @pytest.mark.parametrize("left", [4, 5, 127, 255])
    def test_segments_left_beyond_the_list(self, router: Router, left: int) -> None:
        frame = routed(segleft=left)
        to_kernel(router.sid(frame), "BAD_SRH", frame)

    @pytest.mark.parametrize("last", [3, 4, 127, 255])
    def test_a_last_entry_beyond_the_header(self, router: Router, last: int) -> None:
        frame = routed(lastentry=last)
        to_kernel(router.sid(frame), "BAD_SRH", frame)

    @pytest.mark.parametrize(("length", "last"), [(0, 0), (1, 0), (4, 2), (5, 2), (0, 255)])
    def test_a_list_that_the_length_has_no_room_for(
        self, router: Router, length: int, last: int
    ) -> None:
        frame = routed(len=length, lastentry=last, segleft=0)
        to_kernel(router.sid(frame), "BAD_SRH", frame)

    @pytest.mark.parametrize("length", [7, 8, 10])
    def test_tlvs(self, router: Router, length: int) -> None:
        packet = to_sid(scene.SID_X, INNER, before=SEGMENTS[:1], after=SEGMENTS[1:2])
        header = bytes(packet[IPv6ExtHdrSegmentRouting])[:56]
        more = bytes((4, 8 * (length - 6) - 2)).ljust(8 * (length - 6), b"\0")
        rest = header[:1] + bytes((length,)) + header[2:] + more + bytes(INNER)
        frame = at_core(IPv6(src=NEIGHBOUR, dst=scene.SID_X, nh=43) / Raw(rest))
        to_kernel(router.sid(frame), "SRH_TLV", frame)

    @pytest.mark.parametrize("last", [0, 1])
    def test_a_list_shorter_than_the_header(self, router: Router, last: int) -> None:
        """What is behind the last entry are TLVs."""
        frame = routed(lastentry=last, segleft=1)
        to_kernel(router.sid(frame), "SRH_TLV", frame)

    @pytest.mark.parametrize("bit", range(8))
    def test_every_flag(self, router: Router, bit: int) -> None:
        frame = with_bytes(routed(), {14 + 40 + 5: 1 << bit})
        to_kernel(router.sid(frame), "SRH_FLAGS", frame)

    @pytest.mark.parametrize("segment", ["::", "::1", "ff02::1", "ff0e::1", "fe80::1"])
    @pytest.mark.parametrize("sid", [scene.SID_X, scene.SID_END, scene.SID_END_TO])
    def test_a_next_segment_that_nobody_forwards(
        self, router: Router, sid: str, segment: str
    ) -> None:
        frame = at_core(to_sid(sid, INNER, after=(segment, SEGMENTS[0])))
        to_kernel(router.sid(frame), "LOCAL_SCOPE", frame)

    def test_the_tag_does_not_matter(self, router: Router) -> None:
        assert router.sid(routed(tag=0xFFFF)).reasons == ("ENDPOINT",)

    @pytest.mark.parametrize("kind", [0, 2, 3, 5, 255])
    def test_another_type(self, router: Router, kind: int) -> None:
        frame = routed(type=kind)
        to_kernel(router.sid(frame), "EXTENSIONS", frame)

    @pytest.mark.parametrize("length", [21, 100, 255])
    def test_a_header_longer_than_the_packet(self, router: Router, length: int) -> None:
        packet = to_sid(scene.SID_X, Raw(bytes(100)), after=SEGMENTS[1:3])
        packet[IPv6ExtHdrSegmentRouting].len = length
        frame = at_core(packet)
        to_kernel(router.sid(frame), "TRUNCATED", frame)
        to_kernel(router.sid(frame + bytes(2100)), "TRUNCATED", frame + bytes(2100))

    @pytest.mark.parametrize("size", range(8))
    def test_a_header_that_is_not_all_there(self, router: Router, size: int) -> None:
        head = bytes((41, 6, 4, 1, 2, 0, 0, 0))[:size]
        frame = at_core(IPv6(src=NEIGHBOUR, dst=scene.SID_X, nh=43) / Raw(head))
        to_kernel(router.sid(frame), "TRUNCATED", frame)

    def test_the_longest_list_there_can_be(self, router: Router) -> None:
        """127 segments: more than a list of ours, but nothing is wrong with it."""
        listed = [f"fd00:5a:77:{number:x}::" for number in range(127)]
        header = IPv6ExtHdrSegmentRouting(
            nh=41, len=254, segleft=127, lastentry=126, addresses=listed
        )
        frame = at_core(IPv6(src=NEIGHBOUR, dst=scene.SID_X, nh=43) / header / INNER)
        outcome = router.sid(frame)
        assert outcome.reasons == ("ENDPOINT",)
        assert Ether(outcome.frame)[IPv6].dst == listed[126]


class TestExtensionHeaders:
    """Between the outer header and what a SID is about."""

    @pytest.mark.parametrize("sid", [SID_DT6, scene.SID_X, scene.SID_END])
    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            (IPv6ExtHdrFragment(id=1, m=1), "FRAGMENT"),
            (IPv6ExtHdrFragment(id=1, offset=9), "FRAGMENT"),
            (IPv6ExtHdrFragment(id=1), "FRAGMENT"),
            (IPv6ExtHdrHopByHop(), "EXTENSIONS"),
            (IPv6ExtHdrDestOpt(), "EXTENSIONS"),
            (IPv6ExtHdrRouting(type=3), "EXTENSIONS"),
        ],
        ids=["first", "later", "atomic", "hop-by-hop", "destination", "routing"],
    )
    def test_before_and_behind_the_srh(
        self, router: Router, sid: str, header: Packet, reason: str
    ) -> None:
        bare = IPv6(src=NEIGHBOUR, dst=sid) / header / INNER
        to_kernel(router.sid(at_core(bare)), reason, at_core(bare))
        srh = IPv6ExtHdrSegmentRouting(
            nh=IPv6(bytes(bare)).nh, len=4, segleft=0, lastentry=1, addresses=[sid, SEGMENTS[0]]
        )
        behind = IPv6(src=NEIGHBOUR, dst=sid, nh=43) / srh / header / INNER
        to_kernel(router.sid(at_core(behind)), reason, at_core(behind))
        before = IPv6(src=NEIGHBOUR, dst=sid) / header / srh / INNER
        to_kernel(router.sid(at_core(before)), reason, at_core(before))

    def test_a_chain_without_end(self, router: Router) -> None:
        """A kilobyte of empty headers: steered by its prefix, and no SID looks into them.

        Where there are flow rules, which might name what comes at last, the kernel does.
        """
        scene.with_flows(router.tables)
        router.fill()
        chain = Raw(b"\x3c\0\1\4\0\0\0\0" * 120 + b"\x3b\0\1\4\0\0\0\0")
        packet = IPv6(src=NODE, dst=AWAY, nh=60) / chain
        to_kernel(router.steer(at_access(packet)), "EXTENSIONS", at_access(packet))
        router.tables.flows = {}
        router.fill()
        outcome = router.steer(at_access(packet))
        assert Ether(outcome.frame)[IPv6].dst == SEGMENTS[0]
        frame = at_core(IPv6(src=NEIGHBOUR, dst=SID_DT6, nh=60) / chain)
        to_kernel(router.sid(frame), "EXTENSIONS", frame)

    def test_a_routing_header_behind_a_routing_header(self, router: Router) -> None:
        second = IPv6ExtHdrSegmentRouting(nh=41, len=2, segleft=0, lastentry=0, addresses=[NODE])
        frame = at_core(to_sid(SID_DT6, second / INNER, following=43, before=SEGMENTS[:1]))
        to_kernel(router.sid(frame), "EXTENSIONS", frame)


class TestEntries:
    """Entries that are half there, or make no sense: the kernel's routes are complete."""

    def test_a_behavior_we_do_not_know(self, router: Router) -> None:
        for packet in (INNER, datagram4(IP_CORRESPONDENT, IP_NODE)):
            frame = at_core(to_sid(scene.SID_UNKNOWN, packet))
            to_kernel(router.sid(frame), "UNKNOWN_BEHAVIOR", frame)

    def test_a_path_that_is_not_there_yet(self, router: Router) -> None:
        frame = at_access(datagram(NODE, scene.LOST))
        to_kernel(router.steer(frame), "NO_PATH", frame)

    def test_ipv4_is_not_delivered_here(self, router: Router) -> None:
        assert router.tables.prefixes4[scene.IP_DELIVERED] == Steer(DELIVER)
        frame = at_outside(datagram4(IP_NODE, scene.IP_DELIVERED))
        to_kernel(router.steer(frame, "outside0"), "NO_PATH", frame)

    @pytest.mark.parametrize("action", [0, 4, 255, 2**32 - 1])
    def test_an_action_we_do_not_know(self, router: Router, action: int) -> None:
        key = bytes.fromhex("20010db800b10001")
        router.fastpath.maps["prefixes"].put(key, Steer(action, 1).pack())
        frame = at_access(datagram(NODE, AWAY))
        to_kernel(router.fastpath.send("steer", "access0", frame), "NO_PATH", frame)

    @pytest.mark.parametrize("length", [0, 1, 39, 145, 65535])
    def test_a_header_length_that_cannot_be(self, router: Router, length: int) -> None:
        packed = bytearray(router.tables.paths[1].pack())
        struct.pack_into("=H", packed, 4, length)
        router.fastpath.maps["paths"].put((1).to_bytes(4, "little"), bytes(packed))
        frame = at_access(datagram(NODE, AWAY))
        outcome = router.fastpath.send("steer", "access0", frame)
        to_kernel(outcome, "NO_PATH", frame)

    def test_an_mtu_of_0_lets_nothing_through(self, router: Router) -> None:
        router.tables.paths[1] = Path(1, scene.template(SEGMENTS[:1], True), mtu=0)
        router.fill()
        frame = at_access(IPv6(src=NODE, dst=AWAY, nh=59))
        to_kernel(router.steer(frame), "OVERSIZE", frame)

    @pytest.mark.parametrize(
        "destination", ["ff02::1", "ff0e::1", "fe80::1", "febf::1", "::1", "::"]
    )
    def test_an_entry_for_a_local_address_is_not_followed(
        self, router: Router, destination: str
    ) -> None:
        router.tables.prefixes[destination] = Steer(ENCAP, 1)
        router.fill()
        frame = at_access(datagram(NODE, destination))
        to_kernel(router.steer(frame), "LOCAL_SCOPE", frame)

    @pytest.mark.parametrize("source", ["ff02::1", "fe80::5", "fea0::5", "::1", "::"])
    def test_a_local_source_goes_no_further(self, router: Router, source: str) -> None:
        frame = at_access(datagram(source, AWAY))
        to_kernel(router.steer(frame), "LOCAL_SCOPE", frame)


class TestPorts:
    """A program at a port that is not its own leaves everything to the kernel."""

    @pytest.mark.parametrize("device", ["other0", "core0", "access1"])
    def test_steer_elsewhere(self, router: Router, device: str) -> None:
        frame = bytes(ether(device, scene.NODE_MAC) / datagram(NODE, AWAY))
        to_kernel(router.steer(frame, device), "NOT_OUR_PORT", frame)

    @pytest.mark.parametrize("device", ["other0", "access0", "outside0"])
    def test_sid_elsewhere(self, router: Router, device: str) -> None:
        frame = bytes(ether(device, scene.CORE_MAC) / to_sid(SID_DT6, INNER))
        to_kernel(router.sid(frame, device), "NOT_OUR_PORT", frame)

    def test_before_anything_is_configured(self, router: Router) -> None:
        router.fastpath.clear()
        for program in ("steer", "sid"):
            for frame in (at_access(datagram(NODE, AWAY)), at_core(to_sid(SID_DT6, INNER))):
                outcome = router.fastpath.send(program, "access0", frame)
                to_kernel(outcome, "NOT_OUR_PORT", frame)
