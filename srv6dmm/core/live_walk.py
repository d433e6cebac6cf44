"""Where a live probe went: sightings put in travel order, and held against the simulator's walk.

Routers' clocks need not agree: the order is that of the links. Only what one router saw is put in
order by its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from srv6dmm.core.fib_walk import MAXIMUM_HOPS, Hop, Outcome, Packet, Walk
from srv6dmm.model.addresses import as_text
from srv6dmm.model.plan import Delivery, PlanEntry, RouterSettings, UplinkBinding
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import LinkEnd

FarEnd = Callable[[str, str], LinkEnd | None]
_STAYS = (Outcome.DROPPED, Outcome.UNREACHABLE, Outcome.LOCAL)


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where a router is to receive a packet, and from whom (None: it does not matter)."""

    interface: str
    link_layer_address: str | None


@dataclass(frozen=True, slots=True)
class Observation:
    """A probe crossed an interface."""

    router: str
    interface: str
    outgoing: bool
    at_us: int
    """Since the probe was sent, by the router's own clock."""
    hop_limit: int
    headers: tuple[SegmentList, ...]
    """Segments left in each outer header, the outermost last."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A probe's way through one router."""

    router: str
    arrives_by: str
    leaves_by: str | None
    """None: it was not seen to leave."""
    headers: tuple[SegmentList, ...]
    """As it left, or else as it came."""
    at_us: int | None
    seen: bool = True
    """False: nobody looked there; that it passed follows from what its neighbours saw."""


def entrance(entries: Iterable[PlanEntry], packet: Packet) -> Entrance | None:
    """Return where a router receives a packet from outside, by its plan.

    From the node whose prefix the source is in, if it is here; else from a network that the source
    is in; else from any network; else from the core. None: the router has no interface.
    """
    settings: RouterSettings | None = None
    for entry in entries:
        match entry:
            case Delivery() | UplinkBinding() if packet.source in entry.prefix:
                return Entrance(entry.interface, entry.link_layer_address)
            case RouterSettings():
                settings = entry
            case _:
                pass
    if settings is None:
        return None
    for interface, address, length in settings.host_interfaces:
        if int(packet.source) >> (128 - length) == int(address) >> (128 - length):
            return Entrance(interface, None)
    names = [interface for interface, _, _ in settings.host_interfaces]
    names += settings.core_interfaces
    return Entrance(names[0], None) if names else None


def follow(
    router: str,
    interface: str,
    observations: Sequence[Observation],
    far_end: FarEnd,
    unwatched: Collection[str] = (),
) -> tuple[Passage, ...]:
    """Return the way of a probe that came in at a router, as far as it was seen."""
    left = sorted(observations, key=lambda one: one.at_us)
    passages: list[Passage] = []
    here = LinkEnd(router, interface)
    while len(passages) < MAXIMUM_HOPS:
        if here.node in unwatched:
            following = _next_arrival(left, here.node, far_end)
            out = far_end(following.router, following.interface) if following else None
            leaves_by = out.interface if out is not None else None
            passages.append(Passage(here.node, here.interface, leaves_by, (), None, False))
            if following is None:
                break
            here = LinkEnd(following.router, following.interface)
            continue
        arrival = _take(left, here.node, False, here.interface)
        if arrival is None:
            break
        departure = _take(left, here.node, True)
        last = departure or arrival
        passages.append(
            Passage(
                here.node,
                here.interface,
                departure.interface if departure is not None else None,
                last.headers,
                arrival.at_us,
            )
        )
        far = far_end(here.node, departure.interface) if departure is not None else None
        if far is None:
            break
        here = far
    return tuple(passages)


def _take(
    left: list[Observation], router: str, outgoing: bool, interface: str | None = None
) -> Observation | None:
    for place, one in enumerate(left):
        if (one.router, one.outgoing) == (router, outgoing) and interface in (None, one.interface):
            return left.pop(place)
    return None


def _next_arrival(left: Sequence[Observation], router: str, far_end: FarEnd) -> Observation | None:
    for one in left:
        far = None if one.outgoing else far_end(one.router, one.interface)
        if far is not None and far.node == router:
            return one
    return None


def has_left(passages: Sequence[Passage], far_end: FarEnd) -> bool:
    """Tell whether a probe was seen to leave the domain: nothing more is to be expected."""
    if not passages or passages[-1].leaves_by is None:
        return False
    return far_end(passages[-1].router, passages[-1].leaves_by) is None


def ending(passages: Sequence[Passage], far_end: FarEnd) -> str:
    """Return where a probe was seen last, as a sentence."""
    if not passages:
        return "it was not seen at all"
    last = passages[-1]
    if not last.seen:
        return f"nobody looks at {last.router}, and nobody saw it behind that"
    if last.leaves_by is None:
        return f"it came to {last.router} and was not seen to leave it"
    far = far_end(last.router, last.leaves_by)
    if far is None:
        return f"it left {last.router} by {last.leaves_by}"
    return f"it left {last.router} by {last.leaves_by} and did not come to {far.node}"


def difference(walk: Walk, passages: Sequence[Passage], far_end: FarEnd) -> str | None:
    """Return in what a probe's way differs first from a walk; None: in nothing that was seen."""
    for number, hop in enumerate(walk.hops):
        if number >= len(passages):
            return f"simulated: on to {hop.router}; live: {ending(passages, far_end)}"
        passage = passages[number]
        if passage.router != hop.router:
            return f"simulated: hop {number + 1} is {hop.router}; live: {passage.router}"
        if hop.arrives_by not in (None, passage.arrives_by):
            return (
                f"simulated: {hop.router} gets it by {hop.arrives_by}; "
                f"live: by {passage.arrives_by}"
            )
        if not passage.seen:
            continue
        found = _leaving(walk, hop, number + 1 == len(walk.hops), passage, far_end)
        if found is not None:
            return found
    if walk.outcome is not Outcome.LOOP and len(passages) > len(walk.hops):
        passage = passages[len(walk.hops)]
        return f"simulated: it ends at {walk.hops[-1].router}; live: on to {passage.router}"
    return None


def _leaving(walk: Walk, hop: Hop, last: bool, passage: Passage, far_end: FarEnd) -> str | None:
    live = passage.leaves_by
    if last and walk.outcome in _STAYS:
        if live is not None:
            return f"simulated: it ends at {hop.router}; live: out of {live}"
        return None
    if live is None:
        where = f"out of {hop.leaves_by}" if hop.leaves_by is not None else walk.outcome.value
        return f"simulated: {hop.router}: {where}; live: not seen to leave"
    if hop.leaves_by is not None:
        if live != hop.leaves_by:
            return f"simulated: {hop.router}: out of {hop.leaves_by}; live: out of {live}"
    elif far_end(hop.router, live) is not None:
        return f"simulated: {hop.router}: {walk.outcome.value}; live: out of {live}"
    headers = tuple(outer.segments for outer in hop.headers)
    if headers != passage.headers:
        return (
            f"simulated: it leaves {hop.router} with {_text(headers)}; "
            f"live: with {_text(passage.headers)}"
        )
    return None


def _text(headers: Sequence[SegmentList]) -> str:
    if not headers:
        return "no outer header"
    return " under ".join(", ".join(map(as_text, segments)) for segments in headers)
