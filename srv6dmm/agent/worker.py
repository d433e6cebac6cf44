"""The agent's work: takes plans, keeps the kernel equal to them, reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from srv6dmm.agent.advertise import Advertiser
from srv6dmm.agent.reconcile import Reconciler, Repair
from srv6dmm.agent.too_big import TooBigRelay
from srv6dmm.dataplane.kernel import Kernel
from srv6dmm.model.plan import Advertisement, RouterSettings
from srv6dmm.model.wire import (
    Ack,
    DeltaPlan,
    EntryFailure,
    Failed,
    FromAgent,
    FullPlan,
    Report,
)

log = structlog.get_logger()

RETRY_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
DEBOUNCE_S = 0.2
"""Netlink notices come in bursts; a read-back follows the first of them by this."""

Say = Callable[[FromAgent], None]


class OutOfStep(Exception):
    """A delta does not build on what we hold: a full plan is needed."""


class Worker:
    """One router's state between controller and kernel. Survives reconnections."""

    def __init__(
        self,
        kernel: Kernel,
        encap_red: bool,
        advertiser: Advertiser,
        too_big: TooBigRelay,
        resync_s: float,
    ) -> None:
        self._kernel = kernel
        self._reconciler = Reconciler(kernel, encap_red)
        self._advertiser = advertiser
        self._too_big = too_big
        self._resync_s = resync_s
        self._say: Say = lambda message: None
        self.revision: int | None = None
        """What is applied; None before the first plan."""
        self._retry: asyncio.TimerHandle | None = None
        self._retries = 0
        self._debounce: asyncio.TimerHandle | None = None
        self._periodic: asyncio.TimerHandle | None = None
        self._monitor: int | None = None

    def start(self) -> None:
        """Watch the kernel, and read it back every `resync_s` seconds."""
        loop = asyncio.get_running_loop()
        self._monitor = self._kernel.subscribe(self._changed)
        loop.add_reader(self._monitor, self._kernel.drain)
        self._periodic = loop.call_later(self._resync_s, self._resync_again)

    def close(self) -> None:
        """Stop everything; what is in the kernel stays and forwards."""
        for timer in (self._retry, self._debounce, self._periodic):
            if timer is not None:
                timer.cancel()
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor)
        self._advertiser.close()
        self._too_big.close()
        self._kernel.close()

    def listen(self, say: Say) -> None:
        """Set where Acks and Reports go."""
        self._say = say

    def take(self, message: FullPlan | DeltaPlan) -> None:
        """Apply a plan and answer. Raises OutOfStep for a delta on something else."""
        started = time.perf_counter()
        if isinstance(message, DeltaPlan):
            if message.base != self.revision:
                raise OutOfStep(f"delta on {message.base}, held is {self.revision}")
            failures = self._reconciler.apply_delta(message.put, message.gone)
        else:
            failures = self._reconciler.apply_full(message.entries)
        self.revision = message.revision
        self._answer(failures, (time.perf_counter() - started) * 1e3)
        self._retries = 0
        self._plan_retry(failures)
        # After the acknowledgement has left: others wait for that, nobody for the RA.
        asyncio.get_running_loop().call_soon(self._publish)

    def resync(self) -> Report:
        """Read the kernel back, repair, and return what was found."""
        repair = self._reconciler.repair() if self._reconciler.in_sync else Repair((), (), ())
        if repair:
            log.warning(
                "drift.repaired",
                missing=repair.missing,
                different=repair.different,
                superfluous=repair.superfluous,
            )
        return Report(
            revision=self.revision or 0,
            missing=repair.missing,
            different=repair.different,
            superfluous=repair.superfluous,
            sid_packets=self._kernel.sid_counters(),
        )

    def _answer(self, failures: list[EntryFailure], took_ms: float) -> None:
        revision = self.revision or 0
        if failures:
            log.warning("plan.refused", revision=revision, failures=failures)
            self._say(Failed(revision, tuple(failures)))
        else:
            self._say(Ack(revision, time.time() * 1e3, took_ms))

    def _publish(self) -> None:
        """Let RAs follow what is applied; never what is not."""
        entries = self._reconciler.entries
        settings = entries.get("settings")
        failed = {failure.key for failure in self._reconciler.failures()}
        if isinstance(settings, RouterSettings):
            self._too_big.update(settings.loopback)
            planned = [e for e in entries.values() if isinstance(e, Advertisement)]
            ready = [e for e in planned if not failed & {f"mobile {p.prefix}" for p in e.prefixes}]
            self._advertiser.update(settings, ready)

    def _plan_retry(self, failures: list[EntryFailure]) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if failures:
            delay = RETRY_S[min(self._retries, len(RETRY_S) - 1)]
            self._retries += 1
            self._retry = asyncio.get_running_loop().call_later(delay, self._try_again)

    def _try_again(self) -> None:
        started = time.perf_counter()
        failures = self._reconciler.retry()
        self._answer(failures, (time.perf_counter() - started) * 1e3)
        self._publish()
        self._plan_retry(failures)

    def _changed(self) -> None:
        """Somebody touched an object of ours: look soon."""
        if self._debounce is None and self._reconciler.in_sync:
            loop = asyncio.get_running_loop()
            self._debounce = loop.call_later(DEBOUNCE_S, self._look)

    def _look(self) -> None:
        self._debounce = None
        report = self.resync()
        if report.missing or report.different or report.superfluous:
            self._say(report)
            self._plan_retry(self._reconciler.failures())

    def _resync_again(self) -> None:
        self._periodic = asyncio.get_running_loop().call_later(self._resync_s, self._resync_again)
        if self._reconciler.in_sync:
            self._say(self.resync())
