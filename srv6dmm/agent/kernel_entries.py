"""Plan entries as kernel objects: what each entry needs, in the order it needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.agent.host import Host
from srv6dmm.dataplane.objects import (
    BACKUP_METRIC,
    MAIN_TABLE,
    METRIC,
    InterfaceAddress,
    LinkAddress,
    NativeObject,
    Neighbour,
    NextHop,
    Route,
    RouteKind,
    Rule,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.plan import (
    Advertisement,
    Delivery,
    DropEntry,
    FlowSteering,
    LocalSid,
    PlanEntry,
    RouterSettings,
    SteeringEntry,
    SteeringList,
    UnderlayRoute,
    UnreachableRoute,
    UplinkBinding,
    WatchedList,
)
from srv6dmm.model.sid import Behavior, EncapMode, SegmentList

FLOW_PREFERENCE = 10_000
"""Of the rule of order 0; the last one comes long before the main table's 32766."""
_LARGEST_WEIGHT = 256
_LAST_PORT = 65_534
_ANY = IPv6Network("::/0")


def kernel_objects(entry: PlanEntry, host: Host) -> tuple[NativeObject, ...]:
    """Return what an entry is in the kernel: complete without the fast path."""
    match entry:
        case RouterSettings():
            return _settings(entry)
        case UnderlayRoute():
            return _underlay(entry, host)
        case UnreachableRoute():
            return (Route(entry.prefix, RouteKind.UNREACHABLE),)
        case DropEntry():
            return (Route(entry.prefix, RouteKind.BLACKHOLE),)
        case LocalSid():
            return _sid(entry, host)
        case Delivery():
            return (
                Neighbour(entry.interface, entry.link_local, entry.link_layer_address),
                Route(entry.prefix, next_hops=(NextHop(entry.interface, entry.link_local),)),
            )
        case SteeringEntry():
            return _steering(entry, host)
        case FlowSteering():
            return _flow(entry, host)
        case UplinkBinding() | Advertisement() | WatchedList():
            return ()


def _mode(mode: EncapMode, host: Host) -> EncapMode:
    """Return a mode that the kernel has; an older one: the same path, with a whole SRH."""
    if mode is EncapMode.ENCAP_RED and not host.encap_red:
        return EncapMode.ENCAP
    return mode


def _backup(
    prefix: IPv6Network, way: SteeringList | None, mode: EncapMode, host: Host, table: int
) -> tuple[Route, ...]:
    """Return the route that Linux takes to a prefix while its better one has no carrier."""
    if way is None:
        return ()
    if not way.segments:
        hop = NextHop(way.interface, way.next_hop)
        return (Route(prefix, next_hops=(hop,), table=table, metric=BACKUP_METRIC),)
    return (
        Route(
            prefix,
            next_hops=(NextHop(way.interface),),
            encap=Seg6Encap(_mode(mode, host), way.segments),
            table=table,
            metric=BACKUP_METRIC,
        ),
    )


def _underlay(entry: UnderlayRoute, host: Host) -> tuple[Route, ...]:
    hops = tuple(NextHop(interface, via) for interface, via in entry.next_hops)
    repair = _backup(entry.prefix, entry.repair, EncapMode.ENCAP_RED, host, MAIN_TABLE)
    return (Route(entry.prefix, next_hops=hops), *repair)


def _steering(entry: SteeringEntry, host: Host) -> tuple[Route, ...]:
    hops, encap = _shared(entry.interface, _mode(entry.mode, host), entry.segments)
    primary = Route(entry.prefix, next_hops=hops, encap=encap)
    return (primary, *_backup(entry.prefix, entry.backup, entry.mode, host, MAIN_TABLE))


@lru_cache(maxsize=4096)
def _shared(
    interface: str, mode: EncapMode, segments: SegmentList
) -> tuple[tuple[NextHop], Seg6Encap]:
    """Return what all prefixes of a way have in common, once: they are many."""
    return (NextHop(interface),), Seg6Encap(mode, segments)


def flow_table(entry: FlowSteering) -> int:
    """Return the number of the routing table that holds a flow's way."""
    return entry.number


def _flow(entry: FlowSteering, host: Host) -> tuple[NativeObject, ...]:
    """A rule, and what it leads to: one list, several by weight, or nothing."""
    table = flow_table(entry)
    selector = entry.selector
    rule = Rule(
        table,
        FLOW_PREFERENCE + entry.order,
        selector.source,
        selector.destination,
        selector.protocol,
        _ports(selector.source_ports),
        _ports(selector.destination_ports),
        selector.dscp,
    )
    others = tuple(Route(prefix, RouteKind.THROW, table=table) for prefix in entry.passes_on)
    if not entry.lists:
        return (*others, Route(_ANY, RouteKind.BLACKHOLE, table=table), rule)
    mode = _mode(entry.mode, host)
    lists = _merged(entry.lists)
    if len(lists) == 1:
        way = lists[0]
        encap = Seg6Encap(mode, way.segments)
        primary = Route(_ANY, next_hops=(NextHop(way.interface),), encap=encap, table=table)
    else:
        # Linux spreads flows over next hops with a gateway only.
        hops = tuple(
            NextHop(way.interface, way.next_hop, weight, Seg6Encap(mode, way.segments))
            for way, weight in zip(lists, _weights(lists), strict=True)
        )
        primary = Route(_ANY, next_hops=hops, table=table)
    backup = _backup(_ANY, entry.backup, entry.mode, host, table)
    return (*others, primary, *backup, rule)


def _merged(lists: Sequence[SteeringList]) -> list[SteeringList]:
    """Return lists with what is the same way under two weights as one: Linux refuses it twice."""
    ways: dict[tuple[object, ...], SteeringList] = {}
    for way in lists:
        key = (way.interface, way.next_hop, way.segments)
        before = ways.get(key)
        ways[key] = way if before is None else replace(way, weight=before.weight + way.weight)
    return list(ways.values())


def _ports(wanted: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return a range that Linux's rules can have: they know ports 1 to 65534."""
    if wanted is None or (wanted[0] <= 1 and wanted[1] >= _LAST_PORT):
        return None
    return max(wanted[0], 1), min(wanted[1], _LAST_PORT)


def _weights(lists: Sequence[SteeringList]) -> list[int]:
    """Return weights that Linux can have, in the proportion asked for as far as that goes."""
    largest = max(way.weight for way in lists)
    if largest <= _LARGEST_WEIGHT:
        return [way.weight for way in lists]
    return [max(1, round(way.weight * _LARGEST_WEIGHT / largest)) for way in lists]


def _sid(entry: LocalSid, host: Host) -> tuple[Route, ...]:
    sid = IPv6Network((entry.sid, entry.prefix_length))
    encap = Seg6Local(
        entry.behavior,
        next_hop=entry.next_hop,
        next_hop4=entry.next_hop4,
        table=entry.table,
        segments=entry.segments,
        flavors=entry.flavors,
    )
    if entry.behavior in (Behavior.END_X, Behavior.END_DX6) and entry.interface is not None:
        return _adjacency_sid(entry, entry.interface, sid, encap)
    # It needs no device, but Linux wants one, and takes the next when that has no carrier.
    return tuple(
        Route(sid, next_hops=(NextHop(device),), encap=encap, metric=METRIC + number)
        for number, device in enumerate(host.sid_interfaces)
    )


def _adjacency_sid(
    entry: LocalSid, device: str, sid: IPv6Network, encap: Seg6Local
) -> tuple[Route, ...]:
    next_hop = entry.next_hop
    adjacency: tuple[Route, ...] = ()
    if entry.behavior is Behavior.END_X and next_hop is not None and next_hop.is_link_local:
        # Linux looks an End.X's next hop up as a destination, and before 6.17 finds a link-local
        # one on no interface but the one the packet came by: it gets an address of its own.
        via = (NextHop(device, next_hop),)
        next_hop = IPv6Address(int(entry.sid) | 1)
        adjacency = (Route(IPv6Network((next_hop, 128)), next_hops=via),)
    primary = Route(sid, next_hops=(NextHop(device),), encap=replace(encap, next_hop=next_hop))
    if entry.repair is None:
        return (*adjacency, primary)
    end = Seg6Local(Behavior.END, flavors=entry.flavors)
    repair = Route(sid, next_hops=(NextHop(entry.repair),), encap=end, metric=BACKUP_METRIC)
    return (*adjacency, primary, repair)


def _settings(entry: RouterSettings) -> tuple[NativeObject, ...]:
    objects: list[NativeObject] = [
        Sysctl("net/ipv6/conf/all/forwarding", "1"),
        LinkAddress("lo", None),
    ]
    for interface in entry.core_interfaces:
        objects += _quiet(interface)
        # A route without carrier gives way at once to the next best.
        objects.append(Sysctl(f"net/ipv6/conf/{interface}/ignore_routes_with_linkdown", "1"))
        objects.append(LinkAddress(interface, None))
        objects.append(InterfaceAddress(interface, entry.link_local, 64))
    for interface, address, length in entry.host_interfaces:
        objects += _quiet(interface)
        objects.append(LinkAddress(interface, None))
        objects.append(InterfaceAddress(interface, address, length))
    if entry.access_interface is not None:
        objects += _quiet(entry.access_interface)
        objects.append(LinkAddress(entry.access_interface, entry.access_mac))
        if entry.access_link_local is not None:
            objects.append(InterfaceAddress(entry.access_interface, entry.access_link_local, 64))
    if entry.loopback is not None:
        objects.append(InterfaceAddress("lo", entry.loopback, 128))
        objects.append(TunnelSource(entry.loopback))
    return tuple(objects)


def _quiet(interface: str) -> list[Sysctl]:
    """No addresses but ours, no RAs taken, and never SRHs for every local address.

    seg6_enabled stays 0: SIDs work without it, and with it each address becomes a SID.
    """
    base = f"net/ipv6/conf/{interface}"
    return [
        Sysctl(f"{base}/addr_gen_mode", "1"),
        Sysctl(f"{base}/accept_ra", "0"),
        Sysctl(f"{base}/accept_dad", "0"),
        Sysctl(f"{base}/seg6_enabled", "0"),
    ]
