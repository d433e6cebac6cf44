"""Plan entries become exactly the kernel objects they need."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from srv6dmm.agent.host import Host
from srv6dmm.agent.kernel_entries import flow_table
from srv6dmm.agent.translate import translate
from srv6dmm.dataplane.fastpath.objects import FastFlow, FastList
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    LinkAddress,
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
    DropEntry,
    FlowSelector,
    FlowSteering,
    LocalSid,
    PlanEntry,
    RouterSettings,
    SteeringList,
    UnderlayRoute,
    UnreachableRoute,
)
from srv6dmm.model.sid import Behavior, EncapMode, Flavor
from tests.agents import HOME, LOOPBACK, NODE, NODE_MAC, SETTINGS, advertisement, delivery, steering

HOST = Host(encap_red=True, sid_interfaces=("core0",))
OLD = Host(encap_red=False, sid_interfaces=("core0",))
SID = IPv6Address("fc00:0:1::e00")
SID_PREFIX = IPv6Network("fc00:0:1::e00/128")


def test_settings_become_links_addresses_tunnel_source_and_sysctls() -> None:
    objects = translate(SETTINGS, HOST)
    assert [item for item in objects if isinstance(item, LinkAddress)] == [
        LinkAddress("lo", None),
        LinkAddress("core0", None),
        LinkAddress("core1", None),
        LinkAddress("host0", None),
        LinkAddress("access", "02:00:5e:00:64:01"),
    ]
    assert [item for item in objects if isinstance(item, InterfaceAddress)] == [
        InterfaceAddress("core0", IPv6Address("fe80::11"), 64),
        InterfaceAddress("core1", IPv6Address("fe80::11"), 64),
        InterfaceAddress("host0", IPv6Address("2001:db8:a::1"), 64),
        InterfaceAddress("access", IPv6Address("fe80::1"), 64),
        InterfaceAddress("lo", LOOPBACK, 128),
    ]
    assert [item for item in objects if isinstance(item, TunnelSource)] == [TunnelSource(LOOPBACK)]
    sysctls = {item.name: item.value for item in objects if isinstance(item, Sysctl)}
    assert sysctls["net/ipv6/conf/all/forwarding"] == "1"
    for interface in ("core0", "core1", "host0", "access"):
        conf = f"net/ipv6/conf/{interface}"
        assert sysctls[f"{conf}/addr_gen_mode"] == "1"
        assert sysctls[f"{conf}/accept_ra"] == "0"
        assert sysctls[f"{conf}/accept_dad"] == "0"
        assert sysctls[f"{conf}/seg6_enabled"] == "0"
    for interface in ("core0", "core1"):
        assert sysctls[f"net/ipv6/conf/{interface}/ignore_routes_with_linkdown"] == "1"
    assert len(sysctls) == 1 + 4 * 4 + 2


def test_a_plain_transit_router_has_neither_loopback_nor_tunnel_source() -> None:
    plain = RouterSettings(None, IPv6Address("fe80::13"), ("core0",), (), None, None, None)
    objects = translate(plain, HOST)
    assert not any(isinstance(item, TunnelSource) for item in objects)
    assert [item.interface for item in objects if isinstance(item, InterfaceAddress)] == ["core0"]


def test_a_delivery_is_a_neighbour_and_a_route_through_it() -> None:
    assert translate(delivery(), HOST) == (
        Neighbour("access", NODE, NODE_MAC),
        Route(HOME, next_hops=(NextHop("access", NODE),)),
    )


def test_underlay_routes_keep_all_their_next_hops() -> None:
    hops = (("core0", IPv6Address("fe80::12")), ("core1", IPv6Address("fe80::13")))
    (route,) = translate(UnderlayRoute(IPv6Network("fc00:0:2::/48"), hops), HOST)
    assert isinstance(route, Route)
    assert route.next_hops == tuple(NextHop(*hop) for hop in hops)
    assert (route.kind, route.encap, route.table, route.metric) == (
        RouteKind.UNICAST,
        None,
        254,
        201,
    )


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (UnreachableRoute(HOME), RouteKind.UNREACHABLE),
        (DropEntry(HOME, "mn1", 1), RouteKind.BLACKHOLE),
    ],
)
def test_routes_to_nowhere(entry: PlanEntry, kind: RouteKind) -> None:
    assert translate(entry, HOST) == (Route(HOME, kind),)


@pytest.mark.parametrize(
    ("sid", "device", "local"),
    [
        (LocalSid(SID, Behavior.END), "core0", Seg6Local(Behavior.END)),
        (
            LocalSid(SID, Behavior.END, flavors=(Flavor.PSP,)),
            "core0",
            Seg6Local(Behavior.END, flavors=(Flavor.PSP,)),
        ),
        (
            LocalSid(SID, Behavior.END_DT6, table=254),
            "core0",
            Seg6Local(Behavior.END_DT6, table=254),
        ),
        (
            LocalSid(SID, Behavior.END_X, interface="core1", next_hop=NODE),
            "core1",
            Seg6Local(Behavior.END_X, next_hop=IPv6Address(int(SID) | 1)),
        ),
        (
            LocalSid(SID, Behavior.END_DX4, next_hop4=IPv4Address("192.0.2.1")),
            "core0",
            Seg6Local(Behavior.END_DX4, next_hop4=IPv4Address("192.0.2.1")),
        ),
    ],
)
def test_a_sid_is_a_seg6local_route_on_a_device(
    sid: LocalSid, device: str, local: Seg6Local
) -> None:
    *others, route = translate(sid, HOST)
    assert route == Route(SID_PREFIX, next_hops=(NextHop(device),), encap=local)
    if sid.behavior is Behavior.END_X:
        # A link-local next hop is found by an address of its own: see kernel_entries.
        assert others == [
            Route(
                IPv6Network((int(SID) | 1, 128)),
                next_hops=(NextHop(device, sid.next_hop),),
            )
        ]
    else:
        assert others == []


def test_segments_stay_in_travel_order() -> None:
    entry = steering(HOME, "fc00:0:2::e00", "fc00:0:3::d06")
    assert translate(entry, HOST) == (
        Route(
            HOME,
            next_hops=(NextHop("core0"),),
            encap=Seg6Encap(EncapMode.ENCAP_RED, entry.segments),
        ),
    )


def test_a_kernel_without_encap_red_gets_encap_and_no_other_change() -> None:
    (new,), (old,) = translate(steering(), HOST), translate(steering(), OLD)
    assert isinstance(new, Route)
    assert isinstance(old, Route)
    assert isinstance(old.encap, Seg6Encap)
    assert old.encap.mode is EncapMode.ENCAP
    assert replace(old, encap=new.encap) == new
    inline = steering(mode=EncapMode.INLINE)
    assert translate(inline, OLD) == translate(inline, HOST)


def test_an_advertisement_is_no_kernel_object() -> None:
    assert translate(advertisement(), HOST) == ()


def test_sids_are_never_hung_on_lo_while_there_is_another_device() -> None:
    assert Host.of(SETTINGS, True).sid_interfaces == ("core0", "core1")
    assert Host.of(replace(SETTINGS, core_interfaces=()), True).sid_interfaces == ("host0",)
    bare = replace(SETTINGS, core_interfaces=(), host_interfaces=())
    assert Host.of(bare, True).sid_interfaces == ("access",)


NEAR, FAR = IPv6Network("2001:db8:2::/64"), IPv6Network("2001:db8:1::/64")
FAST = Host(
    encap_red=True,
    sid_interfaces=("core0",),
    fast=True,
    source=IPv6Address("fc00:0:1::1"),
)


def _way(*segments: str, weight: int = 1, interface: str = "core0") -> SteeringList:
    listed = tuple(IPv6Address(segment) for segment in segments)
    return SteeringList(listed, interface, IPv6Address("fe80::2"), 1600, weight)


def _flow(*lists: SteeringList, **fields: object) -> FlowSteering:
    selector = FlowSelector(NEAR, FAR, 17, None, (5000, 5010), 46)
    entry = FlowSteering("voice", selector, 5, lists, EncapMode.ENCAP_RED, "mn1")
    return replace(entry, **fields)  # type: ignore[arg-type]


def _fast(entry: FlowSteering, host: Host = FAST) -> FastFlow:
    (found,) = [item for item in translate(entry, host) if isinstance(item, FastFlow)]
    return found


def test_a_flow_is_a_rule_of_the_fast_path_too() -> None:
    ways = _way("fc00:0:2::d06", weight=3), _way("fc00:0:3::e00", "fc00:0:2::d06")
    entry = _flow(*ways)
    rule = next(item for item in translate(entry, FAST) if isinstance(item, Rule))
    found = _fast(entry)
    assert found == FastFlow(
        rule.table,
        entry.selector,
        False,
        5,
        tuple(
            FastList(
                EncapMode.ENCAP_RED,
                way.segments,
                IPv6Address("fc00:0:1::1"),
                "core0",
                IPv6Address("fe80::2"),
                1600,
                way.weight,
            )
            for way in ways
        ),
    )
    assert found.prefix == FAR
    assert _fast(replace(entry, uplink=True)).prefix == NEAR
    assert found.number == flow_table(entry) == entry.number


def test_the_weight_of_a_list_that_is_alone_is_none() -> None:
    assert _fast(_flow(_way("fc00:0:2::d06", weight=7))).lists[0].weight == 1


def test_a_flow_without_lists_drops_whatever_the_mode() -> None:
    for mode in EncapMode:
        found = _fast(_flow(mode=mode))
        assert (found.lists, found.to_kernel) == ((), False)


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        (_flow(*(_way("fc00:0:2::d06") for _ in range(5))), FAST),
        (_flow(_way(*(f"fc00:0:{n}::e00" for n in range(1, 8)))), FAST),
        (_flow(_way("fc00:0:2::d06"), mode=EncapMode.INLINE), FAST),
        (_flow(_way("fc00:0:2::d06", weight=1 << 31), _way("fc00:0:3::d06", weight=1 << 31)), FAST),
        (_flow(_way("fc00:0:2::d06")), replace(FAST, source=None)),
    ],
    ids=["lists", "segments", "inline", "weights", "source"],
)
def test_lists_that_do_not_fit_are_the_kernels(entry: FlowSteering, host: Host) -> None:
    """It stays a rule: the packets must not follow the next one, or their prefix."""
    found = _fast(entry, host)
    assert (found.lists, found.to_kernel) == ((), True)
    assert (found.order, found.selector) == (entry.order, entry.selector)
