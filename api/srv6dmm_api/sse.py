"""The event feed as server-sent events (WHATWG HTML section 9.2), resumable by id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from srv6dmm.controller.service import Controller

HEARTBEAT_S = 10.0
"""Silence after which a comment is sent, so that dead connections are noticed."""
LARGEST_ID = 1 << 53
"""Ids stay exact in every JSON reader."""


class EventStream:
    """Feed ids grow within one life of the controller; the ids sent grow across lives.

    `origin`, from the wall clock at the start, is added. A reader that resumes with an id of an
    earlier life thus gets everything that happened in this one.
    """

    def __init__(self, controller: Controller, started_ms: int) -> None:
        self._controller = controller
        self._origin = started_ms * 1000  # a life would need 1000 events a millisecond to collide

    async def follow(self, since: int | None, stopping: asyncio.Event) -> AsyncIterator[bytes]:
        """Yield frames after the event `since` (None: from now on) until `stopping` is set."""
        after = None if since is None else max(0, since - self._origin)
        reader = self._controller.subscribe(after)
        following = asyncio.ensure_future(anext(reader))
        stopped = asyncio.ensure_future(stopping.wait())
        try:
            yield b": connected\n\n"
            while not stopping.is_set():
                await asyncio.wait(
                    (following, stopped),
                    timeout=HEARTBEAT_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if following.done():
                    event = following.result()
                    data = msgspec.json.encode({"at_ms": event.at_ms, **event.data})
                    head = f"id: {self._origin + event.id}\nevent: {event.kind}\ndata: "
                    yield head.encode() + data + b"\n\n"
                    following = asyncio.ensure_future(anext(reader))
                elif not stopped.done():
                    yield b": alive\n\n"
        finally:
            following.cancel()
            stopped.cancel()
