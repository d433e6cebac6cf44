"""Bytes of rule messages: which packets are looked up in which table (linux/fib_rules.h)."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Network

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import (
    MalformedMessage,
    attribute,
    attributes,
    message,
    number,
    u32,
)
from srv6dmm.dataplane.objects import PROTOCOL, Rule

_HEADER = struct.Struct("=BBBBBBBBI")
"""struct fib_rule_hdr: family, dst length, src length, tos, table, 2 reserved, action, flags."""
_RANGE = struct.Struct("=HH")
_U8 = struct.Struct("=B")
_KNOWN = frozenset(
    {
        n.FRA_DST,
        n.FRA_SRC,
        n.FRA_PRIORITY,
        n.FRA_SUPPRESS_PREFIXLEN,
        n.FRA_TABLE,
        n.FRA_PROTOCOL,
        n.FRA_IP_PROTO,
        n.FRA_SPORT_RANGE,
        n.FRA_DPORT_RANGE,
        n.FRA_DSCP,
    }
)


_WHOLE = {
    n.FRA_SPORT_MASK: b"\xff\xff",
    n.FRA_DPORT_MASK: b"\xff\xff",
    n.FRA_DSCP_MASK: b"\x3f",
}
"""What newer kernels say besides (Linux 6.15): that all bits count."""


def put(rule: Rule) -> bytes:
    """Return the message that adds a rule; the kernel refuses one that is there already."""
    flags = n.NLM_F_REQUEST | n.NLM_F_CREATE | n.NLM_F_EXCL
    return message(n.RTM_NEWRULE, flags, _body(rule))


def delete(rule: Rule) -> bytes:
    """Return the message that deletes exactly this rule."""
    return message(n.RTM_DELRULE, n.NLM_F_REQUEST, _body(rule))


def dump_request() -> bytes:
    """Return a request for all IPv6 rules."""
    header = _HEADER.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0)
    return message(n.RTM_GETRULE, n.NLM_F_REQUEST | n.NLM_F_DUMP, header)


def _body(rule: Rule) -> bytes:
    # DSCP 0 says "any" in the header; kernels before 6.13 cannot ask for it.
    traffic_class = (rule.dscp or 0) << 2
    parts = [
        _HEADER.pack(
            socket.AF_INET6,
            rule.destination.prefixlen,
            rule.source.prefixlen,
            traffic_class,
            0,
            0,
            0,
            n.FR_ACT_TO_TBL,
            0,
        ),
        u32(n.FRA_PRIORITY, rule.preference),
        u32(n.FRA_TABLE, rule.table),
        attribute(n.FRA_PROTOCOL, _U8.pack(PROTOCOL)),
    ]
    if rule.source.prefixlen:
        parts.append(attribute(n.FRA_SRC, rule.source.network_address.packed))
    if rule.destination.prefixlen:
        parts.append(attribute(n.FRA_DST, rule.destination.network_address.packed))
    if rule.protocol is not None:
        parts.append(attribute(n.FRA_IP_PROTO, _U8.pack(rule.protocol)))
    if rule.source_ports is not None:
        parts.append(attribute(n.FRA_SPORT_RANGE, _RANGE.pack(*rule.source_ports)))
    if rule.destination_ports is not None:
        parts.append(attribute(n.FRA_DPORT_RANGE, _RANGE.pack(*rule.destination_ports)))
    if rule.dscp == 0:
        parts.append(attribute(n.FRA_DSCP, _U8.pack(0)))
    return b"".join(parts)


def is_ours(data: bytes, start: int, end: int) -> bool:
    """Tell whether a rule message is about a rule with our protocol."""
    if end - start < _HEADER.size:
        raise MalformedMessage(f"rule message of {end - start} bytes")
    found = attributes(data, start + _HEADER.size, end).get(n.FRA_PROTOCOL)
    return found is not None and found[:1] == bytes([PROTOCOL])


def decode(data: bytes, start: int, end: int) -> Rule:
    """Return the rule of a message body. MalformedMessage: not one that we could have made."""
    if end - start < _HEADER.size:
        raise MalformedMessage(f"rule message of {end - start} bytes")
    family, destination_length, source_length, tos, table, _, _, action, flags = (
        _HEADER.unpack_from(data, start)
    )
    found = attributes(data, start + _HEADER.size, end)
    found = {kind: value for kind, value in found.items() if _WHOLE.get(kind) != value}
    if family != socket.AF_INET6 or action != n.FR_ACT_TO_TBL or flags or found.keys() - _KNOWN:
        raise MalformedMessage("a rule of another family or with other conditions is none of ours")
    try:
        dscp = found.get(n.FRA_DSCP)
        return Rule(
            table=number(found[n.FRA_TABLE]) if n.FRA_TABLE in found else table,
            preference=number(found[n.FRA_PRIORITY]),
            source=_prefix(found.get(n.FRA_SRC), source_length),
            destination=_prefix(found.get(n.FRA_DST), destination_length),
            protocol=_octet(found.get(n.FRA_IP_PROTO)),
            source_ports=_range(found.get(n.FRA_SPORT_RANGE)),
            destination_ports=_range(found.get(n.FRA_DPORT_RANGE)),
            dscp=_octet(dscp) if dscp is not None else (tos >> 2 or None),
        )
    except (struct.error, ValueError, KeyError) as error:
        raise MalformedMessage(f"a rule with a broken attribute: {error!r}") from error


def _prefix(packed: bytes | None, length: int) -> IPv6Network:
    return IPv6Network((packed or bytes(16), length))


def _octet(packed: bytes | None) -> int | None:
    return None if packed is None else int(_U8.unpack(packed)[0])


def _range(packed: bytes | None) -> tuple[int, int] | None:
    if packed is None:
        return None
    first, last = _RANGE.unpack(packed)
    return first, last
