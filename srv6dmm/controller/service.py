"""The control service: event, decision, commit, plans, staged roll-out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Network

import structlog

from srv6dmm.config import DelaySettings, DetectionSettings, RolloutSettings
from srv6dmm.controller.arrivals import Arrivals
from srv6dmm.controller.changes import Changed, Changes, declared_topology
from srv6dmm.controller.clock import Clock
from srv6dmm.controller.explaining import Explaining
from srv6dmm.controller.feed import Feed, FeedEvent
from srv6dmm.controller.hub import Hub, RouterConnection, RouterStatus, Send
from srv6dmm.controller.ledger import Before, Ledger, Published
from srv6dmm.controller.measure import Measurements, Timings
from srv6dmm.controller.releases import IDLE, Releases
from srv6dmm.controller.rollout import Rollouts
from srv6dmm.controller.tickets import Ticket, finish, tell
from srv6dmm.controller.timers import Timers
from srv6dmm.controller.traffic import Traffic
from srv6dmm.controller.turns import Turns
from srv6dmm.core import mobility, outcomes
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.flow_room import FlowRoom
from srv6dmm.core.mobility import Decision, Timer
from srv6dmm.core.planner import Planner
from srv6dmm.core.rerouting import EntryDelta
from srv6dmm.core.state_checks import check_topology
from srv6dmm.core.topology_document import digest
from srv6dmm.model.errors import Refusal, StoreError
from srv6dmm.model.events import Answer, Event, Outcome
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import FlowSteering, Plan
from srv6dmm.model.state import (
    Binding,
    Change,
    RolloutPhase,
    Session,
    SessionKey,
    SessionPhase,
    State,
)
from srv6dmm.model.topology import LinkEnd, Topology
from srv6dmm.model.wire import EntryFailure, ForwardingMode, Hello, Report
from srv6dmm.store.interface import Store

log = structlog.get_logger()

BEHIND_RETRY_MS = 500
"""How soon the clean step looks again when a router has not acknowledged yet."""
STORE_RETRY_S = 1.0
"""How soon a step that nobody waits for is tried again when the store refuses it."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """An accepted, durable event.

    `applied` resolves when every stage was acknowledged, has the Refusal that says why that will
    not come, or Incomplete when routers are missing. It stays open when the controller stops.
    """

    answer: Answer
    revision: int
    replayed: bool
    timings: Timings
    applied: asyncio.Future[Timings]


class Controller:
    """One domain's control service. Runs in one event loop; no HTTP in it."""

    def __init__(
        self,
        topology: Topology,
        parameters: MobilityParameters,
        rollout: RolloutSettings,
        store: Store,
        clock: Clock,
        boot_id: str,
        detection: DetectionSettings | None = None,
        delay: DelaySettings | None = None,
    ) -> None:
        """Load the state. Raises StoreUnavailable when it cannot be read, and Refusal
        `topology-mismatch` when it speaks of routers that the topology has not."""
        self.parameters = parameters
        self.measurements = Measurements()
        self.boot_id = boot_id
        self._clock = clock
        self._store = store
        self._ledger = Ledger(store, self._publish, self._announce, self._withdraw)
        declared = declared_topology(topology, digest(topology), self.state)
        check_topology(self.state, declared)
        book, down = FlowBook.of(self.state), self.state.links_down
        self.planner = Planner(
            declared,
            parameters,
            book,
            down,
            self.state.csid.values(),
            self.state.delays,
            self.state.lists_silent,
        )
        self._room = FlowRoom(self.planner)
        self._turns = Turns()
        self._tasks: set[asyncio.Task[None]] = set()
        self._submits: set[asyncio.Task[Submitted]] = set()
        self._started = False
        self._unheard: set[SessionKey] = set()
        """Sessions of an earlier life whose last stage this one has not seen acknowledged."""
        self._feed = Feed()
        self._hub = Hub(
            {node.name: node.role.value for node in topology.routers()},
            clock,
            boot_id,
            rollout.heartbeat_s,
            rollout.heartbeats_missed,
            self.plan,
        )
        self._hub.on_notice = self._notice
        self._hub.on_detected = lambda router, seen: self._spawn(self._arrivals.take(router, seen))
        self.explaining = Explaining(
            self.planner, self._hub, lambda: self.state, clock, partial(secrets.token_bytes, 8)
        )
        self._arrivals = Arrivals(
            detection or DetectionSettings(),
            clock,
            parameters.default_lifetime_s * 1000 // 2,
            lambda: self.state,
            self.submit,
            self.measurements.detections,
            self._feed,
        )
        self._heartbeat_s = rollout.heartbeat_s
        self._changes = Changes(
            topology,
            self.planner,
            self._hub,
            self._ledger,
            self._commit,
            clock,
            self._feed,
            rollout.prepare_timeout_s,
            self._spawn,
            delay or DelaySettings(),
        )
        self._rollouts = Rollouts(self.planner, self._hub, rollout, lambda: self.state.revision)
        self._rollouts.on_acknowledged = self._acknowledged
        self._rollouts.on_abort = self._aborted
        self._rollouts.on_degraded = self._degraded
        self._rollouts.on_late = self._applied_late
        self._timers = Timers(clock, self._timer_due)
        self._releases = Releases(
            self.planner,
            self._hub,
            self._timers,
            self._turns,
            clock,
            self._feed,
            parameters,
            lambda: self._ledger.newest,
            self._try_commit,
        )

    @property
    def state(self) -> State:
        """The newest durable state. Not to be changed."""
        return self._ledger.durable

    @property
    def topology(self) -> Topology:
        """The domain as declared, links that do not work included."""
        return self.planner.topology

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._started

    async def start(self) -> None:
        """Take up what the last run left: timers, and roll-outs at their durable phase."""
        self._started = True
        durable = self.state
        self._hub.restart_from(durable.revision)
        self._timers.add(mobility.deadlines(durable))
        self._releases.begin(durable)
        self._changes.start()
        # Which head-ends were behind is not in the records: any of them may be.
        behind = {node.name: durable.revision for node in self.topology.head_ends()}
        awaiting = outcomes.unsettled(durable)
        for session in durable.sessions.values():
            if session.rollout is not RolloutPhase.STABLE:
                waiting = awaiting.get(session.key, ())
                self._rollouts.enter(session, behind=behind, awaiting=waiting)
            else:
                self._unheard.add(session.key)
        self._spawn(self._timers.run())
        self._spawn(self._supervise())

    async def stop(self) -> None:
        """Stop deciding. Routers forward on; what is durable is all that matters."""
        self._started = False
        self._rollouts.close()
        self._changes.close()
        self._hub.drop_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._submits, return_exceptions=True)

    async def submit(self, event: Event) -> Submitted:
        """Decide an event and make it durable. Raises Refusal when it changes nothing.

        Cancelling the call ends the wait only: what happened to the node has happened.
        """
        task = asyncio.ensure_future(self._submit(event))
        self._submits.add(task)
        task.add_done_callback(self._submitted)
        return await asyncio.shield(task)

    def _submitted(self, task: asyncio.Task[Submitted]) -> None:
        self._submits.discard(task)
        if not task.cancelled():
            task.exception()  # a refusal that nobody waits for any more is no error

    async def _submit(self, event: Event) -> Submitted:
        clock = self._clock
        started = clock.monotonic()
        async with self._turns.of(event.mobile_node):
            try:
                decision = mobility.decide(
                    self._ledger.newest, event, clock.now_ms(), self.topology, self.parameters
                )
            except Refusal as refusal:
                self.measurements.refusals[refusal.type] += 1
                raise
            timings = Timings(round((clock.monotonic() - started) * 1e3, 3), 0.0)
            key = (event.mobile_node, event.interface)
            if decision.replayed:
                return self._replayed(key, decision, timings, started)
            change, full = self._room.settle(decision.change, key, self._ledger.newest)
            sessions = {session.key: session for session in change.sessions}
            session = sessions.get(key)
            ticket = None
            if session is not None and decision.answer.outcome is not Outcome.IGNORED:
                ticket = self._ticket(event.event_id, session.epoch, timings, started)
                ticket.applied.add_done_callback(partial(self._applied, session))
                before = self._ledger.newest.sessions.get(key)
                if before is not None and _step(before) != _step(session):
                    change = self._overtaking(key, change, outcomes.superseded(session))
            try:
                revision = await self._commit(change, ticket)
            except Refusal:
                self._rollouts.resume(key)
                raise
            timings.durable_ms = round((clock.monotonic() - started) * 1e3, 3)
            self._count(decision.answer, timings)
            self._feed.add(
                decision.answer.outcome.name.lower(),
                self._clock.now_ms(),
                mobile_node=event.mobile_node,
                interface=event.interface,
                access_router=event.access_router,
                epoch=decision.answer.epoch,
                revision=revision,
                event_id=event.event_id,
            )
            if full:
                self._feed.add(
                    "rules-left-out",
                    self._clock.now_ms(),
                    mobile_node=event.mobile_node,
                    interface=event.interface,
                    epoch=decision.answer.epoch,
                    routers=full,
                )
        end = ticket.applied if ticket else _resolved(timings)
        return Submitted(decision.answer, revision, False, timings, end)

    async def change_rules(self, decide: Callable[[State], Change]) -> Changed:
        """Change policies, flow rules or groups. See `controller.changes`. Raises Refusal."""
        return await self._changes.rules(decide)

    async def change_topology(self, decide: Callable[[Topology, State], Topology]) -> Changed:
        """Change what is declared of the domain. See `controller.changes`. Raises Refusal."""
        return await self._changes.topology(decide)

    def plan(self, router: str) -> Plan:
        """Return a router's whole plan at the durable revision. Raises KeyError."""
        return self.planner.plan(router, self.state)

    def connect(self, hello: Hello, send: Send, close: Callable[[], None]) -> RouterConnection:
        """Take a router's connection in. Raises Refusal."""
        return self._hub.connect(hello, send, close)

    def applied(self, router: str) -> bool:
        """Tell whether a router has acknowledged all that it was told."""
        return self._hub.has(router, self._hub.target(router))

    def routers(self) -> list[RouterStatus]:
        """Return every router's status in name order."""
        return self._hub.status()

    def traffic(self, prefix: IPv6Network) -> list[Traffic]:
        """Return what each router's fast path counted for a prefix."""
        return self._hub.traffic.of(prefix)

    def flow_traffic(self, router: str, entry: FlowSteering) -> Traffic | None:
        """Return what a router's fast path counted for a flow entry; None when nothing."""
        return self._hub.traffic.of_flow(router, entry.number)

    async def resync(self, router: str) -> Report:
        """Have a router read its kernel back, repair and report. Raises Refusal."""
        return await self._hub.resync(router)

    async def set_mode(self, router: str, mode: ForwardingMode) -> None:
        """Have a router forward in another mode. Raises Refusal, also when it cannot."""
        await self._hub.set_mode(router, mode)

    def pending_routers(self, key: SessionKey) -> list[str]:
        """Return the routers a session's roll-out still waits for."""
        return self._rollouts.pending_routers(key)

    def failures(self, key: SessionKey) -> list[tuple[str, EntryFailure]]:
        """Return what those routers refused of it, by router."""
        return self._rollouts.failures(key)

    def measured_delays(self) -> dict[LinkEnd, int]:
        """Return what links take as routers told last, by core.links.measured_at; else as kept."""
        return self.state.delays | self._changes.delays.measured()

    def subscribe(self, since: int | None) -> AsyncIterator[FeedEvent]:
        """Yield feed events after id `since`, for ever (None: only new ones)."""
        return self._feed.read(since)

    def not_ready(self) -> list[str]:
        """Return why events would be refused now; empty when they would not."""
        reasons = [] if self._started else ["the controller is not running"]
        fault = self._store.health()
        return reasons + ([f"the store cannot be written: {fault}"] if fault else [])

    # Commits: decided on the speculative state, published in order when durable.

    async def _commit(
        self,
        change: Change,
        ticket: Ticket | None = None,
        ahead: bool = False,
        published: Published | None = None,
    ) -> int:
        """Make a change durable and publish it. Raises Refusal `store-unavailable`.

        `ahead`: routers may be told before.
        """
        try:
            return await self._ledger.commit(change, ticket, ahead, published)
        except StoreError as error:
            self.measurements.refusals["store-unavailable"] += 1
            raise Refusal(
                "store-unavailable",
                f"the change could not be made durable: {self._store.health() or error}",
                status=503,
            ) from error

    def _publish(self, change: Change, before: Before, ticket: Ticket | None) -> None:
        """Make a durable change known: plans to routers, timers, roll-outs."""
        revision = self.state.revision
        self._announce(revision, change, before)
        self._timers.add(mobility.deadlines(change))
        for record in change.events:
            if (refusal := outcomes.refusal_of(record)) is not None:
                ended = (record.answer.mobile_node, record.answer.interface)
                self._rollouts.refuse(ended, record.answer.epoch, refusal)
        for key in change.sessions_gone:
            self._unheard.discard(key)
            self._rollouts.gone(key)
            self._releases.gone(key)
            self._feed.add(
                "released",
                self._clock.now_ms(),
                mobile_node=key[0],
                interface=key[1],
                revision=revision,
            )
        for session in change.sessions:
            self._follow(before[session.key], session, ticket)
            self._releases.follow(before[session.key], session, revision)

    def _announce(self, revision: int, change: Change, before: Before) -> None:
        """Tell routers of a change, those that have not been told of this revision."""
        deltas = list(self._deltas(change, before))
        untold = {router for router, _ in deltas if self._hub.target(router) < revision}
        for router, delta in deltas:
            if router in untold:
                self._hub.push(router, revision, delta)

    def _withdraw(self, change: Change, before: Before) -> None:
        """Have routers ask for the whole plan that were told what was not kept."""
        for router, _ in self._deltas(change, before):
            self._hub.restart(router, self.state.revision)

    def _deltas(self, change: Change, before: Before) -> Iterator[tuple[str, EntryDelta]]:
        after = {session.key: session for session in change.sessions}
        for key, session in before.items():
            yield from self.planner.deltas(session, after.get(key)).items()

    def _follow(self, before: Session | None, session: Session, ticket: Ticket | None) -> None:
        """Wait for routers if the change gave them anything to do."""
        if before is not None and _step(before) == _step(session):
            if self._rollouts.join(session.key, ticket):
                return
            heard = session.key not in self._unheard
            if heard and session.rollout in (RolloutPhase.REDIRECT, RolloutPhase.STABLE):
                if ticket is not None:
                    finish(ticket)  # acknowledged long ago
                return
        self._feed.add(
            "stage",
            self._clock.now_ms(),
            mobile_node=session.mobile_node,
            interface=session.interface,
            serving=session.serving,
            epoch=session.epoch,
            stage=session.rollout.value,
        )
        self._unheard.discard(session.key)
        self._rollouts.enter(session, ticket)

    # What routers and time make of it.

    def _acknowledged(self, session: Session) -> None:
        self._spawn(self._advance(session))

    async def _advance(self, acknowledged: Session) -> None:
        async with self._turns.of(acknowledged.mobile_node):
            session = self._ledger.newest.sessions.get(acknowledged.key)
            if session is None or _stage(session) != _stage(acknowledged):
                return
            change = mobility.advance(session, self._clock.now_ms(), self.parameters)
            # Should it be lost, by a crash say, the stage before it holds, and that loses nothing.
            if not await self._try_commit(change, ahead=True):
                self._again(self._enter_again, session)

    def _enter_again(self, refused: Session) -> None:
        """Wait anew for a stage whose end could not be written, unless a newer event ended it."""
        session = self.state.sessions.get(refused.key)
        if session is not None and _stage(session) == _stage(refused):
            self._rollouts.enter(session)

    def _aborted(self, session: Session, refusal: Refusal) -> None:
        self._spawn(self._abort(session, refusal))

    async def _abort(self, failed: Session, refusal: Refusal) -> None:
        async with self._turns.of(failed.mobile_node):
            session = self._ledger.newest.sessions.get(failed.key)
            if session is None or _stage(session) != _stage(failed):
                return
            now = self._clock.now_ms()
            change = mobility.abort(self._ledger.newest, session, now, self.parameters)
            change = self._overtaking(session.key, change, refusal)
            if not await self._try_commit(change):
                self._rollouts.resume(session.key)
                self._again(self._aborted, failed, refusal)
                return
            self.measurements.aborts += 1
            self._feed.add(
                "aborted",
                self._clock.now_ms(),
                mobile_node=failed.mobile_node,
                interface=failed.interface,
                epoch=failed.epoch,
                reason=str(refusal),
            )

    def _degraded(self, session: Session, missing: list[str]) -> None:
        self.measurements.degraded += 1
        self._feed.add(
            "degraded",
            self._clock.now_ms(),
            mobile_node=session.mobile_node,
            interface=session.interface,
            epoch=session.epoch,
            routers=missing,
        )

    def _timer_due(self, timer: Timer) -> None:
        self._spawn(self._expire(timer))

    async def _expire(self, timer: Timer) -> None:
        kind, key = timer
        if kind == "lease":
            await self._end(timer)
            return
        if kind == IDLE:
            await self._releases.look(key)  # type: ignore[arg-type]
            return
        session = self._ledger.newest.sessions.get(key)  # type: ignore[call-overload]
        if session is None:
            return
        async with self._turns.of(session.mobile_node):
            if kind == "late" and self._rollouts.pending(session.key):
                self._timers.add([(self._clock.now_ms() + BEHIND_RETRY_MS, timer)])
                return
            await self._end(timer)

    async def _end(self, timer: Timer) -> None:
        """Do what the end of a timer does, or wait on: for the store, or for the time to come."""
        now = self._clock.now_ms()
        change = mobility.expire(self._ledger.newest, timer, now, self.parameters)
        if not change:
            # Put off by a newer event, or the clock was stepped back.
            deadlines = mobility.deadlines(_record(self._ledger.newest, timer))
            self._timers.add(due for due in deadlines if due[1] == timer and due[0] > now)
            return
        for key in change.sessions_gone:
            ended = self._ledger.newest.sessions[key]
            change = self._overtaking(key, change, outcomes.session_ended(ended))
        if not await self._try_commit(change):
            for key in change.sessions_gone:
                self._rollouts.resume(key)
            self._timers.add([(now + int(STORE_RETRY_S * 1e3), timer)])

    def _overtaking(self, key: SessionKey, change: Change, refusal: Refusal) -> Change:
        """Return a change that ends a roll-out early, with what its callers will be told.

        Call `resume` of the roll-outs when it is not kept.
        """
        waiting = self._rollouts.overtake(key)
        return outcomes.refuse(self._ledger.newest, change, waiting, refusal)

    async def _try_commit(self, change: Change, ahead: bool = False) -> bool:
        """Commit what nobody waits for; tell whether the store took it."""
        if change:
            try:
                await self._commit(change, ahead=ahead)
            except Refusal as refusal:
                log.warning("commit.refused", reason=refusal.detail)
                return False
        return True

    def _again(self, step: Callable[..., None], *arguments: object) -> None:
        """Take a step soon, when the store may be writable again."""

        def take() -> None:
            if self._started:
                step(*arguments)

        asyncio.get_running_loop().call_later(STORE_RETRY_S, take)

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            self._hub.supervise()

    # Small things.

    def _replayed(
        self, key: SessionKey, decision: Decision, timings: Timings, started: float
    ) -> Submitted:
        """Answer a duplicate as the first one was, or have it wait for the same.

        An event that was not refused although a newer one took its place was applied before.
        """
        answer = decision.answer
        session = self.state.sessions.get(key)
        ticket = self._ticket(answer.event_id, answer.epoch, timings, started)
        if decision.refused is not None:
            tell(ticket, decision.refused)
        elif self._rollouts.awaits(key, answer.event_id):
            first = self._rollouts.ticket(key)
            if first is None:  # of an earlier life of ours
                self._rollouts.join(key, ticket)
            else:
                ticket = first
        elif key in self._unheard and session is not None and session.epoch == answer.epoch:
            self._unheard.discard(key)
            self._rollouts.enter(session, ticket)
        else:
            finish(ticket)
        return Submitted(answer, self.state.revision, True, ticket.timings, ticket.applied)

    def _ticket(self, event_id: str, epoch: int, timings: Timings, started: float) -> Ticket:
        applied: asyncio.Future[Timings] = asyncio.get_running_loop().create_future()
        return Ticket(event_id, epoch, self._clock, started, timings, applied)

    def _count(self, answer: Answer, timings: Timings) -> None:
        self.measurements.events[answer.outcome.name.lower()] += 1
        self.measurements.durations["decided"].observe(timings.decided_ms / 1e3)
        self.measurements.durations["durable"].observe(timings.durable_ms / 1e3)

    def _applied(self, session: Session, applied: asyncio.Future[Timings]) -> None:
        if applied.cancelled() or applied.exception() is not None:
            return
        self._applied_late(session, applied.result().applied_ms or 0.0)

    def _applied_late(self, session: Session, elapsed_ms: float) -> None:
        """Count and tell that every router has acknowledged, also when callers wait no more."""
        self.measurements.durations["applied"].observe(elapsed_ms / 1e3)
        self._feed.add(
            "applied",
            self._clock.now_ms(),
            mobile_node=session.mobile_node,
            interface=session.interface,
            serving=session.serving,
            epoch=session.epoch,
            took_ms=elapsed_ms,
        )

    def _notice(self, kind: str, router: str, data: dict[str, object]) -> None:
        if kind == "drift":
            self.measurements.repaired[router] += 1
        self._feed.add(kind, self._clock.now_ms(), router=router, **data)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)


def _stage(session: Session) -> tuple[int, RolloutPhase, tuple[Binding, ...]]:
    """Return what tells a stage from all others, also of a session that had the same key."""
    return (session.epoch, session.rollout, session.bindings)


def _step(session: Session) -> tuple[int, RolloutPhase, SessionPhase]:
    """Return what gives routers anything new to acknowledge when it changes."""
    return (session.epoch, session.rollout, session.phase)


def _record(state: State, timer: Timer) -> Change:
    """Return the record that a timer is about, if there is one."""
    kind, key = timer
    if kind == "lease":
        lease = state.leases.get(key)  # type: ignore[call-overload]
        return Change(leases=(lease,) if lease is not None else ())
    session = state.sessions.get(key)  # type: ignore[call-overload]
    return Change(sessions=(session,) if session is not None else ())


def _resolved(timings: Timings) -> asyncio.Future[Timings]:
    future: asyncio.Future[Timings] = asyncio.get_running_loop().create_future()
    future.set_result(timings)
    return future


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task.failed", exc_info=error)
