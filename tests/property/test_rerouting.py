"""Plans after links changed: what is told of the change leads to what planning anew gives."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network
from random import Random

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.model import topology as topology_module
from srv6dmm.model.flows import Direction, FlowMatch, FlowRule
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import FlowSteering, PlanEntry
from srv6dmm.model.policy import (
    BindingSid,
    CandidatePath,
    DynamicPath,
    Invalid,
    Policy,
    WeightedPath,
)
from srv6dmm.model.state import (
    Binding,
    RolloutPhase,
    Session,
    SessionPhase,
    State,
)
from srv6dmm.model.topology import Link, LinkEnd, Role, Topology
from tests.property.networks import Network, demands, networks

PARAMETERS = MobilityParameters()
OUTSIDE = IPv6Network("2001:db8:f000::/36")


def with_edges(network: Network) -> Topology:
    """Return the domain with access and border routers."""
    topology = network.topology
    nodes = dict(topology.nodes)
    for number, name in enumerate(sorted(set(network.names) - network.plain)):
        if number % 3 != 2:
            pool = IPv6Network(f"2001:db8:{number:x}::/48")
            nodes[name] = replace(
                nodes[name], role=Role.ACCESS, pools=(pool,), access_interface="access0"
            )
        else:
            outside = IPv6Network(f"2001:db8:f{number:03x}::/48")
            nodes[name] = replace(nodes[name], role=Role.BORDER, announces=(outside,))
    return replace(topology, nodes=nodes)


def sessions_of(topology: Topology, rng: Random) -> State:
    """Return a state with nodes at home, away, and on their way."""
    state = State()
    routers = [node.name for node in topology.access_routers()]
    for number in range(6):
        anchor, via, serving = (rng.choice(routers) for _ in range(3))
        rollout = rng.choice(list(RolloutPhase)) if via != serving else RolloutPhase.STABLE
        pool = topology.nodes[anchor].pools[0]
        prefix = IPv6Network((int(pool.network_address) + (number << 64), 64))
        session = Session(
            f"mn{number}",
            "0",
            f"02:00:00:00:00:0{number}",
            serving,
            1,
            rng.choice((SessionPhase.ACTIVE, SessionPhase.ACTIVE, SessionPhase.DETACH_WAIT)),
            rollout,
            (Binding(prefix, anchor, 0),),
            10_000,
            via=None if rollout is RolloutPhase.STABLE else via,
        )
        state.sessions[session.key] = session
    return state


@st.composite
def rules(draw: st.DrawFn, network: Network, topology: Topology) -> FlowBook:
    policies = {}
    for name in ("p0", "p1", "p2"):
        candidates = tuple(
            CandidatePath(
                tuple(
                    WeightedPath(draw(demands(network, waypoints=1, kinds_at_once=1)), weight)
                    for weight in range(1, draw(st.integers(1, 2)) + 1)
                ),
                preference,
            )
            for preference in range(draw(st.integers(1, 2)))
        )
        policies[name] = Policy(name, candidates, invalid=draw(st.sampled_from(Invalid)))
    policies["p2"] = replace(policies["p2"], disjoint_from="p1")
    policies["p3"] = Policy("p3", (CandidatePath((WeightedPath(DynamicPath()),)),))
    head_ends = [node for node in topology.head_ends() if node.locator]
    one, other = head_ends[0], head_ends[-1]
    if one is not other and one.locator is not None:
        binding = BindingSid(one.name, other.name, one.locator.sid(0x0B00))
        policies["p0"] = replace(policies["p0"], binding_sids=(binding,))
    peers = [None, OUTSIDE, IPv6Network("2001:db8:e000::/48"), IPv6Network("2001:db8::/48")]
    flows = {
        f"f{number}": FlowRule(
            f"f{number}",
            f"p{number % 4}",
            f"mn{draw(st.integers(0, 5))}",
            match=FlowMatch(peer=draw(st.sampled_from(peers)), dscp=number),
            direction=draw(st.sampled_from(Direction)),
        )
        for number in range(6)
    }
    return FlowBook(policies, flows, {})


@st.composite
def changed(draw: st.DrawFn, topology: Topology, down: set[LinkEnd]) -> Topology:
    """Draw what becomes of one to three links; ends that go or come are noted in `down`."""
    links = list(topology.links)
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(links) - 1))
        link: Link = links[number]
        match draw(st.sampled_from(("cut", "cut", "cut", "mend", "drain", "metric", "other"))):
            case "cut":
                down.update(link.ends()[: draw(st.integers(1, 2))])
            case "mend":
                down.difference_update(link.ends())
            case "drain":
                links[number] = replace(link, drained=not link.drained)
            case "metric":
                links[number] = replace(
                    link,
                    metric=draw(st.integers(1, 9)),
                    te_metric=draw(st.none() | st.integers(1, 9)),
                )
            case _:
                links[number] = replace(
                    link,
                    delay_us=draw(st.integers(0, 5)),
                    srlgs=frozenset({1}),
                    mtu=draw(st.sampled_from((link.mtu, 1540))),
                )
    return replace(topology, links=tuple(links))


@pytest.mark.parametrize("repaired", [0, 64], ids=["without repairs", "with repairs"])
@settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate])
@given(data=st.data())
def test_what_is_told_makes_the_plans_that_planning_anew_gives(
    repaired: int, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topology_module, "REPAIRED", repaired)
        network = data.draw(networks(smallest=3, largest=8, more=2, plain=1))
        topology = with_edges(network)
        state = sessions_of(topology, Random(data.draw(st.integers(0, 1 << 16))))
        book = data.draw(rules(network, topology))
        down: set[LinkEnd] = set()
        planner = Planner(topology, PARAMETERS, book)
        names = [node.name for node in topology.routers()]
        held = {name: dict(planner.plan(name, state).entries) for name in names}
        for _ in range(3):
            topology = data.draw(changed(topology, down))
            rerouting = planner.reroute(topology, down, state.sessions.values())
            assert frozenset().union(*rerouting.rounds) == rerouting.routes.keys()
            carried = dict(planner.choices._choices), dict(planner.choices._plain)
            fresh = Planner(topology, PARAMETERS, book, down)
            for told in (rerouting.at_once, rerouting.routes):
                for name, (put, gone) in told.items():
                    take(held[name], put, gone)
            for name in names:
                assert held[name] == fresh.plan(name, state).entries, name
            for key, choice in carried[0].items():
                if key[1] is None:  # p2 has been chosen without p1 in mind, too
                    policy = replace(key[0], disjoint_from=None)
                    assert choice == fresh.choices.choose(policy, {}, *key[2:])
            assert carried[1] == {key: fresh.choices.shortest(*key) for key in carried[1]}
            flows = sum(
                isinstance(e, FlowSteering) for p, _ in rerouting.at_once.values() for e in p
            )
            event(f"flow entries told: {min(flows, 5)}")


def take(held: dict[str, PlanEntry], put: tuple[PlanEntry, ...], gone: tuple[str, ...]) -> None:
    """Do what a router does; nothing is told that it has already, or has not to begin with."""
    for key in gone:
        del held[key]
    for entry in put:
        assert held.get(entry.key) != entry, f"told again: {entry}"
        held[entry.key] = entry


def test_only_what_a_cut_touches_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring of six: who is on the way is told of three routes or fewer, n4 of none."""
    network = Network(
        tuple(f"n{number}" for number in range(6)),
        tuple(
            Link(LinkEnd(f"n{number}", "right"), LinkEnd(f"n{(number + 1) % 6}", "left"))
            for number in range(6)
        ),
    )
    monkeypatch.setattr(topology_module, "REPAIRED", 0)
    planner = Planner(network.topology, PARAMETERS)
    rerouting = planner.reroute(network.topology, {LinkEnd("n0", "right")}, ())
    assert rerouting.at_once == {}
    told = {name: len(put) for name, (put, _) in rerouting.routes.items()}
    assert told == {"n0": 3, "n1": 3, "n2": 2, "n3": 1, "n5": 2}


def test_nodes_at_home_cost_no_search() -> None:
    """Nothing steers to them, so nobody asks which way that would be."""
    links = (("n0", "n1"), ("n1", "n2"), ("n2", "n3"), ("n3", "n0"))
    network = Network(
        ("n0", "n1", "n2", "n3"),
        tuple(Link(LinkEnd(a, f"to-{b}"), LinkEnd(b, f"to-{a}")) for a, b in links),
    )
    topology = with_edges(network)
    pool = topology.nodes["n0"].pools[0]
    home = Session(
        "mn0",
        "0",
        "02:00:00:00:00:01",
        "n0",
        1,
        SessionPhase.ACTIVE,
        RolloutPhase.STABLE,
        (Binding(IPv6Network((int(pool.network_address), 64)), "n0", 0),),
        0,
    )
    planner = Planner(topology, PARAMETERS)
    rerouting = planner.reroute(topology, {LinkEnd("n0", "to-n1")}, (home,))
    assert rerouting.routes
    assert planner.choices._plain == {}
