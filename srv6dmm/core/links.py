"""Links as they are: those that work of those that are declared, and what their delay is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from srv6dmm.model.topology import Link, LinkEnd, Topology


def measured_at(link: Link) -> LinkEnd:
    """Return the end by which a link's measured delay is kept."""
    return min(link.ends(), key=lambda end: (end.node, end.interface))


def delay_in_use(link: Link, delays: Mapping[LinkEnd, int]) -> int:
    """Return the delay that paths count, in microseconds: the declared one, or else the measured.

    `delays`: by `measured_at`. A link whose declared delay is 0 has none declared.
    """
    return link.delay_us or delays.get(measured_at(link), 0)


def in_force(
    declared: Topology, down: Collection[LinkEnd], delays: Mapping[LinkEnd, int] | None = None
) -> Topology:
    """Return the topology without the links that have an end in `down`, delays as in use."""
    if not down and not delays:
        return declared
    links = [link for link in declared.links if not any(end in down for end in link.ends())]
    if delays:
        links = [replace(link, delay_us=delay_in_use(link, delays)) for link in links]
    return replace(declared, links=tuple(links))
