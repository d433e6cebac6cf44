"""Bytes of interface address messages: no duplicate address detection, our protocol."""

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
    u32,
)
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable
from srv6dmm.dataplane.objects import PROTOCOL, InterfaceAddress

IFADDRMSG = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, interface index."""


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """One address as the kernel tells it. `protocol` is 0 before Linux 5.18."""

    index: int
    prefix_length: int
    address: bytes
    protocol: int


def put(address: InterfaceAddress, interfaces: InterfaceTable) -> bytes:
    """Return the message that creates the address, or marks an existing one as ours."""
    index = interfaces.index(address.interface)
    packed = address.address.packed
    body = IFADDRMSG.pack(socket.AF_INET6, address.prefix_length, n.IFA_F_NODAD, 0, index)
    body += attribute(n.IFA_LOCAL, packed) + attribute(n.IFA_ADDRESS, packed)
    body += u32(n.IFA_FLAGS, n.IFA_F_NODAD) + attribute(n.IFA_PROTO, bytes((PROTOCOL,)))
    return message(n.RTM_NEWADDR, n.NLM_F_REQUEST | n.NLM_F_CREATE | n.NLM_F_REPLACE, body)


def delete(index: int, packed: bytes, prefix_length: int) -> bytes:
    """Return the message that deletes one address of one interface."""
    body = IFADDRMSG.pack(socket.AF_INET6, prefix_length, 0, 0, index)
    return message(n.RTM_DELADDR, n.NLM_F_REQUEST, body + attribute(n.IFA_LOCAL, packed))


def dump_request() -> bytes:
    """Return a request for every IPv6 address."""
    body = IFADDRMSG.pack(socket.AF_INET6, 0, 0, 0, 0)
    return message(n.RTM_GETADDR, n.NLM_F_REQUEST | n.NLM_F_DUMP, body)


def facts(data: bytes, start: int, end: int) -> AddressFacts:
    """Return what an address message says."""
    if end - start < IFADDRMSG.size:
        raise MalformedMessage(f"address message of {end - start} bytes")
    _, prefix_length, _, _, index = IFADDRMSG.unpack_from(data, start)
    found = attributes(data, start + IFADDRMSG.size, end)
    # With a peer, IFA_ADDRESS is the peer's and IFA_LOCAL ours; else only IFA_ADDRESS is there.
    packed = found.get(n.IFA_LOCAL) or found.get(n.IFA_ADDRESS, b"")
    return AddressFacts(index, prefix_length, packed, found.get(n.IFA_PROTO, b"\0")[0])


def build(about: AddressFacts, interfaces: InterfaceTable) -> InterfaceAddress:
    """Return the address as a value."""
    return InterfaceAddress(
        interface=interfaces.name(about.index),
        address=IPv6Address(about.address),
        prefix_length=about.prefix_length,
    )
