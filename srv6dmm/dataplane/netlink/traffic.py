"""Messages of traffic control: the clsact hook of an interface and the filters at its ingress."""

from __future__ import annotations

import struct

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import attribute, message

TCMSG = struct.Struct("=BBHiIII")
RTM_NEWQDISC, RTM_DELQDISC = 36, 37
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
TCA_KIND, TCA_OPTIONS = 1, 2
INGRESS = 0xFFFFFFF2
"""The parent of filters at clsact ingress."""
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_ETH_P_ALL = 0x0300  # network byte order


def add_hook(index: int) -> bytes:
    """Return the request for a clsact qdisc; EEXIST says that there is one."""
    body = TCMSG.pack(0, 0, 0, index, _CLSACT_HANDLE, _CLSACT, 0)
    body += attribute(TCA_KIND, b"clsact\0")
    return message(RTM_NEWQDISC, n.NLM_F_REQUEST | n.NLM_F_CREATE, body)


def delete_hook(index: int) -> bytes:
    """Return the request to delete the clsact qdisc and every filter at it."""
    body = TCMSG.pack(0, 0, 0, index, _CLSACT_HANDLE, _CLSACT, 0)
    return message(RTM_DELQDISC, n.NLM_F_REQUEST, body + attribute(TCA_KIND, b"clsact\0"))


def put_filter(index: int, priority: int, handle: int, kind: bytes, options: bytes) -> bytes:
    """Return the request to create or atomically replace a filter for all protocols."""
    body = TCMSG.pack(0, 0, 0, index, handle, INGRESS, priority << 16 | _ETH_P_ALL)
    body += attribute(TCA_KIND, kind + b"\0")
    body += attribute(TCA_OPTIONS | n.NLA_F_NESTED, options)
    flags = n.NLM_F_REQUEST | n.NLM_F_CREATE | n.NLM_F_REPLACE
    return message(RTM_NEWTFILTER, flags, body)


def delete_filter(index: int, priority: int, handle: int, kind: bytes) -> bytes:
    """Return the request to delete a filter; ENOENT or EINVAL say that there is none."""
    body = TCMSG.pack(0, 0, 0, index, handle, INGRESS, priority << 16 | _ETH_P_ALL)
    return message(RTM_DELTFILTER, n.NLM_F_REQUEST, body + attribute(TCA_KIND, kind + b"\0"))


def dump_filters(index: int) -> bytes:
    """Return the request to read all filters at an interface's ingress."""
    body = TCMSG.pack(0, 0, 0, index, 0, INGRESS, 0)
    return message(RTM_GETTFILTER, n.NLM_F_REQUEST | n.NLM_F_DUMP, body)
