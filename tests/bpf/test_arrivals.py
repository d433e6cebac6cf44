"""Who may send at an access port, and what tells the agent of a node that has come.

RFC 5213 section 6.10.5 (sources), RFC 4861 (Router Solicitation), RFC 4862 (duplicate address
detection), RFC 8754 section 5.1 (the SID block).
"""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv6Network
from typing import Any

import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from srv6dmm.dataplane import namespace
from tests.bpf import scene
from tests.bpf.checked import Router, dropped, to_kernel
from tests.bpf.running import DEVICES, Event
from tests.bpf.scene import AWAY, CORRESPONDENT, NODE, at_access, at_outside, datagram, datagram4
from tests.bpf.tables import ACCESS, Port, mac, octets

pytestmark = pytest.mark.root
SOLICITATION, DAD, DATA = 1, 2, 3
STRANGER = "2001:db8:bad::66"


def came(packet: Packet, source: str, destination: str = "33:33:00:00:00:02") -> bytes:
    """A frame at access0 from some link-layer address."""
    return bytes(Ether(dst=destination, src=source) / packet)


def solicitation(source: str = "fe80::66", **fields: Any) -> Packet:
    """A Router Solicitation."""
    fields.setdefault("hlim", 255)
    return IPv6(src=source, dst="ff02::2", **fields) / ICMPv6ND_RS()


def detection(target: str, **fields: Any) -> Packet:
    """A Neighbour Solicitation of duplicate address detection."""
    fields.setdefault("hlim", 255)
    group = f"ff02::1:ff{target[-2:]}:1"
    return IPv6(src="::", dst=group, **fields) / ICMPv6ND_NS(tgt=target)


class TestEvents:
    """One event per node and gap; the packet itself goes its way."""

    def test_a_router_solicitation(self, router: Router) -> None:
        source = "02:00:00:00:66:01"
        frame = came(solicitation(), source)
        to_kernel(router.steer(frame), "LOCAL_SCOPE", frame)
        wanted = Event(SOLICITATION, router.devices["access0"], 0, mac(source), octets("fe80::66"))
        assert router.events() == [wanted]

    def test_a_router_solicitation_of_a_node_without_address(self, router: Router) -> None:
        packet = solicitation("::")
        router.steer(came(packet, "02:00:00:00:66:01"))
        assert [event.kind for event in router.events()] == [SOLICITATION]

    @pytest.mark.parametrize("target", ["fe80::1:66", "2001:db8:a1:1::77"])
    def test_duplicate_address_detection_names_its_target(
        self, router: Router, target: str
    ) -> None:
        source = "02:00:00:00:66:02"
        frame = came(detection(target), source, "33:33:ff:00:00:66")
        to_kernel(router.steer(frame), "LOCAL_SCOPE", frame)
        assert router.events() == [
            Event(DAD, router.devices["access0"], 0, mac(source), octets(target))
        ]

    def test_data_of_an_unknown_source(self, router: Router) -> None:
        source = "02:00:00:00:66:03"
        frame = came(datagram(STRANGER, AWAY), source, DEVICES["access0"])
        dropped(router.steer(frame), "SOURCE_UNBOUND", frame)
        assert router.events() == [
            Event(DATA, router.devices["access0"], 0, mac(source), octets(STRANGER))
        ]

    def test_the_vlan_is_named(self, router: Router) -> None:
        router.tables.ports[(router.devices["access0"], 9)] = Port(ACCESS, detect=True)
        router.fill()
        router.steer(at_access(solicitation(), vlan=9))
        assert [event.vlan for event in router.events()] == [9]

    @pytest.mark.parametrize(
        "packet",
        [
            solicitation(hlim=254),
            detection("fe80::1:66", hlim=64),
            IPv6(src="fe80::66", dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt="fe80::1"),
            IPv6(src="fe80::66", dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt="fe80::66"),
            IPv6(src="fe80::66", dst="ff02::2", hlim=255, nh=58) / bytes([133, 0, 0]),
            IPv6(src="::", dst="ff02::1:ff00:1", hlim=255, nh=58) / bytes([135, *bytes(22)]),
            IPv6(src="fe80::66", dst="ff02::16", hlim=255, nh=17) / bytes([133, *bytes(20)]),
        ],
        ids=["routed", "routed-ns", "resolution", "na", "short-rs", "short-ns", "udp"],
    )
    def test_what_is_none(self, router: Router, packet: Packet) -> None:
        """RFC 4861 section 6.1.1: hop limit 255, and long enough."""
        frame = came(packet, "02:00:00:00:66:04")
        to_kernel(router.steer(frame), "LOCAL_SCOPE", frame)
        assert router.events() == []

    def test_a_bound_source_is_no_news(self, router: Router) -> None:
        router.steer(at_access(datagram(NODE, AWAY)))
        assert router.events() == []

    def test_nothing_is_told_where_nothing_is_detected(self, router: Router) -> None:
        router.tables.ports[(router.devices["access0"], 0)] = Port(ACCESS)
        router.fill()
        router.steer(came(solicitation(), "02:00:00:00:66:05"))
        router.steer(came(datagram(STRANGER, AWAY), "02:00:00:00:66:05"))
        assert router.events() == []

    def test_one_event_per_node_and_gap(self, router: Router) -> None:
        router.tables.event_gap_ms = 3_600_000
        router.fill()
        for source in ("02:00:00:00:66:06", "02:00:00:00:66:07"):
            for _ in range(5):
                router.steer(came(solicitation(), source))
                router.steer(came(detection("fe80::1:66"), source))
                frame = came(datagram(STRANGER, AWAY), source)
                dropped(router.steer(frame), "SOURCE_UNBOUND", frame)
        assert [event.mac[5] for event in router.events()] == [0x06, 0x07]

    @pytest.mark.parametrize(("ago_ms", "told"), [(50_000, 0), (70_000, 1)])
    def test_after_the_gap_there_is_another(self, router: Router, ago_ms: int, told: int) -> None:
        router.tables.event_gap_ms = 60_000
        router.fill()
        source = "02:00:00:00:66:08"
        then = time.monotonic_ns() // 1_000_000 - ago_ms
        router.fastpath.maps["quiet"].put(mac(source) + b"\0\0", then.to_bytes(8, "little"))
        router.steer(came(solicitation(), source))
        assert len(router.events()) == told

    def test_without_a_gap_each_is_told(self, router: Router) -> None:
        router.tables.event_gap_ms = 0
        router.fill()
        for _ in range(4):
            router.steer(came(solicitation(), "02:00:00:00:66:09"))
        assert len(router.events()) == 4

    def test_many_nodes_together_have_a_limit(self, router: Router) -> None:
        """Link-layer addresses cost nothing: a flood of them must not fill the ring."""
        router.tables.event_gap_ms = 60_000
        router.fill()
        run = router.fastpath.programs["steer"].runner(router.devices["access0"])
        frame = came(solicitation(), "06:00:00:00:00:00")
        for number in range(300):
            run(frame[:10] + number.to_bytes(2, "big") + frame[12:])
        told = [event.mac[4:] for event in router.events()]
        assert told == [number.to_bytes(2, "big") for number in range(256)]
        together, quiet = (1 << 48).to_bytes(8, "little"), router.fastpath.maps["quiet"]
        began = time.monotonic_ns() // 1_000_000 - 60_001
        quiet.put(together, (began << 16 | 256).to_bytes(8, "little"))
        run(frame[:10] + (299).to_bytes(2, "big") + frame[12:])
        assert [event.mac[4:] for event in router.events()] == [(299).to_bytes(2, "big")]

    def test_an_event_that_finds_no_room_is_told_later(self, router: Router) -> None:
        router.tables.event_gap_ms = 0
        router.fill()
        room = router.fastpath.ring.size // 48  # 40 octets and the record's header
        run = router.fastpath.programs["steer"].runner(router.devices["access0"])
        with namespace.inside(router.fastpath.space):
            frame = came(solicitation(), "06:00:00:00:00:00")
            for number in range(room):
                run(frame[:10] + number.to_bytes(2, "big") + frame[12:])
        late = came(solicitation(), "02:00:00:00:66:0a")
        to_kernel(router.steer(late), "LOCAL_SCOPE", late)
        told = router.events()
        assert len({event.mac for event in told}) == len(told)
        assert room - 2 <= len(told) <= room
        assert mac("02:00:00:00:66:0a") not in {event.mac for event in told}
        router.steer(late)
        assert [event.mac for event in router.events()] == [mac("02:00:00:00:66:0a")]


class TestSources:
    """The /64, the port, the VLAN and the link-layer address must be those of one binding."""

    def spoofed(self, router: Router, frame: bytes, device: str = "access0") -> None:
        dropped(router.steer(frame, device), "SOURCE_UNBOUND", frame)

    def test_every_address_of_the_prefix_may_send(self, router: Router) -> None:
        for source in ("2001:db8:a1:1::", "2001:db8:a1:1:ffff:ffff:ffff:ffff"):
            assert router.steer(at_access(datagram(source, AWAY))).reasons == ("STEERED",)

    @pytest.mark.parametrize(
        "source",
        [STRANGER, scene.TAGGED_NODE, "2001:db8:a1:0::5", "2001:db8:a1:3::5", CORRESPONDENT],
    )
    def test_no_other_prefix_may(self, router: Router, source: str) -> None:
        self.spoofed(router, at_access(datagram(source, AWAY)))

    def test_no_other_link_layer_address_may(self, router: Router) -> None:
        for changed in range(6):
            source = bytearray(mac(scene.NODE_MAC))
            source[changed] ^= 0x10
            frame = bytearray(at_access(datagram(NODE, AWAY)))
            frame[6:12] = source
            self.spoofed(router, bytes(frame))

    def test_not_at_another_port(self, router: Router) -> None:
        link = Ether(dst=DEVICES["access1"], src=scene.NODE_MAC)
        router.tables.ports[(router.devices["access1"], 0)] = Port(ACCESS)
        router.fill()
        self.spoofed(router, bytes(link / datagram(NODE, AWAY)), "access1")

    def test_not_in_another_vlan(self, router: Router) -> None:
        router.tables.ports[(router.devices["access0"], 11)] = Port(ACCESS)
        router.fill()
        self.spoofed(router, at_access(datagram(NODE, AWAY), vlan=11))

    def test_not_even_to_where_the_kernel_routes(self, router: Router) -> None:
        self.spoofed(router, at_access(datagram(STRANGER, CORRESPONDENT)))
        self.spoofed(router, at_access(datagram(STRANGER, scene.LEFT)))
        self.spoofed(router, at_access(datagram(STRANGER, AWAY, hlim=1)))

    def test_outside_anybody_may(self, router: Router) -> None:
        frame = at_outside(datagram(STRANGER, AWAY))
        assert router.steer(frame, "outside0").reasons == ("STEERED",)

    def test_neighbour_discovery_needs_no_binding(self, router: Router) -> None:
        packet = IPv6(src=STRANGER, dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt="fe80::1")
        frame = at_access(packet / ICMPv6NDOptSrcLLAddr(lladdr=scene.NODE_MAC))
        to_kernel(router.steer(frame), "LOCAL_SCOPE", frame)


class TestSidBlock:
    """No SID can be reached from outside the domain."""

    @pytest.mark.parametrize(
        "destination", [*scene.SIDS, "fd00:5a::", "fd00:5a:ffff:ffff:ffff:ffff:ffff:ffff"]
    )
    def test_packets_to_it_are_dropped(self, router: Router, destination: str) -> None:
        for source in (NODE, STRANGER, scene.NEIGHBOUR):
            frame = at_access(datagram(source, destination))
            dropped(router.steer(frame), "TO_SID_BLOCK", frame)
            frame = at_outside(datagram(source, destination))
            dropped(router.steer(frame, "outside0"), "TO_SID_BLOCK", frame)
        frame = at_access(datagram(NODE, destination), vlan=9)
        dropped(router.steer(frame), "TO_SID_BLOCK", frame)

    @pytest.mark.parametrize("destination", ["fd00:59:ffff::1", "fd00:5b::", "fc00:5a::1"])
    def test_its_neighbours_are_not(self, router: Router, destination: str) -> None:
        frame = at_access(datagram(NODE, destination))
        to_kernel(router.steer(frame), "NO_ENTRY", frame)

    def test_a_block_may_end_within_the_low_half(self, router: Router) -> None:
        router.tables.sid_block = IPv6Network("fd00:5a:11:1:8000::/65")
        router.fill()
        inside = at_access(datagram(NODE, "fd00:5a:11:1:8000::1"))
        dropped(router.steer(inside), "TO_SID_BLOCK", inside)
        below = at_access(datagram(NODE, "fd00:5a:11:1:7fff::1"))
        to_kernel(router.steer(below), "NO_ENTRY", below)

    def test_without_a_block_nothing_is_dropped(self, router: Router) -> None:
        router.tables = replace(router.tables, sid_block=None)
        router.fill()
        frame = at_access(datagram(NODE, scene.SID_DT6))
        to_kernel(router.steer(frame), "NO_ENTRY", frame)


class TestOtherHost:
    """A frame to another link-layer address is another router's, or nobody's, to forward."""

    @pytest.mark.parametrize(
        "destination", ["02:00:00:00:a1:01", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"]
    )
    @pytest.mark.parametrize(
        "packet",
        [
            datagram(NODE, AWAY),
            datagram(NODE, scene.PEER_NODE),
            datagram4(scene.IP_NODE, scene.IP_AWAY),
        ],
        ids=["encap", "deliver", "ipv4"],
    )
    def test_it_is_left_alone(self, router: Router, destination: str, packet: Packet) -> None:
        frame = bytes(Ether(dst=destination, src=scene.NODE_MAC) / packet)
        device = "access0" if IPv6 in packet else "outside0"
        to_kernel(router.steer(frame, device), "OTHER_HOST", frame)
