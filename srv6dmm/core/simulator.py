"""The FIB-walk simulator: where a packet with a segment list can go, without a kernel.

Routers are taken to do what their plan says: forward along the underlay's shortest paths, and
do End and End.X for their own SIDs (RFC 8986 sections 4.1 and 4.2), of containers too. Every
equal-cost choice is followed, so the answer is a set of paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address

from srv6dmm.core.anycast import AnycastGroups
from srv6dmm.core.compression import Compression
from srv6dmm.core.graph import NoPath
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.segments import NO_COMPRESSION
from srv6dmm.core.sids import named_sids
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.path import Path
from srv6dmm.model.topology import RouterSids

MAXIMUM_PATHS = 10_000
"""Equal-cost choices multiply; nobody reads more paths than these."""

_Crossings = tuple[int, ...]


class NotDelivered(Srv6dmmError):
    """A packet with the segment list does not arrive, or the simulation would not end."""


class Simulator:
    """Walks segment lists through one topology's underlay."""

    def __init__(
        self,
        paths: ShortestPaths,
        sids: Mapping[str, RouterSids],
        *,
        ecmp: bool = True,
        compression: Compression = NO_COMPRESSION,
    ) -> None:
        self._compression = compression
        self._paths = paths
        self._ecmp = ecmp
        graph = paths.graph
        self._groups = AnycastGroups(sids)
        self._owners: dict[IPv6Address, int] = {}
        self._adjacencies: dict[IPv6Address, int] = {}
        """End.X SID -> the crossing behind its interface."""
        self._cut: dict[IPv6Address, str] = {}
        """End.X SID -> its interface, where no link is any more."""
        self._ends: set[IPv6Address] = set()
        """SIDs that take the outer header off."""
        for router, own in sids.items():
            for _, sid in named_sids(own):
                self._owners[sid] = graph.index[router]
            for interface, sid in own.adjacencies.items():
                number = graph.crossing(router, interface)
                if number is not None:
                    self._adjacencies[sid] = number
                else:
                    self._cut[sid] = f"{router}:{interface}"
            self._ends |= {own.end_dt6, *([own.end_dx4] if own.end_dx4 is not None else [])}

    def paths(self, head_end: str, segments: Sequence[IPv6Address]) -> frozenset[Path]:
        """Return every path that a packet encapsulated at the head-end may take to its end.

        Raises NotDelivered for an unknown SID, for one that cannot be reached, for an End.X whose
        link is gone, for one that decapsulates before the last, and when there are more than
        MAXIMUM_PATHS.
        """
        graph = self._paths.graph
        try:
            source = graph.router(head_end)
        except NoPath as error:
            raise NotDelivered(str(error)) from error
        ways: set[_Crossings] = {()}
        here = source
        over: IPv6Address | None = None
        for sid in (sid for given in segments for sid in self._compression.expand(given)):
            target = self._owner(here, sid)
            if target is None:
                raise NotDelivered(f"{sid} is no SID of this domain")
            if over:
                raise NotDelivered(f"{over} decapsulates, so that {sid} is never reached")
            if sid in self._cut:
                raise NotDelivered(f"the link of {sid} is gone: {self._cut[sid]}")
            over = sid if sid in self._ends else None
            legs = self._travel(here, target)
            here = target
            adjacency = self._adjacencies.get(sid)
            if adjacency is not None:
                legs = {(*leg, adjacency) for leg in legs}
                here = graph.heads[adjacency]
            if len(ways) * len(legs) > MAXIMUM_PATHS:
                raise NotDelivered(f"there are more than {MAXIMUM_PATHS} paths")
            ways = {way + leg for way in ways for leg in legs}
        return frozenset(graph.path(source, way) for way in ways)

    def _owner(self, here: int, sid: IPv6Address) -> int | None:
        """Return the router to which packets for a SID go from a router."""
        if sid not in self._groups.members:
            return self._owners.get(sid)
        graph = self._paths.graph
        try:
            return graph.index[self._groups.nearest(self._paths, graph.names[here], sid)]
        except NoPath as error:
            raise NotDelivered(str(error)) from error

    def _travel(self, start: int, target: int) -> set[_Crossings]:
        """Return every way the underlay may take between two routers."""
        graph = self._paths.graph
        done: set[_Crossings] = set()
        under_way: list[tuple[int, _Crossings]] = [(start, ())]
        while under_way:
            router, way = under_way.pop()
            if router == target:
                done.add(way)
                if len(done) > MAXIMUM_PATHS:
                    raise NotDelivered(f"there are more than {MAXIMUM_PATHS} paths")
                continue
            crossings = self._paths.shortest_crossings(router, target)
            if not crossings:
                raise NotDelivered(f"{graph.names[router]} has no path to {graph.names[target]}")
            under_way += [
                (graph.heads[crossing], (*way, crossing))
                for crossing in (crossings if self._ecmp else crossings[:1])
            ]
        return done
