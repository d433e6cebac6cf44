"""Replacing a route, whatever it was and whatever it becomes: one message, no gap, one route."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network

import pytest

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.channel import Monitor
from srv6dmm.dataplane.objects import (
    Neighbour,
    NextHop,
    Route,
    RouteKind,
    Seg6Encap,
    Seg6Local,
)
from srv6dmm.model.sid import Behavior, EncapMode
from tests.netns.kernels import Space, router

pytestmark = pytest.mark.root

PREFIX = IPv6Network("2001:db8:1::/64")
TARGET = "2001:db8:1::9"
SEGMENTS = (IPv6Address("2001:db8:99::5"), IPv6Address("2001:db8:99::6"))
DIRECT = NextHop("v0")
NEAR = NextHop("v0", IPv6Address("fe80::2"))
FAR = NextHop("v1", IPv6Address("fe80::3"))
FORMS = {
    "device": Route(PREFIX, next_hops=(DIRECT,)),
    "gateway": Route(PREFIX, next_hops=(NEAR,)),
    "multipath": Route(PREFIX, next_hops=(NEAR, FAR)),
    "encap": Route(PREFIX, next_hops=(DIRECT,), encap=Seg6Encap(EncapMode.ENCAP, SEGMENTS)),
    "encap other way": Route(
        PREFIX, next_hops=(DIRECT,), encap=Seg6Encap(EncapMode.ENCAP_RED, SEGMENTS[:1])
    ),
    "encap by gateway": Route(
        PREFIX, next_hops=(NEAR,), encap=Seg6Encap(EncapMode.ENCAP, SEGMENTS)
    ),
    "sid": Route(PREFIX, next_hops=(DIRECT,), encap=Seg6Local(Behavior.END_DT6, table=254)),
    "unreachable": Route(PREFIX, RouteKind.UNREACHABLE),
    "blackhole": Route(PREFIX, RouteKind.BLACKHOLE),
}


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    with router() as made:
        made.ip("address", "add", "2001:db8:99::1/64", "dev", "v0", "nodad")
        yield made


@pytest.fixture
def kernel(space: Space) -> Iterator[LinuxKernel]:
    opened = LinuxKernel(space.name)
    yield opened
    opened.close()


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(FORMS, 2)))
def test_one_message_leaves_one_route(
    space: Space, kernel: LinuxKernel, before: str, after: str
) -> None:
    assert kernel.put([FORMS[before]]) == []
    with namespace.inside(space.name):
        monitor = Monitor()
    try:
        assert kernel.put([FORMS[after]]) == []
        heard = [event[0] for event in monitor.events() if event is not None]
    finally:
        monitor.close()
    assert heard == [n.RTM_NEWROUTE]  # no delete in between
    assert kernel.read() == {FORMS[after].identity: FORMS[after]}
    assert len(space.routes("proto", "201")) == 1


def _look_up_until_told(name: str, report: int) -> None:
    """Child: send datagrams to the prefix, count what each look-up of a route came to."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    namespace.enter(name)
    counts: Counter[str] = Counter()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        os.write(report, b"\n")
        while not stop:
            for _ in range(200):
                try:
                    sender.sendto(b"x", (TARGET, 9))
                    counts["sent"] += 1
                except OSError as error:
                    counts[errno.errorcode[error.errno or 0]] += 1
    os.write(report, json.dumps(counts).encode())


UNICAST = [name for name in FORMS if FORMS[name].kind is RouteKind.UNICAST]


@contextmanager
def looking_up(space: Space) -> Iterator[dict[str, int]]:
    """Look routes up in another process during the block; afterwards the dict has the counts."""
    counts: dict[str, int] = {}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _look_up_until_told(space.name, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as report:
        try:
            assert report.readline() == b"\n"
            yield counts
        finally:
            os.kill(child, signal.SIGTERM)
            counts.update(json.loads(report.read()))
            os.waitpid(child, 0)


def exchange(kernel: LinuxKernel, names: list[str], *, delete_first: bool = False) -> int:
    """Put one form after the other for a second and a half; return how often."""
    choose = random.Random(20)
    replaced, until = 0, time.monotonic() + 1.5
    while time.monotonic() < until:
        form = FORMS[choose.choice(names)]
        if delete_first:
            assert kernel.delete([form]) == []
        assert kernel.put([form]) == []
        replaced += 1
    return replaced


@pytest.fixture
def ready(kernel: LinuxKernel) -> LinuxKernel:
    """A kernel that knows every neighbour of the forms, with the first form in place."""
    neighbours = [
        Neighbour("v0", IPv6Address("fe80::2"), "02:00:00:00:00:01"),
        Neighbour("v0", IPv6Address(TARGET), "02:00:00:00:00:01"),
        Neighbour("v0", SEGMENTS[0], "02:00:00:00:00:01"),
        Neighbour("v1", IPv6Address("fe80::3"), "02:00:00:00:00:02"),
    ]
    assert kernel.put([*neighbours, FORMS["device"]]) == []
    return kernel


def test_no_look_up_misses_while_routes_are_replaced(space: Space, ready: LinuxKernel) -> None:
    with looking_up(space) as counts:
        replaced = exchange(ready, UNICAST)
    assert replaced > 1_000
    assert counts["sent"] > 1_000
    assert set(counts) == {"sent"}, counts
    assert len(ready.read([FORMS["device"].identity])) == 1


def test_rejecting_routes_are_replaced_without_a_gap(space: Space, ready: LinuxKernel) -> None:
    """EHOSTUNREACH and EINVAL are the unreachable and the blackhole route themselves.

    ENETUNREACH is no route. Linux itself answers that about once in 500,000 local look-ups of an
    unreachable route that is being replaced (nothing else holds its cached entry), so the measure
    is a gap: the same exchange with a delete in between.
    """
    with looking_up(space) as counts:
        replaced = exchange(ready, list(FORMS))
    with looking_up(space) as gaping:
        exchange(ready, list(FORMS), delete_first=True)
    assert replaced > 1_000
    assert set(counts) <= {"sent", "EHOSTUNREACH", "EINVAL", "ENETUNREACH"}, counts
    missed = counts.get("ENETUNREACH", 0) / sum(counts.values())
    assert missed < 1e-4, counts
    assert gaping["ENETUNREACH"] / sum(gaping.values()) > 1e-2, gaping
    assert len(ready.read([FORMS["device"].identity])) == 1
