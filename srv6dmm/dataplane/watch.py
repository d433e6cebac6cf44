"""Watching a kernel for changes that others made to what is ours."""

from __future__ import annotations

from collections.abc import Callable

from srv6dmm.dataplane.netlink import addresses, links, neighbours, routes, rules
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import MalformedMessage
from srv6dmm.dataplane.netlink.channel import Monitor
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable
from srv6dmm.dataplane.objects import METRIC, PROTOCOL


class Watch:
    """A monitor that tells foreign changes from our own.

    Route and most neighbour events carry the port of the socket that caused them. Link events
    do not: a link counts when its name, state or link-layer address differs from what was last
    read or set. Of addresses only the loss of one of ours counts. That an address or a neighbour
    is gone has no port either, so we say beforehand which ones we are about to delete.
    """

    def __init__(
        self,
        interfaces: InterfaceTable,
        changed: Callable[[], None],
        indexes_changed: Callable[[], None],
    ) -> None:
        self._monitor = Monitor()
        self._own_ports: set[int] = set()
        self._interfaces = interfaces
        self._changed = changed
        self._indexes_changed = indexes_changed
        self._expected_gone: set[tuple[int, bytes]] = set()

    def fileno(self) -> int:
        """Return the file descriptor to wait on."""
        return self._monitor.fileno()

    def close(self) -> None:
        """Close the monitor."""
        self._monitor.close()

    def own(self, port: int) -> None:
        """What the socket of this port causes is our own doing."""
        self._own_ports.add(port)

    def expect_gone(self, index: int, packed: bytes) -> None:
        """We are about to delete this address or neighbour ourselves."""
        self._expected_gone.add((index, packed))

    def drain(self) -> None:
        """Read all events there are; report once if one of them is of interest."""
        interest = False
        for event in self._monitor.events():
            if event is None:  # some were lost: anything may have happened
                self._interfaces.refresh()
                self._indexes_changed()
                interest = True
                continue
            kind, port, datagram, start, end = event
            try:
                # Every event must be looked at, also after the first of interest: link events
                # keep the interface table right.
                interest = self._concerns_us(kind, port, datagram, start, end) or interest
            except MalformedMessage:
                interest = True
        self._expected_gone.clear()
        if interest:
            self._changed()

    def _concerns_us(self, kind: int, port: int, datagram: bytes, start: int, end: int) -> bool:
        if kind in (n.RTM_NEWROUTE, n.RTM_DELROUTE):
            if port in self._own_ports:
                return False
            about, _ = routes.facts(datagram, start, end)
            return about.protocol == PROTOCOL or about.metric == METRIC
        if kind in (n.RTM_NEWRULE, n.RTM_DELRULE):
            return port not in self._own_ports and rules.is_ours(datagram, start, end)
        if kind in (n.RTM_NEWNEIGH, n.RTM_DELNEIGH):
            if port in self._own_ports:
                return False
            neighbour = neighbours.facts(datagram, start, end)
            if neighbour.protocol != PROTOCOL:
                return False
            return kind == n.RTM_NEWNEIGH or self._unexpected(neighbour.index, neighbour.address)
        if kind == n.RTM_DELADDR:
            lost = addresses.facts(datagram, start, end)
            return self._unexpected(lost.index, lost.address) and lost.protocol == PROTOCOL
        if kind in (n.RTM_NEWLINK, n.RTM_DELLINK):
            return self._link(kind, datagram, start, end)
        return False

    def _unexpected(self, index: int, packed: bytes) -> bool:
        if (index, packed) in self._expected_gone:
            self._expected_gone.discard((index, packed))
            return False
        return True

    def _link(self, kind: int, datagram: bytes, start: int, end: int) -> bool:
        state = links.state(datagram, start, end)
        if state is None:
            return False
        known = self._interfaces.state_of(state.index)
        if kind == n.RTM_DELLINK:
            self._interfaces.forget(state.index)
            self._indexes_changed()
            return known is not None
        if known == state:
            return False
        self._interfaces.update(state)
        if known is None or known.name != state.name:
            self._indexes_changed()
        return True
