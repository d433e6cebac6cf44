"""From a policy to segment lists, between two routers: which candidate path is active, and why.

RFC 9256: the valid candidate path of highest preference is active (section 2.9); of it, the
valid segment lists share the flows by weight (sections 2.11 and 5.1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address

from srv6dmm.core.computation import PathComputation
from srv6dmm.core.diagnosis import why_no_path
from srv6dmm.core.graph import NoPath
from srv6dmm.core.link_changes import LinkChanges, Moves
from srv6dmm.core.return_path import ReturnPaths
from srv6dmm.core.search import Budget
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
from srv6dmm.model.topology import LinkEnd, Topology

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
    """Why it has none, or what is to be known about the one it has."""
    drained: LinkEnd | None = None
    """A drained link that the list crosses."""
    given: bool = False
    """The list is the policy's own."""
    silent: bool = False
    """The list does not answer."""


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
    grounds: tuple[Path, ...] | None = field(default=None, compare=False, repr=False)
    """Every path that was found on the way: while they are as good as ever, and others are worse,
    the choice stands. None: it depends on more, such as a path that was not to be found."""

    @property
    def possible(self) -> bool:
        """Tell whether a candidate path is valid, or would be but for a link that is drained."""
        return not self.fell_back or any(
            way.drained is not None for found in self.candidates for way in found.lists
        )

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
        self._simulator = Simulator(
            computation.paths,
            computation.sids,
            ecmp=computation.ecmp,
            compression=computation.compression,
        )
        self._choices: dict[tuple[tuple[Policy, ...], str, str], Choice] = {}
        self._plain: dict[tuple[str, str], Choice] = {}
        self._owners: dict[IPv6Address, str] = {
            own.end_dt6: router for router, own in computation.sids.items()
        }
        self._drained = {end for link in topology.links if link.drained for end in link.ends()}
        self._links = {end: link for link in topology.links for end in link.ends()}

    def choose(
        self, policy: Policy, policies: Mapping[str, Policy], head_end: str, endpoint: str
    ) -> Choice:
        """Return what the policy comes to from a head-end to an endpoint's End.DT6.

        Never raises for want of a path: the choice then says what is done instead. Without any
        way to the endpoint there are no lists, whatever the policy says; nor at the endpoint.
        """
        if head_end == endpoint:
            return self.shortest(head_end, endpoint)
        return self._chosen(policy_chain(policy, policies), head_end, endpoint)

    def why_not(self, policy: Policy, head_end: str, endpoint: str) -> list[str]:
        """Name the elements for which the computed paths of a policy are not valid."""
        found: list[str] = []
        for number, candidate in enumerate(policy.candidates):
            for place, weighted in enumerate(candidate.paths):
                if isinstance(weighted.path, DynamicPath):
                    why = why_no_path(self._computation, head_end, endpoint, weighted.path)
                    found += [f"candidates[{number}].paths[{place}]: {why}"] if why else []
        return found

    def allowing(self, budget: Budget) -> AbstractContextManager[None]:
        """Have all that is computed in the block raise TooHard when it spent a budget."""
        return self._computation.allowing(budget)

    def _chosen(self, chain: tuple[Policy, ...], head_end: str, endpoint: str) -> Choice:
        """Return what the first of a chain comes to, each apart from what follows it."""
        key = (chain, head_end, endpoint)
        choice = self._choices.get(key)
        if choice is None:
            if len(self._choices) >= _REMEMBERED:
                self._choices.clear()
            choice = self._choices[key] = self._choose(chain, head_end, endpoint)
        return choice

    def take_over(self, before: PolicyPaths, changes: LinkChanges, moves: Moves) -> None:
        """Take over what was chosen before links changed, where that is for certain the same.

        Where links only got worse, a best path that crosses none of them is the best path still;
        and its list is the same where the underlay leads along its routers as it did.
        """
        if not changes.worse or self._silent or before._silent:
            return
        ends = changes.ends

        def stands(choice: Choice) -> bool:
            return (
                choice.grounds is not None
                and not any(end in ends for path in choice.grounds for end in path.crossings())
                and not moves.touch(choice.grounds)
                and self._back_alike(choice)
            )

        self._choices.update((key, one) for key, one in before._choices.items() if stands(one))
        self._plain.update((key, one) for key, one in before._plain.items() if stands(one))

    def _choose(self, chain: tuple[Policy, ...], head_end: str, endpoint: str) -> Choice:
        limited = self._computation.limited_by_lists
        choice = self._judge(chain, head_end, endpoint)
        computed = all(
            isinstance(weighted.path, DynamicPath) and not self._by_group(weighted.path)
            for candidate in chain[0].candidates
            for weighted in candidate.paths
        )
        certain = computed and len(chain) == 1 and not choice.fell_back and not choice.silent
        if certain and limited == self._computation.limited_by_lists:
            return choice
        return replace(choice, grounds=None)

    def _back_alike(self, choice: Choice) -> bool:
        """Tell whether probes of a choice's lists come home the same way as before."""
        ways = [*zip(choice.lists, choice.paths, strict=True)]
        if choice.backup is not None and choice.backup_path is not None:
            ways.append((choice.backup, choice.backup_path))
        return all(way.return_segments == self._returns.back(path) for way, path in ways)

    def _by_group(self, wanted: DynamicPath) -> bool:
        """Tell whether a path passes an anycast group, whose nearest router may be another."""
        return any(waypoint.router not in self._topology.nodes for waypoint in wanted.waypoints)

    def _judge(self, chain: tuple[Policy, ...], head_end: str, endpoint: str) -> Choice:
        policy, others = chain[0], chain[1:]
        paths = self._chosen(others, head_end, endpoint).paths if others else ()
        apart = tuple(path for path in paths if len(path.routers) > 1)
        judged = [
            (
                candidate,
                _told_apart(
                    self._list(weighted, head_end, endpoint, apart) for weighted in candidate.paths
                ),
            )
            for candidate in sorted(policy.candidates, key=lambda c: -c.preference)
        ]
        # A drained link is to carry only what has no other way: first others that are valid as
        # well are taken, then what is computed, which has no other way within its constraints.
        for passed_over in (_drained, _drained_as_given):
            active, looked = _first_valid(judged, passed_over)
            if active is not None:
                return self._made(*active, looked)
        shortest = self.shortest(head_end, endpoint)
        drained = any(choice.drained for _, choices in judged for choice in choices)
        if drained:
            rather = policy.invalid is Invalid.SHORTEST and shortest.lists and not shortest.silent
            if not rather or any(map(self._drains, shortest.paths)):
                active, looked = _first_valid(judged, _silent)
                if active is not None:
                    return self._made(*active, looked)
        fallen = Choice((), (), None, None, looked, fell_back=True)
        if policy.invalid is not Invalid.DROP:
            fallen = replace(shortest, candidates=looked, fell_back=True)
        if fallen.lists and not fallen.silent:
            return fallen
        # A broken promise is better than none: of lists that are all silent the first is kept.
        active, _ = _first_valid(judged, lambda choice: False)
        if active is not None:
            return replace(self._made(*active, looked), silent=True)
        return fallen

    def _drains(self, path: Path) -> LinkEnd | None:
        """Return a drained link that a path crosses, if there is one."""
        return next((end for end in path.crossings() if end in self._drained), None)

    def shortest(self, head_end: str, endpoint: str) -> Choice:
        """Return what packets take that no rule says anything of: one segment, plain routing.

        Without any way there are no lists, and none are needed at the endpoint itself: the choice
        has a path then, and no list.
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
        if head_end == endpoint:
            return Choice((), (path,), None, None, ())
        segments = (self._computation.sids[endpoint].end_dt6,)
        measures = self._computation.measures(path)
        mtu = self._computation.inner_mtu(measures, 1)
        choice = self._judged(ListChoice(1, Solution(path, segments, measures, mtu)), head_end)
        candidate = CandidatePath((WeightedPath(DynamicPath()),))
        if not choice.silent:
            return self._made(candidate, (choice,), (CandidateChoice(0, (choice,), True),))
        looked = CandidateChoice(0, (choice,), False, choice.reason)
        other = self._another(path, head_end, endpoint)
        if other is None:
            silent = self._made(candidate, (choice,), (looked,))
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
        return replace(choice, reason=SILENT, silent=True)

    def _made(
        self,
        candidate: CandidatePath,
        choices: tuple[ListChoice, ...],
        looked: tuple[CandidateChoice, ...],
    ) -> Choice:
        valid = [
            (choice, weighted)
            for choice, weighted in zip(choices, candidate.paths, strict=True)
            if choice.solution is not None
        ]
        shares: dict[SegmentList, tuple[Solution, int]] = {}
        """Lists that are the same are one, with the weights of all."""
        for choice, _ in valid:
            if choice.solution is not None:
                segments = choice.solution.segments
                _, weight = shares.get(segments, (None, 0))
                shares[segments] = (choice.solution, weight + choice.weight)
        lists = tuple(self.steering_list(solution, weight) for solution, weight in shares.values())
        paths = tuple(solution.path for solution, _ in shares.values())
        wanted = valid[0][1].path
        backup, grounds = self._backup(paths, wanted if isinstance(wanted, DynamicPath) else None)
        solutions = [choice.solution for other in looked for choice in other.lists]
        found = [solution.path for solution in solutions if solution is not None]
        certain = grounds is not None and len(found) == len(solutions)
        return Choice(
            lists,
            paths,
            self.steering_list(backup) if backup is not None else None,
            backup.path if backup is not None else None,
            looked,
            grounds=(*found, *(grounds or ())) if certain else None,
        )

    def _backup(
        self, paths: tuple[Path, ...], wanted: DynamicPath | None
    ) -> tuple[Solution | None, list[Path] | None]:
        """Return the solution with least in common with all, if it leaves the head-end another way.

        What the flow asks for is kept where that can be; a broken promise is better than none, and
        so is one that does not answer. With it come all paths looked at; None where one was not to
        be found.
        """
        found: list[Path] | None = [*paths]
        if any(len(path.routers) < 2 for path in paths):
            return None, found
        limited = self._computation.limited_by_lists
        left_by = {path.interfaces[0] for path in paths}
        silent: Solution | None = None
        for asked in dict.fromkeys((wanted or DynamicPath(), DynamicPath())):
            try:
                solution = self._computation.backup(paths[0], asked, paths[1:]).solution
            except (NoPath, NoSegmentList):
                found = None
                continue
            if limited != self._computation.limited_by_lists:
                found = None
            if found is not None:
                found.append(solution.path)
            if solution.path.interfaces[0] in left_by:
                continue
            if not self._is_silent(solution.path.routers[0], solution):
                return solution, found
            silent = silent or solution
        return silent, found

    def _list(
        self, weighted: WeightedPath, head_end: str, endpoint: str, apart: tuple[Path, ...]
    ) -> ListChoice:
        try:
            if isinstance(weighted.path, ExplicitPath):
                solution = self._explicit(weighted.path.segments, head_end, endpoint)
            elif apart:
                solution = self._computation.backup(apart[0], weighted.path, apart[1:]).solution
            else:
                solution = self._computation.solve(head_end, endpoint, weighted.path)
        except (NoPath, NoSegmentList, NotDelivered) as error:
            return ListChoice(weighted.weight, None, str(error))
        choice = ListChoice(
            weighted.weight,
            solution,
            self._in_common(solution.path, apart),
            self._drains(solution.path),
            isinstance(weighted.path, ExplicitPath),
        )
        return self._judged(choice, head_end)

    def _in_common(self, path: Path, apart: tuple[Path, ...]) -> str | None:
        """Say what a path shares with those it was to be disjoint from: links, or else routers."""
        theirs = {self._links[end] for other in apart for end in other.crossings()}
        links = [str(end) for end in path.crossings() if self._links[end] in theirs]
        if links:
            return f"it shares {', '.join(links)} with the policy it is to be disjoint from"
        between = {router for other in apart for router in other.routers[1:-1]}
        routers = [router for router in path.routers[1:-1] if router in between]
        if routers:
            return f"it shares {', '.join(routers)} with the policy it is to be disjoint from"
        return None

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
        mtu = self._computation.inner_mtu(measures, len(segments))
        if mtu < _LEAST_INNER_MTU:
            raise NoSegmentList(f"it leaves {mtu} bytes to a packet; IPv6 needs 1280")
        return Solution(path, segments, measures, mtu)

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


_Judged = tuple[CandidatePath, tuple[ListChoice, ...]]


def policy_chain(policy: Policy, policies: Mapping[str, Policy]) -> tuple[Policy, ...]:
    """Return a policy, the one it is to be disjoint from, the one that is to be, and so on."""
    chain = [policy]
    names = {policy.name}
    while (name := chain[-1].disjoint_from) is not None and name not in names:
        other = policies.get(name)
        if other is None:
            break
        chain.append(other)
        names.add(name)
    return tuple(chain)


def _first_valid(
    judged: Sequence[_Judged], passed_over: Callable[[ListChoice], bool]
) -> tuple[_Judged | None, tuple[CandidateChoice, ...]]:
    """Return the active candidate path with its valid lists, and what is to say of each.

    Lists that are passed over count as invalid.
    """
    looked: list[CandidateChoice] = []
    active: _Judged | None = None
    for candidate, found in judged:
        lists = tuple(_without(choice) if passed_over(choice) else choice for choice in found)
        valid = any(choice.solution is not None for choice in lists)
        reason = None
        if not valid:
            reason = "; ".join(choice.reason or "" for choice in lists)
        elif active is not None:
            reason = f"a candidate path of preference {active[0].preference} is valid"
        else:
            active = (candidate, lists)
        # A silent list is still shown.
        shown = tuple(
            choice if choice.silent else judged_as
            for choice, judged_as in zip(found, lists, strict=True)
        )
        looked.append(CandidateChoice(candidate.preference, shown, reason is None, reason))
    return active, tuple(looked)


def _told_apart(choices: Iterable[ListChoice]) -> tuple[ListChoice, ...]:
    """Say of lists that are the same as an earlier one that they are."""
    first: dict[SegmentList, int] = {}
    told: list[ListChoice] = []
    for number, choice in enumerate(choices):
        if choice.solution is not None:
            place = first.setdefault(choice.solution.segments, number)
            if place != number:
                same = f"it is the list of paths[{place}] too: their weights add up"
                told.append(replace(choice, reason=same))
                continue
        told.append(choice)
    return tuple(told)


def _silent(choice: ListChoice) -> bool:
    return choice.silent


def _drained(choice: ListChoice) -> bool:
    return choice.silent or choice.drained is not None


def _drained_as_given(choice: ListChoice) -> bool:
    return choice.silent or (choice.drained is not None and choice.given)


def _without(choice: ListChoice) -> ListChoice:
    reason = SILENT if choice.silent else f"it crosses {choice.drained}, which is drained"
    return replace(choice, solution=None, reason=reason)
