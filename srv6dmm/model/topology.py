"""Topology: routers, links, prefix pools and external prefixes of one domain."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from srv6dmm.model.sid import EncapMode, Locator

ROUTER_LINK_LOCAL = IPv6Address("fe80::1")
MAX_METRIC = (1 << 24) - 1
"""Wide metrics of IS-IS (RFC 5305 section 3)."""
MAX_DELAY_US = 10_000_000
"""Of one link, one way."""
MAX_SEGMENTS = 16
"""No segment list is longer: the kernel's SRH could hold more, no path of ours needs more."""

REPAIRED = 64
"""Domains of so many routers have repairs at every router: each pair of routers takes a search."""


class Role(StrEnum):
    """What a node is. The first three are routers; hosts exist in a lab only."""

    ACCESS = "access"
    BORDER = "border"
    TRANSIT = "transit"
    CORRESPONDENT = "correspondent"
    """A fixed host: behind an access router, or outside the domain behind a border router."""
    MOBILE = "mobile"


HEAD_END_ROLES = frozenset({Role.ACCESS, Role.BORDER})
ROUTER_ROLES = frozenset({Role.ACCESS, Role.BORDER, Role.TRANSIT})


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `index` (1..4095, unique among routers) numbers its link-local addresses."""

    name: str
    role: Role
    index: int
    locator: Locator | None = None
    """Set for every SR-capable router; None for plain transit routers and hosts."""
    pools: tuple[IPv6Network, ...] = ()
    """Prefix pools an access router owns; /64s for mobile nodes are taken from these."""
    announces: tuple[IPv6Network, ...] = ()
    """Fixed prefixes reached through this router: networks of correspondents, the outside."""
    access_interface: str | None = None
    """The interface that faces mobile nodes (access routers only)."""
    mac: str | None = None
    """A mobile node's link-layer address."""
    next_hop4: IPv4Address | None = None
    """Where End.DX4 delivers IPv4 payload (routers only; None: no End.DX4)."""
    explicit_sids: tuple[tuple[str, IPv6Address], ...] = ()
    """SIDs that override the numbering: ("end" | "end-dt6" | "end-dx4", SID)."""
    maximum_sid_depth: int = MAX_SEGMENTS
    """Most SIDs this head-end can impose on a packet (SRH Max H.Encaps, RFC 9352 section 4.3)."""
    services: tuple[tuple[str, IPv6Address], ...] = ()
    """(name, service SID) of each function behind this router that a flow can be led through."""
    anycast: tuple[tuple[str, IPv6Address], ...] = ()
    """(group, SID) of each anycast group it belongs to: all of them have the same SID as End."""

    @property
    def is_router(self) -> bool:
        return self.role in ROUTER_ROLES

    @property
    def is_head_end(self) -> bool:
        return self.role in HEAD_END_ROLES

    @property
    def loopback(self) -> IPv6Address | None:
        """The router's own address: function 1 of its locator's lowest /64 (LOC::1).

        It is not a SID; it is the tunnel source and the source of ICMPv6 errors.
        """
        if self.locator is None:
            return None
        return IPv6Address(int(self.locator.prefix.network_address) + 1)

    @property
    def link_local(self) -> IPv6Address:
        """The link-local address on every core-facing interface: fe80::<index>."""
        return IPv6Address((0xFE80 << 112) + self.index)


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """One end of a link: a node's name and its interface."""

    node: str
    interface: str

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"


@dataclass(frozen=True, slots=True)
class Link:
    """A point-to-point link. Every attribute holds for both directions.

    `metric` is the IGP metric (1..2^24-1).
    """

    a: LinkEnd
    b: LinkEnd
    metric: int = 10
    delay_us: int = 0
    """One-way propagation delay in microseconds, as declared."""
    mtu: int = 1500
    te_metric: int | None = None
    """The metric of objective `te` (RFC 5305 section 3.7), 1..2^24-1; None: that of the IGP."""
    capacity_bps: int | None = None
    """Bits per second; None: not known."""
    affinities: frozenset[str] = frozenset()
    """Names of the bits of its extended administrative group (RFC 7308)."""
    srlgs: frozenset[int] = frozenset()
    """Shared risk link groups (RFC 5307 section 1.3): what fails together has one in common."""
    drained: bool = False
    """Taken out of use by the operator: every objective sees its largest metric, so that the
    link carries only what has no other way, and carries that without loss."""

    @property
    def igp_metric(self) -> int:
        """The metric that the underlay counts."""
        return MAX_METRIC if self.drained else self.metric

    @property
    def te(self) -> int:
        """The TE metric as given, or else the IGP's."""
        return self.metric if self.te_metric is None else self.te_metric

    def ends(self) -> tuple[LinkEnd, LinkEnd]:
        return (self.a, self.b)


@dataclass(frozen=True, slots=True)
class Domain:
    """Parameters that hold for the whole domain."""

    name: str
    sid_block: IPv6Network
    """Every locator lies in it (RFC 8754 section 5.1)."""
    encap_mode: EncapMode = EncapMode.ENCAP_RED
    max_segments: int = 1
    """Longest segment list the domain may use: fixes the MTU that mobile nodes are told."""
    router_link_local: IPv6Address = ROUTER_LINK_LOCAL
    """The first-hop router's link-local address on every access interface (RFC 5213 6.8)."""
    router_mac: str = "02:00:5e:00:64:01"
    """... and its link-layer address there."""
    usid: bool = False
    """Whether segment lists are compressed where routers can do so (NEXT-C-SID, RFC 9800)."""
    affinities: tuple[tuple[str, int], ...] = ()
    """(name, bit of the extended administrative group, 0..255) of every affinity there is."""

    def affinity_names(self) -> list[str]:
        """Return the names of the affinities, sorted."""
        return sorted(name for name, _ in self.affinities)


@dataclass(frozen=True, slots=True)
class Topology:
    """A validated domain: built by core.topology, never changed in place."""

    domain: Domain
    nodes: dict[str, Node]
    links: tuple[Link, ...]
    revision: int = 1

    def routers(self) -> list[Node]:
        """Return all routers in name order."""
        return [node for _, node in sorted(self.nodes.items()) if node.is_router]

    def head_ends(self) -> list[Node]:
        """Return all routers that encapsulate, in name order."""
        return [node for node in self.routers() if node.is_head_end]

    def access_routers(self) -> list[Node]:
        """Return all access routers in name order."""
        return [node for node in self.routers() if node.role is Role.ACCESS]

    def core_links(self) -> list[Link]:
        """Return the links between routers."""
        return [
            link
            for link in self.links
            if self.nodes[link.a.node].is_router and self.nodes[link.b.node].is_router
        ]

    def overhead(self) -> int:
        """Return the bytes the longest segment list of the domain adds to a packet."""
        return self.domain.encap_mode.overhead(self.domain.max_segments)

    @property
    def is_repaired(self) -> bool:
        """Tell whether routers hold repairs for links that fail."""
        return len(self.routers()) <= REPAIRED

    def repair_overhead(self) -> int:
        """Return the bytes that the longest repair adds to a packet that is encapsulated already.

        Where lists have one segment, repairs are next hops, which add nothing.
        """
        if self.domain.max_segments == 1 or not self.is_repaired:
            return 0
        # By encap.red, but by encap on kernels too old for it, in domains that say encap for those.
        mode = self.domain.encap_mode
        mode = EncapMode.ENCAP_RED if mode is EncapMode.INLINE else mode
        return mode.overhead(self.domain.max_segments)

    def inner_mtu(self) -> int:
        """Return the largest packet in bytes that fits every path, encapsulated and repaired.

        Bounded by the MTU of the links to hosts as well: it is what RAs advertise.
        """
        core: list[int] = []
        edges: list[int] = []
        for link in self.links:
            routers = all(self.nodes[end.node].is_router for end in link.ends())
            (core if routers else edges).append(link.mtu)
        smallest = min(core, default=1500)
        edge = min(edges, default=1500)
        return min(smallest - self.overhead() - self.repair_overhead(), edge)


@dataclass(frozen=True, slots=True)
class RouterSids:
    """The SIDs of one router; functions are unique within its locator."""

    router: str
    end: IPv6Address
    end_dt6: IPv6Address
    end_dx4: IPv6Address | None = None
    adjacencies: dict[str, IPv6Address] = field(default_factory=dict)
    """Core interface name -> End.X SID of that adjacency."""
    services: dict[str, IPv6Address] = field(default_factory=dict)
    """Name of a service -> its SID."""
    anycast: dict[str, IPv6Address] = field(default_factory=dict)
    """Name of an anycast group -> its SID, which other routers have, too."""
