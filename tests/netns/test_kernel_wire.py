"""What our routes do to packets on the wire: order of segments, and where End.X sends them."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

import pytest

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    KernelObject,
    LinkAddress,
    Neighbour,
    NextHop,
    Route,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.sid import Behavior, EncapMode
from tests.netns.kernels import Space, cable, spaces

pytestmark = pytest.mark.root

HOST_MAC, ROUTER_MAC, LEFT_MAC, RIGHT_MAC = (f"02:00:00:00:00:0{index}" for index in (1, 2, 3, 4))
SOURCE, TARGET = IPv6Address("2001:db8:2::2"), IPv6Address("2001:db8:1::9")
TUNNEL_SOURCE = IPv6Address("fc00:9::1")
FIRST, SECOND, THIRD = (IPv6Address(f"fc00:{index}::e00") for index in (3, 1, 2))
PORT = 7777
ROUTING, IPV6, UDP = 43, 41, 17


@dataclass
class Wire:
    """host --h0/a0-- router --left/l0-- sink, and router --right/r0-- sink."""

    host: Space
    router: Space
    sink: Space
    kernel: LinuxKernel


@pytest.fixture
def wire() -> Iterator[Wire]:
    with spaces(3) as (host, router, sink):
        cable(host, "h0", router, "a0")
        cable(router, "left", sink, "l0")
        cable(router, "right", sink, "r0")
        kernel = LinuxKernel(router.name)
        sources = LinuxKernel(host.name)
        sinks = LinuxKernel(sink.name)
        assert sources.put([
            LinkAddress("h0", HOST_MAC),
            InterfaceAddress("h0", SOURCE, 64),
            Neighbour("h0", IPv6Address("fe80::1"), ROUTER_MAC),
            Route(IPv6Network("::/0"), next_hops=(NextHop("h0", IPv6Address("fe80::1")),)),
        ]) == []  # fmt: skip
        assert sinks.put([LinkAddress("l0", LEFT_MAC), LinkAddress("r0", RIGHT_MAC)]) == []
        assert kernel.put([
            Sysctl("net/ipv6/conf/all/forwarding", "1"),
            LinkAddress("a0", ROUTER_MAC),
            InterfaceAddress("a0", IPv6Address("fe80::1"), 64),
            InterfaceAddress("lo", TUNNEL_SOURCE, 128),
            TunnelSource(TUNNEL_SOURCE),
            *(Neighbour("left", sid, LEFT_MAC) for sid in (FIRST, SECOND, THIRD)),
            Route(IPv6Network("fc00::/16"), next_hops=(NextHop("left"),)),
            Neighbour("left", IPv6Address("fe80::2"), LEFT_MAC),
            Neighbour("right", IPv6Address("fe80::2"), RIGHT_MAC),
        ]) == []  # fmt: skip
        yield Wire(host, router, sink, kernel)
        for opened in (kernel, sources, sinks):
            opened.close()


def listen(space: Space, interface: str) -> socket.socket:
    with namespace.inside(space.name):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))
        tap.bind((interface, 0x86DD))
    tap.setblocking(False)
    return tap


def first_of(taps: list[socket.socket], payload: bytes) -> tuple[socket.socket, bytes]:
    """Return the tap and the packet (from its IPv6 header on) that carries a payload."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        readable, _, _ = select.select(taps, [], [], until - time.monotonic())
        for tap in readable:
            packet = tap.recv(4096)
            if packet.endswith(payload):
                return tap, packet
    pytest.fail(f"no packet with {payload!r} within 5 seconds")


def send(space: Space, target: IPv6Address, payload: bytes) -> None:
    with namespace.inside(space.name):
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(payload, (str(target), PORT))


def routing_header(packet: bytes) -> tuple[int, tuple[IPv6Address, ...]]:
    """Return segments left and the list as it lies on the wire."""
    assert packet[6] == ROUTING
    left, last_entry = packet[43], packet[44]
    entries = [packet[48 + 16 * index : 64 + 16 * index] for index in range(last_entry + 1)]
    assert packet[41] == 2 * len(entries)
    return left, tuple(IPv6Address(entry) for entry in entries)


def destination(packet: bytes) -> IPv6Address:
    return IPv6Address(packet[24:40])


def steer(wire: Wire, mode: EncapMode, segments: tuple[IPv6Address, ...]) -> bytes:
    """Steer the target by our bytes, then by iproute2; both must give the same packet."""
    route = Route(
        IPv6Network(f"{TARGET}/128"), next_hops=(NextHop("left"),), encap=Seg6Encap(mode, segments)
    )
    words = ("encap", "seg6", "mode", str(mode), "segs", ",".join(map(str, segments)))
    seen = []
    with listen(wire.sink, "l0") as tap:
        assert wire.kernel.put([route]) == []
        send(wire.host, TARGET, b"by us")
        seen.append(first_of([tap], b"by us")[1])
        assert wire.kernel.delete([route]) == []
        wire.router.ip("-6", "route", "add", str(route.prefix), *words, "dev", "left")
        send(wire.host, TARGET, b"by us")
        seen.append(first_of([tap], b"by us")[1])
    # The outer flow label and the UDP source port and checksum differ from packet to packet.
    header = 40 + (8 + 16 * (len(segments) + 1) if mode is EncapMode.INLINE else 0)
    assert seen[0][4:header] == seen[1][4:header]
    return seen[0]


def test_encap_visits_the_segments_in_order(wire: Wire) -> None:
    packet = steer(wire, EncapMode.ENCAP, (FIRST, SECOND, THIRD))
    assert destination(packet) == FIRST
    assert routing_header(packet) == (2, (THIRD, SECOND, FIRST))
    assert IPv6Address(packet[8:24]) == TUNNEL_SOURCE


def test_encap_red_leaves_the_first_segment_out_of_the_header(wire: Wire) -> None:
    packet = steer(wire, EncapMode.ENCAP_RED, (FIRST, SECOND, THIRD))
    assert destination(packet) == FIRST
    left, entries = routing_header(packet)
    assert (left, entries) == (2, (THIRD, SECOND))


def test_encap_red_of_one_segment_has_no_routing_header(wire: Wire) -> None:
    packet = steer(wire, EncapMode.ENCAP_RED, (FIRST,))
    assert destination(packet) == FIRST
    assert packet[6] == IPV6
    assert len(packet) == 40 + 40 + 8 + len(b"by us")


def test_inline_ends_at_the_packets_own_destination(wire: Wire) -> None:
    packet = steer(wire, EncapMode.INLINE, (FIRST, SECOND))
    assert destination(packet) == FIRST
    assert routing_header(packet) == (2, (TARGET, SECOND, FIRST))


@pytest.mark.parametrize("interface", ["left", "right"])
def test_end_x_sends_by_its_interface(wire: Wire, interface: str) -> None:
    """Both neighbours have the same link-local address: only the interface tells them apart."""
    sid = IPv6Address("fc00:9:0:f01::")
    local = Seg6Local(Behavior.END_X, next_hop=IPv6Address("fe80::2"), interface=interface)
    route: KernelObject = Route(
        IPv6Network(f"{sid}/128"), next_hops=(NextHop("left"),), encap=local
    )
    failures = wire.kernel.put([route])
    if failures and failures[0].errno in (errno.EINVAL, errno.EOPNOTSUPP):
        pytest.skip(f"this kernel has no End.X with an interface: {failures[0].reason}")
    assert failures == []
    if wire.kernel.read([route.identity]) != {route.identity: route}:
        pytest.skip("this kernel ignores the interface of End.X (Linux 6.17 has it)")
    with namespace.inside(wire.host.name):
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, ROUTING)
    # Next header UDP, two entries, one left: SID now, then the target.
    header = struct.pack("=BBBBBBH", UDP, 4, 4, 1, 1, 0, 0) + TARGET.packed + sid.packed
    datagram = struct.pack("!HHHH", PORT, PORT, 8 + 4, 0) + b"turn"
    with listen(wire.sink, "l0") as left, listen(wire.sink, "r0") as right:
        with raw:
            raw.sendto(header + datagram, (str(sid), 0))
        tap, packet = first_of([left, right], b"turn")
        assert tap is (left if interface == "left" else right)
    assert destination(packet) == TARGET
    assert wire.kernel.sid_counters()[str(sid)][0] == 1


def test_a_binding_sid_puts_its_policys_list_before_the_packet(wire: Wire) -> None:
    """RFC 8986 section 4.13: the packet's own header goes on to its next segment, inside."""
    sid = IPv6Address("fc00:9:0:b6::")
    local = Seg6Local(Behavior.END_B6_ENCAPS, segments=(FIRST, SECOND, THIRD))
    route = Route(IPv6Network(f"{sid}/128"), next_hops=(NextHop("left"),), encap=local)
    assert wire.kernel.put([route]) == []
    with namespace.inside(wire.host.name):
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, ROUTING)
    header = struct.pack("=BBBBBBH", UDP, 4, 4, 1, 1, 0, 0) + TARGET.packed + sid.packed
    datagram = struct.pack("!HHHH", PORT, PORT, 8 + 4, 0) + b"bind"
    with listen(wire.sink, "l0") as tap:
        with raw:
            raw.sendto(header + datagram, (str(sid), 0))
        _, packet = first_of([tap], b"bind")
    assert IPv6Address(packet[8:24]) == TUNNEL_SOURCE
    assert destination(packet) == FIRST
    assert routing_header(packet) == (2, (THIRD, SECOND, FIRST))
    inner = packet[40 + 8 + 3 * 16 :]
    assert IPv6Address(inner[8:24]) == SOURCE
    assert destination(inner) == TARGET
    assert routing_header(inner) == (0, (TARGET, sid))
    assert wire.kernel.sid_counters()[str(sid)][0] == 1
