"""Router Advertisements on a real link: what a real mobile node makes of them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

import pytest

from srv6dmm.agent.advertise import Advertiser
from srv6dmm.agent.too_big_relay import TooBigRelay
from srv6dmm.agent.worker import Worker
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.model.plan import AdvertisedPrefix
from srv6dmm.model.wire import DeltaPlan, FullPlan
from tests.agents import AWAY, HOME, NODE, NODE_MAC, advertisement, delivery, static_entries
from tests.netns.agent_spaces import Spaces, eventually, surroundings
from tests.netns.kernels import Space

pytestmark = pytest.mark.root

FIRST = advertisement()
MOVED = advertisement(
    AdvertisedPrefix(HOME, 7200, 0), AdvertisedPrefix(AWAY, 7200, 3600), epoch=2, mtu=1400
)


@pytest.fixture
def around() -> Iterator[Spaces]:
    with surroundings() as made:
        yield made


class Router:
    """A worker on the router's kernel, in this process."""

    def __init__(self, space: Space) -> None:
        self.advertiser = Advertiser(space.name)
        self.worker = Worker(
            LinuxKernel(space.name), True, self.advertiser, TooBigRelay(space.name), 600.0
        )
        self.revision = 1

    async def put(self, *entries: Any, gone: tuple[str, ...] = ()) -> None:
        """Apply a delta."""
        self.revision += 1
        await self.worker.take(DeltaPlan(self.revision - 1, self.revision, entries, gone))


@asynccontextmanager
async def router(around: Spaces) -> AsyncIterator[Router]:
    made = Router(around.router)
    made.worker.start()
    await made.worker.take(FullPlan(1, tuple(static_entries())))
    try:
        yield made
    finally:
        await made.worker.close()


def _addresses(node: Space) -> dict[str, tuple[int, int]]:
    """Return the node's global addresses: (valid, preferred) lifetimes in seconds."""
    (link,) = json.loads(node.ip("-j", "-6", "address", "show", "dev", "wlan0"))
    return {
        address["local"]: (address["valid_life_time"], address["preferred_life_time"])
        for address in link["addr_info"]
        if address["scope"] == "global"
    }


def _default_route(node: Space) -> list[Any]:
    routes = json.loads(node.ip("-j", "-6", "route", "show", "default"))
    return [(route["gateway"], route["dev"], route["protocol"], route["pref"]) for route in routes]


def _mtu(node: Space) -> str:
    with namespace.inside(node.name), open("/proc/sys/net/ipv6/conf/wlan0/mtu") as file:
        return file.read().strip()


def _address(prefix: Any) -> str:
    return str(IPv6Address(int(prefix.network_address) | int(NODE) & (1 << 64) - 1))


async def test_a_node_configures_itself_from_what_it_is_told(around: Spaces) -> None:
    async with router(around) as here:
        await here.put(delivery(), FIRST)
        assert (here.advertiser.sent, here.advertiser.unsent) == (1, 0)
        home, away = _address(HOME), _address(AWAY)
        await eventually(lambda: home in _addresses(around.node))
        assert _default_route(around.node) == [("fe80::1", "wlan0", "ra", "medium")]
        assert _mtu(around.node) == "1420"
        valid, preferred = _addresses(around.node)[home]
        assert 7100 < valid <= 7200
        assert 3500 < preferred <= 3600
        on_link = [
            route["dst"]
            for route in json.loads(around.node.ip("-j", "-6", "route", "show", "dev", "wlan0"))
            if route["dst"].startswith("2001:")
        ]
        assert str(HOME) not in on_link, "everything goes through the router"
        await here.put(delivery(AWAY), MOVED)
        await eventually(lambda: away in _addresses(around.node))
        addresses = _addresses(around.node)
        assert addresses[home][1] == 0, "deprecated at once"
        assert addresses[home][0] > 7000, "and valid still"
        assert addresses[away][1] > 3500
        assert _mtu(around.node) == "1400"


async def test_the_frame_is_for_one_node_and_needs_no_neighbour_discovery(around: Spaces) -> None:
    with namespace.inside(around.node.name):
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
    heard.bind(("wlan0", 0x86DD))
    heard.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        async with router(around) as here, asyncio.timeout(10):
            await here.put(delivery(), FIRST)
            while True:
                frame = await loop.sock_recv(heard, 2048)
                from_router = frame[6:12] == bytes.fromhex("02005e006401")
                if from_router and frame[20] == 58:
                    assert frame[54] != 135, "a neighbour solicitation went before"
                    if frame[54] == 134:
                        break
    finally:
        heard.close()
    assert frame[:6] == bytes.fromhex(NODE_MAC.replace(":", ""))
    assert frame[21] == 255
    assert frame[22:38] == IPv6Address("fe80::1").packed
    assert frame[38:54] == IPv6Address("ff02::1").packed, "RFC 6085: unicast on the link only"
    assert _checksum_is_right(frame[14:])


async def test_a_node_whose_link_local_is_its_own_affair_is_told_of_a_hand_over(
    around: Spaces,
) -> None:
    """RFC 7217: its addresses are not made of its link-layer address, and nobody knows them."""
    node = around.node
    _generate_addresses(node, mode=3)
    node.ip("link", "set", "wlan0", "down")
    node.ip("link", "set", "wlan0", "up")
    await eventually(lambda: "fe80::" in (text := _links(node)) and "tentative" not in text)
    assert str(NODE) not in _links(node)
    async with router(around) as here:
        await here.put(delivery(), FIRST)
        await eventually(lambda: _in(node, HOME) != [])
        await here.put(delivery(AWAY), MOVED)
        await eventually(lambda: _in(node, AWAY) != [])
        [(old, (valid, preferred))] = _in(node, HOME)
        assert (preferred, valid > 7000) == (0, True), "deprecated, and valid still"
        [(new, (_, preferred))] = _in(node, AWAY)
        assert preferred > 3500
        assert _default_route(node) == [("fe80::1", "wlan0", "ra", "medium")]
        for address in (old, new):
            assert address != _address(HOME)
            await eventually(lambda address=address: _reached(around.router, address))


def _generate_addresses(node: Space, mode: int) -> None:
    setting = "/proc/sys/net/ipv6/conf/wlan0/addr_gen_mode"
    with namespace.inside(node.name), open(setting, "w") as file:
        file.write(str(mode))


def _links(node: Space) -> str:
    return node.ip("-6", "address", "show", "dev", "wlan0", "scope", "link")


def _in(node: Space, prefix: Any) -> list[tuple[str, tuple[int, int]]]:
    return [(a, times) for a, times in _addresses(node).items() if IPv6Address(a) in prefix]


def _reached(space: Space, address: str) -> bool:
    command = ["ip", "netns", "exec", space.name, "ping", "-6", "-c1", "-W1", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _checksum_is_right(packet: bytes) -> bool:
    body = packet[40:]
    data = (
        packet[8:40] + len(body).to_bytes(4, "big") + b"\0\0\0\x3a" + body + b"\0" * (len(body) % 2)
    )
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def _solicit(node: Space, source: str) -> None:
    """Send a Router Solicitation from an address of the node."""
    with namespace.inside(node.name):
        index = socket.if_nametoindex("wlan0")
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.bind((source, 0, 0, index))
        sender.sendto(bytes((133, 0, 0, 0, 0, 0, 0, 0)), ("ff02::2", 0, 0, index))


async def test_a_solicitation_is_answered_at_once(around: Spaces) -> None:
    node = around.node
    node.ip("address", "add", "fe80::bad/64", "dev", "wlan0", "nodad")
    async with router(around) as here:
        await eventually(lambda: "tentative" not in node.ip("-6", "address", "show", "wlan0"))
        _solicit(node, str(NODE))
        await eventually(lambda: here.advertiser.unknown >= 1)
        assert here.advertiser.sent == 0, "not attached here"
        await here.put(delivery(), FIRST)
        await eventually(lambda: _default_route(node) != [])
        node.ip("-6", "route", "flush", "default")
        before, unknown = here.advertiser.sent, here.advertiser.unknown
        _solicit(node, str(NODE))
        await eventually(lambda: here.advertiser.sent > before)
        await eventually(lambda: _default_route(node) != [])
        _solicit(node, "fe80::bad")
        await eventually(lambda: here.advertiser.unknown > unknown)
        await here.put(gone=(FIRST.key,))
        before = here.advertiser.sent
        unknown = here.advertiser.unknown
        _solicit(node, str(NODE))
        await eventually(lambda: here.advertiser.unknown > unknown)
        assert here.advertiser.sent == before


async def test_an_interface_made_anew_is_heard_and_spoken_on_again(around: Spaces) -> None:
    async with router(around) as here:
        await here.put(delivery(), FIRST)
        around.router.ip("link", "delete", "access")
        around.router.ip(
            *("link", "add", "access", "type", "veth"),
            *("peer", "name", "wlan0", "address", NODE_MAC, "netns", around.node.name),
        )
        around.node.ip("link", "set", "wlan0", "up")
        around.router.ip("link", "set", "access", "up")
        await eventually(
            lambda: NODE_MAC in around.router.ip("-6", "neigh", "show", "dev", "access")
        )
        await eventually(
            lambda: "tentative" not in around.node.ip("-6", "address", "show", "wlan0")
        )
        before = here.advertiser.sent
        _solicit(around.node, str(NODE))
        await eventually(lambda: here.advertiser.sent > before)
        await eventually(lambda: _default_route(around.node) != [])


async def test_a_route_that_is_refused_keeps_the_advertisement_back(around: Spaces) -> None:
    async with router(around) as here:
        await here.put(replace(delivery(), interface="nosuch0"), FIRST)
        assert (here.advertiser.sent, here.advertiser.unsent) == (0, 0)
        await here.put(delivery())
        assert here.advertiser.sent == 1
