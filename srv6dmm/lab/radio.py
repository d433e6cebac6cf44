"""The radio segment: which cell a mobile node sends to, and which cells it hears.

Every access router has a port (its cell), every mobile node has one. A mobile node's frames go
to exactly one cell; a cell's frames go to the mobile nodes that listen to it, group frames to
all of those. Nothing learns addresses, since all access routers have the same one (RFC 5213
section 6.8), and cells never hear each other.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from srv6dmm.dataplane.redirect import EVERYTHING, GROUP, Redirect, Redirects, destination
from srv6dmm.lab.names import LabError, cell_ports, mobile_ports
from srv6dmm.model.topology import Topology

_UPLINK = 1


@dataclass(frozen=True, slots=True)
class Association:
    """Where a mobile node is on the radio: the cell it sends to, the cells it hears."""

    uplink: str | None
    downlink: frozenset[str]


class Radio:
    """The switch of one lab's radio segment; all its state is in the kernel.

    Every method returns when the kernel has the change. Thread-safe.
    """

    def __init__(self, network_namespace: str, topology: Topology) -> None:
        self._cells = cell_ports(topology)
        self._ports = mobile_ports(topology)
        self._routers = {port: router for router, port in self._cells.items()}
        self._macs = {name: topology.nodes[name].mac or "" for name in self._ports}
        self._slots = {name: 2 * number for number, name in enumerate(sorted(self._ports), 1)}
        self._redirects = Redirects(network_namespace)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the switch's socket; associations stay as they are."""
        self._redirects.close()

    def prepare(self) -> None:
        """Make the ports ready; nobody is associated yet."""
        self._redirects.prepare([*self._cells.values(), *self._ports.values()])

    def associate(self, mobile_node: str, cell: str) -> None:
        """Put a mobile node in one cell: downlink first, then uplink, then other cells go."""
        with self._lock:
            self._hear(mobile_node, cell)
            self._send_to(mobile_node, cell)
            self._deafen(mobile_node, keep=frozenset({cell}))

    def listen(self, mobile_node: str, cells: set[str] | frozenset[str]) -> None:
        """Let a mobile node hear exactly these cells; new ones are added before old ones go."""
        with self._lock:
            for cell in sorted(cells):
                self._hear(mobile_node, cell)
            self._deafen(mobile_node, keep=frozenset(cells))

    def uplink(self, mobile_node: str, cell: str) -> None:
        """Let a mobile node send to this cell from now on: one atomic swap, no frame between."""
        with self._lock:
            self._send_to(mobile_node, cell)

    def detach(self, mobile_node: str) -> None:
        """Take a mobile node off the air, in both directions."""
        with self._lock:
            self._redirects.remove([(self._port(mobile_node), _UPLINK)])
            self._deafen(mobile_node, keep=frozenset())

    def where(self, mobile_node: str) -> Association:
        """Return where a mobile node is, as the kernel has it now."""
        with self._lock:
            port, slot = self._port(mobile_node), self._slots[mobile_node]
            uplink = self._redirects.targets(port).get(_UPLINK)
            downlink = {
                router
                for router, cell in self._cells.items()
                if self._redirects.targets(cell).get(slot) == port
            }
        return Association(None if uplink is None else self._routers[uplink], frozenset(downlink))

    def _send_to(self, mobile_node: str, cell: str) -> None:
        port = self._port(mobile_node)
        self._redirects.put([Redirect(port, _UPLINK, EVERYTHING, self._cell(cell))])

    def _hear(self, mobile_node: str, cell: str) -> None:
        port, slot = self._port(mobile_node), self._slots[mobile_node]
        self._redirects.put(
            [
                Redirect(self._cell(cell), slot, destination(self._macs[mobile_node]), port),
                Redirect(self._cell(cell), slot + 1, GROUP, port, copy=True),
            ]
        )

    def _deafen(self, mobile_node: str, keep: frozenset[str]) -> None:
        slot = self._slots[mobile_node]
        self._redirects.remove(
            [
                (port, place)
                for cell, port in self._cells.items()
                if cell not in keep
                for place in (slot, slot + 1)
            ]
        )

    def _port(self, mobile_node: str) -> str:
        try:
            return self._ports[mobile_node]
        except KeyError:
            known = ", ".join(self._ports) or "none"
            raise LabError(f"no mobile node {mobile_node!r} in this lab; it has {known}") from None

    def _cell(self, router: str) -> str:
        try:
            return self._cells[router]
        except KeyError:
            known = ", ".join(self._cells)
            raise LabError(f"no access router {router!r} in this lab; it has {known}") from None
