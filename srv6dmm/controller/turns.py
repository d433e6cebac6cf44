"""Turns: one queue per mobile node, so that its events are decided and made durable in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A lock for every mobile node that something is decided of now; others take no room."""

    def __init__(self) -> None:
        self._queues: dict[str, tuple[asyncio.Lock, int]] = {}

    def __bool__(self) -> bool:
        """Tell whether anybody has a turn or waits for one."""
        return bool(self._queues)

    @asynccontextmanager
    async def of(self, mobile_node: str) -> AsyncIterator[None]:
        """Wait for the node's turn and hold it within the block."""
        lock, users = self._queues.get(mobile_node, (None, 0))
        lock = lock or asyncio.Lock()
        self._queues[mobile_node] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._queues[mobile_node]
            if users == 1:
                del self._queues[mobile_node]
            else:
                self._queues[mobile_node] = (lock, users - 1)
