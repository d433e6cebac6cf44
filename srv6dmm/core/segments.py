"""Segment lists: the shortest one that makes packets follow a given path.

A segment list is a chain of moves along the path. A node segment (End) leads over a stretch
that the underlay takes by itself, to the stretch's last router. An adjacency segment (End.X)
does so too and crosses one more link, whatever the underlay thinks of it. The final SID leads
over the last stretch (RFC 8402 sections 3.1 and 3.4; RFC 8986 sections 4.1 and 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise

from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.sids import LOCATOR_LENGTH
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import RouterSids


class NoSegmentList(Srv6dmmError):
    """No segment list makes packets follow the path, or the path is none."""


@dataclass(frozen=True, slots=True)
class _Move:
    """The best that can be done from a place on the path to its end."""

    segments: int
    adjacencies: int
    sid: IPv6Address
    then: int
    """Place on the path where the next segment starts; the path's length after the final."""

    @property
    def cost(self) -> tuple[int, int, int]:
        return (self.segments, self.adjacencies, -self.then)


def segment_list(
    paths: ShortestPaths,
    sids: Mapping[str, RouterSids],
    path: Sequence[str],
    final: IPv6Address,
    *,
    ecmp: bool = False,
) -> SegmentList:
    """Return the shortest segment list that realises exactly `path` and ends in `final`.

    `path` names routers from the head-end to the router that owns `final`, both included.
    Without `ecmp` the underlay takes the next hops of `paths`; with it, routers may use any next
    hop of equal cost, so a stretch counts only when its shortest path is the only one. Among
    lists of equal length, the one with the fewest adjacency segments is taken (they fail with
    their link), then the one whose first segments reach farthest.

    Raises NoSegmentList when the path is not connected, when it leaves the underlay's way at a
    router that has no SID to say so, or when `final` lies outside the last router's locator.
    """
    nodes = tuple(path)
    crossings = _crossings(paths, sids, nodes)
    _check_final(sids, nodes[-1], final)
    starts = [_stretch_start(paths, nodes, end, ecmp) for end in range(len(nodes))]
    last = len(nodes) - 1
    best: list[_Move | None] = [None] * len(nodes)
    for here in range(last, -1, -1):
        if starts[last] <= here:
            best[here] = _Move(1, 0, final, len(nodes))
            continue
        for end in range(last, here - 1, -1):
            if starts[end] > here:
                continue
            own = sids.get(nodes[end])
            if own is None:
                continue
            if end > here:
                best[here] = _better(best[here], best[end], own.end, end, 0)
            crossing = crossings[end] if end < last else None
            if crossing is not None:
                best[here] = _better(best[here], best[end + 1], crossing, end + 1, 1)
    return _collect(nodes, sids, starts, best)


def _better(
    known: _Move | None, rest: _Move | None, sid: IPv6Address, then: int, adjacencies: int
) -> _Move | None:
    """Return the better of what is known and a segment followed by the best from there."""
    if rest is None:
        return known
    move = _Move(rest.segments + 1, rest.adjacencies + adjacencies, sid, then)
    if known is None:
        return move
    return move if move.cost < known.cost else known


def _crossings(
    paths: ShortestPaths, sids: Mapping[str, RouterSids], nodes: tuple[str, ...]
) -> list[IPv6Address | None]:
    """Return, per link of the path, the End.X SID that crosses it (None: no locator).

    Of parallel links the one with the smallest metric is taken, then the smallest interface.
    Raises NoSegmentList when two nodes that follow each other are not neighbours.
    """
    if not nodes:
        raise NoSegmentList("the path is empty; name the head-end at least")
    found: list[IPv6Address | None] = []
    try:
        for name in nodes:
            if not paths.is_router(name):
                raise NoSegmentList(f"{name!r} is no router; a path leads over routers only")
        for here, there in pairwise(nodes):
            links = [
                (metric, interface)
                for metric, name, interface in paths.neighbours(here)
                if name == there
            ]
            if not links:
                raise NoSegmentList(f"{here} and {there} are not neighbours; correct the path")
            own = sids.get(here)
            found.append(own.adjacencies[min(links)[1]] if own is not None else None)
    except NoPath as error:
        raise NoSegmentList(str(error)) from error
    return found


def _check_final(sids: Mapping[str, RouterSids], last: str, final: IPv6Address) -> None:
    """A final SID of another router would lead packets past the path's end."""
    own = sids.get(last)
    if own is None:
        raise NoSegmentList(f"{last} has no locator, so no path can end there; give it one")
    locator = IPv6Network((own.end, LOCATOR_LENGTH), strict=False)
    if final not in locator:
        raise NoSegmentList(f"the final SID {final} is not in {locator}, the locator of {last}")


def _stretch_start(paths: ShortestPaths, nodes: tuple[str, ...], end: int, ecmp: bool) -> int:
    """Return the first place from which the underlay follows the path to `end` by itself.

    Every tail of a shortest path is one, so all later places do too.
    """
    target = nodes[end]
    start = end
    while start > 0 and nodes[start - 1] != target:
        if ecmp:
            hops = paths.next_hops(nodes[start - 1], target)
        else:
            hops = [paths.next_hop(nodes[start - 1], target)]
        if any(name != nodes[start] for _, name in hops):
            break
        start -= 1
    return start


def _collect(
    nodes: tuple[str, ...],
    sids: Mapping[str, RouterSids],
    starts: list[int],
    best: list[_Move | None],
) -> SegmentList:
    segments: list[IPv6Address] = []
    here = 0
    while here < len(nodes):
        move = best[here]
        if move is None:
            raise NoSegmentList(_why(nodes, sids, starts))
        segments.append(move.sid)
        here = move.then
    return tuple(segments)


def _why(nodes: tuple[str, ...], sids: Mapping[str, RouterSids], starts: list[int]) -> str:
    """Say how far segments lead. There a locator is missing: with one, End.X would lead on."""
    reached = {0}
    for here in range(len(nodes) - 1):
        if here in reached:
            for end in range(here, len(nodes) - 1):
                if starts[end] <= here and nodes[end] in sids:
                    reached |= {end, end + 1}
    place = max(reached)
    return (
        f"no segment list makes packets follow {' '.join(nodes)}: segments lead to "
        f"{nodes[place]}, which has no SID, and the underlay does not go on to "
        f"{nodes[place + 1]} by itself; give {nodes[place]} a locator or choose another path"
    )
