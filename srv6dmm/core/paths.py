"""Shortest paths of the underlay, with ties broken the same way everywhere."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from srv6dmm.core.graph import Graph, NoPath
from srv6dmm.model.path import Path
from srv6dmm.model.topology import Topology

Hop = tuple[str, str]
"""(own interface, neighbour)."""

__all__ = ["Hop", "NoPath", "ShortestPaths"]


@dataclass(frozen=True, slots=True)
class _Attachment:
    """A host's one link."""

    metric: int
    router: str
    host_interface: str
    router_interface: str


class ShortestPaths:
    """IGP shortest paths over the links between routers.

    The next hop of a node towards a target is its neighbour with the smallest (distance, name,
    interface), so following next hops gives `path`, and every tail of a path is a path. Hosts
    can be ends of a path and never carry transit traffic; a host uses its first link only.
    One target costs one run of Dijkstra's algorithm, on first use, and 8 bytes per router.
    """

    def __init__(self, topology: Topology) -> None:
        self.graph = Graph(topology)
        names, heads = self.graph.names, self.graph.heads
        self._hops: list[Hop] = [
            (interface, names[head])
            for interface, head in zip(self.graph.interfaces, heads, strict=True)
        ]
        self._trees: dict[int, array[float]] = {}
        self._hosts: dict[str, _Attachment] = {}
        for link in topology.links:
            a, b = (end.node in self.graph.index for end in link.ends())
            if a != b:
                router, host = link.ends() if a else link.ends()[::-1]
                self._hosts.setdefault(
                    host.node,
                    _Attachment(link.igp_metric, router.node, host.interface, router.interface),
                )

    def tree(self, target: int) -> array[float]:
        """Return every router's distance to the target, by number; infinite: no path."""
        found = self._trees.get(target)
        if found is None:
            graph = self.graph
            found = self._trees[target] = array("d", graph.distances(graph.igp, target))
        return found

    def grow_all(self) -> None:
        """Grow the trees of all targets now, for whoever must not wait for them later."""
        for target in range(len(self.graph.names)):
            self.tree(target)

    def take_over(
        self,
        other: ShortestPaths,
        as_now: Callable[[int, array[float]], array[float] | None],
    ) -> None:
        """Take over trees that were grown on other links between the same routers.

        `as_now` makes of (target, tree there) the tree here; None: it is grown when it is needed.
        """
        for target, tree in other._trees.items():
            now = as_now(target, tree)
            if now is not None:
                self._trees[target] = now

    def hop(self, crossing: int) -> Hop:
        """Return (interface, neighbour) of a crossing."""
        return self._hops[crossing]

    def tree_bytes(self) -> int:
        """Return the memory of the trees grown so far."""
        return sum(tree.itemsize * len(tree) for tree in self._trees.values())

    def shortest_crossings(self, router: int, target: int) -> list[int]:
        """Return the crossings that start a shortest path, best first; none: there is no path."""
        graph, distances = self.graph, self.tree(target)
        best = distances[router]
        if not 0 < best < inf:
            return []
        weights, heads = graph.igp.values, graph.heads
        return [
            number
            for number in graph.leaving[router]
            if weights[number] + distances[heads[number]] == best
        ]

    def follows(self, router: int, crossing: int, target: int, ecmp: bool) -> bool:
        """Tell whether a packet to the target leaves the router by this crossing, for certain.

        With `ecmp` a router uses any of its shortest paths, without it the best of them.
        """
        crossings = self.shortest_crossings(router, target)
        return crossings[:1] == [crossing] and (len(crossings) == 1 or not ecmp)

    def stretch_start(
        self, source: int, crossings: Sequence[int], target: int, floor: int, ecmp: bool
    ) -> int:
        """Return the first place of a path, not before `floor`, that needs no segment on the way.

        From there on, the underlay takes the path's crossings to the target by itself. The
        path starts at `source`; place n is behind its n-th crossing; the last one enters the
        target. Every tail of a shortest path is one, so all later places need none either.
        """
        tails = self.graph.tails
        start = len(crossings)
        while start > floor:
            crossing = crossings[start - 1]
            router = tails[crossing]
            if router == target or not self.follows(router, crossing, target, ecmp):
                break
            start -= 1
        return start

    def _known(self, name: str) -> str:
        """Return the router a node is or hangs on."""
        host = self._hosts.get(name)
        router = name if host is None else host.router
        self.graph.router(router)
        return router

    def distance(self, source: str, target: str) -> int:
        """Return the sum of metrics of the shortest path. Raises NoPath."""
        start, end = self._known(source), self._known(target)
        if source == target:
            return 0
        between = self.tree(self.graph.index[end])[self.graph.index[start]]
        if between == inf:
            raise NoPath(f"no path from {source!r} to {target!r}")
        ends = (self._hosts[name].metric for name in (source, target) if name in self._hosts)
        return int(between) + sum(ends)

    def next_hop(self, source: str, target: str) -> Hop:
        """Return (own interface, neighbour) towards the target. Raises NoPath."""
        if source in self._hosts or target in self._hosts:
            return self._host_hop(source, target)
        graph = self.graph
        router = graph.router(source)
        distances = self.tree(graph.router(target))
        best = distances[router]
        if 0 < best < inf:
            weights, heads = graph.igp.values, graph.heads
            for number in graph.leaving[router]:  # sorted: the first is the best
                if weights[number] + distances[heads[number]] == best:
                    return self._hops[number]
        if source == target:
            raise NoPath(f"{source!r} is the target itself; there is no next hop")
        raise NoPath(f"no path from {source!r} to {target!r}")

    def next_hops(self, source: str, target: str) -> list[Hop]:
        """Return every (interface, neighbour) on a shortest path, best first.

        With equal-cost multipath, a router may use any of them. Raises NoPath.
        """
        first = self.next_hop(source, target)
        if source in self._hosts or target in self._hosts:
            return [first]
        index = self.graph.index
        crossings = self.shortest_crossings(index[source], index[target])
        return [self._hops[number] for number in crossings]

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

    def path(self, source: str, target: str) -> tuple[str, ...]:
        """Return the nodes from source to target, both included. Raises NoPath."""
        self.distance(source, target)
        nodes = [source]
        while nodes[-1] != target:
            nodes.append(self.next_hop(nodes[-1], target)[1])
        return tuple(nodes)

    def links(self, source: str, target: str) -> Path:
        """Return the path between two routers with the links it takes. Raises NoPath."""
        routers, interfaces = [source], []
        while routers[-1] != target:
            interface, neighbour = self.next_hop(routers[-1], target)
            interfaces.append(interface)
            routers.append(neighbour)
        return Path(tuple(routers), tuple(interfaces))
