"""Flow entries: which destinations uplink rules lead to, and in what order they are asked."""

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
from srv6dmm.model.flows import Direction, FlowMatch, FlowRule
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import FlowSteering
from srv6dmm.model.policy import CandidatePath, Constraints, DynamicPath, Policy, WeightedPath
from srv6dmm.model.state import RolloutPhase, State
from srv6dmm.model.topology import Topology

PARAMETERS = MobilityParameters()
CAMPUS = Path("deploy/topologies/campus.yaml").read_text()
NOT_TR1 = Policy(
    "not-tr1",
    (
        CandidatePath(
            (WeightedPath(DynamicPath(constraints=Constraints(avoid_routers=frozenset({"tr1"})))),)
        ),
    ),
)


def campus(hosts: int = 0) -> Topology:
    """Return the campus with the whole outside behind br1, and more hosts behind ar4."""
    text = CAMPUS.replace(
        'br1: {role: border, locator: "fc00:0:b1::/48"}',
        'br1: {role: border, locator: "fc00:0:b1::/48", announces: "::/0"}',
    )
    assert "announces" in text
    more = "".join(
        f'    h{n}: {{role: correspondent, prefix: "2001:db8:c{n:03x}::/64"}}\n'
        for n in range(hosts)
    )
    text = text.replace("    mn1: {role: mobile", f"{more}    mn1: {{role: mobile", 1)
    for n in range(hosts):
        text += f'    - {{endpoints: ["ar4:h{n}", "h{n}:eth0"], mtu: 1500}}\n'
    return parse_topology(text, "campus")


def attach(state: State, topology: Topology, mobile_node: str, *routers: str) -> None:
    """Have a node go to one router after another."""
    mac = f"02:00:00:00:00:0{mobile_node[-1]}"
    for number, router in enumerate(routers):
        event = AttachEvent(f"{mobile_node} {number}", mobile_node, router, mac)
        decision = mobility.decide(state, event, number, topology, PARAMETERS)
        state.apply(decision.change, state.revision + 1)
        while (session := state.sessions[mobile_node, "0"]).rollout is not RolloutPhase.STABLE:
            change = mobility.advance(session, number, PARAMETERS)
            if not change:
                break
            state.apply(change, state.revision + 1)


def address(state: State, mobile_node: str, binding: int = 0) -> IPv6Address:
    return state.sessions[mobile_node, "0"].bindings[binding].prefix[5]


def planned(topology: Topology, state: State, *rules: FlowRule) -> Planner:
    state.policies["not-tr1"] = NOT_TR1
    state.flows = {rule.name: rule for rule in rules}
    return Planner(topology, PARAMETERS, FlowBook.of(state))


def walks(planner: Planner, state: State) -> FibWalk:
    return FibWalk(planner.topology, lambda router: planner.plan(router, state).entries.values())


@pytest.mark.parametrize("binding", [0, 1])
def test_a_rule_of_any_peer_leaves_packets_to_mobile_nodes_alone(binding: int) -> None:
    """The outside is ::/0 behind the border, and other mobile nodes are not there."""
    topology, state = campus(), State()
    attach(state, topology, "mn1", "ar1", "ar2")
    attach(state, topology, "mn2", "ar3", "ar4")
    fibs = walks(planned(topology, state, FlowRule("f", "not-tr1", mobile_node="mn1")), state)
    source, target = address(state, "mn1"), address(state, "mn2", binding)
    walk = fibs.walk("ar2", Packet(source, target, 17, 1, 2))
    assert (walk.outcome, walk.routers) == (Outcome.DELIVERED, ("ar2", "tr2", "tr3", "ar4"))
    assert "flow rule" not in walk.hops[0].steps[0].action
    outside = fibs.walk("ar2", Packet(source, IPv6Address("2001:db8:9999::1"), 17, 1, 2))
    assert (outside.outcome, outside.routers[-1]) == (Outcome.UNREACHABLE, "br1")
    assert "flow rule f" in outside.hops[0].steps[0].action


@pytest.mark.parametrize("priority", [50, 100, 200])
def test_between_mobile_nodes_the_destinations_downlink_rules_hold(priority: int) -> None:
    topology, state = campus(), State()
    attach(state, topology, "mn1", "ar1")
    attach(state, topology, "mn2", "ar2")
    own = FlowRule("f", "not-tr1", mobile_node="mn1", priority=priority)
    downlink = FlowRule("g", "not-tr1", mobile_node="mn2", direction=Direction.DOWNLINK)
    fibs = walks(planned(topology, state, own, downlink), state)
    walk = fibs.walk("ar1", Packet(address(state, "mn1"), address(state, "mn2"), 17, 1, 2))
    assert (walk.outcome, walk.routers[-1]) == (Outcome.DELIVERED, "ar2")
    assert "tr1" not in walk.routers
    assert "flow rule g" in walk.hops[0].steps[0].action


def test_a_rule_of_any_peer_leaves_hosts_behind_the_same_router_alone() -> None:
    topology, state = campus(), State()
    attach(state, topology, "mn1", "ar4")
    fibs = walks(planned(topology, state, FlowRule("f", "not-tr1", mobile_node="mn1")), state)
    walk = fibs.walk("ar4", Packet(address(state, "mn1"), IPv6Address("2001:db8:beef::2")))
    assert (walk.outcome, walk.routers) == (Outcome.LEFT, ("ar4",))


def test_a_peer_among_mobile_nodes_is_no_exit() -> None:
    topology, state = campus(), State()
    attach(state, topology, "mn1", "ar1")
    peer = FlowMatch(peer=IPv6Network("2001:db8:a2::/48"))
    rule = FlowRule("f", "not-tr1", mobile_node="mn1", match=peer, direction=Direction.UPLINK)
    planner = planned(topology, state, rule)
    assert not [e for e in planner.plan("ar1", state).entries.values() if _is_flow(e)]


def test_any_number_of_networks_comes_before_the_outside_they_are_in() -> None:
    topology, state = campus(hosts=10), State()
    attach(state, topology, "mn1", "ar1")
    planner = planned(topology, state, FlowRule("f", "not-tr1", mobile_node="mn1"))
    flows = [e for e in planner.plan("ar1", state).entries.values() if isinstance(e, FlowSteering)]
    own = [flow for flow in flows if flow.uplink]
    orders = {flow.selector.destination.prefixlen: flow.order for flow in own}
    assert len(own) == 13
    assert orders[64] < orders[0]
    assert len({flow.order for flow in own if flow.selector.destination.prefixlen == 64}) == 1


def _is_flow(entry: object) -> bool:
    return isinstance(entry, FlowSteering)
