"""Policies: objective, constraints, candidate paths (RFC 9256)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address

from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import LinkEnd

DEFAULT_PREFERENCE = 100
"""RFC 9256 section 2.7."""
DEFAULT_WEIGHT = 1
"""RFC 9256 section 2.11."""
MAX_UINT32 = (1 << 32) - 1


class Invalid(StrEnum):
    """What becomes of a flow when no candidate path is valid (RFC 9256 section 8.2)."""

    SHORTEST = "shortest"
    """It takes the way of its prefix."""
    DROP = "drop"
    """Drop-upon-Invalid."""


class Objective(StrEnum):
    """The metric that is to be as small as possible (RFC 9256 section 5.2)."""

    IGP = "igp"
    TE = "te"
    DELAY = "delay"


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a path must satisfy; the defaults demand nothing.

    A link is named by either of its ends. What is required is passed in any order.
    """

    include_any: frozenset[str] = frozenset()
    """Affinities: every link has at least one of these."""
    include_all: frozenset[str] = frozenset()
    """Every link has all of these."""
    exclude_any: frozenset[str] = frozenset()
    """No link has any of these."""
    avoid_routers: frozenset[str] = frozenset()
    avoid_links: frozenset[LinkEnd] = frozenset()
    avoid_srlgs: frozenset[int] = frozenset()
    require_routers: frozenset[str] = frozenset()
    require_links: frozenset[LinkEnd] = frozenset()
    """Crossed in either direction."""
    require_srlgs: frozenset[int] = frozenset()
    """A link of each is crossed."""
    maximum_delay_us: int | None = None
    """Of the whole path, one way, in microseconds."""
    maximum_hops: int | None = None
    """Links."""
    minimum_mtu: int | None = None
    """Bytes of inner packet that must fit, encapsulated."""
    maximum_segments: int | None = None
    """SIDs of the list, the final one included."""


@dataclass(frozen=True, slots=True)
class Waypoint:
    """A router that the path passes, in the order given, or the nearest of an anycast group."""

    router: str
    """Or the name of a group."""
    service: str | None = None
    """A service of the router that packets are handed to there; its SID is in the list."""


@dataclass(frozen=True, slots=True)
class DynamicPath:
    """A path to be computed (RFC 9256 section 5.2)."""

    objective: Objective = Objective.IGP
    constraints: Constraints = field(default_factory=Constraints)
    waypoints: tuple[Waypoint, ...] = ()
    """Between one waypoint and the next, a path passes no router twice."""


@dataclass(frozen=True, slots=True)
class ExplicitPath:
    """A segment list as given (RFC 9256 section 5.1), in travel order."""

    segments: SegmentList


@dataclass(frozen=True, slots=True)
class WeightedPath:
    """One of the paths that a candidate path spreads flows over (RFC 9256 section 2.11)."""

    path: DynamicPath | ExplicitPath
    weight: int = DEFAULT_WEIGHT
    """Its share is weight by sum of weights."""


@dataclass(frozen=True, slots=True)
class CandidatePath:
    """One way to fulfil a policy; the valid one of highest preference is active (section 2.9)."""

    paths: tuple[WeightedPath, ...]
    preference: int = DEFAULT_PREFERENCE


@dataclass(frozen=True, slots=True)
class BindingSid:
    """A SID that stands for a policy at one head-end (RFC 8402 section 5, End.B6.Encaps)."""

    head_end: str
    endpoint: str
    sid: IPv6Address
    """In the head-end's locator."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What flows ask for by name. It has no ends: a flow's head-ends and routers give them."""

    name: str
    candidates: tuple[CandidatePath, ...]
    disjoint_from: str | None = None
    """Another policy: between the same ends, this one shares as little with it as it can."""
    invalid: Invalid = Invalid.SHORTEST
    binding_sids: tuple[BindingSid, ...] = ()

    def __hash__(self) -> int:
        """Tell policies of other names apart; choices are looked up by policy for every flow."""
        return hash(self.name)
