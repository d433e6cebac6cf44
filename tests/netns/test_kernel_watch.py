"""The monitor hears what others do to objects of ours, and not what we do."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    KernelObject,
    LinkAddress,
    Neighbour,
    NextHop,
    Route,
    Seg6Encap,
)
from srv6dmm.model.sid import EncapMode
from tests.netns.kernels import Space, router

pytestmark = pytest.mark.root

PREFIX = "2001:db8:1::/64"
ROUTE = Route(
    IPv6Network(PREFIX),
    next_hops=(NextHop("v0"),),
    encap=Seg6Encap(EncapMode.ENCAP, (IPv6Address("fc00::1"),)),
)
OURS: list[KernelObject] = [
    LinkAddress("v0", "02:00:5e:00:64:01"),
    InterfaceAddress("v0", IPv6Address("fe80::1"), 64),
    Neighbour("v0", IPv6Address("fe80::77"), "02:00:00:00:00:07"),
    ROUTE,
]


@pytest.fixture
def space() -> Iterator[Space]:
    with router() as made:
        # Settled: no duplicate address detection whose end would be heard.
        made.ip("link", "set", "v0", "addrgenmode", "none")
        yield made


class Watched:
    """A kernel and how often its monitor reported."""

    def __init__(self, space: Space) -> None:
        self.kernel = LinuxKernel(space.name)
        self.reports = 0
        self.descriptor = self.kernel.subscribe(self._count)

    def _count(self) -> None:
        self.reports += 1

    def heard(self) -> bool:
        """Drain; tell whether it reported. Events are queued before the cause returns."""
        before = self.reports
        self.kernel.drain()
        assert self.reports - before <= 1
        return self.reports > before


@pytest.fixture
def watched(space: Space) -> Iterator[Watched]:
    made = Watched(space)
    yield made
    made.kernel.close()


def test_our_own_writes_are_not_reported(watched: Watched) -> None:
    assert watched.kernel.put(OURS) == []
    assert select.select([watched.descriptor], [], [], 0)[0] == [watched.descriptor]
    assert not watched.heard()
    assert watched.kernel.put(OURS) == []
    assert watched.kernel.delete(OURS) == []
    assert not watched.heard()
    assert select.select([watched.descriptor], [], [], 0)[0] == []


def test_our_own_bulk_is_not_reported(watched: Watched) -> None:
    base = int(IPv6Address("2001:db8:8::"))
    routes = [replace(ROUTE, prefix=IPv6Network((base + (i << 64), 64))) for i in range(5_000)]
    assert watched.kernel.put(routes) == []
    assert not watched.heard()
    assert watched.kernel.put(routes) == []
    assert not watched.heard()


MEDDLING: dict[str, Callable[[Space], object]] = {
    "route deleted": lambda space: space.ip("-6", "route", "del", PREFIX, "proto", "201"),
    "route replaced": lambda space: space.ip(
        *("-6", "route", "replace", PREFIX, "dev", "v1", "metric", "201", "proto", "static")
    ),
    "neighbour deleted": lambda space: space.ip("neigh", "del", "fe80::77", "dev", "v0"),
    "neighbour changed": lambda space: space.ip(
        *("neigh", "replace", "fe80::77", "lladdr", "02:00:00:00:00:08", "dev", "v0")
    ),
    "address deleted": lambda space: space.ip("address", "del", "fe80::1/64", "dev", "v0"),
    "link down": lambda space: space.ip("link", "set", "v0", "down"),
    "link address": lambda space: space.ip("link", "set", "v0", "address", "02:00:00:00:00:99"),
    "link gone": lambda space: space.ip("link", "del", "v0"),
}


@pytest.mark.parametrize("what", list(MEDDLING))
def test_what_others_do_to_ours_is_reported(space: Space, watched: Watched, what: str) -> None:
    assert watched.kernel.put(OURS) == []
    assert not watched.heard()
    MEDDLING[what](space)
    assert watched.heard()
    assert not watched.heard()


def test_what_others_do_among_themselves_is_not(space: Space, watched: Watched) -> None:
    assert watched.kernel.put(OURS) == []
    assert not watched.heard()
    space.ip("-6", "route", "add", "2001:db8:7::/64", "dev", "v0")
    space.ip("-6", "route", "del", "2001:db8:7::/64", "dev", "v0")
    space.ip("neigh", "add", "fe80::99", "lladdr", "02:00:00:00:00:08", "dev", "v1")
    space.ip("address", "add", "2001:db8:8::1/64", "dev", "v1", "nodad")
    space.ip("address", "del", "2001:db8:8::1/64", "dev", "v1")
    assert not watched.heard()


def test_a_renamed_interface_is_known_by_its_new_name(space: Space, watched: Watched) -> None:
    assert watched.kernel.put(OURS) == []
    assert not watched.heard()
    space.ip("link", "set", "v0", "down")
    space.ip("link", "set", "v0", "name", "core0")
    space.ip("link", "set", "core0", "up")
    assert watched.heard()
    (failure,) = watched.kernel.put([ROUTE])
    assert "'v0'" in failure.reason
    moved = Route(ROUTE.prefix, next_hops=(NextHop("core0"),), encap=ROUTE.encap)
    assert watched.kernel.put([moved]) == []
    assert watched.kernel.read([moved.identity]) == {moved.identity: moved}


def test_a_second_monitor_is_refused(watched: Watched) -> None:
    with pytest.raises(RuntimeError, match="watched already"):
        watched.kernel.subscribe(lambda: None)
