"""What the maps of a test hold, as values that both the maps and the model are filled from.

The layouts are those of ebpf/lib/layout.h, written out here a second time on purpose: a test that
packed with the code under test could not see a field at the wrong place.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

ACCESS, OUTSIDE, CORE = 1, 2, 3
ENCAP, DELIVER, DROP, KERNEL = 1, 2, 3, 4
NO_ORDER = 0xFFFFFFFF
MOST_RULES, MOST_LISTS = 16, 4
REDIRECTABLE = 1  # PATH_REDIRECT
PEER, DIRECT = 1, 2  # DELIVER_PEER, DELIVER_DIRECT
PSP = 1  # SID_PSP
END, END_X, END_DX6, END_DX4, END_DT6, END_DT4, END_MAP = 1, 5, 16, 17, 18, 19, 40
HEADER = 144  # MAX_HEADER


def mac(text: str) -> bytes:
    """Return the six octets of a link-layer address."""
    return bytes.fromhex(text.replace(":", ""))


def octets(address: str) -> bytes:
    """Return an IPv6 address as it is on the wire."""
    return IPv6Address(address).packed


def half(prefix: str) -> bytes:
    """Return the eight octets of a /64, or of the /64 an address is in."""
    return octets(prefix.split("/", maxsplit=1)[0])[:8]


@dataclass(frozen=True)
class Port:
    role: int
    detect: bool = False


@dataclass(frozen=True)
class Steer:
    """What to do with a destination; `path` for ENCAP."""

    action: int
    path: int = 0
    counter: int = 0

    def pack(self) -> bytes:
        return struct.pack("=4I", self.action, self.path, self.counter, 0)


@dataclass(frozen=True)
class Path:
    """`header`: the outer header as it stands in the map, 40 octets or more."""

    ifindex: int
    header: bytes
    mtu: int = 1600
    counter: int = 0
    flags: int = 0
    next_hop: str = "fe80::99"
    last: str = "::"
    hop: int = 0

    def pack(self) -> bytes:
        fixed = struct.pack(
            "=IHHIHH",
            *(self.ifindex, len(self.header), self.mtu, self.counter, self.flags, self.hop),
        )
        packed = (
            fixed + octets(self.next_hop) + octets(self.last) + self.header.ljust(HEADER, b"\0")
        )
        assert len(packed) == 192, "a header of more than 144 octets"
        return packed


@dataclass(frozen=True)
class Hop:
    """A next hop whose addresses are known if `resolved`."""

    ifindex: int
    mac: str
    source_mac: str
    resolved: bool = True
    down: bool = False
    mtu: int = 1600
    next_hop: str = "fe80::99"

    def pack(self) -> bytes:
        fixed = struct.pack("=IHH", self.ifindex, 2 if self.down else self.resolved, self.mtu)
        return fixed + mac(self.mac) + mac(self.source_mac) + bytes(4) + octets(self.next_hop)


@dataclass(frozen=True)
class Delivery:
    ifindex: int
    mac: str
    source_mac: str
    next_hop: str
    counter: int = 0
    flags: int = 0
    mtu: int = 0

    def pack(self) -> bytes:
        return (
            struct.pack("=II", self.ifindex, self.counter)
            + mac(self.mac)
            + mac(self.source_mac)
            + struct.pack("=HH", self.flags, self.mtu)
            + octets(self.next_hop)
        )


@dataclass(frozen=True)
class Sid:
    behavior: int
    flags: int = 0
    ifindex: int = 0
    counter: int = 0
    next_hop: str = "::"
    mapped: str = "::"
    hop: int = 0

    def pack(self) -> bytes:
        if self.behavior == END_DX4:
            hop = IPv4Address(self.next_hop).packed.ljust(16, b"\0")
        else:
            hop = octets(self.next_hop)
        return (
            struct.pack("=IHHII", self.behavior, self.flags, self.hop, self.ifindex, self.counter)
            + hop
            + octets(self.mapped)
        )


@dataclass(frozen=True)
class Flow:
    source: str
    destination: str
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    uplink: bool = False

    def pack(self) -> bytes:
        return (
            octets(self.source)
            + octets(self.destination)
            + struct.pack(
                "!HHBB2x",
                *(self.source_port, self.destination_port, self.protocol, self.uplink),
            )
        )

    @property
    def set(self) -> tuple[bytes, bool]:
        """The set of rules it is of."""
        return half(self.source if self.uplink else self.destination), self.uplink


@dataclass(frozen=True)
class Exact:
    """A rule of one 5-tuple."""

    action: int
    path: int = 0
    counter: int = 0
    order: int = 0

    def pack(self) -> bytes:
        return struct.pack("=6I", self.action, self.path, self.counter, 0, self.order, 0)


@dataclass(frozen=True)
class Rule:
    """`paths`: with their weights."""

    order: int
    action: int
    paths: tuple[tuple[int, int], ...] = ()
    counter: int = 0
    source: str = "::/0"
    destination: str = "::/0"
    protocol: int | None = None
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    dscp: int | None = None

    def pack(self) -> bytes:
        ends = [IPv6Network(end, strict=False) for end in (self.source, self.destination)]
        packed = b"".join(end.network_address.packed + end.netmask.packed for end in ends)
        packed += struct.pack("=4I", self.order, 0, self.action, self.counter)
        packed += struct.pack("=2H", *(self.source_ports or (0, 65535)))
        packed += struct.pack("=2H", *(self.destination_ports or (0, 65535)))
        for value in (self.protocol, self.dscp):
            packed += bytes((value or 0, 0 if value is None else 255))
        packed += struct.pack(
            "=I", bool(self.source_ports is not None) | 2 * (self.destination_ports is not None)
        )
        numbers, sums, total = [0] * MOST_LISTS, [], 0
        for place in range(MOST_LISTS):
            if place < len(self.paths):
                numbers[place], weight = self.paths[place]
                total += weight
            sums.append(total)
        packed += struct.pack("=8I", *numbers, *sums)
        assert len(packed) == 128
        return packed


@dataclass(frozen=True)
class Ruleset:
    """The rules of a prefix and direction, by order."""

    rules: tuple[Rule, ...] = ()
    exact: bool = False
    known: int = NO_ORDER

    def pack(self) -> bytes:
        packed = struct.pack("=4I", len(self.rules), self.exact, self.known, 0)
        packed += b"".join(rule.pack() for rule in self.rules)
        return packed.ljust(16 + 128 * MOST_RULES, b"\0")


@dataclass(frozen=True)
class Binding:
    prefix: str
    ifindex: int
    mac: str
    vlan: int = 0

    def pack(self) -> bytes:
        return (
            half(self.prefix)
            + struct.pack("=II", self.ifindex, self.vlan)
            + mac(self.mac)
            + b"\0\0"
        )


@dataclass
class Tables:
    """All of a router's entries. `ports` by (ifindex, VLAN)."""

    sid_block: IPv6Network | None = None
    event_gap_ms: int = 1000
    ports: dict[tuple[int, int], Port] = field(default_factory=dict)
    prefixes: dict[str, Steer] = field(default_factory=dict)
    prefixes4: dict[str, Steer] = field(default_factory=dict)
    flows: dict[Flow, Exact] = field(default_factory=dict)
    ruled: dict[tuple[str, bool], Ruleset] = field(default_factory=dict)
    """By prefix and whether it is of packets from it (uplink); those of `flows` are added."""
    foreign: dict[str, Steer] = field(default_factory=dict)
    paths: dict[int, Path] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)
    sids: dict[str, Sid] = field(default_factory=dict)
    hops: dict[int, Hop] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    """Locator -> number of its next hop. All locators are equally long."""

    def sets(self) -> dict[tuple[bytes, bool], Ruleset]:
        """Return the sets of rules; those with a 5-tuple among `flows` say so."""
        found = {(half(prefix), up): value for (prefix, up), value in self.ruled.items()}
        for flow in self.flows:
            found[flow.set] = replace(found.get(flow.set, Ruleset()), exact=True)
        return found

    def packed(self) -> dict[str, dict[bytes, bytes]]:
        """Return every map's elements."""
        block = mask = bytes(16)
        if self.sid_block is not None:
            block, mask = self.sid_block.network_address.packed, self.sid_block.netmask.packed
        lengths = {IPv6Network(locator).prefixlen for locator in self.routes} or {0}
        settings = struct.pack(
            "=4I",
            sum({2 if uplink else 1 for _, uplink in self.sets()}),
            bool(self.foreign),
            self.event_gap_ms,
            *lengths,
        )
        return {
            "config": {bytes(4): block + mask + settings},
            "ports": {
                struct.pack("=II", *key): struct.pack("=II", port.role, port.detect)
                for key, port in self.ports.items()
            },
            "prefixes": {half(key): entry.pack() for key, entry in self.prefixes.items()},
            "prefixes4": {
                IPv4Network(key).network_address.packed: entry.pack()
                for key, entry in self.prefixes4.items()
            },
            "flows": {key.pack(): entry.pack() for key, entry in self.flows.items()},
            "ruled": {
                prefix + struct.pack("=II", uplink, 0): found.pack()
                for (prefix, uplink), found in self.sets().items()
            },
            "foreign": {
                struct.pack("=I", network.prefixlen) + network.network_address.packed: entry.pack()
                for network, entry in ((IPv6Network(k), e) for k, e in self.foreign.items())
            },
            "paths": {struct.pack("=I", key): entry.pack() for key, entry in self.paths.items()},
            "deliveries": {half(key): entry.pack() for key, entry in self.deliveries.items()},
            "bindings": {entry.pack(): struct.pack("=I", 1) for entry in self.bindings},
            "sids": {octets(key): entry.pack() for key, entry in self.sids.items()},
            "hops": {struct.pack("=I", key): entry.pack() for key, entry in self.hops.items()},
            "routes": {
                struct.pack(
                    "=Q", int(network.network_address) >> 128 - network.prefixlen
                ): struct.pack("=I", hop)
                for network, hop in ((IPv6Network(key), hop) for key, hop in self.routes.items())
            },
        }
