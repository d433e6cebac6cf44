"""Transfer process: one end of a long-lived TCP connection with verified content both ways.

Run as `python -m srv6dmm.lab.transfer`. Both ends send the same kind of stream at a steady rate
and compare every byte of what they get. There is one connection for the whole life: when it
breaks, that is the result. SIGUSR1 ends the sending (the stream is then finished and the peer's
awaited), SIGTERM ends the process at once; both write the results.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from ipaddress import IPv6Address
from pathlib import Path

from srv6dmm.dataplane import namespace

BLOCK = 65_536
_NUMBER = struct.Struct("!Q")
_PRIME = 65_521
_PATTERN = bytes((place * 73 + (place >> 8) * 29 + 17) & 0xFF for place in range(2 * BLOCK))
_SAMPLE_NS = 50_000_000
_TICK_S = 0.005
_CONNECT_S = 10.0
_TCP_INFO_RETRANSMITS = 100
"""Offset of tcpi_total_retrans in struct tcp_info."""


def block(number: int) -> bytes:
    """Return block `number` of a stream: its number, then bytes that differ from block to block."""
    start = number * 251 % _PRIME
    return _NUMBER.pack(number) + _PATTERN[start : start + BLOCK - _NUMBER.size]


class Transfer:
    """One end of the connection."""

    def __init__(self, connection: socket.socket, bytes_per_second: float) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._rate = bytes_per_second
        self._begin_ns = time.monotonic_ns()
        self._sample_ns = 0
        self._out = memoryview(b"")
        self._next_out = self._next_in = 0
        self._expected = memoryview(b"")
        self._finished = False
        self.sending = True
        self.running = True
        self.sent = self.received = 0
        self.samples: list[tuple[int, int, int]] = []
        self.error: str | None = None
        self.retransmits = 0

    def run(self) -> None:
        """Send and receive until both streams ended, the connection broke, or `running` ends."""
        ended = False
        try:
            while self.running and not (ended and self._finished):
                budget = self._budget()
                want = [self._connection] if budget > 0 or self._closing() else []
                readable, writable, _ = select.select(
                    [] if ended else [self._connection], want, [], _TICK_S
                )
                if readable:
                    ended = not self._read()
                if writable:
                    self._write(budget)
                self._sample()
        except OSError as error:
            self.error = f"connection broke: {os.strerror(error.errno or 0)}"
        except ValueError as error:
            self.error = str(error)
        self._sample(last=True)

    def _budget(self) -> int:
        if not self.sending:
            return len(self._out)
        elapsed = (time.monotonic_ns() - self._begin_ns) / 1e9
        return int(elapsed * self._rate) - self.sent

    def _closing(self) -> bool:
        return not self.sending and not self._finished

    def _write(self, budget: int) -> None:
        if not self._out and self.sending:
            self._out = memoryview(block(self._next_out))
            self._next_out += 1
        if self._out and budget > 0:
            count = self._connection.send(self._out)
            self._out = self._out[count:]
            self.sent += count
        if not self._out and self._closing():
            self._connection.shutdown(socket.SHUT_WR)
            self._finished = True

    def _read(self) -> bool:
        data = memoryview(self._connection.recv(1 << 18))
        if not data:
            if self._expected:
                raise ValueError(f"the stream ended within a block, after {self.received} bytes")
            return False
        while data:
            if not self._expected:
                self._expected = memoryview(block(self._next_in))
                self._next_in += 1
            size = min(len(data), len(self._expected))
            if data[:size] != self._expected[:size]:
                raise ValueError(f"wrong content after {self.received} bytes")
            self.received += size
            data, self._expected = data[size:], self._expected[size:]
        return True

    def _sample(self, last: bool = False) -> None:
        now = time.monotonic_ns()
        if last or now >= self._sample_ns:
            self._sample_ns = now + _SAMPLE_NS
            self.samples.append((now, self.sent, self.received))
        if last:
            information = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
            if len(information) >= _TCP_INFO_RETRANSMITS + 4:
                place = _TCP_INFO_RETRANSMITS
                self.retransmits = struct.unpack_from("=I", information, place)[0]


def main(arguments: list[str] | None = None) -> int:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="python -m srv6dmm.lab.transfer", description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--local", type=IPv6Address, required=True)
    parser.add_argument("--port", type=int, required=True, help="the listening end's port")
    parser.add_argument("--remote", type=IPv6Address, help="connect there; without it: listen")
    parser.add_argument("--megabits", type=float, default=8, help="a second, this end's stream")
    options = parser.parse_args(arguments)
    gc.disable()
    state: dict[str, Transfer] = {}

    def stop_sending(*_: object) -> None:
        if "transfer" in state:
            state["transfer"].sending = False

    def stop(*_: object) -> None:
        if "transfer" not in state:
            raise SystemExit(0)
        state["transfer"].running = False

    signal.signal(signal.SIGUSR1, stop_sending)
    signal.signal(signal.SIGTERM, stop)
    with namespace.inside(options.namespace):
        endpoint = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if options.remote is None:
        endpoint.bind((str(options.local), options.port))
        endpoint.listen(1)
        print("listening", flush=True)
        connection, _ = endpoint.accept()
        endpoint.close()  # one connection, ever
    else:
        endpoint.bind((str(options.local), 0))
        endpoint.settimeout(_CONNECT_S)
        endpoint.connect((str(options.remote), options.port))
        connection = endpoint
    transfer = state["transfer"] = Transfer(connection, options.megabits * 1e6 / 8)
    print("ready", flush=True)
    transfer.run()
    result = {
        "connections": 1,
        "sent": transfer.sent,
        "received": transfer.received,
        "error": transfer.error,
        "retransmits": transfer.retransmits,
        "samples": transfer.samples,
    }
    draft = options.out.with_suffix(".draft")
    draft.write_text(json.dumps(result))
    draft.replace(options.out)
    return 0 if transfer.error is None else 1


if __name__ == "__main__":
    sys.exit(main())
