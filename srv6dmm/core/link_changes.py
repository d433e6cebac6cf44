"""What a change of links is, and which shortest paths it touches."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from srv6dmm.core.paths import Hop, NoPath, ShortestPaths
from srv6dmm.model.path import Path
from srv6dmm.model.topology import Link, LinkEnd, Topology


@dataclass(frozen=True, slots=True)
class LinkChanges:
    """Links that differ between two topologies with the same nodes."""

    gone: tuple[Link, ...]
    """As they were: those that are no more, and those that are not as they were."""
    come: tuple[Link, ...]
    """As they are: those that are new, and those that were otherwise."""
    worse: bool
    """Whatever came only costs more than before, and was there before."""

    @property
    def ends(self) -> frozenset[LinkEnd]:
        """Every end of a link that differs."""
        return frozenset(end for link in (*self.gone, *self.come) for end in link.ends())


def link_changes(before: Topology, after: Topology) -> LinkChanges | None:
    """Return how links differ; None when anything else differs too."""
    if before.domain != after.domain or before.nodes != after.nodes:
        return None
    same = {id(link) for link in before.links} & {id(link) for link in after.links}
    old = {link.ends(): link for link in before.links if id(link) not in same}
    new = {link.ends(): link for link in after.links if id(link) not in same}
    gone = tuple(link for ends, link in old.items() if new.get(ends) != link)
    come = tuple(link for ends, link in new.items() if old.get(ends) != link)
    return LinkChanges(gone, come, all(_worse(old.get(link.ends()), link) for link in come))


def _worse(old: Link | None, new: Link) -> bool:
    """Tell whether a link costs more than it did, and is otherwise as it was."""
    return (
        old is not None
        and replace(old, metric=new.metric, te_metric=new.te_metric, drained=new.drained) == new
        and new.igp_metric >= old.igp_metric
        and (new.drained or new.te >= old.te)
    )


class Moves:
    """Where shortest paths start otherwise than before, by target.

    The two sets of shortest paths are over the same routers. Trees that the change does not touch
    are taken over from one to the other; where links only got worse the others are mended, else
    they are grown anew.
    """

    def __init__(self, before: ShortestPaths, after: ShortestPaths, changes: LinkChanges) -> None:
        self._before = before
        self._after = after
        index = after.graph.index
        self._gone = _costs(changes.gone, index)
        self._come = _costs(changes.come, index)
        self._ends = {tail for tail, _, _ in (*self._gone, *self._come)}
        self._worse = changes.worse
        self._found: dict[int, frozenset[int]] = {}
        self._farther: dict[int, set[int]] = {}
        """By target: the routers whose distance is not what it was."""
        after.take_over(before, self._tree)

    def _tree(self, target: int, distances: array[float]) -> array[float] | None:
        """Return the tree of a target as it is now; None: it must be grown."""
        cut = [t for t, head, cost in self._gone if distances[t] == cost + distances[head]]
        if not cut and all(distances[t] < cost + distances[h] for t, h, cost in self._come):
            self._found[target] = frozenset()
            return distances
        if not self._worse:
            return None
        tree, self._farther[target] = self._after.graph.mended(distances, cut, self._before.graph)
        return tree

    def of(self, target: int) -> frozenset[int]:
        """Return the routers whose shortest paths to the target start otherwise than before."""
        found = self._found.get(target)
        if found is None:
            found = self._found[target] = frozenset(self._find(target))
        return found

    def _find(self, target: int) -> Iterator[int]:
        farther = self._farther.get(target)
        if farther is None:
            old, new = self._before.tree(target), self._after.tree(target)
            farther = {n for n, (one, two) in enumerate(zip(old, new, strict=True)) if one != two}
        looked = self._ends | farther
        for graph in (self._before.graph, self._after.graph):
            for router in farther:
                looked.update(graph.tails[crossing] for crossing in graph.entering[router])
        for router in sorted(looked):
            if _starts(self._before, router, target) != _starts(self._after, router, target):
                yield router

    def hops(self) -> Iterator[tuple[str, str]]:
        """Yield (router, target) of every next hop that differs, by target and router."""
        names = self._after.graph.names
        for target, name in enumerate(names):
            for router in sorted(self.of(target)):
                if hop(self._before, names[router], name) != hop(self._after, names[router], name):
                    yield names[router], name

    def touch(self, paths: Iterable[Path]) -> bool:
        """Tell whether shortest paths between routers of any one of these paths have moved."""
        index = self._after.graph.index
        for path in paths:
            numbers = {index[router] for router in path.routers}
            if any(not numbers.isdisjoint(self.of(number)) for number in numbers):
                return True
        return False


def hop(paths: ShortestPaths, router: str, target: str) -> Hop | None:
    """Return (interface, neighbour) towards a router; None at it, and where no path leads."""
    if router == target:
        return None
    try:
        return paths.next_hop(router, target)
    except NoPath:
        return None


def _costs(links: Iterable[Link], index: dict[str, int]) -> list[tuple[int, int, int]]:
    """Return (tail, head, metric) of links between routers, in both directions."""
    return [
        (index[here.node], index[there.node], link.igp_metric)
        for link in links
        for here, there in (link.ends(), link.ends()[::-1])
        if here.node in index and there.node in index
    ]


def _starts(paths: ShortestPaths, router: int, target: int) -> list[Hop]:
    return [paths.hop(crossing) for crossing in paths.shortest_crossings(router, target)]
