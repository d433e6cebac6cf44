"""Links that work, of those that are declared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from srv6dmm.model.topology import LinkEnd, Topology


def in_force(declared: Topology, down: Collection[LinkEnd]) -> Topology:
    """Return the topology without the links that have an end in `down`."""
    if not down:
        return declared
    links = tuple(link for link in declared.links if not any(end in down for end in link.ends()))
    return replace(declared, links=links)
