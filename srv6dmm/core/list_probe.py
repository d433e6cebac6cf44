"""Probes of a segment list, and what a list's answers say of it.

A probe is built as the head-end builds packets of the list (core.wire_header): a header that leads
along it to its End.DT6, then what leads home, then a UDP packet of the head-end to itself. Whoever
decapsulates need not know of probes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

from srv6dmm.core.wire_header import WireHeader, wire_header
from srv6dmm.model.sid import EncapMode, SegmentList

HOP_LIMIT = 64
_UDP = 17
_HEADER = struct.Struct("!IHBB16s16s")
_FORM = struct.Struct("!4sI8s")
_MAGIC = b"s6sl"
NONCE_OCTETS = 8

MISSES = 3
"""Probes without an answer, one after the other, by which a list is silent."""
ANSWERS = 3
"""Answers, one after the other, by which it is no more."""


@dataclass(frozen=True, slots=True)
class ListProbe:
    """What a probe says, to whoever sent it."""

    sequence: int
    nonce: bytes

    def encode(self) -> bytes:
        """Return the message."""
        return _FORM.pack(_MAGIC, self.sequence, self.nonce)


def decode(data: bytes) -> ListProbe | None:
    """Return the probe in a message; None for anything else."""
    if len(data) != _FORM.size:
        return None
    magic, sequence, nonce = _FORM.unpack(data)
    return ListProbe(sequence, nonce) if magic == _MAGIC else None


def probe_packet(
    mode: EncapMode,
    home: IPv6Address,
    port: int,
    segments: SegmentList,
    back: SegmentList,
    message: bytes,
) -> bytes:
    """Return a whole packet, from and to `home` and its UDP port. Raises ValueError (wire_header).

    `back`: segments of the way home, () for plain routing.
    """
    packet = _udp(home, port, message)
    packet = _ipv6(home, home, _UDP, packet)
    if back:
        packet = _encapsulated(wire_header(mode, home, back), packet)
    return _encapsulated(wire_header(mode, home, segments), packet)


def _encapsulated(header: WireHeader, packet: bytes) -> bytes:
    following = header.srh + packet
    return _ipv6(header.source, header.destination, header.next_header, following)


def _ipv6(source: IPv6Address, destination: IPv6Address, kind: int, payload: bytes) -> bytes:
    head = _HEADER.pack(6 << 28, len(payload), kind, HOP_LIMIT, source.packed, destination.packed)
    return head + payload


def _udp(home: IPv6Address, port: int, message: bytes) -> bytes:
    length = 8 + len(message)
    pseudo = home.packed * 2 + struct.pack("!IHBB", length, 0, 0, _UDP)
    whole = pseudo + struct.pack("!HHHH", port, port, length, 0) + message
    whole += b"\0" * (len(whole) % 2)
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = (~total & 0xFFFF) or 0xFFFF
    return struct.pack("!HHHH", port, port, length, checksum) + message


@dataclass(frozen=True, slots=True)
class Answering:
    """Whether a list answers, as far as its probes tell."""

    silent: bool = False
    missed: int = 0
    """Without an answer, one after the other."""
    answered: int = 0
    """With one, one after the other."""


def missed(known: Answering) -> Answering:
    """Return what is known after a probe that was not answered."""
    count = known.missed + 1
    return Answering(known.silent or count >= MISSES, count)


def answered(known: Answering) -> Answering:
    """Return what is known after an answer."""
    count = known.answered + 1
    return Answering(known.silent and count < ANSWERS, 0, count)


def excused(known: Answering) -> Answering:
    """Return what is known after a probe whose loss says nothing: a change was under way."""
    return replace(known, missed=0)
