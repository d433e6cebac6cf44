"""Router Advertisements to mobile nodes, each to one node (RFC 4861, RFC 5213 section 6.7)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address

import structlog

from srv6dmm.dataplane import namespace
from srv6dmm.model.plan import Advertisement, RouterSettings

log = structlog.get_logger()

ROUTER_SOLICITATION = 133
ROUTER_ADVERTISEMENT = 134
HOP_LIMIT = 255
"""RFC 4861 section 6.1.2: a receiver takes nothing else."""
CURRENT_HOP_LIMIT = 64
INITIAL_S = (0.0, 1.0, 3.0)
"""When a new arrival is told: at once, and again in case a frame was lost."""
PERIOD_S = 200.0
"""MinRtrAdvInterval of RFC 4861 section 6.2.1; far below every preferred lifetime."""
_SOURCE_LINK_LAYER, _PREFIX_INFORMATION, _MTU = 1, 3, 5
_AUTONOMOUS = 0x40
_SO_BINDTODEVICE = 25
_IPV6_PKTINFO = 50
_ICMPV6_FILTER = 1


def encode_advertisement(advertisement: Advertisement, router_mac: str) -> bytes:
    """Return the ICMPv6 message, checksum zero (the kernel fills it in).

    Prefixes are autonomous but not on-link: they are the node's alone, and everything goes
    through the router. An old prefix has preferred lifetime 0 (RFC 8885 section 3.7).
    """
    message = struct.pack(
        "!BBHBBHII",
        ROUTER_ADVERTISEMENT,
        0,
        0,
        CURRENT_HOP_LIMIT,
        0,
        advertisement.router_lifetime_s,
        0,
        0,
    )
    message += struct.pack(
        "!BB6s", _SOURCE_LINK_LAYER, 1, bytes.fromhex(router_mac.replace(":", ""))
    )
    message += struct.pack("!BBHI", _MTU, 1, 0, advertisement.mtu)
    for advertised in advertisement.prefixes:
        message += struct.pack(
            "!BBBBIII16s",
            _PREFIX_INFORMATION,
            4,
            advertised.prefix.prefixlen,
            _AUTONOMOUS,
            advertised.valid_s,
            advertised.preferred_s,
            0,
            advertised.prefix.network_address.packed,
        )
    return message


def is_solicitation(message: bytes, source: str, hop_limit: int) -> bool:
    """Tell whether an ICMPv6 message is a valid RS from a node's link-local address."""
    return (
        len(message) >= 8
        and message[0] == ROUTER_SOLICITATION
        and message[1] == 0
        and hop_limit == HOP_LIMIT
        and IPv6Address(source.split("%", maxsplit=1)[0]).is_link_local
    )


@dataclass(slots=True)
class _Node:
    advertisement: Advertisement
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class Advertiser:
    """Sends what the plan says, on the access interface of one router."""

    def __init__(self, network_namespace: str | None) -> None:
        self._namespace = network_namespace
        self._nodes: dict[str, _Node] = {}
        self._socket: socket.socket | None = None
        self._settings: RouterSettings | None = None
        self._index = 0
        self.sent = 0
        self.unknown = 0
        """Solicitations of nodes that are not attached here."""

    def update(self, settings: RouterSettings | None, planned: Iterable[Advertisement]) -> None:
        """Take the advertisements of a plan that is applied and read back.

        A new or changed one is sent at once; one that is gone is sent no more.
        """
        wanted = {advertisement.key: advertisement for advertisement in planned}
        for key in [key for key in self._nodes if key not in wanted]:
            self._silence(self._nodes.pop(key))
        if settings is not None and settings != self._settings:
            self._settings = settings
            self._close_socket()
        for key, advertisement in wanted.items():
            node = self._nodes.get(key)
            if node is not None and node.advertisement == advertisement:
                continue
            if node is not None:
                self._silence(node)
            self._nodes[key] = node = _Node(advertisement)
            self._schedule(node)

    def close(self) -> None:
        """Stop sending. Nodes keep what they know until its lifetimes end."""
        for node in self._nodes.values():
            self._silence(node)
        self._nodes.clear()
        self._close_socket()

    def _schedule(self, node: _Node) -> None:
        loop = asyncio.get_running_loop()
        self._send(node)
        node.timers = [loop.call_later(delay, self._send, node) for delay in INITIAL_S[1:]]
        node.timers.append(loop.call_later(PERIOD_S, self._repeat, node))

    def _repeat(self, node: _Node) -> None:
        self._send(node)
        node.timers = [asyncio.get_running_loop().call_later(PERIOD_S, self._repeat, node)]

    def _silence(self, node: _Node) -> None:
        for timer in node.timers:
            timer.cancel()

    def _send(self, node: _Node) -> None:
        settings = self._settings
        if settings is None or settings.access_link_local is None or settings.access_mac is None:
            return
        advertisement = node.advertisement
        try:
            opened = self._open(advertisement.interface)
            message = encode_advertisement(advertisement, settings.access_mac)
            source = settings.access_link_local.packed + struct.pack("@I", self._index)
            opened.sendmsg(
                [message],
                [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, source)],
                0,
                (str(advertisement.link_local), 0, 0, self._index),
            )
            self.sent += 1
        except OSError as error:
            # The next repetition tries again; the interface may be down for now.
            log.warning("advertise.failed", node=advertisement.mobile_node, error=str(error))
            self._close_socket()

    def _open(self, interface: str) -> socket.socket:
        if self._socket is None:
            with namespace.inside(self._namespace):
                made = socket.socket(
                    socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6
                )
                try:
                    self._index = socket.if_nametoindex(interface)
                except OSError:
                    made.close()
                    raise
            made.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            made.setsockopt(
                socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, icmpv6_filter(ROUTER_SOLICITATION)
            )
            asyncio.get_running_loop().add_reader(made, self._heard, made)
            self._socket = made
        return self._socket

    def _close_socket(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _heard(self, opened: socket.socket) -> None:
        try:
            message, ancillary, _, address = opened.recvmsg(2048, 64)
        except OSError:
            return
        hop_limit = next(
            (
                struct.unpack("@i", data[:4])[0]
                for level, kind, data in ancillary
                if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT
            ),
            0,
        )
        if not is_solicitation(message, address[0], hop_limit):
            return
        source = IPv6Address(address[0].split("%")[0])
        for node in self._nodes.values():
            if node.advertisement.link_local == source:
                self._send(node)
                return
        self.unknown += 1


def icmpv6_filter(*passed: int) -> bytes:
    """Return the ICMP6_FILTER option that lets only these message types through."""
    words = [0xFFFFFFFF] * 8
    for kind in passed:
        words[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
    return struct.pack("@8I", *words)
