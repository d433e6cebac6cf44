"""What crossing each link costs a path: its objective, and the links its constraints exclude."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from math import inf

from srv6dmm.core.graph import Graph, Weights
from srv6dmm.model.path import Path
from srv6dmm.model.policy import Constraints, Objective
from srv6dmm.model.topology import MAX_DELAY_US, MAX_METRIC, Link


class Measure(Enum):
    """A sum over the links of a path that may be limited."""

    DELAY = auto()
    """Microseconds."""
    HOPS = auto()


def exclusion(link: Link, constraints: Constraints, link_mtu: int = 0) -> str | None:
    """Return why a path under these constraints may not cross the link; None: it may.

    `link_mtu` is the least that the link must carry, in bytes.
    """
    if constraints.include_any and not constraints.include_any & link.affinities:
        return f"it has no affinity of {_words(constraints.include_any)}"
    if not constraints.include_all <= link.affinities:
        return f"it lacks affinity {_words(constraints.include_all - link.affinities)}"
    if constraints.exclude_any & link.affinities:
        return f"it has affinity {_words(constraints.exclude_any & link.affinities)}"
    if constraints.avoid_srlgs & link.srlgs:
        return f"it is in SRLG {_words(map(str, constraints.avoid_srlgs & link.srlgs))}"
    for end in link.ends():
        if end.node in constraints.avoid_routers:
            return f"{end.node} is avoided"
        if end in constraints.avoid_links:
            return f"link {end} is avoided"
    if link.mtu < link_mtu:
        return f"its MTU {link.mtu} is less than {link_mtu}"
    return None


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def objective_weights(
    graph: Graph, objective: Objective, constraints: Constraints, link_mtu: int
) -> Weights:
    """Return the weight of every crossing; infinite where constraints exclude the link.

    `link_mtu` is the least that a link must carry, in bytes.
    Of paths of equal delay the one with fewer links is lighter, because delays may be 0 and
    weights must not. A drained link weighs as much as a link can.
    """
    free = constraints == Constraints()
    routers = len(graph.names)
    values: list[float] = []
    for link in graph.links:
        if not free and exclusion(link, constraints, link_mtu) is not None:
            values.append(inf)
        elif objective is Objective.IGP:
            values.append(link.igp_metric)
        elif objective is Objective.TE:
            values.append(MAX_METRIC if link.drained else link.te)
        else:
            delay_us = MAX_DELAY_US if link.drained else link.delay_us
            values.append(delay_us * routers + 1)
    return Weights.of(values)


def apart_weights(graph: Graph, weights: Weights, other: Path, legs: int) -> Weights:
    """Return weights by which having anything in common with another path costs more.

    More than any path with less in common costs: first links count, then routers between the
    ends, then shared risk link groups, then the weights given. `legs` is the number of pieces
    of a path within which no router is passed twice.
    """
    crossings = graph.crossings(other)
    links = {*crossings, *(graph.opposite[number] for number in crossings)}
    routers = {graph.index[name] for name in other.routers[1:-1]}
    routers -= {graph.index[other.routers[0]], graph.index[other.routers[-1]]}
    srlgs = frozenset[int]().union(*(graph.links[number].srlgs for number in crossings))
    risks = [len(link.srlgs & srlgs) if srlgs else 0 for link in graph.links]
    risk = weights.largest * len(graph.names) * legs + 1
    router = risk * (sum(risks) * legs + 1)
    shared = router * (len(routers) * legs + 1)
    return Weights.of(
        [
            value
            + risk * risks[number]
            + (router if graph.heads[number] in routers else 0)
            + (shared if number in links else 0)
            for number, value in enumerate(weights.values)
        ]
    )


def measure_weights(graph: Graph, measure: Measure, allowed: Weights) -> Weights:
    """Return what every crossing adds to a measure; infinite where it is not allowed."""
    return Weights.of(
        [
            inf if value == inf else link.delay_us if measure is Measure.DELAY else 1
            for link, value in zip(graph.links, allowed.values, strict=True)
        ]
    )
