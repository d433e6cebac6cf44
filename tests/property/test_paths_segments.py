"""Segment lists on random domains: a simulator walks them, exhaustive search bounds them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address
from itertools import product

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.segments import NoSegmentList, segment_list
from srv6dmm.core.sids import named_sids, sid_table
from srv6dmm.core.simulator import NotDelivered, Simulator
from srv6dmm.model.path import Path
from srv6dmm.model.topology import RouterSids
from tests.property.test_paths import Underlay, underlays

Crossing = tuple[str, str]
"""(own interface, neighbour)."""


class Walk:
    """Follows a packet by the oracle's next hops and RFC 8986's End and End.X."""

    def __init__(self, underlay: Underlay, sids: dict[str, RouterSids], ecmp: bool) -> None:
        self.underlay = underlay
        self.ecmp = ecmp
        self.owners = {sid: own.router for own in sids.values() for _, sid in named_sids(own)}
        self.crossings: dict[IPv6Address, Crossing] = {}
        """End.X SID -> the link behind its interface."""
        for own in sids.values():
            for here, there, _ in underlay.sides(own.router):
                self.crossings[own.adjacencies[here.interface]] = (here.interface, there.node)

    def travel(self, start: str, target: str) -> set[tuple[Crossing, ...]]:
        """Return every way the underlay may take."""
        if start == target:
            return {()}
        hops = self.underlay.next_hops(start, target)
        return {
            (hop, *rest)
            for hop in (hops if self.ecmp else hops[:1])
            for rest in self.travel(hop[1], target)
        }

    def segment(self, start: str, sid: IPv6Address) -> set[tuple[Crossing, ...]]:
        """Return every way one segment may lead."""
        ways = self.travel(start, self.owners[sid])
        if sid in self.crossings:
            return {(*way, self.crossings[sid]) for way in ways}
        return ways

    def paths(self, start: str, segments: Sequence[IPv6Address]) -> set[Path]:
        """Return every way a packet with this segment list may take."""
        ways: set[tuple[Crossing, ...]] = {()}
        for sid in segments:
            ways = {
                (*way, *more)
                for way in ways
                for more in self.segment(way[-1][1] if way else start, sid)
            }
        return {over(start, way) for way in ways}

    def fewest(self, path: Path, final: IPv6Address) -> int | None:
        """Return the length of the shortest list that leads along the path; None: there is none.

        Tries every SID of the domain at every place, level by level.
        """
        crossings = tuple(zip(path.interfaces, path.routers[1:], strict=True))
        places, length = {0}, 1
        seen = {0}
        while places:
            if any(
                self.segment(path.routers[here], final) == {crossings[here:]} for here in places
            ):
                return length
            reached: set[int] = set()
            for here, sid in product(places, self.owners):
                ways = self.segment(path.routers[here], sid)
                if len(ways) == 1:
                    (way,) = ways
                    if crossings[here : here + len(way)] == way:
                        reached.add(here + len(way))
            places = reached - seen
            seen |= places
            length += 1
        return None


def over(start: str, way: Sequence[Crossing]) -> Path:
    return Path((start, *(name for _, name in way)), tuple(interface for interface, _ in way))


def walks(underlay: Underlay) -> st.SearchStrategy[Path]:
    """Paths along links, that may pass a router more than once."""

    @st.composite
    def walk(draw: st.DrawFn) -> Path:
        start = here = draw(st.sampled_from(underlay.names))
        way: list[Crossing] = []
        for _ in range(draw(st.integers(0, 6))):
            end, there, _ = draw(st.sampled_from(underlay.sides(here)))
            way.append((end.interface, there.node))
            here = there.node
        return over(start, way)

    return walk()


@settings(max_examples=500, deadline=None)
@given(underlays(plain=True, largest=6), st.booleans(), st.data())
def test_the_list_leads_along_the_path_and_no_shorter_one_does(
    underlay: Underlay, ecmp: bool, data: st.DataObject
) -> None:
    path = data.draw(walks(underlay))
    assume(path.routers[-1] not in underlay.plain)
    sids = sid_table(underlay.topology)
    final = sids[path.routers[-1]].end_dt6
    oracle = Walk(underlay, sids, ecmp)
    fewest = oracle.fewest(path, final)
    try:
        segments = segment_list(ShortestPaths(underlay.topology), sids, path, final, ecmp=ecmp)
    except NoSegmentList:
        event("impossible")
        assert fewest is None
        return
    event(f"{len(segments)} segments")
    assert segments[-1] == final
    assert oracle.paths(path.routers[0], segments) == {path}
    assert len(segments) == fewest


@settings(max_examples=150, deadline=None)
@given(underlays(largest=4), st.booleans(), st.data())
def test_no_shorter_list_at_all(underlay: Underlay, ecmp: bool, data: st.DataObject) -> None:
    """Literally every shorter list is walked; only where there are few enough of them."""
    path = data.draw(walks(underlay))
    sids = sid_table(underlay.topology)
    final = sids[path.routers[-1]].end_dt6
    oracle = Walk(underlay, sids, ecmp)
    segments = segment_list(ShortestPaths(underlay.topology), sids, path, final, ecmp=ecmp)
    assert oracle.paths(path.routers[0], segments) == {path}
    everything = sorted(oracle.owners)
    for length in range(min(len(segments) - 1, 3)):
        for before in product(everything, repeat=length):
            assert oracle.paths(path.routers[0], (*before, final)) != {path}


@settings(max_examples=300, deadline=None)
@given(underlays(), st.booleans(), st.data())
def test_the_simulator_finds_every_path_and_no_other(
    underlay: Underlay, ecmp: bool, data: st.DataObject
) -> None:
    sids = sid_table(underlay.topology)
    oracle = Walk(underlay, sids, ecmp)
    simulator = Simulator(ShortestPaths(underlay.topology), sids, ecmp=ecmp)
    start = data.draw(st.sampled_from(underlay.names))
    ends = {own.end_dt6 for own in sids.values()} | {own.end_dx4 for own in sids.values()}
    onward = sorted(oracle.owners.keys() - ends)
    segments = data.draw(st.lists(st.sampled_from(onward), max_size=3))
    segments += data.draw(st.lists(st.sampled_from(sorted(oracle.owners)), max_size=1))
    paths = simulator.paths(start, segments)
    event(f"{min(len(paths), 5)} paths")
    assert paths == oracle.paths(start, segments)


@given(underlays(), st.data())
def test_nothing_is_delivered_behind_a_sid_that_decapsulates(
    underlay: Underlay, data: st.DataObject
) -> None:
    sids = sid_table(underlay.topology)
    over = data.draw(st.sampled_from(sorted(own.end_dt6 for own in sids.values())))
    behind = data.draw(st.sampled_from(sorted(own.end for own in sids.values())))
    simulator = Simulator(ShortestPaths(underlay.topology), sids)
    with pytest.raises(NotDelivered, match=f"{over} decapsulates"):
        simulator.paths(underlay.names[0], [over, behind])


@settings(max_examples=200, deadline=None)
@given(underlays(), st.data())
def test_the_shortest_path_needs_the_final_segment_only(
    underlay: Underlay, data: st.DataObject
) -> None:
    paths, sids = ShortestPaths(underlay.topology), sid_table(underlay.topology)
    source, target = (data.draw(st.sampled_from(underlay.names)) for _ in range(2))
    final = sids[target].end_dt6
    (path,) = Simulator(paths, sids, ecmp=False).paths(source, [final])
    assert path.routers == paths.path(source, target)
    assert segment_list(paths, sids, path, final, ecmp=False) == (final,)


@settings(max_examples=200, deadline=None)
@given(underlays(), st.data())
def test_every_path_is_possible_where_every_router_has_sids(
    underlay: Underlay, data: st.DataObject
) -> None:
    path = data.draw(walks(underlay))
    paths, sids = ShortestPaths(underlay.topology), sid_table(underlay.topology)
    for ecmp in (False, True):
        segments = segment_list(paths, sids, path, sids[path.routers[-1]].end_dt6, ecmp=ecmp)
        assert 1 <= len(segments) <= len(path.routers)
