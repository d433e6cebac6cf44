"""The fast path of one network namespace as a store of entries: put, delete, read back.

Order keeps every packet whole at every instant: a path and a delivery are written before the
entry that names them and deleted after it; programs are attached last and detached first.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path as FilePath

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import values
from srv6dmm.dataplane.fastpath.entries import Batch, Entries
from srv6dmm.dataplane.fastpath.flow_entries import FlowEntries
from srv6dmm.dataplane.fastpath.hooks import Hooks
from srv6dmm.dataplane.fastpath.hops import Hops, Neighbourhood
from srv6dmm.dataplane.fastpath.layout import (
    MAX_UNTAGGED,
    BindingKey,
    Config,
    Counter,
    Port,
    PortKey,
    Sid,
    SidCode,
)
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastDrop,
    FastFlow,
    FastObject,
    FastPort,
    FastRoute,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.fastpath.paths import Numbers
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.fastpath.ring import Ring
from srv6dmm.dataplane.fastpath.ways import Ways
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable, LinkState, NoSuchInterface
from srv6dmm.dataplane.objects import Identity, KernelFailure
from srv6dmm.model.wire import SidTraffic

_BOUND = (1).to_bytes(4, "little")
_CONFIG_KEY = bytes(4)
_ORDER = ("routes", "paths", "deliveries", "sids", "bindings", "foreign", "prefixes")
"""Of writing: what is named before what names it."""
SLICE = 8192
"""Counters read at once: a millisecond or two."""


class _Interfaces(InterfaceTable):
    """Names of interfaces that are gone lead back to their index: their elements must go too."""

    def index(self, name: str) -> int:
        number = name.removeprefix("#")
        return int(number) if number != name and number.isdigit() else super().index(name)


class FastPath:
    """Entries on the pins of one network namespace. Not thread-safe.

    What the maps already hold is adopted: counters go on, and packets notice nothing. Raises
    OSError naming the map when a pin is not there; NamespaceError for a namespace that is none.
    """

    def __init__(self, network_namespace: str | None, pins: FilePath) -> None:
        self._namespace = network_namespace
        self._maps = Maps(pins)
        self._hooks = Hooks(network_namespace, pins)
        self._interfaces = _Interfaces(self._load_links)
        self._counters = Numbers(self._maps.size("counters"))
        self._hops = Hops(self._maps)
        self._ways = Ways(self._maps, self._interfaces, self._counters, self._hops)
        self._entries = Entries(self._maps, self._interfaces, self._counters, self._ways)
        self._flows = FlowEntries(self._maps, self._counters, self._ways)
        self._sids: dict[bytes, int] = {}
        self._settings = FastSettings(None)
        self._looked_at = 0
        self._before: dict[int, bytes] = {}
        self._adopt()

    def close(self) -> None:
        """Close descriptors; maps and programs stay."""
        self._maps.close()
        self._hooks.close()

    def _load_links(self) -> list[LinkState]:
        with namespace.inside(self._namespace):
            return [LinkState(index, name, True, None) for index, name in socket.if_nameindex()]

    def _adopt(self) -> None:
        """Take numbers and reference counts from what the maps hold."""
        sids = {key: Sid.unpack(value) for key, value in self._maps.read_all("sids").items()}
        self._hops.adopt()
        self._sids = {key: found.counter for key, found in sids.items()}
        used: Tally[int] = Tally()
        taken = self._entries.adopt(used) | self._flows.adopt(used) | set(self._sids.values())
        self._counters.adopt((taken | self._ways.adopt(used)) - {0})
        known = self._maps.get("config", _CONFIG_KEY)
        if known is not None:
            self._settings = values.settings_of(Config.unpack(known))

    def tidy(self) -> None:
        """Delete what a predecessor that was killed wrote in vain. For the agent only."""
        self._entries.tidy()
        self._flows.tidy()
        self._maps.zero_counters(self._unowned())
        used = {path.hop for path in self._ways.known.values()}
        used |= {Sid.unpack(value).hop for value in self._maps.read_all("sids").values()}
        used |= {
            int.from_bytes(value, "little") for value in self._maps.read_all("routes").values()
        }
        self._hops.keep(used)

    def _unowned(self) -> list[int]:
        """Return the counters that are nobody's and say something all the same."""
        owned = set(self._sids.values()) | {path.counter for path in self._ways.known.values()}
        return [
            number
            for first in range(0, self._maps.size("counters"), SLICE)
            for number, _ in self._maps.changed_counters(first, SLICE, b"")[1]
            if number not in owned and self._owner(number) is None
        ]

    def reasons(self) -> dict[Reason, int]:
        """Return how many packets were counted under each reason, since the maps were made."""
        return self._maps.reasons()

    def counted(self) -> list[tuple[int, IPv6Network | int | None, Counter]]:
        """Return the counters that changed since they were looked at last, a part at each call.

        Each with its number, whose it is now (a prefix, or the number of a flow's plan entry), and
        what it says; so many calls go through all of them as there are SLICEs.
        """
        first = self._looked_at
        before = self._before.get(first, b"")
        self._before[first], changes = self._maps.changed_counters(first, SLICE, before)
        following = first + SLICE
        self._looked_at = following if self._counters.taken_from(following) else 0
        return [(number, self._owner(number), counter) for number, counter in changes]

    def _owner(self, number: int) -> IPv6Network | int | None:
        flow = self._flows.owner(number)
        return self._entries.owner(number) if flow is None else flow

    def arrivals(self) -> Ring:
        """Return the reader of what ports with `detect` tell; there is to be one at a time."""
        return Ring(self._maps.descriptor("events"))

    # --- neighbours --------------------------------------------------------------------------

    def neighbourhood(self) -> Neighbourhood:
        """Return what keeps next hops' link-layer addresses; there is to be one at a time."""
        return Neighbourhood(self._hops, self._namespace)

    # --- writing -----------------------------------------------------------------------------

    def put(self, objects: Sequence[FastObject]) -> list[KernelFailure]:
        """Create or atomically replace every entry; go on after a failure."""
        failures: list[KernelFailure] = []
        batch = Batch()
        ports: list[FastPort] = []
        flows: list[FastFlow] = []
        settings = False
        for item in objects:
            try:
                match item:
                    case FastSteering() | FastDelivery() | FastDrop():
                        self._entries.stage(item, batch)
                    case FastBinding():
                        key = values.binding(item, self._interfaces).pack()
                        batch.add("bindings", key, _BOUND, item)
                    case FastFlow():
                        flows.append(item)
                    case FastSid():
                        self._stage_sid(item, batch)
                    case FastRoute():
                        hop = self._hops.number(
                            self._interfaces.index(item.interface), item.next_hop
                        )
                        key = values.route_key(item.locator)
                        batch.add("routes", key, hop.to_bytes(4, "little"), item)
                    case FastSettings():
                        self._settings = item
                        settings = True
                    case FastPort():
                        ports.append(item)
            except NoSuchInterface as error:
                failures.append(KernelFailure(item.identity, errno.ENODEV, str(error.args[0])))
            except ValueError as error:
                failures.append(KernelFailure(item.identity, errno.EINVAL, str(error)))
        failures += self._write(batch)
        if flows:
            failures += self._flows.put(flows)
        if settings or "foreign" in batch.keys or flows:
            failures += self._guard(FastSettings(None).identity, self._write_config)
        for port in ports:
            failures += self._guard(port.identity, partial(self._open_port, port))
        return failures

    def _stage_sid(self, item: FastSid, batch: Batch) -> None:
        key = item.sid.packed
        element = values.sid(item, self._interfaces)
        if element.behavior == SidCode.END_X:
            element = replace(element, hop=self._hops.number(element.ifindex, element.next_hop))
        counter = self._sids.get(key) or self._counters.take()
        self._sids[key] = counter
        batch.add("sids", key, element.counted(counter).pack(), item)

    def _write(self, batch: Batch) -> list[KernelFailure]:
        failures: list[KernelFailure] = []
        for table in _ORDER:
            if table in batch.keys:
                failures += self._write_table(table, batch)
        if batch.afterwards:
            self._maps.delete("deliveries", batch.afterwards)
        refused = {failure.identity for failure in failures}
        tables = ("foreign", "prefixes") if refused else ()
        self._entries.settle(
            (table, key, value)
            for table in tables
            for key, value, item in batch.elements(table)
            if item.identity in refused
        )
        return failures

    def _write_table(self, table: str, batch: Batch) -> list[KernelFailure]:
        keys, elements = batch.keys[table], batch.values[table]
        try:
            self._maps.put_each(table, keys, elements)
        except OSError:
            pass  # one by one, to tell which it is
        else:
            return []
        failures: list[KernelFailure] = []
        for key, value, item in zip(keys, elements, batch.items[table], strict=True):
            failures += self._guard(item.identity, partial(self._maps.put, table, {key: value}))
        return failures

    def _write_config(self) -> None:
        foreign = self._entries.any_foreign
        element = values.config(self._settings, flows=self._flows.sets, foreign=foreign)
        self._maps.put("config", {_CONFIG_KEY: element.pack()})

    def _open_port(self, port: FastPort) -> None:
        index = self._interfaces.index(port.interface)
        element = Port(role=values.ROLES[port.facing], detect=int(port.detect))
        self._maps.put("ports", {PortKey(index).pack(): element.pack()})
        self._write_untagged(index, element)
        program = "sid" if port.facing is Facing.CORE else "steer"
        self._hooks.attach(port.interface, index, program)

    def _write_untagged(self, index: int, element: Port) -> None:
        """An interface of a greater number is found in `ports` alone."""
        if index < MAX_UNTAGGED:
            self._maps.put("untagged", {index.to_bytes(4, "little"): element.pack()})

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
        prefixes: list[FastSteering | FastDelivery | FastDrop] = []
        flows: list[FastFlow] = []
        keys: dict[str, list[bytes]] = {"bindings": [], "sids": [], "routes": []}
        free: list[int] = []
        for item in objects:
            match item:
                case FastSteering() | FastDelivery() | FastDrop():
                    prefixes.append(item)
                case FastSid():
                    free.append(self._sids.pop(item.sid.packed, 0))
                    keys["sids"].append(item.sid.packed)
                case FastRoute():
                    keys["routes"].append(values.route_key(item.locator))
                case FastFlow():
                    flows.append(item)
                case FastBinding():
                    with suppress(NoSuchInterface):  # nothing enters where there is no interface
                        keys["bindings"].append(values.binding(item, self._interfaces).pack())
                case FastSettings():
                    self._settings = FastSettings(None)
                    failures += self._guard(item.identity, self._write_config)
                case FastPort():
                    continue
        if flows:
            refused, counters = self._flows.delete(flows)
            failures += refused
            free += counters
            failures += self._guard(FastSettings(None).identity, self._write_config)
        if prefixes:
            free += self._entries.delete(prefixes)
        for table, gone in keys.items():
            self._maps.delete(table, gone)
        self._ways.free(free)
        return failures

    def _close_port(self, port: FastPort) -> None:
        index = self._interfaces.index(port.interface)
        if self._interfaces.state_of(index) is not None:  # its program went with it else
            self._hooks.detach(port.interface, index)
        self._write_untagged(index, Port(0))
        self._maps.delete("ports", [PortKey(index).pack()])

    def retire(self) -> None:
        """Detach every program of ours. Raises OSError for one that cannot be."""
        for name in self._port_names():
            with suppress(NoSuchInterface):  # its program went with it
                self._close_port(FastPort(name, Facing.CORE))

    # --- reading back ------------------------------------------------------------------------

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, FastObject]:
        """Return what the maps and hooks hold, in the very values `put` takes."""
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

    def counted_by(self, objects: Iterable[FastObject]) -> tuple[int, int] | None:
        """Return (packets, bytes) that entries counted together; None: none of them counts."""
        numbers: set[int] = set()
        for item in objects:
            match item:
                case FastSid():
                    numbers.add(self._sids.get(item.sid.packed, 0))
                case FastSteering() | FastDelivery() | FastDrop():
                    numbers.add(self._entries.counter(item.prefix))
                case FastFlow():
                    numbers.add(self._flows.counter(item.number))
        found = self._maps.counters(numbers - {0}).values()
        return (sum(c.packets for c in found), sum(c.octets for c in found)) if found else None

    def sid_traffic(self) -> tuple[SidTraffic, ...]:
        """Return what was handled at each SID that handled any, by outer packets, in their order.

        Raises OSError.
        """
        found = {key: Sid.unpack(value) for key, value in self._maps.read_all("sids").items()}
        counted = self._maps.counters({sid.counter for sid in found.values()} - {0})
        told = []
        for key, sid in sorted(found.items()):
            behavior, counter = values.behavior_of(sid.behavior), counted.get(sid.counter)
            if behavior is not None and counter is not None and counter.packets:
                told.append(SidTraffic(IPv6Address(key), behavior, counter.packets, counter.octets))
        return tuple(told)

    def _read_everything(self) -> dict[Identity, FastObject]:
        self._interfaces.refresh()
        self._adopt()
        items: list[FastObject | None] = [self._port(name) for name in self._port_names()]
        items += self._entries.read_all()
        for key, value in self._maps.read_all("sids").items():
            address = IPv6Address(key)
            items.append(values.sid_of(address, Sid.unpack(value), self._interfaces))
        items += [
            values.binding_of(BindingKey.unpack(key), self._interfaces)
            for key in self._maps.read_all("bindings")
        ]
        items += self._flows.read_all()
        items += self._read_routes()
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
            case "fast-route":
                locator = IPv6Network(str(parts[0]))
                value = self._maps.get("routes", values.route_key(locator))
                return None if value is None else self._route(locator, value)
            case "fast-binding":
                item = FastBinding(IPv6Network(str(parts[0])), str(parts[1]), str(parts[2]))
                try:
                    key = values.binding(item, self._interfaces).pack()
                except NoSuchInterface:
                    return None
                return item if self._maps.get("bindings", key) is not None else None
            case "fast-flow":
                number = parts[2]
                assert isinstance(number, int)
                return self._flows.read(IPv6Network(str(parts[0])), bool(parts[1]), number)
            case "fast-prefix":
                return self._entries.read(IPv6Network(str(parts[0])))
            case _:
                raise ValueError(f"not the identity of a fast path entry: {identity!r}")

    def _read_routes(self) -> list[FastRoute | None]:
        settings = self._read_settings()
        return [
            self._route(values.locator_of(key, settings.locator_length), value)
            for key, value in self._maps.read_all("routes").items()
            if settings is not None
        ]

    def _route(self, locator: IPv6Network, value: bytes) -> FastRoute | None:
        hop = self._hops.named(int.from_bytes(value, "little"))
        if hop is None:
            return None
        return FastRoute(locator, self._interfaces.name(hop.ifindex), hop.next_hop)

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
        value = self._maps.get("ports", PortKey(index).pack())
        if value is None:
            return None
        port = Port.unpack(value)
        facing = values.facing(port.role)
        if facing is None:
            return None
        program = "sid" if facing is Facing.CORE else "steer"
        if not self._hooks.attached(name, index, program):
            return None
        return FastPort(name, facing, bool(port.detect))
