"""Plan entries as kernel objects: what each entry needs, in the order it needs it."""

from __future__ import annotations

from ipaddress import IPv6Network

from srv6dmm.agent.host import Host
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    LinkAddress,
    NativeObject,
    Neighbour,
    NextHop,
    Route,
    RouteKind,
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
    UnderlayRoute,
    UnreachableRoute,
    UplinkBinding,
)
from srv6dmm.model.sid import Behavior, EncapMode


def kernel_objects(entry: PlanEntry, host: Host) -> tuple[NativeObject, ...]:
    """Return what an entry is in the kernel: complete without the fast path."""
    match entry:
        case RouterSettings():
            return _settings(entry)
        case UnderlayRoute():
            hops = tuple(NextHop(interface, via) for interface, via in entry.next_hops)
            return (Route(entry.prefix, next_hops=hops),)
        case UnreachableRoute():
            return (Route(entry.prefix, RouteKind.UNREACHABLE),)
        case DropEntry():
            return (Route(entry.prefix, RouteKind.BLACKHOLE),)
        case LocalSid():
            return (_sid(entry, host),)
        case Delivery():
            return (
                Neighbour(entry.interface, entry.link_local, entry.link_layer_address),
                Route(entry.prefix, next_hops=(NextHop(entry.interface, entry.link_local),)),
            )
        case SteeringEntry():
            mode = entry.mode
            if mode is EncapMode.ENCAP_RED and not host.encap_red:
                mode = EncapMode.ENCAP  # an older kernel: the same path, with a whole SRH
            return (
                Route(
                    entry.prefix,
                    next_hops=(NextHop(entry.interface),),
                    encap=Seg6Encap(mode, entry.segments),
                ),
            )
        case FlowSteering() | UplinkBinding() | Advertisement():
            return ()


def _sid(entry: LocalSid, host: Host) -> Route:
    outgoing = entry.behavior in (Behavior.END_X, Behavior.END_DX6)
    device = entry.interface if outgoing and entry.interface else host.sid_interface
    return Route(
        IPv6Network((entry.sid, 128)),
        next_hops=(NextHop(device),),
        encap=Seg6Local(
            entry.behavior,
            next_hop=entry.next_hop,
            next_hop4=entry.next_hop4,
            table=entry.table,
            flavors=entry.flavors,
        ),
    )


def _settings(entry: RouterSettings) -> tuple[NativeObject, ...]:
    objects: list[NativeObject] = [
        Sysctl("net/ipv6/conf/all/forwarding", "1"),
        LinkAddress("lo", None),
    ]
    for interface in entry.core_interfaces:
        objects += _quiet(interface)
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
