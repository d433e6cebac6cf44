"""What is wrong with what a path is asked for: unknown elements, contradictions, bad numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv6Address

from srv6dmm.core.anycast import AnycastGroups
from srv6dmm.core.graph import Graph
from srv6dmm.core.link_weights import exclusions
from srv6dmm.core.sids import named_sids, sid_table
from srv6dmm.core.topology_fields import did_you_mean
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.policy import (
    MAX_UINT32,
    CandidatePath,
    Constraints,
    DynamicPath,
    ExplicitPath,
    Waypoint,
)
from srv6dmm.model.topology import MAX_SEGMENTS, RouterSids, Topology

Fault = tuple[str, str]
"""(key, message); keys are those of model.policy, e.g. constraints.avoid_links."""

MAXIMUM_REQUIRED = 8
"""Elements required in any order: each one can double the work of a search."""
MAXIMUM_WAYPOINTS = 16


class PolicyErrors(Srv6dmmError):
    """Every fault found in a policy, in the order of its parts."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{key}: {message}" for key, message in faults))


class PolicyChecker:
    """Judges policies against one topology."""

    def __init__(
        self,
        topology: Topology,
        graph: Graph | None = None,
        sids: Mapping[str, RouterSids] | None = None,
    ) -> None:
        self._topology = topology
        self._graph = graph or Graph(topology)
        self._affinities = topology.domain.affinity_names()
        self._routers = [node.name for node in topology.routers()]
        self._sids = sids or sid_table(topology)
        self._owners = {
            sid: router for router, own in self._sids.items() for _, sid in named_sids(own)
        }
        self._groups = AnycastGroups(self._sids)
        self._end_dt6 = {own.end_dt6 for own in self._sids.values()}
        self._end_dx4 = {own.end_dx4 for own in self._sids.values()}

    def check(self, candidates: Iterable[CandidatePath], head_end: str, endpoint: str) -> None:
        """Raise PolicyErrors, which holds every fault, when there is one."""
        faults = tuple(self.candidate_faults(tuple(candidates), head_end, endpoint))
        if faults:
            raise PolicyErrors(faults)

    def candidate_faults(
        self,
        candidates: tuple[CandidatePath, ...],
        head_end: str | None = None,
        endpoint: str | None = None,
    ) -> Iterator[Fault]:
        """Yield what is wrong with the candidate paths of one policy (RFC 9256 section 2).

        Without ends: what is wrong between whichever two routers.
        """
        if not candidates:
            yield ("candidates", "there is none; give one candidate path at least")
        preferences: dict[int, int] = {}
        for number, candidate in enumerate(candidates):
            key = f"candidates[{number}]"
            if not 0 <= candidate.preference <= MAX_UINT32:
                yield (f"{key}.preference", f"{candidate.preference} is not in 0..{MAX_UINT32}")
            if candidate.preference in preferences:
                first = preferences[candidate.preference]
                yield (
                    f"{key}.preference",
                    f"{candidate.preference} is that of candidates[{first}] too; which one is "
                    "active would be chance",
                )
            preferences.setdefault(candidate.preference, number)
            if not candidate.paths:
                yield (f"{key}.paths", "there is none; a candidate path has one at least")
            for place, weighted in enumerate(candidate.paths):
                here = f"{key}.paths[{place}]"
                if not 1 <= weighted.weight <= MAX_UINT32:
                    yield (f"{here}.weight", f"{weighted.weight} is not in 1..{MAX_UINT32}")
                if isinstance(weighted.path, ExplicitPath):
                    faults = self.explicit_faults(weighted.path, head_end, endpoint)
                else:
                    faults = self.dynamic_faults(weighted.path, head_end, endpoint)
                yield from ((f"{here}.{suffix}", message) for suffix, message in faults)

    def explicit_faults(
        self, path: ExplicitPath, head_end: str | None = None, endpoint: str | None = None
    ) -> Iterator[Fault]:
        """Yield what makes an explicit segment list invalid (RFC 9256 section 5.1)."""
        segments = path.segments
        if not segments:
            yield ("segments", "the list is empty")
            return
        node = self._topology.nodes.get(head_end) if head_end is not None else None
        depth = node.maximum_sid_depth if node is not None else self._greatest_depth()
        for most, whose in (
            (depth, f"maximum SID depth of {head_end or 'every head-end'}"),
            (self._topology.domain.max_segments, "max-segments of the domain"),
        ):
            if len(segments) > most:
                yield ("segments", f"{len(segments)} segments are more than {most}, the {whose}")
        for number, sid in enumerate(segments):
            if sid not in self._owners:
                yield (f"segments[{number}]", f"{sid} is no SID of a router of this domain")
            elif sid in self._end_dx4:
                yield (
                    f"segments[{number}]",
                    f"{sid} is End.DX4 of {self._owners[sid]}, which takes IPv4 packets only",
                )
            elif sid in self._end_dt6 and number < len(segments) - 1:
                yield (
                    f"segments[{number}]",
                    f"{sid} is End.DT6 of {self._owners[sid]}, which decapsulates: it can only be "
                    "the last segment",
                )
        ends_there = endpoint is None or self._ends(segments[-1], endpoint)
        if segments[-1] in self._owners and not ends_there:
            yield (
                f"segments[{len(segments) - 1}]",
                f"{segments[-1]} of {self._owners[segments[-1]]} does not deliver at {endpoint}",
            )

    def _greatest_depth(self) -> int:
        depths = (node.maximum_sid_depth for node in self._topology.head_ends())
        return max(depths, default=MAX_SEGMENTS)

    def _ends(self, sid: IPv6Address, endpoint: str) -> bool:
        own = self._sids.get(endpoint)
        return own is not None and sid == own.end_dt6

    def dynamic_faults(
        self, path: DynamicPath, head_end: str | None = None, endpoint: str | None = None
    ) -> Iterator[Fault]:
        """Yield unknown elements, contradictions and numbers out of range.

        What only a search can find out (that no path satisfies it all) is not said here.
        """
        constraints = path.constraints
        yield from self._ends_faults(constraints, head_end, endpoint)
        yield from self._unknown(constraints)
        yield from _numbers(constraints)
        yield from self._affinity_faults(constraints)
        yield from self._required_faults(constraints)
        yield from self._waypoint_faults(path)

    def _ends_faults(
        self, constraints: Constraints, head_end: str | None, endpoint: str | None
    ) -> Iterator[Fault]:
        for name, role in ((head_end, "head_end"), (endpoint, "endpoint")):
            if name is None:
                continue
            if name not in self._routers:
                yield (role, self._no_router(name))
            elif name in constraints.avoid_routers:
                yield ("constraints.avoid_routers", f"{name} is the {role.replace('_', '-')}")
        if endpoint in self._routers and endpoint not in self._sids:
            yield ("endpoint", f"{endpoint} has no locator, so no path can end there")

    def _unknown(self, constraints: Constraints) -> Iterator[Fault]:
        for key in ("include_any", "include_all", "exclude_any"):
            for name in sorted(getattr(constraints, key)):
                if name not in self._affinities:
                    hint = did_you_mean(name, self._affinities) or "; see domain.affinities"
                    yield (f"constraints.{key}", f"unknown affinity {name!r}{hint}")
        for key in ("avoid_routers", "require_routers"):
            for name in sorted(getattr(constraints, key)):
                if name not in self._routers:
                    yield (f"constraints.{key}", self._no_router(name))
        for key in ("avoid_links", "require_links"):
            for end in sorted(getattr(constraints, key), key=str):
                if self._graph.crossing(end.node, end.interface) is None:
                    yield (f"constraints.{key}", f"{end} is no end of a link between routers")
        for key in ("avoid_srlgs", "require_srlgs"):
            for srlg in sorted(getattr(constraints, key)):
                if srlg not in self._graph.by_srlg:
                    yield (f"constraints.{key}", f"no link between routers is in SRLG {srlg}")

    def _no_router(self, name: str) -> str:
        return f"unknown router {name!r}{did_you_mean(name, self._routers)}"

    def _affinity_faults(self, constraints: Constraints) -> Iterator[Fault]:
        for name in sorted(constraints.include_all & constraints.exclude_any):
            yield ("constraints.exclude_any", f"{name} is in include_all too: no link has it")
        if constraints.include_any and constraints.include_any <= constraints.exclude_any:
            names = ", ".join(sorted(constraints.include_any))
            yield ("constraints.exclude_any", f"excludes all of include_any ({names})")
        unused = {name for name in self._affinities if not self._graph.by_affinity.get(name)}
        unused -= constraints.exclude_any
        for name in sorted(constraints.include_all & unused):
            yield ("constraints.include_all", f"no link between routers has affinity {name}")
        if constraints.include_any and constraints.include_any <= unused:
            names = ", ".join(sorted(constraints.include_any))
            yield ("constraints.include_any", f"no link between routers has affinity {names}")

    def _required_faults(self, constraints: Constraints) -> Iterator[Fault]:
        for name in sorted(constraints.require_routers & constraints.avoid_routers):
            yield ("constraints.require_routers", f"{name} is in avoid_routers too")
        for srlg in sorted(constraints.require_srlgs & constraints.avoid_srlgs):
            yield ("constraints.require_srlgs", f"SRLG {srlg} is in avoid_srlgs too")
        excluded = list(exclusions(self._graph, constraints)) if constraints.require_links else []
        for end in sorted(constraints.require_links, key=str):
            number = self._graph.crossing(end.node, end.interface)
            for reason in (reason for reason, group in excluded if number in group):
                yield ("constraints.require_links", f"{end} may not be crossed: {reason}")
        count = sum(
            map(
                len,
                (
                    constraints.require_routers,
                    constraints.require_links,
                    constraints.require_srlgs,
                ),
            )
        )
        if count > MAXIMUM_REQUIRED:
            yield (
                "constraints",
                f"{count} elements are required; {MAXIMUM_REQUIRED} are possible, take waypoints",
            )

    def _waypoint_faults(self, path: DynamicPath) -> Iterator[Fault]:
        if len(path.waypoints) > MAXIMUM_WAYPOINTS:
            yield ("waypoints", f"{len(path.waypoints)} are more than {MAXIMUM_WAYPOINTS}")
        for number, waypoint in enumerate(path.waypoints):
            yield from (
                (f"waypoints[{number}]", message)
                for message in self._waypoint(waypoint, path.constraints.avoid_routers)
            )

    def _waypoint(self, waypoint: Waypoint, avoided: Collection[str]) -> Iterator[str]:
        name, service = waypoint.router, waypoint.service
        if name in self._groups.sids:
            if service is not None:
                yield f"{name} is an anycast group, whose routers are not asked for services"
            if set(self._groups.members[self._groups.sids[name]]) <= set(avoided):
                yield f"every router of anycast group {name} is in constraints.avoid_routers"
            return
        if name not in self._routers:
            yield self._no_router(name)
            return
        if name in avoided:
            yield f"{name} is in constraints.avoid_routers too"
        own = self._sids.get(name)
        services = own.services if own is not None else {}
        if service is not None and service not in services:
            known = ", ".join(sorted(services)) or "none"
            yield f"{name} has no service {service!r}; it has {known}"


def _numbers(constraints: Constraints) -> Iterator[Fault]:
    ranges = {
        "maximum_delay_us": (0, MAX_UINT32),
        "maximum_hops": (1, 4095),
        "minimum_mtu": (1280, 65_535),
        "maximum_segments": (1, MAX_SEGMENTS),
    }
    for key, (low, high) in ranges.items():
        value = getattr(constraints, key)
        if value is not None and not low <= value <= high:
            yield (f"constraints.{key}", f"{value} is not in {low}..{high}")
