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

from srv6dmm.core.compression import SLOTS, Compression, after
from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.sids import LOCATOR_LENGTH
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.path import Path
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import RouterSids

NO_COMPRESSION = Compression({})
Stop = tuple[int, IPv6Address]
"""(place on the path, SID of that router that packets are to be handed to there)."""


class NoSegmentList(Srv6dmmError):
    """No segment list makes packets follow the path, or the path is none."""


@dataclass(frozen=True, slots=True)
class _Move:
    """The best that can be done from a place on the path to its end."""

    cost: tuple[int, int, int, int]
    """Slots used up (those left empty included), adjacency segments, segments; and the place where
    the next one starts, negative."""
    sid: IPv6Address
    then: int
    """Place on the path where the next segment starts; the path's length after the final."""
    used: int
    """Slots of the container under way when it does."""


@dataclass(frozen=True, slots=True)
class _Leg:
    """A piece of the path, from one router to the next at which packets must be handed over."""

    routers: tuple[str, ...]
    crossings: tuple[int, ...]
    adjacencies: tuple[IPv6Address | None, ...]
    """End.X of each crossing; None: the router has no locator."""
    starts: tuple[int, ...]
    """By place: where the stretch begins that the underlay takes to it by itself."""


def segment_list(
    paths: ShortestPaths,
    sids: Mapping[str, RouterSids],
    path: Path,
    final: IPv6Address,
    *,
    stops: Sequence[Stop] = (),
    ecmp: bool = True,
    compression: Compression = NO_COMPRESSION,
) -> SegmentList:
    """Return the shortest segment list that realises exactly `path` and ends in `final`.

    `path` leads from the head-end to the router that owns `final`. `stops` are further SIDs on
    it that must be in the list, such as those of services, in travel order. With `ecmp` routers
    may use any next hop of equal cost, so a stretch needs no segment only where its shortest
    path is the only one; without it the underlay takes the next hops of `paths`. Among lists of
    equal length, the one with the fewest adjacency segments is taken (they fail with their
    link), then the one whose first segments reach farthest. Length is that which `compression`
    leaves; the list is returned as it is before, with the fewest segments of what is equal else.

    Raises NoSegmentList when the path is not connected, when it leaves the underlay's way at a
    router that has no SID to say so, or when a SID lies outside its router's locator.
    """
    try:
        crossings = paths.graph.crossings(path)
    except NoPath as error:
        raise NoSegmentList(str(error)) from error
    segments: list[IPv6Address] = []
    start = used = 0
    for place, sid in (*stops, (len(crossings), final)):
        if not start <= place <= len(crossings):
            raise NoSegmentList(f"place {place} of {sid} is not ahead on the path {path}")
        routers = path.routers[start : place + 1]
        _check_owner(sids, routers[-1], sid)
        leg = _leg(paths, sids, routers, crossings[start:place], ecmp)
        laid = _lay(leg, sids, sid, compression, used)
        segments += laid
        start, used = place, compression.used(laid, used) % SLOTS
    return tuple(segments)


def _leg(
    paths: ShortestPaths,
    sids: Mapping[str, RouterSids],
    routers: tuple[str, ...],
    crossings: tuple[int, ...],
    ecmp: bool,
) -> _Leg:
    graph = paths.graph
    source = graph.index[routers[0]]

    def start(place: int, floor: int = 0) -> int:
        target = graph.index[routers[place]]
        return paths.stretch_start(source, crossings[:place], target, floor, ecmp)

    last = len(crossings)
    end = start(last)
    if end == 0:  # the common case: nothing on the way needs to be looked at
        return _Leg(routers, crossings, (), (0,) * last + (end,))
    adjacencies = [
        own.adjacencies[graph.interfaces[number]] if (own := sids.get(router)) else None
        for router, number in zip(routers, crossings, strict=False)
    ]
    starts = (*(start(place) for place in range(last)), end)
    return _Leg(routers, crossings, tuple(adjacencies), starts)


def _lay(
    leg: _Leg,
    sids: Mapping[str, RouterSids],
    final: IPv6Address,
    compression: Compression,
    used: int,
) -> list[IPv6Address]:
    """Return the best list along a leg, by going back from its end.

    What is best depends on how many slots of a container are used when a segment starts.
    """
    last = len(leg.crossings)
    possible = range(SLOTS) if compression else (0,)
    best: list[dict[int, _Move]] = [{} for _ in range(last + 1)]
    for here in range(last, -1, -1):
        if leg.starts[last] <= here:
            slots = compression.slots(final)
            for count in possible:
                cost = (after(count, slots) - count, 0, 1, -last - 1)
                best[here][count] = _Move(cost, final, last + 1, 0)
            continue
        for end in range(last - 1, here - 1, -1):
            own = sids.get(leg.routers[end])
            if own is None or leg.starts[end] > here:
                continue
            ways = [(own.end, end, 0)] if end > here else []
            crossing = leg.adjacencies[end]
            if crossing is not None:
                ways.append((crossing, end + 1, 1))
            for sid, then, adjacencies in ways:
                slots = compression.slots(sid)
                for count in possible:
                    reached = after(count, slots)
                    rest = best[then].get(reached % SLOTS)
                    if rest is not None:
                        _improve(best[here], count, reached, rest, sid, then, adjacencies)
    segments: list[IPv6Address] = []
    here = 0
    while here <= last:
        move = best[here].get(used)
        if move is None:
            raise NoSegmentList(_why(leg, sids))
        segments.append(move.sid)
        here, used = move.then, move.used
    return segments


def _improve(
    best: dict[int, _Move],
    count: int,
    reached: int,
    rest: _Move,
    sid: IPv6Address,
    then: int,
    adjacencies: int,
) -> None:
    """Take a segment followed by the best from there, where it is better than what is known."""
    slots, rest_adjacencies, segments, _ = rest.cost
    cost = (slots + reached - count, rest_adjacencies + adjacencies, segments + 1, -then)
    known = best.get(count)
    if known is None or cost < known.cost:
        best[count] = _Move(cost, sid, then, reached % SLOTS)


def _check_owner(sids: Mapping[str, RouterSids], router: str, sid: IPv6Address) -> None:
    """A SID of another router would lead packets past the place."""
    own = sids.get(router)
    if own is None:
        raise NoSegmentList(f"{router} has no locator, so no path can end there; give it one")
    locator = IPv6Network((own.end, LOCATOR_LENGTH), strict=False)
    if sid not in locator and sid not in own.anycast.values():
        raise NoSegmentList(f"the SID {sid} is not in {locator}, the locator of {router}")


def _why(leg: _Leg, sids: Mapping[str, RouterSids]) -> str:
    """Say how far segments lead. There a locator is missing: with one, End.X would lead on."""
    reached = {0}
    last = len(leg.crossings)
    for here in range(last):
        if here in reached:
            for end in range(here, last):
                if leg.starts[end] <= here and leg.routers[end] in sids:
                    reached |= {end, end + 1}
    place = max(reached)
    return (
        f"no segment list makes packets follow {' '.join(leg.routers)}: segments lead to "
        f"{leg.routers[place]}, which has no SID, and the underlay does not go on to "
        f"{leg.routers[place + 1]} by itself; give {leg.routers[place]} a locator or choose "
        "another path"
    )
