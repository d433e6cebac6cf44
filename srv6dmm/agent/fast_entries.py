"""Plan entries as entries of the fast path: short cuts past the kernel's routes."""

from __future__ import annotations

from dataclasses import replace

from srv6dmm.agent.host import Host
from srv6dmm.agent.kernel_entries import flow_table
from srv6dmm.dataplane.fastpath.layout import MAX_SEGMENTS
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastDrop,
    FastFlow,
    FastList,
    FastObject,
    FastPort,
    FastRoute,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.fastpath.rule_layout import MAX_LISTS
from srv6dmm.dataplane.fastpath.rulesets import MAX_WEIGHTS
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
    WatchedList,
)
from srv6dmm.model.sid import Behavior, EncapMode


def fast_objects(entry: PlanEntry, host: Host) -> tuple[FastObject, ...]:
    """Return what an entry is in the fast path."""
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
        case FlowSteering():
            return (_flow(entry, host),)
        case UnreachableRoute() | Advertisement() | WatchedList():
            return ()


def _flow(entry: FlowSteering, host: Host) -> FastFlow:
    """A rule with lists that do not fit is one too: its packets must not follow the next one."""
    source = host.source
    flow = FastFlow(flow_table(entry), entry.selector, entry.uplink, entry.order)
    if source is None or not _fits(entry):
        return replace(flow, to_kernel=True)
    alone = len(entry.lists) == 1
    lists = tuple(
        FastList(
            entry.mode,
            way.segments,
            source,
            way.interface,
            way.next_hop,
            way.mtu,
            1 if alone else way.weight,
        )
        for way in entry.lists
    )
    return replace(flow, lists=lists)


def _fits(entry: FlowSteering) -> bool:
    lists = entry.lists
    return (
        not entry.passes_on
        and (entry.mode is not EncapMode.INLINE or not lists)
        and len(lists) <= MAX_LISTS
        and sum(way.weight for way in lists) <= MAX_WEIGHTS
        and all(1 <= len(way.segments) <= MAX_SEGMENTS for way in lists)
    )


def _fast_route(entry: UnderlayRoute, host: Host) -> tuple[FastRoute, ...]:
    """Locators of one length; of several next hops the kernel chooses."""
    if host.sid_block is None or entry.prefix.prefixlen != host.locator_length:
        return ()
    if len(entry.next_hops) != 1 or not entry.prefix.subnet_of(host.sid_block):
        return ()
    return (FastRoute(entry.prefix, *entry.next_hops[0]),)


def _fast_sid(entry: LocalSid) -> tuple[FastSid, ...]:
    """End.X and what needs no interface; flavors are the kernel's, and so is End.B6.Encaps."""
    if entry.flavors:
        return ()
    match entry.behavior:
        case Behavior.END | Behavior.END_DT6:
            return (FastSid(entry.sid, entry.behavior),)
        case Behavior.END_DX4 if entry.next_hop4 is not None:
            return (FastSid(entry.sid, entry.behavior, None, entry.next_hop4),)
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
