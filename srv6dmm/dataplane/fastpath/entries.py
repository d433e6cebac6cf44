"""What is done with a prefix: the entries of `prefixes` and `foreign`, and what they name.

A path or a delivery is written before the entry that names it, and deleted after it. Kept as the
packed elements themselves: a full plan is a hundred thousand of them.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv6Network

from srv6dmm.dataplane.fastpath import syscalls, values
from srv6dmm.dataplane.fastpath.hops import Hops
from srv6dmm.dataplane.fastpath.layout import Delivery, Path, Steer, SteerAction
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.objects import (
    FastDelivery,
    FastDrop,
    FastObject,
    FastSteering,
)
from srv6dmm.dataplane.fastpath.paths import Numbers, PathTable
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable
from srv6dmm.model.sid import EncapMode

TABLES = ("prefixes", "foreign")
_STEER = struct.Struct("=IIII")
_ENCAP, _DELIVER = int(SteerAction.ENCAP), int(SteerAction.DELIVER)

PrefixObject = FastSteering | FastDelivery | FastDrop


class Batch:
    """Elements to write, by map and in order, and whose they are."""

    def __init__(self) -> None:
        self.keys: dict[str, list[bytes]] = {}
        self.values: dict[str, list[bytes]] = {}
        self.items: dict[str, list[FastObject]] = {}
        self.afterwards: list[bytes] = []
        """Deliveries that nothing names once the entries are written."""

    def add(self, table: str, key: bytes, value: bytes, item: FastObject) -> None:
        """Note an element."""
        self.keys.setdefault(table, []).append(key)
        self.values.setdefault(table, []).append(value)
        self.items.setdefault(table, []).append(item)


class Entries:
    """The entries of one namespace's maps."""

    def __init__(
        self, maps: Maps, interfaces: InterfaceTable, counters: Numbers, hops: Hops
    ) -> None:
        self._maps = maps
        self._interfaces = interfaces
        self._counters = counters
        self._hops = hops
        self._paths = PathTable(maps.size("paths"), counters, syscalls.wait_for_programs)
        self._known: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self._ways: dict[tuple[object, ...], int] = {}
        self._owners: dict[int, tuple[str, bytes]] = {}
        """Whose each counter is: map and key."""

    @property
    def any_foreign(self) -> bool:
        """Whether there is a prefix of another length than 64."""
        return bool(self._known["foreign"])

    def adopt(self) -> set[int]:
        """Take over what the maps hold; return the counters that are taken."""
        self._known = {table: self._maps.read_all(table) for table in TABLES}
        self._owners = {}
        used: Counter[int] = Counter()
        for table, known in self._known.items():
            for key, value in known.items():
                action, path, counter, _ = _STEER.unpack(value)
                self._owners[counter] = (table, key)
                if action == _ENCAP:
                    used[path] += 1
        paths = {
            number: Path.unpack(value)
            for key, value in self._maps.read_all("paths").items()
            if (number := int.from_bytes(key, "little")) in used
        }
        self._paths.adopt(paths, used)
        self._ways.clear()
        return self._owners.keys() | {path.counter for path in paths.values()}

    # --- writing -----------------------------------------------------------------------------

    def stage(self, item: PrefixObject, batch: Batch) -> None:
        """Note what an entry needs written. Raises NoSuchInterface, ValueError."""
        match item:
            case FastSteering():
                self._enter(item, _ENCAP, self._way(item, batch), batch)
            case FastDelivery():
                to = values.delivery(item, self._interfaces)
                batch.add("deliveries", values.prefix_key(item.prefix)[1], to.pack(), item)
                self._enter(item, _DELIVER, 0, batch)
            case FastDrop():
                self._enter(item, int(SteerAction.DROP), 0, batch)

    def _way(self, item: FastSteering, batch: Batch) -> int:
        """Return the id of a steering entry's path, written before the entry if it is new."""
        way = (
            item.mode is EncapMode.ENCAP,
            item.interface,
            item.mtu,
            int(item.source),
            int(item.next_hop),
            *map(int, item.segments),
        )
        number = self._ways.get(way)
        if number is None:
            path = values.path(item, self._interfaces)
            path = replace(path, hop=self._hops.number(path.ifindex, path.next_hop))
            number, new = self._paths.find(path)
            if not number:
                raise ValueError(f"map paths is full ({self._maps.size('paths')} paths)")
            if new:
                element = self._paths.by_id[number].pack()
                batch.add("paths", number.to_bytes(4, "little"), element, item)
            self._ways[way] = number
        return number

    def _enter(self, item: PrefixObject, action: int, path: int, batch: Batch) -> None:
        table, key = values.prefix_key(item.prefix)
        known = self._known[table]
        before = known.get(key)
        if before is None:
            counter = self._counters.take()
            self._owners[counter] = (table, key)
        else:
            old_action, old_path, counter, _ = _STEER.unpack(before)
            if old_action == _ENCAP:
                self._paths.drop(old_path)
            elif old_action == _DELIVER != action:
                batch.afterwards.append(key)
        if action == _ENCAP:
            self._paths.use(path)
        value = known[key] = _STEER.pack(action, path, counter, 0)
        batch.add(table, key, value, item)

    def sweep(self) -> None:
        """Forget paths nobody names any more; their elements stay until they are written anew."""
        if self._paths.forget_unused():
            self._ways.clear()

    @property
    def hops(self) -> set[int]:
        """The next hops that paths name."""
        return {path.hop for path in self._paths.by_id.values()}

    def delete(self, items: Sequence[PrefixObject]) -> list[int]:
        """Delete entries and what only they named; return the counters that are free now."""
        keys: dict[str, list[bytes]] = {}
        free: list[int] = []
        for item in items:
            table, key = values.prefix_key(item.prefix)
            before = self._known[table].pop(key, None)
            keys.setdefault(table, []).append(key)
            if before is not None:
                action, path, counter, _ = _STEER.unpack(before)
                free.append(counter)
                self._owners.pop(counter, None)
                if action == _ENCAP:
                    self._paths.drop(path)
                elif action == _DELIVER:
                    keys.setdefault("deliveries", []).append(key)
        for table in (*TABLES, "deliveries"):
            if table in keys:
                self._maps.delete(table, keys[table])
        self.sweep()
        return free

    # --- reading back ------------------------------------------------------------------------

    def read_all(self) -> list[PrefixObject]:
        """Return every entry, as adopted."""
        deliveries = self._maps.read_all("deliveries")
        ways = {
            number: values.way_of(path, self._interfaces)
            for number, path in self._paths.by_id.items()
        }
        found: list[PrefixObject] = []
        for table, known in self._known.items():
            for key, value in known.items():
                entry = Steer.unpack(value)
                named = entry.action == SteerAction.DELIVER and table == "prefixes"
                delivery = deliveries.get(key) if named else None
                way = ways.get(entry.path)
                item = self._object(values.prefix_of(table, key), entry, delivery, way)
                if item is not None:
                    found.append(item)
        return found

    def owner(self, counter: int) -> IPv6Network | None:
        """Return the prefix that a counter counts for; None when it is nobody's."""
        found = self._owners.get(counter)
        return None if found is None else values.prefix_of(*found)

    def tidy(self) -> None:
        """Delete what no entry names: a write was cut short. For the one that writes only."""
        delivered = {
            key
            for key, value in self._known["prefixes"].items()
            if _STEER.unpack(value)[0] == _DELIVER
        }
        orphans = self._maps.read_all("deliveries").keys() - delivered
        self._maps.delete("deliveries", list(orphans))
        self.sweep()

    def read(self, prefix: IPv6Network) -> PrefixObject | None:
        """Return what the maps say of a prefix now."""
        table, key = values.prefix_key(prefix)
        value = self._maps.get(table, key)
        if value is None:
            return None
        entry = Steer.unpack(value)
        delivery = way = None
        if entry.action == SteerAction.DELIVER:
            delivery = self._maps.get("deliveries", key)
        elif entry.action == SteerAction.ENCAP:
            found = self._maps.get("paths", entry.path.to_bytes(4, "little"))
            way = None if found is None else values.way_of(Path.unpack(found), self._interfaces)
        return self._object(prefix, entry, delivery, way)

    def _object(
        self, prefix: IPv6Network, entry: Steer, delivery: bytes | None, way: values.Way | None
    ) -> PrefixObject | None:
        """Return the entry as a value; None when what it names is not there."""
        if entry.action == SteerAction.DROP:
            return FastDrop(prefix)
        if entry.action == SteerAction.DELIVER:
            if delivery is None:
                return None
            return values.delivery_of(prefix, Delivery.unpack(delivery), self._interfaces)
        return None if way is None else FastSteering(prefix, *way)
