"""The way home of a probe: the path of a list backwards, as segments that need nobody's help.

A probe goes along a list to its End.DT6 and comes home as what was inside. By plain routing it
might come through the very router that a backup leads around; so it is led back along the list's
own path, as near as SIDs of others can. The last of them takes the header off (End.DT6), and plain
routing does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.segments import NoSegmentList, segment_list
from srv6dmm.core.sids import named_sids
from srv6dmm.model.addresses import IPv6Address
from srv6dmm.model.path import Path
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import RouterSids


class ReturnPaths:
    """Ways home on one topology, as its links are now."""

    def __init__(self, paths: ShortestPaths, sids: Mapping[str, RouterSids]) -> None:
        self._paths = paths
        self._sids = sids
        self._owners: dict[IPv6Address, tuple[str, str]] = {
            sid: (router, name) for router, own in sids.items() for name, sid in named_sids(own)
        }
        self._known: dict[Path, SegmentList] = {}

    def back(self, path: Path) -> SegmentList:
        """Return the segments that lead from a path's end to its beginning.

        () where plain routing does so, and where no list does.
        """
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._find(path)
        return known

    def _find(self, path: Path) -> SegmentList:
        home = self._sids.get(path.routers[0])
        try:
            backwards = self._backwards(path)
            if home is None:
                return ()
            segments = segment_list(self._paths, self._sids, backwards, home.end_dt6)[:-1]
        except (NoPath, NoSegmentList):
            return ()
        return self._ended(segments, path.routers[0])

    def _backwards(self, path: Path) -> Path:
        graph = self._paths.graph
        crossings = [graph.opposite[number] for number in reversed(graph.crossings(path))]
        return graph.path(graph.router(path.routers[-1]), crossings)

    def _ended(self, segments: SegmentList, home: str) -> SegmentList:
        """Return segments whose last one takes the header off, at the last router before home.

        Not at home: kernels differ in whether End.DT6 delivers to the router itself.
        """
        if not segments:
            return ()
        router, name = self._owners[segments[-1]]
        if name.startswith("end-x "):
            number = self._paths.graph.crossing(router, name.removeprefix("end-x "))
            far = self._paths.graph.names[self._paths.graph.heads[number]] if number else home
            own = self._sids.get(far)
            if far != home and own is not None:
                return (*segments, own.end_dt6)
        return (*segments[:-1], self._sids[router].end_dt6)
