"""Repairs: with one link dead and nobody told, packets arrive wherever there is a way."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import networkx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srv6dmm.core.fib_walk import FibWalk, Outcome, Packet
from srv6dmm.core.planner import Planner
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import LocalSid, SteeringList, UnderlayRoute
from srv6dmm.model.sid import Behavior, EncapMode, Locator
from srv6dmm.model.state import CsidSupport
from srv6dmm.model.topology import Link, LinkEnd, Topology
from tests.property.networks import Network, networks

CAMPUS = Path("deploy/topologies/campus.yaml")
SOURCE = IPv6Address("2001:db8::1")


def check(topology: Topology) -> tuple[int, int]:
    """Walk from everywhere to everywhere under every failure; return (arrived, not repaired)."""
    csid = [CsidSupport(node.name, True) for node in topology.routers()]  # where that is on
    planner = Planner(topology, MobilityParameters(), csid=csid)
    held = {node.name: planner._static.entries(node.name) for node in topology.routers()}
    arrived = unrepaired = 0
    for link in topology.core_links():
        dead = set(link.ends())
        walks = FibWalk(topology, lambda name: held[name].values(), link.ends())
        for source in topology.routers():
            for target in topology.routers():
                if target.loopback is None or source is target:
                    continue
                if not planner._static.entries(source.name).get(
                    f"underlay {target.locator.prefix}"  # type: ignore[union-attr]
                ):
                    continue
                walk = walks.walk(source.name, Packet(SOURCE, target.loopback))
                crossed = {LinkEnd(hop.router, hop.leaves_by or "") for hop in walk.hops}
                if walk.outcome is Outcome.LOCAL and walk.routers[-1] == target.name:
                    assert not crossed & dead
                    arrived += 1
                    continue
                # Only where the router at the dead link had nothing to offer.
                last = walk.hops[-1].router
                entry = held[last][f"underlay {target.locator.prefix}"]  # type: ignore[union-attr]
                assert isinstance(entry, UnderlayRoute)
                assert entry.repair is None, (str(link.a), source.name, target.name, walk)
                assert last in {end.node for end in dead}
                unrepaired += 1
    return arrived, unrepaired


@pytest.mark.parametrize("usid", [False, True])
def test_every_link_of_the_campus_may_fail(usid: bool) -> None:
    topology = parse_topology(CAMPUS.read_text(), str(CAMPUS))
    topology = replace(topology, domain=replace(topology.domain, usid=usid))
    arrived, unrepaired = check(topology)
    # tr3 repairs nothing to ar4: only tr2 could reach it, which sends back and has no SIDs.
    assert arrived > 400
    assert unrepaired < arrived // 5


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(networks(), st.booleans())
def test_packets_arrive_wherever_a_repair_is(network: Network, usid: bool) -> None:
    topology = network.topology
    check(replace(topology, domain=replace(topology.domain, max_segments=10, usid=usid)))


def test_a_neighbour_that_fell_dead_is_passed_by() -> None:
    """All links of a router fail at once, as when it is killed."""
    topology = parse_topology(CAMPUS.read_text(), str(CAMPUS))
    planner = Planner(topology, MobilityParameters())
    held = {node.name: planner._static.entries(node.name) for node in topology.routers()}
    ends = [end for link in topology.core_links() if "tr1" in _nodes(link) for end in link.ends()]
    walks = FibWalk(topology, lambda name: held[name].values(), ends)
    for source, target in (("br1", "ar1"), ("ar1", "br1"), ("br1", "ar2"), ("ar2", "br1")):
        loopback = topology.nodes[target].loopback
        assert loopback is not None
        walk = walks.walk(source, Packet(SOURCE, loopback))
        assert (walk.outcome, walk.routers[-1]) == (Outcome.LOCAL, target), walk
        assert "tr1" not in walk.routers


def test_an_adjacency_sid_of_a_dead_link_leads_on_to_the_next_segment() -> None:
    topology = parse_topology(CAMPUS.read_text(), str(CAMPUS))
    planner = Planner(topology, MobilityParameters())
    sids = [
        entry
        for entry in planner._static.entries("tr1").values()
        if isinstance(entry, LocalSid) and entry.behavior is Behavior.END_X
    ]
    assert len(sids) == 5
    assert all(entry.repair not in (None, entry.interface) for entry in sids)


def test_there_is_a_repair_wherever_the_graph_and_sids_allow_one() -> None:
    """In a domain whose routers all have SIDs and room for any list."""
    topology = parse_topology(CAMPUS.read_text(), str(CAMPUS))
    nodes = dict(topology.nodes)
    nodes["tr2"] = replace(nodes["tr2"], locator=Locator(IPv6Network("fc00:0:c2::/48")))
    domain = replace(topology.domain, max_segments=10)
    links = tuple(
        replace(link, mtu=9000) if link in topology.core_links() else link
        for link in topology.links
    )
    topology = replace(topology, nodes=nodes, domain=domain, links=links)
    planner = Planner(topology, MobilityParameters())
    for node in topology.routers():
        for entry in planner._static.entries(node.name).values():
            if not isinstance(entry, UnderlayRoute):
                continue
            target = next(
                other.name
                for other in topology.routers()
                if entry.prefix in _behind(topology, other.name)
            )
            graph: networkx.Graph = networkx.Graph(
                (link.a.node, link.b.node)
                for link in topology.core_links()
                if LinkEnd(node.name, entry.next_hops[0][0]) not in link.ends()
            )
            possible = graph.has_node(node.name) and graph.has_node(target)
            possible = possible and networkx.has_path(graph, node.name, target)
            assert (entry.repair is not None) == possible, (node.name, entry.prefix)


def _behind(topology: Topology, router: str) -> set[object]:
    node = topology.nodes[router]
    found: set[object] = {*node.pools, *node.announces}
    if node.locator is not None:
        found.add(node.locator.prefix)
    for link in topology.links:
        for here, there in (link.ends(), link.ends()[::-1]):
            host = topology.nodes[there.node]
            if here.node == router and not host.is_router:
                found |= set(host.announces)
    return found


def _nodes(link: Link) -> set[str]:
    return {end.node for end in link.ends()}


def repairs(topology: Topology, router: str) -> dict[str, SteeringList]:
    """Return a router's repairs by the name of who has the locator."""
    planner = Planner(topology, MobilityParameters())
    owners = {n.locator.prefix: n.name for n in topology.routers() if n.locator is not None}
    return {
        owners[entry.prefix]: entry.repair
        for entry in planner._static.entries(router).values()
        if isinstance(entry, UnderlayRoute) and entry.repair is not None
        if entry.prefix in owners
    }


def test_a_router_without_sids_repairs_by_next_hops_alone() -> None:
    topology = parse_topology(CAMPUS.read_text(), str(CAMPUS))
    found = repairs(topology, "tr2")
    assert set(found) == {"ar1", "ar2", "ar3", "ar4", "br1", "tr1", "tr3"}
    assert all(not repair.segments for repair in found.values())


def test_a_next_hop_that_does_not_send_back_comes_before_a_list() -> None:
    topology = parse_topology(CAMPUS.read_text(), str(CAMPUS))
    found = repairs(topology, "br1")
    assert {name for name, repair in found.items() if repair.segments} == set()
    assert {name: repair.interface for name, repair in found.items()} == {
        "ar1": "tr3", "ar2": "tr3", "ar3": "tr3", "ar4": "tr1", "tr1": "tr3", "tr3": "tr1",
    }  # fmt: skip
    lists = {
        (router.name, name)
        for router in topology.routers()
        for name, repair in repairs(topology, router.name).items()
        if repair.segments
    }
    assert lists == {
        *(("ar2", name) for name in ("ar1", "ar3", "ar4", "br1", "tr3")),
        *(("ar3", name) for name in ("ar2", "tr1")),
    }


def test_a_domain_of_one_segment_has_next_hops_and_no_lists() -> None:
    topology = parse_topology(CAMPUS.read_text(), str(CAMPUS))
    one = replace(topology, domain=replace(topology.domain, max_segments=1))
    assert repairs(one, "br1").keys() == repairs(topology, "br1").keys()
    for router in topology.routers():
        assert all(not repair.segments for repair in repairs(one, router.name).values())
    assert one.repair_overhead() == 0
    assert one.inner_mtu() == 1500
    arrived, _ = check(one)
    assert arrived > 300


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(networks())
def test_every_repair_has_room_for_the_largest_packet(network: Network) -> None:
    """Encapsulated by its head-end with the longest list, and by the repair once more."""
    topology = network.topology
    planner = Planner(topology, MobilityParameters())
    domain = topology.domain
    largest = topology.inner_mtu() + domain.encap_mode.overhead(domain.max_segments)
    for router in topology.routers():
        for entry in planner._static.entries(router.name).values():
            if isinstance(entry, UnderlayRoute) and entry.repair is not None:
                count = len(entry.repair.segments)
                added = EncapMode.ENCAP_RED.overhead(count) if count else 0
                assert largest + added <= entry.repair.mtu
