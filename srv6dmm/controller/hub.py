"""The hub: one channel per router, what was sent on it and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import structlog

from srv6dmm.controller.asking import Questions, not_connected
from srv6dmm.controller.clock import Clock
from srv6dmm.controller.traffic import TrafficBook
from srv6dmm.core.rerouting import EntryDelta
from srv6dmm.model.errors import Refusal
from srv6dmm.model.plan import Plan, PlanEntry
from srv6dmm.model.wire import (
    FAST_PATH,
    PROTOCOL,
    Ack,
    DelayReport,
    DeltaPlan,
    Detected,
    EntryFailure,
    Failed,
    ForwardingMode,
    FromAgent,
    FromController,
    FullPlan,
    Heartbeat,
    Hello,
    Inspection,
    LinkReport,
    ListReport,
    ModeReport,
    Probed,
    Report,
    SidTraffic,
    Sighting,
    Telemetry,
    Watching,
    Welcome,
)

log = structlog.get_logger()

Send = Callable[[FromController], Awaitable[None]]
IN_FLIGHT = 8
"""Plans sent and not acknowledged, at most; what comes then is merged into one."""


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """A router as people and the API see it."""

    name: str
    role: str
    connected: bool
    boot_id: str | None
    version: str | None
    applied: int | None
    """Newest revision the router acknowledged."""
    target: int
    """Newest revision that concerns it."""
    capabilities: dict[str, bool]
    failures: tuple[EntryFailure, ...]
    last_seen_ms: int | None
    drift: int
    """Objects repaired since it connected."""
    mode: ForwardingMode | None
    """As its agent said last; None when it never connected."""
    fast_path: dict[str, int]
    """Packets by reason, of a router with a fast path."""
    sids: tuple[SidTraffic, ...] = ()
    """What its fast path counted at its own SIDs."""


@dataclass(slots=True)
class _Channel:
    router: str
    role: str
    target: int = 0
    acked: int = -1
    sent: int = -1
    in_flight: list[int] = field(default_factory=list)
    waiting_put: dict[str, PlanEntry] = field(default_factory=dict)
    waiting_gone: set[str] = field(default_factory=set)
    failures: dict[str, EntryFailure] = field(default_factory=dict)
    connection: RouterConnection | None = None
    hello: Hello | None = None
    mode: ForwardingMode | None = None
    last_seen: float | None = None
    last_seen_ms: int | None = None
    drift: int = 0


class RouterConnection:
    """One WebSocket's worth: made by Hub.connect, fed with what the agent says."""

    def __init__(self, hub: Hub, channel: _Channel, send: Send, close: Callable[[], None]) -> None:
        self._hub = hub
        self._channel = channel
        self._send = send
        self._close = close
        self._outgoing: asyncio.Queue[FromController] = asyncio.Queue()
        self._writer = asyncio.create_task(self._write(), name=f"to-{channel.router}")
        self._writer.add_done_callback(self._stopped)
        self.questions = Questions(channel.router, self.post)

    def post(self, message: FromController) -> None:
        """Queue a message; messages keep their order."""
        self._outgoing.put_nowait(message)

    async def _write(self) -> None:
        while True:
            await self._send(await self._outgoing.get())

    def _stopped(self, writer: asyncio.Task[None]) -> None:
        """Close the transport when nothing can be sent on it any more."""
        if not writer.cancelled():
            log.info(
                "router.unreachable", router=self._channel.router, error=repr(writer.exception())
            )
            self.drop()

    async def receive(self, message: FromAgent) -> None:
        """Take in one message of the agent."""
        self._hub.receive(self._channel, self, message)

    def closed(self) -> None:
        """Tell the hub that the transport is gone."""
        self._writer.cancel()
        self.questions.close()
        self._hub.disconnected(self._channel, self)

    def drop(self) -> None:
        """Close the transport from our side."""
        self._close()


class Hub:
    """All channels. Tells `on_ack`, `on_failed` and `on_lost` what it hears."""

    def __init__(
        self,
        routers: dict[str, str],
        clock: Clock,
        boot_id: str,
        heartbeat_s: float,
        heartbeats_missed: int,
        plan: Callable[[str], Plan],
    ) -> None:
        self._channels = {name: _Channel(name, role) for name, role in routers.items()}
        self._clock = clock
        self._boot_id = boot_id
        self._heartbeat_s = heartbeat_s
        self._patience_s = heartbeat_s * heartbeats_missed
        self._plan = plan
        self._started = clock.monotonic()
        self.traffic = TrafficBook(clock)
        self.on_progress: list[Callable[[str], None]] = []
        self.on_detected: Callable[[str, Detected], None] = lambda *_: None
        self.on_hello: Callable[[str, Hello], None] = lambda *_: None
        """Called just after the whole plan was sent."""
        self.on_links: Callable[[str, LinkReport], None] = lambda *_: None
        self.on_delays: Callable[[str, DelayReport], None] = lambda *_: None
        self.on_lists: Callable[[str, ListReport], None] = lambda *_: None
        self.on_notice: Callable[[str, str, dict[str, object]], None] = lambda *_: None

    def connect(self, hello: Hello, send: Send, close: Callable[[], None]) -> RouterConnection:
        """Take a router's new connection; an older one of the same router is closed.

        Raises Refusal for an unknown router or another protocol.
        """
        channel = self._channels.get(hello.router)
        if channel is None:
            raise Refusal("unknown-router", f"{hello.router!r} is no router of this domain", 404)
        if hello.protocol != PROTOCOL:
            raise Refusal(
                "protocol-mismatch",
                f"agent {hello.version} speaks protocol {hello.protocol}, this controller "
                f"{PROTOCOL}; install the same version on both",
            )
        if channel.connection is not None:
            channel.connection.drop()
        connection = RouterConnection(self, channel, send, close)
        channel.connection = connection
        self.traffic.open(channel.router)
        connection.post(Welcome(self._heartbeat_s, self._boot_id))
        self._greet(channel, hello)
        self.on_notice("router-connected", hello.router, {"boot_id": hello.boot_id})
        return connection

    def _greet(self, channel: _Channel, hello: Hello) -> None:
        """Answer a Hello with the whole plan: whatever was under way is in it."""
        channel.hello = hello
        channel.mode = "ebpf" if hello.capabilities.get(FAST_PATH) else "netlink"
        channel.acked = -1
        channel.in_flight.clear()
        channel.waiting_put.clear()
        channel.waiting_gone.clear()
        channel.failures.clear()
        self._seen(channel)
        plan = self._plan(channel.router)
        channel.sent = channel.target = plan.revision
        channel.in_flight.append(plan.revision)
        if channel.connection is not None:
            channel.connection.post(FullPlan(plan.revision, tuple(plan.entries.values())))
        self.on_hello(channel.router, hello)

    def push(self, router: str, revision: int, delta: EntryDelta) -> None:
        """Send a change of the router's plan, or merge it into what already waits."""
        channel = self._channels[router]
        channel.target = revision
        if channel.connection is None:
            return  # the whole plan, when it comes back
        put, gone = delta
        for key in gone:
            channel.waiting_put.pop(key, None)
            channel.waiting_gone.add(key)
        for entry in put:
            channel.waiting_gone.discard(entry.key)
            channel.waiting_put[entry.key] = entry
        self._flush(channel)

    def _flush(self, channel: _Channel) -> None:
        if channel.connection is None or channel.sent == channel.target:
            return
        if len(channel.in_flight) >= IN_FLIGHT:
            return
        message = DeltaPlan(
            channel.sent,
            channel.target,
            tuple(channel.waiting_put.values()),
            tuple(sorted(channel.waiting_gone)),
        )
        channel.waiting_put.clear()
        channel.waiting_gone.clear()
        channel.sent = channel.target
        channel.in_flight.append(channel.sent)
        channel.connection.post(message)

    def receive(self, channel: _Channel, connection: RouterConnection, message: FromAgent) -> None:
        """Take in what an agent says; a replaced connection is not listened to."""
        if channel.connection is not connection:
            return
        self._seen(channel)
        match message:
            case Hello():
                self._greet(channel, message)
            case Ack():
                self._acknowledged(channel, message.revision, ())
            case Failed():
                self._acknowledged(channel, message.revision, message.failures)
            case Report():
                drift = len(message.missing) + len(message.different) + len(message.superfluous)
                channel.drift += drift
                if drift:
                    self.on_notice(
                        "drift",
                        channel.router,
                        {
                            "missing": message.missing,
                            "different": message.different,
                            "superfluous": message.superfluous,
                        },
                    )
                connection.questions.take(message)
            case ModeReport():
                self._changed_over(channel, message.mode)
                connection.questions.take(message)
            case Inspection() | Watching() | Probed() | Sighting():
                connection.questions.take(message)
            case Telemetry():
                self.traffic.take(channel.router, message)
            case Detected():
                self.on_detected(channel.router, message)
            case LinkReport():
                self.on_links(channel.router, message)
            case DelayReport():
                self.on_delays(channel.router, message)
            case ListReport():
                self.on_lists(channel.router, message)
            case Heartbeat():
                pass

    def _acknowledged(
        self, channel: _Channel, revision: int, failures: Iterable[EntryFailure]
    ) -> None:
        if revision > channel.sent:
            return  # of an earlier life of the controller
        channel.acked = max(channel.acked, revision)
        channel.failures = {failure.key: failure for failure in failures}
        channel.in_flight = [sent for sent in channel.in_flight if sent > revision]
        self._flush(channel)
        for heard in self.on_progress:
            heard(channel.router)

    def _changed_over(self, channel: _Channel, mode: ForwardingMode) -> None:
        if mode != channel.mode:
            channel.mode = mode
            self.traffic.open(channel.router)  # what was counted went with the fast path

    def _seen(self, channel: _Channel) -> None:
        channel.last_seen = self._clock.monotonic()
        channel.last_seen_ms = self._clock.now_ms()

    def disconnected(self, channel: _Channel, connection: RouterConnection) -> None:
        """Note that a connection is gone. Nothing is torn down: the router forwards on."""
        if channel.connection is connection:
            channel.connection = None
            channel.in_flight.clear()
            channel.waiting_put.clear()
            channel.waiting_gone.clear()
            self.on_notice("router-lost", channel.router, {})

    def supervise(self) -> None:
        """Close connections whose heartbeats stopped. Called once a heartbeat."""
        for channel in self._channels.values():
            connection = channel.connection
            if connection is not None and self._silent(channel):
                log.warning("router.silent", router=channel.router, patience_s=self._patience_s)
                self.restart(channel.router, channel.target)

    def _silent(self, channel: _Channel) -> bool:
        last = self._started if channel.last_seen is None else channel.last_seen
        return self._clock.monotonic() - last > self._patience_s

    def restart_from(self, revision: int) -> None:
        """Set what every router is to reach, from a loaded state."""
        for channel in self._channels.values():
            channel.target = revision

    def restart(self, router: str, revision: int) -> None:
        """Close a router's connection: it comes back and is told all, as of a revision."""
        channel = self._channels[router]
        channel.target = revision
        connection = channel.connection
        if connection is not None:
            connection.drop()
            connection.closed()

    def target(self, router: str) -> int:
        """Return the newest revision that concerns the router."""
        return self._channels[router].target

    def has(self, router: str, revision: int) -> bool:
        """Tell whether the router acknowledged everything up to a revision."""
        return self._channels[router].acked >= revision

    def settled(self, router: str, revision: int) -> bool:
        """Tell whether a router is here and has acknowledged what concerns it up to a revision.

        Whatever is under way of later ones.
        """
        channel = self._channels[router]
        if channel.connection is None or channel.acked < 0:
            return False
        told = channel.sent >= min(revision, channel.target)
        return told and all(sent > revision for sent in channel.in_flight)

    def failure(self, router: str, keys: frozenset[str]) -> EntryFailure | None:
        """Return a failure of one of the entries at the router, if it reported one."""
        failures = self._channels[router].failures
        return next((failures[key] for key in sorted(keys) if key in failures), None)

    def lost(self, router: str) -> bool:
        """Tell whether the router has been away for longer than missed heartbeats."""
        channel = self._channels[router]
        return channel.connection is None and self._silent(channel)

    def connected(self, router: str) -> bool:
        """Tell whether the router has a connection now."""
        return self._channels[router].connection is not None

    def mode(self, router: str) -> ForwardingMode | None:
        """Return the mode a router said last to be in."""
        return self._channels[router].mode

    def status(self) -> list[RouterStatus]:
        """Return every router's status in name order."""
        return [
            RouterStatus(
                name=name,
                role=channel.role,
                connected=channel.connection is not None,
                boot_id=channel.hello.boot_id if channel.hello else None,
                version=channel.hello.version if channel.hello else None,
                applied=channel.acked if channel.acked >= 0 else None,
                target=channel.target,
                capabilities=channel.hello.capabilities if channel.hello else {},
                failures=tuple(channel.failures.values()),
                last_seen_ms=channel.last_seen_ms,
                drift=channel.drift,
                mode=channel.mode,
                fast_path=self.traffic.reasons(name),
                sids=self.traffic.sids(name),
            )
            for name, channel in sorted(self._channels.items())
        ]

    async def resync(self, router: str) -> Report:
        """Have a router read its kernel back, repair and report. Raises Refusal."""
        return await self.questions(router).resync()

    async def set_mode(self, router: str, mode: ForwardingMode) -> None:
        """Have a router forward in another mode. Raises Refusal, also when it cannot."""
        await self.questions(router).set_mode(mode)

    def questions(self, router: str) -> Questions:
        """Return what a router can be asked. Raises Refusal when it is not here, or unknown."""
        channel = self._channels.get(router)
        if channel is None:
            raise Refusal("unknown-router", f"{router!r} is no router of this domain", 404)
        if channel.connection is None:
            raise not_connected(router)
        return channel.connection.questions

    def drop_all(self) -> None:
        """Close every connection; routers forward on and will come back."""
        for channel in self._channels.values():
            if channel.connection is not None:
                channel.connection.drop()
