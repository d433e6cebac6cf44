"""Tap process: sees probes come in at the interfaces of several nodes, encapsulated or not.

Run as `python -m srv6dmm.lab.tap`. One packet socket per namespace, with a filter in the kernel
that passes probes only: plain UDP, or in IPv6-in-IPv6 with or without a segment routing header.
Only packets that come in are recorded, so that each is counted once at each node it crosses.
SIGTERM ends the process, which then writes its recording.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.lab.recordings import HOP_LIMIT, MAGIC, PROBE, TapRecording, encode_tap

_SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_ATTACH_FILTER = 35, 33, 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ETH_P_ALL, _ETH_P_IPV6 = 0x0003, 0x86DD
_PACKET_OUTGOING = 4
_AD_PACKET_TYPE = 0xFFFFF004
_TIMESPEC = struct.Struct("@qq")
_BUFFER = 32 << 20
_SNAP = 512
_ETHERNET, _IPV6, _UDP = 14, 40, 8
_NEXT_HEADER, _HOP_LIMIT = 6, 7
_NH_UDP, _NH_IPV6, _NH_ROUTING = 17, 41, 43

# Classic BPF (linux/filter.h): opcodes of the few instructions used.
_LD_W_ABS, _LD_H_ABS, _LD_B_ABS = 0x20, 0x28, 0x30
_LD_W_IND, _LD_B_IND = 0x40, 0x50
_LDX_IMM, _TAX, _LSH, _ADD, _JEQ, _RET = 0x01, 0x07, 0x64, 0x04, 0x15, 0x06


# Label, opcode, operand, label to go to if true (or always), label if false; "" is the next one.
_OUTER = _ETHERNET + _IPV6
_PROGRAM: tuple[tuple[str, int, int, str, str], ...] = (
    ("", _LD_B_ABS, _AD_PACKET_TYPE, "", ""),
    ("", _JEQ, _PACKET_OUTGOING, "drop", ""),
    ("", _LD_H_ABS, 12, "", ""),
    ("", _JEQ, _ETH_P_IPV6, "", "drop"),
    ("", _LD_B_ABS, _ETHERNET + _NEXT_HEADER, "", ""),
    ("", _LDX_IMM, _ETHERNET, "", ""),
    ("", _JEQ, _NH_UDP, "inner", ""),
    ("", _LDX_IMM, _OUTER, "", ""),
    ("", _JEQ, _NH_IPV6, "inner", ""),
    ("", _JEQ, _NH_ROUTING, "", "drop"),
    ("", _LD_B_ABS, _OUTER, "", ""),
    ("", _JEQ, _NH_IPV6, "", "drop"),
    ("", _LD_B_ABS, _OUTER + 1, "", ""),
    ("", _LSH, 3, "", ""),
    ("", _ADD, _OUTER + 8, "", ""),
    ("", _TAX, 0, "", ""),
    ("inner", _LD_B_IND, _NEXT_HEADER, "", ""),
    ("", _JEQ, _NH_UDP, "", "drop"),
    ("", _LD_W_IND, _IPV6 + _UDP, "", ""),
    ("", _JEQ, MAGIC, "accept", "drop"),
    ("accept", _RET, _SNAP, "", ""),
    ("drop", _RET, 0, "", ""),
)
"""X becomes the offset of the probe's own IPv6 header."""


def probe_filter() -> bytes:
    """Return the kernel filter as an array of struct sock_filter."""
    places = {label: place for place, (label, *_) in enumerate(_PROGRAM) if label}
    code = b""
    for place, (_, opcode, operand, yes, no) in enumerate(_PROGRAM):
        jumps = [places[label] - place - 1 if label else 0 for label in (yes, no)]
        code += struct.pack("=HBBI", opcode, *jumps, operand)
    return code


def probe_header(frame: memoryview) -> int | None:
    """Return the offset of the probe's own IPv6 header in a frame; None: no probe (short)."""
    kind = frame[_ETHERNET + _NEXT_HEADER]
    if kind == _NH_UDP:
        offset = _ETHERNET
    elif kind == _NH_IPV6:
        offset = _OUTER
    else:
        offset = _OUTER + 8 + 8 * frame[_OUTER + 1]
    return offset if len(frame) >= offset + _IPV6 + _UDP + PROBE.size else None


class Tap:
    """Packet sockets in several namespaces and what came in by them."""

    def __init__(self, places: list[tuple[str, str]]) -> None:
        """Open a socket in each (node, namespace)."""
        self.recording = TapRecording()
        self.running = True
        self._numbers: dict[tuple[int, str], int] = {}
        self._poll = select.poll()
        self._sockets: dict[int, tuple[socket.socket, str]] = {}
        self._buffer = bytearray(_SNAP)
        for node, name in places:
            with namespace.inside(name):
                endpoint = _endpoint()
            self._sockets[endpoint.fileno()] = (endpoint, node)
            self._poll.register(endpoint, select.POLLIN)

    def run(self) -> None:
        """Record until `running` is false."""
        while self.running:
            for descriptor, _ in self._poll.poll(50):
                self._read(descriptor)
        for descriptor, (endpoint, _) in self._sockets.items():
            self._read(descriptor)
            statistics = endpoint.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
            self.recording.drops += struct.unpack("=II", statistics)[1]

    def _read(self, descriptor: int) -> None:
        endpoint, node = self._sockets[descriptor]
        recording, view = self.recording, memoryview(self._buffer)
        to_monotonic = time.monotonic_ns() - time.time_ns()
        # A bounded number at a time, so that no socket keeps the others waiting.
        for _ in range(4096):
            try:
                length, ancillary, _, source = endpoint.recvmsg_into(
                    [self._buffer], 64, socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            frame = view[:length]
            inner = probe_header(frame)
            if inner is None:
                continue
            _, flow, sequence, _ = PROBE.unpack_from(frame, inner + _IPV6 + _UDP)
            seconds, nanoseconds = next(
                _TIMESPEC.unpack(data) for _, kind, data in ancillary if kind == _SO_TIMESTAMPNS
            )
            recording.point.append(self._number(descriptor, node, source[0]))
            recording.time_ns.append(seconds * 1_000_000_000 + nanoseconds + to_monotonic)
            recording.flow.append(flow)
            recording.sequence.append(sequence)
            recording.hop_limit.append(_hop_limit_left(frame, inner))
            recording.overhead.append(inner - _ETHERNET)

    def _number(self, descriptor: int, node: str, interface: str) -> int:
        number = self._numbers.get((descriptor, interface))
        if number is None:
            number = self._numbers[descriptor, interface] = len(self.recording.points)
            self.recording.points.append(f"{node}:{interface}")
        return number


def _hop_limit_left(frame: memoryview, inner: int) -> int:
    """Return the hop limit a packet would have if nobody had encapsulated it.

    A head-end takes one off the packet's own (RFC 8986 section 5.1) and starts the outer one
    anew, or, as Linux's routes do, carries the packet's own on in the outer header.
    """
    outer = frame[_ETHERNET + _HOP_LIMIT]
    if inner == _ETHERNET:
        return outer
    return outer + frame[inner + _HOP_LIMIT] - HOP_LIMIT


def _endpoint() -> socket.socket:
    # All interfaces of the namespace. ETH_P_ALL, since tc redirects take frames away before a
    # socket for one protocol would see them.
    endpoint = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    code = ctypes.create_string_buffer(probe_filter())
    program = struct.pack("@HP", len(_PROGRAM), ctypes.addressof(code))
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    # What came in before the filter was in place goes unread.
    with suppress(BlockingIOError):
        while True:
            endpoint.recv(1, socket.MSG_DONTWAIT)
    return endpoint


def _place(text: str) -> tuple[str, str]:
    node, equals, name = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NODE=NAMESPACE")
    return node, name


def main(arguments: list[str] | None = None) -> int:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="python -m srv6dmm.lab.tap", description=__doc__)
    parser.add_argument(
        "--at", type=_place, action="append", required=True, help="NODE=NAMESPACE, may be repeated"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    os.setpriority(os.PRIO_PROCESS, 0, 5)  # its buffers wait; what it measures must not
    gc.disable()
    tap = Tap(options.at)

    def stop(*_: object) -> None:
        tap.running = False

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    tap.run()
    draft = options.out.with_suffix(".draft")
    draft.write_bytes(encode_tap(tap.recording))
    draft.replace(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
