"""What a path may not be asked for: each fault with its key and the element it is about."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

import pytest

from srv6dmm.core.policy_checks import PolicyChecker, PolicyErrors
from srv6dmm.core.sids import sid_table
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    ExplicitPath,
    Objective,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.sid import Locator
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology


def ring() -> Topology:
    """Return routers a, b, c, d in a ring, and a plain router p behind a."""
    nodes = {
        name: Node(name, Role.ACCESS, index, Locator(IPv6Network(f"fc00:0:{index}::/48")))
        for index, name in enumerate("abcd", start=1)
    }
    nodes["a"] = replace(nodes["a"], maximum_sid_depth=3)
    nodes["b"] = replace(nodes["b"], services=(("nat", IPv6Address("fc00:0:2:5e01::")),))
    nodes["p"] = Node("p", Role.TRANSIT, 5)
    links = [
        Link(
            LinkEnd(x, f"to-{y}"),
            LinkEnd(y, f"to-{x}"),
            affinities=frozenset({"gold"} if x != "c" else {"blue"}),
            srlgs=frozenset({7} if x == "a" else ()),
        )
        for x, y in ("ab", "bc", "cd", "da", "ap")
    ]
    domain = Domain(
        "ring",
        IPv6Network("fc00::/32"),
        max_segments=4,
        affinities=(("blue", 0), ("gold", 1), ("red", 2)),
    )
    return Topology(domain, nodes, tuple(links))


RING = ring()
CHECKER = PolicyChecker(RING)
SIDS = sid_table(RING)


def names(*elements: Any) -> frozenset[Any]:
    return frozenset(elements)


CONSTRAINTS: dict[str, tuple[Constraints, str, str]] = {
    "affinity unknown": (Constraints(include_any=names("glod")), "include_any",
        "unknown affinity 'glod'; did you mean 'gold'?"),
    "affinity both": (Constraints(include_all=names("red"), exclude_any=names("red", "blue")),
        "exclude_any", "red is in include_all too"),
    "all of any": (Constraints(include_any=names("red"), exclude_any=names("red", "blue")),
        "exclude_any", "excludes all of include_any (red)"),
    "router unknown": (Constraints(avoid_routers=names("z")), "avoid_routers",
        "unknown router 'z'"),
    "head-end avoided": (Constraints(avoid_routers=names("a")), "avoid_routers",
        "a is the head-end"),
    "endpoint avoided": (Constraints(avoid_routers=names("c")), "avoid_routers",
        "c is the endpoint"),
    "router both": (Constraints(avoid_routers=names("b"), require_routers=names("b")),
        "require_routers", "b is in avoid_routers too"),
    "link unknown": (Constraints(avoid_links=names(LinkEnd("a", "to-c"))), "avoid_links",
        "a:to-c is no end"),
    "link both, by its other end": (Constraints(avoid_links=names(LinkEnd("b", "to-a")),
        require_links=names(LinkEnd("a", "to-b"))), "require_links", "link b:to-a is avoided"),
    "link excluded": (Constraints(exclude_any=names("blue"),
        require_links=names(LinkEnd("c", "to-d"))), "require_links", "it has affinity blue"),
    "link of a router avoided": (Constraints(avoid_routers=names("b"),
        require_links=names(LinkEnd("a", "to-b"))), "require_links", "b is avoided"),
    "link in an SRLG avoided": (Constraints(avoid_srlgs=names(7),
        require_links=names(LinkEnd("a", "to-b"))), "require_links", "it is in SRLG 7"),
    "srlg unknown": (Constraints(avoid_srlgs=names(8)), "avoid_srlgs", "is in SRLG 8"),
    "srlg both": (Constraints(avoid_srlgs=names(7), require_srlgs=names(7)), "require_srlgs",
        "SRLG 7 is in avoid_srlgs too"),
    "delay": (Constraints(maximum_delay_us=-1), "maximum_delay_us", "-1 is not in 0.."),
    "hops": (Constraints(maximum_hops=0), "maximum_hops", "0 is not in 1..4095"),
    "mtu": (Constraints(minimum_mtu=1279), "minimum_mtu", "1279 is not in 1280..65535"),
    "segments": (Constraints(maximum_segments=17), "maximum_segments", "17 is not in 1..16"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONSTRAINTS)
def test_faulty_constraints_are_named(case: str) -> None:
    constraints, key, words = CONSTRAINTS[case]
    found = list(CHECKER.dynamic_faults(DynamicPath(constraints=constraints), "a", "c"))
    assert len(found) == 1, found
    assert found[0][0] == f"constraints.{key}"
    assert words in found[0][1]


def test_good_constraints_have_no_fault() -> None:
    constraints = Constraints(
        include_any=names("gold", "red"),
        exclude_any=names("blue", "red"),
        avoid_links=names(LinkEnd("a", "to-d")),
        require_links=names(LinkEnd("b", "to-c")),
        require_srlgs=names(7),
        maximum_delay_us=0,
        maximum_hops=2,
        minimum_mtu=1280,
        maximum_segments=1,
    )
    path = DynamicPath(Objective.TE, constraints, (Waypoint("b", "nat"), Waypoint("b")))
    assert list(CHECKER.dynamic_faults(path, "a", "c")) == []


@pytest.mark.parametrize(
    ("head_end", "endpoint", "expected"),
    [
        ("x", "c", ("head_end", "unknown router 'x'")),
        ("a", "x", ("endpoint", "unknown router 'x'")),
        ("a", "p", ("endpoint", "p has no locator, so no path can end there")),
    ],
)
def test_faulty_ends_are_named(head_end: str, endpoint: str, expected: tuple[str, str]) -> None:
    assert list(CHECKER.dynamic_faults(DynamicPath(), head_end, endpoint)) == [expected]


@pytest.mark.parametrize(
    ("waypoint", "words"),
    [
        (Waypoint("x"), "unknown router 'x'"),
        (Waypoint("d"), "d is in constraints.avoid_routers too"),
        (Waypoint("b", "dpi"), "b has no service 'dpi'; it has nat"),
        (Waypoint("p", "nat"), "p has no service 'nat'; it has none"),
    ],
)
def test_faulty_waypoints_are_named(waypoint: Waypoint, words: str) -> None:
    constraints = Constraints(avoid_routers=names("d"))
    path = DynamicPath(constraints=constraints, waypoints=(Waypoint("b"), waypoint))
    assert list(CHECKER.dynamic_faults(path, "a", "c")) == [("waypoints[1]", words)]


def test_too_much_is_refused() -> None:
    """More requirements than a search can bear, and more waypoints than a list could name."""
    path = DynamicPath(
        constraints=Constraints(
            require_routers=names("a", "b", "c", "d", "p"),
            require_links=names(*(LinkEnd("a", f"to-{x}") for x in "bdp")),
            require_srlgs=names(7),
        ),
        waypoints=(Waypoint("b"), Waypoint("d")) * 9,
    )
    faults = dict(CHECKER.dynamic_faults(path, "a", "c"))
    assert faults == {
        "constraints": "9 elements are required; 8 are possible, take waypoints",
        "waypoints": "18 are more than 16",
    }


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ((), [("segments", "the list is empty")]),
        ((SIDS["b"].end, SIDS["c"].end_dt6), []),
        (
            (IPv6Address("fc00:0:9:e00::"), SIDS["c"].end_dt6),
            [("segments[0]", "fc00:0:9:e00:: is no SID of a router of this domain")],
        ),
        (
            (SIDS["b"].end, SIDS["d"].end_dt6),
            [("segments[1]", "fc00:0:4:d06:: of d does not deliver at c")],
        ),
        (
            (SIDS["b"].end, SIDS["c"].end),
            [("segments[1]", "fc00:0:3:e00:: of c does not deliver at c")],
        ),
        (
            (SIDS["b"].end,) * 4 + (SIDS["c"].end_dt6,),
            [
                ("segments", "5 segments are more than 3, the maximum SID depth of a"),
                ("segments", "5 segments are more than 4, the max-segments of the domain"),
            ],
        ),
    ],
)
def test_explicit_lists(segments: tuple[IPv6Address, ...], expected: list[tuple[str, str]]) -> None:
    assert list(CHECKER.explicit_faults(ExplicitPath(segments), "a", "c")) == expected


def test_a_sid_that_decapsulates_is_the_last_or_refused() -> None:
    """Between whichever two routers: what comes behind it is never reached."""
    (fault,) = CHECKER.explicit_faults(ExplicitPath((SIDS["b"].end_dt6, SIDS["c"].end)))
    assert fault[0] == "segments[0]"
    assert "fc00:0:2:d06:: is End.DT6 of b, which decapsulates" in fault[1]
    assert not list(CHECKER.explicit_faults(ExplicitPath((SIDS["c"].end, SIDS["b"].end_dt6))))


@pytest.mark.parametrize("ends", [(None, None), ("a", "c")])
def test_end_dx4_takes_no_packet_of_a_flow(ends: tuple[str | None, str | None]) -> None:
    four = replace(RING.nodes["c"], next_hop4=IPv4Address("192.0.2.1"))
    topology = replace(RING, nodes={**RING.nodes, "c": four})
    sid = sid_table(topology)["c"].end_dx4
    assert sid is not None
    faults = dict(PolicyChecker(topology).explicit_faults(ExplicitPath((sid,)), *ends))
    assert "IPv4 packets only" in faults["segments[0]"] or ends[0] is not None
    assert faults


def test_the_error_lists_every_fault_of_every_candidate_path() -> None:
    bad = DynamicPath(constraints=Constraints(maximum_hops=0))
    candidates = (
        CandidatePath((WeightedPath(DynamicPath(), weight=0),)),
        CandidatePath((WeightedPath(bad), WeightedPath(ExplicitPath(())))),
        CandidatePath((), preference=-1),
    )
    with pytest.raises(PolicyErrors) as caught:
        CHECKER.check(candidates, "a", "c")
    assert [key for key, _ in caught.value.faults] == [
        "candidates[0].paths[0].weight",
        "candidates[1].preference",
        "candidates[1].paths[0].constraints.maximum_hops",
        "candidates[1].paths[1].segments",
        "candidates[2].preference",
        "candidates[2].paths",
    ]
    with pytest.raises(PolicyErrors, match="candidates: there is none"):
        CHECKER.check((), "a", "c")
    CHECKER.check([CandidatePath((WeightedPath(DynamicPath()),))], "a", "c")
