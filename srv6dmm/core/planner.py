"""The planner: what every router must hold, as a pure function of topology and state.

Incremental planning (`deltas`) looks at one session before and after; sessions never share
an entry's key, because a prefix belongs to one session. Hence the sum of all deltas equals
planning from scratch, which a property test holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from srv6dmm.core.computation import PathComputation
from srv6dmm.core.flow_book import EMPTY, FlowBook
from srv6dmm.core.flow_plans import FlowPlans
from srv6dmm.core.mobility import preferred_binding
from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.policy_paths import Choice, PolicyPaths
from srv6dmm.core.sids import core_interfaces_by_router, sid_table
from srv6dmm.core.topology import fixed_hosts_by_router
from srv6dmm.model.addresses import link_local_from_mac
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import (
    AdvertisedPrefix,
    Advertisement,
    Delivery,
    DropEntry,
    FlowSteering,
    LocalSid,
    Plan,
    PlanEntry,
    RouterSettings,
    SteeringEntry,
    UnderlayRoute,
    UnreachableRoute,
    UplinkBinding,
    advertise_key,
    mobile_key,
)
from srv6dmm.model.sid import Behavior, SegmentList
from srv6dmm.model.state import (
    Binding,
    RolloutPhase,
    Session,
    SessionKey,
    SessionPhase,
    State,
)
from srv6dmm.model.topology import Node, RouterSids, Topology

MAIN_TABLE = 254
"""End.DT6 looks inner destinations up here: deliveries, steering and the outside."""

DEFAULT_MTU, MAXIMUM_MTU = 1500, 65_535

_REMEMBERED = 1024
"""Sessions whose entries are kept at hand: those in the middle of a roll-out, mostly."""

_BEFORE_REDIRECT = (RolloutPhase.PREPARE, RolloutPhase.SWITCH)

EntryDelta = tuple[tuple[PlanEntry, ...], tuple[str, ...]]
"""(entries to put, keys that go), for one router."""


class Planner:
    """Plans for one topology. Holds only what follows from the topology."""

    def __init__(
        self, topology: Topology, parameters: MobilityParameters, book: FlowBook = EMPTY
    ) -> None:
        self.topology = topology
        self.parameters = parameters
        self.book = book
        self.paths = ShortestPaths(topology)
        self.sids: dict[str, RouterSids] = sid_table(topology)
        self.choices = PolicyPaths(topology, PathComputation(topology, self.paths, self.sids))
        self.flows = FlowPlans(topology, self.paths, self.choices)
        self._head_ends = tuple(node.name for node in topology.head_ends())
        self._hosts = fixed_hosts_by_router(topology)
        self._core_interfaces = core_interfaces_by_router(topology)
        self._core_links = topology.core_links()
        self._link_mtu = {
            (end.node, end.interface): link.mtu for link in topology.links for end in link.ends()
        }
        lengths = {node.locator.prefix.prefixlen for node in topology.routers() if node.locator}
        self._locator_length = lengths.pop() if len(lengths) == 1 else 0
        self._static = {
            node.name: {entry.key: entry for entry in self._static_entries(node)}
            for node in topology.routers()
        }
        self._recent: dict[SessionKey, tuple[Session, dict[str, tuple[PlanEntry, ...]]]] = {}
        self._inner_mtu = topology.inner_mtu()

    def use(self, book: FlowBook, sessions: Iterable[Session]) -> dict[str, EntryDelta]:
        """Plan by other rules from now on; return how each router's plan changes by that."""
        old, self.book = self.book, book
        concerned = {
            node for node in old.nodes() | book.nodes() if old.asks(node) != book.asks(node)
        }
        changed: dict[str, tuple[list[PlanEntry], list[str]]] = {}
        for session in sessions:
            if session.mobile_node not in concerned:
                continue
            self._recent.pop(session.key, None)
            for router in self._head_ends:
                before = {e.key: e for e in self._flow_entries(router, session, old)}
                after = {e.key: e for e in self._flow_entries(router, session, book)}
                put, gone = changed.setdefault(router, ([], []))
                put += [entry for key, entry in after.items() if before.pop(key, None) != entry]
                gone += [key for key in before if key not in after]
        return {
            router: (tuple(put), tuple(gone))
            for router, (put, gone) in changed.items()
            if put or gone
        }

    def plan(self, router: str, state: State) -> Plan:
        """Return the router's whole plan. Raises KeyError for a name that is no router."""
        entries = dict(self._static[router])
        for key in sorted(state.sessions):
            for entry in self._entries_at(router, state.sessions[key]):
                entries[entry.key] = entry
        return Plan(router, state.revision, entries)

    def session_entries(self, session: Session) -> dict[str, tuple[PlanEntry, ...]]:
        """Return what the session puts on each router; routers without any are left out."""
        found: dict[str, tuple[PlanEntry, ...]] = {}
        for router in self._head_ends:
            entries = tuple(self._entries_at(router, session))
            if entries:
                found[router] = entries
        return found

    def deltas(self, before: Session | None, after: Session | None) -> dict[str, EntryDelta]:
        """Return how each router's plan changes when the session does."""
        old = self._remembered(before) if before else {}
        new = self._remembered(after) if after else {}
        changed: dict[str, EntryDelta] = {}
        for router in sorted(old.keys() | new.keys()):
            had = {entry.key: entry for entry in old.get(router, ())}
            put = tuple(e for e in new.get(router, ()) if had.pop(e.key, None) != e)
            if put or had:
                changed[router] = (put, tuple(had))
        return changed

    def keys(self, session: Session) -> frozenset[str]:
        """Return the keys of all that the session puts on routers, or had put there."""
        found = {entry.key for entries in self._remembered(session).values() for entry in entries}
        found.update(mobile_key(binding.prefix) for binding in session.bindings)
        return frozenset((*found, advertise_key(*session.key)))

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
        """Return the routers from a head-end to a serving router, both included."""
        return self.paths.path(head_end, serving)

    def segments(self, head_end: str, target: str) -> SegmentList:
        """Return the segment list from a head-end to a router's End.DT6, in travel order.

        One segment: the underlay's shortest path is the path wanted. Raises NoPath.
        """
        return self._way(head_end, target).lists[0].segments

    def steering_target(self, session: Session) -> str:
        """Return the router that head-ends are told in the session's present phase."""
        if session.rollout is RolloutPhase.PREPARE and session.via is not None:
            return session.via
        return session.serving

    def _entries_at(self, router: str, session: Session) -> Iterator[PlanEntry]:
        node = self.topology.nodes.get(router)
        if node is None or not node.is_head_end:
            return
        for binding in session.bindings:
            entry = self._mobile_entry(node, session, binding)
            if entry is not None:
                yield entry
            if node.name == session.via and session.rollout is RolloutPhase.REDIRECT:
                yield self._uplink(node, session, binding)
        yield from self._flow_entries(router, session, self.book)
        yield from self._advertisements(node, session)

    def _advertisements(self, node: Node, session: Session) -> Iterator[Advertisement]:
        """Yield the RA of the serving router once head-ends have switched.

        Until then the router used before goes on with the RA it sends: it is told of the change
        when it is told to redirect, and not twice.
        """
        if session.rollout not in _BEFORE_REDIRECT:
            if node.name == session.serving and session.phase is SessionPhase.ACTIVE:
                yield self._advertisement(node, session)
        elif session.fallback is not None and node.name == session.via:
            yield from self._advertisements(node, session.fallback)

    def _mobile_entry(
        self, node: Node, session: Session, binding: Binding
    ) -> Delivery | SteeringEntry | DropEntry | None:
        """Return what a head-end does with a mobile prefix in the present phase.

        The serving router delivers. Until head-ends have switched, so does the router they used
        before; everybody else, routers of still earlier epochs too, steers to where the phase
        says. Whoever steers to the anchor needs no entry: plain routing leads there.
        """
        if node.name == session.serving:
            if session.phase is SessionPhase.DETACH_WAIT:
                return DropEntry(binding.prefix, session.mobile_node, session.epoch)
            return self._delivery(node, session, binding)
        target = self.steering_target(session)
        if node.name == session.via and session.rollout in _BEFORE_REDIRECT:
            return self._delivery(node, session, binding)
        if target == binding.anchor:
            return None
        try:
            way = self._way(node.name, target)
        except NoPath:
            return None  # plain routing has none either, and says so
        first = way.lists[0]
        return SteeringEntry(
            prefix=binding.prefix,
            segments=first.segments,
            mode=self.topology.domain.encap_mode,
            interface=first.interface,
            next_hop=first.next_hop,
            mtu=first.mtu,
            mobile_node=session.mobile_node,
            epoch=session.epoch,
            backup=way.backup,
        )

    def _way(self, head_end: str, target: str) -> Choice:
        """Return how packets are steered that no rule says anything else of. Raises NoPath."""
        way = self.choices.shortest(head_end, target)
        if not way.lists:
            raise NoPath(f"no path from {head_end!r} to {target!r}")
        return way

    def _flow_entries(
        self, router: str, session: Session, book: FlowBook
    ) -> Iterator[FlowSteering]:
        """Yield what a session's rules put on a head-end in the present phase.

        Who delivers takes in uplink packets, in the phases before a hand-over's end both routers
        do, and the one that is left until its late packets are through.
        """
        node = self.topology.nodes[router]
        if session.phase is SessionPhase.DETACH_WAIT or not book.rules(session.mobile_node):
            return
        target = self.steering_target(session)
        delivers = router == session.serving or (
            router == session.via and session.rollout in _BEFORE_REDIRECT
        )
        for binding in session.bindings:
            if router in (session.serving, session.via):
                yield from self.flows.uplink(node, session, binding, book)
            if not delivers and router != target:
                yield from self.flows.downlink(node, session, binding, target, book)

    def _uplink(self, node: Node, session: Session, binding: Binding) -> UplinkBinding:
        """Return the entry by which what the node sent just before it left is let in."""
        return UplinkBinding(
            prefix=binding.prefix,
            interface=node.access_interface or "",
            link_layer_address=session.link_layer_address,
            mobile_node=session.mobile_node,
        )

    def _delivery(self, node: Node, session: Session, binding: Binding) -> Delivery:
        if node.access_interface is None:
            raise ValueError(f"{node.name} has no access interface to deliver on")
        return Delivery(
            prefix=binding.prefix,
            interface=node.access_interface,
            link_layer_address=session.link_layer_address,
            link_local=link_local_from_mac(session.link_layer_address),
            mtu=self._link_mtu.get((node.name, node.access_interface), DEFAULT_MTU),
            mobile_node=session.mobile_node,
            epoch=session.epoch,
        )

    def _advertisement(self, node: Node, session: Session) -> Advertisement:
        preferred = preferred_binding(session)
        valid_s = self.parameters.valid_lifetime_s
        return Advertisement(
            mobile_node=session.mobile_node,
            node_interface=session.interface,
            interface=node.access_interface or "",
            link_layer_address=session.link_layer_address,
            link_local=link_local_from_mac(session.link_layer_address),
            prefixes=tuple(
                AdvertisedPrefix(
                    binding.prefix,
                    valid_s,
                    min(self.parameters.preferred_lifetime_s, valid_s)
                    if binding is preferred
                    else 0,
                )
                for binding in session.bindings
            ),
            mtu=self._inner_mtu,
            router_lifetime_s=self.parameters.router_lifetime_s,
            epoch=session.epoch,
        )

    def _static_entries(self, node: Node) -> Iterator[PlanEntry]:
        yield self._settings(node)
        yield from self._local_sids(node)
        for pool in node.pools:
            yield UnreachableRoute(pool)
        if node.locator is not None:
            yield UnreachableRoute(node.locator.prefix)
        for other in self.topology.routers():
            if other.name == node.name:
                continue
            interface, neighbour = self.paths.next_hop(node.name, other.name)
            via = self.topology.nodes[neighbour].link_local
            behind = [host.prefix for host in self._hosts.get(other.name, ())]
            locator = [other.locator.prefix] if other.locator else []
            for prefix in (*locator, *other.pools, *other.announces, *behind):
                yield UnderlayRoute(prefix, ((interface, via),))

    def _settings(self, node: Node) -> RouterSettings:
        domain = self.topology.domain
        access = node.access_interface
        return RouterSettings(
            loopback=node.loopback,
            link_local=node.link_local,
            core_interfaces=tuple(self._core_interfaces[node.name]),
            host_interfaces=tuple(
                (host.interface, host.router_address, host.prefix.prefixlen)
                for host in self._hosts.get(node.name, ())
            ),
            access_interface=access,
            access_link_local=domain.router_link_local if access else None,
            access_mac=domain.router_mac if access else None,
            sid_block=domain.sid_block,
            locator_length=self._locator_length,
        )

    def _local_sids(self, node: Node) -> Iterator[LocalSid]:
        sids = self.sids.get(node.name)
        if sids is None:
            return
        yield LocalSid(sids.end, Behavior.END)
        yield LocalSid(sids.end_dt6, Behavior.END_DT6, table=MAIN_TABLE)
        if sids.end_dx4 is not None:
            yield LocalSid(sids.end_dx4, Behavior.END_DX4, next_hop4=node.next_hop4)
        for link in self._core_links:
            for here, there in (link.ends(), link.ends()[::-1]):
                if here.node == node.name:
                    yield LocalSid(
                        sids.adjacencies[here.interface],
                        Behavior.END_X,
                        interface=here.interface,
                        next_hop=self.topology.nodes[there.node].link_local,
                    )
