"""Packet capture at one interface of a lab, to a pcapng file."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from typing import BinaryIO

from srv6dmm.dataplane import namespace
from srv6dmm.lab.names import LabError

_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_ETH_P_ALL = 0x0003
_TIMESPEC = struct.Struct("@qq")
_LINKTYPE_ETHERNET = 1
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_OPTION_NAME, _OPTION_RESOLUTION, _OPTION_END = 2, 9, 0
_NANOSECONDS = 9
_LARGEST = 0x40000
"""More than the largest frame segmentation offload makes."""
_OUTGOING, _FLAGS = 4, 2


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def file_header(interface: str) -> bytes:
    """Return the start of a pcapng file: one section, one Ethernet interface in nanoseconds."""
    section = struct.pack("=IHHq", _BYTE_ORDER, 1, 0, -1)
    description = struct.pack("=HHI", _LINKTYPE_ETHERNET, 0, 0)
    description += _option(_OPTION_NAME, interface.encode())
    description += _option(_OPTION_RESOLUTION, bytes((_NANOSECONDS,)))
    description += _option(_OPTION_END, b"")
    return _block(_SECTION, section) + _block(_INTERFACE, description)


def packet(time_ns: int, frame: bytes, *, outgoing: bool) -> bytes:
    """Return one frame as a pcapng block. `time_ns` is nanoseconds since the epoch."""
    body = struct.pack("=IIIII", 0, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), len(frame))
    body += frame + bytes(-len(frame) % 4)
    body += _option(_FLAGS, struct.pack("=I", 2 if outgoing else 1)) + _option(_OPTION_END, b"")
    return _block(_PACKET, body)


def capture(
    network_namespace: str,
    interface: str,
    output: BinaryIO,
    *,
    count: int | None = None,
    duration_s: float | None = None,
    running: Callable[[], bool] = lambda: True,
) -> int:
    """Write what passes an interface, in and out, until enough; return the number of frames.

    Ends after `count` frames, after `duration_s`, or when `running` says so (asked ten times a
    second). Raises LabError when there is no such interface.
    """
    with namespace.inside(network_namespace):
        endpoint = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            endpoint.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
            endpoint.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            endpoint.bind((interface, _ETH_P_ALL))
        except OSError as error:
            endpoint.close()
            known = ", ".join(name for _, name in socket.if_nameindex())
            raise LabError(
                f"cannot capture at {interface!r}: {error.strerror}; the node has {known}"
            ) from error
    deadline = time.monotonic() + duration_s if duration_s is not None else None
    output.write(file_header(interface))
    output.flush()
    seen = 0
    with endpoint:
        while running() and (count is None or seen < count):
            rest = 0.1 if deadline is None else min(0.1, deadline - time.monotonic())
            if rest <= 0:
                break
            if not select.select([endpoint], [], [], rest)[0]:
                continue
            frame, ancillary, _, source = endpoint.recvmsg(_LARGEST, 64)
            seconds, nanoseconds = next(
                _TIMESPEC.unpack(data) for _, kind, data in ancillary if kind == _SO_TIMESTAMPNS
            )
            at = seconds * 1_000_000_000 + nanoseconds
            output.write(packet(at, frame, outgoing=source[2] == _OUTGOING))
            seen += 1
    output.flush()
    return seen
