"""Disjoint pairs, held to networkx's minimum cost flow and to a network that is a trap."""

from __future__ import annotations

from itertools import pairwise

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srv6dmm.core.disjoint_pair import Pair, disjoint_pair
from srv6dmm.core.graph import Graph
from srv6dmm.model.path import Disjoint
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology
from tests.property.networks import Network


def network(routers: int, links: list[tuple[int, int, int]]) -> Network:
    names = tuple(f"r{number}" for number in range(routers))
    return Network(
        names,
        tuple(
            Link(LinkEnd(names[a], f"e{index}"), LinkEnd(names[b], f"e{index}"), metric=metric)
            for index, (a, b, metric) in enumerate(links)
        ),
    )


def least(graph: Graph, source: int, target: int, kind: Disjoint) -> float | None:
    """Return the sum of the best pair, by minimum cost flow of two units."""
    flow = networkx.MultiDiGraph()
    for router in range(len(graph.names)):
        inner = kind is Disjoint.ROUTERS and router not in (source, target)
        flow.add_edge((router, "in"), (router, "out"), capacity=1 if inner else 2, weight=0)
    for number, (tail, head) in enumerate(zip(graph.tails, graph.heads, strict=True)):
        via = ("link", number)  # networkx wants no parallel edges
        weight = int(graph.igp.values[number])
        flow.add_edge((tail, "out"), via, capacity=1, weight=weight)
        flow.add_edge(via, (head, "in"), capacity=1, weight=0)
    simple = networkx.DiGraph(flow)
    for node in simple:
        simple.nodes[node]["demand"] = 0
    simple.nodes[source, "out"]["demand"] = -2
    simple.nodes[target, "in"]["demand"] = 2
    try:
        cost: float = networkx.min_cost_flow_cost(simple)
    except networkx.NetworkXUnfeasible:
        return None
    return cost


def check(graph: Graph, pair: Pair, source: int, target: int) -> float:
    """Hold both paths to what they promise; return their sum."""
    total = 0.0
    for crossings in (pair.first, pair.second):
        assert graph.tails[crossings[0]] == source
        assert graph.heads[crossings[-1]] == target
        for before, after in pairwise(crossings):
            assert graph.heads[before] == graph.tails[after]
        total += sum(graph.igp.values[number] for number in crossings)
    links = [{graph.links[number] for number in way} for way in (pair.first, pair.second)]
    assert not links[0] & links[1]
    if pair.disjoint is Disjoint.ROUTERS:
        one, other = ({graph.heads[n] for n in way} - {target} for way in (pair.first, pair.second))
        assert not one & other
    return total


@st.composite
def networks(draw: st.DrawFn) -> Network:
    routers = draw(st.integers(2, 9))
    metrics = st.integers(1, 9)
    links = [(n, draw(st.integers(0, n - 1)), draw(metrics)) for n in range(1, routers)]
    for _ in range(draw(st.integers(0, 12))):
        a, b = draw(st.integers(0, routers - 1)), draw(st.integers(0, routers - 1))
        if a != b:
            links.append((a, b, draw(metrics)))
    return network(routers, links)


@settings(max_examples=400, deadline=None)
@given(networks(), st.data())
def test_no_pair_is_better(made: Network, data: st.DataObject) -> None:
    graph = Graph(made.topology)
    ends = st.integers(0, len(made.names) - 1)
    source, target = data.draw(ends), data.draw(ends)
    if source == target:
        assert disjoint_pair(graph, graph.igp, source, target) is None
        return
    pair = disjoint_pair(graph, graph.igp, source, target)
    apart = least(graph, source, target, Disjoint.ROUTERS)
    if pair is None:
        assert apart is None
        assert least(graph, source, target, Disjoint.LINKS) is None
        return
    assert pair.disjoint is (Disjoint.LINKS if apart is None else Disjoint.ROUTERS)
    wanted = apart if apart is not None else least(graph, source, target, Disjoint.LINKS)
    assert check(graph, pair, source, target) == wanted


def test_a_shortest_path_that_stands_in_the_way_is_left() -> None:
    """0-1-2-3 is the best path, and shares a link with every other one."""
    links = [(0, 1, 1), (1, 2, 1), (2, 3, 1), (0, 2, 5), (1, 3, 5)]
    graph = Graph(network(4, links).topology)
    pair = disjoint_pair(graph, graph.igp, 0, 3)
    assert pair is not None
    assert pair.disjoint is Disjoint.ROUTERS
    routers = [graph.path(0, way).routers for way in (pair.first, pair.second)]
    assert sorted(routers) == [("r0", "r1", "r3"), ("r0", "r2", "r3")]


@pytest.mark.parametrize("missing", ["the far end", "a second way"])
def test_where_there_is_none(missing: str) -> None:
    names = ("a", "b", "c")
    nodes = {name: Node(name, Role.TRANSIT, n) for n, name in enumerate(names, start=1)}
    links = [Link(LinkEnd("a", "b"), LinkEnd("b", "a"))]
    if missing == "a second way":
        links.append(Link(LinkEnd("b", "c"), LinkEnd("c", "b")))
    graph = Graph(
        Topology(Domain("d", Network((), ()).topology.domain.sid_block), nodes, (*links,))
    )
    assert disjoint_pair(graph, graph.igp, graph.index["a"], graph.index["c"]) is None
