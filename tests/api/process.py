"""The control service as a process of its own."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
TOPOLOGY = ROOT / "deploy/topologies/minimal.yaml"
PATIENCE_S = 20.0


class Service:
    """A running controller: its process, its Unix socket, its port."""

    def __init__(self, directory: Path, *options: str, socket_name: str = "socket") -> None:
        self.socket = directory / socket_name
        self.ready_file = directory / "ready"
        self.store = directory / "state.sqlite3"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SRV6DMM")}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "srv6dmm.cli.main", "controller"),
                *("--topology", str(TOPOLOGY), "--store", str(self.store), "--port", "0"),
                *("--unix-socket", str(self.socket), "--ready-file", str(self.ready_file)),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.line = ""

    def wait_ready(self) -> None:
        """Wait for the line on standard output."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE_S)[0], "not ready in time"
        self.line = self.process.stdout.readline().strip()
        assert self.line.startswith("listening "), self.process.communicate(timeout=5)

    @property
    def url(self) -> str:
        """Return where it listens for TCP."""
        return self.line.partition(" ")[2]

    def client(self) -> httpx.Client:
        """Return a client on the Unix socket."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(transport=transport, base_url="http://srv6dmm", timeout=10)

    def raw(self) -> socket.socket:
        """Return a plain connection to the Unix socket."""
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(10)
        made.connect(str(self.socket))
        return made

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; return the seconds until the process had ended."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        return time.monotonic() - started

    def fails(self) -> str:
        """Wait for the process to give up; return what it said."""
        _, complaint = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 1, complaint
        assert "Traceback" not in complaint
        return complaint


@contextmanager
def service(directory: Path, *options: str) -> Iterator[Service]:
    """Run the control service; kill it at the end if the test has not ended it."""
    running = Service(directory, *options)
    try:
        running.wait_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()
