"""Which segment lists answer: what head-ends report, made durable; who does again is held down.

A list is out of use when its head-end says that it is silent, and may be used again when it has
answered for as long as core.hold_down asks for. A silent list that no plan would use is forgotten.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

import structlog

from srv6dmm.controller.clock import Clock
from srv6dmm.core import hold_down
from srv6dmm.core.hold_down import History
from srv6dmm.model.state import Change, SilentList, State
from srv6dmm.model.wire import ListReport

log = structlog.get_logger()

RETRY_MS = 1_000
"""How soon a change is tried again that could not be made durable."""
FORGOTTEN_MS = 600_000
"""For so long a silent list is probed that no plan would use."""
MOST = 256
"""Lists of one head-end that are kept; what it says of more is not heard."""

Commit = Callable[[Change], Awaitable[bool]]
"""Makes a change durable and has it followed; False: it could not be."""


class ListStates:
    """Takes reports in and turns them into changes."""

    def __init__(
        self,
        wanted: Callable[[], Collection[SilentList]],
        newest: Callable[[], State],
        commit: Commit,
        clock: Clock,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        """`wanted`: silent lists that plans would use if they answered."""
        self._wanted = wanted
        self._newest = newest
        self._commit = commit
        self._clock = clock
        self._spawn = spawn
        self._answers: dict[SilentList, bool] = {}
        """What head-ends said last."""
        self._histories: dict[SilentList, History] = {}
        self._looked: dict[SilentList, int] = {}
        """When silent lists were last known to be wanted, or first seen."""
        self._timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    def start(self) -> None:
        """Take up what the last run left."""
        if self._newest().lists_silent:
            self._spawn(self._settle())

    def take(self, router: str, report: ListReport) -> None:
        """Take in what a head-end says of its lists."""
        for segments in report.silent:
            self._answers[SilentList(router, segments)] = False
        for segments in report.answering:
            self._answers[SilentList(router, segments)] = True
        self._spawn(self._settle())

    def close(self) -> None:
        """Stop waiting for lists to become usable."""
        if self._timer is not None:
            self._timer.cancel()

    async def _settle(self) -> None:
        """Bring the state to what was reported, as far as it is time for that."""
        async with self._turn:
            now_ms = self._clock.now_ms()
            change, due_ms = self._judge(now_ms)
            if change and not await self._commit(change):
                due_ms = now_ms + RETRY_MS
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ms is not None:
            wait_s = max(0, due_ms - now_ms) / 1e3
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._spawn(self._settle())

    def _judge(self, now_ms: int) -> tuple[Change, int | None]:
        """Return what changes now, and when to look again."""
        held = self._newest().lists_silent
        silent: list[SilentList] = []
        usable: list[SilentList] = []
        due: list[int] = []
        counts = Counter(known.head_end for known in held)
        for known in sorted(held | self._answers.keys(), key=_order):
            answers, was_silent = self._answers.get(known, False), known in held
            history = self._histories.get(known, History())
            if not answers:
                if history.up_ms is not None or not was_silent:
                    history = hold_down.failed(history, now_ms)
                if not was_silent and counts[known.head_end] < MOST:
                    counts[known.head_end] += 1
                    silent.append(known)
                due.append(self._patience(known, now_ms))
                if was_silent and due[-1] <= now_ms:
                    usable.append(known)
                    due.pop()
            elif was_silent:
                history = hold_down.recovered(history, now_ms)
                at_ms = hold_down.usable_at(history)
                if at_ms is not None and at_ms > now_ms:
                    due.append(at_ms)
                else:
                    history = hold_down.used(history, now_ms)
                    usable.append(known)
            else:
                del self._answers[known]  # it never was out of use
                continue
            self._histories[known] = history
        for known in usable:
            self._answers.pop(known, None)
            self._looked.pop(known, None)
        self._histories = {
            known: history
            for known, history in self._histories.items()
            if history.used_ms is None or now_ms - history.used_ms < hold_down.FORGOTTEN_MS
        }
        if silent or usable:
            log.info("lists.changed", silent=_shown(silent), usable=_shown(usable))
        return Change(lists_silent=tuple(silent), lists_usable=tuple(usable)), min(
            due, default=None
        )

    def _patience(self, known: SilentList, now_ms: int) -> int:
        """Return until when a silent list is to be kept, in milliseconds."""
        looked = self._looked.setdefault(known, now_ms)
        if now_ms - looked >= FORGOTTEN_MS and known in self._wanted():
            self._looked[known] = looked = now_ms
        return looked + FORGOTTEN_MS


def _order(known: SilentList) -> tuple[str, tuple[str, ...]]:
    return (known.head_end, tuple(map(str, known.segments)))


def _shown(lists: Collection[SilentList]) -> list[str]:
    return [f"{known.head_end}: {' '.join(map(str, known.segments))}" for known in lists]
