"""Simulated parts for tests of the controller: a clock that is set, agents that obey."""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any

from srv6dmm.config import RolloutSettings
from srv6dmm.controller.hub import RouterConnection
from srv6dmm.controller.service import Controller
from srv6dmm.model.errors import StoreConflict, StoreError, StoreUnavailable
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.state import Change
from srv6dmm.model.topology import Topology
from srv6dmm.model.wire import (
    FAST_PATH,
    NEXT_CSID,
    PROTOCOL,
    Ack,
    DeltaPlan,
    EntryFailure,
    EntryState,
    Failed,
    FlowTraffic,
    FromController,
    FullPlan,
    Hello,
    Inspect,
    Inspection,
    PrefixTraffic,
    Report,
    Resync,
    Telemetry,
)
from srv6dmm.store.interface import Store
from srv6dmm.store.memory import MemoryStore
from tests.domains import small_domain

NOW_MS = 1_700_000_000_000


class FakeClock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1e3


class _NoWaiting(selectors.DefaultSelector):
    """Where an event loop would wait, time passes at once."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and nothing is left to happen"
            self.passed_s += max(0.0, timeout)
        return ready


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when nothing else is left to do: no test waits."""

    def __init__(self) -> None:
        self._waiting = _NoWaiting()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.passed_s


def quickly(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in a loop where waiting costs nothing."""

    @wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=QuickLoop) as runner:
            runner.run(test())

    return run


class LoopClock(FakeClock):
    """The time of a QuickLoop; the wall clock besides can be stepped by setting `stepped_ms`."""

    def __init__(self, loop: QuickLoop) -> None:
        super().__init__()
        self._loop = loop
        self.stepped_ms = 0

    def now_ms(self) -> int:
        return NOW_MS + int(self._loop.time() * 1e3) + self.stepped_ms

    def monotonic(self) -> float:
        return self._loop.time()


@dataclass
class _Commit:
    change: Change
    base: int
    done: asyncio.Future[int]


class SlowStore(MemoryStore):
    """A memory store that writes when it is told to, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        """Commits wait for `write`."""
        self.full = False
        self.waiting: deque[_Commit] = deque()
        self.unkept: set[str] = set()
        """Mobile nodes whose records cannot be kept: refused at once, whoever waits."""

    async def commit(self, change: Change, base: int) -> int:
        if any(session.mobile_node in self.unkept for session in change.sessions):
            raise StoreError("a record cannot be kept")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append(_Commit(change, base, done))
        if not self.held:
            self.write()
        return await done

    def write(self, count: int | None = None) -> None:
        """Write the commits that wait, or the first of them."""
        for _ in range(len(self.waiting) if count is None else min(count, len(self.waiting))):
            commit = self.waiting.popleft()
            result: int | StoreError
            if self.full:
                result = StoreUnavailable("disk full")
            else:
                try:
                    result = self._commit_now(commit.change, commit.base)
                except StoreError as error:
                    result = error
            if commit.done.done():
                continue  # nobody waits any more, and what was written stays written
            if isinstance(result, StoreError):
                commit.done.set_exception(result)
            else:
                commit.done.set_result(result)

    def _commit_now(self, change: Change, base: int) -> int:
        if base != self._state.revision:
            raise StoreConflict(f"revision {base} is not the newest, {self._state.revision} is")
        self._state.apply(change, base + 1)
        return base + 1

    def health(self) -> str | None:
        return "disk full" if self.full else None


class FailingStore(MemoryStore):
    """A memory store whose disk can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    async def commit(self, change: Change, base: int) -> int:
        await asyncio.sleep(0)
        if self.full:
            raise StoreUnavailable("disk full")
        return await super().commit(change, base)

    def health(self) -> str | None:
        return "disk full" if self.full else None


class SimulatedAgent:
    """An agent without a kernel: keeps entries, acknowledges, or does as it is told."""

    def __init__(self, controller: Controller, router: str) -> None:
        self.controller = controller
        self.router = router
        self.entries: dict[str, PlanEntry] = {}
        self.revision: int | None = None
        self.refuse: set[str] = set()
        """Keys that its kernel refuses."""
        self.mute = False
        """Applies, but says nothing."""
        self.fast_path = False
        self.next_csid = False
        """Its kernel keeps End with NEXT-C-SID."""
        self.history: list[FromController] = []
        self.connection: RouterConnection | None = None

    def connect(self) -> None:
        able = {FAST_PATH: self.fast_path, NEXT_CSID: self.next_csid}
        hello = Hello(self.router, f"boot-{self.router}", "test", PROTOCOL, self.revision, able)
        self.connection = self.controller.connect(hello, self.receive, self._hung_up)

    def _hung_up(self) -> None:
        """Come back soon, as agents do."""
        self.disconnect()
        asyncio.get_running_loop().call_soon(self._come_back)

    def _come_back(self) -> None:
        if self.connection is None and self.controller.running:
            self.connect()

    def disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.closed()

    async def receive(self, message: FromController) -> None:
        self.history.append(message)
        if isinstance(message, FullPlan):
            self.entries = {entry.key: entry for entry in message.entries}
            self.revision = message.revision
            await self.answer()
        elif isinstance(message, DeltaPlan):
            assert message.base == self.revision, "a delta on something this agent has not"
            for key in message.gone:
                self.entries.pop(key, None)  # merged deltas may name what came and went between
            self.entries.update((entry.key, entry) for entry in message.put)
            self.revision = message.revision
            await self.answer()
        elif isinstance(message, Resync) and self.connection is not None:
            report = Report(self.revision or 0, (), (), (), {})
            await self.connection.receive(report)
        elif isinstance(message, Inspect) and self.connection is not None and not self.mute:
            states = tuple(
                EntryState(entry.key, self.entries.get(entry.key) == entry, "present")
                for entry in message.entries
            )
            await self.connection.receive(Inspection(message.number, self.revision, states))

    async def count(self, *counted: PrefixTraffic, flows: tuple[FlowTraffic, ...] = ()) -> None:
        """Tell what its fast path counted, or that there is no news."""
        if self.connection is not None:
            await self.connection.receive(Telemetry({}, counted, (), flows))

    async def answer(self) -> None:
        """Say what became of the plan held now."""
        if self.mute or self.connection is None or self.revision is None:
            return
        refused = sorted(self.refuse & self.entries.keys())
        if refused:
            failures = tuple(EntryFailure(key, 95, "not supported") for key in refused)
            await self.connection.receive(Failed(self.revision, failures))
        else:
            await self.connection.receive(Ack(self.revision, 0.0, 0.0))


class SimulatedDomain:
    """A controller on a store, with an agent for every router."""

    def __init__(
        self,
        store: Store | None = None,
        clock: FakeClock | None = None,
        topology: Topology | None = None,
        parameters: MobilityParameters | None = None,
        rollout: RolloutSettings | None = None,
    ) -> None:
        self.store: Store = store or MemoryStore()
        self.clock = clock or FakeClock()
        self.topology = topology or small_domain()
        self.controller = Controller(
            self.topology,
            parameters or MobilityParameters(),
            rollout or RolloutSettings(prepare_timeout_s=0.3, switch_timeout_s=0.2),
            self.store,
            self.clock,
            "test",
        )
        self.agents = {
            node.name: SimulatedAgent(self.controller, node.name)
            for node in self.topology.routers()
        }

    async def start(self, connected: bool = True) -> None:
        await self.controller.start()
        if connected:
            for agent in self.agents.values():
                agent.connect()
        await self.settle()

    async def settle(self) -> None:
        """Let everything that can happen now happen."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        await self.controller.stop()
        for agent in self.agents.values():
            agent.disconnect()

    def assert_consistent(self) -> None:
        """Every agent holds exactly its plan."""
        for name, agent in self.agents.items():
            assert agent.entries == self.controller.plan(name).entries, name
