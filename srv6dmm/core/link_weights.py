"""What crossing each link costs a path: its objective, and the links its constraints exclude."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto

from srv6dmm.core.graph import Graph, Weights
from srv6dmm.model.path import Path
from srv6dmm.model.policy import Constraints, Objective
from srv6dmm.model.topology import MAX_DELAY_US, MAX_METRIC


class Measure(Enum):
    """A sum over the links of a path that may be limited."""

    DELAY = auto()
    """Microseconds."""
    HOPS = auto()


def exclusions(
    graph: Graph, constraints: Constraints, link_mtu: int = 0
) -> Iterator[tuple[str, set[int]]]:
    """Yield (reason, crossings) of what a path under these constraints may not cross.

    `link_mtu` is the least that a link must carry, in bytes.
    """
    everything = set(range(len(graph.links)))

    def having(names: Iterable[str]) -> set[int]:
        return set().union(*(graph.by_affinity.get(name, ()) for name in names))

    if constraints.include_any:
        names = ", ".join(sorted(constraints.include_any))
        yield (f"it has no affinity of {names}", everything - having(constraints.include_any))
    for name in sorted(constraints.include_all):
        yield (f"it lacks affinity {name}", everything - having((name,)))
    for name in sorted(constraints.exclude_any):
        yield (f"it has affinity {name}", having((name,)))
    for srlg in sorted(constraints.avoid_srlgs):
        yield (f"it is in SRLG {srlg}", graph.by_srlg.get(srlg, set()))
    for name in sorted(constraints.avoid_routers):
        number = graph.index.get(name)
        leaving = graph.leaving[number] if number is not None else ()
        yield (f"{name} is avoided", {*leaving, *(graph.opposite[away] for away in leaving)})
    for end in sorted(constraints.avoid_links, key=str):
        number = graph.crossing(end.node, end.interface)
        both = set() if number is None else {number, graph.opposite[number]}
        yield (f"link {end} is avoided", both)
    if link_mtu:
        small = {number for number, link in enumerate(graph.links) if link.mtu < link_mtu}
        yield (f"its MTU is less than {link_mtu}", small)


def objective_weights(graph: Graph, objective: Objective) -> Weights:
    """Return what every crossing adds to a path's objective.

    Of paths of equal delay the one with fewer links is lighter, because delays may be 0 and
    weights must not. A drained link weighs as much as a link can.
    """
    match objective:
        case Objective.IGP:
            return graph.igp
        case Objective.TE:
            return Weights.of([MAX_METRIC if link.drained else link.te for link in graph.links])
        case Objective.DELAY:
            routers = len(graph.names)
            return Weights.of(
                [
                    (MAX_DELAY_US if link.drained else link.delay_us) * routers + 1
                    for link in graph.links
                ]
            )


def measure_weights(graph: Graph, measure: Measure) -> Weights:
    """Return what every crossing adds to a measure."""
    if measure is Measure.HOPS:
        return Weights.of([1] * len(graph.links))
    return Weights.of([link.delay_us for link in graph.links])


def in_common(graph: Graph, other: Path) -> set[int]:
    """Return the crossings of links, routers between the ends and SRLGs of another path."""
    crossings = graph.crossings(other)
    found = {*crossings}
    for router in {*other.routers[1:-1]} - {other.routers[0], other.routers[-1]}:
        found.update(graph.leaving[graph.index[router]])
    for number in crossings:
        for srlg in graph.links[number].srlgs:
            found |= graph.by_srlg[srlg]
    return found | {graph.opposite[number] for number in found}


def apart_weights(graph: Graph, weights: Weights, others: Sequence[Path], legs: int) -> Weights:
    """Return weights by which having anything in common with other paths costs more.

    More than any path with less in common costs: first links count, then routers between the
    ends, then shared risk link groups, then the weights given. `legs` is the number of pieces
    of a path within which no router is passed twice.
    """
    crossings = [number for other in others for number in graph.crossings(other)]
    links = {*crossings, *(graph.opposite[number] for number in crossings)}
    routers = {graph.index[name] for other in others for name in other.routers[1:-1]}
    for other in others:
        routers -= {graph.index[other.routers[0]], graph.index[other.routers[-1]]}
    srlgs = frozenset[int]().union(*(graph.links[number].srlgs for number in crossings))
    risks = [len(link.srlgs & srlgs) if srlgs else 0 for link in graph.links]
    risk = weights.largest * len(graph.names) * legs + 1
    router = risk * (sum(risks) * legs + 1)
    shared = router * (len(routers) * legs + 1)
    values = [
        value
        + risk * risks[number]
        + (router if graph.heads[number] in routers else 0)
        + (shared if number in links else 0)
        for number, value in enumerate(weights.values)
    ]
    most = weights.largest + risk * max(risks, default=0) + router + shared
    return Weights(values, most)
