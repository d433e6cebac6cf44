"""Explanations: which rule, which path, which header, which hops, and why not the others."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from srv6dmm.core.explain import Explainer, Explanation, Question
from srv6dmm.core.fib_walk import Outcome
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.core.wire_header import wire_header
from srv6dmm.model.errors import Refusal
from srv6dmm.model.flows import Direction, FlowRule
from srv6dmm.model.policy import (
    CandidatePath,
    DynamicPath,
    Invalid,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.sid import EncapMode
from srv6dmm.model.state import Change, CsidSupport, State
from srv6dmm.model.topology import Topology
from tests.property.test_fib_walk import (
    AROUND,
    NOT_TR1,
    OUTSIDE,
    PARAMETERS,
    RULES,
    attached,
    campus,
)
from tests.unit.test_flow_plans import address, attach
from tests.unit.test_flow_plans import campus as outside_everywhere

__all__ = ["campus"]


def explain(
    topology: Topology, question: Question, *more: FlowRule, policies: tuple[Policy, ...] = ()
) -> Explanation:
    state: State = attached(topology, "ar1", "ar3")
    change = Change(policies=(AROUND, NOT_TR1, *policies), flows=(*RULES.values(), *more))
    state.apply(change, state.revision + 1)
    planner = Planner(topology, PARAMETERS, FlowBook.of(state))
    explainer = Explainer(
        planner, state, lambda router: planner.plan(router, state).entries.values()
    )
    return explainer.explain(question)


DOWN = Question("mn1", OUTSIDE, Direction.DOWNLINK, protocol=17, own_port=40_000, peer_port=5004)


def test_the_rule_that_decides_is_named_with_its_policy_and_path(campus: Topology) -> None:
    found = explain(campus, DOWN)
    assert found.head_end == "br1"
    assert [(v.rule.name, v.matches, v.decides) for v in found.rules] == [
        ("video", False, False),
        ("voice", True, True),
    ]
    assert found.rules[0].reason == "protocol 17 is not 6"
    assert found.policy == "around"
    assert found.choice is not None
    assert found.choice.paths[0].routers == found.walks[0].routers
    assert found.walks[0].outcome is Outcome.DELIVERED
    assert [meaning.router for meaning in found.lists[0].segments][-1] == "ar3"
    assert found.lists[0].segments[-1].behavior == "End.DT6"
    assert found.lists[-1].backup


def test_a_rule_that_another_comes_before_says_so(campus: Topology) -> None:
    better = replace(RULES["voice"], name="better", policy="not-tr1", priority=500)
    found = explain(campus, DOWN, better)
    assert [v.rule.name for v in found.rules] == ["better", "video", "voice"]
    assert found.rules[0].decides
    assert found.rules[2].matches
    assert found.rules[2].reason == "it matches too, and better comes before it"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peer_port": 4999}, "source port 4999 is not in 5000-5010"),
        ({"peer_port": None}, "it has no source port"),
        ({"protocol": 58}, "protocol 58 is not 17"),
    ],
)
def test_rules_that_do_not_match_say_why(
    campus: Topology, change: dict[str, int | None], reason: str
) -> None:
    found = explain(campus, replace(DOWN, **change))  # type: ignore[arg-type]
    assert {v.rule.name: v.reason for v in found.rules}["voice"] == reason
    assert found.policy is None
    assert not any(v.decides for v in found.rules)


def test_a_rule_for_the_other_direction_says_so(campus: Topology) -> None:
    upwards = replace(RULES["voice"], name="up", direction=Direction.UPLINK, priority=900)
    found = explain(campus, DOWN, upwards)
    assert found.rules[0].reason == "it is for uplink packets"


def test_an_uplink_packet_starts_where_its_node_is(campus: Topology) -> None:
    found = explain(campus, replace(DOWN, direction=Direction.UPLINK))
    assert found.head_end == "ar3"
    assert found.walks[0].outcome is Outcome.LEFT
    assert found.walks[0].routers[-1] == "br1"
    assert found.policy == "around"


def test_a_policy_without_a_valid_path_says_what_happens_instead(campus: Topology) -> None:
    avoid = NOT_TR1.candidates[0].paths[0].path
    nowhere = replace(
        avoid,  # type: ignore[type-var]
        constraints=replace(
            avoid.constraints,  # type: ignore[union-attr]
            avoid_routers=frozenset({"tr1", "tr3"}),
        ),
    )
    weighted = replace(NOT_TR1.candidates[0].paths[0], path=nowhere)
    dropping = Policy("no-way", (replace(NOT_TR1.candidates[0], paths=(weighted,)),))
    rule = replace(RULES["voice"], name="first", policy="no-way", priority=900)
    fallen = explain(campus, DOWN, rule, policies=(dropping,))
    assert fallen.choice is not None
    assert fallen.choice.fell_back
    assert fallen.choice.candidates[0].reason
    assert fallen.walks[0].outcome is Outcome.DELIVERED
    dropped = explain(campus, DOWN, rule, policies=(replace(dropping, invalid=Invalid.DROP),))
    assert dropped.walks[0].outcome is Outcome.DROPPED
    assert not dropped.lists


def test_who_is_not_there_cannot_be_explained(campus: Topology) -> None:
    with pytest.raises(Refusal, match="unknown-mobile-node"):
        explain(campus, replace(DOWN, mobile_node="mn9"))
    with pytest.raises(Refusal, match="is in none of mn1's prefixes"):
        explain(campus, replace(DOWN, address=IPv6Address("2001:db8::1")))
    with pytest.raises(Refusal, match="no access or border router"):
        explain(campus, replace(DOWN, head_end="tr1"))


@pytest.mark.parametrize("mode", [EncapMode.ENCAP, EncapMode.ENCAP_RED])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_header_is_what_another_implementation_writes(mode: EncapMode, count: int) -> None:
    segments = tuple(IPv6Network("fc00::/32")[number + 1] for number in range(count))
    header = wire_header(mode, OUTSIDE, segments)
    assert header.destination == segments[0]
    assert header.octets == mode.overhead(count)
    listed = segments[1:] if mode is EncapMode.ENCAP_RED else segments
    if not listed:
        assert header.srh == b""
        return
    theirs = IPv6ExtHdrSegmentRouting(
        addresses=[str(segment) for segment in reversed(listed)],
        segleft=count - 1,
        lastentry=len(listed) - 1,
        nh=41,
    )
    whole = bytes(IPv6(src=str(OUTSIDE), dst=str(segments[0])) / theirs)
    assert header.srh == whole[40:]
    assert header.next_header == whole[6]


def test_a_container_is_explained_slot_by_slot(campus: Topology) -> None:
    """Each slot with the destination that its router sees; the walk goes by the same."""
    usid = replace(campus, domain=replace(campus.domain, usid=True))
    csid = [CsidSupport(node.name, True) for node in usid.routers()]
    state: State = attached(usid, "ar1", "ar3")
    row = DynamicPath(waypoints=(Waypoint("tr3"), Waypoint("ar2"), Waypoint("tr3")))
    policy = Policy("around", (CandidatePath((WeightedPath(row),)),))
    change = Change(policies=(policy, NOT_TR1), flows=tuple(RULES.values()))
    state.apply(change, state.revision + 1)
    planner = Planner(usid, PARAMETERS, FlowBook.of(state), csid=csid)
    explainer = Explainer(
        planner, state, lambda router: planner.plan(router, state).entries.values()
    )
    found = explainer.explain(DOWN)
    one = found.lists[0]
    (meaning,) = one.segments
    assert [str(meaning.sid), meaning.router, meaning.behavior] == [
        "fc00:0:c3:a2:c3:a3:d06:0",
        "ar3",
        "container",
    ]
    assert meaning.detail == "uN tr3, uN ar2, uN tr3, End.DT6 ar3"
    assert [(str(slot.sid), slot.behavior, slot.router) for slot in meaning.slots] == [
        ("fc00:0:c3:a2:c3:a3:d06:0", "uN", "tr3"),
        ("fc00:0:a2:c3:a3:d06::", "uN", "ar2"),
        ("fc00:0:c3:a3:d06::", "uN", "tr3"),
        ("fc00:0:a3:d06::", "End.DT6", "ar3"),
    ]
    assert one.header is not None
    assert (one.header.octets, one.header.next_header) == (40, 41), "no SRH at all"
    assert one.inner_mtu == 1660
    (walk,) = found.walks
    assert walk.outcome is Outcome.DELIVERED
    done = [step.action for hop in walk.hops for step in hop.steps]
    assert "uN: on to fc00:0:a2:c3:a3:d06::" in done


@pytest.mark.parametrize("direction", [Direction.UPLINK, Direction.DOWNLINK])
def test_between_two_mobile_nodes_the_rules_of_both_are_told(direction: Direction) -> None:
    """Asked of either end: mn1's packet goes by the downlink rule of mn2."""
    topology, state = outside_everywhere(), State()
    attach(state, topology, "mn1", "ar1")
    attach(state, topology, "mn2", "ar2")
    own = FlowRule("up", "not-tr1", mobile_node="mn1", priority=500)
    down = FlowRule("down", "around", mobile_node="mn2")
    change = Change(policies=(AROUND, NOT_TR1), flows=(own, down))
    state.apply(change, state.revision + 1)
    planner = Planner(topology, PARAMETERS, FlowBook.of(state))
    explainer = Explainer(
        planner, state, lambda router: planner.plan(router, state).entries.values()
    )
    one, other = address(state, "mn1"), address(state, "mn2")
    asked = Question("mn1", other, direction, protocol=17, own_port=1, peer_port=2)
    if direction is Direction.DOWNLINK:
        asked = Question("mn2", one, direction, protocol=17, own_port=2, peer_port=1)
    found = explainer.explain(asked)
    assert found.head_end == "ar1"
    assert found.policy == "around"
    assert found.choice is not None
    assert found.choice.paths[0].routers == found.walks[0].routers
    verdicts = {(v.mobile_node, v.rule.name): (v.decides, v.reason) for v in found.rules}
    assert verdicts.keys() == {("mn1", "up"), ("mn2", "down")}
    assert verdicts["mn2", "down"][0]
    assert not verdicts["mn1", "up"][0]
    assert "is mn2's, and between mobile nodes" in verdicts["mn1", "up"][1]
    peers = verdicts["mn2", "down"] if direction is Direction.UPLINK else verdicts["mn1", "up"]
    assert peers[1].startswith("of mn2: " if direction is Direction.UPLINK else "of mn1: ")
