"""Flow rules: which packets of which mobile nodes take which policy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Network

MAX_PRIORITY = 999
DEFAULT_PRIORITY = 100
MAXIMUM_RULES = 1000
"""In a domain."""
MAXIMUM_FLOW_ENTRIES = 512
"""At one head-end: in mode `netlink` a packet is held against one rule after another."""
PORTS_PROTOCOLS = frozenset({6, 17, 33, 132, 136})
"""TCP, UDP, DCCP, SCTP, UDP-Lite: protocols whose header starts with two ports."""

PortRange = tuple[int, int]
"""(first, last), both included."""


class Direction(StrEnum):
    """Seen from the mobile node."""

    BOTH = "both"
    UPLINK = "uplink"
    DOWNLINK = "downlink"


@dataclass(frozen=True, slots=True)
class FlowMatch:
    """What a packet must be like; None: anything will do. "Own" is the mobile node's side.

    A fragment other than the first has no ports, so nothing that names ports matches it.
    """

    own_prefix: IPv6Network | None = None
    """Within the node's prefixes: one of them, a part of it, or what holds several."""
    peer: IPv6Network | None = None
    protocol: int | None = None
    own_ports: PortRange | None = None
    peer_ports: PortRange | None = None
    dscp: int | None = None
    """0..63 (RFC 2474)."""


@dataclass(frozen=True, slots=True)
class FlowRule:
    """One rule. Either a mobile node or a group is named."""

    name: str
    policy: str
    mobile_node: str | None = None
    group: str | None = None
    match: FlowMatch = FlowMatch()
    priority: int = DEFAULT_PRIORITY
    """0..999; the greatest one that matches decides."""
    direction: Direction = Direction.BOTH


@dataclass(frozen=True, slots=True)
class Group:
    """Mobile nodes by a common name."""

    name: str
    members: frozenset[str]
