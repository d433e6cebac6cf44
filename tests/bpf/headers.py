"""Headers as octets: what is wrong with them, and what a router changes in them."""

from __future__ import annotations

import struct
from typing import NamedTuple

IPV6, IPV4 = b"\x86\xdd", b"\x08\x00"
TAGS = (b"\x81\x00", b"\x88\xa8")
HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS = 0, 43, 44, 60
WITH_PORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
MOST_EXTENSIONS = 6
LOOPBACK = bytes(15) + b"\1"


def is_local(address: bytes) -> bool:
    """Tell multicast, link-local, unspecified and loopback addresses (RFC 4291)."""
    first = address[0]
    if first == 0xFF:
        return True
    if first == 0xFE:
        return address[1] & 0xC0 == 0x80
    return first == 0 and address[:15] == bytes(15) and address[15] < 2


def after_tunnel(outer: int, inner: int) -> int | None:
    """The ECN field after decapsulation, None for a packet to drop: RFC 6040, figure 4."""
    not_ect, ect1, ect0, ce = 0, 1, 2, 3
    table = {
        not_ect: (not_ect, not_ect, not_ect, None),
        ect0: (ect0, ect0, ect1, ce),
        ect1: (ect1, ect1, ect1, ce),
        ce: (ce, ce, ce, ce),
    }
    return table[inner][(not_ect, ect0, ect1, ce).index(outer)]


def one_less(header: bytes) -> bytes:
    """An IPv4 header with TTL - 1 and its checksum updated by equation 3 of RFC 1624."""
    old = header[8] << 8 | header[9]
    check = (~(header[10] << 8 | header[11]) & 0xFFFF) + (~old & 0xFFFF) + old - 0x100
    while check > 0xFFFF:
        check = (check & 0xFFFF) + (check >> 16)
    check = ~check & 0xFFFF
    return header[:8] + bytes((header[8] - 1, header[9], check >> 8, check & 0xFF)) + header[12:20]


def remarked(header: bytes, mark: int) -> bytes:
    """An IPv4 header with another ECN field and its checksum updated by equation 3 of RFC 1624."""
    old, new = header[0] << 8 | header[1], header[0] << 8 | header[1] & 0xFC | mark
    if old == new:
        return header
    check = (~(header[10] << 8 | header[11]) & 0xFFFF) + (~old & 0xFFFF) + new
    while check > 0xFFFF:
        check = (check & 0xFFFF) + (check >> 16)
    return (
        new.to_bytes(2, "big") + header[2:10] + (~check & 0xFFFF).to_bytes(2, "big") + header[12:]
    )


def redestined(frame: bytes, at: int, destination: bytes, hops: int = 1) -> bytes:
    """The frame without its tag, with hop limit - `hops` and another destination."""
    return (
        frame[:12]
        + IPV6
        + frame[at : at + 7]
        + bytes((frame[at + 7] - hops,))
        + frame[at + 8 : at + 24]
        + destination
        + frame[at + 40 :]
    )


def wrong_ipv6(frame: bytes, at: int, end: int) -> str | None:
    """Why there is no whole IPv6 packet at `at` that ends by `end` (RFC 8200, RFC 2675)."""
    return no_header(frame, at, end) or wrong_length(frame, at, end)


def no_header(frame: bytes, at: int, end: int) -> str | None:
    """Why there is no fixed IPv6 header at `at`."""
    if end < at + 40:
        return "TRUNCATED"
    return "NOT_IP" if frame[at] >> 4 != 6 else None


def wrong_length(frame: bytes, at: int, end: int) -> str | None:
    """Why the packet does not end by `end`, or does not say where it ends."""
    payload = frame[at + 4] << 8 | frame[at + 5]
    if not payload and frame[at + 6] == HOP_BY_HOP:
        return "JUMBO"
    return "TRUNCATED" if end < at + 40 + payload else None


def wrong_ipv4(frame: bytes, at: int, end: int) -> str | None:
    """Why there is no whole IPv4 packet without options at `at` that ends by `end` (RFC 791)."""
    if end < at + 20:
        return "TRUNCATED"
    if frame[at] >> 4 != 4:
        return "NOT_IP"
    length = frame[at + 2] << 8 | frame[at + 3]
    words = frame[at] & 15
    if words < 5 or length < 20 or end < at + length:
        return "TRUNCATED"
    if words > 5:
        return "IP_OPTIONS"
    return None if sum_of(frame[at : at + 20]) == 0xFFFF else "BAD_CHECKSUM"


def sum_of(octets: bytes) -> int:
    """The sum of 16-bit words in ones' complement (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def is_local4(address: bytes) -> bool:
    """Tell IPv4 addresses that are no unicast address beyond a link (RFC 6890)."""
    return address[0] in (0, 127) or address[0] >= 224


def routing(frame: bytes, at: int, room: int) -> str | tuple[int, int, int]:
    """Why an SRH is not for us, or its next header, Segments Left and octets (RFC 8754)."""
    if room < 8:
        return "TRUNCATED"
    following, length, kind, left, last, flags = frame[at : at + 6]
    if kind != 4:
        return "EXTENSIONS"
    if room < 8 + 8 * length:
        return "TRUNCATED"
    if last > length // 2 - 1 or left > last + 1:
        return "BAD_SRH"
    if length > (last + 1) * 2:
        return "SRH_TLV"
    if flags:
        return "SRH_FLAGS"
    if following == FRAGMENT:
        return "FRAGMENT"
    if following in (HOP_BY_HOP, OPTIONS, ROUTING):
        return "EXTENSIONS"
    return following, left, 8 + 8 * length


class Upper(NamedTuple):
    """A packet's protocol, and its ports as octets if it has any."""

    protocol: int
    ports: bytes | None


def upper_of(frame: bytes, at: int) -> Upper | None:
    """The upper layer of a packet; None where a router cannot or need not read it.

    A fragment other than the first has the protocol that follows, and no ports.
    """
    end = at + 40 + (frame[at + 4] << 8 | frame[at + 5])
    following, place = frame[at + 6], at + 40
    for seen in range(MOST_EXTENSIONS + 1):
        if following not in (HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS):
            break
        if place + 8 > end:
            return None
        if following == FRAGMENT and (frame[place + 2] or frame[place + 3] & 0xF8):
            return Upper(frame[place], None)
        if seen == MOST_EXTENSIONS:
            return None
        size = 8 if following == FRAGMENT else 8 + 8 * frame[place + 1]
        following, place = frame[place], place + size
    if following in WITH_PORTS and place + 4 <= end:
        return Upper(following, frame[place : place + 4])
    return Upper(following, None)
