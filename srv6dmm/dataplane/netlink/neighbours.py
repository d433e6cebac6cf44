"""Bytes of neighbour messages: permanent entries marked with our protocol (Linux 5.0)."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import (
    MalformedMessage,
    attribute,
    attributes,
    message,
)
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable
from srv6dmm.dataplane.objects import PROTOCOL, Neighbour

NDMSG = struct.Struct("=BBHiHBB")
"""struct ndmsg: family, padding, padding, interface index, state, flags, type."""


@dataclass(frozen=True, slots=True)
class NeighbourFacts:
    """One neighbour entry as the kernel tells it."""

    index: int
    state: int
    protocol: int
    address: bytes
    link_layer_address: bytes


def put(neighbour: Neighbour, interfaces: InterfaceTable) -> bytes:
    """Return the message that creates or replaces the entry."""
    body = NDMSG.pack(
        socket.AF_INET6, 0, 0, interfaces.index(neighbour.interface), n.NUD_PERMANENT, 0, 0
    )
    body += attribute(n.NDA_DST, neighbour.address.packed)
    body += attribute(n.NDA_LLADDR, bytes.fromhex(neighbour.link_layer_address.replace(":", "")))
    body += attribute(n.NDA_PROTOCOL, bytes((PROTOCOL,)))
    return message(n.RTM_NEWNEIGH, n.NLM_F_REQUEST | n.NLM_F_CREATE | n.NLM_F_REPLACE, body)


def delete(neighbour: Neighbour, interfaces: InterfaceTable) -> bytes:
    """Return the message that deletes the entry."""
    index = interfaces.index(neighbour.interface)
    body = NDMSG.pack(socket.AF_INET6, 0, 0, index, 0, 0, 0)
    body += attribute(n.NDA_DST, neighbour.address.packed)
    return message(n.RTM_DELNEIGH, n.NLM_F_REQUEST, body)


def dump_request() -> bytes:
    """Return a request for every IPv6 neighbour entry."""
    body = NDMSG.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0)
    return message(n.RTM_GETNEIGH, n.NLM_F_REQUEST | n.NLM_F_DUMP, body)


def get_request(index: int, packed: bytes) -> bytes:
    """Return a request for one entry (Linux 5.0); it is rejected when there is none."""
    body = NDMSG.pack(socket.AF_INET6, 0, 0, index, 0, 0, 0)
    return message(n.RTM_GETNEIGH, n.NLM_F_REQUEST, body + attribute(n.NDA_DST, packed))


def facts(data: bytes, start: int, end: int) -> NeighbourFacts:
    """Return what a neighbour message says."""
    if end - start < NDMSG.size:
        raise MalformedMessage(f"neighbour message of {end - start} bytes")
    _, _, _, index, state, _, _ = NDMSG.unpack_from(data, start)
    found = attributes(data, start + NDMSG.size, end)
    return NeighbourFacts(
        index=index,
        state=state,
        protocol=found.get(n.NDA_PROTOCOL, b"\0")[0],
        address=found.get(n.NDA_DST, b""),
        link_layer_address=found.get(n.NDA_LLADDR, b""),
    )


def build(about: NeighbourFacts, interfaces: InterfaceTable) -> Neighbour | None:
    """Return the entry if it is one of ours: permanent, with our protocol."""
    if about.protocol != PROTOCOL or not about.state & n.NUD_PERMANENT:
        return None
    return Neighbour(
        interface=interfaces.name(about.index),
        address=IPv6Address(about.address),
        link_layer_address=about.link_layer_address.hex(":"),
    )
