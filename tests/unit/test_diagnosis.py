"""A policy that no path satisfies: the refusal names what stands in the way, and comes soon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from srv6dmm.core.flow_checks import FlowChecker
from srv6dmm.core.planner import Planner
from srv6dmm.core.search import MAXIMUM_WORK, Budget, TooHard
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.state import State
from srv6dmm.model.topology import LinkEnd, Topology

TEXT = Path("deploy/topologies/campus.yaml").read_text()
CAMPUS = parse_topology(
    TEXT.replace("max-segments: 4\n", "max-segments: 4\n  affinities: {red: 0, blue: 1}\n").replace(
        "metric: 30}", "metric: 30, affinity: [blue], srlg: 7}"
    ),
    "campus",
)
LINKS_OF_TR1 = frozenset(
    end for link in CAMPUS.core_links() for end in link.ends() if end.node == "tr1"
)


def faults(path: DynamicPath, topology: Topology = CAMPUS) -> dict[str, str]:
    policy = Policy("p", (CandidatePath((WeightedPath(path),)),))
    checker = FlowChecker(Planner(topology, MobilityParameters()), State())
    return dict(checker.policy_faults(policy))


def asking(*waypoints: str, **constraints: Any) -> DynamicPath:
    given: dict[str, Any] = {
        key: frozenset(value) if isinstance(value, (list, set, frozenset)) else value
        for key, value in constraints.items()
    }
    return DynamicPath(constraints=Constraints(**given), waypoints=tuple(map(Waypoint, waypoints)))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            asking("tr1", avoid_links=LINKS_OF_TR1),
            ["waypoints[0]: tr1 cannot be reached", "it can without avoid_links tr1:ar1"],
        ),
        (
            asking(require_routers=["tr1"], avoid_links=LINKS_OF_TR1),
            ["require_routers: tr1 cannot be reached", "avoid_links tr1:ar1"],
        ),
        (
            asking(require_srlgs=[7], avoid_links=[LinkEnd("tr1", "tr3")]),
            ["require_srlgs: every link in SRLG 7 is excluded"],
        ),
        (
            asking(minimum_mtu=1600),
            ["without minimum_mtu 1600 (it carries 1564 bytes)"],
        ),
        (
            asking("tr1", "tr3", maximum_hops=1),
            ["without maximum_hops 1 (it has 4 links)"],
        ),
        (
            asking("tr3", "tr1", "tr3", "tr1", maximum_segments=1),
            ["without maximum_segments 1 (it needs"],
        ),
        (
            asking(include_all=["blue"], avoid_routers=["ar3"]),
            ["there is a path without include_all blue"],
        ),
    ],
)
def test_the_element_that_matters_is_named(path: DynamicPath, words: list[str]) -> None:
    message = faults(path)["candidates"]
    assert all(word in message for word in words), message
    assert "without avoid_routers" not in message, "this one does not matter"


@pytest.mark.parametrize("key", ["include_any", "include_all"])
def test_an_affinity_of_no_link_is_named(key: str) -> None:
    message = faults(asking(**{key: ["red"]}))[f"candidates[0].paths[0].constraints.{key}"]
    assert message == "no link between routers has affinity red"


def grid(size: int = 8) -> Topology:
    """Return routers in a square; those at its edge are access routers."""
    nodes, links = "", ""
    for row in range(size):
        for column in range(size):
            number = row * 16 + column + 256
            edge = {row, column} & {0, size - 1}
            role = f'access, pool: "2001:db8:{number:x}::/48"' if edge else "transit"
            locator = f'locator: "fc00:0:{number:x}::/48"'
            nodes += f"    g{row}{column}: {{role: {role}, {locator}}}\n"
            for there, out, back in (((row, column + 1), "e", "w"), ((row + 1, column), "s", "n")):
                if max(there) < size:
                    ends = f'["g{row}{column}:{out}", "g{there[0]}{there[1]}:{back}"]'
                    metric = 1 + len(links) * 7 % 3
                    links += f"    - {{endpoints: {ends}, metric: {metric}}}\n"
    domain = '{sid-block: "fc00::/32", max-segments: 4, mtu: 1700}'
    text = f"name: g\ndomain: {domain}\ntopology:\n  nodes:\n{nodes}  links:\n{links}"
    return parse_topology(text, "grid")


HOSTILE = asking(
    require_routers=["g00", "g07", "g70", "g77", "g33", "g44", "g25", "g52"], maximum_segments=2
)


def test_what_is_too_hard_is_refused_within_one_budget_and_says_what_makes_it_hard() -> None:
    message = faults(HOSTILE, grid())["candidates"]
    assert message.startswith("too hard to find a path for, ask for less: 8 elements in any order")
    assert "g00, g07, g25, g33, g44, g52, g70, g77" in message
    assert "maximum_segments of candidates[0].paths[0]" in message


def test_searches_together_stop_when_their_budget_is_spent() -> None:
    choices = Planner(grid(), MobilityParameters()).choices
    policy = Policy("p", (CandidatePath((WeightedPath(HOSTILE),)),))
    with choices.allowing(Budget(1000)), pytest.raises(TooHard, match="after 1000 comparisons"):
        choices.choose(policy, {}, "g00", "g77")
    found = choices.choose(policy, {}, "g00", "g77")
    assert f"gave up after {MAXIMUM_WORK} comparisons" in (found.candidates[0].reason or "")
    with choices.allowing(Budget(0)):
        assert choices.choose(policy, {}, "g00", "g77") is found, "what is known costs nothing"
