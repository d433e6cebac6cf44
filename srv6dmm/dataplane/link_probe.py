"""Probes of a link: what two adjacent routers send each other to measure its delay.

A probe goes from link-local to link-local address with hop limit 255, and so does the reply: what
arrives with less has been forwarded and is not looked at (GTSM, RFC 5082). The reply says for how
long the probe was held, so the clocks of the two need not agree.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv6Address

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.ancillary import (
    SO_TIMESTAMPNS,
    arrival_index,
    arrival_ns,
    from_address,
    hop_limit,
)

HOP_LIMIT = 255
_FORM = struct.Struct("!4sBxxxI8sQ")
_MAGIC = b"s6lp"
_PROBE, _REPLY = 1, 2
NONCE_OCTETS = 8
_ANCILLARY_OCTETS = 256


@dataclass(frozen=True, slots=True)
class LinkProbe:
    """A probe, or the reply to one: its number and nonce come back as they were sent."""

    sequence: int
    nonce: bytes
    """Random, so that nobody off the link can answer for the far end."""
    reply: bool = False
    held_ns: int = 0
    """Of a reply: from the probe's arrival until it was sent."""

    def encode(self) -> bytes:
        """Return the message."""
        kind = _REPLY if self.reply else _PROBE
        return _FORM.pack(_MAGIC, kind, self.sequence, self.nonce, self.held_ns)


def decode(data: bytes) -> LinkProbe | None:
    """Return the probe or reply in a message; None for anything else."""
    if len(data) != _FORM.size:
        return None
    magic, kind, sequence, nonce, held_ns = _FORM.unpack(data)
    if magic != _MAGIC or kind not in (_PROBE, _REPLY):
        return None
    return LinkProbe(sequence, nonce, kind == _REPLY, held_ns)


@dataclass(frozen=True, slots=True)
class HeardProbe:
    """A message that came over a link, from its far end."""

    probe: LinkProbe
    source: IPv6Address
    index: int
    """Of the interface it came by."""
    at_ns: int
    """When it came, CLOCK_REALTIME."""


class LinkProbeSocket:
    """Sends and hears probes on the links of one network namespace. Raises OSError."""

    def __init__(self, network_namespace: str | None, port: int) -> None:
        self._namespace = network_namespace
        self._port = port
        with namespace.inside(network_namespace):
            self._socket = socket.socket(
                socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
        try:
            ipv6 = socket.IPPROTO_IPV6
            self._socket.setsockopt(ipv6, socket.IPV6_V6ONLY, 1)
            self._socket.setsockopt(ipv6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
            self._socket.setsockopt(ipv6, socket.IPV6_RECVHOPLIMIT, 1)
            self._socket.setsockopt(ipv6, socket.IPV6_RECVPKTINFO, 1)
            with contextlib.suppress(OSError):  # else our own time of reading is taken
                self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._socket.bind(("::", port))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable when something came."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def indices(self) -> dict[str, int]:
        """Return the interfaces there are now, and their indices."""
        with namespace.inside(self._namespace):
            return {name: index for index, name in socket.if_nameindex()}

    def send(
        self, probe: LinkProbe, source: IPv6Address, destination: IPv6Address, index: int
    ) -> None:
        """Send a message over a link. Raises OSError."""
        self._socket.sendmsg(
            [probe.encode()],
            from_address(source, index),
            0,
            (str(destination), self._port, 0, index),
        )

    def reply(self, heard: HeardProbe, source: IPv6Address) -> None:
        """Answer a probe. Raises OSError."""
        held_ns = max(0, time.time_ns() - heard.at_ns)
        answer = LinkProbe(heard.probe.sequence, heard.probe.nonce, True, held_ns)
        self.send(answer, source, heard.source, heard.index)

    def read(self) -> HeardProbe | None:
        """Return the next message that is one and came over one link only; None: no more."""
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(
                    _FORM.size + 1, _ANCILLARY_OCTETS
                )
            except BlockingIOError:
                return None
            probe = decode(data)
            source = IPv6Address(address[0].partition("%")[0])
            if probe is None or hop_limit(ancillary) != HOP_LIMIT or not source.is_link_local:
                continue
            return HeardProbe(
                probe, source, arrival_index(ancillary), arrival_ns(ancillary) or time.time_ns()
            )


def fresh_nonce() -> bytes:
    """Return a nonce that nobody can guess."""
    return os.urandom(NONCE_OCTETS)
