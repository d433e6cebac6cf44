"""Bytes of seg6 and seg6local encapsulations; the one place with SRH (reversed) order.

Outside of this file a segment list is in travel order. In the segment routing header
(RFC 8754 section 2) Segment List[0] is the last segment of the path.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import (
    S32,
    U64,
    MalformedMessage,
    attribute,
    attributes,
    number,
    u32,
)
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable
from srv6dmm.dataplane.objects import Seg6Encap, Seg6Local
from srv6dmm.model.sid import Behavior, EncapMode, Flavor, SegmentList

_SRH = struct.Struct("=BBBBBBH")
"""Next header, length in 8 bytes without the first 8, type, segments left, last entry, flags,
tag (RFC 8754 section 2)."""
_UNSPECIFIED = bytes(16)

MODES = {
    EncapMode.INLINE: n.SEG6_IPTUN_MODE_INLINE,
    EncapMode.ENCAP: n.SEG6_IPTUN_MODE_ENCAP,
    EncapMode.ENCAP_RED: n.SEG6_IPTUN_MODE_ENCAP_RED,
}
_MODE_OF = {number: mode for mode, number in MODES.items()}
_ACTIONS = {
    Behavior.END: n.SEG6_LOCAL_ACTION_END,
    Behavior.END_X: n.SEG6_LOCAL_ACTION_END_X,
    Behavior.END_DT6: n.SEG6_LOCAL_ACTION_END_DT6,
    Behavior.END_DX4: n.SEG6_LOCAL_ACTION_END_DX4,
    Behavior.END_DX6: n.SEG6_LOCAL_ACTION_END_DX6,
    Behavior.END_B6_ENCAPS: n.SEG6_LOCAL_ACTION_END_B6_ENCAP,
}
_BEHAVIOR_OF = {number: behavior for behavior, number in _ACTIONS.items()}
_FLAVORS = {
    Flavor.PSP: 1 << n.SEG6_LOCAL_FLV_OP_PSP,
    Flavor.NEXT_CSID: 1 << n.SEG6_LOCAL_FLV_OP_NEXT_CSID,
}
_CONTAINER = {
    n.SEG6_LOCAL_FLV_LCBLOCK_BITS: bytes([32]),
    n.SEG6_LOCAL_FLV_LCNODE_FN_BITS: bytes([16]),
}
"""What Linux takes when nothing is said, and always shows: core.compression counts on it."""
_NEED = {
    Behavior.END: (),
    Behavior.END_X: ("next_hop",),
    Behavior.END_DT6: ("table",),
    Behavior.END_DX4: ("next_hop4",),
    Behavior.END_DX6: ("next_hop",),
    Behavior.END_B6_ENCAPS: (),
}
_MAY = {behavior: set(needed) for behavior, needed in _NEED.items()}
_MAY[Behavior.END_X].add("interface")
_NO_COUNTS = b"".join(
    attribute(kind, bytes(8))
    for kind in (n.SEG6_LOCAL_CNT_PACKETS, n.SEG6_LOCAL_CNT_BYTES, n.SEG6_LOCAL_CNT_ERRORS)
)
_COUNTERS = attribute(n.SEG6_LOCAL_COUNTERS | n.NLA_F_NESTED, _NO_COUNTS)

Counters = tuple[int, int, int]
"""Packets, bytes, errors."""


def encap_head(mode: EncapMode, segments: int) -> bytes:
    """Return everything of an RTA_ENCAP payload before the segments, for a list that long."""
    entries = segments + 1 if mode is EncapMode.INLINE else segments
    srh = _srh_head(segments, entries)
    length = 4 + 4 + len(srh) + 16 * entries
    head = struct.pack("=HHi", length, n.SEG6_IPTUNNEL_SRH, MODES[mode]) + srh
    # In inline mode the kernel writes the packet's own destination into Segment List[0].
    return head + _UNSPECIFIED if mode is EncapMode.INLINE else head


def _srh_head(segments: int, entries: int) -> bytes:
    if not 1 <= segments <= 126:
        raise ValueError(f"a segment list has 1 to 126 segments, not {segments}")
    return _SRH.pack(0, 2 * entries, n.IPV6_SRCRT_TYPE_4, entries - 1, entries - 1, 0, 0)


def _srh(segments: SegmentList) -> bytes:
    """Return a whole segment routing header."""
    head = _srh_head(len(segments), len(segments))
    return head + b"".join(segment.packed for segment in reversed(segments))


def encode_encap(encap: Seg6Encap) -> bytes:
    """Return the payload of RTA_ENCAP for a seg6 route. ValueError: no or too many segments."""
    head = encap_head(encap.mode, len(encap.segments))
    return head + b"".join([segment.packed for segment in reversed(encap.segments)])


@lru_cache(maxsize=65536)
def _address(packed: bytes) -> IPv6Address:
    return IPv6Address(packed)


@lru_cache(maxsize=65536)
def decode_encap(payload: bytes) -> Seg6Encap:
    """Return the encapsulation of an RTA_ENCAP payload. MalformedMessage if it is none."""
    tunnel = attributes(payload, 0, len(payload)).get(n.SEG6_IPTUNNEL_SRH)
    if tunnel is None or len(tunnel) < 12:
        raise MalformedMessage("seg6 encapsulation without a segment routing header")
    mode = _MODE_OF.get(S32.unpack_from(tunnel)[0])
    if mode is None:
        raise MalformedMessage(f"seg6 encapsulation mode {S32.unpack_from(tunnel)[0]}")
    last_entry = _SRH.unpack_from(tunnel, 4)[4]
    if len(tunnel) < 12 + 16 * (last_entry + 1):
        raise MalformedMessage(f"segment list of {last_entry + 1} segments is cut short")
    first = 1 if mode is EncapMode.INLINE else 0
    segments: SegmentList = tuple(
        _address(tunnel[12 + 16 * index : 28 + 16 * index])
        for index in range(last_entry, first - 1, -1)
    )
    return Seg6Encap(mode, segments)


def encode_local(local: Seg6Local, interfaces: InterfaceTable) -> bytes:
    """Return the payload of RTA_ENCAP for a local SID.

    Raises ValueError when the behavior lacks a parameter, or has one that Linux would ignore
    without a word.
    """
    for parameter in ("next_hop", "next_hop4", "interface", "table"):
        given = getattr(local, parameter) is not None
        if parameter in _NEED[local.behavior] and not given:
            raise ValueError(f"{local.behavior} needs {parameter}")
        if given and parameter not in _MAY[local.behavior]:
            raise ValueError(f"{local.behavior} takes no {parameter} in Linux; leave it out")
    if (local.behavior is Behavior.END_B6_ENCAPS) != bool(local.segments):
        raise ValueError(f"{local.behavior} with {len(local.segments)} segments cannot be")
    parts = [u32(n.SEG6_LOCAL_ACTION, _ACTIONS[local.behavior])]
    if local.segments:
        parts.append(attribute(n.SEG6_LOCAL_SRH, _srh(local.segments)))
    if local.table is not None:
        parts.append(u32(n.SEG6_LOCAL_TABLE, local.table))
    if local.next_hop4 is not None:
        parts.append(attribute(n.SEG6_LOCAL_NH4, local.next_hop4.packed))
    if local.next_hop is not None:
        parts.append(attribute(n.SEG6_LOCAL_NH6, local.next_hop.packed))
    if local.interface is not None:
        parts.append(u32(n.SEG6_LOCAL_OIF, interfaces.index(local.interface)))
    if local.count:
        parts.append(_COUNTERS)
    if local.flavors:
        operations = sum({_FLAVORS[flavor] for flavor in local.flavors})
        nested = u32(n.SEG6_LOCAL_FLV_OPERATION, operations)
        parts.append(attribute(n.SEG6_LOCAL_FLAVORS | n.NLA_F_NESTED, nested))
    return b"".join(parts)


def decode_local(payload: bytes, interfaces: InterfaceTable) -> Seg6Local:
    """Return the local SID of an RTA_ENCAP payload. MalformedMessage for other behaviors."""
    found = attributes(payload, 0, len(payload))
    action = number(found[n.SEG6_LOCAL_ACTION]) if n.SEG6_LOCAL_ACTION in found else 0
    behavior = _BEHAVIOR_OF.get(action)
    if behavior is None:
        raise MalformedMessage(f"seg6local action {action} is none of ours")
    table, oif = found.get(n.SEG6_LOCAL_TABLE), found.get(n.SEG6_LOCAL_OIF)
    next_hop, next_hop4 = found.get(n.SEG6_LOCAL_NH6), found.get(n.SEG6_LOCAL_NH4)
    flavors: tuple[Flavor, ...] = ()
    if nested := found.get(n.SEG6_LOCAL_FLAVORS):
        flavors = _flavors(attributes(nested, 0, len(nested)))
    return Seg6Local(
        behavior=behavior,
        next_hop=_address(next_hop) if next_hop else None,
        next_hop4=IPv4Address(next_hop4) if next_hop4 else None,
        interface=interfaces.name(number(oif)) if oif else None,
        table=number(table) if table else None,
        segments=_listed(found[n.SEG6_LOCAL_SRH]) if n.SEG6_LOCAL_SRH in found else (),
        flavors=flavors,
        count=n.SEG6_LOCAL_COUNTERS in found,
    )


def _flavors(found: dict[int, bytes]) -> tuple[Flavor, ...]:
    operations = found.get(n.SEG6_LOCAL_FLV_OPERATION)
    bits = number(operations) if operations else 0
    other = any(found.get(kind, length) != length for kind, length in _CONTAINER.items())
    if bits & _FLAVORS[Flavor.NEXT_CSID] and other:
        raise MalformedMessage("NEXT-C-SID with other than 32 bits of block and 16 of number")
    return tuple(flavor for flavor in Flavor if bits & _FLAVORS[flavor])


def _listed(srh: bytes) -> SegmentList:
    """Return the segments of a segment routing header, in travel order."""
    if len(srh) < 8:
        raise MalformedMessage(f"a segment routing header of {len(srh)} bytes")
    last_entry = srh[4]
    if len(srh) < 8 + 16 * (last_entry + 1):
        raise MalformedMessage(f"segment list of {last_entry + 1} segments is cut short")
    return tuple(
        _address(srh[8 + 16 * index : 24 + 16 * index]) for index in range(last_entry, -1, -1)
    )


def decode_counters(payload: bytes) -> Counters | None:
    """Return what a local SID counted, from its RTA_ENCAP payload; None if it does not count."""
    nested = attributes(payload, 0, len(payload)).get(n.SEG6_LOCAL_COUNTERS)
    if nested is None:
        return None
    found = attributes(nested, 0, len(nested))
    values = [
        number(found.get(kind, bytes(8)), U64)
        for kind in (n.SEG6_LOCAL_CNT_PACKETS, n.SEG6_LOCAL_CNT_BYTES, n.SEG6_LOCAL_CNT_ERRORS)
    ]
    return values[0], values[1], values[2]
