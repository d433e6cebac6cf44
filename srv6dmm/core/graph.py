"""The graph of a topology's routers: what every computation of paths runs on."""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from operator import itemgetter

import rustworkx

from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.path import Path, PathMeasures
from srv6dmm.model.topology import Link, Topology

MAXIMUM_MTU = 65_535
_EXACT = 1 << 53
"""Doubles hold whole numbers up to here."""


class NoPath(Srv6dmmError):
    """Two nodes have no path between them, or one of them is not in the topology."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What crossing each link in each direction costs; infinite: it may not be crossed."""

    values: list[float]
    """Whole numbers >= 0, by number of the crossing."""
    largest: int
    """No finite one is larger."""

    @classmethod
    def of(cls, values: list[float]) -> Weights:
        """Return finite weights."""
        return cls(values, int(max(values, default=0)))

    def without(self, crossings: Iterable[int]) -> Weights:
        """Return these weights with some crossings excluded."""
        values = self.values.copy()
        for number in crossings:
            values[number] = inf
        return Weights(values, self.largest)


class Graph:
    """Routers and crossings, numbered.

    A crossing is a link in one direction. Routers are numbered in name order, crossings in the
    order of (router, neighbour, interface), whatever the order in the file: comparing numbers
    is comparing names.
    """

    def __init__(self, topology: Topology) -> None:
        self.names = [node.name for node in topology.routers()]
        self.index = {name: number for number, name in enumerate(self.names)}
        found: list[tuple[int, int, str, Link]] = []
        for link in topology.links:
            a, b = self.index.get(link.a.node), self.index.get(link.b.node)
            if a is not None and b is not None:
                found.append((a, b, link.a.interface, link))
                found.append((b, a, link.b.interface, link))
        found.sort(key=itemgetter(0, 1, 2))
        self.tails = [tail for tail, _, _, _ in found]
        self.heads = [head for _, head, _, _ in found]
        self.interfaces = [interface for _, _, interface, _ in found]
        self.links = [link for _, _, _, link in found]
        self._by_end = {
            (tail, interface): number for number, (tail, _, interface, _) in enumerate(found)
        }
        self.opposite = [
            self._by_end[self.index[far.node], far.interface]
            for link, tail in zip(self.links, self.tails, strict=True)
            for far in (link.b if self.index[link.a.node] == tail else link.a,)
        ]
        """The same link in the other direction."""
        self.leaving = [
            range(bisect_left(self.tails, number), bisect_left(self.tails, number + 1))
            for number in range(len(self.names))
        ]
        """By router: the numbers of its crossings."""
        self.entering: list[list[int]] = [[] for _ in self.names]
        for number, head in enumerate(self.heads):
            self.entering[head].append(number)
        self.by_affinity: dict[str, set[int]] = {}
        self.by_srlg: dict[int, set[int]] = {}
        for number, link in enumerate(self.links):
            for name in link.affinities:
                self.by_affinity.setdefault(name, set()).add(number)
            for srlg in link.srlgs:
                self.by_srlg.setdefault(srlg, set()).add(number)
        self.igp = Weights.of([link.igp_metric for link in self.links])
        # Turned round, because trees are grown from their targets.
        self._turned: rustworkx.PyDiGraph[str, int] = rustworkx.PyDiGraph()
        self._turned.add_nodes_from(self.names)
        self._turned.add_edges_from(
            list(zip(self.heads, self.tails, range(len(found)), strict=True))
        )

    def router(self, name: str) -> int:
        """Return a router's number. Raises NoPath when there is no such router."""
        number = self.index.get(name)
        if number is None:
            raise NoPath(f"{name!r} is not in the topology, or has no link")
        return number

    def crossing(self, router: str, interface: str) -> int | None:
        """Return the crossing that leaves a router by an interface, if there is one."""
        number = self.index.get(router)
        return None if number is None else self._by_end.get((number, interface))

    def distances(self, weights: Weights, target: int) -> list[float]:
        """Return every router's distance to the target; infinite: there is no path.

        Distances are exact: where doubles could not hold one, whole numbers are added up.
        """
        if weights.largest * len(self.names) >= _EXACT:
            return self._exact_distances(weights.values, target)
        distances = [inf] * len(self.names)
        found = rustworkx.dijkstra_shortest_path_lengths(
            self._turned, target, weights.values.__getitem__
        )
        for number, length in found.items():
            distances[number] = length
        distances[target] = 0
        return distances

    def _exact_distances(self, values: Sequence[float], target: int) -> list[float]:
        entering = self.entering
        distances: list[float] = [inf] * len(self.names)
        distances[target] = 0
        near: list[tuple[float, int]] = [(0, target)]
        while near:
            distance, router = heapq.heappop(near)
            if distance > distances[router]:
                continue
            for number in entering[router]:
                tail, further = self.tails[number], distance + values[number]
                if further < distances[tail]:
                    distances[tail] = further
                    heapq.heappush(near, (further, tail))
        return distances

    def mended(
        self, distances: array[float], cut: Iterable[int], before: Graph
    ) -> tuple[array[float], set[int]]:
        """Return distances to a target by IGP metric, and the routers that are farther than before.

        `distances` are those on another graph of the same routers, `before`: of its crossings, some
        are gone or cost more, and `cut` are the routers at which such a one began a shortest path.
        Looks only at routers that are farther and their neighbours (Ramalingam and Reps, 1996).
        """
        weights, heads, old = self.igp.values, self.heads, before.igp.values
        farther: set[int] = set()
        near = [(distances[router], router) for router in set(cut)]
        heapq.heapify(near)
        while near:
            distance, router = heapq.heappop(near)
            if router in farther or distance == inf:
                continue
            if any(
                weights[number] + distances[heads[number]] == distance
                and heads[number] not in farther
                for number in self.leaving[router]
            ):
                continue  # another shortest path is left
            farther.add(router)
            for number in before.entering[router]:
                tail = before.tails[number]
                if old[number] + distance == distances[tail]:
                    heapq.heappush(near, (distances[tail], tail))
        tree = distances[:]
        for router in farther:
            tree[router] = inf
        near = [
            (weights[number] + tree[heads[number]], router)
            for router in farther
            for number in self.leaving[router]
        ]
        heapq.heapify(near)
        while near:
            distance, router = heapq.heappop(near)
            if distance >= tree[router]:
                continue
            tree[router] = distance
            for number in self.entering[router]:
                tail = self.tails[number]
                if tail in farther and weights[number] + distance < tree[tail]:
                    heapq.heappush(near, (weights[number] + distance, tail))
        return tree, farther

    def path(self, source: int, crossings: Sequence[int]) -> Path:
        """Return the path that starts at a router and takes these crossings."""
        return Path(
            (self.names[source], *(self.names[self.heads[number]] for number in crossings)),
            tuple(self.interfaces[number] for number in crossings),
        )

    def crossings(self, path: Path) -> tuple[int, ...]:
        """Return the numbers of a path's crossings.

        Raises NoPath when a router is unknown or an interface does not lead to the next router.
        """
        for name in path.routers:
            self.router(name)
        numbers: list[int] = []
        for end, after in zip(path.crossings(), path.routers[1:], strict=True):
            number = self.crossing(end.node, end.interface)
            if number is None or self.names[self.heads[number]] != after:
                raise NoPath(f"{end} does not lead to {after}; correct the path")
            numbers.append(number)
        return tuple(numbers)

    def measures(self, crossings: Sequence[int]) -> PathMeasures:
        """Return what a path's crossings add up to."""
        links = [self.links[number] for number in crossings]
        return PathMeasures(
            igp_metric=sum(link.metric for link in links),
            te_metric=sum(link.te for link in links),
            delay_us=sum(link.delay_us for link in links),
            hops=len(links),
            link_mtu=min((link.mtu for link in links), default=MAXIMUM_MTU),
        )
