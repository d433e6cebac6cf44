"""Repairs: where a router leads packets whose own next link has just failed (TI-LFA).

A repair is a segment list along the path that routes will take when all have converged. It holds
before that, too: it is made of segments that lead along the path by the routes that others have
now. Packets get a header of their own for it, which ends at an End.DT6: from there they go on by
plain routing. Of the failures that a dead link may be, the greatest that leaves a path is
protected against: neighbour and shared risk links, the neighbour, shared risk links, the link.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from srv6dmm.core.computation import PathComputation
from srv6dmm.core.graph import NoPath
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.segments import NoSegmentList
from srv6dmm.model.path import Solution
from srv6dmm.model.plan import SteeringList
from srv6dmm.model.policy import Constraints, DynamicPath
from srv6dmm.model.topology import Link, LinkEnd, RouterSids, Topology


class Repairs:
    """Repairs on one topology, as its links are now."""

    def __init__(
        self,
        topology: Topology,
        paths: ShortestPaths,
        computation: PathComputation,
        sids: Mapping[str, RouterSids],
    ) -> None:
        self._topology = topology
        self._paths = paths
        self._computation = computation
        self._sids = sids
        self._links = {end: link for link in topology.links for end in link.ends()}
        self._known: dict[tuple[str, str, str], Solution | None] = {}

    def towards(self, router: str, target: str) -> SteeringList | None:
        """Return where packets from a router to another go when their next link fails.

        None where no list leads around it, and at a router without SIDs, which makes no headers.
        """
        if router not in self._sids:
            return None
        try:
            interface, neighbour = self._paths.next_hop(router, target)
        except NoPath:
            return None
        solution = self._solution(router, interface, neighbour, target)
        if solution is None:
            return None
        path = solution.path
        return SteeringList(
            solution.segments,
            path.interfaces[0],
            self._topology.nodes[path.routers[1]].link_local,
            solution.measures.link_mtu,
        )

    def of_adjacency(self, router: str, interface: str) -> str | None:
        """Return an interface for packets to an End.X SID whose own interface is dead."""
        link = self._links.get(LinkEnd(router, interface))
        if link is None or router not in self._sids:
            return None
        neighbour = (link.b if link.a.node == router else link.a).node
        solution = self._solution(router, interface, neighbour, neighbour)
        return solution.path.interfaces[0] if solution is not None else None

    def _solution(
        self, router: str, interface: str, neighbour: str, target: str
    ) -> Solution | None:
        key = (router, interface, target)
        if key not in self._known:
            self._known[key] = self._find(router, interface, neighbour, target)
        return self._known[key]

    def _find(self, router: str, interface: str, neighbour: str, target: str) -> Solution | None:
        link = self._links[LinkEnd(router, interface)]
        for constraints in _protections(router, interface, neighbour, target, link):
            found = self._around(router, target, constraints)
            if found is not None:
                return found
        return None

    def _around(self, router: str, target: str, constraints: Constraints) -> Solution | None:
        """Return the best list around what is avoided, to the target or to where it is safe."""
        if target in self._sids:
            return self._solve(router, target, constraints)
        best: tuple[int, str] | None = None
        for release in sorted(self._sids):
            if release == router or not self._safe(release, target, router, constraints):
                continue
            solution = self._solve(router, release, constraints)
            if solution is None:
                continue
            cost = solution.measures.igp_metric + self._paths.distance(release, target)
            if best is None or (cost, release) < best:
                best = (cost, release)
        return None if best is None else self._solve(router, best[1], constraints)

    def _safe(self, release: str, target: str, router: str, constraints: Constraints) -> bool:
        """Tell whether plain routing leads from a router to the target past what is avoided."""
        try:
            path = self._paths.links(release, target)
        except NoPath:
            return False
        if router in path.routers or constraints.avoid_routers & set(path.routers):
            return False
        return not any(self._links[end].srlgs & constraints.avoid_srlgs for end in path.crossings())

    def _solve(self, router: str, target: str, constraints: Constraints) -> Solution | None:
        try:
            return self._computation.solve(router, target, DynamicPath(constraints=constraints))
        except (NoPath, NoSegmentList):
            return None


def _protections(
    router: str, interface: str, neighbour: str, target: str, link: Link
) -> Iterator[Constraints]:
    """Yield what to avoid, the greatest failure first."""
    links = frozenset({LinkEnd(router, interface)})
    routers = frozenset({neighbour}) - {target}
    tried: set[tuple[frozenset[str], frozenset[int]]] = set()
    for avoided, risks in (
        (routers, link.srlgs),
        (routers, frozenset()),
        (frozenset(), link.srlgs),
        (frozenset(), frozenset()),
    ):
        if (avoided, risks) not in tried:
            tried.add((avoided, risks))
            yield Constraints(avoid_links=links, avoid_routers=avoided, avoid_srlgs=risks)
