"""Packets walked through plans: they arrive where their node is, whatever was planned how."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from srv6dmm.core import mobility
from srv6dmm.core.fib_walk import FibWalk, Outcome, Packet
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.flows import FlowMatch, FlowRule
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.state import RolloutPhase, State
from srv6dmm.model.topology import LinkEnd, Topology

CAMPUS = Path("deploy/topologies/campus.yaml")
OUTSIDE = IPv6Address("2001:db8:cafe::2")
PARAMETERS = MobilityParameters()
AROUND = Policy(
    "around", (CandidatePath((WeightedPath(DynamicPath(waypoints=(Waypoint("tr3"),))),)),)
)
NOT_TR1 = Policy(
    "not-tr1",
    (
        CandidatePath(
            (WeightedPath(DynamicPath(constraints=Constraints(avoid_routers=frozenset({"tr1"})))),)
        ),
    ),
)
RULES = {
    "voice": FlowRule(
        "voice", "around", mobile_node="mn1", match=FlowMatch(protocol=17, peer_ports=(5000, 5010))
    ),
    "video": FlowRule("video", "not-tr1", mobile_node="mn1", match=FlowMatch(protocol=6)),
}


@pytest.fixture(scope="module")
def campus() -> Topology:
    return parse_topology(CAMPUS.read_text(), str(CAMPUS))


def attached(topology: Topology, *routers: str) -> State:
    """Return the state after mn1 went to one router after another."""
    state = State()
    for number, router in enumerate(routers):
        event = AttachEvent(str(number), "mn1", router, "02:00:00:00:00:01")
        decision = mobility.decide(state, event, number, topology, PARAMETERS)
        state.apply(decision.change, state.revision + 1)
        while (session := next(iter(state.sessions.values()))).rollout is not RolloutPhase.STABLE:
            change = mobility.advance(session, number, PARAMETERS)
            if not change:
                break
            state.apply(change, state.revision + 1)
    return state


def walks(topology: Topology, state: State, down: tuple[LinkEnd, ...] = ()) -> FibWalk:
    book = FlowBook({"around": AROUND, "not-tr1": NOT_TR1}, RULES, {})
    planner = Planner(topology, PARAMETERS, book)
    return FibWalk(topology, lambda router: planner.plan(router, state).entries.values(), down)


def prefixes(state: State) -> list[IPv6Network]:
    return [binding.prefix for session in state.sessions.values() for binding in session.bindings]


@pytest.mark.parametrize("routers", [("ar1",), ("ar1", "ar2"), ("ar1", "ar2", "ar3", "ar4")])
def test_packets_from_outside_reach_the_node_wherever_it_went(
    campus: Topology, routers: tuple[str, ...]
) -> None:
    state = attached(campus, *routers)
    fibs = walks(campus, state)
    for prefix in prefixes(state):
        walk = fibs.walk("br1", Packet(OUTSIDE, prefix[5]))
        assert (walk.outcome, walk.routers[-1]) == (Outcome.DELIVERED, routers[-1]), walk.detail


@pytest.mark.parametrize("target", ["ar1", "ar2", "ar3", "ar4"])
def test_flows_go_as_their_policies_ask(campus: Topology, target: str) -> None:
    state = attached(campus, "ar1", target)
    fibs = walks(campus, state)
    for prefix in prefixes(state):
        voice = fibs.walk("br1", Packet(OUTSIDE, prefix[5], 17, 5004, 40_000))
        video = fibs.walk("br1", Packet(OUTSIDE, prefix[5], 6, 443, 40_000))
        for walk in (voice, video):
            assert (walk.outcome, walk.routers[-1]) == (Outcome.DELIVERED, target), walk.detail
        assert "tr3" in voice.routers
        assert "tr1" not in video.routers
        up = fibs.walk(target, Packet(prefix[5], OUTSIDE, 6, 40_000, 443))
        assert (up.outcome, up.routers[-1]) == (Outcome.LEFT, "br1"), up.detail
        assert "tr1" not in up.routers


def test_only_packets_that_match_a_rule_go_its_way(campus: Topology) -> None:
    state = attached(campus, "ar1")
    fibs = walks(campus, state)
    (prefix,) = prefixes(state)
    for port, way in ((4999, "tr1"), (5000, "tr3"), (5010, "tr3"), (5011, "tr1")):
        walk = fibs.walk("br1", Packet(OUTSIDE, prefix[5], 17, port, 40_000))
        assert walk.routers[1] == way


def test_what_nobody_has_is_unreachable_and_says_who_knows(campus: Topology) -> None:
    fibs = walks(campus, attached(campus, "ar1"))
    walk = fibs.walk("br1", Packet(OUTSIDE, IPv6Address("2001:db8:a1:ffff::1")))
    assert (walk.outcome, walk.routers[-1]) == (Outcome.UNREACHABLE, "ar1")


def test_a_head_end_whose_link_fails_has_a_backup_at_hand(campus: Topology) -> None:
    """Nobody was told anything: what was planned before the failure is all there is."""
    state = attached(campus, "ar1", "ar2")
    for link in ("tr1", "tr3"):
        fibs = walks(campus, state, (LinkEnd("br1", link),))
        foreign = prefixes(state)[0]
        walk = fibs.walk("br1", Packet(OUTSIDE, foreign[5], 17, 5004, 40_000))
        assert (walk.outcome, walk.routers[-1]) == (Outcome.DELIVERED, "ar2"), walk.detail
