"""The agent's conversation with a controller, over a real WebSocket and a kernel in memory."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from srv6dmm.agent.advertise import Advertiser
from srv6dmm.agent.stream import Stream, check_address
from srv6dmm.agent.too_big_relay import TooBigRelay
from srv6dmm.agent.worker import INLINE_OBJECTS, Worker
from srv6dmm.config import AgentSettings
from srv6dmm.dataplane.fake import FakeKernel
from srv6dmm.dataplane.objects import Identity, KernelFailure, KernelObject, Route
from srv6dmm.model.plan import Advertisement, PlanEntry, RouterSettings
from srv6dmm.model.wire import (
    Ack,
    DeltaPlan,
    Failed,
    ForwardingMode,
    FullPlan,
    Hello,
    ModeReport,
    Report,
    Resync,
    SetMode,
)
from tests.agents import (
    AWAY,
    HOME,
    ROUTER,
    SETTINGS,
    FakeController,
    advertisement,
    controller,
    delivery,
    static_entries,
    steering,
)

# No loopback and no access interface: nothing that needs a raw socket.
PLAIN = replace(
    SETTINGS, loopback=None, access_interface=None, access_link_local=None, access_mac=None
)
STATIC = static_entries(PLAIN)
WHOLE: tuple[PlanEntry, ...] = (*STATIC, delivery(), steering())
HOME_ROUTE = Route(HOME).identity
AWAY_ROUTE = Route(AWAY).identity


class _Told(Advertiser):
    """Notes what it is told, and what the kernel held then."""

    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__(None)
        self._kernel = kernel
        self.log: list[tuple[str, object]] = []

    def configure(self, settings: RouterSettings) -> None:
        self.log.append(("settings", settings.access_interface))

    def put(self, advertisement: Advertisement, after_s: float = 0.0) -> None:
        routes = [Route(p.prefix).identity in self._kernel.objects for p in advertisement.prefixes]
        self.log.append((advertisement.key, (advertisement.epoch, all(routes))))

    def remove(self, key: str) -> None:
        self.log.append(("gone", key))


class _Modes:
    """Changes over at once, to whatever is asked for."""

    def __init__(self, worker: Worker) -> None:
        self.mode: ForwardingMode = "netlink"
        self._worker = worker

    def ask(self, mode: ForwardingMode) -> None:
        self.mode = mode
        self._worker.tell(ModeReport(mode, mode, None))


class Agent:
    """A stream, a worker and a kernel in memory."""

    def __init__(self, path: Path, kernel: FakeKernel, resync_s: float = 600.0) -> None:
        self.kernel = kernel
        self.advertiser = _Told(kernel)
        self.worker = Worker(kernel, True, self.advertiser, TooBigRelay(None), resync_s)
        settings = AgentSettings(router=ROUTER, controller=f"ws+unix://{path}", token="secret")
        modes = _Modes(self.worker)
        able = {"encap_red": True}
        self.stream = Stream(settings, self.worker, modes, "boot-1", able, lambda: 0.0)


@asynccontextmanager
async def agent(
    path: Path, kernel: FakeKernel | None = None, resync_s: float = 600.0
) -> AsyncIterator[Agent]:
    made = Agent(path, kernel or FakeKernel(), resync_s)
    made.worker.start()
    running = asyncio.create_task(made.stream.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.worker.close()
        assert made.kernel.closed


@asynccontextmanager
async def both(
    tmp_path: Path, kernel: FakeKernel | None = None, resync_s: float = 600.0
) -> AsyncIterator[tuple[FakeController, Agent]]:
    path = tmp_path / "controller"
    async with controller(path) as fake, agent(path, kernel, resync_s) as made:
        yield fake, made


async def _in_step(fake: FakeController, entries: Iterable[PlanEntry] = WHOLE) -> None:
    await fake.next(Hello)
    await fake.send(FullPlan(7, tuple(entries)))
    assert (await fake.next(Ack)).revision == 7


async def test_hello_plan_ack_delta_ack(tmp_path: Path) -> None:
    async with both(tmp_path) as (fake, made):
        hello = await fake.next(Hello)
        assert (hello.router, hello.boot_id, hello.applied) == (ROUTER, "boot-1", None)
        assert hello.capabilities == {"encap_red": True, "fast_path": False}
        assert fake.paths == [f"/v1/routers/{ROUTER}/stream"]
        assert fake.authorization == ["Bearer secret"]
        await fake.send(FullPlan(7, WHOLE))
        ack = await fake.next(Ack)
        assert ack.revision == 7
        assert ack.took_ms > 0
        assert HOME_ROUTE in made.kernel.objects
        await fake.send(DeltaPlan(7, 9, (steering(HOME),), (f"mobile {AWAY}",)))
        assert (await fake.next(Ack)).revision == 9
        assert AWAY_ROUTE not in made.kernel.objects
        assert fake.silent()


async def test_the_heartbeat_says_what_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "controller"
    async with controller(path) as fake:
        fake.heartbeat_s = 0.02
        async with agent(path):
            await _in_step(fake)
            await fake.next_heartbeats(3)


async def test_a_delta_on_something_else_asks_once_for_the_whole(tmp_path: Path) -> None:
    async with both(tmp_path) as (fake, made):
        await _in_step(fake)
        made.kernel.operations.clear()
        for base in (8, 9, 10):
            await fake.send(DeltaPlan(base, base + 1, (), (f"mobile {HOME}",)))
        hello = await fake.next(Hello)
        assert hello.applied == 7
        await fake.send(FullPlan(11, WHOLE))
        assert (await fake.next(Ack)).revision == 11
        await fake.send(DeltaPlan(11, 12, (), (f"mobile {HOME}",)))
        assert (await fake.next(Ack)).revision == 12
        assert fake.silent()
        assert fake.connections == 1
        assert HOME_ROUTE not in made.kernel.objects


async def test_losing_the_controller_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "controller"
    async with agent(path) as made:
        async with controller(path) as fake:
            await _in_step(fake)
            held = dict(made.kernel.objects)
            made.kernel.operations.clear()
        async with controller(path) as again:
            hello = await again.next(Hello)
            assert hello.applied == 7
            assert made.kernel.operations == []
            await again.send(FullPlan(8, WHOLE))
            assert (await again.next(Ack)).revision == 8
        assert made.kernel.operations == []
        assert made.kernel.objects == held


async def test_it_waits_for_a_controller_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "controller"
    async with agent(path):
        await asyncio.sleep(0.15)
        async with controller(path) as fake:
            await _in_step(fake)


async def test_after_nonsense_it_connects_anew(tmp_path: Path) -> None:
    async with both(tmp_path) as (fake, _):
        for text in ("{", '["Ack",{}]', '["FullPlan",{"revision":1,"entries":[["X",{}]]}]'):
            await fake.next(Hello)
            await fake.send_text(text)
        await _in_step(fake)
        assert fake.connections == 4


async def test_a_door_that_is_slammed_is_knocked_at_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("srv6dmm.agent.stream.asyncio.sleep", noted)
    path = tmp_path / "nobody"
    made = Agent(path, FakeKernel())
    running = asyncio.create_task(made.stream.run())
    while len(waits) < 8:
        await sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert waits[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


# --- failures --------------------------------------------------------------------------------


async def test_a_refusal_is_named_retried_and_its_end_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srv6dmm.agent.worker.RETRY_S", (0.02, 0.04))
    kernel = FakeKernel()
    kernel.refuse(lambda identity: identity == AWAY_ROUTE, errno.EINVAL)
    async with both(tmp_path, kernel) as (fake, made):
        await fake.next(Hello)
        await fake.send(FullPlan(7, WHOLE))
        failed = await fake.next(Failed)
        assert [(f.key, f.errno) for f in failed.failures] == [(f"mobile {AWAY}", errno.EINVAL)]
        assert HOME_ROUTE in kernel.objects
        # A plan that does not touch it does not hide it.
        await fake.send(DeltaPlan(7, 8, (steering(HOME),), ()))
        failed = await fake.next(Failed)
        assert (failed.revision, [f.key for f in failed.failures]) == (8, [f"mobile {AWAY}"])
        kernel.relent()
        assert (await fake.next(Ack)).revision == 8
        assert AWAY_ROUTE in made.kernel.objects


async def test_a_newer_plan_ends_it(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.refuse(lambda identity: identity == AWAY_ROUTE, errno.EINVAL)
    async with both(tmp_path, kernel) as (fake, _):
        await fake.next(Hello)
        await fake.send(FullPlan(7, WHOLE))
        await fake.next(Failed)
        await fake.send(DeltaPlan(7, 8, (), (f"mobile {AWAY}",)))
        assert (await fake.next(Ack)).revision == 8


# --- advertisements --------------------------------------------------------------------------


async def test_no_advertisement_before_its_routes_are_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srv6dmm.agent.worker.RETRY_S", (0.02,))
    told = advertisement()
    kernel = FakeKernel()
    kernel.refuse(lambda identity: identity == HOME_ROUTE, errno.ENOMEM)
    async with both(tmp_path, kernel) as (fake, made):
        await fake.next(Hello)
        await fake.send(FullPlan(7, tuple(STATIC)))
        await fake.next(Ack)
        await fake.send(DeltaPlan(7, 8, (told, delivery()), ()))
        await fake.next(Failed)
        assert [entry for entry in made.advertiser.log if entry[0] == told.key] == []
        newer = replace(told, epoch=2)
        await fake.send(DeltaPlan(8, 9, (newer,), ()))
        await fake.next(Failed)
        kernel.relent()
        await fake.next(Ack)
        sent = [entry for entry in made.advertiser.log if entry[0] == told.key]
        assert sent == [(told.key, (2, True))], "the newest one, once, with its route in place"
        await fake.send(DeltaPlan(9, 10, (), (told.key, f"mobile {HOME}")))
        await fake.next(Ack)
        assert ("gone", told.key) in made.advertiser.log


# --- drift -----------------------------------------------------------------------------------


async def test_drift_that_the_monitor_hears_of_is_repaired_and_reported(tmp_path: Path) -> None:
    async with both(tmp_path) as (fake, made):
        await _in_step(fake)
        made.kernel.lose(HOME_ROUTE)
        made.kernel.lose(AWAY_ROUTE, tell=True)
        report = await fake.next(Report)
        assert report.missing == (f"mobile {HOME}", f"mobile {AWAY}")
        assert HOME_ROUTE in made.kernel.objects
        assert fake.silent(), "two losses, one report"


class _Counted(FakeKernel):
    """Counts whole read-backs."""

    def __init__(self) -> None:
        super().__init__()
        self.read_back = 0

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, KernelObject]:
        self.read_back += wanted is None
        return super().read(wanted)


async def test_a_burst_of_changes_is_one_read_back(tmp_path: Path) -> None:
    kernel = _Counted()
    async with both(tmp_path, kernel) as (fake, _):
        await _in_step(fake)
        before = kernel.read_back
        for _round in range(10):
            kernel.meddle(Route(HOME))
            kernel.meddle(Route(AWAY))
            await asyncio.sleep(0.005)
        assert len((await fake.next(Report)).different) == 2
        assert kernel.read_back == before + 1
        await fake.send(Resync())
        await fake.next(Report)
        assert kernel.read_back == before + 2


async def test_drift_that_nobody_heard_of_is_found_periodically(tmp_path: Path) -> None:
    async with both(tmp_path, resync_s=0.05) as (fake, made):
        await _in_step(fake)
        made.kernel.counters["fc00:0:1::e00"] = (1, 100, 0)
        made.kernel.lose(HOME_ROUTE)
        missing: tuple[str, ...] = ()
        while not missing:
            report = await fake.next(Report)
            missing = report.missing
        assert missing == (f"mobile {HOME}",)
        assert report.sid_packets == {"fc00:0:1::e00": (1, 100, 0)}
        assert (await fake.next(Report)).missing == ()


async def test_a_resync_on_demand_is_answered_also_without_drift(tmp_path: Path) -> None:
    async with both(tmp_path) as (fake, made):
        await fake.next(Hello)
        await fake.send(Resync())
        assert (await fake.next(Report)).revision == 0
        await fake.send(FullPlan(7, WHOLE))
        await fake.next(Ack)
        made.kernel.operations.clear()
        await fake.send(Resync())
        assert await fake.next(Report) == Report(7, (), (), (), {})
        assert made.kernel.operations == []


# --- modes -----------------------------------------------------------------------------------


async def test_a_mode_is_asked_for_reported_and_in_the_next_hello(tmp_path: Path) -> None:
    async with both(tmp_path) as (fake, _):
        await _in_step(fake)
        await fake.send(SetMode("ebpf"))
        assert await fake.next(ModeReport) == ModeReport("ebpf", "ebpf", None)
        await fake.hang_up()
        assert (await fake.next(Hello)).capabilities == {"encap_red": True, "fast_path": True}


# --- big plans -------------------------------------------------------------------------------


class _Slow(FakeKernel):
    """A kernel whose puts of more than a few objects wait until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.started = threading.Event()
        self.overlapped = False
        self._at_work = threading.Lock()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._at_work.acquire(blocking=False):
            self.overlapped = True
            yield
            return
        try:
            yield
        finally:
            self._at_work.release()

    def put(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        with self._alone():
            if len(objects) > INLINE_OBJECTS:
                self.started.set()
                assert self.go_on.wait(20)
            return super().put(objects)

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, KernelObject]:
        with self._alone():
            return super().read(wanted)

    def drain(self) -> None:
        with self._alone():
            super().drain()


async def test_a_big_plan_stops_neither_heartbeats_nor_order(tmp_path: Path) -> None:
    many = tuple(steering(IPv6Network((0x20010DB8_00030000 + n << 64, 64))) for n in range(1000))
    kernel = _Slow()
    path = tmp_path / "controller"
    async with controller(path) as fake:
        fake.heartbeat_s = 0.01
        async with agent(path, kernel, resync_s=0.02):
            await fake.next(Hello)
            await fake.send(FullPlan(7, (*STATIC, *many)))
            await fake.send(DeltaPlan(7, 8, (delivery(),), ()))
            assert await asyncio.to_thread(kernel.started.wait, 10)
            kernel.meddle(Route(HOME))  # somebody else, meanwhile
            await fake.next_heartbeats(5)
            assert fake.silent()
            kernel.go_on.set()
            assert (await fake.next(Ack)).revision == 7
            revisions = []
            while 8 not in revisions:
                message = await fake.next(Ack | Report)  # type: ignore[arg-type]
                if isinstance(message, Ack):
                    revisions.append(message.revision)
                else:
                    assert not message.missing
            assert not kernel.overlapped, "the kernel was used from two threads at once"


async def test_stopping_in_the_middle_of_a_big_plan_waits_for_the_kernel(tmp_path: Path) -> None:
    many = tuple(steering(IPv6Network((0x20010DB8_00030000 + n << 64, 64))) for n in range(1000))
    kernel = _Slow()
    path = tmp_path / "controller"
    async with controller(path) as fake:
        async with agent(path, kernel):
            await fake.next(Hello)
            await fake.send(FullPlan(7, many))
            assert await asyncio.to_thread(kernel.started.wait, 10)
            asyncio.get_running_loop().call_later(0.05, kernel.go_on.set)
        assert len(kernel.objects) == len(many)


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["ws://127.0.0.1:8642", "wss://[2001:db8::1]:443", "ws+unix:///run/c.sock"]
)
def test_addresses_of_controllers(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address", ["", "http://127.0.0.1", "127.0.0.1:8642", "ws://", "ws+unix://run/c", "ws+unix://"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"controller '.*'"):
        check_address(address)


@pytest.mark.parametrize("first", range(0, 60, 10))
async def test_it_stops_at_whatever_step_of_a_hang_up_it_is_told_to(
    tmp_path: Path, first: int
) -> None:
    """The agent is cancelled after each of the event loop's turns that a closing takes."""
    for turns in range(first, first + 10):
        path = tmp_path / f"controller{turns}"
        async with controller(path) as fake:
            made = Agent(path, FakeKernel())
            made.worker.start()
            running = asyncio.create_task(made.stream.run())
            await _in_step(fake)
            closing = asyncio.create_task(fake.hang_up())
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            done, _ = await asyncio.wait((running,), timeout=5)
            assert done, f"told after {turns} turns, it goes on"
            await asyncio.gather(closing, return_exceptions=True)
            await made.worker.close()
