"""What tests of the agent share: plans of one router, and a controller that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TypeVar

from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from srv6dmm import codec
from srv6dmm.model.addresses import link_local_from_mac
from srv6dmm.model.plan import (
    AdvertisedPrefix,
    Advertisement,
    Delivery,
    LocalSid,
    PlanEntry,
    RouterSettings,
    SteeringEntry,
    UnderlayRoute,
    UnreachableRoute,
)
from srv6dmm.model.sid import Behavior, EncapMode
from srv6dmm.model.wire import (
    DelayReport,
    FromAgent,
    FromController,
    Heartbeat,
    Hello,
    LinkReport,
    ListReport,
    Welcome,
)

T = TypeVar("T")

ROUTER = "ar1"
LOOPBACK = IPv6Address("fc00:0:1::1")
POOL = IPv6Network("2001:db8:1::/48")
HOME = IPv6Network("2001:db8:1:1::/64")
AWAY = IPv6Network("2001:db8:2:1::/64")
NODE_MAC = "02:00:00:00:00:07"
NODE = link_local_from_mac(NODE_MAC)

SETTINGS = RouterSettings(
    loopback=LOOPBACK,
    link_local=IPv6Address("fe80::11"),
    core_interfaces=("core0", "core1"),
    host_interfaces=(("host0", IPv6Address("2001:db8:a::1"), 64),),
    access_interface="access",
    access_link_local=IPv6Address("fe80::1"),
    access_mac="02:00:5e:00:64:01",
)


def delivery(prefix: IPv6Network = HOME, mac: str = NODE_MAC, epoch: int = 1) -> Delivery:
    """Return the delivery of a prefix to a node."""
    return Delivery(prefix, "access", mac, link_local_from_mac(mac), 1500, "mn1", epoch)


def steering(
    prefix: IPv6Network = AWAY,
    *segments: str,
    mode: EncapMode = EncapMode.ENCAP_RED,
    interface: str = "core0",
) -> SteeringEntry:
    """Return a steering entry; by default one segment."""
    listed = tuple(IPv6Address(s) for s in segments or ("fc00:0:2::d06",))
    return SteeringEntry(prefix, listed, mode, interface, IPv6Address("fe80::2"), 1600, "mn2", 1)


def advertisement(
    *prefixes: AdvertisedPrefix, epoch: int = 1, mac: str = NODE_MAC, mtu: int = 1420
) -> Advertisement:
    """Return an advertisement to a node; by default of its home prefix."""
    return Advertisement(
        mobile_node="mn1",
        node_interface="0",
        interface="access",
        link_layer_address=mac,
        link_local=link_local_from_mac(mac),
        prefixes=prefixes or (AdvertisedPrefix(HOME, 7200, 3600),),
        mtu=mtu,
        router_lifetime_s=1800,
        epoch=epoch,
    )


def static_entries(settings: RouterSettings = SETTINGS) -> list[PlanEntry]:
    """Return what a router holds without any mobile node."""
    return [
        settings,
        LocalSid(IPv6Address("fc00:0:1::e00"), Behavior.END),
        LocalSid(IPv6Address("fc00:0:1::d06"), Behavior.END_DT6, table=254),
        LocalSid(
            IPv6Address("fc00:0:1::f01"),
            Behavior.END_X,
            interface="core0",
            next_hop=IPv6Address("fe80::12"),
        ),
        UnreachableRoute(POOL),
        UnderlayRoute(IPv6Network("fc00:0:2::/48"), (("core0", IPv6Address("fe80::12")),)),
    ]


class FakeController:
    """The controller's end of one agent's stream: nothing is sent that a test does not send."""

    def __init__(self) -> None:
        self.heard: list[FromAgent] = []
        """Everything but heartbeats, link and list reports; in order, over all connections."""
        self.heartbeats = 0
        self.links_down: tuple[str, ...] | None = None
        """What the last report of links said."""
        self.connections = 0
        self.authorization: list[str | None] = []
        self.paths: list[str] = []
        self.heartbeat_s = 60.0
        self._news = asyncio.Condition()
        self._seen = 0
        self._connection: ServerConnection | None = None

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one connection: greet a new one, then note what is said."""
        request = connection.request
        assert request is not None
        self.paths.append(request.path)
        self.authorization.append(request.headers.get("Authorization"))
        self.connections += 1
        with contextlib.suppress(ConnectionClosed):
            await self._hear(connection)

    async def _hear(self, connection: ServerConnection) -> None:
        greeted = False
        async for frame in connection:
            message = codec.decode_message(frame)
            assert isinstance(message, FromAgent), message
            async with self._news:
                if isinstance(message, Heartbeat):
                    self.heartbeats += 1
                elif isinstance(message, LinkReport):
                    self.links_down = message.down
                elif isinstance(message, ListReport | DelayReport):
                    pass  # nobody answers probes here
                else:
                    self._connection = connection
                    self.heard.append(message)
                self._news.notify_all()
            if isinstance(message, Hello) and not greeted:
                greeted = True
                await self.send(Welcome(self.heartbeat_s, "test"))

    async def send(self, message: FromController) -> None:
        """Say something on the newest connection."""
        assert self._connection is not None
        await self._connection.send(codec.encode_message(message).decode())

    async def send_text(self, text: str) -> None:
        """Say something that need not be a message."""
        assert self._connection is not None
        await self._connection.send(text)

    async def hang_up(self) -> None:
        """Close the newest connection."""
        assert self._connection is not None
        await self._connection.close()

    async def next(self, kind: type[T], timeout_s: float = 15.0) -> T:
        """Return the next message that was not returned yet; it has to be of this kind."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: len(self.heard) > self._seen)
        message = self.heard[self._seen]
        self._seen += 1
        assert isinstance(message, kind), message
        return message

    async def next_heartbeats(self, count: int, timeout_s: float = 15.0) -> None:
        """Wait for so many more heartbeats."""
        enough = self.heartbeats + count
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self.heartbeats >= enough)

    def silent(self) -> bool:
        """Tell whether everything heard was returned by `next`."""
        return len(self.heard) == self._seen


@asynccontextmanager
async def controller(path: Path) -> AsyncIterator[FakeController]:
    """Listen on a Unix socket as a controller."""
    fake = FakeController()
    async with unix_serve(fake.serve, str(path), max_size=None, compression=None):
        yield fake
