"""No way round the checks at a router's edge: what the program refuses comes out nowhere.

Each frame goes through a router without the programs first and must come out of it: the kernel is
lenient there, and a program that left the frame to it would let it in.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from srv6dmm.dataplane.fastpath.objects import Facing, FastSteering
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.objects import NextHop, Route, Seg6Encap
from srv6dmm.model.sid import EncapMode
from tests.netns.wired import (
    ACCESS_MAC,
    CORE_PORT,
    DT6,
    FAR,
    FAR4,
    LEFT_HOP,
    NEIGHBOUR,
    NODE,
    NODE_MAC,
    NODE_PORT,
    SEGMENTS,
    SOURCE,
    Router,
    link,
    wired_router,
)

pytestmark = pytest.mark.root

STRANGER = "2001:db8:66::6"
INNER = IPv6(src="2001:db8:77::1", dst=NODE) / UDP(sport=1, dport=2)
FOLLOWER = IPv6(src=NODE, dst=FAR) / UDP(sport=3, dport=4)
LINK = {"src": NODE_MAC, "dst": ACCESS_MAC}


@pytest.fixture(scope="module")
def wired() -> Iterator[Router]:
    with wired_router() as made:
        prefix = IPv6Network("2001:db8:2::/64")
        segments = SEGMENTS[:1]
        network = IPv4Network(f"{FAR4}/32")
        encap = Seg6Encap(EncapMode.ENCAP, segments)
        made.put(
            FastSteering(prefix, EncapMode.ENCAP, segments, SOURCE, CORE_PORT, LEFT_HOP, 1500),
            Route(network, next_hops=(NextHop(CORE_PORT),), encap=encap),
        )
        entry = made.maps.get("prefixes", prefix.network_address.packed[:8])
        assert entry is not None
        made.maps.put("prefixes4", {network.network_address.packed: entry})
        yield made


def without_length(source: str, destination: str, following: int, rest: Packet) -> Packet:
    """Return a packet of payload length 0; its Hop-by-Hop header holds padding only."""
    return IPv6(src=source, dst=destination, plen=0, nh=0) / Raw(
        bytes((following, 0, 1, 4, 0, 0, 0, 0)) + bytes(rest)
    )


def tagged(packet: Packet, outside: int = 0x8100, within: int = 0x8100) -> Packet:
    """Return a frame with two priority tags."""
    link = Ether(**LINK, type=outside) / Dot1Q(vlan=0, type=within) / Dot1Q(vlan=0)
    return link / packet


def addressed_to_sid(rest: Packet) -> Packet:
    """Return a packet of a stranger to a SID."""
    return IPv6(src=STRANGER, dst=str(DT6), nh=41) / rest


def spoofed(rest: Packet) -> Packet:
    """Return a packet from a source that is not bound to the port."""
    return IPv6(src=STRANGER, dst=FAR) / UDP(sport=5, dport=6) / rest


def frames(mark: Raw) -> dict[str, tuple[Packet, Reason]]:
    """Return the frames to refuse, and the reason of each."""
    plain = Ether(**LINK)
    return {
        "a SID": (plain / addressed_to_sid(INNER / mark), Reason.TO_SID_BLOCK),
        "a SID, priority tag": (
            plain / Dot1Q(vlan=0) / addressed_to_sid(INNER / mark),
            Reason.TO_SID_BLOCK,
        ),
        "a SID, no length": (
            plain / without_length(STRANGER, str(DT6), 41, INNER / mark),
            Reason.TO_SID_BLOCK,
        ),
        "a SID, two tags": (tagged(addressed_to_sid(INNER / mark)), Reason.STACKED_TAGS),
        "a SID, a tag of each kind": (
            tagged(addressed_to_sid(INNER / mark), outside=0x88A8),
            Reason.STACKED_TAGS,
        ),
        "a source": (plain / spoofed(mark), Reason.SOURCE_UNBOUND),
        "a source, no length": (
            plain / without_length(STRANGER, FAR, 17, UDP(sport=5, dport=6) / mark),
            Reason.SOURCE_UNBOUND,
        ),
        "a source of IPv4": (
            plain / IP(src="9.9.9.9", dst=FAR4) / UDP(sport=5, dport=6) / mark,
            Reason.SOURCE_UNBOUND,
        ),
        "a source, two tags": (tagged(spoofed(mark)), Reason.STACKED_TAGS),
    }


@pytest.mark.parametrize("name", frames(Raw(b"")))
def test_what_is_refused_comes_out_nowhere(wired: Router, name: str) -> None:
    mark = wired.mark()
    frame, reason = frames(Raw(mark))[name]
    sent = bytes(frame)
    assert wired.comes_out(NODE_PORT, sent, mark, FOLLOWER), "the kernel refuses it, too"
    with wired.programs():
        before = wired.fast.reasons()[reason]
        assert wired.comes_out(NODE_PORT, sent, mark, FOLLOWER) == []
        assert wired.fast.reasons()[reason] == before + 1


@pytest.mark.parametrize("source", ["::", "::1", "fe80::77", "ff02::1"])
def test_what_no_router_forwards_no_endpoint_does(wired: Router, source: str) -> None:
    """Sources that mean somebody else behind the next link: the kernel decides, as without us."""
    mark = wired.mark()
    inner = IPv6(src=source, dst=NODE) / UDP(sport=1, dport=2) / Raw(mark)
    sent = bytes(link(CORE_PORT) / IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41) / inner)
    follower = IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41) / INNER
    kernels = wired.comes_out(CORE_PORT, sent, mark, follower)
    with wired.programs():
        before = wired.fast.reasons()
        assert wired.comes_out(CORE_PORT, sent, mark, follower) == kernels
        after = wired.fast.reasons()
    assert after[Reason.LOCAL_SCOPE] > before[Reason.LOCAL_SCOPE]
    assert after[Reason.DELIVERED] == before[Reason.DELIVERED] + 1, "the follower alone"


@pytest.mark.parametrize("name", [name for name in frames(Raw(b"")) if "SID" in name])
def test_from_outside_a_sid_is_refused_too(wired: Router, name: str) -> None:
    mark = wired.mark()
    frame, reason = frames(Raw(mark))[name]
    with wired.programs(Facing.OUTSIDE):
        before = wired.fast.reasons()[reason]
        assert wired.comes_out(NODE_PORT, bytes(frame), mark, FOLLOWER) == []
        assert wired.fast.reasons()[reason] == before + 1
