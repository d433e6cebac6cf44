"""From a policy to segment lists, between two routers: which candidate path is active, and why.

RFC 9256: the valid candidate path of highest preference is active (section 2.9); of it, the
valid segment lists share the flows by weight (sections 2.11 and 5.1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

from srv6dmm.core.computation import PathComputation
from srv6dmm.core.graph import NoPath
from srv6dmm.core.return_path import ReturnPaths
from srv6dmm.core.segments import NoSegmentList
from srv6dmm.core.simulator import NotDelivered, Simulator
from srv6dmm.model.path import Path, Solution
from srv6dmm.model.plan import SteeringList, WatchedList
from srv6dmm.model.policy import (
    CandidatePath,
    DynamicPath,
    ExplicitPath,
    Invalid,
    Policy,
    WeightedPath,
)
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.state import SilentList
from srv6dmm.model.topology import Topology

_REMEMBERED = 65_536
_LEAST_INNER_MTU = 1280
_OTHERS = 8
"""Paths looked at for one that answers."""
SILENT = "its list does not answer"


@dataclass(frozen=True, slots=True)
class ListChoice:
    """One weighted path of a candidate: its list, or why it has none."""

    weight: int
    solution: Solution | None
    reason: str | None = None
    """Why it is not to be used, though there may be one."""

    @property
    def valid(self) -> bool:
        """Whether there is one, and it answers."""
        return self.solution is not None and self.reason is None


@dataclass(frozen=True, slots=True)
class CandidateChoice:
    """One candidate path, looked at. `reason`: why it is not the active one."""

    preference: int
    lists: tuple[ListChoice, ...]
    active: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a policy comes to between two routers. No lists: packets are dropped."""

    lists: tuple[SteeringList, ...]
    paths: tuple[Path, ...]
    """Of `lists`, one each."""
    backup: SteeringList | None
    backup_path: Path | None
    candidates: tuple[CandidateChoice, ...]
    fell_back: bool = False
    """No candidate path is valid; `Policy.invalid` says what happens."""
    silent: bool = False
    """Its lists do not answer, and neither does any other."""


class PolicyPaths:
    """Choices on one topology, each computed once."""

    def __init__(
        self,
        topology: Topology,
        computation: PathComputation,
        silent: Collection[SilentList] = (),
    ) -> None:
        """`silent`: lists that do not answer, not used at their head-end where others are."""
        self._topology = topology
        self._silent = frozenset(silent)
        self.avoided: set[SilentList] = set()
        """Those of `silent` that a choice would have taken, so far."""
        self._returns = ReturnPaths(computation.paths, computation.sids)
        self._computation = computation
        self._simulator = Simulator(computation.paths, computation.sids, ecmp=computation.ecmp)
        self._choices: dict[tuple[Policy, Policy | None, str, str], Choice] = {}
        self._plain: dict[tuple[str, str], Choice] = {}
        self._owners: dict[IPv6Address, str] = {
            own.end_dt6: router for router, own in computation.sids.items()
        }

    def choose(
        self, policy: Policy, policies: Mapping[str, Policy], head_end: str, endpoint: str
    ) -> Choice:
        """Return what the policy comes to from a head-end to an endpoint's End.DT6.

        Never raises for want of a path: the choice then says what is done instead. Without any
        way to the endpoint there are no lists, whatever the policy says.
        """
        other = policies.get(policy.disjoint_from) if policy.disjoint_from else None
        key = (policy, other, head_end, endpoint)
        choice = self._choices.get(key)
        if choice is None:
            if len(self._choices) >= _REMEMBERED:
                self._choices.clear()
            choice = self._choices[key] = self._choose(policy, other, head_end, endpoint)
        return choice

    def _choose(self, policy: Policy, other: Policy | None, head_end: str, endpoint: str) -> Choice:
        apart = self._path_of(other, head_end, endpoint) if other is not None else None
        looked: list[CandidateChoice] = []
        active: tuple[CandidatePath, tuple[ListChoice, ...]] | None = None
        ordered = sorted(policy.candidates, key=lambda c: -c.preference)
        for candidate in ordered:
            lists = tuple(
                self._list(weighted, head_end, endpoint, apart) for weighted in candidate.paths
            )
            valid = any(choice.valid for choice in lists)
            reason = None
            if not valid:
                reason = "; ".join(choice.reason or "" for choice in lists)
            elif active is not None:
                reason = f"a candidate path of preference {active[0].preference} is valid"
            else:
                active = (candidate, lists)
            looked.append(CandidateChoice(candidate.preference, lists, reason is None, reason))
        if active is not None:
            return self._made(active[0], active[1], tuple(looked))
        fallen = Choice((), (), None, None, tuple(looked), fell_back=True)
        if policy.invalid is not Invalid.DROP:
            shortest = self.shortest(head_end, endpoint)
            fallen = replace(shortest, candidates=tuple(looked), fell_back=True)
        if fallen.lists and not fallen.silent:
            return fallen
        # A broken promise is better than none: of lists that are all silent the first is kept.
        for candidate, known in zip(ordered, looked, strict=True):
            lists = tuple(map(_in_spite, known.lists))
            if any(choice.valid for choice in lists):
                return replace(self._made(candidate, lists, tuple(looked)), silent=True)
        return fallen

    def shortest(self, head_end: str, endpoint: str) -> Choice:
        """Return what packets take that no rule says anything of: one segment, plain routing.

        Without any way there are no lists.
        """
        choice = self._plain.get((head_end, endpoint))
        if choice is None:
            choice = self._plain[head_end, endpoint] = self._shortest(head_end, endpoint)
        return choice

    def _shortest(self, head_end: str, endpoint: str) -> Choice:
        try:
            path = self._computation.paths.links(head_end, endpoint)
        except NoPath as error:
            lists = (ListChoice(1, None, str(error)),)
            return Choice((), (), None, None, (CandidateChoice(0, lists, False, str(error)),))
        segments = (self._computation.sids[endpoint].end_dt6,)
        measures = self._computation.measures(path)
        mtu = measures.link_mtu - self._topology.domain.encap_mode.overhead(1)
        choice = self._judged(ListChoice(1, Solution(path, segments, measures, mtu)), head_end)
        candidate = CandidatePath((WeightedPath(DynamicPath()),))
        if choice.valid:
            return self._made(candidate, (choice,), (CandidateChoice(0, (choice,), True),))
        looked = CandidateChoice(0, (choice,), False, choice.reason)
        other = self._another(path, head_end, endpoint)
        if other is None:
            silent = self._made(candidate, (_in_spite(choice),), (looked,))
            return replace(silent, silent=True)
        instead = CandidateChoice(0, (ListChoice(1, other),), True)
        return self._made(candidate, instead.lists, (looked, instead))

    def _another(self, path: Path, head_end: str, endpoint: str) -> Solution | None:
        """Return the solution that answers and has least in common with a path that does not."""

        def others() -> Iterator[Solution]:
            yield self._computation.backup(path).solution
            yield from self._computation.candidates(head_end, endpoint, DynamicPath(), _OTHERS)

        try:
            return next((one for one in others() if not self._is_silent(head_end, one)), None)
        except (NoPath, NoSegmentList):
            return None

    def _is_silent(self, head_end: str, solution: Solution) -> bool:
        return bool(self._silent) and SilentList(head_end, solution.segments) in self._silent

    def _judged(self, choice: ListChoice, head_end: str) -> ListChoice:
        """Return a choice, with the reason why its list is not to be used if it is silent."""
        if choice.solution is None or not self._is_silent(head_end, choice.solution):
            return choice
        self.avoided.add(SilentList(head_end, choice.solution.segments))
        return replace(choice, reason=SILENT)

    def _made(
        self,
        candidate: CandidatePath,
        choices: tuple[ListChoice, ...],
        looked: tuple[CandidateChoice, ...],
    ) -> Choice:
        valid = [
            (choice, weighted)
            for choice, weighted in zip(choices, candidate.paths, strict=True)
            if choice.valid
        ]
        lists = tuple(
            self.steering_list(choice.solution, choice.weight)
            for choice, _ in valid
            if choice.solution is not None
        )
        paths = tuple(choice.solution.path for choice, _ in valid if choice.solution is not None)
        wanted = valid[0][1].path
        backup = self._backup(paths[0], wanted if isinstance(wanted, DynamicPath) else None)
        return Choice(
            lists,
            paths,
            self.steering_list(backup) if backup is not None else None,
            backup.path if backup is not None else None,
            looked,
        )

    def _backup(self, path: Path, wanted: DynamicPath | None) -> Solution | None:
        """Return the solution with least in common, if it leaves the head-end another way.

        What the flow asks for is kept where that can be; a broken promise is better than none, and
        so is one that does not answer.
        """
        if len(path.routers) < 2:
            return None
        silent: Solution | None = None
        for asked in dict.fromkeys((wanted or DynamicPath(), DynamicPath())):
            try:
                solution = self._computation.backup(path, asked).solution
            except (NoPath, NoSegmentList):
                continue
            if solution.path.interfaces[0] == path.interfaces[0]:
                continue
            if not self._is_silent(path.routers[0], solution):
                return solution
            silent = silent or solution
        return silent

    def _list(
        self, weighted: WeightedPath, head_end: str, endpoint: str, apart: Path | None
    ) -> ListChoice:
        try:
            if isinstance(weighted.path, ExplicitPath):
                solution = self._explicit(weighted.path.segments, head_end, endpoint)
            elif apart is not None:
                solution = self._computation.backup(apart, weighted.path).solution
            else:
                solution = self._computation.solve(head_end, endpoint, weighted.path)
        except (NoPath, NoSegmentList, NotDelivered) as error:
            return ListChoice(weighted.weight, None, str(error))
        return self._judged(ListChoice(weighted.weight, solution), head_end)

    def _explicit(self, given: SegmentList, head_end: str, endpoint: str) -> Solution:
        """Return a list as given, ended by the endpoint's End.DT6 if it ends otherwise.

        Raises NotDelivered for one that does not lead there, NoSegmentList for one too long.
        """
        final = self._computation.sids[endpoint].end_dt6
        if given and self._owners.get(given[-1], endpoint) != endpoint:
            raise NotDelivered(
                f"it ends at {self._owners[given[-1]]}, and the flow goes to {endpoint}"
            )
        segments = given if given and given[-1] == final else (*given, final)
        maximum = self._computation.maximum_segments(head_end)
        if len(segments) > maximum:
            raise NoSegmentList(f"it has {len(segments)} segments; {maximum} are possible")
        walked = self._simulator.paths(head_end, segments)
        path = min(walked, key=lambda path: (path.routers, path.interfaces))
        measures = self._computation.measures(path)
        mtu = measures.link_mtu - self._topology.domain.encap_mode.overhead(len(segments))
        if mtu < _LEAST_INNER_MTU:
            raise NoSegmentList(f"it leaves {mtu} bytes to a packet; IPv6 needs 1280")
        return Solution(path, segments, measures, mtu)

    def _path_of(self, policy: Policy, head_end: str, endpoint: str) -> Path | None:
        """Return the path that another policy takes between the same ends."""
        paths = self.choose(replace(policy, disjoint_from=None), {}, head_end, endpoint).paths
        return paths[0] if paths and len(paths[0].routers) > 1 else None

    def steering_list(self, solution: Solution, weight: int = 1) -> SteeringList:
        """Return a solution as head-ends are told it. The path has a link at least."""
        path = solution.path
        return SteeringList(
            solution.segments,
            path.interfaces[0],
            self._topology.nodes[path.routers[1]].link_local,
            solution.measures.link_mtu,
            weight,
            self._returns.back(path),
        )

    def watched(self, head_end: str) -> Iterator[WatchedList]:
        """Yield a head-end's silent lists, each with the way home of its probes."""
        for silent in sorted(self._silent, key=lambda known: (known.head_end, known.segments)):
            if silent.head_end != head_end:
                continue
            try:
                walked = self._simulator.paths(head_end, silent.segments)
                path = min(walked, key=lambda path: (path.routers, path.interfaces))
                back = self._returns.back(path)
            except NotDelivered:
                back = ()
            yield WatchedList(silent.segments, self._topology.domain.encap_mode, back)


def _in_spite(choice: ListChoice) -> ListChoice:
    """Return a choice whose list may be used though it does not answer."""
    return replace(choice, reason=None) if choice.solution is not None else choice
