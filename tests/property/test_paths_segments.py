"""Segment lists on random domains: a simulator walks them, exhaustive search bounds them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address
from itertools import product

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.segments import NoSegmentList, segment_list
from srv6dmm.core.sids import named_sids, sid_table
from srv6dmm.model.topology import RouterSids
from tests.property.test_paths import Underlay, underlays


class Simulator:
    """Follows a packet by the oracle's next hops and RFC 8986's End and End.X."""

    def __init__(self, underlay: Underlay, sids: dict[str, RouterSids], ecmp: bool) -> None:
        self.underlay = underlay
        self.ecmp = ecmp
        self.owners = {sid: own.router for own in sids.values() for _, sid in named_sids(own)}
        self.crossings: dict[IPv6Address, str] = {}
        """End.X SID -> the neighbour behind its interface."""
        for own in sids.values():
            for here, there, _ in underlay.sides(own.router):
                self.crossings[own.adjacencies[here.interface]] = there.node

    def travel(self, start: str, target: str) -> set[tuple[str, ...]]:
        """Return every way the underlay may take, the start left out."""
        if start == target:
            return {()}
        hops = self.underlay.next_hops(start, target)
        names = {name for _, name in (hops if self.ecmp else hops[:1])}
        return {(name, *rest) for name in names for rest in self.travel(name, target)}

    def segment(self, start: str, sid: IPv6Address) -> set[tuple[str, ...]]:
        """Return every way one segment may lead, the start left out."""
        ways = self.travel(start, self.owners[sid])
        if sid in self.crossings:
            return {(*way, self.crossings[sid]) for way in ways}
        return ways

    def walk(self, start: str, segments: Sequence[IPv6Address]) -> set[tuple[str, ...]]:
        """Return every way a packet with this segment list may take."""
        ways = {(start,)}
        for sid in segments:
            ways = {(*way, *more) for way in ways for more in self.segment(way[-1], sid)}
        return ways

    def fewest(self, path: tuple[str, ...], final: IPv6Address) -> int | None:
        """Return the length of the shortest list that leads along the path; None: there is none.

        Tries every SID of the domain at every place, level by level.
        """
        places, length = {0}, 1
        seen = {0}
        while places:
            if any(self.segment(path[here], final) == {path[here + 1 :]} for here in places):
                return length
            reached: set[int] = set()
            for here, sid in product(places, self.owners):
                ways = self.segment(path[here], sid)
                if len(ways) == 1:
                    (way,) = ways
                    if path[here + 1 : here + 1 + len(way)] == way:
                        reached.add(here + len(way))
            places = reached - seen
            seen |= places
            length += 1
        return None


def walks(underlay: Underlay) -> st.SearchStrategy[tuple[str, ...]]:
    """Paths along links, that may pass a router more than once."""

    @st.composite
    def walk(draw: st.DrawFn) -> tuple[str, ...]:
        path = [draw(st.sampled_from(underlay.names))]
        for _ in range(draw(st.integers(0, 6))):
            path.append(draw(st.sampled_from(sorted(underlay.graph.neighbors(path[-1])))))
        return tuple(path)

    return walk()


@settings(max_examples=1500, deadline=None)
@given(underlays(plain=True, largest=6), st.booleans(), st.data())
def test_the_list_leads_along_the_path_and_no_shorter_one_does(
    underlay: Underlay, ecmp: bool, data: st.DataObject
) -> None:
    path = data.draw(walks(underlay))
    assume(path[-1] not in underlay.plain)
    sids = sid_table(underlay.topology)
    final = sids[path[-1]].end_dt6
    simulator = Simulator(underlay, sids, ecmp)
    fewest = simulator.fewest(path, final)
    try:
        segments = segment_list(ShortestPaths(underlay.topology), sids, path, final, ecmp=ecmp)
    except NoSegmentList:
        event("impossible")
        assert fewest is None
        return
    event(f"{len(segments)} segments")
    assert segments[-1] == final
    assert simulator.walk(path[0], segments) == {path}
    assert len(segments) == fewest


@settings(max_examples=150, deadline=None)
@given(underlays(largest=4), st.booleans(), st.data())
def test_no_shorter_list_at_all(underlay: Underlay, ecmp: bool, data: st.DataObject) -> None:
    """Literally every shorter list is walked; only where there are few enough of them."""
    path = data.draw(walks(underlay))
    sids = sid_table(underlay.topology)
    final = sids[path[-1]].end_dt6
    simulator = Simulator(underlay, sids, ecmp)
    segments = segment_list(ShortestPaths(underlay.topology), sids, path, final, ecmp=ecmp)
    assert simulator.walk(path[0], segments) == {path}
    everything = sorted(simulator.owners)
    for length in range(min(len(segments) - 1, 3)):
        for before in product(everything, repeat=length):
            assert simulator.walk(path[0], (*before, final)) != {path}


@settings(max_examples=200, deadline=None)
@given(underlays(), st.data())
def test_the_shortest_path_needs_the_final_segment_only(
    underlay: Underlay, data: st.DataObject
) -> None:
    paths, sids = ShortestPaths(underlay.topology), sid_table(underlay.topology)
    source, target = (data.draw(st.sampled_from(underlay.names)) for _ in range(2))
    final = sids[target].end_dt6
    assert segment_list(paths, sids, paths.path(source, target), final) == (final,)


@settings(max_examples=200, deadline=None)
@given(underlays(), st.data())
def test_every_path_is_possible_where_every_router_has_sids(
    underlay: Underlay, data: st.DataObject
) -> None:
    path = data.draw(walks(underlay))
    paths, sids = ShortestPaths(underlay.topology), sid_table(underlay.topology)
    for ecmp in (False, True):
        segments = segment_list(paths, sids, path, sids[path[-1]].end_dt6, ecmp=ecmp)
        assert 1 <= len(segments) <= len(path)
