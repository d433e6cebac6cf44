"""The kernel in memory keeps the contract, and its faults are what they claim to be."""

from __future__ import annotations

import errno
import select
from ipaddress import IPv6Address, IPv6Network

import pytest

from srv6dmm.dataplane.fake import FakeKernel, Operation
from srv6dmm.dataplane.kernel import Kernel
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    KernelObject,
    LinkAddress,
    Neighbour,
    NextHop,
    Route,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.sid import Behavior, EncapMode, Flavor

PREFIX = IPv6Network("2001:db8:1::/64")
PLAIN = Route(PREFIX, next_hops=(NextHop("v0"),))
STEERED = Route(
    PREFIX,
    next_hops=(NextHop("v0"),),
    encap=Seg6Encap(EncapMode.ENCAP, (IPv6Address("fc00::1"),)),
)
NEIGHBOUR = Neighbour("v0", IPv6Address("fe80::7"), "02:00:00:00:00:07")
ADDRESS = InterfaceAddress("lo", IPv6Address("fc00::1"), 128)
SETTINGS: list[KernelObject] = [
    TunnelSource(IPv6Address("fc00::1")),
    Sysctl("net/ipv6/conf/all/forwarding", "1"),
    LinkAddress("v0", None),
]


def test_it_is_a_kernel() -> None:
    kernel: Kernel = FakeKernel()
    assert kernel.put([PLAIN, NEIGHBOUR, ADDRESS, *SETTINGS]) == []
    listed = {item.identity: item for item in (PLAIN, NEIGHBOUR, ADDRESS)}
    assert kernel.read() == listed
    wanted = [item.identity for item in (*SETTINGS, PLAIN, STEERED)]
    assert kernel.read(wanted) == {item.identity: item for item in (*SETTINGS, PLAIN)}
    assert kernel.put([STEERED]) == []
    assert kernel.read([PLAIN.identity]) == {PLAIN.identity: STEERED}
    assert kernel.delete([PLAIN, PLAIN, NEIGHBOUR, ADDRESS, *SETTINGS]) == []
    assert kernel.read() == {}
    assert set(kernel.read([item.identity for item in SETTINGS])) == {
        item.identity for item in SETTINGS
    }


def test_what_is_refused_stays_as_it_was() -> None:
    kernel = FakeKernel()
    assert kernel.put([PLAIN]) == []
    kernel.refuse(lambda identity: identity[0] == "route", errno.ENOSPC)
    (failure,) = kernel.put([NEIGHBOUR, STEERED, ADDRESS])
    assert (failure.identity, failure.errno) == (STEERED.identity, errno.ENOSPC)
    (failure,) = kernel.delete([PLAIN])
    assert failure.errno == errno.ENOSPC
    assert kernel.read() == {item.identity: item for item in (PLAIN, NEIGHBOUR, ADDRESS)}
    kernel.relent()
    assert kernel.put([STEERED]) == []
    assert kernel.operations[-1] == Operation("put", STEERED)


def test_an_unknown_interface_is_refused() -> None:
    kernel = FakeKernel(interfaces=["lo"])
    failures = kernel.put([PLAIN, NEIGHBOUR, ADDRESS])
    assert [failure.identity for failure in failures] == [PLAIN.identity, NEIGHBOUR.identity]
    assert {failure.errno for failure in failures} == {errno.ENODEV}


def test_losses_are_silent_unless_told() -> None:
    kernel = FakeKernel()
    reports: list[int] = []
    descriptor = kernel.subscribe(lambda: reports.append(1))
    assert kernel.put([PLAIN, NEIGHBOUR]) == []
    kernel.lose(PLAIN.identity)
    assert select.select([descriptor], [], [], 0)[0] == []
    kernel.drain()
    assert reports == []
    kernel.lose(NEIGHBOUR.identity, tell=True)
    kernel.meddle(PLAIN)
    assert select.select([descriptor], [], [], 0)[0] == [descriptor]
    kernel.drain()
    kernel.drain()
    assert reports == [1]
    assert kernel.read() == {PLAIN.identity: PLAIN}
    with pytest.raises(KeyError):
        kernel.lose(NEIGHBOUR.identity)
    kernel.close()


def test_values_compare_as_the_kernel_holds_them() -> None:
    hops = (NextHop("v1", IPv6Address("fe80::2")), NextHop("v0", IPv6Address("fe80::1")))
    assert Route(PREFIX, next_hops=hops) == Route(PREFIX, next_hops=hops[::-1])
    both = (Flavor.PSP, Flavor.NEXT_CSID)
    assert Seg6Local(Behavior.END, flavors=both) == Seg6Local(Behavior.END, flavors=both[::-1])
    assert Seg6Local(Behavior.END, count=True) == Seg6Local(Behavior.END, count=False)
    segments = (IPv6Address("fc00::1"), IPv6Address("fc00::2"))
    assert Seg6Encap(EncapMode.ENCAP, segments) != Seg6Encap(EncapMode.ENCAP, segments[::-1])
