"""The fast path of one network namespace as a store of entries: put, delete, read back.

Order keeps every packet whole at every instant: a path and a delivery are written before the
entry that names them and deleted after it; filters are attached last and detached first.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path as FilePath

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import values
from srv6dmm.dataplane.fastpath.filters import Filters
from srv6dmm.dataplane.fastpath.layout import (
    BindingKey,
    Config,
    Delivery,
    Path,
    Port,
    PortKey,
    Sid,
    Steer,
    SteerAction,
)
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastDrop,
    FastObject,
    FastPort,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.fastpath.paths import Numbers, PathTable
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable, LinkState, NoSuchInterface
from srv6dmm.dataplane.objects import Identity, KernelFailure

_BOUND = (1).to_bytes(4, "little")
_CONFIG_KEY = bytes(4)
_TABLES = ("prefixes", "foreign")


class FastPath:
    """Entries on the pins of one network namespace. Not thread-safe.

    What the maps already hold is adopted: counters go on, and packets notice nothing. Raises
    OSError naming the map when a pin is not there; NamespaceError for a namespace that is none.
    """

    def __init__(self, network_namespace: str | None, pins: FilePath) -> None:
        self._namespace = network_namespace
        self._maps = Maps(pins)
        self._filters = Filters(network_namespace, pins)
        self._interfaces = InterfaceTable(self._load_links)
        self._counters = Numbers(self._maps.size("counters"))
        self._paths = PathTable(self._maps.size("paths"), self._counters)
        self._entries: dict[tuple[str, bytes], Steer] = {}
        self._sids: dict[bytes, int] = {}
        self._ways: dict[tuple[object, ...], int] = {}
        self._settings = FastSettings(None)
        self._adopt()

    def close(self) -> None:
        """Close descriptors; maps, programs and filters stay."""
        self._maps.close()
        self._filters.close()

    def _load_links(self) -> list[LinkState]:
        with namespace.inside(self._namespace):
            return [LinkState(index, name, True, None) for index, name in _name_index()]

    def _adopt(self) -> None:
        """Take numbers and reference counts from what the maps hold."""
        self._entries = {
            (table, key): Steer.unpack(value)
            for table in _TABLES
            for key, value in self._maps.read_all(table).items()
        }
        paths = {
            int.from_bytes(key, "little"): Path.unpack(value)
            for key, value in self._maps.read_all("paths").items()
        }
        sids = {key: Sid.unpack(value) for key, value in self._maps.read_all("sids").items()}
        self._sids = {key: found.counter for key, found in sids.items()}
        used = Counter(
            entry.path for entry in self._entries.values() if entry.action == SteerAction.ENCAP
        )
        self._counters.adopt(
            {entry.counter for entry in self._entries.values()}
            | {found.counter for found in paths.values()}
            | set(self._sids.values())
        )
        self._paths.adopt(paths, used)
        self._ways.clear()
        known = self._maps.read_all("config").get(_CONFIG_KEY)
        if known is not None:
            self._settings = values.settings_of(Config.unpack(known))

    # --- writing -----------------------------------------------------------------------------

    def put(self, objects: Sequence[FastObject]) -> list[KernelFailure]:
        """Create or atomically replace every entry; go on after a failure."""
        failures: list[KernelFailure] = []
        batch = _Batch()
        ports: list[FastPort] = []
        for item in objects:
            try:
                if isinstance(item, FastPort):
                    ports.append(item)
                else:
                    self._stage(item, batch)
            except NoSuchInterface as error:
                self._interfaces.refresh()
                failures.append(KernelFailure(item.identity, errno.ENODEV, str(error.args[0])))
            except ValueError as error:
                failures.append(KernelFailure(item.identity, errno.EINVAL, str(error)))
        failures += self._write(batch)
        for port in ports:
            failures += self._guard(port.identity, partial(self._open_port, port))
        return failures

    def _stage(self, item: FastObject, batch: _Batch) -> None:
        match item:
            case FastSettings():
                self._settings = item
                batch.config = item.identity
            case FastSid():
                key = item.sid.packed
                element = values.sid(item, self._interfaces)
                counter = self._sids.get(key) or self._counters.take()
                self._sids[key] = counter
                batch.add("sids", key, element.counted(counter).pack(), item.identity)
            case FastBinding():
                key = values.binding(item, self._interfaces).pack()
                batch.add("bindings", key, _BOUND, item.identity)
            case FastDelivery():
                to = values.delivery(item, self._interfaces)
                key = item.prefix.network_address.packed[:8]
                batch.add("deliveries", key, to.pack(), item.identity)
                self._enter(item, SteerAction.DELIVER, 0, batch)
            case FastDrop():
                self._enter(item, SteerAction.DROP, 0, batch)
            case FastSteering():
                self._enter(item, SteerAction.ENCAP, self._way(item, batch), batch)
            case FastPort():
                raise ValueError("ports are opened when all entries are there")

    def _way(self, item: FastSteering, batch: _Batch) -> int:
        """Return the id of a steering entry's path, written before the entry if it is new."""
        way = (item.mode, item.segments, item.source, item.interface, item.next_hop, item.mtu)
        number = self._ways.get(way)
        if number is None:
            number, new = self._paths.find(values.path(item, self._interfaces))
            if not number:
                raise ValueError(f"map paths is full ({self._maps.size('paths')} paths)")
            if new:
                element = self._paths.by_id[number].pack()
                batch.add("paths", number.to_bytes(4, "little"), element, item.identity)
            self._ways[way] = number
        return number

    def _enter(
        self,
        item: FastSteering | FastDelivery | FastDrop,
        action: SteerAction,
        path: int,
        batch: _Batch,
    ) -> None:
        table, key = values.prefix_key(item.prefix)
        before = self._entries.get((table, key))
        counter = before.counter if before is not None else self._counters.take()
        entry = Steer(action, path, counter)
        self._refer(before, entry)
        self._entries[table, key] = entry
        batch.add(table, key, entry.pack(), item.identity)
        if before is not None and before.action == SteerAction.DELIVER != action:
            batch.afterwards.append(key)

    def _refer(self, before: Steer | None, after: Steer | None) -> None:
        if after is not None and after.action == SteerAction.ENCAP:
            self._paths.use(after.path)
        if before is not None and before.action == SteerAction.ENCAP:
            self._paths.drop(before.path)

    def _write(self, batch: _Batch) -> list[KernelFailure]:
        failures: list[KernelFailure] = []
        foreign_before = batch.config is not None or bool(batch.elements.get("foreign"))
        for table in ("paths", "deliveries", "sids", "bindings", "foreign", "prefixes"):
            failures += self._write_table(table, batch)
        if foreign_before:
            failures += self._guard(FastSettings(None).identity, self._write_config)
        if batch.afterwards:
            self._maps.delete("deliveries", batch.afterwards)
        self._sweep()
        return failures

    def _write_table(self, table: str, batch: _Batch) -> list[KernelFailure]:
        elements = batch.elements.get(table)
        if not elements:
            return []
        try:
            self._maps.put(table, elements)
        except OSError:
            pass  # one by one, to tell which it is
        else:
            return []
        failures: list[KernelFailure] = []
        for key, value in elements.items():
            identity = batch.identities[table, key]
            failures += self._guard(identity, partial(self._maps.put, table, {key: value}))
        return failures

    def _write_config(self) -> None:
        foreign = any(table == "foreign" for table, _ in self._entries)
        element = values.config(self._settings, flows=False, foreign=foreign)
        self._maps.put("config", {_CONFIG_KEY: element.pack()})

    def _open_port(self, port: FastPort) -> None:
        index = self._interfaces.index(port.interface)
        element = Port(role=values.ROLES[port.facing], detect=0)
        self._maps.put("ports", {PortKey(index, 0).pack(): element.pack()})
        program = "sid" if port.facing is Facing.CORE else "steer"
        self._filters.attach(port.interface, index, program)

    def _sweep(self) -> None:
        """Delete paths nobody names any more."""
        gone = self._paths.unused()
        if gone:
            self._ways.clear()
            self._maps.delete("paths", [number.to_bytes(4, "little") for number in gone])

    @staticmethod
    def _guard(identity: Identity, work: Callable[[], object]) -> list[KernelFailure]:
        try:
            work()
        except NoSuchInterface as error:
            return [KernelFailure(identity, errno.ENODEV, str(error.args[0]))]
        except OSError as error:
            return [KernelFailure(identity, error.errno or 0, str(error))]
        return []

    # --- deleting ----------------------------------------------------------------------------

    def delete(self, objects: Sequence[FastObject]) -> list[KernelFailure]:
        """Delete entries, ports first; one that is not there any more is not a failure."""
        failures: list[KernelFailure] = []
        for port in (item for item in objects if isinstance(item, FastPort)):
            failures += self._guard(port.identity, partial(self._close_port, port))
        tables: dict[str, list[bytes]] = {}
        zeroed: list[int] = []
        for item in objects:
            match item:
                case FastSteering() | FastDelivery() | FastDrop():
                    table, key = values.prefix_key(item.prefix)
                    before = self._entries.pop((table, key), None)
                    self._refer(before, None)
                    tables.setdefault(table, []).append(key)
                    if before is not None:
                        zeroed.append(before.counter)
                    if table == "prefixes":
                        tables.setdefault("deliveries", []).append(key)
                case FastSid():
                    zeroed.append(self._sids.pop(item.sid.packed, 0))
                    tables.setdefault("sids", []).append(item.sid.packed)
                case FastBinding():
                    try:
                        key = values.binding(item, self._interfaces).pack()
                    except NoSuchInterface:
                        continue  # swept with the interface's other elements
                    tables.setdefault("bindings", []).append(key)
                case FastSettings():
                    self._settings = FastSettings(None)
                    failures += self._guard(item.identity, self._write_config)
                case FastPort():
                    continue
        for table in ("prefixes", "foreign", "deliveries", "bindings", "sids"):
            if table in tables:
                self._maps.delete(table, tables[table])
        self._maps.zero_counters([number for number in zeroed if number])
        for number in zeroed:
            self._counters.give_back(number)
        self._sweep()
        return failures

    def _close_port(self, port: FastPort) -> None:
        index = self._interfaces.index(port.interface)
        self._filters.detach(port.interface, index)
        self._maps.delete("ports", [PortKey(index, 0).pack()])

    def retire(self) -> None:
        """Detach every filter of ours. Raises OSError for one that cannot be."""
        for name in self._port_names():
            with suppress(NoSuchInterface):  # its filter went with it
                self._close_port(FastPort(name, Facing.CORE))

    # --- reading back ------------------------------------------------------------------------

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, FastObject]:
        """Return what the maps and filters hold, in the very values `put` takes."""
        if wanted is None:
            return self._read_everything()
        found: dict[Identity, FastObject] = {}
        for identity in wanted:
            item = self._read_one(identity)
            if item is not None:
                found[identity] = item
        return found

    def sid_counters(self) -> dict[str, tuple[int, int]]:
        """Return SID -> (packets, bytes) of what was handled here, by outer packets."""
        counted = self._maps.counters([number for number in self._sids.values() if number])
        return {
            str(IPv6Address(key)): (counted[number].packets, counted[number].octets)
            for key, number in self._sids.items()
            if number in counted
        }

    def _read_everything(self) -> dict[Identity, FastObject]:
        self._interfaces.refresh()
        self._adopt()
        items: list[FastObject | None] = [self._port(name) for name in self._port_names()]
        deliveries = self._maps.read_all("deliveries")
        for (table, key), entry in self._entries.items():
            items.append(self._entry(table, key, entry, deliveries.pop(key, None)))
        self._maps.delete("deliveries", list(deliveries))  # of a write that was cut short
        for key, value in self._maps.read_all("sids").items():
            address = IPv6Address(key)
            items.append(values.sid_of(address, Sid.unpack(value), self._interfaces))
        items += [
            values.binding_of(BindingKey.unpack(key), self._interfaces)
            for key in self._maps.read_all("bindings")
        ]
        items.append(self._read_settings())
        return {item.identity: item for item in items if item is not None}

    def _read_one(self, identity: Identity) -> FastObject | None:
        kind, *parts = identity
        match kind:
            case "fast-settings":
                return self._read_settings()
            case "fast-port":
                return self._port(str(parts[0]))
            case "fast-sid":
                address = IPv6Address(str(parts[0]))
                value = self._maps.get("sids", address.packed)
                if value is None:
                    return None
                return values.sid_of(address, Sid.unpack(value), self._interfaces)
            case "fast-binding":
                item = FastBinding(IPv6Network(str(parts[0])), str(parts[1]), str(parts[2]))
                try:
                    key = values.binding(item, self._interfaces).pack()
                except NoSuchInterface:
                    return None
                return item if self._maps.get("bindings", key) is not None else None
            case "fast-prefix":
                table, key = values.prefix_key(IPv6Network(str(parts[0])))
                value = self._maps.get(table, key)
                if value is None:
                    return None
                entry = Steer.unpack(value)
                delivery = None
                if entry.action == SteerAction.DELIVER:
                    delivery = self._maps.get("deliveries", key)
                return self._entry(table, key, entry, delivery)
            case _:
                raise ValueError(f"not the identity of a fast path entry: {identity!r}")

    def _entry(
        self, table: str, key: bytes, entry: Steer, delivery: bytes | None
    ) -> FastObject | None:
        prefix = values.prefix_of(table, key)
        if entry.action == SteerAction.DROP:
            return FastDrop(prefix)
        if entry.action == SteerAction.DELIVER:
            if delivery is None:
                return None
            return values.delivery_of(prefix, Delivery.unpack(delivery), self._interfaces)
        value = self._maps.get("paths", entry.path.to_bytes(4, "little"))
        if value is None:
            return None
        return values.steering_of(prefix, Path.unpack(value), self._interfaces)

    def _read_settings(self) -> FastSettings | None:
        value = self._maps.get("config", _CONFIG_KEY)
        if value is None:
            return None
        found = values.settings_of(Config.unpack(value))
        return found if found.sid_block is not None else None  # an array is never empty

    def _port_names(self) -> list[str]:
        return [
            self._interfaces.name(PortKey.unpack(key).ifindex)
            for key in self._maps.read_all("ports")
        ]

    def _port(self, name: str) -> FastPort | None:
        try:
            index = self._interfaces.index(name)
        except NoSuchInterface:
            return None
        value = self._maps.get("ports", PortKey(index, 0).pack())
        facing = values.facing(Port.unpack(value).role) if value is not None else None
        if facing is None:
            return None
        program = "sid" if facing is Facing.CORE else "steer"
        if not self._filters.attached(name, index, program):
            return None
        return FastPort(name, facing)


class _Batch:
    """Elements to write, and whose they are."""

    def __init__(self) -> None:
        self.elements: dict[str, dict[bytes, bytes]] = {}
        self.identities: dict[tuple[str, bytes], Identity] = {}
        self.afterwards: list[bytes] = []
        """Deliveries that nothing names once the entries are written."""
        self.config: Identity | None = None

    def add(self, table: str, key: bytes, value: bytes, identity: Identity) -> None:
        """Note an element."""
        self.elements.setdefault(table, {})[key] = value
        self.identities[table, key] = identity


def _name_index() -> list[tuple[int, str]]:
    import socket

    return socket.if_nameindex()
