"""The bytes of our messages, and of the kernel's, as files that people can read.

Every file holds the value, the message's length and its hex. `SRV6DMM_WRITE_GOLDEN=1` writes
the files of `encode` and `delete` anew from the encoder; look at the difference before you commit
it. The files of `kernel-` were written by Linux 6.18 and are never made from our code.
"""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from srv6dmm.dataplane.netlink import addresses, links, neighbours, routes
from srv6dmm.dataplane.netlink.attributes import MalformedMessage, messages
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable, LinkState
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
)
from srv6dmm.model.sid import Behavior, EncapMode, Flavor

FOLDER = Path(__file__).parent
WRITE = os.environ.get("SRV6DMM_WRITE_GOLDEN") == "1"
A = IPv6Address
PREFIX = IPv6Network("2001:db8:1::/64")
SID = IPv6Network("fc00:1:0:e00::/128")
LOCATOR = IPv6Network("fc00:1:c1::/48")
SEGMENTS = (A("fc00:3::e00"), A("fc00:1::e00"), A("fc00:2::d06"))
V0, GATEWAY = NextHop("v0"), NextHop("v0", A("fe80::2"))


def interfaces() -> InterfaceTable:
    table = InterfaceTable()
    table.set([
        LinkState(1, "lo", True, None),
        LinkState(2, "v1", True, None),
        LinkState(3, "v0", True, None),
    ])  # fmt: skip
    return table


def _sid(local: Seg6Local) -> Route:
    return Route(SID, next_hops=(V0,), encap=local)


ROUTES: dict[str, Route] = {
    **{
        f"seg6 {mode} of {count}": Route(
            PREFIX, next_hops=(V0,), encap=Seg6Encap(mode, SEGMENTS[:count])
        )
        for mode in EncapMode
        for count in (1, 2, 3)
    },
    "seg6 by gateway": Route(
        PREFIX, next_hops=(GATEWAY,), encap=Seg6Encap(EncapMode.ENCAP, SEGMENTS[:2])
    ),
    "seg6 of IPv4": Route(
        IPv4Network("198.51.100.0/24"),
        next_hops=(V0,),
        encap=Seg6Encap(EncapMode.ENCAP, SEGMENTS[:2]),
    ),
    "End": _sid(Seg6Local(Behavior.END)),
    "End without counters": _sid(Seg6Local(Behavior.END, count=False)),
    "End psp": _sid(Seg6Local(Behavior.END, flavors=(Flavor.PSP,))),
    "End next-csid": _sid(Seg6Local(Behavior.END, flavors=(Flavor.NEXT_CSID,))),
    "End psp next-csid": _sid(Seg6Local(Behavior.END, flavors=(Flavor.NEXT_CSID, Flavor.PSP))),
    "uN": Route(
        LOCATOR, next_hops=(V0,), encap=Seg6Local(Behavior.END, flavors=(Flavor.NEXT_CSID,))
    ),
    "End.X": _sid(Seg6Local(Behavior.END_X, next_hop=A("2001:db8::2"))),
    "End.X by interface": _sid(Seg6Local(Behavior.END_X, next_hop=A("fe80::2"), interface="v1")),
    "End.DT6": _sid(Seg6Local(Behavior.END_DT6, table=254)),
    "End.DX4": _sid(Seg6Local(Behavior.END_DX4, next_hop4=IPv4Address("192.0.2.2"))),
    "End.DX6": _sid(Seg6Local(Behavior.END_DX6, next_hop=A("2001:db8::2"))),
    "End.B6.Encaps": _sid(Seg6Local(Behavior.END_B6_ENCAPS, segments=SEGMENTS)),
    "plain": Route(PREFIX, next_hops=(V0,)),
    "default by gateway": Route(IPv6Network("::/0"), next_hops=(GATEWAY,)),
    "multipath": Route(PREFIX, next_hops=(NextHop("v1", A("fe80::9")), GATEWAY)),
    "unreachable": Route(PREFIX, RouteKind.UNREACHABLE),
    "blackhole": Route(PREFIX, RouteKind.BLACKHOLE),
    "throw": Route(PREFIX, RouteKind.THROW),
    "table 70000": Route(PREFIX, next_hops=(V0,), table=70_000),
    "IPv4 by an IPv6 gateway": Route(IPv4Network("198.51.100.0/24"), next_hops=(GATEWAY,)),
}
OTHERS: dict[str, KernelObject] = {
    "neighbour": Neighbour("v0", A("fe80::77"), "02:00:00:00:00:07"),
    "address": InterfaceAddress("lo", A("fc00:1::1"), 128),
    "link": LinkAddress("v0", "02:00:5e:00:64:01"),
    "link with any address": LinkAddress("v0", None),
}
ALL: dict[str, KernelObject] = {**ROUTES, **OTHERS}


def encode(item: KernelObject) -> bytes:
    match item:
        case Route():
            return routes.RouteEncoder(interfaces()).put(item)
        case Neighbour():
            return neighbours.put(item, interfaces())
        case InterfaceAddress():
            return addresses.put(item, interfaces())
        case LinkAddress():
            return links.put(item, interfaces())
        case _:
            raise TypeError(item)


def file_of(prefix: str, name: str) -> Path:
    return FOLDER / f"{prefix}-{name.lower().replace(' ', '-')}.txt"


def rendered(name: str, item: KernelObject, data: bytes) -> str:
    """Sixteen bytes a line, so that a difference shows where it is."""
    lines = [data[start : start + 16].hex(" ", 4) for start in range(0, len(data), 16)]
    return f"{name}\n\n{item!r}\n\n{len(data)} bytes\n" + "\n".join(lines) + "\n"


def read(path: Path) -> bytes:
    """Return the bytes of a file: all after the line that says how many."""
    head, _, lines = path.read_text().partition(" bytes\n")
    data = bytes.fromhex(lines)
    assert len(data) == int(head.rsplit("\n", 1)[1])
    return data


@pytest.mark.parametrize("name", list(ALL))
def test_encoding(name: str) -> None:
    item, path = ALL[name], file_of("encode", name)
    text = rendered(name, item, encode(item))
    if WRITE:
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["seg6 encap of 2", "End", "table 70000", "seg6 of IPv4"])
def test_encoding_of_a_deletion(name: str) -> None:
    route, path = ROUTES[name], file_of("delete", name)
    text = rendered(name, route, routes.RouteEncoder(interfaces()).delete(route))
    if WRITE:
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("name", list(ROUTES))
def test_decoding_what_we_wrote(name: str) -> None:
    data = read(file_of("encode", name))
    ((*_, start, end),) = messages(data)
    assert routes.decode(data, start, end, interfaces()) == ROUTES[name]


@pytest.mark.parametrize("name", list(ROUTES))
def test_decoding_what_the_kernel_wrote(name: str) -> None:
    """The kernel adds attributes, drops others, has its own order and shows lo as a device."""
    data = read(file_of("kernel", name))
    ((*_, start, end),) = messages(data)
    decoded = routes.decode(data, start, end, interfaces())
    assert decoded == ROUTES[name]
    encap, wanted = decoded.encap, ROUTES[name].encap
    if isinstance(encap, Seg6Local) and isinstance(wanted, Seg6Local):
        assert encap.count == wanted.count


def test_the_kernels_neighbour_and_address() -> None:
    data = read(file_of("kernel", "neighbour"))
    ((*_, start, end),) = messages(data)
    about = neighbours.facts(data, start, end)
    assert neighbours.build(about, interfaces()) == OTHERS["neighbour"]
    assert neighbours.build(replace(about, protocol=0), interfaces()) is None
    data = read(file_of("kernel", "address"))
    ((*_, start, end),) = messages(data)
    assert addresses.build(addresses.facts(data, start, end), interfaces()) == OTHERS["address"]


def test_counters_the_kernel_wrote() -> None:
    """Taken after one packet of 105 bytes reached the SID."""
    data = read(FOLDER / "kernel-counted.txt")
    ((*_, start, end),) = messages(data)
    _, found = routes.facts(data, start, end)
    assert routes.counters(found) == (1, 105, 0)


def test_a_container_cut_otherwise_is_none_of_ours() -> None:
    """Another length of block or slot would move other bits up: it is not read back as a uN."""
    data = read(file_of("kernel", "uN"))
    for kind, length in ((2, 32), (3, 16)):
        part = bytes([5, 0, kind, 0, length])
        assert data.count(part) == 1
        changed = data.replace(part, part[:4] + bytes([length + 8]))
        ((*_, start, end),) = messages(changed)
        with pytest.raises(MalformedMessage, match="NEXT-C-SID"):
            routes.decode(changed, start, end, interfaces())


def test_a_reversed_segment_list_is_another_message() -> None:
    route = ROUTES["seg6 encap of 3"]
    data = encode(route)
    first, second, third = (data.index(segment.packed) for segment in SEGMENTS)
    assert third < second < first  # Segment List[0] is the last one (RFC 8754 section 2)
    turned = replace(route, encap=Seg6Encap(EncapMode.ENCAP, SEGMENTS[::-1]))
    assert encode(turned) != data
