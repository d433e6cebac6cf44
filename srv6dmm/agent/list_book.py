"""The segment lists of a plan, each once, kept up entry by entry."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from srv6dmm.model.plan import (
    FlowSteering,
    LocalSid,
    PlanEntry,
    SteeringEntry,
    SteeringList,
    UnderlayRoute,
    WatchedList,
)
from srv6dmm.model.sid import EncapMode, SegmentList


@dataclass(frozen=True, slots=True)
class ListInUse:
    """How packets of a list are built, and how a probe of it comes home."""

    segments: SegmentList
    mode: EncapMode
    back: SegmentList


class ListBook:
    """What is to be probed, and since when. Times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[ListInUse, ...]] = {}
        self._uses: dict[SegmentList, int] = {}
        self.lists: dict[SegmentList, ListInUse] = {}
        self.since: dict[SegmentList, float] = {}
        self.watched: set[SegmentList] = set()
        """Those that are out of use, and known to the controller as such."""
        self.moved_at = float("-inf")
        """When routes of the router itself changed last."""

    def full(self, entries: Collection[PlanEntry], now: float) -> None:
        """Take another plan."""
        keys = {entry.key for entry in entries}
        for key in [key for key in self._entries if key not in keys]:
            self._drop(key)
        self.watched = set()
        for entry in entries:
            self._put(entry, now)

    def changed(self, put: Collection[PlanEntry], gone: Collection[str], now: float) -> None:
        """Take a change of the plan."""
        for key in gone:
            self._drop(key)
        for entry in put:
            self._put(entry, now)
        if any(isinstance(entry, UnderlayRoute | LocalSid) for entry in put):
            self.moved_at = now

    def _put(self, entry: PlanEntry, now: float) -> None:
        uses = tuple(_uses(entry))
        if not uses and entry.key not in self._entries:
            return
        old = self._entries.pop(entry.key, ())
        if uses:
            self._entries[entry.key] = uses
        for use in uses:
            self._uses[use.segments] = self._uses.get(use.segments, 0) + 1
            self.lists[use.segments] = use
            self.since.setdefault(use.segments, now)
        self._release(old)
        if isinstance(entry, WatchedList):
            self.watched.add(entry.segments)

    def _drop(self, key: str) -> None:
        old = self._entries.pop(key, ())
        if key.startswith("watch "):
            self.watched.difference_update(use.segments for use in old)
        self._release(old)

    def _release(self, uses: tuple[ListInUse, ...]) -> None:
        for use in uses:
            self._uses[use.segments] -= 1
            if not self._uses[use.segments]:
                del self._uses[use.segments], self.lists[use.segments], self.since[use.segments]


def _uses(entry: PlanEntry) -> Iterator[ListInUse]:
    match entry:
        case SteeringEntry():
            yield ListInUse(entry.segments, entry.mode, entry.return_segments)
            yield from _of(entry.backup, entry.mode)
        case FlowSteering():
            for way in (*entry.lists, entry.backup):
                yield from _of(way, entry.mode)
        case WatchedList():
            yield ListInUse(entry.segments, entry.mode, entry.return_segments)


def _of(way: SteeringList | None, mode: EncapMode) -> Iterator[ListInUse]:
    if way is not None:
        yield ListInUse(way.segments, mode, way.return_segments)
