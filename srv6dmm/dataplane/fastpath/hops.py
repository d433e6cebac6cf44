"""Next hops: the elements of `hops`, and whether their link-layer addresses are known."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv6Address

from srv6dmm.dataplane.fastpath import syscalls
from srv6dmm.dataplane.fastpath.layout import MAX_HOPS, Hop, HopState
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.netlink.adjacency import Adjacency, AdjacencyTable, Who

_Key = tuple[int, IPv6Address]


class Hops:
    """Numbers of next hops. Safe for threads: neighbours change whoever writes entries.

    A number stays its next hop's until `keep` finds that nothing names it: elements are not read
    and written at once.
    """

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._lock = threading.Lock()
        self._numbers: dict[_Key, int] = {}
        self._elements: dict[int, Hop] = {}
        self.adopt()

    def adopt(self) -> None:
        """Take over what the map holds."""
        with self._lock:
            self._elements = {
                int.from_bytes(key, "little"): Hop.unpack(value)
                for key, value in self._maps.read_all("hops").items()
                if any(value)
            }
            self._numbers = {
                (hop.ifindex, hop.next_hop): number for number, hop in self._elements.items()
            }

    def number(self, ifindex: int, next_hop: IPv6Address) -> int:
        """Return the number of a next hop; 0 when there is none left. Raises OSError."""
        with self._lock:
            found = self._numbers.get((ifindex, next_hop))
            if found is None:
                found = self._free()
                if found:
                    self._numbers[ifindex, next_hop] = found
                    self._write(found, Hop(ifindex, next_hop))
            return found

    def _free(self) -> int:
        return next((n for n in range(1, MAX_HOPS) if n not in self._elements), 0)

    def keep(self, used: Collection[int]) -> None:
        """Give back the numbers that nothing names. Raises OSError."""
        with self._lock:
            for number in self._elements.keys() - set(used):
                hop = self._elements.pop(number)
                del self._numbers[hop.ifindex, hop.next_hop]
                self._maps.put("hops", {number.to_bytes(4, "little"): bytes(len(hop.pack()))})

    def resolve(self, adjacency: Adjacency) -> int:
        """Take in what the kernel knows of neighbours; return how many next hops it resolves.

        Raises OSError.
        """
        with self._lock:
            for number, hop in list(self._elements.items()):
                fresh = _resolved(hop, adjacency)
                if fresh != hop:
                    self._replace(number, hop, fresh)
            return sum(hop.resolved for hop in self._elements.values())

    def fell(self, devices: Collection[int]) -> None:
        """Send no more packets to devices that have just lost their carrier. Raises OSError."""
        with self._lock:
            for number, hop in list(self._elements.items()):
                if hop.ifindex in devices and hop.state is not HopState.DOWN:
                    self._write(number, replace(hop, state=HopState.DOWN))

    def named(self, number: int) -> Hop | None:
        """Return the next hop of a number."""
        return self._elements.get(number)

    def who(self, *, resolved: bool = False) -> set[Who]:
        """Return the next hops, or those whose link-layer address is known."""
        with self._lock:
            return {
                (hop.ifindex, hop.next_hop.packed)
                for hop in self._elements.values()
                if hop.resolved or not resolved
            }

    def _replace(self, number: int, hop: Hop, fresh: Hop) -> None:
        """Never is an address written that a packet may be reading."""
        if hop.resolved:
            self._write(number, replace(hop, state=_without_addresses(fresh.state)))
            if fresh.resolved:
                syscalls.wait_for_programs()
        if fresh.resolved:
            self._write(number, replace(fresh, state=HopState.UNKNOWN))
            self._write(number, fresh)
        elif hop.state is not fresh.state and not hop.resolved:
            self._write(number, fresh)

    def _write(self, number: int, hop: Hop) -> None:
        self._maps.put("hops", {number.to_bytes(4, "little"): hop.pack()})
        self._elements[number] = hop


def _without_addresses(state: HopState) -> HopState:
    return HopState.DOWN if state is HopState.DOWN else HopState.UNKNOWN


def _resolved(hop: Hop, adjacency: Adjacency) -> Hop:
    if hop.ifindex in adjacency.down:
        return replace(hop, state=HopState.DOWN)
    device = adjacency.devices.get(hop.ifindex)
    mac = adjacency.neighbours.get((hop.ifindex, hop.next_hop.packed))
    if device is None or mac is None:
        return replace(hop, state=HopState.UNKNOWN)
    mtu = min(device.mtu, 0xFFFF)
    return Hop(hop.ifindex, hop.next_hop, HopState.RESOLVED, mtu, mac, device.mac)


class Neighbourhood:
    """The kernel's neighbours, for the next hops that entries name. Not thread-safe itself."""

    def __init__(self, hops: Hops, network_namespace: str | None) -> None:
        self._hops = hops
        self._table = AdjacencyTable(network_namespace)

    def close(self) -> None:
        """Close what is open; what is known stays as it is."""
        self._table.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when neighbours or devices change."""
        return self._table.fileno()

    def changed(self) -> bool:
        """Read what changed; tell whether `resolve` has something to do. Raises OSError.

        A dead device is taken out of use here, before anything else is looked at: until then
        packets are lost on it.
        """
        concerned = self._table.drain(self._hops.who())
        if self._table.fallen:
            self._hops.fell(self._table.fallen)
        return concerned

    def resolve(self) -> int:
        """Take in the neighbours there are now; return how many next hops are known by them.

        From then on packets go to them without a lookup. Raises OSError.
        """
        return self._hops.resolve(self._table.read(self._hops.who()))

    def forget(self) -> None:
        """Have every packet look its next hop up, as when nobody keeps the addresses. OSError."""
        self._hops.resolve(Adjacency({}, {}))

    def probe(self) -> None:
        """Have the kernel ask the next hops that are known whether they are there. OSError."""
        self._table.probe(self._hops.who(resolved=True))
