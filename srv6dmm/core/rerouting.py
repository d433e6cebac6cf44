"""How plans change with the links, found by looking only at what moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Network

from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.link_changes import hop
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.policy_paths import policy_chain
from srv6dmm.core.session_plans import SessionPlans, steering_target
from srv6dmm.core.static_plans import StaticPlans
from srv6dmm.core.update_order import ordered_rounds
from srv6dmm.model.flows import Direction, FlowRule
from srv6dmm.model.plan import PlanEntry, UnderlayRoute, mobile_key
from srv6dmm.model.policy import Policy
from srv6dmm.model.state import Session, SessionPhase

EntryDelta = tuple[tuple[PlanEntry, ...], tuple[str, ...]]
"""(entries to put, keys that go), for one router."""


@dataclass(frozen=True, slots=True)
class Rerouting:
    """How plans change with the topology."""

    at_once: dict[str, EntryDelta]
    """Router -> what any order is right for: steering, flows, SIDs, what repairs what."""
    routes: dict[str, EntryDelta]
    """Router -> plain routes, whose order decides whether packets run in circles meanwhile."""
    rounds: list[frozenset[str]]
    """The routers of `routes`, in that order (core.update_order)."""


class PlanChanges:
    """Deltas of many small changes, by router."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[list[PlanEntry], list[str]]] = {}

    def add(self, router: str, before: Iterable[PlanEntry], after: Iterable[PlanEntry]) -> None:
        """Take in what some entries of a router become. No other call may name their keys."""
        had = {entry.key: entry for entry in before}
        put = [entry for entry in after if had.pop(entry.key, None) != entry]
        if put or had:
            puts, gone = self._found.setdefault(router, ([], []))
            puts += put
            gone += had

    def put(self, router: str, entry: PlanEntry) -> None:
        """Take in an entry that is new, or differs from the one of its key."""
        self._found.setdefault(router, ([], []))[0].append(entry)

    def gone(self, router: str, key: str) -> None:
        """Take in that there is an entry no more."""
        self._found.setdefault(router, ([], []))[1].append(key)

    def made(self) -> dict[str, EntryDelta]:
        """Return router -> what changes there; routers without any are left out."""
        return {router: (tuple(put), tuple(gone)) for router, (put, gone) in self._found.items()}


class SessionChanges:
    """What becomes of entries of sessions, on the same nodes and rules."""

    def __init__(
        self, before: SessionPlans, after: SessionPlans, head_ends: Iterable[str], book: FlowBook
    ) -> None:
        self._before = before
        self._after = after
        self._head_ends = tuple(head_ends)
        self._book = book
        self._pairs: dict[tuple[tuple[Policy, ...], str, str], bool] = {}
        self._known: dict[tuple[str | None, IPv6Network | None, str], tuple[str, ...]] = {}
        self._exits: dict[tuple[str, str], bool] = {}

    def look(self, session: Session) -> None:
        """Compute all that is needed to tell what becomes of the session's entries."""
        target = steering_target(session)
        if _is_steered(session, target):
            self._moved_plain(target)
        for rule in self._downlink(session):
            self._moved_rule(rule, target)

    def _downlink(self, session: Session) -> list[FlowRule]:
        """Return the rules by which packets to the node are steered now."""
        if session.phase is SessionPhase.DETACH_WAIT:
            return []
        rules = self._book.rules(session.mobile_node)
        return [rule for rule in rules if rule.direction is not Direction.UPLINK]

    def _moved_plain(self, target: str) -> tuple[str, ...]:
        """Return the head-ends from which plain steering leads otherwise."""
        return self._moved(None, None, target)

    def _moved_rule(self, rule: FlowRule, target: str) -> tuple[str, ...]:
        """Return the head-ends that a rule's packets enter at and from which they go otherwise."""
        return self._moved(rule.policy, rule.match.peer, target)

    def _moved(self, policy: str | None, peer: IPv6Network | None, target: str) -> tuple[str, ...]:
        key = (policy, peer, target)
        found = self._known.get(key)
        if found is None:
            entrances = self._after.flows.entrances(peer)
            found = self._known[key] = tuple(
                head_end
                for head_end in self._head_ends
                if head_end != target
                and head_end in entrances
                and self._differ(policy, head_end, target)
            )
        return found

    def add(self, session: Session, changes: PlanChanges) -> None:
        """Take in what becomes of the session's entries.

        At a router that serves its node, or just did, they are compared. At all others there is
        nothing but steering, by the policies of its rules, and where that leads is known.
        """
        sides = {side for side in (session.serving, session.via) if side is not None}
        rules = self._downlink(session)
        target = steering_target(session)
        for side in sides:
            if self._concerned(side, session, target):
                changes.add(
                    side,
                    self._before.entries(side, session, self._book),
                    self._after.entries(side, session, self._book),
                )
        for binding in session.bindings:
            for head_end in self._moved_plain(target) if target != binding.anchor else ():
                if head_end in sides:
                    continue
                entry = self._after.steering(head_end, session, binding, target)
                if entry is not None:
                    changes.put(head_end, entry)
                elif self._before.steering(head_end, session, binding, target) is not None:
                    changes.gone(head_end, mobile_key(binding.prefix))
            for rule in rules:
                for head_end, flow in self._after.flows.downlinks(
                    rule, self._moved_rule(rule, target), session, binding, target, self._book
                ):
                    if head_end not in sides:
                        changes.put(head_end, flow)

    def _concerned(self, side: str, session: Session, target: str) -> bool:
        """Tell whether a router that serves the node, or just did, may have other entries."""
        if _is_steered(session, target) and side in self._moved_plain(target):
            return True
        if any(side in self._moved_rule(rule, target) for rule in self._downlink(session)):
            return True
        rules = self._book.rules(session.mobile_node)
        return any(
            self._uplink(rule, side) for rule in rules if rule.direction is not Direction.DOWNLINK
        )

    def _uplink(self, rule: FlowRule, router: str) -> bool:
        key = (rule.name, router)
        if key not in self._exits:
            self._exits[key] = self._leads_elsewhere(rule, router)
        return self._exits[key]

    def _leads_elsewhere(self, rule: FlowRule, router: str) -> bool:
        before = self._before.flows.exits(router, rule.match.peer)
        after = self._after.flows.exits(router, rule.match.peer)
        return before != after or any(
            self._differ(rule.policy, router, way.egress) for way in after if way.egress != router
        )

    def _differ(self, name: str | None, head_end: str, target: str) -> bool:
        """Tell whether a policy, or plain steering, leads otherwise than before."""
        policies = self._book.policies
        policy = policies.get(name) if name is not None else None
        if policy is None and name is not None:
            return False
        key = (policy_chain(policy, policies) if policy is not None else (), head_end, target)
        found = self._pairs.get(key)
        if found is None:
            old, new = (
                plans.choices.shortest(head_end, target)
                if policy is None
                else plans.choices.choose(policy, policies, head_end, target)
                for plans in (self._before, self._after)
            )
            found = self._pairs[key] = (old.lists, old.backup) != (new.lists, new.backup)
        return found


def _is_steered(session: Session, target: str) -> bool:
    """Tell whether any prefix of the session is not where plain routing leads."""
    return any(binding.anchor != target for binding in session.bindings)


def route_changes(
    before: StaticPlans, after: StaticPlans, hops: Iterable[tuple[str, str]]
) -> dict[str, EntryDelta]:
    """Return how plain routes change; `hops`: (router, target) of next hops that do.

    For plans in which, sessions aside, nothing but next hops changes.
    """
    changes = PlanChanges()
    for router, target in hops:
        changes.add(router, before.routes(router, target), after.routes(router, target))
    return changes.made()


def static_changes(
    before: StaticPlans, after: StaticPlans, routers: Iterable[str], at_once: PlanChanges
) -> dict[str, EntryDelta]:
    """Return how plain routes change, and note what else does of what no session makes."""
    routes = PlanChanges()
    for router in routers:
        old, new = before.entries(router).values(), after.entries(router).values()
        at_once.add(router, _but_routes(old), _but_routes(new))
        routes.add(router, _routes(old), _routes(new))
    return routes.made()


def update_rounds_of(
    before: ShortestPaths,
    after: ShortestPaths,
    moved: Iterable[tuple[str, str]],
    working: set[tuple[str, str]],
) -> list[frozenset[str]]:
    """Return the routers of `moved`, (router, target), in the order in which they may change.

    Over a link that is not among the `working` ones, (router, interface), nobody sends: packets
    there are repaired, or lost.
    """
    known: dict[tuple[str, str, bool], str | None] = {}

    def following(router: str, target: str, new: bool) -> str | None:
        key = (router, target, new)
        if key not in known:
            found = hop(after if new else before, router, target)
            sent = found is not None and (router, found[0]) in working
            known[key] = found[1] if found is not None and sent else None
        return known[key]

    changed: dict[str, list[str]] = {}
    for router, target in moved:
        if following(router, target, False) != following(router, target, True):
            changed.setdefault(router, []).append(target)
    return ordered_rounds(
        changed,
        lambda router, target: following(router, target, False),
        lambda router, target: following(router, target, True),
    )


def _routes(entries: Iterable[PlanEntry]) -> Iterable[PlanEntry]:
    return (entry for entry in entries if isinstance(entry, UnderlayRoute))


def _but_routes(entries: Iterable[PlanEntry]) -> Iterable[PlanEntry]:
    return (entry for entry in entries if not isinstance(entry, UnderlayRoute))
