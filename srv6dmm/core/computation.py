"""Path computation: what is asked for in, path and segment list out (RFC 9256 section 5.2).

The answer depends on the topology alone: not on the order of a file, nor on what was computed
before.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv6Address
from math import inf

from srv6dmm.core.anycast import AnycastGroups, Member
from srv6dmm.core.compression import ALONE, Compression
from srv6dmm.core.disjoint_pair import disjoint_pair
from srv6dmm.core.graph import NoPath, Weights
from srv6dmm.core.link_weights import (
    Measure,
    apart_weights,
    exclusions,
    in_common,
    measure_weights,
    objective_weights,
)
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.search import LOOK, Budget, ListLimits, Problem, SearchLimit, candidates, search
from srv6dmm.core.segments import NO_COMPRESSION, NoSegmentList, Stop, segment_list
from srv6dmm.core.sids import sid_table
from srv6dmm.model.path import Backup, DisjointPair, Path, PathMeasures, Solution
from srv6dmm.model.policy import Constraints, DynamicPath, Waypoint
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import RouterSids, Topology

_REMEMBERED = 4096
"""Trees kept at hand, of 8 bytes per router each: policies ask for the same targets."""
_REMEMBERED_WEIGHTS = 64
"""Sets of weights kept at hand, of 8 bytes per link and direction each."""
_NEAR = 100 * LOOK
"""Labels that are looked at before trees are grown for one search alone."""
_SHORTEST = DynamicPath()

_Tree = Sequence[float]


class PathComputation:
    """Computes paths on one topology, and remembers what several of them need.

    With `ecmp`, routers of the underlay may use any next hop of equal cost, and segment lists
    allow for it. Lists are as they are sent, compressed where `compression` can do so, and that
    is what counts for every limit.
    """

    def __init__(
        self,
        topology: Topology,
        paths: ShortestPaths | None = None,
        sids: Mapping[str, RouterSids] | None = None,
        *,
        ecmp: bool = True,
        compression: Compression = NO_COMPRESSION,
    ) -> None:
        self.topology = topology
        self.paths = paths or ShortestPaths(topology)
        self.sids = sids or sid_table(topology)
        self.ecmp = ecmp
        self.limited_by_lists = 0
        """Searches whose best path had no list within the limits, so that another was taken."""
        self.compression = compression
        self._graph = self.paths.graph
        self._reserve = topology.repair_overhead()
        self._allowance: Budget | None = None
        self._groups = AnycastGroups(self.sids)
        self._leads_to = {
            sid: name for name, own in self.sids.items() for sid in (own.end, own.end_dt6)
        }
        """SID -> the router where packets are behind it."""
        for name, own in self.sids.items():
            self._leads_to |= dict.fromkeys(own.services.values(), name)
            for interface, sid in own.adjacencies.items():
                crossing = self._graph.crossing(name, interface)
                if crossing is not None:
                    self._leads_to[sid] = self._graph.names[self._graph.heads[crossing]]
        self._has_sids = [name in self.sids for name in self._graph.names]
        self._compressible = [
            own is not None and compression.slots(own.end) != ALONE
            for own in map(self.sids.get, self._graph.names)
        ]
        self._weights: dict[tuple[Measure | None, DynamicPath], Weights] = {}
        self._trees: dict[tuple[Measure | None, DynamicPath, int], array[float]] = {}

    def solve(self, head_end: str, endpoint: str, wanted: DynamicPath = _SHORTEST) -> Solution:
        """Return the best path and its segment list, which ends in the endpoint's End.DT6.

        Raises NoPath, with the reason, when no path satisfies the constraints.
        """
        wanted = self._resolved(head_end, wanted)
        return self._best(self._problem(head_end, endpoint, wanted), head_end, wanted)

    def candidates(
        self, head_end: str, endpoint: str, wanted: DynamicPath, count: int
    ) -> tuple[Solution, ...]:
        """Return up to `count` best paths, best first. Raises NoPath when there is none."""
        wanted = self._resolved(head_end, wanted)
        problem = self._problem(head_end, endpoint, wanted)

        def solutions(problem: Problem) -> tuple[Solution, ...]:
            return tuple(
                self.solution(self._graph.path(problem.source, crossings), wanted)
                for _, crossings in candidates(problem, count)
            )

        try:
            return solutions(problem)
        except NoSegmentList:
            return solutions(replace(problem, lists=self._list_limits(head_end, endpoint, wanted)))

    def backup(
        self, path: Path, wanted: DynamicPath = _SHORTEST, also: Sequence[Path] = ()
    ) -> Backup:
        """Return the best path between the same ends that has least in common with `path`.

        `also`: and with these, between the same ends as well. It shares as few links as possible,
        then as few routers, then as few SRLGs, then it is the best. Where no path is disjoint,
        the answer says what is shared: all of it, when `path` is the only one. Raises NoPath.
        """
        ends = (path.routers[0], path.routers[-1])
        wanted = self._resolved(ends[0], wanted)
        others = (path, *also)
        solution = self._disjoint(others, wanted) if not wanted.waypoints else None
        if solution is not None:
            return Backup(solution, 0, 0, 0)
        weights = apart_weights(
            self._graph, self._weights_of(wanted), others, len(wanted.waypoints) + 1
        )
        problem = self._problem(*ends, wanted, weights)
        solution = self._best(problem, ends[0], wanted)
        theirs = [self._graph.links[n] for other in others for n in self._graph.crossings(other)]
        own = [self._graph.links[number] for number in self._graph.crossings(solution.path)]
        srlgs = frozenset[int]().union(*(link.srlgs for link in theirs))
        return Backup(
            solution,
            shared_links=len(set(theirs) & set(own)),
            shared_routers=len(
                {router for other in others for router in other.routers}.intersection(
                    solution.path.routers
                ).difference(ends)
            ),
            shared_srlgs=sum(len(link.srlgs & srlgs) for link in own),
        )

    def disjoint_pair(
        self, head_end: str, endpoint: str, wanted: DynamicPath = _SHORTEST
    ) -> DisjointPair | None:
        """Return the two paths that share no router, else no link, and together are the best.

        None where every two paths share a link. Of what is asked for, the objective and what
        excludes links count here; limits on sums and waypoints are not looked at. Raises NoPath,
        and NoSegmentList where one of the two has no list within the head-end's limits.
        """
        source, target = self._graph.router(head_end), self._graph.router(endpoint)
        pair = disjoint_pair(self._graph, self._weights_of(wanted), source, target)
        if pair is None:
            return None
        first, second = (
            self.solution(self._graph.path(source, crossings), wanted)
            for crossings in (pair.first, pair.second)
        )
        return DisjointPair(first, second, pair.disjoint)

    def _disjoint(self, others: Sequence[Path], wanted: DynamicPath) -> Solution | None:
        """Return the best path that has nothing in common with others; None: there is none.

        What `backup` finds too, and slower: there, what is in common counts in large numbers.
        """
        ends = (others[0].routers[0], others[0].routers[-1])
        shared = set[int]().union(*(in_common(self._graph, path) for path in others))
        weights = self._weights_of(wanted).without(shared)
        try:
            # What is to go by all links is a bound, mostly a near one, and it is there already.
            near = replace(self._problem(*ends, wanted), weights=weights, maximum_work=_NEAR)
            return self._best(near, ends[0], wanted)
        except SearchLimit:
            pass
        except NoPath:
            return None
        try:
            return self._best(self._problem(*ends, wanted, weights), ends[0], wanted)
        except NoPath:
            return None

    def solution(self, path: Path, wanted: DynamicPath = _SHORTEST) -> Solution:
        """Return a given path with its segment list.

        Raises NoSegmentList when there is none, or none within the head-end's limits; NoPath
        when the path is not connected.
        """
        endpoint = path.routers[-1]
        own = self.sids.get(endpoint)
        if own is None:
            raise NoSegmentList(f"{endpoint} has no locator, so no path can end there")
        stops = self._stops(path, wanted)
        plain = self._lay(path, own.end_dt6, stops)
        if not self._led_by_nearest(plain, stops, path):
            # From where the list leads, others of the group are nearer: this one by name.
            plain = self._lay(path, own.end_dt6, self._by_name(path, stops))
        segments = self.compression.compress(plain)
        measures = self.measures(path)
        mtu = self.inner_mtu(measures, len(segments))
        limits = self._list_limits(path.routers[0], endpoint, wanted)
        if len(segments) > limits.maximum_segments:
            raise NoSegmentList(
                f"{path} needs {len(segments)} segments; {limits.maximum_segments} are possible"
            )
        minimum_mtu = wanted.constraints.minimum_mtu or 0
        if mtu < minimum_mtu:
            repaired = " and those of a repair" if self._reserve else ""
            raise NoSegmentList(
                f"{path} carries {mtu} bytes within its {len(segments)} segments{repaired}; "
                f"{minimum_mtu} are wanted"
            )
        return Solution(path, segments, measures, mtu)

    def reaches(self, source: str, target: str, wanted: DynamicPath) -> bool:
        """Tell whether the links that are allowed lead from a router to another at all.

        Or to one of an anycast group.
        """
        graph = self._graph
        sid = self._groups.sids.get(target)
        if sid is not None:
            return any(self.reaches(source, name, wanted) for name in self._groups.members[sid])
        return self._tree(None, wanted, graph.router(target))[graph.router(source)] < inf

    @contextmanager
    def allowing(self, budget: Budget) -> Iterator[None]:
        """Have all searches of the block together raise TooHard when they spent a budget."""
        before, self._allowance = self._allowance, budget
        try:
            yield
        finally:
            self._allowance = before

    def maximum_segments(self, head_end: str) -> int:
        """Return the most segments a list of the head-end may have."""
        domain, node = self.topology.domain, self.topology.nodes[head_end]
        return min(domain.max_segments, node.maximum_sid_depth)

    def _lay(self, path: Path, final: IPv6Address, stops: Sequence[Stop]) -> SegmentList:
        return segment_list(
            self.paths,
            self.sids,
            path,
            final,
            stops=stops,
            ecmp=self.ecmp,
            compression=self.compression,
        )

    def _led_by_nearest(self, segments: SegmentList, stops: Sequence[Stop], path: Path) -> bool:
        """Tell whether every anycast SID of a list leads to the router that the path means."""
        meant = [path.routers[place] for place, sid in stops if sid in self._groups.members]
        if not meant:
            return True
        here = path.routers[0]
        for sid in segments:
            if sid in self._groups.members:
                here = self._groups.nearest(self.paths, here, sid)
                if here != meant.pop(0):
                    return False
            else:
                here = self._leads_to[sid]
        return True

    def _by_name(self, path: Path, stops: Sequence[Stop]) -> list[Stop]:
        """Return stops with the routers' own SIDs instead of those of groups."""
        return [
            (place, self.sids[path.routers[place]].end if sid in self._groups.members else sid)
            for place, sid in stops
        ]

    def _resolved(self, head_end: str, wanted: DynamicPath) -> DynamicPath:
        """Return what is asked for with the nearest router instead of each anycast group.

        Nearest to the waypoint before, of those to which allowed links lead. Raises NoPath.
        """
        if not any(waypoint.router in self._groups.sids for waypoint in wanted.waypoints):
            return wanted
        here = head_end
        waypoints: list[Waypoint] = []
        for waypoint in wanted.waypoints:
            sid = self._groups.sids.get(waypoint.router)
            if sid is not None:
                near = [
                    (self.paths.distance(here, member), member)
                    for member in self._groups.members[sid]
                    if self.reaches(here, member, wanted)
                ]
                if not near:
                    raise NoPath(
                        f"the links that the constraints allow lead from {here!r} to no router of "
                        f"anycast group {waypoint.router}"
                    )
                waypoints.append(Member(min(near)[1], group=waypoint.router))
            else:
                waypoints.append(waypoint)
            here = waypoints[-1].router
        return replace(wanted, waypoints=tuple(waypoints))

    def inner_mtu(self, measures: PathMeasures, segments: int) -> int:
        """Return the largest packet that a path takes within so many segments, and a repair's."""
        overhead = self.topology.domain.encap_mode.overhead(segments)
        return measures.link_mtu - overhead - self._reserve

    def measures(self, path: Path) -> PathMeasures:
        """Return what a path adds up to. Raises NoPath when it is not connected."""
        return self._graph.measures(self._graph.crossings(path))

    def memory_bytes(self) -> int:
        """Return the memory of everything that is remembered between computations."""
        trees = sum(tree.itemsize * len(tree) for tree in self._trees.values())
        weights = sum(8 * len(known.values) for known in self._weights.values())
        return self.paths.tree_bytes() + trees + weights

    def _best(self, problem: Problem, head_end: str, wanted: DynamicPath) -> Solution:
        """Return the best path whose list keeps the limits.

        Mostly that of the best path does, and limits on lists make a search slow.
        """
        _, crossings = search(problem)
        try:
            return self.solution(self._graph.path(problem.source, crossings), wanted)
        except NoSegmentList:
            self.limited_by_lists += 1
            endpoint = self._graph.names[problem.target]
            problem = replace(problem, lists=self._list_limits(head_end, endpoint, wanted))
            _, crossings = search(problem)
            return self.solution(self._graph.path(problem.source, crossings), wanted)

    def _list_limits(self, head_end: str, endpoint: str, wanted: DynamicPath) -> ListLimits:
        domain, constraints = self.topology.domain, wanted.constraints
        maximum = self.maximum_segments(head_end)
        if constraints.maximum_segments is not None:
            maximum = min(maximum, constraints.maximum_segments)
        return ListLimits(
            self.paths,
            self.ecmp,
            self._has_sids,
            self._compressible,
            tuple(self._service_slots(waypoint) for waypoint in wanted.waypoints),
            self.compression.slots(self.sids[endpoint].end_dt6),
            maximum,
            constraints.minimum_mtu + self._reserve if constraints.minimum_mtu else 0,
            domain.encap_mode,
        )

    def _service_slots(self, waypoint: Waypoint) -> int:
        own = self.sids.get(waypoint.router)
        sid = own.services.get(waypoint.service or "") if own is not None else None
        return self.compression.slots(sid) if sid is not None else ALONE

    def _stops(self, path: Path, wanted: DynamicPath) -> list[Stop]:
        """Return where packets are handed to services: at the first passage, in order."""
        stops: list[Stop] = []
        place = 0
        for waypoint in wanted.waypoints:
            try:
                place = path.routers.index(waypoint.router, place)
            except ValueError:
                raise NoPath(f"{path} does not pass waypoint {waypoint.router} in order") from None
            if isinstance(waypoint, Member):
                stops.append((place, self._groups.sids[waypoint.group]))
            elif waypoint.service is not None:
                own = self.sids.get(waypoint.router)
                if own is None or waypoint.service not in own.services:
                    raise NoPath(f"{waypoint.router} has no service {waypoint.service!r}")
                stops.append((place, own.services[waypoint.service]))
        return stops

    def _problem(
        self, head_end: str, endpoint: str, wanted: DynamicPath, weights: Weights | None = None
    ) -> Problem:
        """Return what to search for; other `weights` than the objective's are not remembered."""
        graph, constraints = self._graph, wanted.constraints
        source, target = graph.router(head_end), graph.router(endpoint)
        if not self._has_sids[target]:
            raise NoPath(f"{endpoint!r} has no locator, so no path can end there")
        waypoints = tuple(graph.router(waypoint.router) for waypoint in wanted.waypoints)
        stops = (*waypoints, target)
        own = weights or self._weights_of(wanted)
        if weights is None:
            to_go = _legs([self._tree(None, wanted, stop) for stop in stops], stops)
        else:
            to_go = _legs([graph.distances(weights, stop) for stop in stops], stops)
        if to_go[0][source] == inf:
            raise NoPath(
                f"no path from {head_end!r} to {endpoint!r} over the waypoints and the links that "
                "the constraints allow"
            )
        problem = Problem(
            graph,
            own,
            source,
            target,
            to_go,
            waypoints,
            services=tuple(
                waypoint.service is not None or isinstance(waypoint, Member)
                for waypoint in wanted.waypoints
            ),
            allowance=self._allowance,
        )
        problem = self._required(problem, constraints)
        if constraints.maximum_delay_us is not None:
            delays = _legs([self._tree(Measure.DELAY, wanted, stop) for stop in stops], stops)
            if delays[0][source] > constraints.maximum_delay_us:
                raise NoPath(
                    f"the least delay from {head_end!r} to {endpoint!r} is "
                    f"{delays[0][source]:.0f} us; {constraints.maximum_delay_us} are allowed"
                )
            problem = replace(
                problem, maximum_delay_us=constraints.maximum_delay_us, delay_to_go=delays
            )
        if constraints.maximum_hops is not None:
            hops = _legs([self._tree(Measure.HOPS, wanted, stop) for stop in stops], stops)
            if hops[0][source] > constraints.maximum_hops:
                raise NoPath(
                    f"the fewest links from {head_end!r} to {endpoint!r} are "
                    f"{hops[0][source]:.0f}; {constraints.maximum_hops} are allowed"
                )
            problem = replace(problem, maximum_hops=constraints.maximum_hops, hops_to_go=hops)
        return problem

    def _required(self, problem: Problem, constraints: Constraints) -> Problem:
        """Return the problem with one bit per requirement."""
        graph = self._graph
        of_routers: dict[int, int] = {}
        of_crossings: dict[int, int] = {}
        bit = 1
        for name in sorted(constraints.require_routers):
            of_routers[graph.router(name)] = bit
            bit <<= 1
        for end in sorted(constraints.require_links, key=str):
            number = graph.crossing(end.node, end.interface)
            if number is None:
                raise NoPath(f"{end} is no link between routers")
            for crossing in (number, graph.opposite[number]):
                of_crossings[crossing] = of_crossings.get(crossing, 0) | bit
            bit <<= 1
        for srlg in sorted(constraints.require_srlgs):
            for crossing, link in enumerate(graph.links):
                if srlg in link.srlgs:
                    of_crossings[crossing] = of_crossings.get(crossing, 0) | bit
            bit <<= 1
        if bit == 1:
            return problem
        return replace(
            problem, marks_of_routers=of_routers, marks_of_crossings=of_crossings, required=bit - 1
        )

    def _weights_of(self, wanted: DynamicPath, measure: Measure | None = None) -> Weights:
        """Return the weights of the objective, or of a measure, over the links allowed."""
        weighed = _weighed(wanted)
        key = (measure, weighed)
        weights = self._weights.get(key)
        if weights is None:
            constraints = weighed.constraints
            if measure is None:
                weights = objective_weights(self._graph, weighed.objective)
            else:
                weights = measure_weights(self._graph, measure)
            if constraints != Constraints():
                excluded = exclusions(self._graph, constraints, self.link_mtu(constraints))
                weights = weights.without(set[int]().union(*(group for _, group in excluded)))
            if len(self._weights) >= _REMEMBERED_WEIGHTS:
                del self._weights[next(iter(self._weights))]
            self._weights[key] = weights
        return weights

    def link_mtu(self, constraints: Constraints) -> int:
        """Return what every link must carry so that one segment can be enough, in bytes."""
        if constraints.minimum_mtu is None:
            return 0
        overhead = self.topology.domain.encap_mode.overhead(1)
        return constraints.minimum_mtu + overhead + self._reserve

    def _tree(self, measure: Measure | None, wanted: DynamicPath, target: int) -> _Tree:
        """Return every router's distance to the target by the objective, or by a measure."""
        weighed = _weighed(wanted)
        if measure is None and weighed == _SHORTEST:
            return self.paths.tree(target)
        key = (measure, weighed, target)
        tree = self._trees.get(key)
        if tree is None:
            weights = self._weights_of(wanted, measure)
            tree = array("d", self._graph.distances(weights, target))
            if len(self._trees) >= _REMEMBERED:
                del self._trees[next(iter(self._trees))]
            self._trees[key] = tree
        return tree


def _weighed(wanted: DynamicPath) -> DynamicPath:
    """Return the part of what is asked for that weights depend on."""
    constraints = wanted.constraints
    return DynamicPath(
        wanted.objective,
        Constraints(
            include_any=constraints.include_any,
            include_all=constraints.include_all,
            exclude_any=constraints.exclude_any,
            avoid_routers=constraints.avoid_routers,
            avoid_links=constraints.avoid_links,
            avoid_srlgs=constraints.avoid_srlgs,
            minimum_mtu=constraints.minimum_mtu,
        ),
    )


def _legs(trees: Sequence[_Tree], stops: Sequence[int]) -> list[_Tree]:
    """Return, by number of waypoints passed, every router's distance over those still to come."""
    legs: list[_Tree] = [trees[-1]]
    for number in range(len(stops) - 2, -1, -1):
        beyond = legs[0][stops[number]]
        legs.insert(0, [distance + beyond for distance in trees[number]])
    return legs
