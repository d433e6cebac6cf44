"""Frames that end in a token, seen by a packet socket wherever they cross a namespace.

The filter is in the kernel. It looks at the last octets, so it finds a packet under any number of
outer headers. Frames are copied as they pass, into a ring: what a socket without one shows is the
packet as it is when it is read, and End has then written its next segment into it. Closing is all
there is to clean up.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from srv6dmm.dataplane import namespace

_SO_ATTACH_FILTER = 26
_SOL_PACKET, _RX_RING, _VERSION, _TPACKET_V2 = 263, 5, 10, 1
_FRAME, _BLOCK, _BLOCKS = 2048, 8192, 32
_FRAMES = _BLOCKS * _BLOCK // _FRAME
_STATUS = struct.Struct("=I")
_HEADER = struct.Struct("=IIIHHII")
"""struct tpacket2_hdr: status, length, captured, mac, net, seconds, nanoseconds."""
_ADDRESS, _ADDRESS_AT = struct.Struct("=HHiHB"), 32
"""struct sockaddr_ll: family, protocol, index, hardware type, packet type."""
_KERNEL, _USER = 0, 1
_ETH_P_ALL, _ETH_P_IPV6 = 0x0003, b"\x86\xdd"
_PACKET_HOST, _PACKET_OUTGOING = 0, 4
_ETHERNET = 14
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
        self._namespace = network_namespace
        self._token = token
        self._place = 0
        self._names: dict[int, str] = {}
        with namespace.inside(network_namespace):
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)
            )
        try:
            code = ctypes.create_string_buffer(token_filter(token))
            program = struct.pack("@HP", len(code.raw) // 8, ctypes.addressof(code))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
            self._socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V2)
            ring = struct.pack("=IIII", _BLOCK, _BLOCKS, _FRAME, _FRAMES)
            self._socket.setsockopt(_SOL_PACKET, _RX_RING, ring)
            self._ring = mmap.mmap(self._socket.fileno(), _BLOCK * _BLOCKS)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable when a frame was seen."""
        return self._socket.fileno()

    def close(self) -> None:
        """Look no more."""
        self._ring.close()
        self._socket.close()

    def read(self) -> list[MarkedFrame]:
        """Return frames seen and not yet read, the oldest first."""
        return list(self._new())

    def _new(self) -> Iterator[MarkedFrame]:
        for _ in range(_FRAMES):
            at = self._place * _FRAME
            status, _, captured, mac, _, seconds, nanoseconds = _HEADER.unpack_from(self._ring, at)
            if not status & _USER:
                return
            _, _, index, _, kind = _ADDRESS.unpack_from(self._ring, at + _ADDRESS_AT)
            data = self._ring[at + mac : at + mac + captured]
            _STATUS.pack_into(self._ring, at, _KERNEL)
            self._place = (self._place + 1) % _FRAMES
            # What came in before the filter was in place is in the ring as well.
            if not data.endswith(self._token) or data[12:_ETHERNET] != _ETH_P_IPV6:
                continue
            interface = self._name(index)
            if kind in (_PACKET_HOST, _PACKET_OUTGOING) and interface != "lo":
                at_ns = seconds * 1_000_000_000 + nanoseconds
                yield MarkedFrame(interface, kind == _PACKET_OUTGOING, at_ns, data[_ETHERNET:])

    def _name(self, index: int) -> str:
        if index not in self._names:
            with namespace.inside(self._namespace):
                self._names = dict(socket.if_nameindex())
        return self._names.get(index, f"#{index}")


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
        (_RET, 0, 0, _FRAME),
        (_RET, 0, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
