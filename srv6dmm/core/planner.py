"""The planner: what every router must hold, as a pure function of topology and state.

Incremental planning (`deltas`) looks at one session before and after; sessions never share
an entry's key, because a prefix belongs to one session. Hence the sum of all deltas equals
planning from scratch, which a property test holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from srv6dmm.core.binding_sids import binding_sids
from srv6dmm.core.computation import PathComputation
from srv6dmm.core.flow_book import EMPTY, FlowBook
from srv6dmm.core.flow_plans import FlowPlans
from srv6dmm.core.links import in_force
from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.policy_paths import PolicyPaths
from srv6dmm.core.repair import Repairs
from srv6dmm.core.session_plans import SessionPlans, steering_target
from srv6dmm.core.sids import sid_table
from srv6dmm.core.static_plans import StaticPlans
from srv6dmm.core.update_order import update_rounds
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import Plan, PlanEntry, UnderlayRoute, advertise_key, mobile_key
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.state import RolloutPhase, Session, SessionKey, SilentList, State
from srv6dmm.model.topology import LinkEnd, RouterSids, Topology

REPAIRED = 64
"""Domains of so many routers have repairs at every router: each pair of routers takes a search."""
_REMEMBERED = 1024
"""Sessions whose entries are kept at hand: those in the middle of a roll-out, mostly."""

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


class Planner:
    """Plans for one topology, the links that work, and the flow rules in force."""

    def __init__(
        self,
        topology: Topology,
        parameters: MobilityParameters,
        book: FlowBook = EMPTY,
        down: Collection[LinkEnd] = (),
        delays: Mapping[LinkEnd, int] | None = None,
        silent: Collection[SilentList] = (),
    ) -> None:
        """`topology`: as declared. `down`: ends of links that do not work. `delays`: measured.

        `silent`: lists that do not answer.
        """
        self.parameters = parameters
        self.book = book
        self._settle_links(topology, down, delays)
        self._settle_lists(silent)

    def _settle_links(
        self, topology: Topology, down: Collection[LinkEnd], delays: Mapping[LinkEnd, int] | None
    ) -> None:
        self.topology = topology
        self.down = frozenset(down)
        self.delays = dict(delays or {})
        self.sids: dict[str, RouterSids] = sid_table(topology)
        working = in_force(topology, self.down, self.delays)
        self._working = {(end.node, end.interface) for link in working.links for end in link.ends()}
        self._in_force = working
        self.paths = ShortestPaths(working)
        self._computation = computation = PathComputation(working, self.paths, self.sids)
        small = len(topology.routers()) <= REPAIRED
        repairs = Repairs(working, self.paths, computation, self.sids) if small else None
        self._static = StaticPlans(topology, self.paths, self.sids, repairs)
        self._routers = tuple(node.name for node in topology.routers())
        self._head_ends = tuple(node.name for node in topology.head_ends())

    def _settle_lists(self, silent: Collection[SilentList]) -> None:
        self.silent = frozenset(silent)
        self.choices = PolicyPaths(self._in_force, self._computation, self.silent)
        self._sessions = SessionPlans(self.topology, self.parameters, self.paths, self.choices)
        self._recent: dict[SessionKey, tuple[Session, dict[str, tuple[PlanEntry, ...]]]] = {}

    @property
    def flows(self) -> FlowPlans:
        """Flow entries on the topology at hand."""
        return self._sessions.flows

    def use(self, book: FlowBook, sessions: Iterable[Session]) -> dict[str, EntryDelta]:
        """Plan by other rules from now on; return how each router's plan changes by that."""
        old, self.book = self.book, book
        concerned = {
            node for node in old.nodes() | book.nodes() if old.asks(node) != book.asks(node)
        }
        changes = _Changes()
        for session in sessions:
            if session.mobile_node not in concerned:
                continue
            self._recent.pop(session.key, None)
            for router in self._head_ends:
                changes.add(
                    router,
                    self._sessions.flow_entries(router, session, old),
                    self._sessions.flow_entries(router, session, book),
                )
        for router in self._head_ends:
            before = binding_sids(router, old, self.choices)
            changes.add(router, before, binding_sids(router, book, self.choices))
        return changes.made()

    def reroute(
        self,
        topology: Topology,
        down: Collection[LinkEnd],
        sessions: Iterable[Session],
        delays: Mapping[LinkEnd, int] | None = None,
        silent: Collection[SilentList] = (),
    ) -> Rerouting:
        """Plan on a topology, links and lists as they are, from now on; return what changes."""
        static, before, paths = self._static, self._sessions, self.paths
        choices = self.choices
        known = (self.topology, self.down, self.delays)
        if known != (topology, frozenset(down), dict(delays or {})):
            self._settle_links(topology, down, delays)
        self._settle_lists(silent)
        at_once, routes = _Changes(), _Changes()
        for router in self._routers:
            if static is self._static:
                break
            old, new = static.entries(router), self._static.entries(router)
            at_once.add(router, _but_routes(old.values()), _but_routes(new.values()))
            routes.add(router, _routes(old.values()), _routes(new.values()))
        for router in self._routers:
            at_once.add(router, choices.watched(router), self.choices.watched(router))
        for router in self._head_ends:
            old_sids = binding_sids(router, self.book, choices)
            at_once.add(router, old_sids, binding_sids(router, self.book, self.choices))
        for session in sessions:
            for router in self._head_ends:
                at_once.add(
                    router,
                    before.entries(router, session, self.book),
                    self._sessions.entries(router, session, self.book),
                )
        moved = routes.made()
        rounds = update_rounds(
            self._next_hops(paths, self.paths, moved), self._next_hops(self.paths, paths, moved)
        )
        told = frozenset().union(*rounds)
        unordered = frozenset(moved) - told  # what changes there is not where packets go next
        return Rerouting(at_once.made(), moved, [*rounds, *([unordered] if unordered else [])])

    def _next_hops(
        self, paths: ShortestPaths, others: ShortestPaths, moved: Iterable[str]
    ) -> dict[str, dict[str, str]]:
        """Return where routers send packets on, to destinations that some are to send elsewhere.

        Over a link that does not work nobody sends: packets there are repaired, or lost.
        """
        found: dict[str, dict[str, str]] = {}
        for target in self._routers:
            if all(_hop(paths, r, target) == _hop(others, r, target) for r in moved):
                continue
            hops = ((router, _hop(paths, router, target)) for router in self._routers)
            found[target] = {
                router: hop[1]
                for router, hop in hops
                if hop is not None and (router, hop[0]) in self._working
            }
        return found

    def plan(self, router: str, state: State) -> Plan:
        """Return the router's whole plan. Raises KeyError for a name that is no router."""
        entries = dict(self._static.entries(router))
        for sid in binding_sids(router, self.book, self.choices):
            entries[sid.key] = sid
        for watched in self.choices.watched(router):
            entries[watched.key] = watched
        for key in sorted(state.sessions):
            for entry in self._sessions.entries(router, state.sessions[key], self.book):
                entries[entry.key] = entry
        return Plan(router, state.revision, entries)

    def session_entries(self, session: Session) -> dict[str, tuple[PlanEntry, ...]]:
        """Return what the session puts on each router; routers without any are left out."""
        found: dict[str, tuple[PlanEntry, ...]] = {}
        for router in self._head_ends:
            entries = tuple(self._sessions.entries(router, session, self.book))
            if entries:
                found[router] = entries
        return found

    def deltas(self, before: Session | None, after: Session | None) -> dict[str, EntryDelta]:
        """Return how each router's plan changes when the session does."""
        old = self._remembered(before) if before else {}
        new = self._remembered(after) if after else {}
        changes = _Changes()
        for router in sorted(old.keys() | new.keys()):
            changes.add(router, old.get(router, ()), new.get(router, ()))
        return changes.made()

    def keys(self, session: Session) -> frozenset[str]:
        """Return the keys of all that the session puts on routers, or had put there."""
        found = {entry.key for entries in self._remembered(session).values() for entry in entries}
        found.update(mobile_key(binding.prefix) for binding in session.bindings)
        return frozenset((*found, advertise_key(*session.key)))

    def flow_counts(self, session: Session, book: FlowBook) -> dict[str, int]:
        """Return how many flow entries a session would put on each head-end by some rules."""
        return {
            router: sum(1 for _ in self._sessions.flow_entries(router, session, book))
            for router in self._head_ends
        }

    def _remembered(self, session: Session) -> dict[str, tuple[PlanEntry, ...]]:
        """Return session_entries; what comes after a change is what comes before the next."""
        known = self._recent.pop(session.key, None)
        if known is None or known[0] is not session:
            known = (session, self.session_entries(session))
        self._recent[session.key] = known
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        return known[1]

    def waits_for(self, session: Session) -> frozenset[str]:
        """Return the routers that must have acknowledged before the roll-out goes on."""
        match session.rollout:
            case RolloutPhase.PREPARE:
                return frozenset({session.serving})
            case RolloutPhase.SWITCH:
                # The router used before is told nothing in this phase.
                return frozenset(self._head_ends) - {session.via}
            case RolloutPhase.REDIRECT:
                return frozenset({session.serving, session.via or session.serving})
            case RolloutPhase.STABLE:
                return frozenset({session.serving})

    def path(self, head_end: str, serving: str) -> tuple[str, ...]:
        """Return the routers from a head-end to a serving router, both included. Raises NoPath."""
        if head_end == serving:
            return (head_end,)
        return self._sessions.way(head_end, serving).paths[0].routers

    def segments(self, head_end: str, target: str) -> SegmentList:
        """Return the segment list from a head-end to a router's End.DT6, in travel order.

        One segment: the underlay's shortest path is the path wanted. Raises NoPath.
        """
        return self._sessions.way(head_end, target).lists[0].segments

    def steering_target(self, session: Session) -> str:
        """Return the router that head-ends are told in the session's present phase."""
        return steering_target(session)


class _Changes:
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

    def made(self) -> dict[str, EntryDelta]:
        """Return router -> what changes there; routers without any are left out."""
        return {router: (tuple(put), tuple(gone)) for router, (put, gone) in self._found.items()}


def _hop(paths: ShortestPaths, router: str, target: str) -> tuple[str, str] | None:
    """Return (interface, neighbour) towards a router; None at it, and where no path leads."""
    if router == target:
        return None
    try:
        return paths.next_hop(router, target)
    except NoPath:
        return None


def _routes(entries: Iterable[PlanEntry]) -> Iterable[PlanEntry]:
    return (entry for entry in entries if isinstance(entry, UnderlayRoute))


def _but_routes(entries: Iterable[PlanEntry]) -> Iterable[PlanEntry]:
    return (entry for entry in entries if not isinstance(entry, UnderlayRoute))
