"""Kernel objects as values: what is desired, and what was read back, in one vocabulary.

How a fresh process knows that an object is ours: routes and neighbours carry protocol
`PROTOCOL`; routes also carry `METRIC`; addresses carry address protocol `PROTOCOL` where the
kernel has that (Linux 5.18), else they are exactly those of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from srv6dmm.dataplane.fastpath.objects import FastObject
from srv6dmm.model.addresses import as_text
from srv6dmm.model.sid import Behavior, EncapMode, Flavor, SegmentList

PROTOCOL = 201
"""Routing protocol number of every route and neighbour of ours (rt_protos name srv6dmm)."""
METRIC = 201
"""Metric of every IPv6 route of ours, so that a replace can hit no route of anybody else's."""
BACKUP_METRIC = 202
"""Of a route that serves when the one of METRIC has no carrier."""
MAIN_TABLE = 254


class RouteKind(StrEnum):
    """Route types we make."""

    UNICAST = "unicast"
    UNREACHABLE = "unreachable"
    BLACKHOLE = "blackhole"
    THROW = "throw"
    """The lookup goes on with the next rule, as if the table had no route."""


@dataclass(frozen=True, slots=True)
class Seg6Encap:
    """LWTUNNEL_ENCAP_SEG6: segments in travel order."""

    mode: EncapMode
    segments: SegmentList


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a unicast route leads: an interface name and, where there is one, a gateway."""

    interface: str
    via: IPv6Address | None = None
    weight: int = 1
    """1..256: its share of the flows, among several next hops."""
    encap: Seg6Encap | None = None
    """Where several next hops differ in it; what all have in common is the route's."""


def _hop_order(hop: NextHop) -> tuple[str, int, tuple[int, ...]]:
    segments = tuple(map(int, hop.encap.segments)) if hop.encap is not None else ()
    return hop.interface, -1 if hop.via is None else int(hop.via), segments


@dataclass(frozen=True, slots=True)
class Seg6Local:
    """LWTUNNEL_ENCAP_SEG6_LOCAL: a local SID's action and its parameters."""

    behavior: Behavior
    next_hop: IPv6Address | None = None
    next_hop4: IPv4Address | None = None
    interface: str | None = None
    table: int | None = None
    segments: SegmentList = ()
    """What End.B6.Encaps puts before a packet, in travel order."""
    flavors: tuple[Flavor, ...] = ()
    count: bool = field(default=True, compare=False)
    """Ask for SEG6_LOCAL_COUNTERS (Linux 5.13). Left out of comparisons of read-backs."""

    def __post_init__(self) -> None:
        if len(self.flavors) > 1:  # a set in the kernel: one order, so that == decides
            object.__setattr__(self, "flavors", tuple(f for f in Flavor if f in self.flavors))


@dataclass(frozen=True, slots=True)
class Route:
    """A route. Identity in the kernel: (prefix, table, metric)."""

    prefix: IPv6Network | IPv4Network
    kind: RouteKind = RouteKind.UNICAST
    next_hops: tuple[NextHop, ...] = ()
    encap: Seg6Encap | Seg6Local | None = None
    table: int = MAIN_TABLE
    metric: int = METRIC

    def __post_init__(self) -> None:
        if len(self.next_hops) > 1:  # a set in the kernel: one order, so that == decides
            object.__setattr__(self, "next_hops", tuple(sorted(self.next_hops, key=_hop_order)))

    @property
    def identity(self) -> tuple[str, str, int, int]:
        return ("route", as_text(self.prefix), self.table, self.metric)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that has IPv6 packets of a flow looked up in a table of their own.

    Identity: the table; a changed rule is there before the old one goes. None: anything will do.
    """

    table: int
    preference: int
    """The smaller is asked first; 32766 is the main table's."""
    source: IPv6Network
    destination: IPv6Network
    protocol: int | None = None
    source_ports: tuple[int, int] | None = None
    """(first, last), both included."""
    destination_ports: tuple[int, int] | None = None
    dscp: int | None = None

    @property
    def identity(self) -> tuple[str, int]:
        return ("rule", self.table)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour entry. Identity: (interface, address)."""

    interface: str
    address: IPv6Address
    link_layer_address: str

    @property
    def identity(self) -> tuple[str, str, str]:
        return ("neighbour", self.interface, as_text(self.address))


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address on an interface (no duplicate address detection). Identity: all of it."""

    interface: str
    address: IPv6Address
    prefix_length: int

    @property
    def identity(self) -> tuple[str, str, str, int]:
        return ("address", self.interface, as_text(self.address), self.prefix_length)


@dataclass(frozen=True, slots=True)
class TunnelSource:
    """`ip sr tunsrc`: without it the kernel selects a source for every packet."""

    address: IPv6Address

    @property
    def identity(self) -> tuple[str]:
        return ("tunsrc",)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A sysctl below /proc/sys, by its slashed name, and the value it must have."""

    name: str
    value: str

    @property
    def identity(self) -> tuple[str, str]:
        return ("sysctl", self.name)


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An interface that is up and has this link-layer address (None: any)."""

    interface: str
    link_layer_address: str | None

    @property
    def identity(self) -> tuple[str, str]:
        return ("link", self.interface)


NativeObject = Route | Rule | Neighbour | InterfaceAddress | TunnelSource | Sysctl | LinkAddress
"""What the kernel itself has."""
KernelObject = NativeObject | FastObject
Identity = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class KernelFailure:
    """The kernel refused one object: errno and what it said (extended ack where given)."""

    identity: Identity
    errno: int
    reason: str
