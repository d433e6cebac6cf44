"""Which interfaces of a network namespace can carry packets, as they change."""

from __future__ import annotations

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.netlink import links
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import MalformedMessage, attributes
from srv6dmm.dataplane.netlink.channel import Channel, Monitor

_WORKS = n.IFF_UP | n.IFF_LOWER_UP


class CarrierWatch:
    """Reads and follows the carriers of one namespace. Not thread-safe. Raises OSError."""

    def __init__(self, network_namespace: str | None) -> None:
        with namespace.inside(network_namespace):
            self._channel = Channel(n.NETLINK_ROUTE)
            self._monitor = Monitor((n.RTNLGRP_LINK,))

    def fileno(self) -> int:
        """Return the descriptor that is readable when something changed."""
        return self._monitor.fileno()

    def close(self) -> None:
        """Close both sockets."""
        self._channel.close()
        self._monitor.close()

    def working(self) -> frozenset[str]:
        """Return the names of the interfaces that are up and have a carrier, read anew."""
        for _ in self._monitor.events():
            pass  # whatever it was, it is in what is read now
        found: set[str] = set()
        for kind, data, start, end in self._channel.dump(links.dump_request()):
            if kind != n.RTM_NEWLINK or end - start < links.IFINFOMSG.size:
                continue
            _, _, _, _, flags, _ = links.IFINFOMSG.unpack_from(data, start)
            try:
                name = attributes(data, start + links.IFINFOMSG.size, end).get(n.IFLA_IFNAME, b"")
            except MalformedMessage:
                continue
            if flags & _WORKS == _WORKS:
                found.add(name.split(b"\0", 1)[0].decode())
        return frozenset(found)
