"""The real kernel behind the interface: put, read back, delete, and what goes wrong."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network

import pytest

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.namespace import NamespaceError
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    KernelObject,
    LinkAddress,
    Neighbour,
    NextHop,
    Route,
    RouteKind,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.sid import Behavior, EncapMode
from tests.netns.kernels import Space, cable, router, spaces

pytestmark = pytest.mark.root

MAC = "02:00:5e:00:64:01"
SEGMENTS = (IPv6Address("fc00:1::e00"), IPv6Address("fc00:2::d06"))
LOOPBACK = IPv6Address("fc00:9::1")


def steering(index: int, interface: str = "v0") -> Route:
    prefix = IPv6Network((int(IPv6Address("2001:db8::")) + (index << 64), 64))
    encap = Seg6Encap(EncapMode.ENCAP, SEGMENTS)
    return Route(prefix, next_hops=(NextHop(interface),), encap=encap)


ROUTER: list[KernelObject] = [
    Sysctl("net/ipv6/conf/all/forwarding", "1"),
    LinkAddress("lo", None),
    LinkAddress("v0", MAC),
    InterfaceAddress("lo", LOOPBACK, 128),
    InterfaceAddress("v0", IPv6Address("fe80::1"), 64),
    TunnelSource(LOOPBACK),
    Neighbour("v0", IPv6Address("fe80::77"), "02:00:00:00:00:07"),
    Route(IPv6Network("2001:db8::/48"), RouteKind.UNREACHABLE),
    Route(IPv6Network("2001:db8:5::/48"), next_hops=(NextHop("v1", IPv6Address("fe80::2")),)),
    Route(
        IPv6Network("fc00:9:0:e00::/128"),
        next_hops=(NextHop("v0"),),
        encap=Seg6Local(Behavior.END),
    ),
    Route(IPv4Network("198.51.100.0/24"), next_hops=(NextHop("v1", IPv6Address("fe80::2")),)),
    steering(1),
    steering(2, "v1"),
]
LISTED = [item for item in ROUTER if isinstance(item, Route | Neighbour | InterfaceAddress)]


@pytest.fixture
def space() -> Iterator[Space]:
    with router() as made:
        yield made


@pytest.fixture
def kernel(space: Space) -> Iterator[LinuxKernel]:
    opened = LinuxKernel(space.name)
    yield opened
    opened.close()


def test_what_was_put_is_read_back_equal(space: Space, kernel: LinuxKernel) -> None:
    assert kernel.put(ROUTER) == []
    assert kernel.read() == {item.identity: item for item in LISTED}
    wanted = [item.identity for item in ROUTER]
    assert kernel.read(wanted) == {item.identity: item for item in ROUTER}
    assert kernel.read([("route", "2001:db8:77::/64", 254, 201)]) == {}
    # Again changes nothing, and another process finds the same.
    assert kernel.put(ROUTER) == []
    fresh = LinuxKernel(space.name)
    assert fresh.read() == {item.identity: item for item in LISTED}
    fresh.close()
    assert space.ip("sr", "tunsrc", "show").split() == ["tunsrc", "addr", str(LOOPBACK)]


def test_deleting_leaves_nothing_and_may_be_repeated(space: Space, kernel: LinuxKernel) -> None:
    assert kernel.put(ROUTER) == []
    assert kernel.delete(ROUTER) == []
    assert kernel.read() == {}
    assert kernel.delete(ROUTER) == []
    assert kernel.read([("tunsrc",)]) == {("tunsrc",): TunnelSource(LOOPBACK)}
    assert "fe80::77" not in space.ip("-6", "neigh", "show")


def test_one_refused_object_does_not_stop_the_others(kernel: LinuxKernel) -> None:
    bad_address = Route(
        IPv6Network("2001:db8:ff::/64"), next_hops=(NextHop("v0", IPv6Address("ff02::1")),)
    )
    no_device = steering(7, "nope")
    no_hop = Route(IPv6Network("2001:db8:fe::/64"))
    on_lo = Route(
        IPv6Network("fc00:9:0:f::/128"), next_hops=(NextHop("lo"),), encap=Seg6Local(Behavior.END)
    )
    ignored = Route(
        IPv6Network("fc00:9:0:e::/128"),
        next_hops=(NextHop("v0"),),
        encap=Seg6Local(Behavior.END_DX6, next_hop=IPv6Address("fe80::2"), interface="v0"),
    )
    sysctl = Sysctl("net/ipv6/conf/nope/forwarding", "1")
    outside = Sysctl("net/../kernel/hostname", "x")
    good: list[KernelObject] = [steering(index) for index in range(200)]
    bad: list[KernelObject] = [bad_address, no_device, no_hop, on_lo, ignored, sysctl, outside]
    mixed = list(good)
    for position, item in enumerate(bad):
        mixed.insert(position * 30, item)
    failures = {failure.identity: failure for failure in kernel.put(mixed)}
    assert set(failures) == {item.identity for item in bad}
    assert failures[no_device.identity].errno == errno.ENODEV
    assert "'nope'" in failures[no_device.identity].reason
    assert failures[bad_address.identity].errno == errno.EINVAL
    assert failures[bad_address.identity].reason == "Invalid gateway address"
    assert "lo" in failures[on_lo.identity].reason
    assert "interface" in failures[ignored.identity].reason
    assert failures[sysctl.identity].errno == errno.ENOENT
    assert kernel.read() == {item.identity: item for item in good}


def test_objects_of_others_are_not_seen_and_not_deleted(space: Space, kernel: LinuxKernel) -> None:
    ours = steering(1)
    space.ip(
        "-6", "route", "add", str(ours.prefix), "dev", "v0", "metric", "201", "proto", "static"
    )
    space.ip("-6", "neigh", "add", "fe80::9", "lladdr", MAC, "dev", "v0")
    assert kernel.read() == {}
    assert kernel.read([ours.identity]) == {}
    assert kernel.delete([ours]) == []
    assert len(space.routes("proto", "static")) == 1
    # A put takes the place of a stranger's route of the same prefix and metric.
    assert kernel.put([ours]) == []
    assert space.routes("proto", "static") == []
    assert kernel.read([ours.identity]) == {ours.identity: ours}


def test_a_route_appended_by_somebody_is_seen_and_repaired(
    space: Space, kernel: LinuxKernel
) -> None:
    ours = steering(1)
    assert kernel.put([ours]) == []
    space.ip(
        *("-6", "route", "append", str(ours.prefix), "via", "fe80::5", "dev", "v1"),
        *("metric", "201", "proto", "201"),
    )
    assert kernel.read()[ours.identity] != ours
    assert kernel.put([ours]) == []
    assert kernel.read() == {ours.identity: ours}
    assert len(space.routes("proto", "201")) == 1


def test_an_address_with_another_prefix_length_is_corrected(
    space: Space, kernel: LinuxKernel
) -> None:
    address = IPv6Address("2001:db8:9::1")
    space.ip("address", "add", f"{address}/48", "dev", "v0", "nodad")
    wanted = InterfaceAddress("v0", address, 64)
    assert kernel.read([wanted.identity]) == {}
    assert kernel.put([wanted]) == []
    assert kernel.read() == {wanted.identity: wanted}
    assert f"{address}/48" not in space.ip("address", "show", "dev", "v0")


def test_an_address_that_was_there_becomes_ours(space: Space, kernel: LinuxKernel) -> None:
    wanted = InterfaceAddress("v0", IPv6Address("fe80::1"), 64)
    space.ip("address", "add", "fe80::1/64", "dev", "v0", "nodad")
    assert kernel.read([wanted.identity]) == {wanted.identity: wanted}
    assert kernel.read() == {}
    assert kernel.put([wanted]) == []
    assert kernel.read() == {wanted.identity: wanted}


def test_an_interface_made_anew_is_found_again(space: Space, kernel: LinuxKernel) -> None:
    assert kernel.put([steering(1)]) == []
    space.ip("link", "del", "v0")
    cable(space, "v0", space, "v1")
    assert kernel.read() == {}
    assert kernel.put([steering(1), steering(2)]) == []
    assert set(kernel.read()) == {steering(1).identity, steering(2).identity}
    space.ip("link", "del", "v0")
    assert kernel.delete([Neighbour("v0", IPv6Address("fe80::77"), MAC), steering(1)]) == []


def test_a_link_that_is_down_is_missing(space: Space, kernel: LinuxKernel) -> None:
    link = LinkAddress("v0", MAC)
    space.ip("link", "set", "v0", "down")
    assert kernel.read([link.identity]) == {}
    assert kernel.put([link]) == []
    assert kernel.read([link.identity]) == {link.identity: link}
    other = LinkAddress("v0", "02:00:5e:00:64:02")
    assert kernel.put([other]) == []
    assert kernel.read([link.identity]) == {link.identity: other}


def test_a_neighbour_with_another_address_is_replaced(space: Space, kernel: LinuxKernel) -> None:
    neighbours = [Neighbour("v0", IPv6Address("fe80::77"), f"02:00:00:00:00:0{i}") for i in (7, 8)]
    for neighbour in neighbours:
        assert kernel.put([neighbour]) == []
        assert kernel.read() == {neighbour.identity: neighbour}
    space.ip("neigh", "del", "fe80::77", "dev", "v0")
    assert kernel.read() == {}


def test_a_kernel_short_of_memory_is_waited_for(
    kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In huge batches Linux runs out of per-CPU memory for seg6 routes; all get in all the same."""
    monkeypatch.setattr("srv6dmm.dataplane.netlink.channel.BATCH", 1000)
    monkeypatch.setattr("srv6dmm.dataplane.linux.BATCH", 1000)
    routes = [steering(index) for index in range(20_000)]
    assert kernel.put(routes) == []
    assert len(kernel.read()) == len(routes)


def test_a_bulk_with_failures_and_repetitions(kernel: LinuxKernel) -> None:
    """Big puts of steering routes take two sockets; the outcome is that of one."""
    routes = [steering(index) for index in range(6_000)]
    turned = Seg6Encap(EncapMode.ENCAP, SEGMENTS[::-1])
    assert kernel.put(routes) == []
    assert kernel.read() == {route.identity: route for route in routes}
    others = [replace(route, encap=turned) for route in routes]
    assert kernel.put([*others, *routes]) == []  # the same routes twice: the last ones count
    assert kernel.read() == {route.identity: route for route in routes}
    unknown = steering(1, "nope")
    (failure,) = kernel.put([*others, unknown])
    assert failure.identity == unknown.identity
    assert kernel.read() == {route.identity: route for route in others}


def test_a_bulk_over_an_interface_made_anew(space: Space, kernel: LinuxKernel) -> None:
    routes = [steering(index, "v1" if index % 100 else "v0") for index in range(5_000)]
    assert kernel.put(routes) == []
    space.ip("link", "del", "v0")
    cable(space, "v0", space, "v1")
    assert kernel.put(routes) == []
    assert kernel.read() == {route.identity: route for route in routes}


def test_many_wanted_routes_and_tables_are_found(kernel: LinuxKernel) -> None:
    routes = [steering(index) for index in range(300)]
    covering = Route(IPv6Network("2001:db8::/40"), RouteKind.UNREACHABLE)
    elsewhere = Route(IPv6Network("2001:db8::/64"), next_hops=(NextHop("v1"),), table=1000)
    host = Route(IPv6Network("2001:db8::/128"), next_hops=(NextHop("v1"),))
    everything: list[KernelObject] = [*routes, covering, elsewhere, host]
    assert kernel.put(everything) == []
    assert kernel.read([item.identity for item in everything]) == kernel.read()
    # The best route to 2001:db8:: is the host route: the others are found all the same.
    for item in (routes[0], elsewhere, host, covering):
        assert kernel.read([item.identity]) == {item.identity: item}


def test_the_calling_thread_stays_where_it_is(space: Space) -> None:
    def here() -> int:
        return os.stat("/proc/thread-self/ns/net").st_ino

    inside = os.stat(namespace.path(space.name)).st_ino
    before = here()
    assert before != inside
    sysctl = Sysctl("net/ipv6/conf/all/hop_limit", "61")
    with open("/proc/sys/net/ipv6/conf/all/hop_limit", encoding="ascii") as outside:
        untouched = outside.read()
    kernel = LinuxKernel(space.name)
    assert here() == before
    assert kernel.put([sysctl, steering(1)]) == []
    kernel.subscribe(lambda: None)
    kernel.close()
    assert here() == before
    with open("/proc/sys/net/ipv6/conf/all/hop_limit", encoding="ascii") as outside:
        assert outside.read() == untouched
    seen: list[int] = []

    def move() -> None:
        namespace.enter(space.name)
        seen.append(here())

    thread = threading.Thread(target=move)
    thread.start()
    thread.join()
    assert seen == [inside]
    assert here() == before


def test_namespaces_are_those_of_ip_netns() -> None:
    with spaces(2) as (one, two):
        assert namespace.exists(one.name)
        prefix = f"s6t-{os.getpid()}-"
        assert {one.name, two.name} <= set(namespace.names(prefix))
        with pytest.raises(NamespaceError, match="exists already"):
            namespace.create(one.name)
        namespace.remove(one.name)
        namespace.remove(one.name)
        assert not namespace.exists(one.name)
        with pytest.raises(NamespaceError, match="no network namespace"):
            LinuxKernel(one.name)
        with pytest.raises(NamespaceError, match="slash"):
            namespace.create("a/b")
        two.ip("link", "show")


def test_bulk_bench_reports_every_way() -> None:
    from srv6dmm.bench.bulk import bulk_routes

    name = f"s6t-bulk-{os.getpid()}"
    cases = {case["name"]: case for case in bulk_routes(10_000, name)}
    assert set(cases) == {"routes_put_all", "routes_put", "routes_build", "routes_ip_batch"}
    for case in cases.values():
        assert case["count"] == 10_000
        assert 0 < case["p50_ms"] <= case["p99_ms"]
    assert cases["routes_put"]["installed"] == 10_000
    # One kernel in one run: hosts differ, and are busy, but both ways alike.
    for ours in ("routes_put_all", "routes_put"):
        assert cases[ours]["per_second"] > cases["routes_ip_batch"]["per_second"], cases
    assert not namespace.exists(name)
