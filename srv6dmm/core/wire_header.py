"""The outer header as it will be on the wire (RFC 8200, RFC 8754, RFC 8986 section 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from srv6dmm.model.sid import EncapMode, SegmentList

ROUTING, IPV6 = 43, 41
_SRH_TYPE = 4


@dataclass(frozen=True, slots=True)
class WireHeader:
    """An outer header. Traffic class, flow label and hop limit are the head-end's own doing."""

    source: IPv6Address
    destination: IPv6Address
    """The first segment."""
    next_header: int
    srh: bytes
    """Empty where a single segment needs none."""

    @property
    def octets(self) -> int:
        """Bytes that it adds to a packet."""
        return 40 + len(self.srh)


def wire_header(mode: EncapMode, source: IPv6Address, segments: SegmentList) -> WireHeader:
    """Return the header a head-end puts before a packet.

    Raises ValueError for an empty list and for `inline`, which puts no header before one.
    """
    if not segments:
        raise ValueError("a segment list has at least one segment")
    if mode is EncapMode.INLINE:
        raise ValueError("inline puts an SRH into the packet and no header before it")
    reduced = mode is EncapMode.ENCAP_RED
    listed = segments[1:] if reduced else segments
    if not listed:
        return WireHeader(source, segments[0], IPV6, b"")
    head = struct.pack(
        "!BBBBBBH", IPV6, 2 * len(listed), _SRH_TYPE, len(segments) - 1, len(listed) - 1, 0, 0
    )
    srh = head + b"".join(segment.packed for segment in reversed(listed))
    return WireHeader(source, segments[0], ROUTING, srh)
