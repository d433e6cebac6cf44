"""Sends whole packets of a head-end to itself around a segment list, and hears what comes home."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address

from srv6dmm.dataplane import namespace

_LARGEST = 512
_ETH_P_IPV6 = 0x86DD
_ENTRANCE = ("lo", _ETH_P_IPV6, 0, 0, bytes(6))


class ListProbeSocket:
    """Of one router: a packet socket to send by, a UDP socket on its own address to hear by.

    What is sent comes in by `lo`, and goes the way of a packet that the router forwards. As one of
    its own it would not: Linux does nothing for a SID of its own, such as a list may begin with,
    that a packet of its own is for.

    Raises OSError (CAP_NET_RAW is needed), also where the address is not there yet.
    """

    def __init__(self, network_namespace: str | None, home: IPv6Address) -> None:
        kind = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        with namespace.inside(network_namespace):
            self._entrance = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | kind, 0)
            try:
                self._home = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | kind)
            except OSError:
                self._entrance.close()
                raise
        try:
            self._home.bind((str(home), 0))
        except OSError:
            self.close()
            raise
        self.home = home
        self.port: int = self._home.getsockname()[1]

    def fileno(self) -> int:
        """Return the descriptor that is readable when something came home."""
        return self._home.fileno()

    def close(self) -> None:
        """Close both sockets."""
        self._entrance.close()
        self._home.close()

    def send(self, packet: bytes) -> None:
        """Send a packet on its way, its header included. Raises OSError."""
        self._entrance.sendto(packet, _ENTRANCE)

    def read(self) -> bytes | None:
        """Return the next message that came from home; None: no more."""
        while True:
            try:
                data, address = self._home.recvfrom(_LARGEST)
            except OSError:
                return None
            if IPv6Address(address[0]) == self.home and address[1] == self.port:
                return data
