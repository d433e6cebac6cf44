"""Plan entries as kernel objects: what each entry needs, in the order it needs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastDrop,
    FastObject,
    FastPort,
    FastRoute,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    KernelObject,
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
    LocalSid,
    PlanEntry,
    RouterSettings,
    SteeringEntry,
    UnderlayRoute,
    UnreachableRoute,
    UplinkBinding,
)
from srv6dmm.model.sid import Behavior, EncapMode


@dataclass(frozen=True, slots=True)
class Host:
    """What the translation must know of the router it is for."""

    encap_red: bool
    """Whether the kernel has encap.red (Linux 6.0)."""
    sid_interface: str
    """A device for SIDs that name none. Not lo: seg6local on lo is silently stripped."""
    fast: bool = False
    """Whether the fast path is to hold what it can hold (mode `ebpf`)."""
    detect: bool = False
    """Whether the fast path is to tell of mobile nodes that arrive."""
    source: IPv6Address | None = None
    """Outer source of what this router encapsulates."""
    access_mac: str | None = None
    """Link-layer address of the access interface."""
    sid_block: IPv6Network | None = None
    locator_length: int = 0
    """Bits of every locator of the domain; 0 where they differ."""

    @classmethod
    def of(
        cls,
        settings: RouterSettings | None,
        encap_red: bool,
        fast: bool = False,
        detect: bool = False,
    ) -> Host:
        """Return the host that a router's settings make it: SIDs go on a core interface.

        A router without one takes what it has; with nothing but lo its SIDs do not read back,
        and are reported so.
        """
        devices: list[str] = []
        if settings is not None:
            devices += settings.core_interfaces
            devices += [interface for interface, _, _ in settings.host_interfaces]
            devices += [settings.access_interface] if settings.access_interface else []
        host = cls(encap_red, devices[0] if devices else "lo", fast, detect)
        if settings is None:
            return host
        return replace(
            host,
            source=settings.loopback,
            access_mac=settings.access_mac,
            sid_block=settings.sid_block,
            locator_length=settings.locator_length,
        )


def translate(entry: PlanEntry, host: Host) -> tuple[KernelObject, ...]:
    """Return what an entry is in the kernel and, in mode `ebpf`, in the fast path.

    An advertisement is nothing in either.
    """
    slow = _slow(entry, host)
    return (*slow, *_fast(entry, host)) if host.fast else slow


def _fast(entry: PlanEntry, host: Host) -> tuple[FastObject, ...]:
    """Return the fast path's entries: all of them are only short cuts past the kernel's routes."""
    match entry:
        case RouterSettings():
            return _ports(entry, host.detect)
        case DropEntry():
            return (FastDrop(entry.prefix),)
        case LocalSid():
            return _fast_sid(entry)
        case Delivery():
            return (
                FastDelivery(
                    entry.prefix,
                    entry.interface,
                    entry.link_layer_address,
                    entry.link_local,
                    entry.mtu,
                    host.access_mac,
                ),
                FastBinding(entry.prefix, entry.interface, entry.link_layer_address),
            )
        case UplinkBinding():
            return (FastBinding(entry.prefix, entry.interface, entry.link_layer_address),)
        case SteeringEntry():
            if host.source is None or entry.mode is EncapMode.INLINE:
                return ()
            return (
                FastSteering(
                    entry.prefix,
                    entry.mode,
                    entry.segments,
                    host.source,
                    entry.interface,
                    entry.next_hop,
                    entry.mtu,
                ),
            )
        case UnderlayRoute():
            return _fast_route(entry, host)
        case UnreachableRoute() | Advertisement():
            return ()


def _fast_route(entry: UnderlayRoute, host: Host) -> tuple[FastRoute, ...]:
    """Locators of one length; of several next hops the kernel chooses."""
    if host.sid_block is None or entry.prefix.prefixlen != host.locator_length:
        return ()
    if len(entry.next_hops) != 1 or not entry.prefix.subnet_of(host.sid_block):
        return ()
    return (FastRoute(entry.prefix, *entry.next_hops[0]),)


def _fast_sid(entry: LocalSid) -> tuple[FastSid, ...]:
    """End.X and what needs no interface; flavors are the kernel's."""
    if entry.flavors:
        return ()
    match entry.behavior:
        case Behavior.END | Behavior.END_DT6:
            return (FastSid(entry.sid, entry.behavior),)
        case Behavior.END_X if entry.interface is not None and entry.next_hop is not None:
            return (FastSid(entry.sid, entry.behavior, entry.interface, entry.next_hop),)
        case _:
            return ()


def _ports(entry: RouterSettings, detect: bool) -> tuple[FastObject, ...]:
    ports = [FastPort(name, Facing.CORE) for name in entry.core_interfaces]
    ports += [FastPort(name, Facing.OUTSIDE) for name, _, _ in entry.host_interfaces]
    if entry.access_interface is not None:
        ports.append(FastPort(entry.access_interface, Facing.ACCESS, detect))
    if entry.sid_block is None:
        return tuple(ports)
    return (FastSettings(entry.sid_block, entry.locator_length), *ports)


def _slow(entry: PlanEntry, host: Host) -> tuple[NativeObject, ...]:
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
        case UplinkBinding() | Advertisement():
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
