"""Shortest paths of the underlay, with ties broken the same way everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import rustworkx

from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.topology import Link, Topology

Hop = tuple[str, str]
"""(own interface, neighbour)."""


class NoPath(Srv6dmmError):
    """Two nodes have no path between them, or one of them is not in the topology."""


@dataclass(frozen=True, slots=True)
class _Attachment:
    """A host's one link."""

    metric: int
    router: str
    host_interface: str
    router_interface: str


@dataclass(frozen=True, slots=True)
class _Tree:
    """Everything that leads to one target, by the index of the source."""

    distances: list[int]
    """-1: no path."""
    hops: list[Hop | None]


class ShortestPaths:
    """IGP shortest paths over the links between routers.

    The next hop of a node towards a target is its neighbour with the smallest (distance, name,
    interface), so following next hops gives `path`, and every tail of a path is a path. Hosts
    can be ends of a path and never carry transit traffic; a host uses its first link only.
    One target costs one run of Dijkstra's algorithm, on first use.
    """

    def __init__(self, topology: Topology) -> None:
        names = [node.name for node in topology.routers()]
        self._names = names
        self._index = {name: index for index, name in enumerate(names)}
        self._adjacent: list[list[tuple[str, str, int, int]]] = [[] for _ in names]
        """By index: (neighbour, own interface, metric, index of the neighbour), sorted."""
        self._hosts: dict[str, _Attachment] = {}
        self._trees: dict[str, _Tree] = {}
        self._graph: rustworkx.PyGraph[str, int] = rustworkx.PyGraph()
        self._graph.add_nodes_from(names)
        for link in topology.links:
            self._join(link)
        for adjacent in self._adjacent:
            adjacent.sort()

    def _join(self, link: Link) -> None:
        a, b = (self._index.get(end.node) for end in link.ends())
        if a is not None and b is not None:
            self._graph.add_edge(a, b, link.metric)
            self._adjacent[a].append((link.b.node, link.a.interface, link.metric, b))
            self._adjacent[b].append((link.a.node, link.b.interface, link.metric, a))
            return
        router, host = (link.b, link.a) if a is None else (link.a, link.b)
        self._hosts.setdefault(
            host.node, _Attachment(link.metric, router.node, host.interface, router.interface)
        )

    def _tree(self, target: str) -> _Tree:
        tree = self._trees.get(target)
        if tree is None:
            tree = self._trees[target] = self._grow(self._router(target))
        return tree

    def _grow(self, target: int) -> _Tree:
        distances = [-1] * len(self._names)
        distances[target] = 0
        # Doubles hold sums of metrics exactly: 4095 hops of 2^24 are below 2^53.
        found = rustworkx.dijkstra_shortest_path_lengths(self._graph, target, float)
        for index, length in found.items():
            distances[index] = int(length)
        distances[target] = 0
        hops: list[Hop | None] = [None] * len(self._names)
        for source, best in enumerate(distances):
            if best > 0:
                for name, interface, metric, index in self._adjacent[source]:
                    if metric + distances[index] == best:  # sorted: the first is the smallest
                        hops[source] = (interface, name)
                        break
        return _Tree(distances, hops)

    def _router(self, name: str) -> int:
        index = self._index.get(name)
        if index is None:
            raise NoPath(f"{name!r} is not in the topology, or has no link")
        return index

    def _known(self, name: str) -> str:
        """Return the router a node is or hangs on."""
        host = self._hosts.get(name)
        router = name if host is None else host.router
        self._router(router)
        return router

    def is_router(self, name: str) -> bool:
        """Tell whether a path can lead through the node."""
        return name in self._index

    def neighbours(self, router: str) -> list[tuple[int, str, str]]:
        """Return (metric, neighbour, own interface) of each link to a router, by neighbour's name.

        Raises NoPath when there is no such router.
        """
        adjacent = self._adjacent[self._router(router)]
        return [(metric, name, interface) for name, interface, metric, _ in adjacent]

    def distance(self, source: str, target: str) -> int:
        """Return the sum of metrics of the shortest path. Raises NoPath."""
        start, end = self._known(source), self._known(target)
        if source == target:
            return 0
        between = self._tree(end).distances[self._index[start]]
        if between < 0:
            raise NoPath(f"no path from {source!r} to {target!r}")
        ends = (self._hosts[name].metric for name in (source, target) if name in self._hosts)
        return between + sum(ends)

    def next_hop(self, source: str, target: str) -> Hop:
        """Return (own interface, neighbour) towards the target. Raises NoPath."""
        if source in self._hosts or target in self._hosts:
            return self._host_hop(source, target)
        hop = self._tree(target).hops[self._router(source)]
        if hop is None:
            if source == target:
                raise NoPath(f"{source!r} is the target itself; there is no next hop")
            raise NoPath(f"no path from {source!r} to {target!r}")
        return hop

    def _host_hop(self, source: str, target: str) -> Hop:
        self.distance(source, target)
        here, there = self._hosts.get(source), self._hosts.get(target)
        if source == target:
            raise NoPath(f"{source!r} is the target itself; there is no next hop")
        if here is not None:
            return (here.host_interface, here.router)
        if there is not None and there.router == source:
            return (there.router_interface, target)
        return self.next_hop(source, there.router if there is not None else target)

    def next_hops(self, source: str, target: str) -> list[Hop]:
        """Return every (interface, neighbour) on a shortest path between routers, best first.

        With equal-cost multipath, a router may use any of them. Raises NoPath.
        """
        distances = self._tree(target).distances
        index = self._router(source)
        best = distances[index]
        if best <= 0:
            return [self.next_hop(source, target)]
        return [
            (interface, name)
            for name, interface, metric, other in self._adjacent[index]
            if metric + distances[other] == best
        ]

    def path(self, source: str, target: str) -> tuple[str, ...]:
        """Return the nodes from source to target, both included. Raises NoPath."""
        self.distance(source, target)
        nodes = [source]
        while nodes[-1] != target:
            nodes.append(self.next_hop(nodes[-1], target)[1])
        return tuple(nodes)
