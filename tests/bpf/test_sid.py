"""Packets to a SID of this router: sent on with the next segment, or taken out and delivered.

RFC 8986 sections 4.1 (End), 4.2 (End.X), 4.5 (End.DX4), 4.6 (End.DT6); RFC 8754 section 4.3.1;
RFC 9433 section 6.2 (End.MAP); RFC 6040 section 4.2 (ECN).
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.bpf import scene
from tests.bpf.checked import Router, dropped, redirected, to_kernel
from tests.bpf.running import DEVICES, OK, REDIRECT
from tests.bpf.scene import (
    CORRESPONDENT,
    IP_CORRESPONDENT,
    IP_NODE,
    NODE,
    SEGMENTS,
    SID_DT6,
    SID_DX4,
    at_core,
    datagram,
    datagram4,
    ether,
    outer,
    to_sid,
)
from tests.bpf.tables import END_DT6, Sid

pytestmark = pytest.mark.root
LINK = ether("core0", scene.CORE_MAC)
INNER = datagram(CORRESPONDENT, NODE, hlim=40, tc=0x2E, fl=0x777)


def test_no_two_sids_have_the_same_sum_of_words() -> None:
    sums = {sum(struct.unpack("!8H", IPv6(dst=sid).build()[24:40])) for sid in scene.SIDS}
    assert len(sums) == len(scene.SIDS)


def moved_on(packet: Packet, destination: str, left: int | None = None, hops: int = 1) -> Packet:
    """What an endpoint makes of a packet: RFC 8986 section 4.1, lines S12 to S15.

    `hops` is 0 where the kernel's routes send it on: they decrement its hop limit.
    """
    done = packet.copy()
    done.hlim -= hops
    done.dst = destination
    if left is not None:
        done[IPv6ExtHdrSegmentRouting].segleft = left
    return done


class TestEnd:
    """End and End.X."""

    @pytest.mark.parametrize("length", range(2, 7))
    @pytest.mark.parametrize("sid", [scene.SID_END, scene.SID_END_TO, scene.SID_X])
    def test_the_next_segment_becomes_the_destination(
        self, router: Router, sid: str, length: int
    ) -> None:
        for position in range(length - 1):
            before, after = SEGMENTS[:position], SEGMENTS[position : length - 1]
            packet = to_sid(sid, INNER, before=before, after=after, hlim=33, tc=0xB9, fl=0xABCDE)
            outcome = router.sid(at_core(packet))
            verdict, hops = (OK, 0) if sid == scene.SID_END else (REDIRECT, 1)
            wanted = LINK / moved_on(packet, after[0], len(after) - 1, hops)
            assert outcome.frame == bytes(wanted)
            assert (outcome.verdict, outcome.reasons) == (verdict, ("ENDPOINT",))

    def test_a_reduced_list_is_taken_from_the_same_place(self, router: Router) -> None:
        """RFC 8986 section 5.2: Segments Left may be Last Entry + 1."""
        packet = outer((scene.SID_X, *SEGMENTS[:2]), True) / INNER
        assert packet[IPv6ExtHdrSegmentRouting].lastentry == 1
        assert packet[IPv6ExtHdrSegmentRouting].segleft == 2
        outcome = router.sid(at_core(packet))
        assert outcome.frame == bytes(LINK / moved_on(packet, SEGMENTS[0], 1))

    @pytest.mark.parametrize("inner", [Raw(b"x" * 30), datagram4(IP_CORRESPONDENT, IP_NODE)])
    def test_any_payload_is_carried(self, router: Router, inner: Packet) -> None:
        packet = to_sid(scene.SID_X, inner, following=17, after=SEGMENTS[:1])
        redirected(router.sid(at_core(packet)), "ENDPOINT", LINK / moved_on(packet, SEGMENTS[0], 0))

    @pytest.mark.parametrize("sid", [scene.SID_END, scene.SID_X])
    def test_counted_with_the_outer_header(self, router: Router, sid: str) -> None:
        packet = to_sid(sid, INNER, after=SEGMENTS[:1])
        index = router.tables.sids[sid].counter
        assert router.sid(at_core(packet)).counted == {index: (1, 40 + 40 + 148)}

    def test_the_vlan_tag_ends_here(self, router: Router) -> None:
        packet = to_sid(scene.SID_X, INNER, after=SEGMENTS[:2])
        outcome = router.sid(at_core(packet, vlan=8))
        redirected(outcome, "ENDPOINT", LINK / moved_on(packet, SEGMENTS[0], 1))

    def test_psp_is_the_kernels_at_the_last_but_one(self, router: Router) -> None:
        packet = to_sid(scene.SID_END_PSP, INNER, after=SEGMENTS[:2])
        outcome = router.sid(at_core(packet))
        assert outcome.frame == bytes(LINK / moved_on(packet, SEGMENTS[0], 1, hops=0))
        frame = at_core(to_sid(scene.SID_END_PSP, INNER, after=SEGMENTS[:1]))
        to_kernel(router.sid(frame), "UNKNOWN_BEHAVIOR", frame)

    @pytest.mark.parametrize("hop_limit", [0, 1])
    @pytest.mark.parametrize("sid", [scene.SID_END, scene.SID_X, scene.SID_MAP])
    def test_the_hop_limit_is_checked_first(self, router: Router, sid: str, hop_limit: int) -> None:
        for after in ((), SEGMENTS[:1]):
            frame = at_core(to_sid(sid, INNER, after=after, hlim=hop_limit))
            to_kernel(router.sid(frame), "HOP_LIMIT", frame)

    @pytest.mark.parametrize("sid", [scene.SID_END, scene.SID_X])
    def test_without_segments_left_it_is_the_kernels(self, router: Router, sid: str) -> None:
        for packet in (to_sid(sid, INNER), to_sid(sid, INNER, before=SEGMENTS[:2])):
            frame = at_core(packet)
            to_kernel(router.sid(frame), "SEGMENTS_LEFT", frame)


class TestContainers:
    """NEXT-C-SID (RFC 9800): the kernel's uN takes slots out, the programs leave it to that."""

    CONTAINER = "fd00:5a:21:22:23:24:25:26"

    def test_the_next_segment_may_be_a_container(self, router: Router) -> None:
        packet = to_sid(scene.SID_END, INNER, after=(self.CONTAINER, *SEGMENTS[:1]))
        outcome = router.sid(at_core(packet))
        assert outcome.frame == bytes(LINK / moved_on(packet, self.CONTAINER, 1, hops=0))
        assert (outcome.verdict, outcome.reasons) == (OK, ("ENDPOINT",))

    @pytest.mark.parametrize("behind", ["21:22:23:24:25", "1:22::", ":", "1::5", "0:1::"])
    def test_what_is_no_sid_of_its_own_in_the_locator_is_the_kernels(
        self, router: Router, behind: str
    ) -> None:
        """Slots that begin as a SID, too: only all 128 bits make one."""
        for after in ((), SEGMENTS[:1]):
            frame = at_core(to_sid(f"fd00:5a:11:{behind}", INNER, after=after))
            to_kernel(router.sid(frame), "NO_ENTRY", frame)


class TestMap:
    """End.MAP: another destination, the SRH as it was."""

    @pytest.mark.parametrize("sid", [scene.SID_MAP, scene.SID_MAP_TO])
    @pytest.mark.parametrize("after", [(), SEGMENTS[:2]])
    def test_it_is_replaced(self, router: Router, sid: str, after: tuple[str, ...]) -> None:
        packet = to_sid(sid, INNER, after=after, hlim=2)
        outcome = router.sid(at_core(packet))
        assert outcome.reasons == ("ENDPOINT",)
        verdict, hops = (OK, 0) if sid == scene.SID_MAP else (REDIRECT, 1)
        assert outcome.verdict == verdict
        assert outcome.frame == bytes(LINK / moved_on(packet, scene.MAPPED, hops=hops))


# RFC 6040, figure 4. Inner field by row, outer by column; 0 Not-ECT, 2 ECT(0), 1 ECT(1), 3 CE.
ECN: dict[int, dict[int, int | None]] = {
    0: {0: 0, 2: 0, 1: 0, 3: None},
    2: {0: 2, 2: 2, 1: 1, 3: 3},
    1: {0: 1, 2: 1, 1: 1, 3: 3},
    3: {0: 3, 2: 3, 1: 3, 3: 3},
}
CASES = [(inner, outside, left) for inner, row in ECN.items() for outside, left in row.items()]


class TestDecapsulation:
    """End.DT6 towards a node at one of our ports."""

    def test_the_greatest_that_the_port_takes_goes(self, router: Router) -> None:
        """What is larger stays as it came: the kernel takes it out and sends Packet Too Big."""
        router.tables.deliveries[NODE] = replace(router.tables.deliveries[NODE], mtu=300)
        router.fill()
        for size, reason in ((260, "DELIVERED"), (261, "OVERSIZE")):
            inner = IPv6(src=CORRESPONDENT, dst=NODE) / Raw(bytes(size))
            frame = at_core(to_sid(SID_DT6, inner, before=SEGMENTS[:1]))
            outcome = router.sid(frame)
            assert outcome.reasons == (reason,)
            assert (outcome.frame == frame) == (reason == "OVERSIZE")

    @pytest.mark.parametrize("count", range(6))
    def test_the_outer_headers_go(self, router: Router, count: int) -> None:
        packet = to_sid(SID_DT6, INNER, before=SEGMENTS[:count], hlim=1, tc=0x48, fl=5)
        inner = datagram(CORRESPONDENT, NODE, hlim=39, tc=0x2E, fl=0x777)
        outcome = router.sid(at_core(packet))
        redirected(outcome, "DELIVERED", LINK / inner)
        carried = 40 + (8 + 16 * (count + 1) if count else 0)
        assert outcome.counted == {34: (1, 148 + carried), 1: (1, 148), 20: (1, 148)}

    def test_what_h_encaps_red_makes_is_taken_apart(self, router: Router) -> None:
        packet = outer((*SEGMENTS[:2], SID_DT6), True) / INNER
        packet.dst, packet[IPv6ExtHdrSegmentRouting].segleft = SID_DT6, 0
        inner = datagram(CORRESPONDENT, NODE, hlim=39, tc=0x2E, fl=0x777)
        redirected(router.sid(at_core(packet)), "DELIVERED", LINK / inner)

    def test_straight_into_a_veth(self, router: Router) -> None:
        packet = to_sid(SID_DT6, datagram(CORRESPONDENT, scene.PEER_NODE, hlim=2))
        link = Ether(dst="02:00:00:00:03:03", src=DEVICES["access1"])
        inner = datagram(CORRESPONDENT, scene.PEER_NODE, hlim=1)
        redirected(router.sid(at_core(packet)), "DELIVERED", link / inner)

    def test_from_a_vlan(self, router: Router) -> None:
        packet = to_sid(SID_DT6, INNER, before=SEGMENTS[:1])
        inner = datagram(CORRESPONDENT, NODE, hlim=39, tc=0x2E, fl=0x777)
        redirected(router.sid(at_core(packet, vlan=8)), "DELIVERED", LINK / inner)

    def test_padding_of_the_frame_does_not_count(self, router: Router) -> None:
        packet = to_sid(SID_DT6, IPv6(src=CORRESPONDENT, dst=NODE) / Raw(b"123"))
        outcome = router.sid(at_core(packet) + bytes(9))
        assert outcome.counted == {34: (1, 83), 1: (1, 43), 20: (1, 43)}

    @pytest.mark.parametrize(("inner", "outside", "left"), CASES)
    @pytest.mark.parametrize("dscp", [0, 46, 63])
    def test_ecn(
        self, router: Router, inner: int, outside: int, left: int | None, dscp: int
    ) -> None:
        """The outer DSCP goes, the outer mark of congestion stays."""
        packet = datagram(CORRESPONDENT, NODE, tc=dscp << 2 | inner, fl=0x98765)
        frame = at_core(to_sid(SID_DT6, packet, tc=(dscp ^ 21) << 2 | outside))
        outcome = router.sid(frame)
        if left is None:
            dropped(outcome, "ECN", frame)
            return
        wanted = datagram(CORRESPONDENT, NODE, tc=dscp << 2 | left, fl=0x98765, hlim=63)
        redirected(outcome, "DELIVERED", LINK / wanted)

    @pytest.mark.parametrize("hop_limit", [0, 1])
    def test_time_exceeded_is_the_kernels_to_send(self, router: Router, hop_limit: int) -> None:
        frame = at_core(to_sid(SID_DT6, datagram(CORRESPONDENT, NODE, hlim=hop_limit)))
        to_kernel(router.sid(frame), "HOP_LIMIT", frame)

    def test_not_with_segments_left(self, router: Router) -> None:
        frame = at_core(to_sid(SID_DT6, INNER, after=SEGMENTS[:1]))
        to_kernel(router.sid(frame), "SEGMENTS_LEFT", frame)

    @pytest.mark.parametrize(
        ("inner", "following"),
        [(datagram4(IP_CORRESPONDENT, IP_NODE), 4), (Raw(b"y" * 60), 17), (Raw(b"z" * 60), 59)],
    )
    def test_only_ipv6_is_taken_out(self, router: Router, inner: Packet, following: int) -> None:
        for before in ((), SEGMENTS[:1]):
            frame = at_core(to_sid(SID_DT6, inner, following=following, before=before))
            to_kernel(router.sid(frame), "INNER", frame)

    @pytest.mark.parametrize("destination", [CORRESPONDENT, scene.GHOST, "ff02::1", "fe80::1"])
    def test_who_is_not_here_is_the_kernels(self, router: Router, destination: str) -> None:
        frame = at_core(to_sid(SID_DT6, datagram(CORRESPONDENT, destination)))
        to_kernel(router.sid(frame), "NOT_HERE", frame)

    @pytest.mark.parametrize("source", ["::", "::1", "ff02::1", "fe80::1"])
    @pytest.mark.parametrize("destination", [NODE, scene.MOVED, scene.LEFT])
    def test_a_source_that_no_router_forwards_is_the_kernels(
        self, router: Router, source: str, destination: str
    ) -> None:
        """RFC 4291 sections 2.5 and 2.7: an endpoint is a router to what it finds."""
        frame = at_core(to_sid(SID_DT6, datagram(source, destination)))
        to_kernel(router.sid(frame), "LOCAL_SCOPE", frame)

    def test_packets_to_a_node_that_just_left_are_dropped(self, router: Router) -> None:
        frame = at_core(to_sid(SID_DT6, datagram(CORRESPONDENT, scene.LEFT)))
        dropped(router.sid(frame), "NODE_LEFT", frame)

    def test_a_super_packet_that_the_kernel_will_not_shrink_is_left_whole(
        self, router: Router
    ) -> None:
        """A type of GSO it does not know: here, none, as BPF_PROG_TEST_RUN cannot say one."""
        frame = at_core(to_sid(SID_DT6, INNER))
        outcome = router.send("sid", "core0", frame, gso=(50, 2))
        to_kernel(outcome, "ADJUST_FAILED", frame)


class TestLatePackets:
    """A node has moved on: its packets follow in place, with one other destination."""

    @pytest.mark.parametrize("count", range(4))
    def test_the_last_segment_becomes_the_destination(self, router: Router, count: int) -> None:
        inner = datagram(CORRESPONDENT, scene.MOVED, hlim=1, tc=3)
        packet = to_sid(SID_DT6, inner, before=SEGMENTS[:count], hlim=2, tc=0xB9, fl=0x4321)
        outcome = router.sid(at_core(packet))
        redirected(outcome, "REDIRECTED", LINK / moved_on(packet, scene.LAST))
        assert outcome.counted == {34: (1, len(packet)), 11: (1, len(packet))}

    def test_from_a_vlan(self, router: Router) -> None:
        packet = to_sid(SID_DT6, datagram(CORRESPONDENT, scene.MOVED), before=SEGMENTS[:1])
        outcome = router.sid(at_core(packet, vlan=8))
        redirected(outcome, "REDIRECTED", LINK / moved_on(packet, scene.LAST))

    @pytest.mark.parametrize("hop_limit", [0, 1])
    def test_the_outer_hop_limit_ends_loops(self, router: Router, hop_limit: int) -> None:
        frame = at_core(to_sid(SID_DT6, datagram(CORRESPONDENT, scene.MOVED), hlim=hop_limit))
        to_kernel(router.sid(frame), "HOP_LIMIT", frame)

    def test_a_path_of_several_segments_is_the_kernels(self, router: Router) -> None:
        frame = at_core(to_sid(SID_DT6, datagram(CORRESPONDENT, scene.MOVED_FAR)))
        to_kernel(router.sid(frame), "NOT_IN_PLACE", frame)

    def test_a_path_that_is_not_there_yet_is_the_kernels(self, router: Router) -> None:
        frame = at_core(to_sid(SID_DT6, datagram(CORRESPONDENT, scene.LOST)))
        to_kernel(router.sid(frame), "NO_PATH", frame)


class TestIPv4:
    """End.DX4."""

    @pytest.mark.parametrize("count", range(4))
    @pytest.mark.parametrize("vlan", [None, 8])
    def test_the_outer_headers_go(self, router: Router, count: int, vlan: int | None) -> None:
        inner = datagram4(IP_CORRESPONDENT, IP_NODE, ttl=2, tos=0xB8, id=99)
        packet = to_sid(SID_DX4, inner, following=4, before=SEGMENTS[:count], hlim=1)
        outcome = router.sid(at_core(packet, vlan))
        link = Ether(dst=scene.NODE_MAC, src=DEVICES["access0"])
        wanted = link / datagram4(IP_CORRESPONDENT, IP_NODE, ttl=1, tos=0xB8, id=99)
        assert (outcome.verdict, outcome.reasons) == (REDIRECT, ("DELIVERED",))
        assert outcome.frame == bytes(wanted)
        assert outcome.counted == {35: (1, len(packet))}

    @pytest.mark.parametrize(("inner", "outside", "left"), CASES)
    def test_ecn(self, router: Router, inner: int, outside: int, left: int | None) -> None:
        packet = datagram4(IP_CORRESPONDENT, IP_NODE, tos=0x48 | inner)
        frame = at_core(to_sid(SID_DX4, packet, following=4, tc=outside))
        outcome = router.sid(frame)
        if left is None:
            dropped(outcome, "ECN", frame)
        else:
            assert outcome.reasons == ("DELIVERED",)
            wanted = datagram4(IP_CORRESPONDENT, IP_NODE, tos=0x48 | left, ttl=63)
            assert Ether(outcome.frame)[IP] == IP(bytes(wanted))

    @pytest.mark.parametrize("hop_limit", [0, 1])
    def test_time_exceeded_is_the_kernels_to_send(self, router: Router, hop_limit: int) -> None:
        packet = datagram4(IP_CORRESPONDENT, IP_NODE, ttl=hop_limit)
        frame = at_core(to_sid(SID_DX4, packet, following=4))
        to_kernel(router.sid(frame), "HOP_LIMIT", frame)

    @pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
    def test_addresses_that_no_router_forwards_are_the_kernels(
        self, router: Router, address: str
    ) -> None:
        for inner in (datagram4(address, IP_NODE), datagram4(IP_CORRESPONDENT, address)):
            frame = at_core(to_sid(SID_DX4, inner, following=4))
            to_kernel(router.sid(frame), "LOCAL_SCOPE", frame)

    def test_a_wrong_checksum_is_the_kernels_to_see(self, router: Router) -> None:
        inner = datagram4(IP_CORRESPONDENT, IP_NODE)
        inner.chksum = IP(bytes(inner)).chksum ^ 0x0101
        frame = at_core(to_sid(SID_DX4, inner, following=4))
        to_kernel(router.sid(frame), "BAD_CHECKSUM", frame)

    def test_ipv6_is_not_for_it(self, router: Router) -> None:
        frame = at_core(to_sid(SID_DX4, INNER))
        to_kernel(router.sid(frame), "INNER", frame)

    def test_not_with_segments_left(self, router: Router) -> None:
        inner = datagram4(IP_CORRESPONDENT, IP_NODE)
        frame = at_core(to_sid(SID_DX4, inner, following=4, after=SEGMENTS[:1]))
        to_kernel(router.sid(frame), "SEGMENTS_LEFT", frame)

    def test_without_a_neighbour_it_is_the_kernels(self, router: Router) -> None:
        inner = datagram4(IP_CORRESPONDENT, IP_NODE)
        frame = at_core(to_sid(scene.SID_DX4_NOWHERE, inner, following=4))
        to_kernel(router.sid(frame), "NOT_HERE", frame)

    @pytest.mark.parametrize(("more", "reason"), [(0, "DELIVERED"), (1, "OVERSIZE")])
    @pytest.mark.parametrize("flags", ["", "DF"])
    def test_the_greatest_that_the_device_takes_goes(
        self, router: Router, more: int, reason: str, flags: str
    ) -> None:
        """What is larger the kernel cuts up, or answers with Fragmentation Needed."""
        inner = IP(src=IP_CORRESPONDENT, dst=IP_NODE, flags=flags) / Raw(bytes(1480 + more))
        frame = at_core(to_sid(SID_DX4, inner, following=4))
        outcome = router.sid(frame)
        assert outcome.reasons == (reason,)
        assert (outcome.frame == frame) == bool(more)


class TestTrailer:
    """What follows a packet in its frame, or an inner packet in its tunnel, goes no further."""

    @pytest.mark.parametrize("vlan", [None, 8])
    @pytest.mark.parametrize("more", [1, 30, 1500])
    @pytest.mark.parametrize(
        "packet",
        [
            to_sid(scene.SID_X, INNER, after=SEGMENTS[:2]),
            to_sid(scene.SID_END, INNER, after=SEGMENTS[:2]),
            to_sid(scene.SID_MAP_TO, INNER),
            to_sid(SID_DT6, INNER, before=SEGMENTS[:1]),
            to_sid(SID_DT6, datagram(CORRESPONDENT, scene.MOVED)),
            to_sid(SID_DX4, datagram4(IP_CORRESPONDENT, IP_NODE), 4),
        ],
        ids=["end.x", "end", "map", "dt6", "late", "dx4"],
    )
    def test_it_is_left_behind(
        self, router: Router, packet: Packet, more: int, vlan: int | None
    ) -> None:
        frame = at_core(packet, vlan)
        without = router.sid(frame)
        assert without.reasons[0] in ("ENDPOINT", "DELIVERED", "REDIRECTED")
        assert router.sid(frame + b"t" * more) == without

    @pytest.mark.parametrize(
        ("sid", "inner", "following"),
        [(SID_DT6, INNER, 41), (SID_DX4, datagram4(IP_CORRESPONDENT, IP_NODE), 4)],
    )
    def test_within_the_tunnel_too(
        self, router: Router, sid: str, inner: Packet, following: int
    ) -> None:
        without = router.sid(at_core(to_sid(sid, inner, following)))
        longer = IPv6(bytes(to_sid(sid, inner, following)))
        longer.plen += 9
        outcome = router.sid(at_core(longer) + b"t" * 9)
        assert outcome.reasons == ("DELIVERED",)
        assert outcome.frame == without.frame


class TestWhoMaySpeakToASid:
    """RFC 8754 section 5.1, and what is no SID at all."""

    @pytest.mark.parametrize("sid", [s for s in scene.SIDS if s.startswith("fd00:5a:11:")])
    @pytest.mark.parametrize("source", ["2001:db8:bad::1", NODE, "fe80::1", "::", "fd00:5b::1"])
    def test_a_source_outside_the_block_is_dropped(
        self, router: Router, sid: str, source: str
    ) -> None:
        for after in ((), SEGMENTS[:1]):
            frame = at_core(to_sid(sid, INNER, source=source, after=after))
            dropped(router.sid(frame), "OUTER_SOURCE", frame)

    def test_without_a_block_anybody_may(self, router: Router) -> None:
        router.tables = replace(router.tables, sid_block=None)
        router.fill()
        frame = at_core(to_sid(SID_DT6, INNER, source="2001:db8:bad::1"))
        assert router.sid(frame).reasons == ("DELIVERED",)

    @pytest.mark.parametrize("destination", [NODE, SEGMENTS[0], scene.AWAY, "ff02::1", "fe80::2"])
    def test_what_is_no_sid_of_ours_is_routed(self, router: Router, destination: str) -> None:
        frame = at_core(to_sid(destination, INNER, after=SEGMENTS[1:2]))
        to_kernel(router.sid(frame), "NO_ENTRY", frame)

    def test_a_sid_matches_in_all_its_bits(self, router: Router) -> None:
        for other in ("fd00:5a:11:5::1", "fd00:5a:11:5:8000::", "fd00:5a:11:5:0:0:1:0"):
            frame = at_core(to_sid(other, INNER))
            to_kernel(router.sid(frame), "NO_ENTRY", frame)

    @pytest.mark.parametrize("destination", ["02:00:00:00:c1:01", "ff:ff:ff:ff:ff:ff"])
    def test_a_frame_to_another_host_is_left_alone(self, router: Router, destination: str) -> None:
        for sid in (SID_DT6, scene.SID_X):
            packet = to_sid(sid, INNER, after=SEGMENTS[:1])
            frame = bytes(Ether(dst=destination, src=scene.CORE_MAC) / packet)
            to_kernel(router.sid(frame), "OTHER_HOST", frame)

    def test_a_removed_sid_is_one_no_more(self, router: Router) -> None:
        frame = at_core(to_sid(SID_DT6, INNER))
        assert router.sid(frame).reasons == ("DELIVERED",)
        del router.tables.sids[SID_DT6]
        router.tables.sids[scene.LAST] = Sid(END_DT6)
        router.fill()
        to_kernel(router.sid(frame), "NO_ENTRY", frame)
        assert router.sid(at_core(to_sid(scene.LAST, INNER))).reasons == ("DELIVERED",)
