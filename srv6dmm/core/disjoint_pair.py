"""Disjoint pairs: two paths between the same routers that share nothing, together the best.

Suurballe's algorithm (Networks 4, 1974; Suurballe and Tarjan 1984). The best path is not always one
of the two: taking it first, and what is left after it, finds no pair where it stands in the way.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from srv6dmm.core.graph import Graph, Weights
from srv6dmm.model.path import Disjoint

_State = tuple[int, bool]
"""(router, whether the search may only go back along the first path from there)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two paths as numbers of crossings, the better one first."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    disjoint: Disjoint


def disjoint_pair(graph: Graph, weights: Weights, source: int, target: int) -> Pair | None:
    """Return the pair of paths with the smallest sum of weights that share no router.

    Where there is none, of those that share no link. None: every pair of paths shares a link, or
    there is no path at all. Weights are above 0. Deterministic.
    """
    distances = graph.distances(weights, target)
    if source == target or distances[source] == inf:
        return None
    first = _shortest(graph, weights, distances, source, target)
    for kind in Disjoint:
        second = _second(
            graph, weights, distances, first, (source, target), kind is Disjoint.ROUTERS
        )
        if second is not None:
            return Pair(*_untangled(graph, weights, first, second, source), kind)
    return None


def _shortest(
    graph: Graph, weights: Weights, distances: Sequence[float], source: int, target: int
) -> list[int]:
    """Return a shortest path; of several, the one whose crossings have the smallest numbers."""
    crossings: list[int] = []
    here = source
    while here != target:
        number = next(
            number
            for number in graph.leaving[here]
            if weights.values[number] + distances[graph.heads[number]] == distances[here]
        )
        crossings.append(number)
        here = graph.heads[number]
    return crossings


def _second(
    graph: Graph,
    weights: Weights,
    distances: Sequence[float],
    first: Sequence[int],
    ends: tuple[int, int],
    routers: bool,
) -> list[int] | None:
    """Return the best way through what the first path leaves, which may go back along it.

    `routers`: a router of the first path may be passed only by going back along that.
    """
    source, target = ends
    back = {graph.heads[number]: graph.opposite[number] for number in first}
    forbidden = frozenset(first)
    inner = frozenset(graph.tails[number] for number in first) - {source} if routers else ()

    def onwards(state: _State) -> Iterator[tuple[float, _State, int]]:
        router, bound = state
        behind = back.get(router)
        for number in graph.leaving[router]:
            head = graph.heads[number]
            if number == behind:
                yield (0, (head, False), number)
            elif not bound and number not in forbidden:
                length = weights.values[number] + distances[head] - distances[router]
                yield (length, (head, head in inner), number)  # infinite ones lead nowhere

    best: dict[_State, float] = {(source, False): 0}
    came_by: dict[_State, tuple[_State, int]] = {}
    near: list[tuple[float, _State]] = [(0, (source, False))]
    while near:
        distance, state = heapq.heappop(near)
        if state[0] == target:
            crossings = []
            while state in came_by:
                state, number = came_by[state]
                crossings.append(number)
            return crossings[::-1]
        if distance > best[state]:
            continue
        for length, following, number in onwards(state):
            further = distance + length
            if further < best.get(following, inf):
                best[following] = further
                came_by[following] = (state, number)
                heapq.heappush(near, (further, following))
    return None


def _untangled(
    graph: Graph, weights: Weights, first: Sequence[int], second: Sequence[int], source: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the two paths that are left when what is crossed in both directions is taken out."""
    both = {*first, *second}
    kept = sorted(number for number in both if graph.opposite[number] not in both)
    leaving: dict[int, list[int]] = {}
    for number in kept:
        leaving.setdefault(graph.tails[number], []).append(number)
    paths: list[tuple[int, ...]] = []
    for start in leaving[source]:
        crossings, here = [start], graph.heads[start]
        while leaving.get(here):
            number = leaving[here].pop(0)
            crossings.append(number)
            here = graph.heads[number]
        paths.append(tuple(crossings))

    def length(path: tuple[int, ...]) -> float:
        return sum(weights.values[number] for number in path)

    one, other = sorted(paths, key=lambda path: (length(path), path))
    return one, other
