"""What is encoded is decoded as it was; what is no message is refused and nothing else."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srv6dmm.dataplane.netlink import addresses, links, neighbours, routes
from srv6dmm.dataplane.netlink.attributes import (
    MalformedMessage,
    attribute,
    attributes,
    messages,
)
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable, LinkState, NoSuchInterface
from srv6dmm.dataplane.netlink.seg6 import decode_encap, encode_encap, encode_local
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    Neighbour,
    NextHop,
    Route,
    RouteKind,
    Seg6Encap,
    Seg6Local,
)
from srv6dmm.model.sid import Behavior, EncapMode, Flavor

NAMES = ("v0", "core1", "access0")


def table() -> InterfaceTable:
    made = InterfaceTable()
    made.set(LinkState(index, name, True, None) for index, name in enumerate(NAMES, 2))
    return made


ADDRESSES = st.binary(min_size=16, max_size=16).map(IPv6Address)
INTERFACES = st.sampled_from(NAMES)
HOPS = st.builds(NextHop, INTERFACES, st.none() | ADDRESSES)
ENCAPS = st.builds(
    Seg6Encap,
    st.sampled_from(EncapMode),
    st.lists(ADDRESSES, min_size=1, max_size=9).map(tuple),
)
FLAVORS = st.lists(st.sampled_from(Flavor), unique=True).map(tuple)
LOCALS = st.one_of(
    st.builds(Seg6Local, st.just(Behavior.END), flavors=FLAVORS, count=st.booleans()),
    st.builds(
        Seg6Local,
        st.just(Behavior.END_X),
        next_hop=ADDRESSES,
        interface=st.none() | INTERFACES,
        flavors=FLAVORS,
        count=st.booleans(),
    ),
    st.builds(Seg6Local, st.just(Behavior.END_DT6), table=st.integers(1, 2**32 - 1)),
    st.builds(
        Seg6Local,
        st.just(Behavior.END_DX4),
        next_hop4=st.binary(min_size=4, max_size=4).map(IPv4Address),
    ),
    st.builds(Seg6Local, st.just(Behavior.END_DX6), next_hop=ADDRESSES),
)


@st.composite
def prefixes(draw: st.DrawFn) -> IPv6Network | IPv4Network:
    if draw(st.booleans()):
        length = draw(st.integers(0, 128))
        return IPv6Network((draw(st.binary(min_size=16, max_size=16)), length), strict=False)
    length = draw(st.integers(0, 32))
    return IPv4Network((draw(st.binary(min_size=4, max_size=4)), length), strict=False)


@st.composite
def all_routes(draw: st.DrawFn) -> Route:
    prefix = draw(prefixes())
    number = draw(st.integers(1, 2**32 - 1))
    metric = draw(st.integers(1, 2**32 - 1))
    kind = draw(st.sampled_from(RouteKind))
    if kind is not RouteKind.UNICAST:
        return Route(prefix, kind, table=number, metric=metric)
    hops = tuple(draw(st.lists(HOPS, min_size=1, max_size=4)))
    encap = draw(st.none() | ENCAPS | LOCALS)
    return Route(prefix, kind, hops, encap, number, metric)


@given(all_routes())
def test_a_route_comes_back_as_it_was(route: Route) -> None:
    data = routes.RouteEncoder(table()).put(route)
    ((_, _, _, _, start, end),) = messages(data)
    assert end == len(data)
    decoded = routes.decode(data, start, end, table())
    assert decoded == route
    if isinstance(route.encap, Seg6Local) and isinstance(decoded.encap, Seg6Local):
        assert decoded.encap.count == route.encap.count


@given(st.lists(all_routes(), min_size=1, max_size=6))
def test_an_encoder_that_remembers_shapes_says_the_same(several: list[Route]) -> None:
    remembering = routes.RouteEncoder(table())
    for route in several + several[::-1]:
        assert remembering.put(route) == routes.RouteEncoder(table()).put(route)


@given(ENCAPS)
def test_segments_lie_reversed_on_the_wire(encap: Seg6Encap) -> None:
    payload = encode_encap(encap)
    assert decode_encap(payload) == encap
    wire = b"".join(segment.packed for segment in reversed(encap.segments))
    assert payload.endswith(wire)


@given(INTERFACES, ADDRESSES, st.binary(min_size=6, max_size=6))
def test_neighbours_and_addresses_come_back(name: str, address: IPv6Address, mac: bytes) -> None:
    neighbour = Neighbour(name, address, mac.hex(":"))
    data = neighbours.put(neighbour, table())
    ((*_, start, end),) = messages(data)
    assert neighbours.build(neighbours.facts(data, start, end), table()) == neighbour
    local = InterfaceAddress(name, address, 64)
    data = addresses.put(local, table())
    ((*_, start, end),) = messages(data)
    assert addresses.build(addresses.facts(data, start, end), table()) == local


@given(st.binary(max_size=200))
def test_garbage_is_malformed_and_nothing_worse(data: bytes) -> None:
    for decode in (
        lambda: routes.decode(data, 0, len(data), table()),
        lambda: neighbours.facts(data, 0, len(data)),
        lambda: addresses.facts(data, 0, len(data)),
        lambda: links.state(data, 0, len(data)),
        lambda: list(messages(data)),
    ):
        try:
            decode()
        except MalformedMessage:
            continue


@given(all_routes(), st.data())
def test_a_damaged_message_is_malformed_or_another_route(route: Route, data: st.DataObject) -> None:
    message = bytearray(routes.RouteEncoder(table()).put(route))
    position = data.draw(st.integers(16, len(message) - 1))
    message[position] = data.draw(st.integers(0, 255))
    try:
        decoded = routes.decode(bytes(message), 16, len(message), table())
    except MalformedMessage:
        return
    assert isinstance(decoded, Route)


@pytest.mark.parametrize(
    ("local", "says"),
    [
        (Seg6Local(Behavior.END_X), "End.X needs next_hop"),
        (Seg6Local(Behavior.END_DT6), "End.DT6 needs table"),
        (Seg6Local(Behavior.END_DX4), "End.DX4 needs next_hop4"),
        (Seg6Local(Behavior.END, table=254), "End takes no table"),
        (
            Seg6Local(Behavior.END_DX6, next_hop=IPv6Address("fe80::1"), interface="v0"),
            "End.DX6 takes no interface",
        ),
    ],
)
def test_what_linux_would_refuse_or_ignore_is_said(local: Seg6Local, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        encode_local(local, table())


@pytest.mark.parametrize(
    ("route", "says"),
    [
        (Route(IPv6Network("2001:db8::/64")), "needs a next hop"),
        (
            Route(IPv6Network("2001:db8::/64"), RouteKind.BLACKHOLE, (NextHop("v0"),)),
            "has no next hop",
        ),
        (
            Route(
                IPv6Network("2001:db8::/64"),
                next_hops=(NextHop("v0"),),
                encap=Seg6Encap(EncapMode.ENCAP, ()),
            ),
            "1 to 126 segments",
        ),
    ],
)
def test_an_impossible_route_is_said(route: Route, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        routes.RouteEncoder(table()).put(route)


def test_an_unknown_interface_names_those_there_are() -> None:
    route = Route(IPv6Network("2001:db8::/64"), next_hops=(NextHop("nope"),))
    with pytest.raises(NoSuchInterface, match=r"'nope'.*access0, core1, v0"):
        routes.RouteEncoder(table()).put(route)
    assert table().name(99) == "#99"


def test_routes_of_others_are_none_of_ours() -> None:
    def body(kind: int, *parts: bytes) -> bytes:
        header = routes.RTMSG.pack(socket.AF_INET6, 64, 0, 0, 254, 201, 0, kind, 0)
        return header + attribute(1, IPv6Address("2001:db8::").packed) + b"".join(parts)

    device = attribute(4, (2).to_bytes(4, "little"))
    mpls = attribute(21, (1).to_bytes(2, "little")) + attribute(22, bytes(8))
    for said, data in {
        "route type 8": body(8),  # prohibit
        "without an interface": body(1),
        "encapsulation type 1": body(1, device, mpls),
        "not an IPv6 address": body(1, device, attribute(5, bytes(4))),
        "without next hops": body(1, attribute(9, b"\0")),
    }.items():
        with pytest.raises(MalformedMessage, match=said):
            routes.decode(data, 0, len(data), table())


def test_the_last_of_two_attributes_counts() -> None:
    data = attribute(7, b"old!") + attribute(7 | 0x8000, b"new!")
    assert attributes(data, 0, len(data)) == {7: b"new!"}
    with pytest.raises(MalformedMessage):
        attributes(data[:-2], 0, len(data) - 2)
