"""Keys and values of the maps: ebpf/lib/layout.h, mirrored.

Integers are in host byte order, addresses and prefixes as on the wire. The loader has the
compiler check every size and offset (`assertions`), so the two can never drift apart unnoticed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from ipaddress import IPv6Address

from srv6dmm.dataplane.fastpath.rule_layout import RULE_STRUCTURES
from srv6dmm.dataplane.fastpath.structures import Layout, layout
from srv6dmm.model.sid import EncapMode, SegmentList

MAX_SEGMENTS = 6
MAX_HEADER = 144
MAX_UNTAGGED = 4096
MAX_HOPS = 1024
HOP_LIMIT = 64
"""Of outer headers (RFC 2473 section 6.3)."""
_ROUTING, _IPV6, _SRH_TYPE = 43, 41, 4
NO_ADDRESS = IPv6Address(0)


class PortRole(IntEnum):
    """enum port_role."""

    ACCESS = 1
    OUTSIDE = 2
    CORE = 3


class SteerAction(IntEnum):
    """enum steer_action."""

    ENCAP = 1
    DELIVER = 2
    DROP = 3
    KERNEL = 4
    """Of flow rules: left to the kernel."""


class SidCode(IntEnum):
    """enum sid_behavior: IANA's codepoints (RFC 8986 section 10.2, RFC 9433 section 11)."""

    END = 1
    END_X = 5
    END_DX6 = 16
    END_DX4 = 17
    END_DT6 = 18
    END_DT4 = 19
    END_MAP = 40


class EventKind(IntEnum):
    """enum event_kind."""

    SOLICITATION = 1
    DAD = 2
    DATA = 3


_PORT_KEY, _PORT_KEY_LAYOUT = layout("I I", "ifindex vlan")
_PORT, _PORT_LAYOUT = layout("I I", "role detect")
_CONFIG, _CONFIG_LAYOUT = layout(
    "16s 16s I I I I", "sid_block sid_block_mask has_flows has_foreign event_gap_ms locator_length"
)
_STEER, _STEER_LAYOUT = layout("I I I I", "action path counter reserved")
_FOREIGN_KEY, _FOREIGN_KEY_LAYOUT = layout("I 16s", "length address")
_PATH, _PATH_LAYOUT = layout(
    "I H H I H H 16s 16s 144s", "ifindex header_length mtu counter flags hop next_hop last header"
)
_HOP, _HOP_LAYOUT = layout(
    "I H H 6s 6s I 16s", "ifindex state mtu mac source_mac reserved next_hop"
)
_DELIVERY, _DELIVERY_LAYOUT = layout(
    "I I 6s 6s H H 16s", "ifindex counter mac source_mac flags mtu next_hop"
)
_BINDING_KEY, _BINDING_KEY_LAYOUT = layout("8s I I 6s 2s", "prefix ifindex vlan mac pad")
_SID, _SID_LAYOUT = layout(
    "I H H I I 16s 16s", "behavior flags hop ifindex counter next_hop mapped"
)
_COUNTER, _COUNTER_LAYOUT = layout("Q Q Q", "packets bytes last")
_EVENT, _EVENT_LAYOUT = layout("I I I 6s 2s 16s I", "kind ifindex vlan mac pad address reserved")

STRUCTURES: dict[str, Layout] = {
    "port_key": _PORT_KEY_LAYOUT,
    "port": _PORT_LAYOUT,
    "config": _CONFIG_LAYOUT,
    "steer": _STEER_LAYOUT,
    **RULE_STRUCTURES,
    "foreign_key": _FOREIGN_KEY_LAYOUT,
    "path": _PATH_LAYOUT,
    "hop": _HOP_LAYOUT,
    "delivery": _DELIVERY_LAYOUT,
    "binding_key": _BINDING_KEY_LAYOUT,
    "sid": _SID_LAYOUT,
    "counter": _COUNTER_LAYOUT,
    "event": _EVENT_LAYOUT,
}


def assertions() -> str:
    """Return C that does not compile when a structure is not laid out as here."""
    lines = []
    for name, found in STRUCTURES.items():
        lines.append(f'_Static_assert(sizeof(struct {name}) == {found.size}, "{name}");')
        ends = [*found.offsets.values(), found.size][1:]
        for (member, offset), end in zip(found.offsets.items(), ends, strict=True):
            lines.append(
                f"_Static_assert(__builtin_offsetof(struct {name}, {member}) == {offset} && "
                f"sizeof(((struct {name} *)0)->{member}) == {end - offset}, "
                f'"{name}.{member}");'
            )
    return "\n".join(lines) + "\n"


class HopState(IntEnum):
    """enum hop_state."""

    UNKNOWN = 0
    RESOLVED = 1
    DOWN = 2
    """Its device has no carrier."""


@dataclass(frozen=True, slots=True)
class PortKey:
    """struct port_key."""

    ifindex: int
    vlan: int = 0

    def pack(self) -> bytes:
        return _PORT_KEY.pack(self.ifindex, self.vlan)

    @classmethod
    def unpack(cls, data: bytes) -> PortKey:
        return cls(*_PORT_KEY.unpack(data))


@dataclass(frozen=True, slots=True)
class Port:
    """struct port."""

    role: int
    detect: int = 0

    def pack(self) -> bytes:
        return _PORT.pack(self.role, self.detect)

    @classmethod
    def unpack(cls, data: bytes) -> Port:
        return cls(*_PORT.unpack(data))


@dataclass(frozen=True, slots=True)
class Config:
    """struct config."""

    sid_block: IPv6Address
    sid_block_mask: IPv6Address
    has_flows: int = 0
    has_foreign: int = 0
    event_gap_ms: int = 0
    locator_length: int = 0

    def pack(self) -> bytes:
        return _CONFIG.pack(
            self.sid_block.packed,
            self.sid_block_mask.packed,
            self.has_flows,
            self.has_foreign,
            self.event_gap_ms,
            self.locator_length,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Config:
        block, mask, *rest = _CONFIG.unpack(data)
        return cls(IPv6Address(block), IPv6Address(mask), *rest)


@dataclass(frozen=True, slots=True)
class Steer:
    """struct steer."""

    action: int
    path: int = 0
    counter: int = 0

    def pack(self) -> bytes:
        return _STEER.pack(self.action, self.path, self.counter, 0)

    @classmethod
    def unpack(cls, data: bytes) -> Steer:
        return cls(*_STEER.unpack(data)[:3])


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """struct foreign_key."""

    length: int
    address: IPv6Address

    def pack(self) -> bytes:
        return _FOREIGN_KEY.pack(self.length, self.address.packed)

    @classmethod
    def unpack(cls, data: bytes) -> ForeignKey:
        length, address = _FOREIGN_KEY.unpack(data)
        return cls(length, IPv6Address(address))


@dataclass(frozen=True, slots=True)
class Path:
    """struct path. `header` is as long as `header_length` says."""

    ifindex: int
    header_length: int
    mtu: int
    counter: int
    flags: int
    next_hop: IPv6Address
    last: IPv6Address
    header: bytes
    hop: int = 0

    def pack(self) -> bytes:
        return _PATH.pack(
            self.ifindex,
            self.header_length,
            self.mtu,
            self.counter,
            self.flags,
            self.hop,
            self.next_hop.packed,
            self.last.packed,
            self.header,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Path:
        ifindex, length, mtu, counter, flags, hop, next_hop, last, header = _PATH.unpack(data)
        return cls(
            ifindex,
            length,
            mtu,
            counter,
            flags,
            IPv6Address(next_hop),
            IPv6Address(last),
            header[:length],
            hop,
        )


@dataclass(frozen=True, slots=True)
class Hop:
    """struct hop. Its link-layer addresses mean something when it is resolved."""

    ifindex: int
    next_hop: IPv6Address
    state: HopState = HopState.UNKNOWN
    mtu: int = 0
    mac: bytes = bytes(6)
    source_mac: bytes = bytes(6)

    def pack(self) -> bytes:
        return _HOP.pack(
            self.ifindex,
            self.state,
            self.mtu,
            self.mac,
            self.source_mac,
            0,
            self.next_hop.packed,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Hop:
        ifindex, state, mtu, mac, source_mac, _, next_hop = _HOP.unpack(data)
        return cls(ifindex, IPv6Address(next_hop), HopState(state), mtu, mac, source_mac)

    @property
    def resolved(self) -> bool:
        """Whether the link-layer addresses are known."""
        return self.state is HopState.RESOLVED


@dataclass(frozen=True, slots=True)
class Delivery:
    """struct delivery."""

    ifindex: int
    counter: int
    mac: bytes
    source_mac: bytes
    flags: int
    next_hop: IPv6Address
    mtu: int = 0

    def pack(self) -> bytes:
        return _DELIVERY.pack(
            self.ifindex,
            self.counter,
            self.mac,
            self.source_mac,
            self.flags,
            self.mtu,
            self.next_hop.packed,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Delivery:
        ifindex, counter, mac, source_mac, flags, mtu, next_hop = _DELIVERY.unpack(data)
        return cls(ifindex, counter, mac, source_mac, flags, IPv6Address(next_hop), mtu)


@dataclass(frozen=True, slots=True)
class BindingKey:
    """struct binding_key. `prefix`: the eight octets of the /64."""

    prefix: bytes
    ifindex: int
    vlan: int
    mac: bytes

    def pack(self) -> bytes:
        return _BINDING_KEY.pack(self.prefix, self.ifindex, self.vlan, self.mac, bytes(2))

    @classmethod
    def unpack(cls, data: bytes) -> BindingKey:
        return cls(*_BINDING_KEY.unpack(data)[:4])


@dataclass(frozen=True, slots=True)
class Sid:
    """struct sid."""

    behavior: int
    flags: int = 0
    ifindex: int = 0
    counter: int = 0
    next_hop: IPv6Address = NO_ADDRESS
    mapped: IPv6Address = NO_ADDRESS
    hop: int = 0

    def counted(self, counter: int) -> Sid:
        """Return the same SID with this counter."""
        return replace(self, counter=counter)

    def pack(self) -> bytes:
        return _SID.pack(
            self.behavior,
            self.flags,
            self.hop,
            self.ifindex,
            self.counter,
            self.next_hop.packed,
            self.mapped.packed,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Sid:
        behavior, flags, hop, ifindex, counter, next_hop, mapped = _SID.unpack(data)
        addresses = IPv6Address(next_hop), IPv6Address(mapped)
        return cls(behavior, flags, ifindex, counter, *addresses, hop)


@dataclass(frozen=True, slots=True)
class Counter:
    """struct counter, of one CPU or summed. `last`: jiffies of the newest packet, 0: none."""

    packets: int
    octets: int
    last: int

    def pack(self) -> bytes:
        return _COUNTER.pack(self.packets, self.octets, self.last)

    @classmethod
    def unpack(cls, data: bytes) -> Counter:
        return cls(*_COUNTER.unpack(data))


@dataclass(frozen=True, slots=True)
class Event:
    """struct event."""

    kind: int
    ifindex: int
    vlan: int
    mac: bytes
    address: IPv6Address

    @classmethod
    def unpack(cls, data: bytes) -> Event:
        kind, ifindex, vlan, mac, _, address, _ = _EVENT.unpack(data)
        return cls(kind, ifindex, vlan, mac, IPv6Address(address))


def outer_header(mode: EncapMode, segments: SegmentList, source: IPv6Address) -> bytes:
    """Return the outer header of H.Encaps or H.Encaps.Red (RFC 8986 section 5), unpatched.

    Traffic class, flow label and payload length are 0; the innermost next header says IPv6.
    Raises ValueError for a list that is empty, longer than six, or a mode that has no outer
    header.
    """
    if not 1 <= len(segments) <= MAX_SEGMENTS:
        raise ValueError(f"{len(segments)} segments: the fast path takes 1 to {MAX_SEGMENTS}")
    if mode is EncapMode.INLINE:
        raise ValueError("inline has no outer header; the kernel's route does it")
    listed = segments if mode is EncapMode.ENCAP else segments[1:]
    fixed = struct.pack(">IHBB", 6 << 28, 0, _ROUTING if listed else _IPV6, HOP_LIMIT)
    header = fixed + source.packed + segments[0].packed
    if not listed:
        return header
    left, last = len(segments) - 1, len(listed) - 1
    header += struct.pack(">BBBBBBH", _IPV6, 2 * len(listed), _SRH_TYPE, left, last, 0, 0)
    return header + b"".join(segment.packed for segment in reversed(listed))
