"""Why a packet goes where it goes: rules, policy, candidate paths, segment lists, hops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from math import inf

from srv6dmm.core.compression import shifted
from srv6dmm.core.fib_walk import FibWalk, Packet, Walk, mismatch
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.flow_plans import ANY
from srv6dmm.core.paths import NoPath
from srv6dmm.core.planner import Planner
from srv6dmm.core.policy_paths import Choice
from srv6dmm.core.session_plans import steering_target
from srv6dmm.core.sids import SID_NAMES, named_sids
from srv6dmm.core.wire_header import WireHeader, wire_header
from srv6dmm.model.addresses import as_text
from srv6dmm.model.errors import Refusal
from srv6dmm.model.flows import Direction, FlowRule
from srv6dmm.model.plan import FlowSelector, FlowSteering, PlanEntry, SteeringEntry, SteeringList
from srv6dmm.model.sid import EncapMode, SegmentList
from srv6dmm.model.state import Session, State
from srv6dmm.model.topology import Role

_TURNED = {Direction.UPLINK: Direction.DOWNLINK, Direction.DOWNLINK: Direction.UPLINK}


@dataclass(frozen=True, slots=True)
class Question:
    """A packet of a mobile node, or to it, as far as it is known."""

    mobile_node: str
    peer: IPv6Address
    direction: Direction
    """UPLINK: from the node to the peer; DOWNLINK: the other way."""
    interface: str | None = None
    address: IPv6Address | None = None
    """The node's own; None: one in its preferred prefix."""
    protocol: int = 59
    own_port: int | None = None
    peer_port: int | None = None
    dscp: int = 0
    head_end: str | None = None
    """Where it enters the domain; None: where it would by itself."""


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """A rule of the node, or of one at the other end, and what it says of the packet."""

    rule: FlowRule
    matches: bool
    decides: bool
    reason: str
    mobile_node: str = ""
    """Whose rule it is here."""


@dataclass(frozen=True, slots=True)
class SegmentMeaning:
    """A SID of a list: whose it is and what it does there."""

    sid: IPv6Address
    router: str | None
    behavior: str
    """"unknown" for a SID of nobody in the domain, "container" for several in one."""
    detail: str | None
    slots: tuple[SegmentMeaning, ...] = ()
    """Of a container: its SIDs in travel order, each as the router sees it that it is of."""


@dataclass(frozen=True, slots=True)
class ListMeaning:
    """A segment list that packets may get, and its header."""

    way: SteeringList
    backup: bool
    segments: tuple[SegmentMeaning, ...]
    header: WireHeader | None
    inner_mtu: int
    """The largest packet in bytes that fits."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole answer."""

    packet: Packet
    session: Session
    head_end: str
    rules: tuple[RuleVerdict, ...]
    """By priority, the greatest first."""
    policy: str | None
    """None: the way of its prefix, or plain routing."""
    choice: Choice | None
    """What the policy came to."""
    mode: EncapMode
    lists: tuple[ListMeaning, ...]
    """Empty: the packet is not encapsulated, or dropped."""
    walks: tuple[Walk, ...]
    """One for each list that is not a backup, or the only one."""


class Explainer:
    """Answers questions about one state."""

    def __init__(
        self, planner: Planner, state: State, plans: Callable[[str], Iterable[PlanEntry]]
    ) -> None:
        """`plans` returns what a router has applied."""
        self._planner = planner
        self._state = state
        self._topology = planner.topology
        self._walks = FibWalk(planner.topology, plans, planner.down)
        self._owners = {
            sid: (router, name)
            for router, own in planner.sids.items()
            for name, sid in named_sids(own)
        }

    def explain(self, question: Question) -> Explanation:
        """Return why and where a packet goes.

        Raises Refusal `unknown-mobile-node` and `validation`, which names what cannot be.
        """
        session = self._session(question)
        packet = self._packet(question, session)
        head_end = self._head_end(question, session, packet)
        fib = self._walks.fib(head_end)
        flow = fib.flow(packet)
        other = self._serves(question.peer)
        if other is not None and other.mobile_node == session.mobile_node:
            other = None
        rules = tuple(self._verdicts(question, session, packet, flow, head_end))
        if other is not None:
            # Between two mobile nodes the rules of the destination's downlink hold.
            turned = replace(question, direction=_TURNED[question.direction])
            rules += tuple(
                replace(verdict, reason=f"of {other.mobile_node}: {verdict.reason}")
                for verdict in self._verdicts(turned, other, packet, flow, head_end)
            )
        mode = self._topology.domain.encap_mode
        source = self._topology.nodes[head_end].loopback
        ways: list[tuple[SteeringList, bool]] = []
        policy, choice = None, None
        if flow is not None:
            ways = [(way, False) for way in flow.lists]
            ways += [(flow.backup, True)] if flow.backup is not None else []
            owner = session
            if other is not None and flow.mobile_node == other.mobile_node:
                owner = other
            policy, choice = self._policy(flow, head_end, owner, packet)
        else:
            entry = fib.longest(packet.destination, lambda _: True)
            if isinstance(entry, SteeringEntry):
                ways = [(_as_list(entry), False)]
                ways += [(entry.backup, True)] if entry.backup is not None else []
        lists = tuple(self._list(way, backup, mode, source) for way, backup in ways)
        walks = self._walk(head_end, packet, flow)
        return Explanation(packet, session, head_end, rules, policy, choice, mode, lists, walks)

    def _walk(self, head_end: str, packet: Packet, flow: FlowSteering | None) -> tuple[Walk, ...]:
        if flow is None or len(flow.lists) < 2:
            return (self._walks.walk(head_end, packet),)
        return tuple(
            self._walks.walk(
                head_end,
                packet,
                lambda entry, way=way: way if way in entry.lists else entry.lists[0],  # type: ignore[misc]
            )
            for way in flow.lists
        )

    # --- the packet --------------------------------------------------------------------------

    def _session(self, question: Question) -> Session:
        found = [
            session
            for key, session in sorted(self._state.sessions.items())
            if session.mobile_node == question.mobile_node
            and question.interface in (None, session.interface)
        ]
        if not found:
            raise Refusal(
                "unknown-mobile-node",
                f"{question.mobile_node!r} is not attached anywhere; see /v1/mobile-nodes",
                404,
            )
        return found[0]

    def _packet(self, question: Question, session: Session) -> Packet:
        own = question.address
        prefixes = [binding.prefix for binding in session.bindings]
        if own is None:
            own = prefixes[-1][1]
        elif not any(own in prefix for prefix in prefixes):
            raise Refusal(
                "validation",
                f"{own} is in none of {question.mobile_node}'s prefixes "
                f"({', '.join(map(str, prefixes))})",
                422,
            )
        ends = (own, question.peer, question.own_port, question.peer_port)
        if question.direction is Direction.DOWNLINK:
            ends = (question.peer, own, question.peer_port, question.own_port)
        source, destination, source_port, destination_port = ends
        return Packet(
            source, destination, question.protocol, source_port, destination_port, question.dscp
        )

    def _head_end(self, question: Question, session: Session, packet: Packet) -> str:
        if question.head_end is not None:
            node = self._topology.nodes.get(question.head_end)
            if node is None or not node.is_head_end:
                raise Refusal(
                    "validation",
                    f"{question.head_end!r} is no access or border router of this domain",
                    422,
                )
            return question.head_end
        if question.direction is Direction.UPLINK:
            return session.serving
        return self._entrance(packet.source, steering_target(session))

    def _entrance(self, source: IPv6Address, target: str) -> str:
        """Return where packets from an address enter: the nearest border, if it is outside."""
        other = self._serves(source)
        if other is not None:
            return other.serving
        for prefix, router in self._planner.flows.fixed:
            if source in prefix:
                return router
        borders = [n.name for n in self._topology.head_ends() if n.role is Role.BORDER]
        if not borders:
            raise Refusal(
                "validation",
                f"{source} is nowhere in the domain, and it has no border router",
                422,
            )
        return min(borders, key=lambda name: (self._distance(name, target), name))

    def _serves(self, address: IPv6Address) -> Session | None:
        """Return the session that has an address, if one does."""
        return next(
            (
                session
                for _, session in sorted(self._state.sessions.items())
                if any(address in binding.prefix for binding in session.bindings)
            ),
            None,
        )

    def _distance(self, source: str, target: str) -> float:
        try:
            return self._planner.paths.distance(source, target)
        except NoPath:
            return inf

    # --- why ---------------------------------------------------------------------------------

    def _verdicts(
        self,
        question: Question,
        session: Session,
        packet: Packet,
        flow: FlowSteering | None,
        head_end: str,
    ) -> Iterable[RuleVerdict]:
        rules = FlowBook.of(self._state).rules(session.mobile_node)
        for rule in sorted(rules, key=lambda rule: (-rule.priority, rule.name)):
            why_not = self._differs(rule, question, packet)
            decides = (
                flow is not None
                and flow.rule == rule.name
                and flow.mobile_node == session.mobile_node
                and flow.uplink is (question.direction is Direction.UPLINK)
            )
            mobile = question.direction is Direction.UPLINK and self._serves(packet.destination)
            if why_not is None and mobile and not decides:
                why_not = (
                    f"{as_text(packet.destination)} is {mobile.mobile_node}'s, and between mobile "
                    "nodes the rules of the destination's downlink hold"
                )
            if decides:
                reason = "it decides"
            elif why_not is not None:
                reason = why_not
            elif session.unruled:
                reason = (
                    f"it matches, and none of {session.mobile_node}'s rules is applied: a head-end "
                    "had no room for its flow entries when it came"
                )
            elif flow is not None:
                reason = f"it matches too, and {flow.rule} comes before it"
            else:
                reason = (
                    f"it matches, and {head_end} has no entry of it: the packet stays there, or "
                    "goes where no path is computed to"
                )
            yield RuleVerdict(rule, why_not is None, decides, reason, session.mobile_node)

    def _differs(self, rule: FlowRule, question: Question, packet: Packet) -> str | None:
        if rule.direction not in (Direction.BOTH, question.direction):
            return f"it is for {rule.direction.value} packets"
        match = rule.match
        own, peer = match.own_prefix or ANY, match.peer or ANY
        selector = FlowSelector(
            own, peer, match.protocol, match.own_ports, match.peer_ports, match.dscp
        )
        if question.direction is Direction.DOWNLINK:
            selector = FlowSelector(
                peer, own, match.protocol, match.peer_ports, match.own_ports, match.dscp
            )
        return mismatch(selector, packet)

    def _policy(
        self, flow: FlowSteering, head_end: str, session: Session, packet: Packet
    ) -> tuple[str | None, Choice | None]:
        book = FlowBook.of(self._state)
        rule = next((r for r in book.rules(session.mobile_node) if r.name == flow.rule), None)
        if rule is None:
            return None, None
        target = steering_target(session)
        if flow.uplink:
            exits = self._planner.flows.exits(head_end, rule.match.peer)
            target = next((way.egress for way in exits if packet.destination in way.prefix), target)
        return rule.policy, self._planner.flows.choose(rule, head_end, target, book)

    # --- how ---------------------------------------------------------------------------------

    def _list(
        self, way: SteeringList, backup: bool, mode: EncapMode, source: IPv6Address | None
    ) -> ListMeaning:
        header = None
        if source is not None and mode is not EncapMode.INLINE:
            header = wire_header(mode, source, way.segments)
        return ListMeaning(
            way,
            backup,
            tuple(map(self.meaning, way.segments)),
            header,
            way.mtu - mode.overhead(len(way.segments)),
        )

    def meaning(self, sid: IPv6Address) -> SegmentMeaning:
        """Return whose a SID is and what it does there; of a container, whose it ends at."""
        inside = self._planner.compression.expand(sid)
        if len(inside) > 1:
            return self._container(sid, inside)
        router, name = self._owners.get(sid, (None, ""))
        if router is None:
            return SegmentMeaning(sid, None, "unknown", None)
        if name.startswith("end-x "):
            interface = name.removeprefix("end-x ")
            far = self._walks.far_end(router, interface)
            towards = f" to {far.node}" if far is not None else ""
            return SegmentMeaning(sid, router, "End.X", f"out of {interface}{towards}")
        if name.startswith("anycast "):
            group = name.removeprefix("anycast ")
            return SegmentMeaning(sid, None, "End", f"the nearest of anycast group {group}")
        if name.startswith("service "):
            return SegmentMeaning(sid, router, "service", name.removeprefix("service "))
        return SegmentMeaning(sid, router, SID_NAMES[name], None)

    def _container(self, container: IPv6Address, inside: SegmentList) -> SegmentMeaning:
        """Slot by slot: every router but the last sees a uN, and what is still to come."""
        slots: list[SegmentMeaning] = []
        seen: IPv6Address | None = container
        for sid in inside:
            meaning = self.meaning(sid)
            if seen is not None and seen != sid:
                meaning = replace(meaning, sid=seen, behavior="uN")
                seen = shifted(seen)
            slots.append(meaning)
        said = ", ".join(
            f"{one.behavior} {one.router}{' ' + one.detail if one.detail else ''}" for one in slots
        )
        return SegmentMeaning(container, slots[-1].router, "container", said, tuple(slots))


def _as_list(entry: SteeringEntry) -> SteeringList:
    return SteeringList(entry.segments, entry.interface, entry.next_hop, entry.mtu)
