"""Plans: all that one router must hold, as entries with stable keys.

A plan is a set of entries with distinct keys. Two plans are compared entry by entry; an
entry that changes keeps its key and is replaced in the kernel, never deleted and added.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from srv6dmm.model.addresses import as_text
from srv6dmm.model.sid import Behavior, EncapMode, Flavor, SegmentList

_FIRST_FLOW = 0x4000_0000


def mobile_key(prefix: IPv6Network) -> str:
    """Return the key of whatever a router does with a mobile prefix: one entry at a time."""
    return f"mobile {as_text(prefix)}"


def advertise_key(mobile_node: str, interface: str) -> str:
    """Return the key of a mobile node's advertisement."""
    return f"advertise {mobile_node}/{interface}"


def sid_key(sid: IPv6Address) -> str:
    """Return the key of a local SID."""
    return f"sid {as_text(sid)}"


def flow_key(rule: str, source: IPv6Network, destination: IPv6Network) -> str:
    """Return the key of what a flow rule does with packets from and to somewhere."""
    return f"flow {rule} {as_text(source)} {as_text(destination)}"


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What the router itself must be set to. Exactly one per plan."""

    loopback: IPv6Address | None
    """Address on lo, and `ip sr tunsrc`. None on a plain transit router."""
    link_local: IPv6Address
    """Address of every core interface."""
    core_interfaces: tuple[str, ...]
    host_interfaces: tuple[tuple[str, IPv6Address, int], ...]
    """(interface, router's address, prefix length) towards fixed correspondents."""
    access_interface: str | None
    access_link_local: IPv6Address | None
    access_mac: str | None
    sid_block: IPv6Network | None = None
    """Where every SID of the domain lies: nobody outside may send there (RFC 8754 5.1)."""
    locator_length: int = 0
    """Bits of every locator of the domain; 0 where they differ."""
    neighbours: tuple[tuple[str, IPv6Address], ...] = ()
    """(core interface, link-local address of the router at its far end), in order."""

    @property
    def key(self) -> str:
        return "settings"


@dataclass(frozen=True, slots=True)
class SteeringList:
    """A segment list and how its first segment is reached."""

    segments: SegmentList
    interface: str
    """Output interface towards the first segment (seg6 routes need a device)."""
    next_hop: IPv6Address
    """The neighbour's link-local address there."""
    mtu: int
    """Octets of the greatest packet, outer header included, that every link on the way takes."""
    weight: int = 1
    """Its share of the flows is weight by sum of weights (RFC 9256 section 2.11)."""
    return_segments: SegmentList = ()
    """The way home of a probe of the list, as near to its path as can be; (): plain routing."""


@dataclass(frozen=True, slots=True)
class UnderlayRoute:
    """Plain route to a locator, a pool or an announced prefix. Several next hops: ECMP."""

    prefix: IPv6Network
    next_hops: tuple[tuple[str, IPv6Address], ...]
    """(interface, link-local address of the neighbour), sorted."""
    repair: SteeringList | None = None
    """Used at once when the interface loses its carrier: leads packets, encapsulated, to a router
    from which they go on without it (TI-LFA). Without segments: to a next hop, as they are."""

    @property
    def key(self) -> str:
        return f"underlay {as_text(self.prefix)}"


@dataclass(frozen=True, slots=True)
class UnreachableRoute:
    """A pool's own covering route: what is not assigned is answered as unreachable."""

    prefix: IPv6Network

    @property
    def key(self) -> str:
        return f"unreachable {self.prefix}"


@dataclass(frozen=True, slots=True)
class LocalSid:
    """A local SID (seg6local route, with counters where the kernel has them)."""

    sid: IPv6Address
    behavior: Behavior
    interface: str | None = None
    """Output interface of End.X / End.DX6."""
    next_hop: IPv6Address | None = None
    """Next hop of End.X / End.DX6."""
    next_hop4: IPv4Address | None = None
    """Next hop of End.DX4."""
    repair: str | None = None
    """Of End.X: the interface on which the SID becomes a plain End when its own has no carrier, so
    that packets go on to their next segment another way."""
    table: int | None = None
    """Routing table of End.DT6."""
    segments: SegmentList = ()
    """The policy's list, which End.B6.Encaps puts before a packet."""
    flavors: tuple[Flavor, ...] = ()
    prefix_length: int = 128
    """Bits of it that count: a uN takes whatever follows its locator (RFC 9800 section 4.1)."""

    @property
    def key(self) -> str:
        whole = self.prefix_length == 128
        return sid_key(self.sid) if whole else f"{sid_key(self.sid)}/{self.prefix_length}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Mobile prefix -> the mobile node on the access interface (host route, neighbour)."""

    prefix: IPv6Network
    interface: str
    link_layer_address: str
    link_local: IPv6Address
    mtu: int
    """Octets of the greatest packet the interface takes."""
    mobile_node: str
    epoch: int = field(compare=False)
    """For people only: an entry that differs in nothing else is the same entry."""

    @property
    def key(self) -> str:
        return mobile_key(self.prefix)


@dataclass(frozen=True, slots=True)
class SteeringEntry:
    """Mobile prefix -> segment list, at one head-end."""

    prefix: IPv6Network
    segments: SegmentList
    mode: EncapMode
    interface: str
    """Output interface towards the first segment (seg6 routes need a device)."""
    next_hop: IPv6Address
    """The neighbour's link-local address there."""
    mtu: int
    """Octets of the greatest packet, outer header included, that every link on the way takes."""
    mobile_node: str
    epoch: int = field(compare=False)
    """For people only: an entry that differs in nothing else is the same entry."""
    backup: SteeringList | None = None
    """Used at once when the interface loses its carrier."""
    return_segments: SegmentList = ()
    """As of a SteeringList."""

    @property
    def key(self) -> str:
        return mobile_key(self.prefix)


@dataclass(frozen=True, slots=True)
class FlowSelector:
    """What packets a flow entry takes, by their own header as they come; None: any."""

    source: IPv6Network
    destination: IPv6Network
    protocol: int | None = None
    source_ports: tuple[int, int] | None = None
    """(first, last), both included."""
    destination_ports: tuple[int, int] | None = None
    dscp: int | None = None


@dataclass(frozen=True, slots=True)
class FlowSteering:
    """Packets of a flow -> segment lists by weight, at one head-end, before any prefix is asked.

    One of source and destination lies in a mobile prefix, a /64. Without lists, packets are
    dropped.
    """

    rule: str
    """Name of the flow rule."""
    selector: FlowSelector
    order: int
    """0..8191: of the entries that match a packet, the one with the smallest decides."""
    lists: tuple[SteeringList, ...]
    mode: EncapMode
    mobile_node: str
    backup: SteeringList | None = None
    """Used at once when a list's interface loses its carrier."""
    uplink: bool = False
    """Packets from a mobile prefix; else packets to one."""
    passes_on: tuple[IPv6Network, ...] = ()
    """Destinations within the selector's of which the entry says nothing: the next one decides."""

    def takes(self, destination: IPv6Address) -> bool:
        """Tell whether the entry speaks of a destination that its selector matches."""
        return not any(destination in prefix for prefix in self.passes_on)

    @property
    def own_prefix(self) -> IPv6Network:
        """The mobile node's side of the selector."""
        return self.selector.source if self.uplink else self.selector.destination

    @property
    def key(self) -> str:
        selector = self.selector
        return flow_key(self.rule, selector.source, selector.destination)

    @property
    def number(self) -> int:
        """What routers know the entry by, from 0x40000000 on: made of its key alone."""
        digest = hashlib.sha256(self.key.encode()).digest()
        return _FIRST_FLOW | int.from_bytes(digest[:4], "big") >> 2


@dataclass(frozen=True, slots=True)
class UplinkBinding:
    """Mobile prefix that may still enter here, while its node's last packets are on the way.

    At the router that delivers a prefix the Delivery says so (RFC 5213 section 6.10.5).
    """

    prefix: IPv6Network
    interface: str
    link_layer_address: str
    mobile_node: str

    @property
    def key(self) -> str:
        return f"uplink {as_text(self.prefix)}"


@dataclass(frozen=True, slots=True)
class DropEntry:
    """Mobile prefix of a node that just left: dropped silently (RFC 5213 section 5.3.5)."""

    prefix: IPv6Network
    mobile_node: str
    epoch: int = field(compare=False)
    """For people only: an entry that differs in nothing else is the same entry."""

    @property
    def key(self) -> str:
        return mobile_key(self.prefix)


@dataclass(frozen=True, slots=True)
class AdvertisedPrefix:
    """A prefix information option. Lifetimes in seconds; preferred 0 = deprecated."""

    prefix: IPv6Network
    valid_s: int
    preferred_s: int


@dataclass(frozen=True, slots=True)
class Advertisement:
    """The unicast RA that one mobile node gets (RFC 8885 section 3.7, RFC 5213 section 6.7)."""

    mobile_node: str
    node_interface: str
    interface: str
    link_layer_address: str
    link_local: IPv6Address
    prefixes: tuple[AdvertisedPrefix, ...]
    mtu: int
    router_lifetime_s: int
    epoch: int
    """Compared: a new epoch is a new arrival, and a new arrival gets its RA at once."""

    @property
    def key(self) -> str:
        return advertise_key(self.mobile_node, self.node_interface)


@dataclass(frozen=True, slots=True)
class WatchedList:
    """A segment list that did not answer: not in use, and probed until it does."""

    segments: SegmentList
    mode: EncapMode
    return_segments: SegmentList = ()

    @property
    def key(self) -> str:
        return f"watch {' '.join(map(as_text, self.segments))}"


PlanEntry = (
    RouterSettings
    | UnderlayRoute
    | UnreachableRoute
    | LocalSid
    | Delivery
    | SteeringEntry
    | FlowSteering
    | DropEntry
    | UplinkBinding
    | Advertisement
    | WatchedList
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A router's whole plan. `entries` by key; `revision` is the state's revision."""

    router: str
    revision: int
    entries: dict[str, PlanEntry]


@dataclass(frozen=True, slots=True)
class PlanDelta:
    """From the plan at `base` to the plan at `revision`: entries to put, keys that go."""

    router: str
    base: int
    revision: int
    put: tuple[PlanEntry, ...]
    gone: tuple[str, ...]
