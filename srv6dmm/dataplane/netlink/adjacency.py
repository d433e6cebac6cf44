"""Who is reachable at which link-layer address: neighbours and devices as the kernel has them."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.netlink import links, neighbours
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import attribute, attributes, message, number
from srv6dmm.dataplane.netlink.channel import Channel, Monitor, Rejection

_KNOWN = n.NUD_REACHABLE | n.NUD_STALE | n.NUD_DELAY | n.NUD_PROBE | n.NUD_PERMANENT
_MAC = 6
Who = tuple[int, bytes]
"""A neighbour: index of the device, packed IPv6 address."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that is up and has a carrier."""

    mac: bytes
    mtu: int


@dataclass(frozen=True, slots=True)
class Adjacency:
    """One look at the kernel: devices by index, link-layer addresses by (index, neighbour)."""

    devices: dict[int, Device]
    neighbours: dict[Who, bytes]
    down: frozenset[int] = frozenset()
    """Indexes of devices that are there and carry nothing."""


class AdjacencyTable:
    """Reads devices and neighbours of one namespace. Not thread-safe. Raises OSError."""

    def __init__(self, network_namespace: str | None) -> None:
        with namespace.inside(network_namespace):
            self._channel = Channel(n.NETLINK_ROUTE)
            self._monitor = Monitor((n.RTNLGRP_LINK, n.RTNLGRP_NEIGH))
        self.fallen: set[int] = set()
        """Indexes of devices that carry nothing by what was read last."""

    def close(self) -> None:
        """Close both sockets."""
        self._channel.close()
        self._monitor.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something changed."""
        return self._monitor.fileno()

    def drain(self, who: Collection[Who]) -> bool:
        """Read what changed; tell whether it may concern one of these neighbours or its device."""
        concerned = False
        self.fallen.clear()
        for event in self._monitor.events():
            if event is None or event[0] not in (n.RTM_NEWNEIGH, n.RTM_DELNEIGH):
                concerned = True
                if event is not None and event[0] == n.RTM_NEWLINK:
                    self._link(event[2], event[3])
                continue
            about = neighbours.facts(*event[2:])
            concerned = concerned or (about.index, about.address) in who
        return concerned

    def _link(self, datagram: bytes, start: int) -> None:
        _, _, _, index, flags, _ = links.IFINFOMSG.unpack_from(datagram, start)
        if flags & n.IFF_UP and flags & n.IFF_LOWER_UP:
            self.fallen.discard(index)
        else:
            self.fallen.add(index)

    def read(self, who: Iterable[Who]) -> Adjacency:
        """Return what the kernel has now: every device, and these neighbours."""
        devices: dict[int, Device] = {}
        down: set[int] = set()
        for _, data, start, end in self._channel.dump(links.dump_request()):
            _, _, _, index, flags, _ = links.IFINFOMSG.unpack_from(data, start)
            found = attributes(data, start + links.IFINFOMSG.size, end)
            mac, mtu = found.get(n.IFLA_ADDRESS, b""), found.get(n.IFLA_MTU)
            if not (flags & n.IFF_UP and flags & n.IFF_LOWER_UP):
                down.add(index)
            elif len(mac) == _MAC and mtu:
                devices[index] = Device(mac, number(mtu))
        known: dict[Who, bytes] = {}
        for index, address in who:
            answer = self._channel.ask(neighbours.get_request(index, address))
            if isinstance(answer, Rejection) or answer[0] != n.RTM_NEWNEIGH:
                continue  # none, or a kernel that answers dumps only (before 5.0)
            about = neighbours.facts(*answer[1:])
            if about.state & _KNOWN and len(about.link_layer_address) == _MAC:
                known[index, address] = about.link_layer_address
        return Adjacency(devices, known, frozenset(down))

    def probe(self, who: Iterable[Who]) -> None:
        """Have the kernel ask neighbours whether they are still there (RFC 4861 section 7.3.3).

        Packets that do not pass its neighbour table are no reason for it to do so by itself.
        """
        requests = []
        for index, address in who:
            body = neighbours.NDMSG.pack(socket.AF_INET6, 0, 0, index, n.NUD_PROBE, 0, 0)
            body += attribute(n.NDA_DST, address)
            requests.append(message(n.RTM_NEWNEIGH, n.NLM_F_REQUEST | n.NLM_F_REPLACE, body))
        self._channel.execute(requests)  # one that is gone meanwhile is refused, and that is fine
