"""Sends Router Advertisements to mobile nodes, each to one node (RFC 5213 section 6.7).

Unicast on the link, to all nodes (ff02::1) in the packet: RFC 6085. Which link-local address a node
has is its own affair (RFC 7217), and its link-layer address is what it was registered with.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv6Address

import structlog

from srv6dmm.agent import icmp
from srv6dmm.agent.rate_limit import RateLimit
from srv6dmm.agent.router_advertisement import (
    ROUTER_SOLICITATION,
    Solicitation,
    encode_advertisement,
    packet_to_all_nodes,
    parse_solicitation,
)
from srv6dmm.dataplane.ancillary import hop_limit
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.plan import Advertisement, RouterSettings

log = structlog.get_logger()

REPEATS_S = (1.0, 3.0)
"""Seconds after the first one of a new arrival: a frame may be lost while a radio settles."""
PERIOD_S = 200.0
"""MinRtrAdvInterval of RFC 4861 section 6.2.1; shorter where a lifetime would run out."""
ANSWERS_PER_S, ANSWERS_AT_ONCE = 5.0, 10.0
"""To the solicitations of one node."""
_SO_BINDTODEVICE = 25


def period_s(advertisement: Advertisement) -> float:
    """Return the seconds between two RAs: three of them fit into every lifetime that counts."""
    lifetimes = [advertisement.router_lifetime_s]
    for advertised in advertisement.prefixes:
        lifetimes += [advertised.valid_s, advertised.preferred_s]
    return min(PERIOD_S, max(1.0, min((s for s in lifetimes if s > 0), default=PERIOD_S) / 3))


@dataclass(slots=True)
class _Node:
    advertisement: Advertisement
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class Advertiser:
    """Sends what it is given, on the access interface of one router, until told otherwise."""

    def __init__(self, network_namespace: str | None) -> None:
        self._namespace = network_namespace
        self._settings: RouterSettings | None = None
        self._nodes: dict[str, _Node] = {}
        self._by_address: dict[IPv6Address, _Node] = {}
        self._by_mac: dict[str, _Node] = {}
        self._socket: socket.socket | None = None
        self._sender: socket.socket | None = None
        self._index = 0
        self._limit = RateLimit(ANSWERS_PER_S, ANSWERS_AT_ONCE)
        self.sent = 0
        self.unsent = 0
        """RAs the kernel did not take; the next repetition tries again."""
        self.unknown = 0
        """Solicitations of nodes that are not attached here."""

    # --- what the plan says ------------------------------------------------------------------

    def configure(self, settings: RouterSettings) -> None:
        """Set the addresses RAs come from. Call it when they are on the interface."""
        if settings != self._settings:
            self._settings = settings
            self._close_socket()
            self.look()

    def put(self, advertisement: Advertisement, after_s: float = 0.0) -> None:
        """Send a new or changed advertisement, at once by default, and keep sending it.

        Call it when the routes of its prefixes are applied and read back, never before.
        """
        node = self._nodes.get(advertisement.key)
        if node is not None and node.advertisement == advertisement:
            return
        self.remove(advertisement.key)
        node = _Node(advertisement)
        self._nodes[advertisement.key] = node
        self._by_address[advertisement.link_local] = node
        self._by_mac[advertisement.link_layer_address] = node
        loop = asyncio.get_running_loop()
        if after_s == 0.0:
            self._send(node)
        else:
            node.timers.append(loop.call_later(after_s, self._send, node))
        for delay in REPEATS_S:
            node.timers.append(loop.call_later(after_s + delay, self._send, node))
        period = after_s + period_s(advertisement)
        node.timers.append(loop.call_later(period, self._repeat, node))

    def remove(self, key: str) -> None:
        """Send an advertisement no more. Nothing is said: the new router speaks now."""
        node = self._nodes.pop(key, None)
        if node is None:
            return
        for timer in node.timers:
            timer.cancel()
        if self._by_address.get(node.advertisement.link_local) is node:
            del self._by_address[node.advertisement.link_local]
        if self._by_mac.get(node.advertisement.link_layer_address) is node:
            del self._by_mac[node.advertisement.link_layer_address]

    def keep_only(self, keys: Collection[str]) -> None:
        """Remove every advertisement whose key is not among these."""
        for key in [key for key in self._nodes if key not in keys]:
            self.remove(key)

    def look(self) -> None:
        """Open the socket on the access interface; anew when that is another one now."""
        if self._settings is None or self._settings.access_interface is None:
            return
        try:
            index = icmp.interface_index(self._namespace, self._settings.access_interface)
            if self._socket is None or index != self._index:
                self._open(self._settings.access_interface, index)
        except (OSError, Srv6dmmError) as error:
            self._close_socket()
            log.warning(
                "advertise.no-socket", interface=self._settings.access_interface, error=str(error)
            )

    def close(self) -> None:
        """Stop sending. Nodes keep what they know until its lifetimes end."""
        self.keep_only(())
        self._close_socket()

    # --- sending -----------------------------------------------------------------------------

    def _repeat(self, node: _Node) -> None:
        loop = asyncio.get_running_loop()
        node.timers = [loop.call_later(period_s(node.advertisement), self._repeat, node)]
        self._send(node)

    def _send(self, node: _Node) -> None:
        settings, advertisement = self._settings, node.advertisement
        if (
            settings is None
            or settings.access_interface is None
            or settings.access_link_local is None
            or settings.access_mac is None
        ):
            self.unsent += 1
            return
        if self._sender is None:
            self.look()
        if self._sender is None:
            self.unsent += 1
            return
        message = encode_advertisement(advertisement, settings.access_mac)
        try:
            self._sender.sendto(
                packet_to_all_nodes(settings.access_link_local, message),
                icmp.link_address(settings.access_interface, advertisement.link_layer_address),
            )
        except OSError as error:
            # The interface may be down, or gone and made anew: the next one opens it again.
            log.warning("advertise.unsent", node=advertisement.mobile_node, error=str(error))
            self.unsent += 1
            self._close_socket()
        else:
            self.sent += 1
            log.debug("advertise.sent", node=advertisement.mobile_node, epoch=advertisement.epoch)

    # --- hearing -----------------------------------------------------------------------------

    def _open(self, interface: str, index: int) -> None:
        self._close_socket()
        made = icmp.listen(self._namespace, ROUTER_SOLICITATION)
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            self._sender = icmp.packet_sender(self._namespace)
        except BaseException:
            made.close()
            raise
        asyncio.get_running_loop().add_reader(made, self._heard, made)
        self._socket = made
        self._index = index

    def _close_socket(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def _heard(self, opened: socket.socket) -> None:
        try:
            message, ancillary, _, address = opened.recvmsg(2048, 64)
        except OSError:
            return  # nothing there after all; readable again when there is
        asked = parse_solicitation(message, address[0], hop_limit(ancillary))
        if asked is not None:
            self.answer(asked)

    def answer(self, asked: Solicitation) -> None:
        """Send a node that solicits its RA; one that is not attached here gets nothing.

        A node is known by the link-layer address it gives, or by the link-local address that is
        made of its own.
        """
        node = self._by_address.get(asked.source)
        if node is None and asked.link_layer_address is not None:
            node = self._by_mac.get(asked.link_layer_address)
        if node is None:
            self.unknown += 1
            log.debug("advertise.unknown-node", source=str(asked.source))
            return
        now = asyncio.get_running_loop().time()
        if self._limit.allow(node.advertisement.link_layer_address, now):
            self._send(node)
