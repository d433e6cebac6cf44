"""Netlink attributes and message headers: the bytes every family shares."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from srv6dmm.dataplane.netlink.numbers import NLA_TYPE_MASK

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
ATTRIBUTE = struct.Struct("=HH")
U16 = struct.Struct("=H")
U32 = struct.Struct("=I")
S32 = struct.Struct("=i")
U64 = struct.Struct("=Q")


class MalformedMessage(ValueError):
    """Bytes that are not a netlink message of the form they claim to be."""


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Return a whole message with sequence and port 0 (the socket fills the sequence in)."""
    return HEADER.pack(16 + len(body), kind, flags, 0, 0) + body


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to a multiple of four bytes."""
    length = 4 + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def u32(kind: int, value: int) -> bytes:
    """Return an attribute with a 32-bit unsigned value."""
    return ATTRIBUTE.pack(8, kind) + U32.pack(value)


def number(payload: bytes, form: struct.Struct = U32) -> int:
    """Return an attribute's value. Raises MalformedMessage when it has another size."""
    if len(payload) != form.size:
        raise MalformedMessage(f"a number of {len(payload)} bytes, not {form.size}")
    return int(form.unpack(payload)[0])


def attributes(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Return the attributes of data[start:end], type (without flag bits) -> payload.

    Of a type that comes twice the last one wins, as in the kernel. Raises MalformedMessage
    when a length does not fit.
    """
    found: dict[int, bytes] = {}
    unpack = ATTRIBUTE.unpack_from
    while start + 4 <= end:
        length, kind = unpack(data, start)
        if length < 4 or start + length > end:
            raise MalformedMessage(f"attribute of {length} bytes at {start} of {end}")
        found[kind & NLA_TYPE_MASK] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Yield (type, flags, sequence, port, start of body, end of body) of every message."""
    offset, total = 0, len(datagram)
    while offset + 16 <= total:
        length, kind, flags, sequence, port = HEADER.unpack_from(datagram, offset)
        if length < 16 or offset + length > total:
            raise MalformedMessage(f"message of {length} bytes at {offset} of {total}")
        yield kind, flags, sequence, port, offset + 16, offset + length
        offset += (length + 3) & ~3
