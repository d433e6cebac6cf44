"""What is done with a prefix: the entries of `prefixes` and `foreign`, and what they name.

A path or a delivery is written before the entry that names it, and deleted after it. Of a /64
nothing is kept here but whose its counter is: a full plan is a hundred thousand, and the map
has them anyway. Foreign prefixes are few, and the kernel does not tell one of them by its key.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
_KEY = 8
_ENCAP, _DELIVER = int(SteerAction.ENCAP), int(SteerAction.DELIVER)

PrefixObject = FastSteering | FastDelivery | FastDrop


def _prefix(key: bytes) -> IPv6Network:
    """Return the prefix of a key: those of `prefixes` are eight octets, those of `foreign` more."""
    return values.prefix_of("prefixes" if len(key) == _KEY else "foreign", key)


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

    def elements(self, table: str) -> Iterator[tuple[bytes, bytes, FastObject]]:
        """Yield what was noted for a map."""
        if table in self.keys:
            yield from zip(self.keys[table], self.values[table], self.items[table], strict=True)


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
        self._foreign: dict[bytes, bytes] = {}
        self._filled = False
        """Whether there may be a /64: into empty maps much is written at once."""
        self._ways: dict[tuple[object, ...], int] = {}
        self._owners: list[bytes | None] = [None] * maps.size("counters")
        """Whose each counter is: the key in `prefixes`, or the longer one in `foreign`."""

    @property
    def any_foreign(self) -> bool:
        """Whether there is a prefix of another length than 64."""
        return bool(self._foreign)

    def adopt(self) -> set[int]:
        """Take over what the maps hold; return the counters that are taken."""
        self._foreign = self._maps.read_all("foreign")
        self._owners = [None] * len(self._owners)
        self._filled = False
        used: Counter[int] = Counter()
        for key, value in self._elements():
            action, path, counter, _ = _STEER.unpack(value)
            self._owners[counter] = key
            self._filled = True
            if action == _ENCAP:
                used[path] += 1
        # Not the whole array: it is megabytes, and prefixes share few paths.
        paths = {
            number: Path.unpack(found)
            for number in used
            if (found := self._maps.get("paths", number.to_bytes(4, "little"))) is not None
        }
        self._paths.adopt(paths, used)
        self._ways.clear()
        return self.counters

    def _elements(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every entry of both maps."""
        yield from self._maps.each("prefixes")
        yield from self._foreign.items()

    def _entry(self, table: str, key: bytes) -> bytes | None:
        """Return what the map says of a prefix."""
        if table == "foreign":
            return self._foreign.get(key)
        return self._maps.get(table, key) if self._filled else None

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
        before = self._entry(table, key) if self._filled or self._foreign else None
        if before is None:
            counter = self._counters.take()
            if counter:
                self._owners[counter] = key
        else:
            old_action, old_path, counter, _ = _STEER.unpack(before)
            if old_action == _ENCAP:
                self._paths.drop(old_path)
            elif old_action == _DELIVER != action:
                batch.afterwards.append(key)
        if action == _ENCAP:
            self._paths.use(path)
        value = _STEER.pack(action, path, counter, 0)
        if table == "foreign":
            self._foreign[key] = value
        batch.add(table, key, value, item)

    def settle(self, refused: Iterable[tuple[str, bytes, bytes]]) -> None:
        """Note that what was staged is written, but for the new elements that were refused."""
        self._filled = True
        for table, key, value in refused:
            if self._maps.get(table, key) is None:
                action, path, counter, _ = _STEER.unpack(value)
                self._foreign.pop(key, None)
                self._forget_owner(counter)
                self._counters.give_back(counter)
                if action == _ENCAP:
                    self._paths.drop(path)
        self._sweep()

    def _forget_owner(self, counter: int) -> None:
        if counter:
            self._owners[counter] = None

    def _sweep(self) -> None:
        """Forget paths nobody names any more; their elements stay until they are written anew."""
        gone = self._paths.forget_unused()
        if gone:
            self._ways.clear()
            self.free(path.counter for path in gone)

    def free(self, counters: Iterable[int]) -> None:
        """Set counters to zero and let them be taken again."""
        counted = [number for number in counters if number]
        self._maps.zero_counters(counted)
        for number in counted:
            self._counters.give_back(number)

    @property
    def counters(self) -> set[int]:
        """The counters of prefixes and paths."""
        owned = {number for number, key in enumerate(self._owners) if key is not None}
        return owned | {path.counter for path in self._paths.by_id.values()}

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
            before = self._entry(table, key)
            self._foreign.pop(key, None)
            keys.setdefault(table, []).append(key)
            if before is not None:
                action, path, counter, _ = _STEER.unpack(before)
                free.append(counter)
                self._forget_owner(counter)
                if action == _ENCAP:
                    self._paths.drop(path)
                elif action == _DELIVER:
                    keys.setdefault("deliveries", []).append(key)
        for table in (*TABLES, "deliveries"):
            if table in keys:
                self._maps.delete(table, keys[table])
        self._sweep()
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
        for key, value in self._elements():
            entry = Steer.unpack(value)
            delivery = deliveries.get(key) if entry.action == SteerAction.DELIVER else None
            item = self._object(_prefix(key), entry, delivery, ways.get(entry.path))
            if item is not None:
                found.append(item)
        return found

    def owner(self, counter: int) -> IPv6Network | None:
        """Return the prefix that a counter counts for; None when it is nobody's."""
        key = self._owners[counter]
        return None if key is None else _prefix(key)

    def tidy(self) -> None:
        """Delete what no entry names: a write was cut short. For the one that writes only."""
        delivered = {
            key for key, value in self._maps.each("prefixes") if _STEER.unpack(value)[0] == _DELIVER
        }
        orphans = self._maps.read_all("deliveries").keys() - delivered
        self._maps.delete("deliveries", list(orphans))
        self._sweep()

    def read(self, prefix: IPv6Network) -> PrefixObject | None:
        """Return what the maps say of a prefix now."""
        table, key = values.prefix_key(prefix)
        # Of foreign prefixes the map would give the longest that covers it, in place of it.
        present = table == "prefixes" or key in self._maps.read_all("foreign")
        value = self._maps.get(table, key) if present else None
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
