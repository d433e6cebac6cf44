"""Packet Too Big for what is encapsulated (RFC 2473 section 8, RFC 4443 section 3.2).

A router that cannot carry the outer packet tells the outer source, which is this head-end. The
relay tells the inner source what it may send.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address

import structlog

from srv6dmm.agent.advertise import icmpv6_filter
from srv6dmm.dataplane import namespace

log = structlog.get_logger()

PACKET_TOO_BIG = 2
MINIMUM_MTU = 1280
_IPV6_HEADER = 40
_IN_IPV6, _ICMPV6, _ROUTING, _HOP_BY_HOP, _DESTINATION, _FRAGMENT = 41, 58, 43, 0, 60, 44
_ERRORS = range(128)
"""ICMPv6 types below 128 are errors (RFC 4443 section 2.1): never answered with an error."""
RATE = 10.0
"""Messages per second to one destination."""
BURST = 20.0
_REMEMBERED = 4096
_IPV6_PKTINFO = 50
_MAX_EXTENSIONS = 8


@dataclass(frozen=True, slots=True)
class Relay:
    """A Packet Too Big to send: to whom, and the ICMPv6 message (checksum zero)."""

    destination: IPv6Address
    message: bytes


def relay(message: bytes, tunnel_source: IPv6Address) -> Relay | str:
    """Return what to send on for a received Packet Too Big, or why nothing is sent.

    `message` is the ICMPv6 message from its type on. The quoted packet must be one of our own
    encapsulations: outer source `tunnel_source`, an IPv6 packet inside, extension headers in
    between as far as they are quoted.
    """
    if len(message) < 8 + _IPV6_HEADER:
        return "truncated"
    kind, code, _, mtu = struct.unpack_from("!BBHI", message)
    if kind != PACKET_TOO_BIG or code != 0:
        return "not a Packet Too Big"
    outer = message[8:]
    if outer[0] >> 4 != 6 or outer[8:24] != tunnel_source.packed:
        return "not about a packet of ours"
    offset = _inner_offset(outer)
    if isinstance(offset, str):
        return offset
    inner = outer[offset:]
    if len(inner) < _IPV6_HEADER or inner[0] >> 4 != 6:
        return "no whole inner header quoted"
    source = IPv6Address(inner[8:24])
    if source.is_multicast or source.is_unspecified or source.is_loopback or source.is_link_local:
        return "inner source cannot be told"
    if _is_icmp_error(inner):
        return "inner packet is an ICMPv6 error"
    told = max(MINIMUM_MTU, min(mtu, 0xFFFF) - offset)
    room = MINIMUM_MTU - _IPV6_HEADER - 8
    return Relay(source, struct.pack("!BBHI", PACKET_TOO_BIG, 0, 0, told) + inner[:room])


def _inner_offset(outer: bytes) -> int | str:
    """Return where the inner IPv6 header begins in the quoted packet."""
    following, offset = outer[6], _IPV6_HEADER
    for _ in range(_MAX_EXTENSIONS):
        if following == _IN_IPV6:
            return offset
        if following not in (_ROUTING, _HOP_BY_HOP, _DESTINATION):
            return "not an IPv6 packet inside"
        if len(outer) < offset + 8:
            return "extension header is not quoted whole"
        following, length = outer[offset], outer[offset + 1]
        offset += 8 * (length + 1)
    return "too many extension headers"


def _is_icmp_error(inner: bytes) -> bool:
    """Tell whether the inner packet is an ICMPv6 error (RFC 4443 section 2.4 e.1)."""
    following, offset = inner[6], _IPV6_HEADER
    for _ in range(_MAX_EXTENSIONS):
        if following == _ICMPV6:
            return len(inner) <= offset or inner[offset] in _ERRORS
        if following == _FRAGMENT and len(inner) >= offset + 8:
            if struct.unpack_from("!H", inner, offset + 2)[0] & 0xFFF8:
                return False  # not the first fragment: what it carries cannot be told
            following, offset = inner[offset], offset + 8
            continue
        if following not in (_ROUTING, _HOP_BY_HOP, _DESTINATION) or len(inner) < offset + 8:
            return False
        following, offset = inner[offset], offset + 8 * (inner[offset + 1] + 1)
    return True


class RateLimit:
    """Token buckets by destination (RFC 4443 section 2.4 f); time is passed in, in seconds."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[IPv6Address, tuple[float, float]] = OrderedDict()

    def allow(self, destination: IPv6Address, now: float) -> bool:
        """Tell whether one more message may go to a destination."""
        tokens, at = self._buckets.pop(destination, (BURST, now))
        tokens = min(BURST, tokens + (now - at) * RATE)
        allowed = tokens >= 1
        self._buckets[destination] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return allowed


class TooBigRelay:
    """Listens for Packet Too Big in a router's namespace and relays those about our packets."""

    def __init__(self, network_namespace: str | None) -> None:
        self._namespace = network_namespace
        self._tunnel_source: IPv6Address | None = None
        self._socket: socket.socket | None = None
        self._limit = RateLimit()
        self.relayed = 0
        self.ignored = 0

    def update(self, tunnel_source: IPv6Address | None) -> None:
        """Set whose packets are ours: the router's loopback, None for a plain router."""
        self._tunnel_source = tunnel_source
        if tunnel_source is not None and self._socket is None:
            self._open()

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        with namespace.inside(self._namespace):
            made = socket.socket(
                socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6
            )
        made.setsockopt(socket.IPPROTO_ICMPV6, 1, icmpv6_filter(PACKET_TOO_BIG))
        asyncio.get_running_loop().add_reader(made, self._heard, made)
        self._socket = made

    def _heard(self, opened: socket.socket) -> None:
        for _ in range(64):
            try:
                message = opened.recv(2048)
            except OSError:
                return
            self._take(opened, message)

    def _take(self, opened: socket.socket, message: bytes) -> None:
        source = self._tunnel_source
        if source is None:
            return
        found = relay(message, source)
        now = asyncio.get_running_loop().time()
        if isinstance(found, str) or not self._limit.allow(found.destination, now):
            self.ignored += 1
            return
        try:
            opened.sendmsg(
                [found.message],
                [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, source.packed + struct.pack("@I", 0))],
                0,
                (str(found.destination), 0, 0, 0),
            )
            self.relayed += 1
        except OSError as error:
            log.warning("too_big.unsent", destination=str(found.destination), error=str(error))
