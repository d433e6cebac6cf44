"""Packets of 9000 octets and more, of each way through a router, whole and at the limit."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from srv6dmm.dataplane.fastpath.objects import FastDelivery, FastSteering
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.objects import NextHop, Route, Seg6Encap
from srv6dmm.model.sid import EncapMode
from tests.netns.wired import (
    CORE_PORT,
    DT6,
    DX4,
    FAR,
    FAR4,
    LEFT_HOP,
    NEIGHBOUR,
    NODE,
    NODE4,
    NODE_HOP,
    NODE_MAC,
    NODE_PORT,
    SEGMENTS,
    SOURCE,
    Router,
    link,
    wired_router,
)

pytestmark = pytest.mark.root

JUMBO = 9000
OUTER = EncapMode.ENCAP.overhead(2)
UP, DOWN = IPv6Network("2001:db8:2::/64"), IPv6Network("2001:db8:1::/64")


@pytest.fixture(scope="module")
def wired() -> Iterator[Router]:
    """Wires that take a jumbo packet and its outer headers."""
    with wired_router() as made:
        for space, interfaces in ((made.space, (NODE_PORT, CORE_PORT)), (made.left, ("l0",))):
            for interface in interfaces:
                space.ip("link", "set", interface, "mtu", str(JUMBO + OUTER))
        made.node.ip("link", "set", "h0", "mtu", str(JUMBO + OUTER))
        way = EncapMode.ENCAP, SEGMENTS[:2]
        made.put(
            Route(UP, next_hops=(NextHop(CORE_PORT),), encap=Seg6Encap(*way)),
            FastSteering(UP, *way, SOURCE, CORE_PORT, LEFT_HOP, JUMBO + OUTER),
            FastDelivery(DOWN, NODE_PORT, NODE_MAC, NODE_HOP, JUMBO),
        )
        yield made


def sized(head: Packet, size: int, mark: bytes) -> Packet:
    """Return a packet of so many octets; the mark that is put behind it is among them."""
    return head / Raw(b"j" * (size - len(head) - len(mark)))


@pytest.mark.parametrize("size", [JUMBO, JUMBO - 1, 4096, 4095])
def test_up(wired: Router, size: int) -> None:
    mark = wired.mark()
    packet = sized(IPv6(src=NODE, dst=FAR) / UDP(sport=1, dport=2), size, mark)
    with wired.programs():
        before = wired.fast.reasons()[Reason.STEERED]
        found = wired.through(NODE_PORT, packet, mark)
        assert wired.fast.reasons()[Reason.STEERED] == before + 1
    assert len(found) == 14 + OUTER + size
    inner = bytearray(bytes(packet / Raw(mark)))
    inner[7] -= 1
    assert found[14 + OUTER :] == bytes(inner)


@pytest.mark.parametrize("size", [JUMBO, JUMBO - 1, 4096])
def test_down(wired: Router, size: int) -> None:
    mark = wired.mark()
    inner = sized(IPv6(src=FAR, dst=NODE) / UDP(sport=1, dport=2), size, mark)
    slow, quick = wired.both(
        CORE_PORT, IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41) / inner, Reason.DELIVERED
    )
    assert len(quick) == 14 + size
    assert quick == slow


def test_down_for_ipv4(wired: Router) -> None:
    mark = wired.mark()
    inner = sized(IP(src=FAR4, dst=NODE4) / UDP(sport=1, dport=2), JUMBO, mark)
    slow, quick = wired.both(
        CORE_PORT, IPv6(src=NEIGHBOUR, dst=str(DX4), nh=4) / inner, Reason.DELIVERED
    )
    assert len(quick) == 14 + JUMBO
    assert quick == slow


def test_one_octet_more_is_the_kernels(wired: Router) -> None:
    mark = wired.mark()
    packet = sized(IPv6(src=NODE, dst=FAR) / UDP(sport=1, dport=2), JUMBO + 1, mark)
    follower = IPv6(src=NODE, dst=FAR) / UDP(sport=3, dport=4)
    with wired.programs():
        before = wired.fast.reasons()[Reason.OVERSIZE]
        sent = bytes(link(NODE_PORT) / packet / Raw(mark))
        assert wired.comes_out(NODE_PORT, sent, mark, follower) == []
        assert wired.fast.reasons()[Reason.OVERSIZE] == before + 1
