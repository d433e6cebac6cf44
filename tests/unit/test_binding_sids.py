"""Binding SIDs: which router has one, what it stands for, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from srv6dmm.core.fib_walk import FibWalk, Outcome, Packet
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import FlowSelector, FlowSteering, LocalSid, PlanEntry, SteeringList
from srv6dmm.model.policy import (
    BindingSid,
    CandidatePath,
    Constraints,
    DynamicPath,
    Invalid,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.sid import Behavior, EncapMode
from srv6dmm.model.state import State
from srv6dmm.model.topology import Topology

CAMPUS = Path("deploy/topologies/campus.yaml")
SOURCE = IPv6Address("2001:db8:cafe::2")


@pytest.fixture(scope="module")
def campus() -> Topology:
    return parse_topology(CAMPUS.read_text(), str(CAMPUS))


def bound(topology: Topology, wanted: DynamicPath, head_end: str = "ar1") -> Policy:
    locator = topology.nodes[head_end].locator
    assert locator is not None
    binding = BindingSid(head_end, "ar2", locator.sid(0xB600))
    path = CandidatePath((WeightedPath(wanted),))
    return Policy("bound", (path,), binding_sids=(binding,))


def held(planner: Planner, router: str) -> list[LocalSid]:
    entries = planner.plan(router, State()).entries.values()
    return [
        entry
        for entry in entries
        if isinstance(entry, LocalSid) and entry.behavior is Behavior.END_B6_ENCAPS
    ]


def book(*policies: Policy) -> FlowBook:
    return FlowBook({policy.name: policy for policy in policies}, {}, {})


def test_it_is_at_its_head_end_and_stands_for_the_policys_list(campus: Topology) -> None:
    policy = bound(campus, DynamicPath(waypoints=(Waypoint("tr3"),)))
    planner = Planner(campus, MobilityParameters(), book(policy))
    choice = planner.choices.choose(policy, planner.book.policies, "ar1", "ar2")
    (sid,) = held(planner, "ar1")
    assert sid.sid == policy.binding_sids[0].sid
    assert sid.segments == choice.lists[0].segments
    assert sid.segments[-1] == planner.sids["ar2"].end_dt6
    assert not any(held(planner, router) for router in ("ar2", "br1"))


def test_a_policy_without_a_valid_path_has_none(campus: Topology) -> None:
    nowhere = DynamicPath(constraints=Constraints(maximum_hops=0))
    policy = bound(campus, nowhere)
    dropping = Planner(campus, MobilityParameters(), book(replace(policy, invalid=Invalid.DROP)))
    assert held(dropping, "ar1") == []


def test_changes_of_rules_and_of_links_tell_its_head_end(campus: Topology) -> None:
    policy = bound(campus, DynamicPath(waypoints=(Waypoint("tr3"),)))
    other = bound(campus, DynamicPath(waypoints=(Waypoint("tr1"),)))
    planner = Planner(campus, MobilityParameters())
    for now in (policy, other):
        put, gone = planner.use(book(now), ())["ar1"]
        assert (list(put), gone) == (held(planner, "ar1"), ())
    (before,) = held(planner, "ar1")
    down = [end for link in campus.core_links() for end in link.ends() if end.node == "ar1"][:1]
    rerouting = planner.reroute(campus, down, ())
    (after,) = held(planner, "ar1")
    assert (after != before) == (after in rerouting.at_once["ar1"][0])
    put, gone = planner.use(book(), ())["ar1"]
    assert (put, gone) == ((), (before.key,))


def test_packets_to_it_go_the_policys_way_and_then_their_own(campus: Topology) -> None:
    policy = bound(campus, DynamicPath(waypoints=(Waypoint("tr3"),)))
    planner = Planner(campus, MobilityParameters(), book(policy))
    interface, neighbour = planner.paths.next_hop("br1", "ar1")
    own = SteeringList(
        (policy.binding_sids[0].sid, planner.sids["ar3"].end_dt6),
        interface,
        campus.nodes[neighbour].link_local,
        1600,
    )
    selector = FlowSelector(IPv6Network((SOURCE, 64), strict=False), campus.nodes["ar3"].pools[0])
    stitched = FlowSteering("stitched", selector, 0, (own,), EncapMode.ENCAP, "mn1")

    def plans(router: str) -> list[PlanEntry]:
        entries = list(planner.plan(router, State()).entries.values())
        return [*entries, stitched] if router == "br1" else entries

    walk = FibWalk(campus, plans).walk("br1", Packet(SOURCE, campus.nodes["ar3"].pools[0][9]))
    # By ar1, on the policy's list by tr3 to ar2, which takes its header off; then on to ar3.
    assert walk.outcome is Outcome.UNREACHABLE, walk.detail
    stops = [walk.routers.index(router) for router in ("ar1", "tr3", "ar2", "ar3")]
    assert stops == sorted(stops)
    assert walk.routers[-1] == "ar3"
    assert walk.hops[0].leaves_by == interface
