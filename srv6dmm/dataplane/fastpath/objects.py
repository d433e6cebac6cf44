"""Entries of the fast path as values: what is desired, and what was read back, in one vocabulary.

They stand beside the kernel objects of dataplane.objects and come from the same plan entries: the
kernel's routes are complete without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from srv6dmm.model.addresses import as_text
from srv6dmm.model.plan import FlowSelector
from srv6dmm.model.sid import Behavior, EncapMode, Flavor, SegmentList


class Facing(StrEnum):
    """What is on the other side of a port."""

    ACCESS = "access"
    OUTSIDE = "outside"
    CORE = "core"


@dataclass(frozen=True, slots=True)
class FastSettings:
    """What holds for every port."""

    sid_block: IPv6Network | None
    locator_length: int = 0
    """Bits of every locator that has a FastRoute; 0 without any."""

    @property
    def identity(self) -> tuple[str]:
        return ("fast-settings",)


@dataclass(frozen=True, slots=True)
class FastPort:
    """An interface with our program at its ingress."""

    interface: str
    facing: Facing
    detect: bool = False
    """Whether arrivals of mobile nodes there become events."""

    @property
    def identity(self) -> tuple[str, str]:
        return ("fast-port", self.interface)


@dataclass(frozen=True, slots=True)
class FastSid:
    """A local SID. One without an interface is sent on by the kernel's routes.

    So is End.DX4: its next hop is IPv4's, and the kernel's routes know where that is.
    """

    sid: IPv6Address
    behavior: Behavior
    interface: str | None = None
    next_hop: IPv6Address | IPv4Address | None = None
    flavors: tuple[Flavor, ...] = ()

    @property
    def identity(self) -> tuple[str, str]:
        return ("fast-sid", as_text(self.sid))


@dataclass(frozen=True, slots=True)
class FastRoute:
    """Another router's locator and the next hop towards it, for what an End sends on."""

    locator: IPv6Network
    interface: str
    next_hop: IPv6Address

    @property
    def identity(self) -> tuple[str, str]:
        return ("fast-route", as_text(self.locator))


@dataclass(frozen=True, slots=True)
class FastSteering:
    """A prefix and the outer header its packets get."""

    prefix: IPv6Network
    mode: EncapMode
    segments: SegmentList
    source: IPv6Address
    interface: str
    next_hop: IPv6Address
    mtu: int
    """Octets of the greatest outer packet."""

    @property
    def identity(self) -> tuple[str, str]:
        return ("fast-prefix", as_text(self.prefix))


@dataclass(frozen=True, slots=True)
class FastDelivery:
    """A prefix whose node is on an interface of this router."""

    prefix: IPv6Network
    interface: str
    link_layer_address: str
    next_hop: IPv6Address
    mtu: int
    """Octets of the greatest packet the interface takes."""
    source: str | None = None
    """The interface's link-layer address; None: to be looked up for every packet."""

    @property
    def identity(self) -> tuple[str, str]:
        return ("fast-prefix", as_text(self.prefix))


@dataclass(frozen=True, slots=True)
class FastDrop:
    """A prefix whose packets are dropped."""

    prefix: IPv6Network

    @property
    def identity(self) -> tuple[str, str]:
        return ("fast-prefix", as_text(self.prefix))


@dataclass(frozen=True, slots=True)
class FastList:
    """One of the outer headers that a flow's packets get, and its share of them."""

    mode: EncapMode
    segments: SegmentList
    source: IPv6Address
    interface: str
    next_hop: IPv6Address
    mtu: int
    """Octets of the greatest outer packet."""
    weight: int = 1
    """A flow keeps to one list; each has weight by sum of weights of them (RFC 9256 2.11)."""


@dataclass(frozen=True, slots=True)
class FastFlow:
    """A flow rule. Of those that a packet matches the one with the smallest order decides."""

    number: int
    """The plan entry's, `FlowSteering.number`."""
    selector: FlowSelector
    uplink: bool
    """Packets from the mobile prefix; else packets to it."""
    order: int
    lists: tuple[FastList, ...] = ()
    """Without any, packets are dropped."""
    to_kernel: bool = False
    """Its packets are left to the kernel's rule, whose lists do not fit here."""

    @property
    def prefix(self) -> IPv6Network:
        """The mobile prefix whose rule it is, a /64."""
        own = self.selector.source if self.uplink else self.selector.destination
        return IPv6Network((own.network_address.packed[:8] + bytes(8), 64))

    @property
    def identity(self) -> tuple[str, str, bool, int]:
        return ("fast-flow", as_text(self.prefix), self.uplink, self.number)


@dataclass(frozen=True, slots=True)
class FastBinding:
    """A source prefix that may enter at a port, from one link-layer address only."""

    prefix: IPv6Network
    interface: str
    link_layer_address: str

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return ("fast-binding", as_text(self.prefix), self.interface, self.link_layer_address)


FastObject = (
    FastSettings
    | FastPort
    | FastSid
    | FastRoute
    | FastSteering
    | FastDelivery
    | FastDrop
    | FastFlow
    | FastBinding
)


def is_fast(identity: tuple[object, ...]) -> bool:
    """Tell whether an identity is that of a fast path entry."""
    return str(identity[0]).startswith("fast-")
