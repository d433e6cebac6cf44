"""Domains of up to 200 routers: paths, lists and backups against oracles made of networkx alone."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random

import networkx
from hypothesis import event, given, settings
from hypothesis import strategies as st

from srv6dmm.core.computation import PathComputation
from srv6dmm.core.graph import NoPath
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.segments import segment_list
from srv6dmm.core.sids import sid_table
from srv6dmm.model.path import Path
from srv6dmm.model.policy import Constraints, DynamicPath, Objective
from tests.property.networks import AFFINITIES, Network, allowed, ends, networks
from tests.property.test_paths import Underlay
from tests.property.test_paths_segments import Walk

LARGE = networks(smallest=20, largest=200, more=2, plain=0)


def underlay_of(network: Network) -> Underlay:
    """Return the oracle of forwarding, which knows IGP metrics only."""
    links = tuple(replace(link, metric=link.igp_metric, drained=False) for link in network.links)
    return Underlay(network.names, links, network.plain)


def alone(underlay: Underlay, path: Path) -> bool:
    """Tell whether a path is the one shortest path of the underlay between its ends."""
    return all(
        underlay.next_hops(router, path.routers[-1]) == [(interface, following)]
        for router, interface, following in zip(
            path.routers, path.interfaces, path.routers[1:], strict=False
        )
    ) and len(set(path.routers)) == len(path.routers)


def fewest(underlay: Underlay, path: Path) -> int:
    """Return the length of the shortest list that leads along a path, under ECMP.

    A SID of a router beside the path leads away from it, so a list is a way over the places of
    the path: an End leads from one to a later one if there is no other shortest path between
    them, an End.X one place farther, and the final SID like an End.
    """
    last = len(path.interfaces)
    lists = networkx.DiGraph()
    lists.add_nodes_from(range(last + 1))
    for here in range(last + 1):
        for there in range(here, last + 1):
            piece = Path(path.routers[here : there + 1], path.interfaces[here:there])
            if not alone(underlay, piece):
                continue
            if there < last:
                lists.add_edge(here, there + 1)
                lists.add_edge(here, there)
            else:
                lists.add_edge(here, "end")
    length: int = networkx.shortest_path_length(lists, 0, "end")
    return length


def least(network: Network, wanted: DynamicPath, source: str, target: str) -> float:
    """Return the weight of the best path within limits on delay and links; infinite: none.

    Shortest paths over (router, what was used up): what is limited and what is to be small both
    grow along a path, so no best path passes a router twice.
    """
    constraints = wanted.constraints
    limit = constraints.maximum_delay_us or constraints.maximum_hops or 0
    graph = networkx.DiGraph()
    graph.add_node((source, 0))
    usable = [link for link in network.links if allowed(link, constraints)]
    for link in usable:
        step = (
            link.delay_us if constraints.maximum_delay_us else int(bool(constraints.maximum_hops))
        )
        weight = network.weight(link, wanted.objective)
        for here, there in (link.ends(), link.ends()[::-1]):
            for used in range(limit - step + 1):
                known = graph.get_edge_data((here.node, used), (there.node, used + step))
                if known is None or weight < known["weight"]:
                    graph.add_edge((here.node, used), (there.node, used + step), weight=weight)
    distances = networkx.single_source_dijkstra_path_length(graph, (source, 0))
    return min((distances.get((target, used), inf) for used in range(limit + 1)), default=inf)


@st.composite
def wishes(draw: st.DrawFn, network: Network) -> DynamicPath:
    """Draw an objective, what may be crossed, and often a limit that is just too tight or not."""
    names = st.sampled_from(network.names)
    affinity = st.frozensets(st.sampled_from(AFFINITIES), max_size=1)
    constraints = Constraints(
        include_any=draw(affinity) | draw(affinity),
        exclude_any=draw(affinity),
        avoid_routers=draw(st.frozensets(names, max_size=2)),
        avoid_srlgs=draw(st.frozensets(st.integers(1, 20), max_size=2)),
    )
    match draw(st.sampled_from(("delay", "hops", "none"))):
        case "delay":
            constraints = replace(constraints, maximum_delay_us=draw(st.integers(2, 15)))
        case "hops":
            constraints = replace(constraints, maximum_hops=draw(st.integers(2, 8)))
    return DynamicPath(draw(st.sampled_from(Objective)), constraints)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LARGE, st.data())
def test_the_best_path_under_constraints_by_the_shortest_list(
    network: Network, data: st.DataObject
) -> None:
    network = replace(network, deep=16)  # or a list could keep the best path from being taken
    source, target = data.draw(ends(network))
    wanted = data.draw(wishes(network))
    best = least(network, wanted, source, target)
    computation = PathComputation(network.topology)
    try:
        solution = computation.solve(source, target, wanted)
    except NoPath:
        event("none")
        assert best == inf
        return
    path = solution.path
    links = [network.link_at[end][0] for end in path.crossings()]
    assert all(allowed(link, wanted.constraints) for link in links)
    assert len(links) <= (wanted.constraints.maximum_hops or inf)
    assert sum(link.delay_us for link in links) <= (wanted.constraints.maximum_delay_us or inf)
    assert sum(network.weight(link, wanted.objective) for link in links) == best
    underlay = underlay_of(network)
    walk = Walk(underlay, sid_table(network.topology), ecmp=True)
    assert walk.paths(source, solution.segments) == {path}
    assert len(solution.segments) == fewest(underlay, path)
    event(f"{len(solution.segments)} segments")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(LARGE, st.integers(0, 1 << 32))
def test_the_shortest_list_along_any_path(network: Network, seed: int) -> None:
    """Walks that nobody would choose, over the same router again too."""
    rng = Random(seed)
    start = here = rng.choice(network.names)
    way = []
    for _ in range(rng.randint(1, 12)):
        end, there, _ = rng.choice(network.sides(here))
        way.append(end)
        here = there.node
    path = network.path(start, tuple(way))
    sids = sid_table(network.topology)
    segments = segment_list(ShortestPaths(network.topology), sids, path, sids[here].end_dt6)
    underlay = underlay_of(network)
    assert Walk(underlay, sids, ecmp=True).paths(start, segments) == {path}
    assert len(segments) == fewest(underlay, path)
    event(f"{len(segments)} segments")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LARGE, st.sampled_from(Objective), st.data())
def test_backups_are_disjoint_where_that_can_be(
    network: Network, objective: Objective, data: st.DataObject
) -> None:
    """Against maximum flow (Menger), and connectivity of what the primary leaves."""
    network = replace(network, deep=16)
    source, target = data.draw(ends(network))
    wanted = DynamicPath(objective)
    computation = PathComputation(network.topology)
    primary = computation.solve(source, target, wanted).path
    backup = computation.backup(primary, wanted)
    own = {network.link_at[end][0] for end in primary.crossings()}
    theirs = [network.link_at[end][0] for end in backup.solution.path.crossings()]
    assert backup.shared_links == len([link for link in theirs if link in own])

    flow = networkx.DiGraph()
    flow.add_nodes_from(network.names)
    for link in network.links:
        for here, there in (link.ends(), link.ends()[::-1]):
            known = flow.get_edge_data(here.node, there.node) or {"capacity": 0}
            flow.add_edge(here.node, there.node, capacity=known["capacity"] + 1)
    ways = networkx.maximum_flow_value(flow, source, target)
    if backup.shared_links == 0:
        assert ways >= 2
    if ways == 1:
        assert backup.shared_links > 0
    left = tuple(link for link in network.links if link not in own)
    graph = network.graph(left, objective)
    assert (backup.shared_links == 0) == networkx.has_path(graph, source, target)
    trap = ways >= 2 and backup.shared_links > 0
    event("a trap: two disjoint paths, none of them with the best" if trap else f"{min(ways, 3)}")
    if backup.shared_links or backup.shared_routers or backup.shared_srlgs:
        event("shares something")
        return
    risks = {srlg for link in own for srlg in link.srlgs}
    inner = set(primary.routers[1:-1])
    graph = network.graph(
        tuple(
            link
            for link in left
            if not link.srlgs & risks and not inner & {end.node for end in link.ends()}
        ),
        objective,
    )
    weight = sum(network.weight(link, objective) for link in theirs)
    assert weight == networkx.dijkstra_path_length(graph, source, target)
