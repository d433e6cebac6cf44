"""The agent's WebSocket to the controller: kept up for ever, resumed after every loss."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.http11 import Response

from srv6dmm import __version__, codec
from srv6dmm.agent.live_probe import LiveProbe
from srv6dmm.agent.worker import OutOfStep, Worker
from srv6dmm.config import AgentSettings
from srv6dmm.model.wire import (
    FAST_PATH,
    PROTOCOL,
    DeltaPlan,
    ForwardingMode,
    FromAgent,
    FromController,
    FullPlan,
    Heartbeat,
    Hello,
    Inspect,
    Probe,
    Resync,
    SetMode,
    Unwatch,
    Watch,
    Welcome,
)

log = structlog.get_logger()

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
MAX_FRAME = 64 * 1024 * 1024
_BIG_FRAME = 1 << 18
"""Bytes from which on a frame is decoded in a thread."""
_PING_S, _PONG_S = 5.0, 10.0
"""A controller that vanished without a word is found out by these."""
_SCHEMES = ("ws", "wss", "ws+unix")


class NotOurProtocol(Exception):
    """The other side says what no controller says."""


def check_address(address: str) -> None:
    """Raise ValueError unless an address of a controller can be connected to."""
    parts = urlsplit(address)
    if parts.scheme not in _SCHEMES:
        raise ValueError(
            f"controller {address!r}: want ws://host:port, wss://host:port or ws+unix:///path"
        )
    if parts.scheme == "ws+unix":
        if parts.netloc or not parts.path:
            raise ValueError(f"controller {address!r}: want three slashes, ws+unix:///path")
    elif not parts.hostname:
        raise ValueError(f"controller {address!r} names no host")


class Modes(Protocol):
    """The router's mode, as the stream needs to know it."""

    @property
    def mode(self) -> ForwardingMode:
        """The mode in effect."""

    def ask(self, mode: ForwardingMode) -> None:
        """Change over to a mode and report by the worker; returns at once."""


class Stream:
    """Connects, says Hello, hands plans to the worker and carries its answers."""

    def __init__(
        self,
        settings: AgentSettings,
        worker: Worker,
        modes: Modes,
        boot_id: str,
        capabilities: dict[str, bool],
        jitter: Callable[[], float],
    ) -> None:
        """`jitter` returns 0..1. Raises ValueError for an address that is none."""
        check_address(settings.controller)
        self._settings = settings
        self._worker = worker
        self._modes = modes
        self._boot_id = boot_id
        self._capabilities = capabilities
        self._jitter = jitter
        self._outgoing: asyncio.Queue[FromAgent] = asyncio.Queue()
        self._wait_s = FIRST_WAIT_S
        self._awaits_full = True
        """Said Hello, and the full plan that answers it has not come."""

    async def run(self) -> None:
        """Stay connected. Losing the controller changes nothing in the kernel."""
        said = ""
        while True:
            try:
                async with self._connect() as socket:
                    log.info("controller.connected", controller=self._settings.controller)
                    said = ""
                    await self._serve(socket)
                    reason = f"closed: {socket.close_code} {socket.close_reason or ''}"
            except ConnectionClosed as error:
                reason = f"lost: {error}"
            except InvalidStatus as error:
                reason = _refusal(error.response)
            except (OSError, InvalidHandshake, InvalidURI, NotOurProtocol) as error:
                reason = f"{type(error).__name__}: {error}"
            if reason != said:  # once, not twice a second for as long as it is away
                log.warning("controller.away", reason=reason)
                said = reason
            await asyncio.sleep(self._wait_s * (0.5 + self._jitter()))
            self._wait_s = min(LONGEST_WAIT_S, self._wait_s * 2)

    def _connect(self) -> connect:
        settings = self._settings
        path = f"/v1/routers/{settings.router}/stream"
        options: dict[str, Any] = {
            "max_size": MAX_FRAME,
            "ping_interval": _PING_S,
            "ping_timeout": _PONG_S,
            "compression": None,
            "open_timeout": 5,
            "close_timeout": 1,
            "proxy": None,
        }
        if settings.token:
            options["additional_headers"] = {"Authorization": f"Bearer {settings.token}"}
        parts = urlsplit(settings.controller)
        if parts.scheme == "ws+unix":
            return unix_connect(parts.path, uri=f"ws://srv6dmm{path}", **options)
        if parts.scheme == "wss":
            options["ssl"] = ssl.create_default_context(cafile=settings.tls_ca)
        return connect(settings.controller.rstrip("/") + path, **options)

    def _hello(self) -> Hello:
        self._awaits_full = True
        return Hello(
            router=self._settings.router,
            boot_id=self._boot_id,
            version=__version__,
            protocol=PROTOCOL,
            applied=self._worker.revision,
            capabilities={**self._capabilities, FAST_PATH: self._modes.mode == "ebpf"},
        )

    async def _serve(self, socket: ClientConnection) -> None:
        self._outgoing = asyncio.Queue()
        self._worker.listen(self._outgoing.put_nowait)
        live_probe = LiveProbe(self._settings.network_namespace, self._outgoing.put_nowait)
        await socket.send(codec.encode_message(self._hello()).decode())
        writer = asyncio.create_task(self._write(socket))
        regular: list[asyncio.Task[None]] = []
        try:
            async for frame in socket:
                match await _decode(frame):
                    case Welcome(heartbeat_s=every_s):
                        self._wait_s = FIRST_WAIT_S
                        if not regular:
                            regular.append(asyncio.create_task(self._beat(every_s)))
                            regular.append(asyncio.create_task(self._measure()))
                    case (FullPlan() | DeltaPlan()) as plan:
                        await self._take(socket, plan)
                    case Resync():
                        self._outgoing.put_nowait(await self._worker.resync())
                    case SetMode(mode=mode):
                        self._modes.ask(mode)
                    case Inspect() as question:
                        self._outgoing.put_nowait(await self._worker.inspect(question))
                    case (Watch() | Unwatch() | Probe()) as part:
                        live_probe.take(part)
        except asyncio.CancelledError:
            await socket.close(1001, "the agent stops")
            raise
        finally:
            self._worker.listen(lambda message: None)
            live_probe.close()
            tasks = (writer, *regular)
            for task in tasks:
                task.cancel()
            # Not each by itself: our own cancellation would pass for that of the task.
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
                    raise result

    async def _take(self, socket: ClientConnection, message: FullPlan | DeltaPlan) -> None:
        if isinstance(message, FullPlan):
            self._awaits_full = False
        elif self._awaits_full:
            return  # sent before our Hello was heard; it is in the full plan
        try:
            await self._worker.take(message, lambda: self._flush(socket))
        except OutOfStep as error:
            log.info("plan.out-of-step", reason=str(error))
            self._outgoing.put_nowait(self._hello())

    async def _flush(self, socket: ClientConnection) -> None:
        """Let an answer leave now: the roll-out's next stage waits for it."""
        with contextlib.suppress(ConnectionClosed):  # whoever reads the socket will see to it
            while not self._outgoing.empty():
                await self._send(socket, self._outgoing.get_nowait())
        await asyncio.sleep(0)  # the event loop writes when it has run what is ready

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            await self._send(socket, await self._outgoing.get())

    async def _send(self, socket: ClientConnection, message: FromAgent) -> None:
        await socket.send(codec.encode_message(message).decode())

    async def _beat(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            self._outgoing.put_nowait(Heartbeat(self._worker.revision))

    async def _measure(self) -> None:
        while True:
            news = await self._worker.telemetry()
            if news is not None:
                self._outgoing.put_nowait(news)
            await asyncio.sleep(self._settings.telemetry_s)


def _refusal(response: Response) -> str:
    """Return why the controller refuses: its problem's words (RFC 9457) where it sent any."""
    try:
        detail = codec.decode(bytes(response.body or b""), dict[str, object]).get("detail")
    except ValueError:
        detail = None
    return f"refused with status {response.status_code}: {detail or response.reason_phrase}"


async def _decode(frame: str | bytes) -> FromController:
    try:
        if len(frame) < _BIG_FRAME:
            message = codec.decode_message(frame)
        else:
            message = await asyncio.to_thread(codec.decode_message, frame)
    except ValueError as error:
        raise NotOurProtocol(str(error)) from error
    if not isinstance(message, FromController):
        raise NotOurProtocol(f"{type(message).__name__} is an agent's to say")
    return message
