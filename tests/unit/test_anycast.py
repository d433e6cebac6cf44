"""Anycast groups: one SID at several routers; lists, plans and simulators follow the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from srv6dmm.core.fib_walk import FibWalk, Outcome, Packet
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.flow_checks import FlowChecker
from srv6dmm.core.planner import Planner
from srv6dmm.core.simulator import Simulator
from srv6dmm.core.topology import TopologyErrors, parse_topology
from srv6dmm.core.topology_document import document_of
from srv6dmm.core.topology_update import read
from srv6dmm.model.flows import FlowRule
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import LocalSid, UnderlayRoute
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    ExplicitPath,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.sid import Behavior
from srv6dmm.model.state import State
from srv6dmm.model.topology import LinkEnd, Topology
from tests.unit.test_flow_plans import address, attach

TEXT = Path("deploy/topologies/campus.yaml").read_text()
SID = IPv6Address("fc00:0:ff::1")


def grouped(text: str = TEXT, **sids: str) -> str:
    """Return the campus with tr1 and tr3 in group core."""
    for router, locator in (("tr1", "c1"), ("tr3", "c3")):
        old = f'{router}: {{role: transit, locator: "fc00:0:{locator}::/48"}}'
        assert old in text
        sid = sids.get(router, f'core: "{SID}"')
        text = text.replace(old, old[:-1] + f", anycast: {{{sid}}}}}")
    return text


CAMPUS = parse_topology(grouped(), "campus")


def planner(topology: Topology = CAMPUS, *down: LinkEnd) -> Planner:
    return Planner(topology, MobilityParameters(), down=down)


def policy(*waypoints: str, **constraints: object) -> Policy:
    path = DynamicPath(
        constraints=Constraints(**constraints),  # type: ignore[arg-type]
        waypoints=tuple(map(Waypoint, waypoints)),
    )
    return Policy("p", (CandidatePath((WeightedPath(path),)),))


def test_a_group_is_read_and_written() -> None:
    for name in ("tr1", "tr3"):
        assert CAMPUS.nodes[name].anycast == (("core", SID),)
    again, faults = read(document_of(CAMPUS))
    assert not faults
    assert again is not None
    assert again.nodes == CAMPUS.nodes


@pytest.mark.parametrize(
    ("sids", "key", "words"),
    [
        ({"tr1": 'core: "fc01::1"', "tr3": 'core: "fc01::1"'}, "tr1", "outside the SID block"),
        ({"tr1": 'core: "fc00:0:a1:7::"', "tr3": ""}, "tr1", "the locator of ar1"),
        ({"tr3": 'core: "fc00:0:ff::2"'}, "tr3", "differs from fc00:0:ff::1"),
        ({"tr3": f'edge: "{SID}"'}, "tr3", "the SID of group core already"),
        ({"tr1": f'ar1: "{SID}"', "tr3": ""}, "tr1", "the name of a node"),
    ],
)
def test_a_faulty_group_is_named(sids: dict[str, str], key: str, words: str) -> None:
    with pytest.raises(TopologyErrors) as raised:
        parse_topology(grouped(**sids), "campus")
    (fault,) = raised.value.errors
    assert fault.key.startswith(f"topology.nodes.{key}.anycast.")
    assert words in fault.message


def test_a_router_without_a_locator_is_in_no_group() -> None:
    text = TEXT.replace("tr2: {role: transit}", f'tr2: {{role: transit, anycast: {{a: "{SID}"}}}}')
    with pytest.raises(TopologyErrors, match="without a locator"):
        parse_topology(text, "campus")


def routes(made: Planner, state: State) -> Iterator[tuple[str, str]]:
    for router in CAMPUS.routers():
        for entry in made.plan(router.name, state).entries.values():
            if isinstance(entry, UnderlayRoute) and entry.prefix[0] == SID:
                yield router.name, entry.next_hops[0][0]
            if isinstance(entry, LocalSid) and entry.sid == SID:
                assert entry.behavior is Behavior.END
                yield router.name, "here"


def test_every_router_has_the_sid_or_a_route_to_the_nearest() -> None:
    assert dict(routes(planner(), State())) == {
        "tr1": "here", "tr3": "here", "tr2": "tr1", "ar1": "tr1", "ar2": "tr1",
        "ar3": "tr3", "ar4": "tr3", "br1": "tr1",
    }  # fmt: skip
    cut = planner(CAMPUS, LinkEnd("br1", "tr1"))
    assert dict(routes(cut, State()))["br1"] == "tr3"


@pytest.mark.parametrize(
    ("target", "routers", "segments"),
    [
        ("ar1", "br1 tr1 ar1", [SID, "ar1"]),
        ("ar4", "br1 tr1 tr2 tr3 ar4", [SID, "ar4"]),
    ],
)
def test_a_waypoint_is_the_nearest_of_its_group(
    target: str, routers: str, segments: list[IPv6Address | str]
) -> None:
    made = planner()
    choice = made.choices.choose(policy("core"), {}, "br1", target)
    assert [" ".join(path.routers) for path in choice.paths] == [routers]
    wanted = [made.sids[s].end_dt6 if isinstance(s, str) else s for s in segments]
    assert list(choice.lists[0].segments) == wanted
    simulator = Simulator(made.paths, made.sids, ecmp=False)
    assert simulator.paths("br1", choice.lists[0].segments) == {choice.paths[0]}


def test_where_the_nearest_may_not_be_passed_another_is_named_by_its_own_sid() -> None:
    made = planner()
    asked = policy("core", avoid_routers=frozenset({"tr1"}))
    choice = made.choices.choose(asked, {}, "br1", "ar4")
    assert [" ".join(path.routers) for path in choice.paths] == ["br1 tr3 ar4"]
    assert list(choice.lists[0].segments) == [made.sids["tr3"].end, made.sids["ar4"].end_dt6]
    both = policy("core", avoid_routers=frozenset({"tr1", "tr3"}))
    (fault,) = FlowChecker(made, State()).policy_faults(both)
    assert fault[1] == "every router of anycast group core is in constraints.avoid_routers"


def test_a_group_has_no_services_and_an_unknown_one_is_refused() -> None:
    path = DynamicPath(waypoints=(Waypoint("core", "fw"), Waypoint("cor")))
    asked = Policy("p", (CandidatePath((WeightedPath(path),)),))
    words = [message for _, message in FlowChecker(planner(), State()).policy_faults(asked)]
    assert "core is an anycast group" in words[0]
    assert words[1].startswith("unknown router 'cor'")


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    ("down", "through"), [((), "tr1"), ((LinkEnd("br1", "tr1"),), "tr3")], ids=["tr1", "tr3"]
)
def test_flows_pass_the_nearest_router_that_is_left(
    given: bool, down: tuple[LinkEnd, ...], through: str
) -> None:
    """By a list as computed and as given: the same list, wherever it leads then."""
    state = State()
    attach(state, CAMPUS, "mn1", "ar1")
    listed = Policy("p", (CandidatePath((WeightedPath(ExplicitPath((SID,))),)),))
    state.policies["p"] = listed if given else policy("core")
    assert not FlowChecker(planner(), state).policy_faults(state.policies["p"])
    state.flows["f"] = FlowRule("f", "p", mobile_node="mn1")
    made = Planner(CAMPUS, MobilityParameters(), FlowBook.of(state), down)
    fibs = FibWalk(CAMPUS, lambda router: made.plan(router, state).entries.values(), down)
    walk = fibs.walk("br1", Packet(IPv6Address("2001:db8:cafe::2"), address(state, "mn1")))
    assert (walk.outcome, walk.routers[-1]) == (Outcome.DELIVERED, "ar1")
    assert walk.routers[1] == through
    assert walk.hops[0].headers[0].segments[0] == SID
