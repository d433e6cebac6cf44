"""Bytes of interface (link) messages: names, state, link-layer address."""

from __future__ import annotations

import socket
import struct

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import (
    MalformedMessage,
    attribute,
    attributes,
    message,
    u32,
)
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable, LinkState
from srv6dmm.dataplane.objects import LinkAddress

IFINFOMSG = struct.Struct("=BBHiII")
"""struct ifinfomsg: family, padding, device type, index, flags, change mask."""


def put(link: LinkAddress, interfaces: InterfaceTable) -> bytes:
    """Return the message that sets an interface up, with the link-layer address if one is given."""
    index = interfaces.index(link.interface)
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, index, n.IFF_UP, n.IFF_UP)
    if link.link_layer_address is not None:
        octets = bytes.fromhex(link.link_layer_address.replace(":", ""))
        body += attribute(n.IFLA_ADDRESS, octets)
    return message(n.RTM_NEWLINK, n.NLM_F_REQUEST, body)


def dump_request() -> bytes:
    """Return a request for every interface, without statistics."""
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0)
    body += u32(n.IFLA_EXT_MASK, n.RTEXT_FILTER_SKIP_STATS)
    return message(n.RTM_GETLINK, n.NLM_F_REQUEST | n.NLM_F_DUMP, body)


def state(data: bytes, start: int, end: int) -> LinkState | None:
    """Return what a link message says; None for messages about a bridge port and the like."""
    if end - start < IFINFOMSG.size:
        raise MalformedMessage(f"link message of {end - start} bytes")
    family, _, _, index, flags, _ = IFINFOMSG.unpack_from(data, start)
    if family != socket.AF_UNSPEC:
        return None
    found = attributes(data, start + IFINFOMSG.size, end)
    name = found.get(n.IFLA_IFNAME, b"").split(b"\0", 1)[0].decode()
    address = found.get(n.IFLA_ADDRESS)
    return LinkState(index, name, bool(flags & n.IFF_UP), address.hex(":") if address else None)
