"""What our bytes make of the kernel, in the words of `ip -j -d -6 route show`."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import NextHop, Route, RouteKind, Seg6Encap, Seg6Local
from srv6dmm.model.sid import Behavior, EncapMode, Flavor
from tests.netns.kernels import Space, router

pytestmark = pytest.mark.root

PREFIX = IPv6Network("2001:db8:1::/64")
SID = IPv6Network("fc00:1:0:e00::/128")
SEGMENTS = tuple(IPv6Address(f"fc00:{index}::e00") for index in (3, 1, 2))
COMMON = {"type": "unicast", "dev": "v0", "protocol": "201", "metric": 201}


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    with router() as made:
        yield made


@pytest.fixture
def kernel(space: Space) -> Iterator[LinuxKernel]:
    opened = LinuxKernel(space.name)
    yield opened
    left = opened.delete(list(opened.read().values()))
    opened.close()
    assert left == []


def shown(space: Space) -> dict[str, object]:
    """The one route with our protocol, without what says nothing."""
    (route,) = [route for route in space.routes() if route["protocol"] in ("201", "srv6dmm")]
    route["protocol"] = "201"  # ip has the name when rt_protos.d was set up
    return {key: route[key] for key in route if key not in ("scope", "flags", "pref", "dst")}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("mode", list(EncapMode))
def test_every_mode_and_length(
    space: Space, kernel: LinuxKernel, mode: EncapMode, count: int
) -> None:
    segments = SEGMENTS[:count]
    route = Route(PREFIX, next_hops=(NextHop("v0"),), encap=Seg6Encap(mode, segments))
    assert kernel.put([route]) == []
    words = [str(segment) for segment in segments]
    if mode is EncapMode.INLINE:
        words.append("::")  # the place of the packet's own destination
    ours = shown(space)
    assert ours == COMMON | {"encap": "seg6", "mode": str(mode), "segs": words}
    # The same route by iproute2 is the same to it, and is read back as the same value.
    assert kernel.delete([route]) == []
    space.ip(
        *("-6", "route", "add", str(PREFIX), "encap", "seg6", "mode", str(mode), "segs"),
        *(",".join(map(str, segments)), "dev", "v0", "proto", "201", "metric", "201"),
    )
    assert shown(space) == ours
    assert kernel.read() == {route.identity: route}


ENDPOINTS = {
    "End": (Seg6Local(Behavior.END), "action End"),
    "End.X global": (
        Seg6Local(Behavior.END_X, next_hop=IPv6Address("2001:db8::2")),
        "action End.X nh6 2001:db8::2",
    ),
    "End.X interface": (
        Seg6Local(Behavior.END_X, next_hop=IPv6Address("fe80::2"), interface="v1"),
        "action End.X nh6 fe80::2 oif v1",
    ),
    "End.DT6": (Seg6Local(Behavior.END_DT6, table=1000), "action End.DT6 table 1000"),
    "End.DT6 main": (Seg6Local(Behavior.END_DT6, table=254), "action End.DT6 table main"),
    "End.DX4": (
        Seg6Local(Behavior.END_DX4, next_hop4=IPv4Address("192.0.2.2")),
        "action End.DX4 nh4 192.0.2.2",
    ),
    "End.DX6": (
        Seg6Local(Behavior.END_DX6, next_hop=IPv6Address("2001:db8::2")),
        "action End.DX6 nh6 2001:db8::2",
    ),
    "End.B6.Encaps": (
        Seg6Local(Behavior.END_B6_ENCAPS, segments=SEGMENTS),
        "action End.B6.Encaps srh segs " + ",".join(map(str, SEGMENTS)),
    ),
    "psp": (Seg6Local(Behavior.END, flavors=(Flavor.PSP,)), "action End flavors psp"),
    "next-csid": (
        Seg6Local(Behavior.END, flavors=(Flavor.NEXT_CSID,)),
        "action End flavors next-csid",
    ),
    "both flavors": (
        Seg6Local(Behavior.END, flavors=(Flavor.NEXT_CSID, Flavor.PSP)),
        "action End flavors psp,next-csid",
    ),
    "End.X next-csid": (
        Seg6Local(Behavior.END_X, next_hop=IPv6Address("2001:db8::2"), flavors=(Flavor.NEXT_CSID,)),
        "action End.X nh6 2001:db8::2 flavors next-csid",
    ),
}


@pytest.mark.parametrize("counting", [True, False])
@pytest.mark.parametrize("name", list(ENDPOINTS))
def test_every_behavior_and_flavor(
    space: Space, kernel: LinuxKernel, name: str, counting: bool
) -> None:
    local, words = ENDPOINTS[name]
    local = Seg6Local(
        local.behavior, local.next_hop, local.next_hop4, local.interface, local.table,
        local.segments, local.flavors, counting,
    )  # fmt: skip
    route = Route(SID, next_hops=(NextHop("v0"),), encap=local)
    assert kernel.put([route]) == []
    ours = shown(space)
    assert ours["action"] == str(local.behavior)
    (read,) = kernel.read().values()
    assert isinstance(read, Route)
    assert read == route
    assert isinstance(read.encap, Seg6Local)
    assert read.encap.count is counting  # == does not look at it
    assert (str(SID.network_address) in kernel.sid_counters()) is counting

    assert kernel.delete([route]) == []
    count = ["count"] if counting else []
    space.ip(
        *("-6", "route", "add", str(SID), "encap", "seg6local", *words.split(), *count),
        *("dev", "v0", "proto", "201", "metric", "201"),
    )
    assert shown(space) == ours
    assert kernel.read() == {route.identity: route}


def test_a_micro_node_takes_the_place_of_its_locators_cover(
    space: Space, kernel: LinuxKernel
) -> None:
    """A uN is a /48, put over the unreachable route of the same prefix and metric, and back."""
    locator = IPv6Network("fc00:1:c1::/48")
    cover = Route(locator, RouteKind.UNREACHABLE)
    local = Seg6Local(Behavior.END, flavors=(Flavor.NEXT_CSID,))
    route = Route(locator, next_hops=(NextHop("v0"),), encap=local)
    assert kernel.put([cover]) == []
    assert kernel.put([route]) == []
    ours = shown(space)
    assert ours == COMMON | {
        "encap": "seg6local",
        "action": "End",
        "flavors": ["next-csid"],
        "lblen": 32,
        "nflen": 16,
    }
    assert kernel.read() == {route.identity: route}
    assert kernel.read([route.identity]) == {route.identity: route}
    assert kernel.sid_counters() == {"fc00:1:c1::": (0, 0, 0)}
    space.ip(
        *("-6", "route", "replace", str(locator), "encap", "seg6local", "action", "End"),
        *("flavors", "next-csid", "lblen", "32", "nflen", "16", "count", "dev", "v0"),
        *("proto", "201", "metric", "201"),
    )
    assert shown(space) == ours
    assert kernel.read() == {route.identity: route}
    assert kernel.put([cover]) == []
    assert kernel.read() == {cover.identity: cover}


@pytest.mark.parametrize("kind", [RouteKind.UNREACHABLE, RouteKind.BLACKHOLE, RouteKind.THROW])
def test_rejecting_routes(space: Space, kernel: LinuxKernel, kind: RouteKind) -> None:
    route = Route(PREFIX, kind)
    assert kernel.put([route]) == []
    assert shown(space)["type"] == str(kind)
    assert kernel.read() == {route.identity: route}


def test_multipath(space: Space, kernel: LinuxKernel) -> None:
    hops = (NextHop("v1", IPv6Address("fe80::1")), NextHop("v0", IPv6Address("fe80::2")))
    route = Route(PREFIX, next_hops=hops)
    assert kernel.put([route]) == []
    (said,) = space.routes("proto", "201")
    assert {(hop["dev"], hop["gateway"]) for hop in said["nexthops"]} == {
        ("v0", "fe80::2"),
        ("v1", "fe80::1"),
    }
    assert kernel.read() == {route.identity: route}
    assert kernel.delete([route]) == []
    assert space.routes("proto", "201") == []


def test_a_flavor_the_kernel_refuses_says_so(space: Space, kernel: LinuxKernel) -> None:
    local = Seg6Local(Behavior.END_X, next_hop=IPv6Address("2001:db8::2"), flavors=(Flavor.PSP,))
    route = Route(SID, next_hops=(NextHop("v0"),), encap=local)
    (failure,) = kernel.put([route])
    assert failure.identity == route.identity
    assert "Flavor" in failure.reason
    assert space.routes("proto", "201") == []


@pytest.mark.parametrize("prefix", ["::/0", "2001:db8::/32", "2001:db8::1/128"])
def test_any_prefix_length_and_a_long_table_number(
    space: Space, kernel: LinuxKernel, prefix: str
) -> None:
    encap = Seg6Encap(EncapMode.ENCAP, SEGMENTS)
    routes = [
        Route(IPv6Network(prefix), next_hops=(NextHop("v0"),), encap=encap, table=table)
        for table in (254, 100, 70_000)
    ]
    assert kernel.put(routes) == []
    assert kernel.read() == {route.identity: route for route in routes}
    assert kernel.read([route.identity for route in routes]) == kernel.read()
    assert len(space.routes("proto", "201", "table", "70000")) == 1
