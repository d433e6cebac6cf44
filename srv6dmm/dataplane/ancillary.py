"""Ancillary data of IPv6 packets (RFC 3542), and the kernel's time of their arrival."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Address

_IPV6_PKTINFO = 50
SO_TIMESTAMPNS = 64
"""SO_TIMESTAMPNS_NEW (Linux 5.1): two 64-bit numbers on every machine."""
PACKET_INFORMATION = struct.Struct("@16sI")

Ancillary = list[tuple[int, int, bytes]]


def from_address(source: IPv6Address, index: int = 0) -> Ancillary:
    """Return the ancillary data that makes a packet leave with a source address.

    And by the interface of an index, if one is given.
    """
    return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, PACKET_INFORMATION.pack(source.packed, index))]


def hop_limit(ancillary: Ancillary) -> int:
    """Return the hop limit a packet arrived with; 0 when the kernel did not say."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT and len(data) >= 4:
            return int(struct.unpack_from("@i", data)[0])
    return 0


def arrival_index(ancillary: Ancillary) -> int:
    """Return the index of the interface a packet arrived by; 0 when the kernel did not say."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            return int(PACKET_INFORMATION.unpack_from(data)[1])
    return 0


def arrival_ns(ancillary: Ancillary) -> int | None:
    """Return when the kernel took a packet in, in nanoseconds of CLOCK_REALTIME, if it says so."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack_from("@qq", data)
            return int(seconds) * 10**9 + int(nanoseconds)
    return None
