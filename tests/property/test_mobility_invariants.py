"""Random events, in any order, with slow routers, failures and restarts, against the
invariants of the life cycle: nothing doubled, nothing leaked, no loop, no gap."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from srv6dmm.core import mobility
from srv6dmm.core.planner import Planner
from srv6dmm.core.release import release
from srv6dmm.core.rerouting import EntryDelta
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent, DetachEvent, Outcome
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import Advertisement, Delivery, PlanEntry, SteeringEntry
from srv6dmm.model.state import Change, LeaseState, RolloutPhase, SessionKey, SessionPhase, State
from tests.domains import small_domain

NODES = ["mn1", "mn2"]
ROUTERS = ["ar1", "ar2", "ar3"]
TOPOLOGY = small_domain(3, pool_length=62)
PARAMETERS = MobilityParameters(
    min_delay_before_delete_ms=1000,
    late_packets_ms=200,
    valid_lifetime_s=5,
    default_lifetime_s=60,
    max_prefixes=3,
    idle_release_s=2,
)
SEQUENCES = st.sampled_from([None, None, None, 0, 1, 2, 30_000, 60_000, 65_535])
PLANNER = Planner(TOPOLOGY, PARAMETERS)


class Domain(RuleBasedStateMachine):
    """One controller's decisions, and routers that apply deltas when they get round to it."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.now = 1_000_000
        self.ids = 0
        self.routers: dict[str, dict[str, PlanEntry]] = {}
        self.queues: dict[str, deque[EntryDelta]] = {}
        self.delivered: set[SessionKey] = set()
        self.accepted: list[AttachEvent | DetachEvent] = []
        self.epochs: dict[SessionKey, int] = {}
        self.order: dict[SessionKey, tuple[int | None, int | None]] = {}
        """The newest timestamp, or else sequence number, that was accepted."""

    @initialize()
    def start(self) -> None:
        for node in TOPOLOGY.routers():
            self.routers[node.name] = {}
            self.queues[node.name] = deque()

    def commit(self, change: Change) -> None:
        if not change:
            return
        keys = {s.key for s in change.sessions} | set(change.sessions_gone)
        before = {key: self.state.sessions.get(key) for key in keys}
        self.state.apply(change, self.state.revision + 1)
        for key in keys:
            after = self.state.sessions.get(key)
            for router, delta in PLANNER.deltas(before[key], after).items():
                self.queues[router].append(delta)
            if after is None:
                self.delivered.discard(key)
                self.order.pop(key, None)
            else:
                if after.phase is SessionPhase.DETACH_WAIT:
                    self.delivered.discard(key)  # until somebody delivers again
                newest = self.epochs.get(key, 0)
                assert after.epoch >= newest, "an epoch fell"
                assert before[key] is not None or after.epoch > newest, "an epoch came again"
                self.epochs[key] = after.epoch

    def submit(self, event: AttachEvent | DetachEvent) -> Outcome | None:
        before = repr(self.state)
        try:
            decision = mobility.decide(self.state, event, self.now, TOPOLOGY, PARAMETERS)
        except Refusal:
            assert repr(self.state) == before
            return None
        if not decision.replayed:
            self.accepted.append(event)
            assert (decision.answer.timestamp_ms, decision.answer.sequence) == (
                event.timestamp_ms,
                event.sequence,
            )
            if decision.answer.outcome is not Outcome.IGNORED:
                self.in_order(event)
        self.commit(decision.change)
        return decision.answer.outcome

    def in_order(self, event: AttachEvent | DetachEvent) -> None:
        """An event that was accepted is newer than all accepted before, by what they carried."""
        key = (event.mobile_node, event.interface)
        stamp, number = self.order.get(key, (None, None))
        of_node = [t for (node, _), (t, _) in self.order.items() if t and node == key[0]]
        if event.timestamp_ms is not None:
            assert abs(event.timestamp_ms - self.now) <= PARAMETERS.timestamp_window_ms
            assert all(event.timestamp_ms > earlier for earlier in of_node)
        else:
            assert stamp is None, "moved by an event without a timestamp"
        if number is not None:
            assert event.sequence is not None, "moved by an event without a sequence number"
            assert 0 < (event.sequence - number) % 65536 < 32768
        if event.timestamp_ms is not None:
            self.order[key] = (event.timestamp_ms, None)
        elif event.sequence is not None:
            self.order[key] = (None, event.sequence)

    def fresh_id(self) -> str:
        self.ids += 1
        return f"e{self.ids}"

    @rule(
        node=st.sampled_from(NODES),
        router=st.sampled_from(ROUTERS),
        skew=st.sampled_from([None, 0, 1, -250, 250, 900, -900]),
        sequence=SEQUENCES,
        mac=st.sampled_from([1, 1, 1, 2]),
        interface=st.sampled_from(["0", "0", "0", "1"]),
    )
    def attach(
        self,
        node: str,
        router: str,
        skew: int | None,
        sequence: int | None,
        mac: int,
        interface: str,
    ) -> None:
        self.submit(
            AttachEvent(
                self.fresh_id(),
                node,
                router,
                f"02:00:00:00:0{NODES.index(node)}:{interface}{mac}",
                interface,
                None if skew is None else self.now + skew,
                sequence,
            )
        )

    @rule(
        node=st.sampled_from(NODES),
        router=st.sampled_from(ROUTERS),
        skew=st.sampled_from([None, 0, 2, 250]),
        sequence=SEQUENCES,
    )
    def detach(self, node: str, router: str, skew: int | None, sequence: int | None) -> None:
        session = self.state.sessions.get((node, "0"))
        stamp = None if skew is None else self.now + skew
        event = DetachEvent(self.fresh_id(), node, router, timestamp_ms=stamp, sequence=sequence)
        outcome = self.submit(event)
        if session is not None and session.serving != router:
            assert outcome is Outcome.IGNORED
            assert self.state.sessions[(node, "0")] == session

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.accepted))
        if event.event_id not in self.state.events:
            return
        revision = self.state.revision
        again = mobility.decide(self.state, event, self.now, TOPOLOGY, PARAMETERS)
        assert again.replayed
        assert again.answer == self.state.events[event.event_id].answer
        assert self.state.revision == revision
        other = replace(event, access_router="ar1", interface="other")
        with pytest.raises(Refusal, match="event-id-reused"):
            mobility.decide(self.state, other, self.now, TOPOLOGY, PARAMETERS)

    @rule(router=st.sampled_from([*ROUTERS, "br1"]))
    def apply_one(self, router: str) -> None:
        if self.queues[router]:
            put, gone = self.queues[router].popleft()
            for key in gone:
                del self.routers[router][key]
            for entry in put:
                self.routers[router][entry.key] = entry

    @rule(router=st.sampled_from([*ROUTERS, "br1"]))
    def apply_all(self, router: str) -> None:
        while self.queues[router]:
            self.apply_one(router)

    @rule(node=st.sampled_from(NODES))
    def advance(self, node: str) -> None:
        session = self.state.sessions.get((node, "0"))
        if session is None or any(self.queues[r] for r in PLANNER.waits_for(session)):
            return
        if session.rollout is RolloutPhase.REDIRECT and any(self.queues.values()):
            return
        self.commit(mobility.advance(session, self.now, PARAMETERS))
        if session.phase is SessionPhase.ACTIVE:
            self.delivered.add(session.key)

    @rule(node=st.sampled_from(NODES))
    def fail_prepare(self, node: str) -> None:
        session = self.state.sessions.get((node, "0"))
        if session is not None and session.rollout is RolloutPhase.PREPARE:
            self.commit(mobility.abort(self.state, session, self.now, PARAMETERS))

    @rule(node=st.sampled_from(NODES))
    def nothing_is_used(self, node: str) -> None:
        """No router has counted anything: what may be released is."""
        session = self.state.sessions.get((node, "0"))
        for binding in session.bindings if session is not None else ():
            session = self.state.sessions[(node, "0")]
            change = release(self.state, session, binding.prefix, self.now, PARAMETERS)
            if not change:
                continue
            assert session.rollout is RolloutPhase.STABLE
            assert binding != mobility.preferred_binding(session)
            assert binding.anchor != session.serving
            assert binding.created_ms + 2000 <= self.now
            self.commit(change)
            assert self.state.leases[binding.prefix].state is LeaseState.QUARANTINE

    @rule(ms=st.sampled_from([1, 50, 300, 1200, 6000]))
    def pass_time(self, ms: int) -> None:
        self.now += ms
        for due, timer in sorted(mobility.deadlines(self.state), key=repr):
            if due <= self.now and not (timer[0] == "late" and any(self.queues.values())):
                self.commit(mobility.expire(self.state, timer, self.now, PARAMETERS))

    @rule()
    def restart(self) -> None:
        """A new controller sends full plans: whatever was in flight does not matter."""
        for router in self.routers:
            self.queues[router].clear()
            plan = PLANNER.plan(router, self.state)
            static = set(PLANNER.plan(router, State()).entries)
            self.routers[router] = {k: e for k, e in plan.entries.items() if k not in static}

    @invariant()
    def every_prefix_has_one_owner(self) -> None:
        owners: dict[object, SessionKey] = {}
        for session in self.state.sessions.values():
            assert session.bindings
            assert session.serving not in session.previous
            for binding in session.bindings:
                assert owners.setdefault(binding.prefix, session.key) == session.key
                lease = self.state.leases[binding.prefix]
                assert (lease.state, lease.holder) == (LeaseState.LEASED, session.key)
        for lease in self.state.leases.values():
            held = lease.prefix in owners
            assert held == (lease.state is LeaseState.LEASED), lease
        counts: dict[str, int] = {}
        for lease in self.state.leases.values():
            counts[lease.anchor] = counts.get(lease.anchor, 0) + 1
        assert {a: n for a, n in self.state.held.items() if n} == counts

    @invariant()
    def incremental_equals_from_scratch(self) -> None:
        for router, entries in self.routers.items():
            ahead = dict(entries)
            for put, gone in self.queues[router]:
                for key in gone:
                    del ahead[key]
                ahead.update((entry.key, entry) for entry in put)
            static = PLANNER.plan(router, State()).entries
            assert static | ahead == PLANNER.plan(router, self.state).entries

    @invariant()
    def no_advertisement_before_the_acknowledgements(self) -> None:
        for session in self.state.sessions.values():
            entries = [e for es in PLANNER.session_entries(session).values() for e in es]
            advertised = [e for e in entries if isinstance(e, Advertisement)]
            if session.rollout in (RolloutPhase.PREPARE, RolloutPhase.SWITCH):
                serving = PLANNER.session_entries(session).get(session.serving, ())
                assert not any(isinstance(e, Advertisement) for e in serving)
            assert len(advertised) <= 1

    @invariant()
    def packets_find_the_node_from_everywhere(self) -> None:
        """Whatever mix of old and new every router holds: no loop, and a router delivers."""
        for session in self.state.sessions.values():
            if session.key not in self.delivered or session.phase is not SessionPhase.ACTIVE:
                continue
            for binding in session.bindings:
                if (
                    session.rollout is not RolloutPhase.STABLE
                    and (session.fallback is None or binding not in session.fallback.bindings)
                    and session.rollout is RolloutPhase.PREPARE
                ):
                    continue  # not advertised yet: nobody can send to it
                for head_end in self.routers:
                    if head_end != "tr1":
                        self.walk(head_end, binding.prefix, binding.anchor)

    def walk(self, router: str, prefix: object, anchor: str) -> None:
        seen: list[str] = []
        while True:
            assert router not in seen, f"loop for {prefix}: {[*seen, router]}"
            seen.append(router)
            entry = self.routers[router].get(f"mobile {prefix}")
            if isinstance(entry, Delivery):
                return
            if isinstance(entry, SteeringEntry):
                router = next(
                    name
                    for name, sids in PLANNER.sids.items()
                    if sids.end_dt6 == entry.segments[-1]
                )
                continue
            assert entry is None, f"dropped at {router}: {entry}"
            assert router != anchor, f"lost for {prefix} at the anchor: {[*seen]}"
            router = anchor

    def teardown(self) -> None:
        """Everybody leaves, quarantine ends: nothing may be left anywhere."""
        self.now += 10_000_000
        for _ in range(3):
            for _, timer in sorted(mobility.deadlines(self.state), key=repr):
                self.commit(mobility.expire(self.state, timer, self.now, PARAMETERS))
            self.now += 10_000_000
        assert not self.state.sessions
        assert not self.state.leases
        for router in self.routers:
            self.apply_all(router)
            assert not self.routers[router]


TestDomain = Domain.TestCase
TestDomain.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, derandomize=True
)
