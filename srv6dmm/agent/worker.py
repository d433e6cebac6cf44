"""The agent's work: takes plans, keeps the kernel equal to them, says what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import structlog

from srv6dmm.agent.advertise import Advertiser
from srv6dmm.agent.carriers import Carrier, Carriers
from srv6dmm.agent.followers import Follower, Say
from srv6dmm.agent.inspection import inspect
from srv6dmm.agent.meter import Meter
from srv6dmm.agent.reconcile import Reconciler, Repair
from srv6dmm.agent.too_big_relay import TooBigRelay
from srv6dmm.dataplane.kernel import Kernel
from srv6dmm.model.plan import Advertisement, RouterSettings
from srv6dmm.model.wire import (
    Ack,
    DeltaPlan,
    EntryFailure,
    Failed,
    FromAgent,
    FullPlan,
    Inspect,
    Inspection,
    LinkReport,
    Report,
    Telemetry,
)

log = structlog.get_logger()
T = TypeVar("T")

RETRY_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
DEBOUNCE_S = 0.2
"""Netlink notices come in bursts; a read-back follows the first of them by this, or by five
times what the last read-back took: at most a sixth of the time is spent on reading back."""
_SHARE = 5
INLINE_OBJECTS = 200
"""Up to so many kernel objects are handled in the event loop (a millisecond or two); more go to a
thread, so that heartbeats and Router Advertisements do not wait for them."""
_STAGGER, _STAGGER_S = 50, 0.05
"""A restarted router tells its nodes in groups of so many, so long apart."""


async def _at_once() -> None:
    """Let what follows from a plan follow without delay."""


class OutOfStep(Exception):
    """A delta does not build on what we hold: a full plan is needed."""


class Worker:
    """One router's state between controller and kernel. Outlives connections."""

    def __init__(
        self,
        kernel: Kernel,
        encap_red: bool,
        advertiser: Advertiser,
        too_big: TooBigRelay,
        resync_s: float,
        fast: bool = False,
        meter: Meter | None = None,
        detect: bool = False,
        carrier: Carrier | None = None,
        followers: Sequence[Follower] = (),
    ) -> None:
        """`fast`: whether plans go into the kernel's fast path too, which `meter` reads.

        `detect`: whether it is to tell of mobile nodes that arrive. `carrier`: what knows which
        links work; without it the controller is not told. `followers` act on what is applied.
        """
        self._kernel = kernel
        self._reconciler = Reconciler(kernel, encap_red, fast, detect)
        self._advertiser = advertiser
        self._too_big = too_big
        self._resync_s = resync_s
        self._meter = meter
        self._carriers = Carriers(carrier, self._links_changed) if carrier is not None else None
        self._followers = tuple(followers)
        self._say: Say = lambda message: None
        self.revision: int | None = None
        """What is applied; None before the first plan."""
        self._failures: list[EntryFailure] = []
        """As last said to the controller."""
        self._held_back: dict[str, Advertisement] = {}
        """Advertisements whose routes the kernel refuses: not to be sent."""
        self._turn = asyncio.Lock()
        """The kernel is spoken to by one at a time, and in order."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._retries = 0
        self._debounce: asyncio.TimerHandle | None = None
        self._read_back_took_s = 0.0
        self._periodic: asyncio.TimerHandle | None = None
        self._monitor: int | None = None

    def start(self) -> None:
        """Watch the kernel, and read it back every `resync_s` seconds."""
        self._monitor = self._kernel.subscribe(self._changed)
        self._watch(True)
        if self._carriers is not None:
            self._carriers.start()
        for follower in self._followers:
            follower.start(self.tell)
        self._plan_resync()

    async def close(self) -> None:
        """Stop everything; what is in the kernel stays and forwards."""
        for timer in (self._retry, self._debounce, self._periodic):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._turn:  # a thread may still be at work
            self._watch(False)
            self._monitor = None
            if self._carriers is not None:
                self._carriers.close()
            for follower in self._followers:
                follower.close()
            self._advertiser.close()
            self._too_big.close()
            self._kernel.close()

    def listen(self, say: Say) -> None:
        """Set where Acks, Failures and Reports go: to somebody who knows nothing yet."""
        self._say = say
        if self._meter is not None:
            self._meter.start_over()
        if self._carriers is not None:
            self._carriers.start_over()
        for follower in self._followers:
            follower.start_over()

    def tell(self, message: FromAgent) -> None:
        """Say something that no plan asked for; lost when nobody listens."""
        self._say(message)

    def _links_changed(self, report: LinkReport) -> None:
        self.tell(report)
        for follower in self._followers:
            follower.links_changed()

    async def take(
        self, message: FullPlan | DeltaPlan, answered: Callable[[], Awaitable[None]] = _at_once
    ) -> None:
        """Apply a plan, answer, await `answered`, and let RAs and the rest follow.

        Raises OutOfStep for a delta on something else.
        """
        started = time.perf_counter()
        reconciler = self._reconciler
        if isinstance(message, FullPlan):
            entries = message.entries
            size = max(len(entries), reconciler.size)
            failures = await self._exclusively(size, lambda: reconciler.apply_full(entries))
        else:
            if message.base != self.revision:
                raise OutOfStep(f"delta on {message.base}, held is {self.revision}")
            put, gone = message.put, message.gone
            size = len(put) + len(gone)
            failures = await self._exclusively(size, lambda: reconciler.apply_delta(put, gone))
        self.revision = message.revision
        news = bool(set(failures) - set(self._failures))
        self._answer(failures, (time.perf_counter() - started) * 1e3)
        await answered()
        if isinstance(message, FullPlan):
            self._configure()
            self._advertiser.keep_only(reconciler.entries.keys())
            self._held_back.clear()
            for follower in self._followers:
                follower.full(reconciler.entries.values())
            self._advertise(
                [e for e in reconciler.entries.values() if isinstance(e, Advertisement)]
            )
        else:
            self._publish(message)
        self._plan_retry(failures, news=news)

    async def resync(self) -> Report:
        """Read the kernel back, repair, and return what was found."""
        started = time.perf_counter()
        repair, counters, failures = await self._exclusively(
            self._reconciler.size,
            lambda: (
                self._reconciler.repair(),
                self._counters(),
                self._reconciler.failures(),
            ),
        )
        took_s = time.perf_counter() - started
        self._read_back_took_s = took_s
        if repair:
            self._log_drift(repair)
        self._settle(failures, took_s * 1e3)
        self._advertiser.look()
        return Report(
            revision=self.revision or 0,
            missing=repair.missing,
            different=repair.different,
            superfluous=repair.superfluous,
            sid_packets=counters,
        )

    async def inspect(self, question: Inspect) -> Inspection:
        """Read back what plan entries are in the kernel; nothing is repaired."""
        reconciler, entries = self._reconciler, question.entries
        states = await self._exclusively(
            len(entries),
            lambda: inspect(self._kernel, reconciler.host, reconciler.entries, entries),
        )
        return Inspection(question.number, self.revision, states)

    async def change_over(self, step: Callable[[Reconciler], Meter | None]) -> None:
        """Run `step`, which changes what the plan is made of here, between two plans.

        It returns what counts from then on. What the kernel refuses of it is told as after any
        read-back. Raises what `step` raises; the meter is the old one then.
        """
        started = time.perf_counter()
        reconciler = self._reconciler

        def work() -> list[EntryFailure]:
            self._meter = step(reconciler)
            return reconciler.failures()

        # Always in a thread: programs come and go in the kernel's time.
        failures = await self._exclusively(INLINE_OBJECTS + 1, work)
        self._settle(failures, (time.perf_counter() - started) * 1e3)

    async def telemetry(self) -> Telemetry | None:
        """Return what the fast path counted and was not told yet; None when there is no news."""
        async with self._turn:
            if self._meter is None:
                return None
            try:
                return self._meter.read()
            except OSError as error:
                log.warning("counters.unread", error=str(error))
                return None

    # --- one at a time -----------------------------------------------------------------------

    async def _exclusively(self, size: int, work: Callable[[], T]) -> T:
        """Run work on the kernel: here when it is small, in a thread when it is big."""
        async with self._turn:
            if size <= INLINE_OBJECTS:
                return work()
            self._watch(False)  # the kernel is not to be used from two threads
            job = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(job)
            finally:
                if not job.done():
                    await asyncio.wait((job,))
                self._watch(True)

    def _watch(self, on: bool) -> None:
        if self._monitor is None:
            return
        loop = asyncio.get_running_loop()
        if on:
            loop.add_reader(self._monitor, self._kernel.drain)
        else:
            loop.remove_reader(self._monitor)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _counters(self) -> dict[str, tuple[int, int, int]]:
        try:
            return self._kernel.sid_counters()
        except OSError as error:
            log.warning("counters.unread", error=str(error))
            return {}

    # --- saying ------------------------------------------------------------------------------

    def _answer(self, failures: list[EntryFailure], took_ms: float) -> None:
        revision = self.revision or 0
        self._failures = failures
        if failures:
            log.warning(
                "plan.refused",
                revision=revision,
                failures=[f"{failure.key}: {failure.reason}" for failure in failures[:10]],
            )
            self._say(Failed(revision, tuple(failures)))
        else:
            self._say(Ack(revision, time.time() * 1e3, took_ms))

    def _settle(self, failures: list[EntryFailure], took_ms: float) -> None:
        """After a repair or a retry: say so if the kernel refuses other things than before."""
        if failures != self._failures:
            self._answer(failures, took_ms)
            self._advertise(list(self._held_back.values()))
        self._plan_retry(failures)

    def _log_drift(self, repair: Repair) -> None:
        log.warning(
            "drift.repaired",
            missing=repair.missing[:10],
            different=repair.different[:10],
            superfluous=repair.superfluous[:10],
            objects=sum(map(len, (repair.missing, repair.different, repair.superfluous))),
        )

    # --- what follows from an applied plan ---------------------------------------------------

    def _configure(self) -> None:
        settings = self._reconciler.entries.get("settings")
        if isinstance(settings, RouterSettings):
            self._too_big.update(settings.loopback)
            self._advertiser.configure(settings)
            if self._carriers is not None:
                self._carriers.follow(settings.core_interfaces)

    def _publish(self, delta: DeltaPlan) -> None:
        if any(isinstance(entry, RouterSettings) for entry in delta.put):
            self._configure()
        for follower in self._followers:
            follower.changed(delta.put, delta.gone)
        for key in delta.gone:
            self._advertiser.remove(key)
            self._held_back.pop(key, None)
        news = {entry.key: entry for entry in delta.put if isinstance(entry, Advertisement)}
        self._advertise([*(self._held_back | news).values()])

    def _advertise(self, planned: Iterable[Advertisement]) -> None:
        """Let RAs follow what is applied; never what is not."""
        refused = {failure.key for failure in self._failures}
        ready: list[Advertisement] = []
        for entry in planned:
            if refused and any(f"mobile {p.prefix}" in refused for p in entry.prefixes):
                self._held_back[entry.key] = entry
                self._advertiser.remove(entry.key)
            else:
                ready.append(entry)
        for number, advertisement in enumerate(ready):
            self._held_back.pop(advertisement.key, None)
            self._advertiser.put(advertisement, number // _STAGGER * _STAGGER_S)

    # --- timers ------------------------------------------------------------------------------

    def _plan_retry(self, failures: list[EntryFailure], *, news: bool = False) -> None:
        """Retry after 1, 2, 4 .. 32 s; with `news` after 1 s again, unless it is due before."""
        loop = asyncio.get_running_loop()
        if self._retry is not None:
            if failures and (not news or self._retry.when() <= loop.time() + RETRY_S[0]):
                return
            self._retry.cancel()
            self._retry = None
        if not failures or news:
            self._retries = 0
        if failures:
            delay = RETRY_S[min(self._retries, len(RETRY_S) - 1)]
            self._retries += 1
            self._retry = loop.call_later(delay, lambda: self._spawn(self._try_again()))

    async def _try_again(self) -> None:
        self._retry = None
        started = time.perf_counter()
        failures = await self._exclusively(len(self._failures), self._reconciler.retry)
        self._settle(failures, (time.perf_counter() - started) * 1e3)

    def _changed(self) -> None:
        """Somebody touched an object of ours: look soon."""
        if self._debounce is None and self._reconciler.in_sync:
            delay = max(DEBOUNCE_S, _SHARE * self._read_back_took_s)
            self._debounce = asyncio.get_running_loop().call_later(
                delay, lambda: self._spawn(self._look())
            )

    async def _look(self) -> None:
        self._debounce = None
        report = await self.resync()
        if report.missing or report.different or report.superfluous:
            self._say(report)

    def _plan_resync(self) -> None:
        self._periodic = asyncio.get_running_loop().call_later(
            self._resync_s, lambda: self._spawn(self._resync_again())
        )

    async def _resync_again(self) -> None:
        if self._reconciler.in_sync:
            self._say(await self.resync())
        self._plan_resync()
