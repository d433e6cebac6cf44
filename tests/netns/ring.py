"""What comes in at an interface, byte by byte as it came.

A plain packet socket shares the packet with the kernel, which rewrites destinations in place
before anybody has read it. A ring (packet(7), PACKET_RX_RING) holds copies of its own.
"""

from __future__ import annotations

import mmap
import socket
import struct
import time
from collections.abc import Iterator

from srv6dmm.dataplane import namespace
from tests.netns.kernels import Space

_SOL_PACKET, _PACKET_RX_RING = 263, 5
_FRAME, _FRAMES = 2048, 256
_ALL = 0x0003
_USER = 1
_HEADER = struct.Struct("=QIIHH")
"""struct tpacket_hdr: status, length, captured, offsets of link and network header."""
_LINK_LAYER = 32
"""Where struct sockaddr_ll begins: struct tpacket_hdr, aligned to 16."""
_PACKET_TYPE = _LINK_LAYER + 10
_OUTGOING = 4


class Ring:
    """A ring of one interface. Not for many packets: it is read from its beginning each time."""

    def __init__(self, space: Space | str, interface: str) -> None:
        name = space if isinstance(space, str) else space.name
        with namespace.inside(name):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            request = struct.pack("=IIII", _FRAME * _FRAMES, 1, _FRAME, _FRAMES)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
            self._ring = mmap.mmap(self._socket.fileno(), _FRAME * _FRAMES)
            self._socket.bind((interface, _ALL))

    def packets(self) -> Iterator[bytes]:
        """Yield what came in until now, from the network header on."""
        for start in range(0, _FRAME * _FRAMES, _FRAME):
            status, _, captured, link, network = _HEADER.unpack_from(self._ring, start)
            if not status & _USER:
                return
            if self._ring[start + _PACKET_TYPE] != _OUTGOING:
                yield self._ring[start + network : start + link + captured]

    def carrying(self, payload: bytes, seconds: float = 5) -> bytes:
        """Return the first packet that ends in a payload; wait for it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for packet in self.packets():
                if packet.endswith(payload):
                    return packet
            time.sleep(0.01)
        raise AssertionError(f"no packet with {payload!r} within {seconds:g} s")

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()
        self._socket.close()
