"""Arrivals: what the fast path saw of mobile nodes that came, told to the controller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from srv6dmm.agent.rate_limit import RateLimit
from srv6dmm.dataplane.fastpath.layout import Event, EventKind
from srv6dmm.dataplane.fastpath.ring import Ring
from srv6dmm.model.wire import Detected

log = structlog.get_logger()

_KINDS = {
    EventKind.SOLICITATION: "solicitation",
    EventKind.DAD: "duplicate-address-detection",
    EventKind.DATA: "data",
}
NODE_RATE, NODE_BURST = 1.0, 3.0
ALL_RATE, ALL_BURST = 200.0, 400.0
"""A second, and at once: made-up link-layer addresses must not keep the controller busy."""


class Detector:
    """Reads the ring buffer from the event loop and says what is new."""

    def __init__(self, ring: Ring, say: Callable[[Detected], None]) -> None:
        self._ring = ring
        self._say = say
        self._by_node = RateLimit(NODE_RATE, NODE_BURST)
        self._all = RateLimit(ALL_RATE, ALL_BURST)

    def start(self) -> None:
        """Listen in the running event loop."""
        asyncio.get_running_loop().add_reader(self._ring.fileno(), self._read)

    def close(self) -> None:
        """Stop listening; ports go on telling whoever reads next."""
        asyncio.get_running_loop().remove_reader(self._ring.fileno())
        self._ring.close()

    def _read(self) -> None:
        for event in self._ring.read():
            told = detected(event, round(time.time() * 1e3))
            now = time.monotonic()
            if (
                told is not None
                and self._by_node.allow(event.mac, now)
                and self._all.allow(None, now)
            ):
                log.info("node.detected", kind=told.kind, mac=told.link_layer_address)
                self._say(told)


def detected(event: Event, at_ms: int) -> Detected | None:
    """Return an arrival as a message; None for what cannot be a node's."""
    if event.kind not in set(EventKind) or event.mac[0] & 1 or not any(event.mac):
        return None
    mac = ":".join(f"{octet:02x}" for octet in event.mac)
    return Detected(_KINDS[EventKind(event.kind)], mac, event.address, at_ms)
