"""Keys and values of flow rules: that part of ebpf/lib/layout.h, mirrored. See layout.py."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.dataplane.fastpath.structures import Layout, layout

MAX_RULES = 16
MAX_LISTS = 4
NO_ORDER = 0xFFFF_FFFF

_RULED_KEY, _RULED_KEY_LAYOUT = layout("8s I I", "prefix uplink part")
_RULE, _RULE_LAYOUT = layout(
    "16s 16s 16s 16s I I I I H H H H B B B B I 4I 4I",
    "source source_mask destination destination_mask order id action counter source_first "
    "source_last destination_first destination_last protocol protocol_mask dscp dscp_mask flags "
    "paths sums",
)
_RULESET, _RULESET_LAYOUT = layout(
    f"I I I I {MAX_RULES * _RULE_LAYOUT.size}s", "count exact known reserved rules"
)
_FLOW_KEY, _FLOW_KEY_LAYOUT = layout(
    "16s 16s 2s 2s B B 2s", "source destination source_port destination_port protocol uplink pad"
)
_FLOW, _FLOW_LAYOUT = layout("4I I I", "steer order id")

RULE_STRUCTURES: dict[str, Layout] = {
    "ruled_key": _RULED_KEY_LAYOUT,
    "rule": _RULE_LAYOUT,
    "ruleset": _RULESET_LAYOUT,
    "flow_key": _FLOW_KEY_LAYOUT,
    "flow": _FLOW_LAYOUT,
}


class FlowSets(IntFlag):
    """enum flow_sets."""

    DOWNLINK = 1
    UPLINK = 2


class RuleFlag(IntFlag):
    """enum rule_flags."""

    SOURCE_PORTS = 1
    DESTINATION_PORTS = 2


@dataclass(frozen=True, slots=True)
class RuledKey:
    """struct ruled_key."""

    prefix: bytes
    """The first eight octets of a /64."""
    uplink: bool
    part: int = 0

    def pack(self) -> bytes:
        return _RULED_KEY.pack(self.prefix, self.uplink, self.part)

    @classmethod
    def unpack(cls, data: bytes) -> RuledKey:
        prefix, uplink, part = _RULED_KEY.unpack(data)
        return cls(prefix, bool(uplink), part)


@dataclass(frozen=True, slots=True)
class Rule:
    """struct rule. `paths` and `weights` are as long as there are lists."""

    source: IPv6Network
    destination: IPv6Network
    order: int
    id: int
    action: int
    counter: int = 0
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    protocol: int | None = None
    dscp: int | None = None
    paths: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()

    def pack(self) -> bytes:
        flags = RuleFlag(0)
        flags |= RuleFlag.SOURCE_PORTS if self.source_ports else RuleFlag(0)
        flags |= RuleFlag.DESTINATION_PORTS if self.destination_ports else RuleFlag(0)
        paths = (*self.paths, *(0,) * (MAX_LISTS - len(self.paths)))
        return _RULE.pack(
            *(self.source.network_address.packed, self.source.netmask.packed),
            *(self.destination.network_address.packed, self.destination.netmask.packed),
            *(self.order, self.id, self.action, self.counter),
            *(self.source_ports or (0, 0xFFFF)),
            *(self.destination_ports or (0, 0xFFFF)),
            *_masked(self.protocol),
            *_masked(self.dscp),
            flags,
            *paths,
            *_sums(self.weights),
        )

    @classmethod
    def unpack(cls, data: bytes) -> Rule:
        source, source_mask, destination, destination_mask, *rest = _RULE.unpack(data)
        order, number, action, counter, *rest = rest
        *ports, protocol, protocol_mask, dscp, dscp_mask, flags = rest[:9]
        paths = tuple(path for path in rest[9 : 9 + MAX_LISTS] if path)
        sums = rest[9 + MAX_LISTS :][: len(paths)]
        weights = tuple(upto - before for before, upto in zip((0, *sums), sums, strict=False))
        return cls(
            _network(source, source_mask),
            _network(destination, destination_mask),
            order,
            number,
            action,
            counter,
            (ports[0], ports[1]) if flags & RuleFlag.SOURCE_PORTS else None,
            (ports[2], ports[3]) if flags & RuleFlag.DESTINATION_PORTS else None,
            protocol if protocol_mask else None,
            dscp if dscp_mask else None,
            paths,
            weights,
        )


def _masked(wanted: int | None) -> tuple[int, int]:
    return (0, 0) if wanted is None else (wanted, 0xFF)


def _sums(weights: tuple[int, ...]) -> tuple[int, ...]:
    sums = [sum(weights[: upto + 1]) for upto in range(MAX_LISTS)]
    return tuple(sums)


def _network(address: bytes, mask: bytes) -> IPv6Network:
    return IPv6Network((address, int.from_bytes(mask, "big").bit_count()))


@dataclass(frozen=True, slots=True)
class Ruleset:
    """struct ruleset."""

    rules: tuple[Rule, ...]
    exact: bool = False
    known: int = NO_ORDER

    def pack(self) -> bytes:
        rules = b"".join(rule.pack() for rule in self.rules)
        return _RULESET.pack(len(self.rules), self.exact, self.known, 0, rules)

    @classmethod
    def unpack(cls, data: bytes) -> Ruleset:
        count, exact, known, _, rules = _RULESET.unpack(data)
        size = _RULE.size
        each = (rules[at : at + size] for at in range(0, min(count, MAX_RULES) * size, size))
        return cls(tuple(map(Rule.unpack, each)), bool(exact), known)


@dataclass(frozen=True, slots=True)
class FlowKey:
    """struct flow_key. Ports are 0 for protocols without any."""

    source: IPv6Address
    destination: IPv6Address
    source_port: int
    destination_port: int
    protocol: int
    uplink: bool = False

    def pack(self) -> bytes:
        return _FLOW_KEY.pack(
            self.source.packed,
            self.destination.packed,
            self.source_port.to_bytes(2, "big"),
            self.destination_port.to_bytes(2, "big"),
            self.protocol,
            self.uplink,
            bytes(2),
        )

    @classmethod
    def unpack(cls, data: bytes) -> FlowKey:
        source, destination, from_port, to_port, protocol, uplink, _ = _FLOW_KEY.unpack(data)
        return cls(
            IPv6Address(source),
            IPv6Address(destination),
            int.from_bytes(from_port, "big"),
            int.from_bytes(to_port, "big"),
            protocol,
            bool(uplink),
        )


@dataclass(frozen=True, slots=True)
class Flow:
    """struct flow: `action`, `path` and `counter` are those of its struct steer."""

    action: int
    path: int
    counter: int
    order: int
    id: int

    def pack(self) -> bytes:
        return _FLOW.pack(self.action, self.path, self.counter, 0, self.order, self.id)

    @classmethod
    def unpack(cls, data: bytes) -> Flow:
        action, path, counter, _, order, number = _FLOW.unpack(data)
        return cls(action, path, counter, order, number)
