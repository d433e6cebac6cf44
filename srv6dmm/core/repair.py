"""Repairs: where a router leads packets whose own next link has just failed.

The best repair is another next hop from which plain routing leads past what failed, not back here
(a loop-free alternate, RFC 5286): packets stay as they are, and a router without SIDs can do it.
Else it is a segment list along the path that routes will take when all have converged (TI-LFA, RFC
9855). It holds before that, too: it is made of segments that lead along the path by the routes that
others have now. Packets get a header of their own for it, which ends at an End.DT6: from there they
go on by plain routing. Links have room for it (Topology.repair_overhead), but for one: whoever
meets two failures on its way may find a packet too big.

Of the failures that a dead link may be, the greatest that leaves a way is protected against:
neighbour and shared risk links, the neighbour, shared risk links, the link.
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
        self._near: dict[str, list[tuple[LinkEnd, LinkEnd, Link]]] = {}
        """Router -> (its end, the other end, link)."""
        for link in topology.core_links():
            for here, there in (link.ends(), link.ends()[::-1]):
                self._near.setdefault(here.node, []).append((here, there, link))
        self._known: dict[tuple[str, str, str], SteeringList | None] = {}
        self._encapsulates = topology.domain.max_segments > 1
        """With one segment a list leads nowhere that a next hop would not."""

    def towards(self, router: str, target: str) -> SteeringList | None:
        """Return where packets from a router to another go when their next link fails.

        Without segments: to that next hop as they are. None where nothing leads around it.
        """
        try:
            interface, neighbour = self._paths.next_hop(router, target)
        except NoPath:
            return None
        return self._repair(router, interface, neighbour, target)

    def of_adjacency(self, router: str, interface: str) -> str | None:
        """Return an interface for packets to an End.X SID whose own interface is dead."""
        link = self._links.get(LinkEnd(router, interface))
        if link is None:
            return None
        neighbour = (link.b if link.a.node == router else link.a).node
        repair = self._repair(router, interface, neighbour, neighbour)
        return repair.interface if repair is not None else None

    def _repair(
        self, router: str, interface: str, neighbour: str, target: str
    ) -> SteeringList | None:
        key = (router, interface, target)
        if key not in self._known:
            self._known[key] = self._find(router, interface, neighbour, target)
        return self._known[key]

    def _find(
        self, router: str, interface: str, neighbour: str, target: str
    ) -> SteeringList | None:
        link = self._links[LinkEnd(router, interface)]
        for constraints in _protections(router, interface, neighbour, target, link):
            alternate = self._alternate(router, target, constraints)
            if alternate is not None:
                return alternate
            if self._encapsulates and router in self._sids:
                solution = self._around(router, target, constraints)
                if solution is not None:
                    return self._led(solution)
        return None

    def _alternate(self, router: str, target: str, constraints: Constraints) -> SteeringList | None:
        """Return the best next hop that packets to the target do not come back from."""
        best: tuple[int, str, LinkEnd, Link] | None = None
        for here, there, link in self._near.get(router, ()):
            if here in constraints.avoid_links or link.srlgs & constraints.avoid_srlgs:
                continue
            if there.node in constraints.avoid_routers:
                continue
            if not self._safe(there.node, target, router, constraints):
                continue
            cost = link.igp_metric + self._paths.distance(there.node, target)
            if best is None or (cost, here.interface) < best[:2]:
                best = (cost, here.interface, there, link)
        if best is None:
            return None
        _, interface, there, link = best
        return SteeringList((), interface, self._topology.nodes[there.node].link_local, link.mtu)

    def _led(self, solution: Solution) -> SteeringList:
        path = solution.path
        return SteeringList(
            solution.segments,
            path.interfaces[0],
            self._topology.nodes[path.routers[1]].link_local,
            solution.measures.link_mtu,
        )

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
