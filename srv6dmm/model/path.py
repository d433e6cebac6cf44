"""Paths: which routers, and over which of their links, in travel order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import LinkEnd


@dataclass(frozen=True, slots=True)
class Path:
    """Routers from a head-end to an endpoint, and the interface by which each is left.

    The interfaces tell parallel links apart. A path of one router has no interface.
    """

    routers: tuple[str, ...]
    interfaces: tuple[str, ...] = ()
    """One per link, at the router that sends: one fewer than routers."""

    def __post_init__(self) -> None:
        if len(self.interfaces) != len(self.routers) - 1:
            raise ValueError(
                f"a path over {len(self.routers)} routers has {len(self.routers) - 1} links, "
                f"not {len(self.interfaces)}"
            )

    def crossings(self) -> Iterator[LinkEnd]:
        """Yield the sending end of each link, in travel order."""
        for router, interface in zip(self.routers, self.interfaces, strict=False):
            yield LinkEnd(router, interface)

    def __str__(self) -> str:
        return " ".join((*map(str, self.crossings()), self.routers[-1]))


@dataclass(frozen=True, slots=True)
class PathMeasures:
    """What a path adds up to."""

    igp_metric: int
    te_metric: int
    delay_us: int
    """One way, as declared or measured for its links."""
    hops: int
    """Links."""
    link_mtu: int
    """The smallest of its links, in bytes; that of an empty path is the largest there is."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A path and the segment list that leads along it (RFC 9256 section 5.2)."""

    path: Path
    segments: SegmentList
    measures: PathMeasures
    mtu: int
    """The largest inner packet in bytes that fits, encapsulated with `segments`, and once more
    with those of a repair where routers have such."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The solution that has least in common with another path, and what that is."""

    solution: Solution
    shared_links: int
    shared_routers: int
    """Without the two ends."""
    shared_srlgs: int
    """Counted once per link of the backup that belongs to one."""


class Disjoint(StrEnum):
    """What two paths between the same ends do not share."""

    ROUTERS = "routers"
    """Neither routers nor links."""
    LINKS = "links"


@dataclass(frozen=True, slots=True)
class DisjointPair:
    """Two solutions between the same ends, the better one first."""

    first: Solution
    second: Solution
    disjoint: Disjoint
