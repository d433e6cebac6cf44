"""Running the controller: sockets, settings, signals."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import os
import signal
import socket
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from srv6dmm.config import ControllerSettings, HttpSettings
from srv6dmm.controller.clock import SystemClock
from srv6dmm.controller.service import Controller
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.errors import Srv6dmmError, StoreInUse, StoreUnavailable
from srv6dmm.model.topology import Topology
from srv6dmm.store.sqlite import SqliteStore
from srv6dmm_api.app import create_app
from srv6dmm_api.auth import TokenTable
from srv6dmm_api.doorway import Doorway
from srv6dmm_api.stream import MAX_FRAME

log = structlog.get_logger()


SWITCH_S = 0.0005
"""How long the event loop may keep the store's thread from running, in seconds.

Python's default is 5 ms: longer than a whole hand-over should take.
"""


STORE_RETRY_S = 1.0
"""How soon a store that could not be opened is tried again."""


class ListenError(Srv6dmmError):
    """The controller may not or cannot listen where it was told to."""


def check_exposure(settings: ControllerSettings) -> None:
    """Raise ListenError when events could be forged from beyond this host."""
    http = settings.http
    if (http.tls_certificate is None) != (http.tls_key is None):
        raise ListenError("TLS needs both http.tls_certificate and http.tls_key")
    loopback = http.host == "localhost" or _is_loopback(http.host)
    if loopback or (http.tokens and http.tls_certificate and http.tls_key):
        return
    raise ListenError(
        f"refusing to listen on {http.host} without tokens and TLS: set http.tokens (srv6dmm "
        "token create), http.tls_certificate and http.tls_key, or http.host to 127.0.0.1"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tcp_socket(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises ListenError with what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except (OSError, OverflowError) as error:
        made.close()
        reason = error.strerror if isinstance(error, OSError) else "ports are 0 to 65535"
        raise ListenError(f"cannot listen on {host} port {port}: {reason}") from error
    return made


def unix_socket(path: Path) -> socket.socket:
    """Return a bound Unix socket, mode 0600. A socket file nobody listens on is replaced.

    Raises ListenError when somebody does, or when the path is any other kind of file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    made = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        made.bind(str(path))
    except OSError as error:
        made.close()
        reason = error.strerror or str(error)
        raise ListenError(f"cannot listen on {path}: {reason}") from error
    finally:
        os.umask(mask)
    return made


def _clear(path: Path) -> None:
    """Remove what a killed controller left at `path`, and nothing else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} is in the way: it is no socket; name another path")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise ListenError(f"{path} is in the way: {error.strerror}") from error
            path.unlink(missing_ok=True)
        else:
            raise ListenError(f"another controller listens on {path}")


def _announce(http: HttpSettings, listening: socket.socket, ready_file: Path | None) -> None:
    scheme = "https" if http.tls_certificate else "http"
    host, port = listening.getsockname()[:2]
    line = f"listening {scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if ready_file is not None:  # whole or not at all: somebody waits for it
        fresh = ready_file.with_name(ready_file.name + ".new")
        fresh.write_text(line + "\n")
        fresh.replace(ready_file)
    print(line, flush=True)


class Server(uvicorn.Server):
    """Tells long-lived responses to end when the server does; leaves signals to `serve`.

    Speaks plain HTTP on the Unix socket also where TCP has TLS: nobody is in between there.
    """

    def __init__(
        self, config: uvicorn.Config, stopping: asyncio.Event, unix: socket.socket | None
    ) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._stopping = stopping
        self._unix = unix

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again when it is done, which would skip our clean-up.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._unix is not None:
            self.servers.append(
                await asyncio.get_running_loop().create_unix_server(
                    self._protocol, sock=self._unix, backlog=self.config.backlog
                )
            )
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def make_server(app: FastAPI | Doorway, http: HttpSettings, unix: socket.socket | None) -> Server:
    """Return the server of an application; give `serve` the TCP sockets."""
    config = uvicorn.Config(
        app,
        loop="none",  # the caller's
        lifespan="off",
        ws="websockets-sansio",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
        ws_max_size=MAX_FRAME,
        ws_ping_interval=None,  # our heartbeats do that, and carry the revision
        ssl_certfile=http.tls_certificate,
        ssl_keyfile=http.tls_key,
    )
    return Server(config, app.state.stopping, unix)


async def serve(settings: ControllerSettings, ready_file: Path | None = None) -> None:
    """Run until SIGTERM or SIGINT.

    Prints `listening http://HOST:PORT` once events are accepted, and writes the same line to
    `ready_file`. While the store cannot be opened, requests are refused, `/readyz` says why, and it
    is tried again. Raises Srv6dmmError, OSError or ValueError when it cannot start.
    """
    check_exposure(settings)
    http = settings.http
    topology = parse_topology(
        settings.topology.read_text("utf-8", "replace"), str(settings.topology)
    )
    tokens = TokenTable.load(http.tokens) if http.tokens else None
    stopping = asyncio.Event()
    doorway = Doorway(stopping)
    tcp = unix = opened = running = None
    try:
        try:
            opened = _open(settings, topology)
        except StoreInUse:
            raise
        except StoreUnavailable as error:
            doorway.reason = str(error)
            log.error("store.unavailable", reason=str(error))
        tcp = tcp_socket(http.host, http.port)
        if http.unix_socket is not None:
            unix = unix_socket(http.unix_socket)
        server = make_server(doorway, http, unix)
        sys.setswitchinterval(SWITCH_S)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        if opened is None:
            running = asyncio.create_task(server.serve(sockets=[tcp]))
            opened = await _opened(settings, topology, doorway, running)
            if opened is None:
                await running
                return
        controller = opened[1]
        app = create_app(controller, settings, tokens, stopping)
        await controller.start()
        gc.collect()
        gc.freeze()  # modules and loaded state live as long as we; walking them takes milliseconds
        doorway.within = app
        if running is None:
            running = asyncio.create_task(server.serve(sockets=[tcp]))
        await _either(running, server.up)
        if running.done():
            await running
        _announce(http, tcp, ready_file)
        await _either(running, stopping)
        await controller.stop()
        await running
    finally:
        if tcp is not None:
            tcp.close()
        if unix is not None and http.unix_socket is not None:
            unix.close()
            http.unix_socket.unlink(missing_ok=True)
        if opened is not None:
            opened[0].close()


def _open(settings: ControllerSettings, topology: Topology) -> tuple[SqliteStore, Controller]:
    """Return a store and the controller of what is in it.

    Raises StoreUnavailable, and Refusal when store and topology do not belong together.
    """
    store = SqliteStore(settings.store.path)
    try:
        controller = Controller(
            topology,
            settings.mobility,
            settings.rollout,
            store,
            SystemClock(),
            uuid.uuid4().hex,
            settings.detection,
            settings.delay,
        )
    except BaseException:
        store.close()
        raise
    return store, controller


async def _opened(
    settings: ControllerSettings,
    topology: Topology,
    doorway: Doorway,
    running: asyncio.Task[None],
) -> tuple[SqliteStore, Controller] | None:
    """Return what `_open` does once that succeeds; None when the server ended before."""
    while not running.done():
        try:
            return _open(settings, topology)
        except StoreInUse:
            raise
        except StoreUnavailable as error:
            if str(error) != doorway.reason:
                log.error("store.unavailable", reason=str(error))
            doorway.reason = str(error)
        await asyncio.wait((running,), timeout=STORE_RETRY_S)
    return None


async def _either(running: asyncio.Task[None], event: asyncio.Event) -> None:
    """Wait for an event, or for the server to end."""
    happened = asyncio.ensure_future(event.wait())
    await asyncio.wait((running, happened), return_when=asyncio.FIRST_COMPLETED)
    happened.cancel()
