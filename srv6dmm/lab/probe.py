"""Probe process: sends and receives numbered UDP packets inside one network namespace.

Run as `python -m srv6dmm.lab.probe`. SIGUSR2 begins the sending (once all receivers are ready),
SIGUSR1 ends it, SIGTERM ends the process, which then writes its recording. Imports nothing
heavy: many of these run beside what they measure.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from array import array
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.lab.recordings import (
    HOP_LIMIT,
    MAGIC,
    PROBE,
    ProbeRecording,
    Received,
    encode_probe,
)

_SO_TIMESTAMPNS, _SO_RXQ_OVFL, _SO_RCVBUFFORCE = 35, 40, 33
_TIMESPEC = struct.Struct("@qq")
_INTEGER = struct.Struct("@i")
_BUFFER = 8 << 20
_LATEST_NS = 100_000_000
"""A sender that was held up longer than this goes on from now, rather than send a burst."""


@dataclass(frozen=True, slots=True)
class Session:
    """One socket: sends flow `send`, receives flow `receive`."""

    send: int
    receive: int
    local: tuple[str, int]
    remote: tuple[str, int]

    def argument(self) -> str:
        """Return the session as a command line argument."""
        return ",".join(map(str, (self.send, self.receive, *self.local, *self.remote)))

    @classmethod
    def parse(cls, text: str) -> Session:
        """Return the session of a command line argument. Raises ValueError."""
        send, receive, local, local_port, remote, remote_port = text.split(",")
        return cls(
            int(send),
            int(receive),
            (str(IPv6Address(local)), int(local_port)),
            (str(IPv6Address(remote)), int(remote_port)),
        )


class Prober:
    """Sends every session's probes at a steady rate, and records what arrives."""

    def __init__(self, sessions: list[Session], rate: float, size: int) -> None:
        self._interval_ns = round(1e9 / rate)
        self._padding = bytes(max(0, size - 48 - PROBE.size))
        self.recording = ProbeRecording()
        self.sending = False
        self.running = True
        self._overruns: dict[int, int] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._senders: list[tuple[socket.socket, int, tuple[str, int], array[int]]] = []
        for session in sessions:
            endpoint = _endpoint(session.local)
            self._sockets[endpoint.fileno()] = endpoint
            self._poll.register(endpoint, select.POLLIN)
            times = self.recording.sent[session.send] = array("q")
            self.recording.received[session.receive] = Received()
            self._senders.append((endpoint, session.send, session.remote, times))

    def run(self) -> None:
        """Go on until `running` is false. Sends while `sending` is true."""
        due = 0
        while self.running:
            now = time.monotonic_ns()
            if self.sending and now >= due:
                self._send()
                due = due + self._interval_ns if now - due < _LATEST_NS else now
            wait_ns = due - time.monotonic_ns() if self.sending else 50_000_000
            # poll() counts in whole milliseconds: sleep the rest exactly, then look.
            if wait_ns > 0:
                events = self._poll.poll(wait_ns // 1_000_000)
                if not events and self.sending:
                    time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
            else:
                events = self._poll.poll(0)
            for descriptor, _ in events:
                self._receive(self._sockets[descriptor])
        for endpoint in self._sockets.values():
            self._receive(endpoint)
        self.recording.overruns = sum(self._overruns.values())

    def _send(self) -> None:
        for endpoint, flow, remote, times in self._senders:
            now = time.monotonic_ns()
            payload = PROBE.pack(MAGIC, flow, len(times), now) + self._padding
            times.append(now)
            try:
                endpoint.sendto(payload, socket.MSG_DONTWAIT, remote)
            except OSError:  # no route or no address: the application's packet is lost
                self.recording.unsent += 1

    def _receive(self, endpoint: socket.socket) -> None:
        to_monotonic = time.monotonic_ns() - time.time_ns()
        while True:
            try:
                payload, ancillary, _, _ = endpoint.recvmsg(2048, 128, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if len(payload) < PROBE.size:
                continue
            magic, flow, sequence, _ = PROBE.unpack_from(payload)
            received = self.recording.received.get(flow)
            if magic != MAGIC or received is None:
                continue
            at_ns = hop_limit = 0
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
                    hop_limit = _INTEGER.unpack(data)[0]
                elif level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = _TIMESPEC.unpack(data)
                    at_ns = seconds * 1_000_000_000 + nanoseconds + to_monotonic
                elif level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    self._overruns[endpoint.fileno()] = _INTEGER.unpack(data)[0]
            received.sequence.append(sequence)
            received.time_ns.append(at_ns)
            received.hop_limit.append(hop_limit)


def _endpoint(local: tuple[str, int]) -> socket.socket:
    endpoint = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
    endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
    # Bound for life to the address that is current now: the flow must survive all moves.
    endpoint.bind(local)
    return endpoint


def main(arguments: list[str] | None = None) -> int:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="python -m srv6dmm.lab.probe", description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=500, help="packets a second and session")
    parser.add_argument("--size", type=int, default=100, help="bytes of an IPv6 packet")
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument(
        "--session",
        type=Session.parse,
        action="append",
        required=True,
        help="send,receive,local,port,remote,port",
    )
    options = parser.parse_args(arguments)
    # One CPU for the whole life of a sender: a veth queues a packet on the CPU that sends it,
    # and two CPUs work through their queues independently. A sender that moved from one to the
    # other could overtake itself, which no network did.
    os.sched_setaffinity(0, {options.cpu})
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    gc.disable()
    with namespace.inside(options.namespace):
        prober = Prober(options.session, options.rate, options.size)

    def start_sending(*_: object) -> None:
        prober.sending = True

    def stop_sending(*_: object) -> None:
        prober.sending = False

    def stop(*_: object) -> None:
        prober.sending = prober.running = False

    signal.signal(signal.SIGUSR2, start_sending)
    signal.signal(signal.SIGUSR1, stop_sending)
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    prober.run()
    draft = options.out.with_suffix(".draft")
    draft.write_bytes(encode_probe(prober.recording))
    draft.replace(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
