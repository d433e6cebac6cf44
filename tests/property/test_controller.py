"""The whole controller under random trouble: events in any order, callers that vanish, a store
that is slow or full, agents that refuse, lag, vanish and come back, clocks that are stepped, and
restarts. When quiet returns, everybody has an answer and every router has its plan."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from srv6dmm.config import RolloutSettings
from srv6dmm.controller.service import Controller, Submitted
from srv6dmm.core.planner import Planner
from srv6dmm.core.release import releasable
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent, DetachEvent, Event
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import LeaseState, RolloutPhase, SessionKey, State
from srv6dmm.model.wire import (
    FAST_PATH,
    NEXT_CSID,
    Ack,
    DeltaPlan,
    FromController,
    FullPlan,
    Heartbeat,
    Hello,
)
from tests.domains import small_domain
from tests.simulated import LoopClock, QuickLoop, SimulatedAgent, SlowStore

NODES = ["mn1", "mn2", "mn3"]
ACCESS = ["ar1", "ar2", "ar3"]
HEAD_ENDS = [*ACCESS, "br1"]
SMALL = small_domain(3, pool_length=60)
TOPOLOGY = replace(SMALL, domain=replace(SMALL.domain, usid=True))
PARAMETERS = MobilityParameters(
    min_delay_before_delete_ms=2000,
    late_packets_ms=500,
    valid_lifetime_s=20,
    default_lifetime_s=300,
    max_prefixes=3,
    idle_release_s=10,
)
ROLLOUT = RolloutSettings(prepare_timeout_s=2.0, switch_timeout_s=1.0)
QUIET_S = 60.0
SLIPS = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 3, 10])


class ErrantAgent(SimulatedAgent):
    """An agent that may be slow, deaf, refusing or away, and keeps to the protocol all the same."""

    def __init__(self, controller: Controller, router: str) -> None:
        super().__init__(controller, router)
        self.slow = False
        """Takes in nothing until it is told to."""
        self.away = False
        """Does not come back by itself."""
        self.refuses_mobile = False
        self.refuses_csid = False
        self.inbox: deque[FromController] = deque()
        self._awaits_full = True
        self.fast_path = True

    def connect(self) -> None:
        self.inbox.clear()
        self._awaits_full = True
        super().connect()

    async def receive(self, message: FromController) -> None:
        self.inbox.append(message)
        if not self.slow:
            await self.catch_up()

    async def catch_up(self, count: int | None = None) -> None:
        """Take in what has come, or the first of it."""
        for _ in range(len(self.inbox) if count is None else min(count, len(self.inbox))):
            message = self.inbox.popleft()
            if isinstance(message, FullPlan):
                self._awaits_full = False
            elif isinstance(message, DeltaPlan) and self._awaits_full:
                continue  # sent before the Hello was heard
            await super().receive(message)

    async def answer(self) -> None:
        refused = {key for key in self.entries if key.startswith("mobile ")}
        self.refuse = refused if self.refuses_mobile else set()
        if self.refuses_csid:
            self.refuse |= {key for key in self.entries if key.endswith("/48")}
        await super().answer()

    async def hello_again(self) -> None:
        """Ask for the whole plan in the middle of a connection."""
        if self.connection is not None:
            self._awaits_full = True
            able = {FAST_PATH: self.fast_path, NEXT_CSID: self.next_csid}
            hello = Hello(self.router, "again", "test", 1, self.revision, able)
            await self.connection.receive(hello)

    async def live(self) -> None:
        """Send heartbeats, and connect again when the connection is lost."""
        while True:
            await asyncio.sleep(0.5)
            if self.connection is not None:
                await self.connection.receive(Heartbeat(self.revision))
                await self.count()
            elif not self.away:
                self.connect()


@dataclass
class Life:
    """One life of the controller, with its agents."""

    controller: Controller
    agents: dict[str, ErrantAgent]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


def told(submitted: Submitted) -> str:
    """Return what the callers of an event are told."""
    error = submitted.applied.exception()
    if isinstance(error, Refusal):
        return str(error)
    return "applied" if error is None else "incomplete"


class Trouble(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = QuickLoop()
        self.failures: list[dict[str, Any]] = []
        self.stepped_back_s = 0.0
        self.loop.set_exception_handler(lambda loop, context: self.failures.append(context))
        self.clock = LoopClock(self.loop)
        self.store = SlowStore()
        self.ids = 0
        self.number = 65_500
        self.stamp = 0
        self.events: list[Event] = []
        self.calls: list[asyncio.Task[Submitted]] = []
        self.accepted: list[Submitted] = []
        self.epochs: dict[SessionKey, int] = {}
        self.life = self.run(self.begin(None))

    def run(self, work: Any) -> Any:
        """Run work, and whatever follows from it without time passing."""

        async def and_settle() -> Any:
            result = await work
            for _ in range(30):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(and_settle())

    async def begin(self, last: Life | None) -> Life:
        controller = Controller(TOPOLOGY, PARAMETERS, ROLLOUT, self.store, self.clock, "test")
        self.watch(controller)
        life = Life(controller, {})
        for node in TOPOLOGY.routers():
            agent = life.agents[node.name] = ErrantAgent(controller, node.name)
            if last is not None:
                before = last.agents[node.name]
                agent.entries, agent.revision = before.entries, before.revision
                agent.away, agent.refuses_mobile = before.away, before.refuses_mobile
                agent.mute, agent.slow = before.mute, before.slow
                agent.next_csid, agent.refuses_csid = before.next_csid, before.refuses_csid
        await controller.start()
        for agent in life.agents.values():
            life.tasks.append(asyncio.ensure_future(agent.live()))
        return life

    def watch(self, controller: Controller) -> None:
        """Hear of every task that fails."""
        spawn = controller._spawn

        def watched(work: Any) -> None:
            spawn(work)
            for task in controller._tasks:
                if not getattr(task, "watched", False):
                    task.add_done_callback(self.note)

        controller._spawn = watched  # type: ignore[method-assign]

    def note(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failures.append({"exception": task.exception()})

    async def end(self) -> None:
        for task in self.life.tasks:
            task.cancel()
        self.store.full = self.store.held = False
        self.store.write()
        await self.life.controller.stop()
        for agent in self.life.agents.values():
            agent.disconnect()

    async def let_go(self) -> None:
        """End what a failed example left running."""
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    # Events.

    def fresh_id(self) -> str:
        self.ids += 1
        return f"e{self.ids}"

    def submit(self, event: Event) -> None:
        async def call() -> None:
            self.events.append(event)
            self.calls.append(asyncio.ensure_future(self.life.controller.submit(event)))

        self.run(call())

    def order(self, node: str, slip: int) -> dict[str, int]:
        """Return what orders an event: nothing, a timestamp or a sequence number, by its node.

        `slip`: how far it is from the next one; beyond 9 it is left out.
        """
        self.number += 1
        if node == "mn1" or slip > 9:
            return {}
        if node == "mn2":
            self.stamp = max(self.stamp + 1, self.clock.now_ms())
            return {"timestamp_ms": self.stamp - slip}
        return {"sequence": (self.number - slip) % 65536}

    @rule(
        node=st.sampled_from(NODES),
        router=st.sampled_from(ACCESS),
        mac=st.sampled_from([1, 1, 1, 2]),
        lifetime=st.sampled_from([None, None, None, 3]),
        slip=SLIPS,
    )
    def attach(self, node: str, router: str, mac: int, lifetime: int | None, slip: int) -> None:
        address = f"02:00:00:00:0{NODES.index(node)}:0{mac}"
        order = self.order(node, slip)
        self.submit(
            AttachEvent(self.fresh_id(), node, router, address, lifetime_s=lifetime, **order)
        )

    @rule(node=st.sampled_from(NODES), router=st.sampled_from(ACCESS), slip=SLIPS)
    def detach(self, node: str, router: str, slip: int) -> None:
        self.submit(DetachEvent(self.fresh_id(), node, router, **self.order(node, slip)))

    @rule(node=st.sampled_from(NODES))
    def refresh(self, node: str) -> None:
        session = self.life.controller.state.sessions.get((node, "0"))
        if session is not None:
            address, order = session.link_layer_address, self.order(node, 0)
            self.submit(AttachEvent(self.fresh_id(), node, session.serving, address, **order))

    @precondition(lambda self: self.events)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        self.submit(data.draw(st.sampled_from(self.events)))

    @precondition(lambda self: any(not call.done() for call in self.calls))
    @rule()
    def callers_vanish(self) -> None:
        async def cancel() -> None:
            for call in self.calls:
                call.cancel()

        self.run(cancel())

    # The store.

    @rule(held=st.booleans(), full=st.sampled_from([False, False, True]))
    def store_changes(self, held: bool, full: bool) -> None:
        async def change() -> None:
            self.store.held, self.store.full = held, full
            if not held:
                self.store.write()

        self.run(change())

    @precondition(lambda self: self.store.waiting)
    @rule(count=st.sampled_from([1, 2]), full=st.booleans())
    def store_writes(self, count: int, full: bool) -> None:
        async def write() -> None:
            before, self.store.full = self.store.full, full
            self.store.write(count)
            self.store.full = before

        self.run(write())

    @rule(node=st.sampled_from(NODES), kept=st.booleans())
    def records(self, node: str, kept: bool) -> None:
        (self.store.unkept.discard if kept else self.store.unkept.add)(node)

    # Agents.

    @rule(router=st.sampled_from(HEAD_ENDS), mute=st.booleans())
    def speech(self, router: str, mute: bool) -> None:
        agent = self.life.agents[router]
        agent.mute = mute
        self.run(agent.answer())

    @rule(router=st.sampled_from(HEAD_ENDS), slow=st.booleans())
    def pace(self, router: str, slow: bool) -> None:
        agent = self.life.agents[router]
        agent.slow = slow
        if not slow:
            self.run(agent.catch_up())

    @rule(router=st.sampled_from(HEAD_ENDS))
    def one_message(self, router: str) -> None:
        self.run(self.life.agents[router].catch_up(1))

    @rule(router=st.sampled_from(HEAD_ENDS), refuses=st.booleans())
    def refusal(self, router: str, refuses: bool) -> None:
        agent = self.life.agents[router]
        agent.refuses_mobile = refuses
        self.run(agent.answer())

    @rule(router=st.sampled_from(HEAD_ENDS), refuses=st.booleans())
    def refusal_of_compression(self, router: str, refuses: bool) -> None:
        agent = self.life.agents[router]
        agent.refuses_csid = refuses
        self.run(agent.answer())

    @rule(router=st.sampled_from(HEAD_ENDS), able=st.booleans())
    def another_kernel(self, router: str, able: bool) -> None:
        async def boot() -> None:
            agent = self.life.agents[router]
            agent.disconnect()
            agent.next_csid, agent.away = able, False
            agent.entries, agent.revision = {}, None
            agent.connect()

        self.run(boot())

    @rule(router=st.sampled_from(HEAD_ENDS), away=st.booleans())
    def lose(self, router: str, away: bool) -> None:
        async def lose() -> None:
            self.life.agents[router].away = away
            self.life.agents[router].disconnect()

        self.run(lose())

    @rule(router=st.sampled_from(HEAD_ENDS), crashed=st.booleans())
    def come_back(self, router: str, crashed: bool) -> None:
        """Connect, also while the controller still holds the former connection."""

        async def connect() -> None:
            agent = self.life.agents[router]
            agent.away = False
            former = agent.connection
            if crashed:
                agent.revision = None
            agent.connect()
            if former is not None:
                await former.receive(Ack(1 << 40, 0.0, 0.0))  # nobody listens to it any more
                former.closed()

        self.run(connect())

    @rule(router=st.sampled_from(HEAD_ENDS))
    def out_of_step(self, router: str) -> None:
        self.run(self.life.agents[router].hello_again())

    # Time.

    @rule(seconds=st.sampled_from([0.05, 0.3, 0.6, 1.1, 2.1, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(step_ms=st.sampled_from([-10_000, -700, 700, 10_000]))
    def clock_is_stepped(self, step_ms: int) -> None:
        self.clock.stepped_ms += step_ms
        self.stepped_back_s += max(0, -step_ms) / 1e3

    @rule()
    def restart(self) -> None:
        async def restart() -> None:
            await self.end()
            await asyncio.gather(*self.calls, return_exceptions=True)
            self.answered()
            self.calls.clear()
            self.accepted.clear()  # nobody answers for the former life
            self.life = await self.begin(self.life)

        self.run(restart())

    # What holds always.

    def answered(self) -> None:
        """Note the events that were accepted."""
        for call in [call for call in self.calls if call.done()]:
            self.calls.remove(call)
            if call.cancelled():
                continue
            error = call.exception()
            if error is None:
                self.accepted.append(call.result())
            elif not isinstance(error, Refusal):
                raise error

    @invariant()
    def nothing_breaks(self) -> None:
        self.answered()
        assert not self.failures, self.failures

    @invariant()
    def what_is_durable_is_sound(self) -> None:
        state = self.life.controller.state
        assert state.revision <= self.store.load().revision
        owners: dict[object, SessionKey] = {}
        for key, session in state.sessions.items():
            assert session.epoch >= self.epochs.get(key, 0), "an epoch fell"
            self.epochs[key] = session.epoch
            for binding in session.bindings:
                assert owners.setdefault(binding.prefix, key) == key
                assert state.leases[binding.prefix].holder == key
        for lease in state.leases.values():
            assert (lease.prefix in owners) == (lease.state is LeaseState.LEASED)

    # What holds when all is quiet.

    def teardown(self) -> None:
        try:
            self.quiet()
            self.empty()
        finally:
            self.loop.run_until_complete(self.end())
            self.run(self.let_go())
            self.loop.close()
        assert not self.failures, self.failures

    def quiet(self) -> None:
        async def calm() -> None:
            self.store.unkept.clear()
            self.store.held = self.store.full = False
            self.store.write()
            for agent in self.life.agents.values():
                agent.away = agent.slow = agent.mute = agent.refuses_mobile = False
                agent.refuses_csid = False
                await agent.catch_up()
                await agent.answer()
            await asyncio.sleep(QUIET_S + self.stepped_back_s)

        self.run(calm())
        self.nothing_breaks()
        self.what_is_durable_is_sound()
        controller = self.life.controller
        assert not self.calls, "a caller waits for its answer"
        for submitted in self.accepted:
            assert submitted.applied.done(), f"nobody resolves {submitted.answer}"
        self.repeated()
        for session in controller.state.sessions.values():
            assert session.rollout is RolloutPhase.STABLE, session
            assert not releasable(session), f"nobody uses it, and it is not released: {session}"
        assert controller.state == self.store.load()
        able = {name for name, agent in self.life.agents.items() if agent.next_csid}
        supports = controller.state.csid.values()
        assert {support.router for support in supports if support.held} == able
        assert {support.router for support in supports} == able
        fresh = Planner(TOPOLOGY, PARAMETERS, csid=supports)
        for name, agent in self.life.agents.items():
            assert agent.entries == controller.plan(name).entries, name
            assert agent.entries == fresh.plan(name, controller.state).entries, name
        self.nothing_is_left(controller)

    def repeated(self) -> None:
        """Every event is answered again as it was the first time; nothing comes of it."""
        controller = self.life.controller
        events = {event.event_id: event for event in self.events}
        for submitted in self.accepted:
            again = self.run(controller.submit(events[submitted.answer.event_id]))
            assert again.replayed
            assert again.answer == submitted.answer
            first = told(submitted)
            # Who was not waited for has acknowledged since, unless something newer came first.
            if first == "incomplete":
                assert told(again).split(":")[0] in ("applied", "superseded", "session-ended")
            else:
                assert told(again) == first
        assert controller.state == self.store.load()

    def nothing_is_left(self, controller: Controller) -> None:
        ledger, rollouts, hub = controller._ledger, controller._rollouts, controller._hub
        assert ledger.newest == ledger.durable
        assert not ledger._decided
        assert not controller._turns
        assert not controller._submits
        assert len(controller._tasks) == 2, "timers and supervision"
        assert not rollouts._stages
        assert not any(rollouts._by_router.values())
        for status, channel in zip(
            hub.status(), sorted(hub._channels.values(), key=lambda c: c.router), strict=True
        ):
            assert status.connected
            assert status.applied is not None
            assert status.applied >= status.target
            assert not [*channel.in_flight, *channel.waiting_put, *channel.waiting_gone]
            assert not channel.failures
        agents = len(self.life.agents)
        writers = [t for t in asyncio.all_tasks(self.loop) if t.get_name().startswith("to-")]
        assert len(writers) == agents, "connections that nobody closed"
        assert len(controller._timers._armed) <= 3 * len(NODES) + len(controller.state.leases)

    def empty(self) -> None:
        """Everybody leaves: nothing may be left anywhere."""
        self.run(asyncio.sleep(700))
        controller = self.life.controller
        assert not controller.state.sessions
        assert not controller.state.leases
        for name, agent in self.life.agents.items():
            assert agent.entries == controller.planner.plan(name, State()).entries, name
        assert not controller._timers._armed
        assert not controller._timers._heap
        self.nothing_is_left(controller)


TestTrouble = Trouble.TestCase
TestTrouble.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
