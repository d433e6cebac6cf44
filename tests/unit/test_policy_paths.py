"""Which candidate path is active: dead and drained links, disjointness, weights, backups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File

import pytest

from srv6dmm.core.flow_checks import FlowChecker
from srv6dmm.core.planner import Planner
from srv6dmm.core.policy_paths import Choice
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    ExplicitPath,
    Invalid,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.state import State
from srv6dmm.model.topology import LinkEnd, Topology

CAMPUS = parse_topology(File("deploy/topologies/campus.yaml").read_text(), "campus")
TR1_TR3 = LinkEnd("tr1", "tr3")
NOT_TR1 = DynamicPath(constraints=Constraints(avoid_routers=frozenset({"tr1"})))


def planner(topology: Topology = CAMPUS, *down: LinkEnd) -> Planner:
    return Planner(topology, MobilityParameters(), down=down)


SIDS = planner().sids
BOTH_WAYS = CandidatePath(
    (WeightedPath(DynamicPath()), WeightedPath(DynamicPath(waypoints=(Waypoint("tr3"),))))
)
OVER_TR1_TR3 = ExplicitPath((SIDS["tr1"].adjacencies["tr3"], SIDS["ar4"].end_dt6))


def drained(topology: Topology, *ends: LinkEnd) -> Topology:
    links = (
        replace(link, drained=link.drained or any(end in ends for end in link.ends()))
        for link in topology.links
    )
    return replace(topology, links=tuple(links))


def policy(name: str, *paths: DynamicPath | ExplicitPath, **more: object) -> Policy:
    """Return one of candidates with a path each, the first preferred."""
    candidates = tuple(
        CandidatePath((WeightedPath(path),), preference=200 - number)
        for number, path in enumerate(paths)
    )
    return Policy(name, candidates, **more)  # type: ignore[arg-type]


def routers(choice: Choice) -> list[str]:
    return [" ".join(path.routers) for path in choice.paths]


def reasons(choice: Choice) -> list[str | None]:
    return [candidate.reason for candidate in choice.candidates]


# --- links that are gone, links that are drained ---------------------------------------------


def test_a_given_list_over_a_dead_link_is_not_valid() -> None:
    asked = policy("p", OVER_TR1_TR3, NOT_TR1)
    alive = planner().choices.choose(asked, {}, "br1", "ar4")
    assert routers(alive) == ["br1 tr1 tr3 ar4"]
    dead = planner(CAMPUS, TR1_TR3).choices.choose(asked, {}, "br1", "ar4")
    assert routers(dead) == ["br1 tr3 ar4"]
    assert dead.candidates[0].reason == "the link of fc00:0:c1:f05:: is gone: tr1:tr3"


def test_a_given_list_over_a_drained_link_gives_way_to_any_other() -> None:
    choices = planner(drained(CAMPUS, TR1_TR3)).choices
    other = choices.choose(policy("p", OVER_TR1_TR3, NOT_TR1), {}, "br1", "ar4")
    assert (routers(other), other.fell_back) == (["br1 tr3 ar4"], False)
    assert other.candidates[0].reason == "it crosses tr1:tr3, which is drained"
    alone = choices.choose(policy("p", OVER_TR1_TR3), {}, "br1", "ar4")
    assert (routers(alone), alone.fell_back) == (["br1 tr3 ar4"], True)


def test_a_drained_link_still_carries_what_would_be_dropped_or_has_no_other_way() -> None:
    there = drained(CAMPUS, TR1_TR3)
    drop = policy("p", OVER_TR1_TR3, invalid=Invalid.DROP)
    kept = planner(there).choices.choose(drop, {}, "br1", "ar4")
    assert (routers(kept), kept.fell_back) == (["br1 tr1 tr3 ar4"], False)
    everything = drained(CAMPUS, *(end for link in CAMPUS.core_links() for end in link.ends()))
    kept = planner(everything).choices.choose(policy("p", OVER_TR1_TR3), {}, "br1", "ar4")
    assert (routers(kept), kept.fell_back) == (["br1 tr1 tr3 ar4"], False)


def test_a_computed_path_over_a_drained_link_gives_way_to_another_candidate_only() -> None:
    there = drained(CAMPUS, LinkEnd("br1", "tr3"))
    choices = planner(there).choices
    other = choices.choose(policy("p", NOT_TR1, DynamicPath()), {}, "br1", "ar4")
    assert routers(other) == ["br1 tr1 tr2 tr3 ar4"]
    alone = choices.choose(policy("p", NOT_TR1), {}, "br1", "ar4")
    assert (routers(alone), alone.fell_back) == (["br1 tr3 ar4"], False)


def test_a_policy_can_be_made_while_its_link_is_drained() -> None:
    checker = FlowChecker(planner(drained(CAMPUS, TR1_TR3)), State())
    assert checker.policy_faults(policy("p", OVER_TR1_TR3)) == []


# --- disjointness ----------------------------------------------------------------------------


def test_each_of_a_chain_is_disjoint_from_what_the_next_really_takes() -> None:
    policies = {
        "a": policy("a", DynamicPath()),
        "b": policy("b", DynamicPath(), disjoint_from="a"),
        "c": policy("c", DynamicPath(), disjoint_from="b"),
    }
    choices = planner().choices
    found = {
        name: routers(choices.choose(each, policies, "br1", "ar3"))
        for name, each in policies.items()
    }
    assert found == {
        "a": ["br1 tr1 tr2 ar3"],
        "b": ["br1 tr3 ar3"],
        "c": ["br1 tr1 tr2 ar3"],
    }
    policies["a"] = policy("a", NOT_TR1)
    found = {
        name: routers(choices.choose(each, policies, "br1", "ar3"))
        for name, each in policies.items()
    }
    assert found["b"] == ["br1 tr1 tr2 ar3"], "what is at the chain's end counts as well"
    assert found["c"] == ["br1 tr3 ar3"]


def test_all_lists_of_the_other_policy_are_kept_apart_from() -> None:
    """Apart from the first only, it would be the second: three links in common."""
    policies = {
        "a": Policy("a", (BOTH_WAYS,)),
        "b": policy("b", DynamicPath(), disjoint_from="a"),
    }
    choices = planner().choices
    theirs = choices.choose(policies["a"], policies, "br1", "ar2")
    assert routers(theirs) == ["br1 tr1 ar2", "br1 tr3 tr2 ar2"]
    own = choices.choose(policies["b"], policies, "br1", "ar2")
    assert routers(own) == ["br1 tr1 ar2"]
    assert own.candidates[0].lists[0].reason == (
        "it shares br1:tr1, tr1:ar2 with the policy it is to be disjoint from"
    )


def test_a_given_list_says_what_it_shares() -> None:
    policies = {
        "a": policy("a", DynamicPath()),
        "b": policy("b", OVER_TR1_TR3, disjoint_from="a"),
    }
    choice = planner().choices.choose(policies["b"], policies, "br1", "ar4")
    assert choice.candidates[0].lists[0].reason == (
        "it shares tr3:ar4 with the policy it is to be disjoint from"
    )


# --- several lists ---------------------------------------------------------------------------


def test_a_backup_is_none_of_the_lists_again() -> None:
    """Of two ways out both are taken: what is left when one dies is the other list."""
    both = planner().choices.choose(Policy("p", (BOTH_WAYS,)), {}, "br1", "ar2")
    assert {way.interface for way in both.lists} == {"tr1", "tr3"}
    assert both.backup is None
    over_ar2 = DynamicPath(waypoints=(Waypoint("ar2"),))
    one_way = CandidatePath((WeightedPath(DynamicPath()), WeightedPath(over_ar2)))
    one = planner().choices.choose(Policy("p", (one_way,)), {}, "br1", "ar3")
    assert routers(one) == ["br1 tr1 tr2 ar3", "br1 tr1 ar2 tr2 ar3"]
    assert one.backup is not None
    assert one.backup.interface == "tr3"


def test_lists_that_are_the_same_are_one_with_the_weight_of_both() -> None:
    candidate = CandidatePath(
        (
            WeightedPath(DynamicPath(), 3),
            WeightedPath(DynamicPath(waypoints=(Waypoint("tr3"),)), 2),
            WeightedPath(NOT_TR1, 1),
        )
    )
    choice = planner().choices.choose(Policy("p", (candidate,)), {}, "br1", "ar4")
    assert [way.weight for way in choice.lists] == [6]
    assert routers(choice) == ["br1 tr3 ar4"]
    told = [way.reason for way in choice.candidates[0].lists]
    assert told == [None, *["it is the list of paths[0] too: their weights add up"] * 2]


@pytest.mark.parametrize("target", ["ar1", "ar3", "ar4"])
def test_what_carries_flows_is_what_is_told(target: str) -> None:
    choice = planner().choices.choose(policy("p", NOT_TR1), {}, "br1", target)
    assert [way.solution.segments for way in choice.candidates[0].lists if way.solution] == [
        way.segments for way in choice.lists
    ]
