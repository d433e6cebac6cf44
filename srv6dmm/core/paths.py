"""Shortest paths of the underlay, with ties broken the same way everywhere."""

from __future__ import annotations

import rustworkx

from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.topology import Link, Topology


class NoPath(Srv6dmmError):
    """Two nodes have no path between them."""


class ShortestPaths:
    """IGP shortest paths over the links between routers.

    The next hop of a node towards a target is its neighbour with the smallest (distance, name,
    interface), so following next hops gives `path`, and every tail of a path is a path. Hosts
    carry no transit traffic. Distances are computed once per target.
    """

    def __init__(self, topology: Topology) -> None:
        self._adjacent: dict[str, list[tuple[int, str, str]]] = {
            node.name: [] for node in topology.routers()
        }
        graph: rustworkx.PyGraph[str, int] = rustworkx.PyGraph()
        self._index = {name: graph.add_node(name) for name in self._adjacent}
        self._names = {index: name for name, index in self._index.items()}
        for link in topology.core_links():
            self._join(link)
            graph.add_edge(self._index[link.a.node], self._index[link.b.node], link.metric)
        self._graph = graph
        self._distances: dict[str, dict[str, int]] = {}
        self._next: dict[tuple[str, str], tuple[str, str]] = {}

    def _join(self, link: Link) -> None:
        for here, there in (link.ends(), link.ends()[::-1]):
            self._adjacent[here.node].append((link.metric, there.node, here.interface))

    def neighbours(self, node: str) -> list[tuple[int, str, str]]:
        """Return (metric, neighbour, own interface) of each link of a router."""
        return list(self._adjacent[node])

    def _to(self, target: str) -> dict[str, int]:
        known = self._distances.get(target)
        if known is None:
            if target not in self._index:
                raise NoPath(f"{target!r} is no router of this topology")
            start = self._index[target]
            found = rustworkx.dijkstra_shortest_path_lengths(self._graph, start, float)
            known = {self._names[index]: int(length) for index, length in found.items()}
            known[target] = 0
            self._distances[target] = known
        return known

    def distance(self, source: str, target: str) -> int:
        """Return the sum of metrics of the shortest path. Raises NoPath."""
        try:
            return self._to(target)[source]
        except KeyError:
            raise NoPath(f"no path from {source!r} to {target!r}") from None

    def next_hops(self, source: str, target: str) -> list[tuple[str, str]]:
        """Return every (interface, neighbour) that lies on a shortest path, best first."""
        distances = self._to(target)
        best = self.distance(source, target)
        hops = sorted(
            (name, interface)
            for metric, name, interface in self._adjacent[source]
            if name in distances and metric + distances[name] == best
        )
        return [(interface, name) for name, interface in hops]

    def next_hop(self, source: str, target: str) -> tuple[str, str]:
        """Return (own interface, neighbour) towards the target. Raises NoPath."""
        key = (source, target)
        hop = self._next.get(key)
        if hop is None:
            if source == target:
                raise NoPath(f"{source!r} is the target itself")
            hop = self._next[key] = self.next_hops(source, target)[0]
        return hop

    def path(self, source: str, target: str) -> tuple[str, ...]:
        """Return the routers from source to target, both included. Raises NoPath."""
        self.distance(source, target)
        nodes = [source]
        while nodes[-1] != target:
            nodes.append(self.next_hop(nodes[-1], target)[1])
        return tuple(nodes)
