"""Shortest paths on random domains, against networkx and against their own definition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Network
from itertools import pairwise

import networkx
from hypothesis import given, settings
from hypothesis import strategies as st

from srv6dmm.core.paths import ShortestPaths
from srv6dmm.model.sid import Locator
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology


@dataclass(frozen=True)
class Underlay:
    """A connected domain of transit routers, and an oracle for its forwarding.

    The oracle knows distances from networkx only; next hops follow from the definition.
    """

    names: tuple[str, ...]
    links: tuple[Link, ...]
    plain: frozenset[str]
    """Routers without a locator."""

    @cached_property
    def topology(self) -> Topology:
        nodes = {
            name: Node(
                name,
                Role.TRANSIT,
                index,
                locator=None
                if name in self.plain
                else Locator(IPv6Network(f"fc00:0:{index:x}::/48")),
            )
            for index, name in enumerate(self.names, start=1)
        }
        return Topology(Domain("random", IPv6Network("fc00::/32")), nodes, self.links)

    @cached_property
    def graph(self) -> networkx.MultiGraph:
        graph = networkx.MultiGraph()
        graph.add_nodes_from(self.names)
        for link in self.links:
            graph.add_edge(link.a.node, link.b.node, weight=link.metric)
        return graph

    @cached_property
    def distances(self) -> dict[str, dict[str, int]]:
        return dict(networkx.all_pairs_dijkstra_path_length(self.graph))

    def sides(self, node: str) -> list[tuple[LinkEnd, LinkEnd, int]]:
        """Return (own end, other end, metric) of each link of a node."""
        return [
            (here, there, link.metric)
            for link in self.links
            for here, there in (link.ends(), link.ends()[::-1])
            if here.node == node
        ]

    def metric(self, node: str, neighbour: str) -> int:
        """Return the smallest metric of the links between two neighbours."""
        return min(m for _, there, m in self.sides(node) if there.node == neighbour)

    def next_hops(self, node: str, target: str) -> list[tuple[str, str]]:
        """Return every (interface, neighbour) on a shortest path, best first."""
        ways = sorted(
            (metric + self.distances[there.node][target], there.node, here.interface)
            for here, there, metric in self.sides(node)
        )
        return [(interface, name) for cost, name, interface in ways if cost == ways[0][0]]

    def next_hop(self, node: str, target: str) -> tuple[str, str]:
        """Return the best of the next hops."""
        return self.next_hops(node, target)[0]


@st.composite
def underlays(draw: st.DrawFn, plain: bool = False, largest: int = 7) -> Underlay:
    """Draw a connected domain with ties and parallel links; with `plain`, not all have SIDs."""
    size = draw(st.integers(2, largest))
    names = tuple(f"n{number}" for number in draw(st.permutations(range(size))))
    pairs = [(number, draw(st.integers(0, number - 1))) for number in range(1, size)]
    some = st.integers(0, size - 1)
    more = draw(st.lists(st.tuples(some, some), max_size=2 * size))
    pairs += [(a, b) for a, b in more if a != b]
    numbers = draw(st.permutations(range(len(pairs))))
    links = tuple(
        Link(
            LinkEnd(names[a], f"e{number}"),
            LinkEnd(names[b], f"e{number}"),
            metric=draw(st.integers(1, 4)),
        )
        for number, (a, b) in zip(numbers, pairs, strict=True)
    )
    without = draw(st.sets(st.sampled_from(names))) if plain else set()
    return Underlay(names, links, frozenset(without))


@settings(max_examples=200, deadline=None)
@given(underlays())
def test_distances_are_those_of_networkx(underlay: Underlay) -> None:
    paths = ShortestPaths(underlay.topology)
    for target in underlay.names:
        for source in underlay.names:
            assert paths.distance(source, target) == underlay.distances[source][target]


@settings(max_examples=200, deadline=None)
@given(underlays())
def test_next_hops_are_those_of_the_definition(underlay: Underlay) -> None:
    """The neighbour with the smallest (distance, name, interface)."""
    paths = ShortestPaths(underlay.topology)
    for source in underlay.names:
        for target in set(underlay.names) - {source}:
            assert paths.next_hop(source, target) == underlay.next_hop(source, target)
            assert paths.next_hops(source, target) == underlay.next_hops(source, target)


@settings(max_examples=200, deadline=None)
@given(underlays())
def test_hop_by_hop_forwarding_takes_the_path(underlay: Underlay) -> None:
    paths = ShortestPaths(underlay.topology)
    for source in underlay.names:
        for target in underlay.names:
            path = paths.path(source, target)
            assert (path[0], path[-1]) == (source, target)
            assert len(set(path)) == len(path), "no loop"
            cost = sum(underlay.metric(a, b) for a, b in pairwise(path))
            assert cost == paths.distance(source, target)
            if source != target:
                following = paths.next_hop(source, target)[1]
                assert path[1:] == paths.path(following, target)


@settings(max_examples=100, deadline=None)
@given(underlays(), st.data())
def test_the_order_of_the_file_does_not_matter(underlay: Underlay, data: st.DataObject) -> None:
    turned = [Link(link.b, link.a, link.metric) for link in underlay.links]
    links = tuple(data.draw(st.permutations(turned)))
    names = tuple(data.draw(st.permutations(underlay.names)))
    one = ShortestPaths(underlay.topology)
    other = ShortestPaths(Underlay(names, links, underlay.plain).topology)
    for source in names:
        for target in set(names) - {source}:
            assert one.path(source, target) == other.path(source, target)
            assert one.next_hop(source, target) == other.next_hop(source, target)
