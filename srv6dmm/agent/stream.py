"""The agent's WebSocket to the controller: kept up for ever, resumed after every loss."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from srv6dmm import __version__, codec
from srv6dmm.agent.worker import OutOfStep, Worker
from srv6dmm.config import AgentSettings
from srv6dmm.model.wire import (
    PROTOCOL,
    DeltaPlan,
    FromAgent,
    FullPlan,
    Heartbeat,
    Hello,
    Resync,
    Welcome,
)

log = structlog.get_logger()

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
MAX_FRAME = 64 * 1024 * 1024


class Stream:
    """Connects, says Hello, hands plans to the worker and carries its answers."""

    def __init__(
        self,
        settings: AgentSettings,
        worker: Worker,
        boot_id: str,
        capabilities: dict[str, bool],
        jitter: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._boot_id = boot_id
        self._capabilities = capabilities
        self._jitter = jitter
        self._outgoing: asyncio.Queue[FromAgent] = asyncio.Queue()

    async def run(self) -> None:
        """Stay connected. Losing the controller changes nothing in the kernel."""
        wait = FIRST_WAIT_S
        while True:
            try:
                async with self._connect() as socket:
                    log.info("controller.connected", controller=self._settings.controller)
                    wait = FIRST_WAIT_S
                    await self._serve(socket)
            except ConnectionClosed as error:
                log.info("controller.lost", reason=str(error))
            except (OSError, InvalidHandshake, InvalidMessage, TimeoutError, ValueError) as error:
                log.info("controller.unreachable", error=str(error))
            await asyncio.sleep(wait * (0.5 + self._jitter()))
            wait = min(LONGEST_WAIT_S, wait * 2)

    def _connect(self) -> connect:
        settings = self._settings
        path = f"/v1/routers/{settings.router}/stream"
        options: dict[str, Any] = {
            "max_size": MAX_FRAME,
            "ping_interval": None,  # our heartbeats do that, and carry the revision
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
            options["ssl"] = _tls(settings.tls_ca)
        return connect(settings.controller.rstrip("/") + path, **options)

    def _hello(self) -> Hello:
        return Hello(
            router=self._settings.router,
            boot_id=self._boot_id,
            version=__version__,
            protocol=PROTOCOL,
            applied=self._worker.revision,
            capabilities=self._capabilities,
        )

    async def _serve(self, socket: ClientConnection) -> None:
        self._outgoing = asyncio.Queue()
        self._worker.listen(self._outgoing.put_nowait)
        await socket.send(codec.encode_message(self._hello()).decode())
        writer = asyncio.create_task(self._write(socket))
        heartbeat: asyncio.Task[None] | None = None
        try:
            async for frame in socket:
                message = codec.decode_message(frame)
                match message:
                    case Welcome():
                        heartbeat = asyncio.create_task(self._beat(message.heartbeat_s))
                    case FullPlan() | DeltaPlan():
                        self._take(message)
                    case Resync():
                        self._outgoing.put_nowait(self._worker.resync())
                    case _:
                        raise ValueError(f"{type(message).__name__} is an agent's to say")
        finally:
            self._worker.listen(lambda message: None)
            for task in (writer, heartbeat):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                        await task

    def _take(self, message: FullPlan | DeltaPlan) -> None:
        try:
            self._worker.take(message)
        except OutOfStep as error:
            log.info("plan.out-of-step", reason=str(error))
            self._outgoing.put_nowait(self._hello())

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            message = await self._outgoing.get()
            await socket.send(codec.encode_message(message).decode())

    async def _beat(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            self._outgoing.put_nowait(Heartbeat(self._worker.revision))


def _tls(authority: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)
