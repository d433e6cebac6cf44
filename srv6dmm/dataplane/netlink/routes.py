"""Bytes of route messages: plain, multipath, rejecting, seg6 and seg6local (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, cast

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import (
    HEADER,
    U16,
    MalformedMessage,
    attribute,
    attributes,
    message,
    number,
    u32,
)
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable
from srv6dmm.dataplane.netlink.seg6 import (
    Counters,
    decode_counters,
    decode_encap,
    decode_local,
    encap_head,
    encode_encap,
    encode_local,
)
from srv6dmm.dataplane.objects import (
    PROTOCOL,
    NextHop,
    Route,
    RouteKind,
    Seg6Encap,
    Seg6Local,
)

RTMSG = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, dst length, src length, tos, table, protocol, scope, type, flags."""
_NEXT_HOP = struct.Struct("=HBBi")
"""struct rtnexthop: length, flags, hops (weight - 1), interface index."""
_PUT = n.NLM_F_REQUEST | n.NLM_F_CREATE | n.NLM_F_REPLACE
_KINDS = {
    RouteKind.UNICAST: n.RTN_UNICAST,
    RouteKind.UNREACHABLE: n.RTN_UNREACHABLE,
    RouteKind.BLACKHOLE: n.RTN_BLACKHOLE,
    RouteKind.THROW: n.RTN_THROW,
}
_KIND_OF = {number: kind for kind, number in _KINDS.items()}


class RouteFacts(NamedTuple):
    """What says whose route it is, without decoding the rest."""

    family: int
    prefix_length: int
    table: int
    protocol: int
    kind: int
    metric: int
    destination: bytes
    """Packed address; empty for the default route."""


class RouteEncoder:
    """Route values -> messages. Steering routes (seg6, one device) take a short cut.

    The short cut packs all that many routes have in common (header, device, mode, number of
    segments) once and keeps it; `forget` drops that when interface indexes may have changed.
    """

    def __init__(self, interfaces: InterfaceTable) -> None:
        self._interfaces = interfaces
        self._shapes: dict[tuple[object, ...], tuple[struct.Struct, bytes, bytes]] = {}

    def forget(self) -> None:
        """Drop what was derived from interface indexes."""
        self._shapes.clear()

    def put(self, route: Route) -> bytes:
        """Return the message that creates the route or replaces one of the same identity.

        Raises NoSuchInterface for an unknown device and ValueError for a route that Linux
        cannot have.
        """
        encap = route.encap
        hops = route.next_hops
        if type(encap) is Seg6Encap and len(hops) == 1 and hops[0].via is None:
            prefix = route.prefix
            if type(prefix) is IPv6Network and route.kind is RouteKind.UNICAST:
                segments = encap.segments
                key = (
                    prefix.prefixlen,
                    hops[0].interface,
                    encap.mode,
                    len(segments),
                    route.table,
                    route.metric,
                )
                shape = self._shapes.get(key)
                if shape is None:
                    shape = self._shapes[key] = self._shape(route, encap)
                layout, head, middle = shape
                on_the_wire = [segment.packed for segment in reversed(segments)]
                return layout.pack(head, prefix.network_address.packed, middle, *on_the_wire)
        return message(n.RTM_NEWROUTE, _PUT, self._body(route))

    def delete(self, route: Route) -> bytes:
        """Return the message that deletes the route of this identity, if it is ours."""
        prefix = route.prefix
        # In IPv4 scope and type are compared too: 255 and 0 stand for any.
        ipv4 = isinstance(prefix, IPv4Network)
        header = _rtmsg(route, n.RT_SCOPE_NOWHERE if ipv4 else n.RT_SCOPE_UNIVERSE, 0)
        return message(n.RTM_DELROUTE, n.NLM_F_REQUEST, header + _selectors(route))

    def _shape(self, route: Route, encap: Seg6Encap) -> tuple[struct.Struct, bytes, bytes]:
        body = self._body(route)
        head = HEADER.pack(16 + len(body), n.RTM_NEWROUTE, _PUT, 0, 0)
        count = len(encap.segments)
        head += body[: RTMSG.size + 4]
        middle = body[RTMSG.size + 20 : len(body) - 16 * count]
        assert middle.endswith(encap_head(encap.mode, count))
        return struct.Struct(f"={len(head)}s16s{len(middle)}s" + "16s" * count), head, middle

    def _body(self, route: Route) -> bytes:
        kind = _KINDS[route.kind]
        if route.kind is not RouteKind.UNICAST:
            if route.next_hops or route.encap is not None:
                raise ValueError(f"a route of kind {route.kind} has no next hop and no encap")
            return _rtmsg(route, n.RT_SCOPE_UNIVERSE, kind) + _selectors(route)
        if not route.next_hops:
            raise ValueError("a unicast route needs a next hop (at least an interface)")
        if isinstance(route.encap, Seg6Local) and any(
            hop.interface == "lo" for hop in route.next_hops
        ):
            raise ValueError(
                "a local SID on lo becomes an unreachable route in Linux; give another interface"
            )
        ipv4 = isinstance(route.prefix, IPv4Network)
        direct = all(hop.via is None for hop in route.next_hops)
        scope = n.RT_SCOPE_LINK if ipv4 and direct else n.RT_SCOPE_UNIVERSE
        parts = [_rtmsg(route, scope, kind), _selectors(route)]
        encap = self._encap(route.encap)
        if len(route.next_hops) == 1:
            hop = route.next_hops[0]
            if hop.encap is not None or hop.weight != 1:
                raise ValueError("a single next hop has no weight, and its encap is the route's")
            parts.append(u32(n.RTA_OIF, self._interfaces.index(hop.interface)))
            parts.append(_gateway(hop, ipv4))
            parts.append(encap)
        else:
            hops = []
            for hop in route.next_hops:
                own = encap if hop.encap is None else self._encap(hop.encap)
                inner = _gateway(hop, ipv4) + own
                index = self._interfaces.index(hop.interface)
                if not 1 <= hop.weight <= 256:
                    raise ValueError(f"weight {hop.weight} is not in 1..256")
                length = _NEXT_HOP.size + len(inner)
                hops.append(_NEXT_HOP.pack(length, 0, hop.weight - 1, index) + inner)
            parts.append(attribute(n.RTA_MULTIPATH, b"".join(hops)))
        return b"".join(parts)

    def _encap(self, encap: Seg6Encap | Seg6Local | None) -> bytes:
        if encap is None:
            return b""
        if isinstance(encap, Seg6Encap):
            kind, payload = n.LWTUNNEL_ENCAP_SEG6, encode_encap(encap)
        else:
            kind = n.LWTUNNEL_ENCAP_SEG6_LOCAL
            payload = encode_local(encap, self._interfaces)
        return attribute(n.RTA_ENCAP_TYPE, U16.pack(kind)) + attribute(n.RTA_ENCAP, payload)


def _rtmsg(route: Route, scope: int, kind: int) -> bytes:
    prefix = route.prefix
    family = socket.AF_INET if isinstance(prefix, IPv4Network) else socket.AF_INET6
    table = route.table if route.table < 256 else 0
    return RTMSG.pack(family, prefix.prefixlen, 0, 0, table, PROTOCOL, scope, kind, 0)


def _selectors(route: Route) -> bytes:
    """Destination first (the short cut relies on it), then metric, then a long table number."""
    parts = attribute(n.RTA_DST, route.prefix.network_address.packed)
    parts += u32(n.RTA_PRIORITY, route.metric)
    return parts if route.table < 256 else parts + u32(n.RTA_TABLE, route.table)


def _gateway(hop: NextHop, ipv4: bool) -> bytes:
    if hop.via is None:
        return b""
    if ipv4:  # an IPv4 route over an IPv6 neighbour (RFC 8950's forwarding; Linux 5.2)
        return attribute(n.RTA_VIA, U16.pack(socket.AF_INET6) + hop.via.packed)
    return attribute(n.RTA_GATEWAY, hop.via.packed)


def dump_request(family: int, table: int = 0, protocol: int = PROTOCOL) -> bytes:
    """Return a request for all routes of a family; the kernel filters where it can."""
    header = RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    selector = u32(n.RTA_TABLE, table) if table else b""
    return message(n.RTM_GETROUTE, n.NLM_F_REQUEST | n.NLM_F_DUMP, header + selector)


def match_request(packed: bytes, index: int = 0) -> bytes:
    """Return a request for the one IPv6 route the kernel would take to an address.

    With the index of an interface: of those that leave by it.
    """
    header = RTMSG.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, n.RTM_F_FIB_MATCH)
    body = header + attribute(n.RTA_DST, packed)
    if index:
        body += u32(n.RTA_OIF, index)
    return message(n.RTM_GETROUTE, n.NLM_F_REQUEST, body)


def facts(data: bytes, start: int, end: int) -> tuple[RouteFacts, dict[int, bytes]]:
    """Return whose route a message is about, and its attributes."""
    if end - start < RTMSG.size:
        raise MalformedMessage(f"route message of {end - start} bytes")
    family, length, _, _, table, protocol, _, kind, _ = RTMSG.unpack_from(data, start)
    found = attributes(data, start + RTMSG.size, end)
    long_table = found.get(n.RTA_TABLE)
    metric = found.get(n.RTA_PRIORITY)
    return (
        RouteFacts(
            family=family,
            prefix_length=length,
            table=number(long_table) if long_table else table,
            protocol=protocol,
            kind=kind,
            metric=number(metric) if metric else 0,
            destination=found.get(n.RTA_DST, b""),
        ),
        found,
    )


@lru_cache(maxsize=4096)
def _next_hop(interface: str, via: bytes) -> NextHop:
    return NextHop(interface, IPv6Address(via) if via else None)


def _hop(found: dict[int, bytes], interface: str, weight: int) -> NextHop:
    via = found.get(n.RTA_GATEWAY, b"")
    if not via and n.RTA_VIA in found:
        via = found[n.RTA_VIA][2:]
    if via and len(via) != 16:
        raise MalformedMessage("a next hop that is not an IPv6 address is none of ours")
    hop = _next_hop(interface, via)
    return hop if weight == 1 else replace(hop, weight=weight)


def decode(data: bytes, start: int, end: int, interfaces: InterfaceTable) -> Route:
    """Return the route of a message body. MalformedMessage: not a route we could have made."""
    about, found = facts(data, start, end)
    return build(about, found, interfaces)


def build(about: RouteFacts, found: dict[int, bytes], interfaces: InterfaceTable) -> Route:
    """Return the route that `facts` gave the parts of."""
    try:
        return _build(about, found, interfaces)
    except struct.error as error:
        raise MalformedMessage(f"an attribute of the wrong size: {error}") from error
    except MalformedMessage:
        raise
    except ValueError as error:
        raise MalformedMessage(str(error)) from error


def _build(about: RouteFacts, found: dict[int, bytes], interfaces: InterfaceTable) -> Route:
    kind = _KIND_OF.get(about.kind)
    if kind is None:
        raise MalformedMessage(f"route type {about.kind} is none of ours")
    prefix = _prefix(about)
    if kind is not RouteKind.UNICAST:  # the kernel shows lo as the device of these
        return Route(prefix, kind, table=about.table, metric=about.metric)
    if multipath := found.get(n.RTA_MULTIPATH):
        parts = list(_multipath(multipath))
    else:
        oif = found.get(n.RTA_OIF)
        if oif is None:
            raise MalformedMessage("a unicast route without an interface is none of ours")
        parts = [(number(oif), 1, found)]
    encaps = [_decode_encap(part, interfaces) for _, _, part in parts]
    hops = [_hop(part, interfaces.name(index), weight) for index, weight, part in parts]
    if any(encap != encaps[0] for encap in encaps):
        if not all(isinstance(encap, Seg6Encap) for encap in encaps):
            raise MalformedMessage("next hops of different kinds are none of ours")
        hops = [
            replace(hop, encap=cast(Seg6Encap, encap))
            for hop, encap in zip(hops, encaps, strict=True)
        ]
        encaps = [None]
    return Route(
        prefix=prefix,
        kind=kind,
        next_hops=tuple(hops),
        encap=encaps[0],
        table=about.table,
        metric=about.metric,
    )


def _prefix(about: RouteFacts) -> IPv6Network | IPv4Network:
    if about.family == socket.AF_INET:
        return IPv4Network((about.destination or bytes(4), about.prefix_length))
    return IPv6Network((about.destination or bytes(16), about.prefix_length))


def _multipath(payload: bytes) -> list[tuple[int, int, dict[int, bytes]]]:
    """Return (interface index, weight, attributes) of each next hop."""
    hops, offset = [], 0
    while offset + _NEXT_HOP.size <= len(payload):
        length, _, more, index = _NEXT_HOP.unpack_from(payload, offset)
        if length < _NEXT_HOP.size or offset + length > len(payload):
            raise MalformedMessage(f"next hop of {length} bytes at {offset}")
        found = attributes(payload, offset + _NEXT_HOP.size, offset + length)
        hops.append((index, more + 1, found))
        offset += (length + 3) & ~3
    if not hops:
        raise MalformedMessage("a multipath route without next hops")
    return hops


def _decode_encap(
    found: dict[int, bytes], interfaces: InterfaceTable
) -> Seg6Encap | Seg6Local | None:
    payload = found.get(n.RTA_ENCAP)
    if payload is None:
        return None
    kind = U16.unpack_from(found.get(n.RTA_ENCAP_TYPE, bytes(2)))[0]
    if kind == n.LWTUNNEL_ENCAP_SEG6:
        return decode_encap(payload)
    if kind == n.LWTUNNEL_ENCAP_SEG6_LOCAL:
        return decode_local(payload, interfaces)
    raise MalformedMessage(f"encapsulation type {kind} is none of ours")


def counters(found: dict[int, bytes]) -> Counters | None:
    """Return what the local SID of this route counted; None when it is none or does not."""
    kind = U16.unpack_from(found.get(n.RTA_ENCAP_TYPE, bytes(2)))[0]
    if kind != n.LWTUNNEL_ENCAP_SEG6_LOCAL:
        return None
    return decode_counters(found[n.RTA_ENCAP])
