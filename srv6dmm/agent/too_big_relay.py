"""Listens for Packet Too Big and Time Exceeded in a router's namespace; relays what is ours."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from ipaddress import IPv6Address

import structlog

from srv6dmm.agent import icmp
from srv6dmm.agent.rate_limit import RateLimit
from srv6dmm.agent.too_big import PACKET_TOO_BIG, TIME_EXCEEDED, relay
from srv6dmm.dataplane.ancillary import from_address
from srv6dmm.model.errors import Srv6dmmError

log = structlog.get_logger()

RATE, BURST = 10.0, 20.0
"""Messages per second, and at once, to one inner source."""
ALL_RATE, ALL_BURST = 200.0, 400.0
"""To all of them together, whatever sources are made up (RFC 4443 section 2.4 (f))."""
_AT_ONCE = 64
"""Messages handled before the event loop gets its turn again."""


class TooBigRelay:
    """The relay of one router. Its messages come from the router's loopback address."""

    def __init__(self, network_namespace: str | None) -> None:
        self._namespace = network_namespace
        self._tunnel_source: IPv6Address | None = None
        self._socket: socket.socket | None = None
        self._limit = RateLimit(RATE, BURST)
        self._all = RateLimit(ALL_RATE, ALL_BURST)
        self.relayed = 0
        self.ignored: Counter[str] = Counter()
        """Reason -> messages that were not relayed."""

    def update(self, tunnel_source: IPv6Address | None) -> None:
        """Set whose packets are ours: the router's loopback, None for a plain router."""
        self._tunnel_source = tunnel_source
        if tunnel_source is not None and self._socket is None:
            try:
                self._socket = icmp.listen(self._namespace, PACKET_TOO_BIG, TIME_EXCEEDED)
            except (OSError, Srv6dmmError) as error:
                log.warning("too-big.no-socket", error=str(error))
                return
            asyncio.get_running_loop().add_reader(self._socket, self._heard, self._socket)

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _heard(self, opened: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                message = opened.recv(2048)
            except OSError:
                return  # no more for now
            self._take(opened, message)

    def _take(self, opened: socket.socket, message: bytes) -> None:
        source = self._tunnel_source
        if source is None:
            return
        found = relay(message, source)
        if isinstance(found, str):
            self.ignored[found] += 1
            return
        now = asyncio.get_running_loop().time()
        # Who has had its share takes nothing from the others'.
        if not (self._limit.allow(found.destination, now) and self._all.allow(None, now)):
            self.ignored["rate"] += 1
            return
        try:
            opened.sendmsg(
                [found.message],
                from_address(source),
                0,
                (str(found.destination), 0, 0, 0),
            )
        except OSError as error:
            self.ignored["unsent"] += 1
            log.warning("too-big.unsent", destination=str(found.destination), error=str(error))
        else:
            self.relayed += 1
