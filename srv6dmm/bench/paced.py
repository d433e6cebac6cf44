"""A sender of one frame at an even pace, before all else on its core."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from dataclasses import dataclass

from srv6dmm.bench.inject import Child
from srv6dmm.dataplane import namespace

_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20
_AT_ONCE = 32
_MOST_BEHIND = 8
"""Rounds that are made up for when the core was taken; more are left out."""
_ANSWER = struct.Struct("<QQQ")


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender did."""

    packets: int
    longest_gap_ms: float
    """In which it sent nothing: the core was somebody else's."""
    seconds: float

    @property
    def kpps(self) -> float:
        """Thousands of packets per second."""
        return self.packets / self.seconds / 1e3


def send(
    network_namespace: str, device: str, frame: bytes, pps: int, seconds: float, cpu: int
) -> Child:
    """Begin to send a frame from a device; `sent` makes a Sent of the child's answer."""
    image = ctypes.create_string_buffer(frame, len(frame))
    vector = ctypes.create_string_buffer(struct.pack("<QQ", ctypes.addressof(image), len(frame)))
    header = struct.pack("<QQQQQQIIII", 0, 0, ctypes.addressof(vector), 1, 0, 0, 0, 0, 0, 0)
    messages = ctypes.create_string_buffer(header * _AT_ONCE)

    def work() -> bytes:
        namespace.enter(network_namespace)
        # Else it would be the daemons' reaction to a failure that keeps packets from being sent.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        libc = ctypes.CDLL(None, use_errno=True)
        endpoint = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        endpoint.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        endpoint.bind((device, 0))
        kept = (image, vector)  # the kernel reads them
        clock, pause_ns = time.perf_counter_ns, int(1e9 * _AT_ONCE / pps)
        began = last = clock()
        due, ends = began, began + int(seconds * 1e9)
        packets = longest = 0
        while (now := clock()) < ends:
            if now < due:
                time.sleep((due - now) / 1e9)
                continue
            done = libc.sendmmsg(endpoint.fileno(), messages, _AT_ONCE, 0)
            if done < 0:
                code = ctypes.get_errno()
                raise OSError(code, f"send frames: {os.strerror(code)}")
            packets += done
            longest, last = max(longest, now - last), now
            due = max(due + pause_ns, now - _MOST_BEHIND * pause_ns)
        del kept
        longest = max(longest, clock() - last)
        return _ANSWER.pack(packets, longest, clock() - began)

    return Child(work, cpu)


def sent(answer: bytes) -> Sent:
    """Return what a child tells of."""
    packets, longest, took = _ANSWER.unpack(answer)
    return Sent(packets, longest / 1e6, took / 1e9)
