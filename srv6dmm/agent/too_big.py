"""ICMPv6 errors about what is encapsulated: from outer packet to inner sender (RFC 2473 section 8).

A router that cannot carry the outer packet tells the outer source, which is the head-end. What
the inner source must be told follows from the outer headers that are quoted. So it is for a packet
that arrives at the head-end with its hop limit spent: Linux encapsulates before it looks, and tells
itself. Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

PACKET_TOO_BIG, TIME_EXCEEDED = 2, 3
MINIMUM_MTU = 1280
"""RFC 8200 section 5: every IPv6 link carries that much, and nobody is told less."""
_IPV6_HEADER, _ICMP_HEADER = 40, 8
_QUOTED = MINIMUM_MTU - _IPV6_HEADER - _ICMP_HEADER
"""RFC 4443 section 3.2: as much of the packet as fits without exceeding the minimum MTU."""
_IN_IPV6, _ICMPV6, _ROUTING, _HOP_BY_HOP, _DESTINATION, _FRAGMENT = 41, 58, 43, 0, 60, 44
_ERRORS = range(128)
"""ICMPv6 types below 128 are errors (RFC 4443 section 2.1): never answered with an error."""
_MAX_EXTENSIONS = 8
_HOP_LIMIT = 7
"""Where it stands in an IPv6 header."""


@dataclass(frozen=True, slots=True)
class Relay:
    """An error to send: to whom, the MTU it tells, and the ICMPv6 message (checksum zero)."""

    destination: IPv6Address
    mtu: int
    """0 of a Time Exceeded."""
    message: bytes


def relay(message: bytes, tunnel_source: IPv6Address) -> Relay | str:
    """Return what to send on for a received error, or why nothing is sent.

    `message` is the ICMPv6 message from its type on. The quoted packet must be one of our own
    encapsulations: outer source `tunnel_source`, an IPv6 packet inside, extension headers in
    between as far as they are quoted. The code is ignored (RFC 4443 section 3.2).

    Time Exceeded is the sender's to hear when its own hop limit was spent, 1 or 0, at the head-end.
    What expires later has met a loop, or in mode `netlink` the hop limit that the kernel copies to
    the outer header: that is not an answer from where the sender has counted to.
    """
    if len(message) < _ICMP_HEADER + _IPV6_HEADER:
        return "truncated"
    kind, _, _, mtu = struct.unpack_from("!BBHI", message)
    if kind not in (PACKET_TOO_BIG, TIME_EXCEEDED):
        return "not a Packet Too Big or Time Exceeded"
    outer = message[_ICMP_HEADER:]
    if outer[0] >> 4 != 6 or outer[8:24] != tunnel_source.packed:
        return "not about a packet of ours"
    length = struct.unpack_from("!H", outer, 4)[0]
    if kind == PACKET_TOO_BIG and length and _IPV6_HEADER + length <= mtu:
        return "the quoted packet is not too big"  # length 0: a jumbogram, too big in any case
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
    if kind == TIME_EXCEEDED:
        if inner[_HOP_LIMIT] > 1:
            return "expired behind the head-end"
        head = struct.pack("!BBHI", TIME_EXCEEDED, 0, 0, 0)
        return Relay(source, 0, head + inner[:_QUOTED])
    told = max(MINIMUM_MTU, min(mtu, 0xFFFF) - offset)
    head = struct.pack("!BBHI", PACKET_TOO_BIG, 0, 0, told)
    return Relay(source, told, head + inner[:_QUOTED])


def _inner_offset(outer: bytes) -> int | str:
    """Return where the inner IPv6 header begins in the quoted packet: the overhead in bytes."""
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
    """Tell whether the inner packet is an ICMPv6 error (RFC 4443 section 2.4 e.1).

    When that cannot be told the answer is no for a later fragment, and for ICMPv6 whose type is
    not quoted yes: better silent than two routers answering each other's errors.
    """
    following, offset = inner[6], _IPV6_HEADER
    for _ in range(_MAX_EXTENSIONS):
        if following == _ICMPV6:
            return len(inner) <= offset or inner[offset] in _ERRORS
        if following == _FRAGMENT and len(inner) >= offset + 8:
            if struct.unpack_from("!H", inner, offset + 2)[0] & 0xFFF8:
                return False
            following, offset = inner[offset], offset + 8
            continue
        if following not in (_ROUTING, _HOP_BY_HOP, _DESTINATION) or len(inner) < offset + 8:
            return False
        following, offset = inner[offset], offset + 8 * (inner[offset + 1] + 1)
    return True
