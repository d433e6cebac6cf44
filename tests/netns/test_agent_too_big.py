"""A packet too big for the path brings a Packet Too Big to its sender, by way of the agent."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from srv6dmm.agent.advertise import Advertiser
from srv6dmm.agent.too_big_relay import TooBigRelay
from srv6dmm.agent.worker import Worker
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import Sysctl
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.sid import EncapMode
from srv6dmm.model.wire import FullPlan
from tests.agents import AWAY, static_entries, steering
from tests.netns.agent_spaces import Spaces, eventually, surroundings

pytestmark = pytest.mark.root

SENDER = "2001:db8:a::9"
_MTU_DISCOVER, _PMTUDISC_PROBE, _DONTFRAG = 23, 3, 62
TARGET = str(AWAY.network_address + 9)


@pytest.fixture
def around() -> Iterator[Spaces]:
    with surroundings() as made:
        made.host.ip("address", "add", f"{SENDER}/64", "dev", "eth0", "nodad")
        made.host.ip("-6", "route", "add", "default", "via", "2001:db8:a::1")
        made.neighbour.ip("address", "add", "fe80::12/64", "dev", "core0", "nodad")
        made.neighbour.ip("-6", "route", "add", "fc00:0:1::/48", "via", "fe80::11", "dev", "core0")
        made.neighbour.ip("-6", "route", "add", "blackhole", "fc00:0:2::/48")
        yield made


@asynccontextmanager
async def relaying(around: Spaces, entry: PlanEntry) -> AsyncIterator[TooBigRelay]:
    relay = TooBigRelay(around.router.name)
    name = around.router.name
    worker = Worker(LinuxKernel(name), True, Advertiser(name), relay, 600.0)
    messages: list[object] = []
    worker.listen(messages.append)
    worker.start()
    await worker.take(FullPlan(1, (*static_entries(), entry)))
    assert type(messages[0]).__name__ == "Ack", messages
    try:
        yield relay
    finally:
        await worker.close()


class Sender:
    """A UDP socket of the fixed host towards the mobile prefix; the kernel never fragments."""

    def __init__(self, around: Spaces) -> None:
        with namespace.inside(around.host.name):
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IPV6, _MTU_DISCOVER, _PMTUDISC_PROBE)
        self._socket.setsockopt(socket.IPPROTO_IPV6, _DONTFRAG, 1)

    def send(self, size: int, count: int = 1) -> None:
        """Send packets of `size` bytes in all."""
        for _ in range(count):
            self._socket.sendto(bytes(size - 48), (TARGET, 9))

    def close(self) -> None:
        """Close the socket: the host learns nothing for it any more."""
        self._socket.close()


@pytest.fixture
def sender(around: Spaces) -> Iterator[Sender]:
    made = Sender(around)
    yield made
    made.close()


def _knows(around: Spaces) -> str:
    return around.host.ip("-6", "route", "get", TARGET)


@pytest.mark.parametrize(
    ("mode", "segments", "mtu"),
    [
        (EncapMode.ENCAP_RED, ("fc00:0:2::d06",), 1460),
        (EncapMode.ENCAP_RED, ("fc00:0:2::e00", "fc00:0:3::d06"), 1500 - 64),
        (EncapMode.ENCAP, ("fc00:0:2::d06",), 1500 - 64),
        (EncapMode.ENCAP, ("fc00:0:2::e00", "fc00:0:3::d06"), 1420),
        (EncapMode.ENCAP, ("fc00:0:2::e00", "fc00:0:3::e00", "fc00:0:4::d06"), 1404),
    ],
)
async def test_the_sender_learns_what_fits(
    around: Spaces, sender: Sender, mode: EncapMode, segments: tuple[str, ...], mtu: int
) -> None:
    async with relaying(around, steering(AWAY, *segments, mode=mode)) as relay:
        sender.send(mtu)
        sender.send(1500)
        await eventually(lambda: f"mtu {mtu}" in _knows(around))
        assert relay.relayed == 1, f"a packet of {mtu} bytes fits; {relay.ignored}"


async def test_a_smaller_link_in_the_middle_is_learnt_too(around: Spaces, sender: Sender) -> None:
    inside, outside = around.neighbour, around.node
    inside.ip("-6", "route", "delete", "fc00:0:2::/48")
    inside.ip(
        "link", "add", "far", "mtu", "1400", "type", "veth", "peer", "far", "netns", outside.name
    )
    inside.ip("link", "set", "far", "up")
    outside.ip("link", "set", "far", "up")
    inside.ip("address", "add", "2001:db8:f::1/64", "dev", "far", "nodad")
    inside.ip("-6", "route", "add", "fc00:0:2::/48", "dev", "far")
    kernel = LinuxKernel(inside.name)
    assert kernel.put([Sysctl("net/ipv6/conf/all/forwarding", "1")]) == []
    kernel.close()
    async with relaying(around, steering()) as relay:
        sender.send(1460)
        await eventually(lambda: "mtu 1360" in _knows(around))
        assert relay.relayed == 1


async def test_a_flood_is_answered_at_a_rate(around: Spaces, sender: Sender) -> None:
    async with relaying(around, steering()) as relay:
        sender.send(1500)  # by then the host has discovered its router
        await eventually(lambda: relay.relayed == 1)
        for heard in range(11, 302, 10):  # as much at once as the socket's buffer surely holds
            sender.send(1500, count=10)
            await eventually(lambda: relay.relayed + relay.ignored["rate"] == heard)  # noqa: B023
        assert 20 <= relay.relayed < 60


async def test_a_forged_one_is_not_relayed(around: Spaces) -> None:
    async with relaying(around, steering()) as relay:
        with namespace.inside(around.host.name):
            forger = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        with forger:
            quoted = bytes.fromhex("60000000") + (1480).to_bytes(2, "big") + bytes((41, 64))
            quoted += bytes(32) + bytes(100)
            forger.sendto(
                bytes((2, 0, 0, 0)) + (1300).to_bytes(4, "big") + quoted, ("fc00:0:1::1", 0)
            )
        await eventually(lambda: relay.ignored["not about a packet of ours"] == 1)
        assert relay.relayed == 0
