"""The mode of a running agent, and the change from one to the other under traffic.

The kernel's routes are complete in either mode. To `ebpf`: programs are loaded, entries filled,
programs attached. To `netlink`: programs detached, entries deleted, pins removed. A kill between
any two of these steps leaves what an agent that starts finds anyway: it adopts or retires it.
"""

from __future__ import annotations

import asyncio

import structlog

from srv6dmm.agent.adjacencies import Adjacencies
from srv6dmm.agent.detect import Detector
from srv6dmm.agent.fastpath import load_fast_path, retire
from srv6dmm.agent.meter import Meter
from srv6dmm.agent.reconcile import Reconciler
from srv6dmm.agent.worker import Worker
from srv6dmm.dataplane.combined import CombinedKernel
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.ring import Ring
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.wire import ForwardingMode, ModeReport

log = structlog.get_logger()


class ModeSwitch:
    """Which mode one router forwards in; changes over on request, one request after the other.

    Arrivals are seen by the fast path only, so detection comes and goes with it, and so does the
    care for its next hops' link-layer addresses.
    """

    def __init__(
        self, kernel: CombinedKernel, worker: Worker, network_namespace: str | None, detect: bool
    ) -> None:
        """`kernel` is the worker's, in the mode that its agent was started in."""
        self._kernel = kernel
        self._worker = worker
        self._namespace = network_namespace
        self._detect = detect
        self._detector: Detector | None = None
        self._adjacencies: Adjacencies | None = None
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def mode(self) -> ForwardingMode:
        """The mode in effect."""
        return "netlink" if self._kernel.fast is None else "ebpf"

    def start(self) -> None:
        """Follow neighbours, and listen to arrivals where they are to be detected. OSError."""
        fast = self._kernel.fast
        if fast is not None:
            self._follow(fast)
        if fast is not None and self._detect:
            self._listen(fast.arrivals())
        elif self._detect:
            log.warning("detection.unavailable", reason="arrivals are seen by the fast path only")

    def ask(self, mode: ForwardingMode) -> None:
        """Change over to a mode and tell the controller what came of it; returns at once.

        Plans are taken meanwhile, but for the moments in which entries are filled or emptied.
        """
        task = asyncio.get_running_loop().create_task(self._change(mode))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Finish what is under way and stop listening; the mode stays until the next start."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._mute()
        self._leave_neighbours()

    async def _change(self, mode: ForwardingMode) -> None:
        reason = None
        async with self._turn:
            if mode != self.mode:
                try:
                    await (self._to_ebpf() if mode == "ebpf" else self._to_netlink())
                except (Srv6dmmError, OSError) as error:
                    reason = str(error)
            log.info("mode.asked", asked=mode, mode=self.mode, reason=reason)
            self._worker.tell(ModeReport(mode, self.mode, reason))

    # --- to ebpf -----------------------------------------------------------------------------

    async def _to_ebpf(self) -> None:
        try:
            fast, ring = await asyncio.to_thread(self._load)
        except (Srv6dmmError, OSError):
            await asyncio.to_thread(self._leave_nothing)
            raise

        def enter(reconciler: Reconciler) -> Meter:
            self._kernel.fast = fast
            reconciler.use_fast_path(True)
            return Meter(fast)

        await self._worker.change_over(enter)
        self._follow(fast)
        if ring is not None:
            self._listen(ring)

    def _load(self) -> tuple[FastPath, Ring | None]:
        """Load the programs; nothing is attached yet. Raises LoadError, OSError."""
        fast = load_fast_path(self._namespace)
        try:
            return fast, fast.arrivals() if self._detect else None
        except OSError:
            fast.close()
            raise

    def _leave_nothing(self) -> None:
        """Take away what a load that failed has pinned."""
        try:
            retire(self._namespace)
        except (Srv6dmmError, OSError) as error:
            log.warning("fastpath.not-retired", error=str(error))

    # --- to netlink --------------------------------------------------------------------------

    async def _to_netlink(self) -> None:
        fast = self._kernel.fast
        if fast is None:
            return

        def leave(reconciler: Reconciler) -> None:
            failures = reconciler.use_fast_path(False)
            try:
                retire(self._namespace)  # what the plan knows nothing of, and the pins
            except (Srv6dmmError, OSError):
                reconciler.use_fast_path(True)  # a program is still there: so must its entries be
                raise
            self._kernel.fast = None
            fast.close()
            if failures:
                reconciler.use_fast_path(False)  # what was refused may have been of the fast path

        self._leave_neighbours()
        try:
            await self._worker.change_over(leave)
        except (Srv6dmmError, OSError):
            self._follow(fast)
            raise
        self._mute()

    # --- neighbours --------------------------------------------------------------------------

    def _follow(self, fast: FastPath) -> None:
        self._adjacencies = Adjacencies(fast.neighbourhood())
        self._adjacencies.start()

    def _leave_neighbours(self) -> None:
        if self._adjacencies is not None:
            self._adjacencies.close()
            self._adjacencies = None

    # --- arrivals ----------------------------------------------------------------------------

    def _listen(self, ring: Ring) -> None:
        self._detector = Detector(ring, self._worker.tell)
        self._detector.start()

    def _mute(self) -> None:
        if self._detector is not None:
            self._detector.close()
            self._detector = None
