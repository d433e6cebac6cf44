"""Frames as the generator sends them: Ethernet, IPv6, an SRH where there is one, UDP."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from srv6dmm.model.sid import SegmentList

ETHERNET = 14
IPV6 = 40
UDP = 8
SOURCE_PORT, DESTINATION_PORT = 5001, 5002
_IPV6_TYPE = 0x86DD
_UDP, _ROUTING, _IN_IPV6 = 17, 43, 41


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame and where in it the generator may write.

    `destination`: offset of the innermost destination address; `payload`: of the UDP payload.
    """

    data: bytes
    destination: int
    payload: int


def mac_octets(mac: str) -> bytes:
    """Return the six octets of a link-layer address."""
    return bytes.fromhex(mac.replace(":", ""))


def _ipv6(
    source: IPv6Address, destination: IPv6Address, next_header: int, length: int, label: int
) -> bytes:
    first = 6 << 28 | label
    return struct.pack("!IHBB", first, length, next_header, 64) + source.packed + destination.packed


def _checksum(source: IPv6Address, destination: IPv6Address, udp: bytes) -> int:
    data = source.packed + destination.packed + struct.pack("!II", len(udp), _UDP) + udp
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


def plain(macs: tuple[str, str], source: IPv6Address, destination: IPv6Address, size: int) -> Frame:
    """Return a UDP frame of `size` octets, Ethernet header included. MACs: (from, to)."""
    packet = _datagram(source, destination, size - ETHERNET)
    return Frame(_ethernet(macs) + packet, ETHERNET + 24, ETHERNET + IPV6 + UDP)


def encapsulated(
    macs: tuple[str, str],
    outer_source: IPv6Address,
    segments: SegmentList,
    left: int,
    inner: tuple[IPv6Address, IPv6Address],
    size: int,
) -> Frame:
    """Return the same frame behind an outer header whose SRH has `left` segments left.

    The frame is longer than `size` by the outer header: it carries the same packet.
    """
    packet = _datagram(*inner, size - ETHERNET)
    listed = b"".join(segment.packed for segment in reversed(segments))
    routing = struct.pack("!BBBBBBH", _IN_IPV6, len(listed) // 8, 4, left, len(segments) - 1, 0, 0)
    routing += listed
    current = segments[len(segments) - 1 - left]
    outer = _ipv6(outer_source, current, _ROUTING, len(routing) + len(packet), 0x12345)
    head = ETHERNET + IPV6 + len(routing)
    return Frame(_ethernet(macs) + outer + routing + packet, head + 24, head + IPV6 + UDP)


def _ethernet(macs: tuple[str, str]) -> bytes:
    source, destination = macs
    return mac_octets(destination) + mac_octets(source) + struct.pack("!H", _IPV6_TYPE)


def _datagram(source: IPv6Address, destination: IPv6Address, length: int) -> bytes:
    payload = bytes(length - IPV6 - UDP)
    header = struct.pack("!HHHH", SOURCE_PORT, DESTINATION_PORT, UDP + len(payload), 0)
    check = _checksum(source, destination, header + payload)
    udp = header[:6] + struct.pack("!H", check) + payload
    return _ipv6(source, destination, _UDP, len(udp), 0) + udp
