"""Packets of live probes: how one is made, and what is read of one that was seen under way.

The last octets are a token that nobody else knows. The checksum is wrong, so that the host at the
end discards the packet without a word and no application gets it; routers never look at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from srv6dmm.core.fib_walk import Packet
from srv6dmm.model.flows import PORTS_PROTOCOLS
from srv6dmm.model.sid import SegmentList

TOKEN_OCTETS = 8
EXTENSION_HEADERS = frozenset({0, 43, 44, 60, 135, 139, 140})
"""Protocol numbers that are no upper layer (RFC 8200 section 4)."""
HOP_LIMIT = 64
_SIGN = b"srv6dmm "
"""Before the token, for people who look at captures."""
_IPV6, _IPV6_IN_IPV6, _ROUTING, _SEGMENT_ROUTING = 40, 41, 43, 4
_ECHO_REQUEST = 128


@dataclass(frozen=True, slots=True)
class Seen:
    """What is read of a packet: its own header, and the outer ones."""

    source: IPv6Address
    destination: IPv6Address
    protocol: int
    hop_limit: int
    """Of the outermost header."""
    headers: tuple[SegmentList, ...]
    """Outer headers, the outermost last: the segments left to visit, the active one first."""


def unfit(packet: Packet) -> str | None:
    """Return why no probe can be made of a packet; None: one can."""
    if packet.protocol in EXTENSION_HEADERS:
        return f"proto {packet.protocol} is an extension header: a probe needs an upper layer"
    if packet.protocol in PORTS_PROTOCOLS and None in (
        packet.source_port,
        packet.destination_port,
    ):
        return f"proto {packet.protocol} has ports: a probe needs sport and dport"
    return None


def marked_packet(packet: Packet, token: bytes) -> bytes:
    """Return a packet that ends in a token. Its checksum is wrong on purpose.

    Raises ValueError for a protocol of `EXTENSION_HEADERS`, and for ports that are not given.
    """
    fault = unfit(packet)
    if fault is not None:
        raise ValueError(fault)
    payload = _upper_layer(packet, _SIGN + token)
    first = 6 << 28 | packet.dscp << 22
    return b"".join(
        (
            first.to_bytes(4, "big"),
            len(payload).to_bytes(2, "big"),
            bytes((packet.protocol, HOP_LIMIT)),
            packet.source.packed,
            packet.destination.packed,
            payload,
        )
    )


def _upper_layer(packet: Packet, payload: bytes) -> bytes:
    ports = b"".join(
        (port or 0).to_bytes(2, "big") for port in (packet.source_port, packet.destination_port)
    )
    match packet.protocol:
        case 17 | 136:
            header, at = ports + (8 + len(payload)).to_bytes(2, "big") + bytes(2), 6
        case 6:  # no flags: nothing is asked for
            header, at = ports + bytes(8) + b"\x50" + bytes(7), 16
        case 33:
            header, at = ports + b"\x03" + bytes(7), 6
        case 132:  # its checksum is a CRC32c, which is never 0 of such a packet
            return ports + bytes(8) + payload
        case 58:
            header, at = bytes((_ECHO_REQUEST,)) + bytes(7), 2
        case _:
            return payload
    whole = header + payload
    wrong = _checksum(packet, whole) ^ 1 or 2
    return whole[:at] + wrong.to_bytes(2, "big") + whole[at + 2 :]


def _checksum(packet: Packet, upper: bytes) -> int:
    """Return the checksum of RFC 8200 section 8.1."""
    pseudo = packet.source.packed + packet.destination.packed
    data = pseudo + len(upper).to_bytes(4, "big") + packet.protocol.to_bytes(4, "big") + upper
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def read_packet(data: bytes) -> Seen | None:
    """Return what an IPv6 packet says of itself; None for what is none."""
    outer: list[SegmentList] = []
    at = 0
    while True:
        if len(data) < at + _IPV6 or data[at] >> 4 != 6:
            return None
        protocol = data[at + 6]
        source, destination = (IPv6Address(data[at + o : at + o + 16]) for o in (8, 24))
        segments = [destination]
        following = at + _IPV6
        if protocol == _ROUTING and len(data) >= following + 8:
            left = data[following + 3]
            size = 8 + 8 * data[following + 1]
            if data[following + 2] == _SEGMENT_ROUTING and len(data) >= following + 8 + 16 * left:
                for number in range(left - 1, -1, -1):
                    place = following + 8 + 16 * number
                    segments.append(IPv6Address(data[place : place + 16]))
            protocol = data[following]
            following += size
        nested = len(data) >= following + _IPV6 and data[following] >> 4 == 6
        if protocol != _IPV6_IN_IPV6 or not nested:
            if len(segments) > 1:  # a header of the packet's own (mode inline)
                outer.append(tuple(segments[:-1]))
            return Seen(source, segments[-1], protocol, data[7], tuple(reversed(outer)))
        outer.append(tuple(segments))
        at = following
