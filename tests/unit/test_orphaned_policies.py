"""A change of topology that policies would not survive is refused, and says which and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from srv6dmm.core.orphaned_policies import orphaned_policies
from srv6dmm.core.planner import Planner
from srv6dmm.core.topology import parse_topology
from srv6dmm.core.topology_document import document_of
from srv6dmm.core.topology_update import patched, read
from srv6dmm.model.flows import FlowRule
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    ExplicitPath,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.state import State
from srv6dmm.model.topology import LinkEnd
from tests.unit.test_flow_plans import attach

TEXT = (
    Path("deploy/topologies/campus.yaml")
    .read_text()
    .replace(
        'tr1: {role: transit, locator: "fc00:0:c1::/48"}',
        'tr1: {role: transit, locator: "fc00:0:c1::/48", services: {fw: "fc00:0:c1:f::"}}',
    )
    .replace("metric: 30}", "metric: 30, srlg: 7}")
)
CAMPUS = parse_topology(TEXT, "campus")
SIDS = Planner(CAMPUS, MobilityParameters()).sids
TR1_TR3 = {"endpoints": ["tr1:tr3", "tr3:tr1"]}


def asking(path: DynamicPath | ExplicitPath) -> State:
    """Return a state with a policy p, and a rule of mn1, which is at ar4, that names it."""
    state = State()
    attach(state, CAMPUS, "mn1", "ar4")
    state.policies["p"] = Policy("p", (CandidatePath((WeightedPath(path),)),))
    state.flows["f"] = FlowRule("f", "p", mobile_node="mn1")
    return state


def lost(state: State, patch: dict[str, Any]) -> list[tuple[str, str]]:
    wanted, faults = read(patched(document_of(CAMPUS), {"topology": patch}))
    assert wanted is not None, faults
    return orphaned_policies(CAMPUS, wanted, state)


def avoiding(**constraints: Any) -> DynamicPath:
    return DynamicPath(constraints=Constraints(**constraints))


TWO_SEGMENTS = ExplicitPath((SIDS["tr1"].adjacencies["tr3"], SIDS["ar4"].end_dt6))


@pytest.mark.parametrize(
    ("path", "patch", "place", "words"),
    [
        (
            DynamicPath(waypoints=(Waypoint("tr1", "fw"),)),
            {"nodes": {"tr1": {"services": None}}},
            "topology.nodes",
            "tr1 has no service 'fw'",
        ),
        (
            avoiding(avoid_srlgs=frozenset({7})),
            {"links": [TR1_TR3 | {"srlg": None}]},
            "topology.links",
            "no link between routers is in SRLG 7",
        ),
        (
            avoiding(avoid_links=frozenset({LinkEnd("tr3", "tr1")})),
            {"links": [TR1_TR3 | {"remove": True}]},
            "topology.links",
            "tr3:tr1 is no end of a link",
        ),
        (
            ExplicitPath((SIDS["tr1"].adjacencies["tr3"],)),
            {"links": [TR1_TR3 | {"remove": True}]},
            "topology",
            "fc00:0:c1:f05:: is no SID",
        ),
        (
            TWO_SEGMENTS,
            {"nodes": {"br1": {"max-sid-depth": 1}}},
            "topology.nodes.br1.max-sid-depth",
            "no path from br1 to ar4: it has 2 segments; 1 are possible",
        ),
        (
            avoiding(maximum_hops=2),
            {"links": [{"endpoints": ["br1:tr3", "tr3:br1"], "remove": True}]},
            "topology.links",
            "no path from br1 to ar4: the fewest links",
        ),
    ],
    ids=["service", "srlg", "link", "adjacency", "depth", "path in use"],
)
def test_what_a_policy_needs_may_not_go(
    path: DynamicPath | ExplicitPath, patch: dict[str, Any], place: str, words: str
) -> None:
    state = asking(path)
    ((where, message),) = lost(state, patch)
    assert where == place
    assert message.startswith("policy p ")
    assert words in message


def test_what_no_policy_needs_may_go() -> None:
    state = asking(avoiding(avoid_routers=frozenset({"tr1"})))
    assert not lost(state, {"nodes": {"tr1": {"services": None}}})
    assert not lost(state, {"links": [TR1_TR3 | {"srlg": None}]})
    assert not lost(state, {"nodes": {"ar1": {"max-sid-depth": 2}}})


def test_a_link_that_a_given_list_names_may_be_drained() -> None:
    assert not lost(asking(TWO_SEGMENTS), {"links": [TR1_TR3 | {"drained": True}]})


def test_a_policy_that_is_faulty_already_stops_nothing() -> None:
    state = asking(avoiding(avoid_srlgs=frozenset({9})))
    assert not lost(state, {"links": [TR1_TR3 | {"drained": True}]})
