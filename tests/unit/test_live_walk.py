"""Sightings put in order, and held against the simulator's word."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from itertools import permutations

import pytest

from srv6dmm.core.fib_walk import Hop, Outcome, Outer, Packet, Walk
from srv6dmm.core.live_walk import (
    Entrance,
    Observation,
    difference,
    ending,
    entrance,
    follow,
    has_left,
)
from srv6dmm.model.plan import RouterSettings, UplinkBinding
from srv6dmm.model.topology import LinkEnd
from tests.agents import HOME, NODE_MAC, SETTINGS, delivery

SID = IPv6Address("fc00:0:3::d06")
OUTER = Outer((SID,), (SID,))
LINKS = {("a", "b"): ("b", "a"), ("b", "c"): ("c", "b"), ("b", "d"): ("d", "b")}
LINKS |= {far: near for near, far in LINKS.items()}


def far_end(router: str, interface: str) -> LinkEnd | None:
    found = LINKS.get((router, interface))
    return LinkEnd(*found) if found is not None else None


def seen(
    router: str, interface: str, outgoing: bool, at_us: int, *sids: IPv6Address
) -> Observation:
    return Observation(router, interface, outgoing, at_us, 64, (sids,) if sids else ())


WAY = (
    seen("a", "host", False, 0),
    seen("a", "b", True, 1, SID),
    seen("b", "a", False, 2, SID),
    seen("b", "c", True, 3, SID),
    seen("c", "b", False, 4, SID),
    seen("c", "access", True, 5),
)
WALK = Walk(
    (
        Hop("a", None, (), "b", (OUTER,)),
        Hop("b", "a", (), "c", (OUTER,)),
        Hop("c", "b", (), None, ()),
    ),
    Outcome.DELIVERED,
    "n gets it",
)


def way(*observations: Observation, unwatched: tuple[str, ...] = ()) -> tuple[str, str | None]:
    """Return where it ended, and in what it differs from WALK."""
    passages = follow("a", "host", observations, far_end, unwatched)
    return ending(passages, far_end), difference(WALK, passages, far_end)


def test_links_put_routers_in_order_whatever_their_clocks_say() -> None:
    for shift in permutations((0, 1_000_000, -5_000)):
        late = dict(zip("abc", shift, strict=True))
        skewed = [replace(one, at_us=one.at_us + late[one.router]) for one in WAY]
        passages = follow("a", "host", skewed, far_end)
        assert [passage.router for passage in passages] == ["a", "b", "c"]
        assert [passage.leaves_by for passage in passages] == ["b", "c", "access"]
        assert has_left(passages, far_end)
        assert difference(WALK, passages, far_end) is None


def test_each_way_to_differ_is_named() -> None:
    assert way() == ("it was not seen at all", "simulated: on to a; live: it was not seen at all")
    assert way(WAY[0]) == (
        "it came to a and was not seen to leave it",
        "simulated: a: out of b; live: not seen to leave",
    )
    lost = "it left a by b and did not come to b"
    assert way(*WAY[:2]) == (lost, f"simulated: on to b; live: {lost}")
    other = seen("b", "d", True, 3, SID)
    assert way(*WAY[:3], other)[1] == "simulated: b: out of c; live: out of d"
    naked = seen("a", "b", True, 1)
    assert way(WAY[0], naked, *WAY[2:])[1] == (
        f"simulated: it leaves a with {SID}; live: with no outer header"
    )
    onward = seen("c", "b", True, 5)
    assert way(*WAY[:5], onward)[1] == "simulated: c: delivered; live: out of b"


@pytest.mark.parametrize("outcome", [Outcome.DROPPED, Outcome.UNREACHABLE, Outcome.LOCAL])
def test_a_packet_that_stays_must_not_be_seen_to_leave(outcome: Outcome) -> None:
    stays = Walk(WALK.hops[:2], outcome, "")
    short = follow("a", "host", WAY[:3], far_end)
    assert difference(stays, short, far_end) is None
    left = follow("a", "host", WAY, far_end)
    assert difference(stays, left, far_end) == "simulated: it ends at b; live: out of c"


def test_where_nobody_looks_the_next_one_tells() -> None:
    blind = [one for one in WAY if one.router != "b"]
    passages = follow("a", "host", blind, far_end, ("b",))
    assert [(p.router, p.seen, p.leaves_by) for p in passages] == [
        ("a", True, "b"),
        ("b", False, "c"),
        ("c", True, "access"),
    ]
    assert difference(WALK, passages, far_end) is None
    assert way(*WAY[:2], unwatched=("b",))[0] == "nobody looks at b, and nobody saw it behind that"


def test_a_circle_ends() -> None:
    circle = [seen("a", "host", False, 0), seen("a", "b", True, 1)]
    for turn in range(200):
        circle += [seen("b", "a", False, 4 * turn), seen("b", "a", True, 4 * turn + 1)]
        circle += [seen("a", "b", False, 4 * turn + 2), seen("a", "b", True, 4 * turn + 3)]
    passages = follow("a", "host", circle, far_end)
    assert len(passages) == 64
    assert not has_left(passages, far_end)


def test_a_packet_comes_in_where_its_source_is() -> None:
    own = Packet(HOME[7], IPv6Address("2001:db8:cafe::2"))
    assert entrance([SETTINGS, delivery()], own) == Entrance("access", NODE_MAC)
    leaving = UplinkBinding(HOME, "access", "02:00:00:00:00:09", "mn1")
    assert entrance([leaving, SETTINGS], own) == Entrance("access", "02:00:00:00:00:09")
    network = Packet(IPv6Address("2001:db8:a::9"), HOME[7])
    assert entrance([SETTINGS, delivery()], network) == Entrance("host0", None)
    two = replace(
        SETTINGS,
        host_interfaces=(("h", IPv6Address("2001:db8:b::1"), 64), *SETTINGS.host_interfaces),
    )
    assert entrance([two], network) == Entrance("host0", None)
    assert entrance([two], own) == Entrance("h", None)
    none: RouterSettings = replace(SETTINGS, host_interfaces=())
    assert entrance([none], network) == Entrance("core0", None)
    assert entrance([replace(none, core_interfaces=())], network) is None
    assert entrance([], network) is None
    assert IPv6Network("2001:db8:a::/64").supernet_of(IPv6Network((network.source, 128)))
