"""The search for a best path under limits: labels in the order of what they lead to.

A label is the beginning of a path. Labels are taken in the order of (weight so far plus the
least weight that is still to come, crossings), so the first one that arrives is the best path
and, among equals, the one whose crossings have the smallest numbers. Without limits the search
walks straight to the target. A label is dropped when another at the same router is at least as
good in everything that is limited (dominance), or when what is still to come breaks a limit.

That no router is passed twice between waypoints follows by itself while only sums are limited.
Where requirements or segment lists could make a detour over the same router pay, the search is
repeated with the routers that its result passed twice in mind, until there are none.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from srv6dmm.core.compression import ALONE, after, containers
from srv6dmm.core.graph import MAXIMUM_MTU, Graph, NoPath, Weights
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.sid import EncapMode

MAXIMUM_WORK = 2_000_000
"""Comparisons of labels before a search is given up: about a second."""
LOOK = 25
"""What looking at a label takes, in comparisons."""

Crossings = tuple[int, ...]

Openings = tuple[tuple[int, int], ...]
"""(slots used up by the segments before the one under way, place where that one starts): fewer
slots first, and each further one starts later. See RFC 8402 section 3 and core.compression;
`core.segments` lays the list itself."""


class SearchLimit(NoPath):
    """There may be a path, but it was not found within MAXIMUM_WORK."""


class TooHard(Srv6dmmError):
    """Several searches together took more work than they were allowed."""


class Budget:
    """Work that searches may still do, in comparisons of labels."""

    def __init__(self, work: int = MAXIMUM_WORK, error: type[Srv6dmmError] = TooHard) -> None:
        """`error` is raised when it is spent."""
        self._all = self._left = work
        self._error = error

    def spend(self, work: int) -> None:
        """Take note of work that was done."""
        self._left -= work
        if self._left < 0:
            raise self._error(f"gave up after {self._all} comparisons; loosen the constraints")


@dataclass(frozen=True, slots=True)
class ListLimits:
    """Limits that depend on the segment list a path needs."""

    paths: ShortestPaths
    ecmp: bool
    has_sids: Sequence[bool]
    """By router."""
    compressible: Sequence[bool]
    """By router: its End takes one slot of a container, its End.X SIDs take two."""
    service_slots: Sequence[int]
    """By waypoint: what its service SID takes."""
    final_slots: int
    maximum_segments: int
    """SIDs, as sent."""
    minimum_mtu: int
    """Bytes of inner packet; 0: no limit."""
    mode: EncapMode

    def segments(self, used: int) -> int:
        """Return the SIDs of a list that has only its last one to come."""
        return containers(after(used, self.final_slots))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched for."""

    graph: Graph
    weights: Weights
    """To be minimised in sum."""
    source: int
    target: int
    to_go: Sequence[Sequence[float]]
    """By number of waypoints passed and router: the least weight still to come."""
    waypoints: tuple[int, ...] = ()
    services: tuple[bool, ...] = ()
    """Whether a service SID is due at each waypoint."""
    maximum_delay_us: float = inf
    delay_to_go: Sequence[Sequence[float]] = ()
    maximum_hops: float = inf
    hops_to_go: Sequence[Sequence[float]] = ()
    marks_of_routers: dict[int, int] = field(default_factory=dict)
    """Router -> bits of the requirements that are met there."""
    marks_of_crossings: dict[int, int] = field(default_factory=dict)
    required: int = 0
    """All bits."""
    lists: ListLimits | None = None
    maximum_work: int = MAXIMUM_WORK
    """The search is given up after so many comparisons."""
    allowance: Budget | None = None
    """Of this search and others together."""

    @property
    def limited(self) -> bool:
        """Tell whether anything but the weight matters."""
        bounded = self.maximum_delay_us < inf or self.maximum_hops < inf
        return bounded or bool(self.required) or self.lists is not None


@dataclass(slots=True)
class _Label:
    crossings: Crossings
    router: int
    weight: float
    passed: int
    """Waypoints."""
    delay_us: int
    met: int
    mtu: int
    openings: Openings
    seen: frozenset[int]
    """Routers in mind that were passed since the last waypoint."""


@dataclass(frozen=True, slots=True)
class Spur:
    """Where a search starts instead of at the source, and where it may not go from there."""

    root: Crossings
    barred: frozenset[int]
    """Crossings that may not be the next one."""


_NO_SPUR = Spur((), frozenset())


def search(problem: Problem, spur: Spur = _NO_SPUR) -> tuple[float, Crossings]:
    """Return (weight, crossings) of the best path that starts with the spur's root.

    Raises NoPath when there is none, SearchLimit when the search was given up, and TooHard when
    it took the last of the problem's allowance.
    """
    budgets = [Budget(problem.maximum_work, SearchLimit)]
    if problem.allowance is not None:
        budgets.append(problem.allowance)
    if spur is _NO_SPUR and not problem.limited and not problem.waypoints:
        return _lightest(problem, budgets)
    revisited: frozenset[int] = frozenset()
    while True:
        found = _Search(problem, spur, revisited, budgets).run()
        again = _passed_twice(problem, found.crossings)
        if not again:
            return found.weight, found.crossings
        revisited |= again


def _lightest(problem: Problem, budgets: Sequence[Budget]) -> tuple[float, Crossings]:
    """Search where nothing but the weight matters: the first label at a router is its best."""
    graph, values, to_go = problem.graph, problem.weights.values, problem.to_go[0]
    heads, target = graph.heads, problem.target
    near: list[tuple[float, Crossings, float, int]] = [
        (to_go[problem.source], (), 0, problem.source)
    ]
    left: set[int] = set()
    while near:
        _, crossings, weight, router = heapq.heappop(near)
        if router == target:
            return weight, crossings
        if router in left:
            continue
        left.add(router)
        for budget in budgets:
            budget.spend(LOOK)
        for number in graph.leaving[router]:
            head = heads[number]
            further = weight + values[number]
            least = further + to_go[head]
            if least < inf and head not in left:
                heapq.heappush(near, (least, (*crossings, number), further, head))
    raise _none(problem)


def _none(problem: Problem) -> NoPath:
    names = problem.graph.names
    return NoPath(
        f"no path from {names[problem.source]!r} to {names[problem.target]!r} satisfies "
        "the constraints"
    )


def _passed_twice(problem: Problem, crossings: Crossings) -> frozenset[int]:
    """Return the routers that a path passes twice between two waypoints."""
    again: set[int] = set()
    seen: set[int] = set()
    passed = 0
    for router in (problem.source, *(problem.graph.heads[number] for number in crossings)):
        if router in seen:
            again.add(router)
        seen.add(router)
        while passed < len(problem.waypoints) and problem.waypoints[passed] == router:
            passed += 1
            seen = {router}
    return frozenset(again)


class _Search:
    def __init__(
        self, problem: Problem, spur: Spur, in_mind: frozenset[int], budgets: Sequence[Budget]
    ) -> None:
        self._budgets = budgets
        self._problem = problem
        self._spur = spur
        self._in_mind = in_mind
        self._kept: dict[tuple[int, int], list[_Label]] = {}

    def run(self) -> _Label:
        problem = self._problem
        start = self._start()
        near: list[tuple[float, Crossings, _Label]] = []
        if self._within_limits(start):
            self._push(near, start)
        while near:
            label = heapq.heappop(near)[2]
            if self._arrived(label):
                return label
            if self._dominated(label):
                continue
            for number in problem.graph.leaving[label.router]:
                if label is start and number in self._spur.barred:
                    continue
                following = self._extend(label, number)
                if following is not None:
                    self._push(near, following)
        raise _none(problem)

    def _start(self) -> _Label:
        """Return the label of the spur's root; what it passed is not passed again."""
        problem = self._problem
        label = _Label((), problem.source, 0, 0, 0, 0, MAXIMUM_MTU, ((0, 0),), frozenset())
        self._in_mind |= {problem.graph.heads[number] for number in self._spur.root}
        if self._spur.root:
            self._in_mind |= {problem.source}
        self._arrive(label, problem.source)
        for number in self._spur.root:
            following = self._extend(label, number)
            if following is None:
                raise NoPath("the root of the spur satisfies the constraints no more")
            label = following
        return label

    def _push(self, near: list[tuple[float, Crossings, _Label]], label: _Label) -> None:
        to_go = self._problem.to_go[label.passed][label.router]
        if to_go < inf:
            heapq.heappush(near, (label.weight + to_go, label.crossings, label))

    def _arrived(self, label: _Label) -> bool:
        problem = self._problem
        return (
            label.router == problem.target
            and label.passed == len(problem.waypoints)
            and label.met == problem.required
        )

    def _extend(self, label: _Label, number: int) -> _Label | None:
        """Return the label behind one more crossing; None when that breaks a limit."""
        problem = self._problem
        graph = problem.graph
        weight = problem.weights.values[number]
        router = graph.heads[number]
        if weight == inf or router in label.seen:
            return None
        last = label.passed == len(problem.waypoints)
        if last and label.router == problem.target:
            return None  # a path that arrived does not go on
        following = _Label(
            (*label.crossings, number),
            router,
            label.weight + weight,
            label.passed,
            label.delay_us,
            label.met,
            label.mtu,
            label.openings,
            label.seen,
        )
        if problem.limited:
            link = graph.links[number]
            following.delay_us += link.delay_us
            following.met |= problem.marks_of_crossings.get(number, 0)
            following.mtu = min(label.mtu, link.mtu)
            if problem.lists is not None:
                following.openings = self._openings(problem.lists, label, following.crossings)
                if not following.openings:
                    return None
        self._arrive(following, router)
        return following if self._within_limits(following) else None

    def _arrive(self, label: _Label, router: int) -> None:
        """Note what is met at a router."""
        problem = self._problem
        label.met |= problem.marks_of_routers.get(router, 0)
        before = label.passed
        while label.passed < len(problem.waypoints) and problem.waypoints[label.passed] == router:
            lists, number = problem.lists, label.passed
            label.passed += 1
            if problem.services[number] and lists is not None and label.openings:
                used = after(label.openings[0][0], lists.service_slots[number])
                label.openings = ((used, len(label.crossings)),)
        if label.passed > before:
            label.seen = frozenset()
        if router in self._in_mind:
            label.seen |= {router}

    def _within_limits(self, label: _Label) -> bool:
        problem = self._problem
        if problem.maximum_delay_us < inf:
            to_go = problem.delay_to_go[label.passed][label.router]
            if label.delay_us + to_go > problem.maximum_delay_us:
                return False
        if problem.maximum_hops < inf:
            to_go = problem.hops_to_go[label.passed][label.router]
            if len(label.crossings) + to_go > problem.maximum_hops:
                return False
        lists = problem.lists
        if lists is not None:
            segments = lists.segments(label.openings[0][0])
            if segments > lists.maximum_segments:
                return False
            if label.mtu - lists.mode.overhead(segments) < lists.minimum_mtu:
                return False
        return True

    def _openings(self, lists: ListLimits, label: _Label, crossings: Crossings) -> Openings:
        """Return how a segment may be under way behind the last of these crossings.

        One that was under way goes on where the underlay takes the crossing by itself. Or the
        last segment was an End.X that crossed it, or an End that ends here.
        """
        problem = self._problem
        here = len(crossings)
        router = problem.graph.heads[crossings[-1]]
        first = lists.paths.stretch_start(
            problem.source, crossings, router, label.openings[0][1], lists.ecmp
        )
        found = [opening for opening in label.openings if opening[1] >= first]
        closed: list[int] = []
        if found and lists.has_sids[router]:
            slots = 1 if lists.compressible[router] else ALONE
            closed.append(after(min(used for used, _ in found), slots))
        if lists.has_sids[label.router]:
            slots = 2 if lists.compressible[label.router] else ALONE
            closed.append(after(label.openings[0][0], slots))
        if closed:
            found.append((min(closed), here))
        kept: list[tuple[int, int]] = []
        for used, place in sorted(found, key=lambda opening: (opening[0], -opening[1])):
            fits = lists.segments(used) <= lists.maximum_segments
            if fits and (not kept or place > kept[-1][1]):
                kept.append((used, place))
        return tuple(kept)

    def _dominated(self, label: _Label) -> bool:
        """Tell whether a label that was looked at is as good; else keep this one."""
        kept = self._kept.setdefault((label.router, label.passed), [])
        compared, dominated = 0, False
        for other in kept:
            compared += 1
            if self._as_good(other, label):
                dominated = True
                break
        for budget in self._budgets:
            budget.spend(compared if dominated else compared + LOOK)
        if not dominated:
            kept.append(label)
        return dominated

    def _as_good(self, one: _Label, other: _Label) -> bool:
        """Tell whether whatever `other` can become, `one` can become too.

        `one` was looked at first, so its weight is not greater.
        """
        problem = self._problem
        if not problem.limited:
            return one.seen <= other.seen
        return (
            (problem.maximum_delay_us == inf or one.delay_us <= other.delay_us)
            and (problem.maximum_hops == inf or len(one.crossings) <= len(other.crossings))
            and one.met & other.met == other.met
            and one.seen <= other.seen
            and (problem.lists is None or self._lists_as_well(problem.lists, one, other))
        )

    def _lists_as_well(self, lists: ListLimits, one: _Label, other: _Label) -> bool:
        """Tell whether every segment under way of `other` has a counterpart that is as good.

        It has no more slots used before it, and starts at the same router or only here.
        """
        if lists.minimum_mtu and one.mtu < other.mtu:
            return False
        return all(
            any(
                ours <= used
                and (start == len(one.crossings) or self._at(one, start) == self._at(other, place))
                for ours, start in one.openings
            )
            for used, place in other.openings
        )

    def _at(self, label: _Label, place: int) -> int:
        """Return the router at a place of the label's path."""
        if place == 0:
            return self._problem.source
        return self._problem.graph.heads[label.crossings[place - 1]]


def candidates(problem: Problem, count: int) -> list[tuple[float, Crossings]]:
    """Return up to `count` best paths, best first: Yen's algorithm with Lawler's shortcut.

    Every path but the first starts as one that was found before it (its root) and then leaves
    it. Raises NoPath when there is not even one, SearchLimit when the search was given up.
    """
    found: list[tuple[float, Crossings]] = []
    near: list[tuple[float, Crossings, int]] = [(*search(problem), 0)]
    """(weight, crossings, length of the root)"""
    while near and len(found) < count:
        weight, path, deviation = heapq.heappop(near)
        found.append((weight, path))
        if len(found) == count:
            break
        for length in range(deviation, len(path)):
            root = path[:length]
            barred = frozenset(
                other[length]
                for _, other in found
                if other[:length] == root and len(other) > length
            )
            try:
                heapq.heappush(near, (*search(problem, Spur(root, barred)), length))
            except SearchLimit:
                raise
            except NoPath:
                continue
    return found
