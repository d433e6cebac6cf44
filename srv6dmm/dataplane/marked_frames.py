"""Frames that end in a token, seen by a packet socket wherever they cross a namespace.

The filter is in the kernel. It looks at the last octets, so it finds a packet under any number of
outer headers. Closing the socket is all there is to clean up.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from srv6dmm.dataplane import namespace

_SO_TIMESTAMPNS, _SO_ATTACH_FILTER = 35, 26
_ETH_P_ALL, _ETH_P_IPV6 = 0x0003, 0x86DD
_PACKET_HOST, _PACKET_OUTGOING = 0, 4
_TIMESPEC = struct.Struct("@qq")
_LARGEST, _ETHERNET = 2048, 14
_AT_ONCE = 64
# Classic BPF (linux/filter.h).
_LD_LENGTH, _LD_W_IND, _SUB, _TAX = 0x80, 0x40, 0x14, 0x07
_JEQ, _JGE, _RET = 0x15, 0x35, 0x06
_LEAST = 62
"""Octets of the shortest frame of ours: a network card pads shorter ones."""


@dataclass(frozen=True, slots=True)
class MarkedFrame:
    """A frame that was seen."""

    interface: str
    outgoing: bool
    at_ns: int
    """CLOCK_REALTIME."""
    packet: bytes
    """From the IPv6 header on."""


class MarkedFrames:
    """A socket on all interfaces of a namespace. Raises OSError, NamespaceError."""

    def __init__(self, network_namespace: str | None, token: bytes) -> None:
        self._token = token
        with namespace.inside(network_namespace):
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL)
            )
        try:
            code = ctypes.create_string_buffer(token_filter(token))
            program = struct.pack("@HP", len(code.raw) // 8, ctypes.addressof(code))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            with suppress(BlockingIOError):  # what came in before the filter was in place
                while True:
                    self._socket.recv(1)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable when a frame was seen."""
        return self._socket.fileno()

    def close(self) -> None:
        """Look no more."""
        self._socket.close()

    def read(self) -> list[MarkedFrame]:
        """Return frames seen and not yet read, a bounded number, the oldest first."""
        found: list[MarkedFrame] = []
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, source = self._socket.recvmsg(_LARGEST, 64)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an interface went down: said once, to whoever reads
                continue
            interface, _, kind = source[:3]
            if kind not in (_PACKET_HOST, _PACKET_OUTGOING) or interface == "lo":
                continue
            if not data.endswith(self._token) or data[12:14] != _ETH_P_IPV6.to_bytes(2, "big"):
                continue
            times = (part for _, name, part in ancillary if name == _SO_TIMESTAMPNS)
            seconds, nanoseconds = _TIMESPEC.unpack(next(times))
            found.append(
                MarkedFrame(
                    interface,
                    kind == _PACKET_OUTGOING,
                    seconds * 1_000_000_000 + nanoseconds,
                    data[_ETHERNET:],
                )
            )
        return found


def link_layer_address(network_namespace: str | None, interface: str) -> bytes:
    """Return an interface's link-layer address. Raises OSError where there is no such one."""
    with (
        namespace.inside(network_namespace),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as endpoint,
    ):
        endpoint.bind((interface, 0))
        address: bytes = endpoint.getsockname()[4]
        return address


def token_filter(token: bytes) -> bytes:
    """Return the filter that passes frames ending in eight octets, as struct sock_filter[]."""
    first, second = struct.unpack("!II", token)
    program = (
        (_LD_LENGTH, 0, 0, 0),
        (_JGE, 0, 7, _LEAST),
        (_SUB, 0, 0, len(token)),
        (_TAX, 0, 0, 0),
        (_LD_W_IND, 0, 0, 0),
        (_JEQ, 0, 3, first),
        (_LD_W_IND, 0, 0, 4),
        (_JEQ, 0, 1, second),
        (_RET, 0, 0, _LARGEST),
        (_RET, 0, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
