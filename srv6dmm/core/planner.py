"""The planner: what every router must hold, as a pure function of topology and state.

Incremental planning (`deltas`) looks at one session before and after; sessions never share
an entry's key, because a prefix belongs to one session. Hence the sum of all deltas equals
planning from scratch, which a property test holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from srv6dmm.core.binding_sids import binding_sids
from srv6dmm.core.compression import Compression
from srv6dmm.core.computation import PathComputation
from srv6dmm.core.flow_book import EMPTY, FlowBook
from srv6dmm.core.flow_plans import FlowPlans
from srv6dmm.core.link_changes import Moves, link_changes
from srv6dmm.core.links import in_force
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.policy_paths import PolicyPaths
from srv6dmm.core.repair import Repairs
from srv6dmm.core.rerouting import (
    EntryDelta,
    PlanChanges,
    Rerouting,
    SessionChanges,
    route_changes,
    static_changes,
    update_rounds_of,
)
from srv6dmm.core.session_plans import SessionPlans, steering_target
from srv6dmm.core.sids import sid_table
from srv6dmm.core.static_plans import StaticPlans
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import Plan, PlanEntry, advertise_key, mobile_key
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.state import (
    CsidSupport,
    RolloutPhase,
    Session,
    SessionKey,
    SilentList,
    State,
)
from srv6dmm.model.topology import LinkEnd, RouterSids, Topology

_REMEMBERED = 1024
"""Sessions whose entries are kept at hand: those in the middle of a roll-out, mostly."""


class Planner:
    """Plans for one topology, the links that work, and the flow rules in force."""

    def __init__(
        self,
        topology: Topology,
        parameters: MobilityParameters,
        book: FlowBook = EMPTY,
        down: Collection[LinkEnd] = (),
        csid: Collection[CsidSupport] = (),
        delays: Mapping[LinkEnd, int] | None = None,
        silent: Collection[SilentList] = (),
    ) -> None:
        """`topology`: as declared. `down`: ends of links that do not work. `delays`: measured.

        `csid`: the routers that support NEXT-C-SID; of account where the domain has it switched on.
        `silent`: lists that do not answer.
        """
        self.parameters = parameters
        self.book = book
        self._settle_links(topology, down, csid, delays or {})
        self._settle_lists(silent)

    def _settle_links(
        self,
        topology: Topology,
        down: Collection[LinkEnd],
        csid: Collection[CsidSupport],
        delays: Mapping[LinkEnd, int],
    ) -> None:
        self.topology = topology
        self.down = frozenset(down)
        self.csid = _used(topology, csid)
        self.delays = dict(delays)
        self.sids: dict[str, RouterSids] = sid_table(topology)
        working = self._working = in_force(topology, self.down, self.delays)
        self.paths = ShortestPaths(working)
        self.compression = Compression(
            self.sids, sorted(support.router for support in self.csid if support.held)
        )
        self.computation = PathComputation(
            working, self.paths, self.sids, compression=self.compression
        )
        repairs: Repairs | None = None
        if topology.is_repaired:
            repairs = Repairs(working, self.paths, self.computation, self.sids)
        supporting = {support.router for support in self.csid}
        self._static = StaticPlans(topology, self.paths, self.sids, repairs, supporting)
        self._routers = tuple(node.name for node in topology.routers())
        self._head_ends = tuple(node.name for node in topology.head_ends())

    def _settle_lists(self, silent: Collection[SilentList]) -> None:
        self.silent = frozenset(silent)
        self.choices = PolicyPaths(self._working, self.computation, self.silent)
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
        changes = PlanChanges()
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
        csid: Collection[CsidSupport] = (),
        delays: Mapping[LinkEnd, int] | None = None,
        silent: Collection[SilentList] = (),
        done: Callable[[str], None] = lambda _: None,
    ) -> Rerouting:
        """Plan on a topology, links, routers and lists as they are, from now on.

        Return what changes. `done` is told of each step that is: graph, trees, routes, lists,
        entries, order.
        """
        declared, working, supporting = self.topology, self._working, self.csid
        static, before, paths = self._static, self._sessions, self.paths
        known = (self.topology, self.down, self.csid, self.delays)
        if known != (topology, frozenset(down), _used(topology, csid), dict(delays or {})):
            self._settle_links(topology, down, csid, delays or {})
        self._settle_lists(silent)
        done("graph")
        compressed_alike = self.csid == supporting
        same = compressed_alike and _same_but_costs(declared, topology)
        changes = link_changes(working, self._working) if compressed_alike else None
        at_once, hops = PlanChanges(), None
        if changes is not None:
            moves = Moves(paths, self.paths, changes)
            self.choices.take_over(before.choices, changes, moves)
            hops = list(moves.hops())
        done("trees")
        if same and hops is not None and not topology.is_repaired:
            routes = route_changes(static, self._static, hops)
        else:
            routes = static_changes(static, self._static, self._routers, at_once)
        done("routes")
        for router in self._head_ends:
            watched = before.choices.watched(router)
            at_once.add(router, watched, self.choices.watched(router))
            old_sids = binding_sids(router, self.book, before.choices)
            at_once.add(router, old_sids, binding_sids(router, self.book, self.choices))
        told = SessionChanges(before, self._sessions, self._head_ends, self.book)
        concerned = list(sessions)
        for session in concerned if same else ():
            told.look(session)
        done("lists")
        for session in concerned:
            if same:
                told.add(session, at_once)
                continue
            for router in self._head_ends:
                at_once.add(
                    router,
                    before.entries(router, session, self.book),
                    self._sessions.entries(router, session, self.book),
                )
        done("entries")
        if hops is None:
            hops = [(router, target) for router in self._routers for target in self._routers]
        hops = [(router, target) for router, target in hops if router in routes]
        ends = {(end.node, end.interface) for link in self._working.links for end in link.ends()}
        rounds = update_rounds_of(paths, self.paths, hops, ends)
        # What changes at the others is not where packets go next.
        unordered = frozenset(routes).difference(*rounds)
        done("order")
        return Rerouting(at_once.made(), routes, [*rounds, *([unordered] if unordered else [])])

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
        changes = PlanChanges()
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

        One segment: the underlay's shortest path is the path wanted. None at that router itself.
        Raises NoPath.
        """
        if head_end == target:
            return ()
        return self._sessions.way(head_end, target).lists[0].segments

    def steering_target(self, session: Session) -> str:
        """Return the router that head-ends are told in the session's present phase."""
        return steering_target(session)


def _used(topology: Topology, csid: Collection[CsidSupport]) -> frozenset[CsidSupport]:
    """Return who supports NEXT-C-SID, where the domain has it switched on."""
    return frozenset(csid if topology.domain.usid else ())


def _same_but_costs(before: Topology, after: Topology) -> bool:
    """Tell whether two topologies differ, if at all, in what crossing a link costs."""
    if before is after:
        return True
    return (
        before.domain == after.domain
        and before.nodes == after.nodes
        and [(link.ends(), link.mtu) for link in before.links]
        == [(link.ends(), link.mtu) for link in after.links]
    )
