"""Live probes: all routers look out, one sends, and what was seen becomes a way. One at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

import structlog

from srv6dmm.controller.clock import Clock
from srv6dmm.controller.hub import Hub
from srv6dmm.core import live_walk
from srv6dmm.core.fib_walk import Packet, Walk
from srv6dmm.core.live_walk import Entrance, FarEnd, Observation, Passage
from srv6dmm.model.errors import Refusal
from srv6dmm.model.wire import Probe, Sighting, Watch

log = structlog.get_logger()

WATCH_S, SEND_S, TRAVEL_S, FLUSH_S = 0.4, 0.4, 0.8, 0.4
"""At most, for routers to begin to look, for the packet to be sent, for it to travel, and for all
that was seen to be told: 2 s."""
QUIET_S, GRACE_S = 0.2, 0.02
"""After the last sighting, and after it left the domain, for what may still come."""
GAP_S = 0.1
"""Between the beginnings of two probes."""


@dataclass(frozen=True, slots=True)
class LiveWalk:
    """What a probe came to."""

    router: str
    interface: str | None
    token: str
    sent: bool
    reason: str | None
    """Why it was not sent."""
    observations: tuple[Observation, ...]
    passages: tuple[Passage, ...]
    ending: str
    agrees: bool | None
    """Whether it went as simulated; None: too little was seen to say so."""
    difference: str | None
    answered_by: tuple[IPv6Address, ...]
    """Who sent an error back (RFC 4443)."""
    unwatched: dict[str, str]
    """Routers at which nobody looked, and why."""


class LiveProbes:
    """Sends one probe at a time through the domain."""

    def __init__(self, hub: Hub, clock: Clock, token: Callable[[], bytes]) -> None:
        """`token` returns eight random octets."""
        self._hub = hub
        self._clock = clock
        self._token = token
        self._busy = False
        self._next = float("-inf")

    async def run(
        self,
        router: str,
        way: Entrance | None,
        packet: Packet,
        walks: Sequence[Walk],
        far_end: FarEnd,
    ) -> LiveWalk:
        """Send a packet where a router receives it, and tell where it went.

        Raises Refusal: `too-many-probes`, `router-not-connected` when the router is away.
        """
        if self._busy or self._clock.monotonic() < self._next:
            raise Refusal(
                "too-many-probes",
                f"one live probe at a time, and {1 / GAP_S:g} a second; try again in a second",
                429,
            )
        self._hub.questions(router)
        self._busy = True
        self._next = self._clock.monotonic() + GAP_S
        one = _Run(self._hub, self._token().hex(), router, far_end)
        try:
            return await one.run(way, packet, walks)
        finally:
            one.end()
            self._busy = False


class _Run:
    """One probe."""

    def __init__(self, hub: Hub, token: str, router: str, far_end: FarEnd) -> None:
        self._hub = hub
        self._token = token
        self._router = router
        self._far_end = far_end
        self._seen: list[tuple[str, Sighting]] = []
        self._news = asyncio.Event()
        self._unwatched: dict[str, str] = {}
        self._watched: list[str] = []

    async def run(self, way: Entrance | None, packet: Packet, walks: Sequence[Walk]) -> LiveWalk:
        if way is None:
            return self._nothing(None, f"{self._router} has no interface to receive it by")
        await asyncio.gather(*(self._watch(status.name) for status in self._hub.status()))
        try:
            probed = await self._hub.questions(self._router).probe(
                _probe(self._token, way, packet), SEND_S
            )
        except TimeoutError:
            return self._nothing(way, f"the agent of {self._router} did not answer in time")
        if probed.reason is not None:
            return self._nothing(way, probed.reason)
        own = (packet.source, packet.destination)
        await self._travel(own, probed.at_ns, way)
        await asyncio.gather(*(self._unwatch(router) for router in self._watched))
        observations = self._observations(own, probed.at_ns)
        passages = self._passages(observations, way)
        found = [live_walk.difference(walk, passages, self._far_end) for walk in walks]
        certain = all(passage.seen for passage in passages)
        agrees = None in found
        return LiveWalk(
            self._router,
            way.interface,
            self._token,
            True,
            None,
            observations,
            passages,
            live_walk.ending(passages, self._far_end),
            agrees if certain or not agrees else None,
            None if agrees else found[0],
            self._answered(own),
            self._unwatched,
        )

    def end(self) -> None:
        """Have nobody look any more."""
        for router in self._watched:
            if self._hub.connected(router):
                self._hub.questions(router).forget(self._token)

    async def _watch(self, router: str) -> None:
        try:
            questions = self._hub.questions(router)
            self._watched.append(router)
            answer = await questions.watch(
                Watch(self._token, WATCH_S + SEND_S + TRAVEL_S + FLUSH_S),
                lambda sighting: self._take(router, sighting),
                WATCH_S,
            )
        except Refusal as refusal:
            self._unwatched[router] = refusal.detail
        except TimeoutError:
            self._unwatched[router] = f"the agent of {router} did not answer in time"
        else:
            if answer.reason is not None:
                self._unwatched[router] = answer.reason

    async def _unwatch(self, router: str) -> None:
        """Whoever does not answer now may have seen it all the same."""
        if router in self._unwatched:
            return
        try:
            await self._hub.questions(router).unwatch(self._token, FLUSH_S)
        except Refusal as refusal:
            self._unwatched[router] = refusal.detail
        except TimeoutError:
            self._unwatched[router] = f"the agent of {router} did not answer in time"

    def _take(self, router: str, sighting: Sighting) -> None:
        self._seen.append((router, sighting))
        self._news.set()

    async def _travel(
        self, own: tuple[IPv6Address, IPv6Address], sent_ns: int, way: Entrance
    ) -> None:
        """Wait until the packet has left the domain, or nobody has seen it for a while."""
        loop = asyncio.get_running_loop()
        end = loop.time() + TRAVEL_S
        while True:
            passages = self._passages(self._observations(own, sent_ns), way)
            left = live_walk.has_left(passages, self._far_end)
            patience_s = min(GRACE_S if left else QUIET_S, end - loop.time())
            if patience_s <= 0:
                return
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), patience_s)
            except TimeoutError:
                return

    def _observations(
        self, own: tuple[IPv6Address, IPv6Address], sent_ns: int
    ) -> tuple[Observation, ...]:
        found = [
            Observation(
                router,
                one.interface,
                one.outgoing,
                (one.at_ns - sent_ns) // 1000,
                one.hop_limit,
                one.headers,
            )
            for router, one in self._seen
            if (one.source, one.destination) == own
        ]
        return tuple(sorted(found, key=lambda one: one.at_us))

    def _passages(self, observations: Sequence[Observation], way: Entrance) -> tuple[Passage, ...]:
        return live_walk.follow(
            self._router, way.interface, observations, self._far_end, self._unwatched
        )

    def _answered(self, own: tuple[IPv6Address, IPv6Address]) -> tuple[IPv6Address, ...]:
        """An error quotes the packet, token and all."""
        others = (one.source for _, one in self._seen if (one.source, one.destination) != own)
        return tuple(dict.fromkeys(others))

    def _nothing(self, way: Entrance | None, reason: str) -> LiveWalk:
        return LiveWalk(
            router=self._router,
            interface=way.interface if way is not None else None,
            token=self._token,
            sent=False,
            reason=reason,
            observations=(),
            passages=(),
            ending="it was not sent",
            agrees=None,
            difference=None,
            answered_by=(),
            unwatched=self._unwatched,
        )


def _probe(token: str, way: Entrance, packet: Packet) -> Probe:
    return Probe(
        token,
        way.interface,
        way.link_layer_address,
        packet.source,
        packet.destination,
        packet.protocol,
        packet.source_port,
        packet.destination_port,
        packet.dscp,
    )
