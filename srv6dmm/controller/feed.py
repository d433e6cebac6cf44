"""The event feed: what happened, numbered, in a ring that late readers resume from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

RING = 10_000


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """One thing that happened. `id` grows by one; `kind` names the members of `data`."""

    id: int
    kind: str
    at_ms: int
    data: dict[str, Any]


class Feed:
    """The newest events, and readers that wait for more."""

    def __init__(self) -> None:
        self._ring: deque[FeedEvent] = deque(maxlen=RING)
        self._next = 1
        self._more = asyncio.Event()

    def add(self, kind: str, at_ms: int, **data: Any) -> None:
        """Append an event and wake every reader."""
        self._ring.append(FeedEvent(self._next, kind, at_ms, data))
        self._next += 1
        more, self._more = self._more, asyncio.Event()
        more.set()

    async def read(self, since: int | None) -> AsyncIterator[FeedEvent]:
        """Yield events after id `since` (None: only new ones), for ever.

        A reader that fell out of the ring goes on with the oldest event there is, as does one
        whose id is yet to come: it is of another life.
        """
        newest = self._next - 1
        last = newest if since is None else since if since <= newest else 0
        while True:
            more = self._more
            for event in [event for event in self._ring if event.id > last]:
                yield event
                last = event.id
            if self._more is more:
                await more.wait()
