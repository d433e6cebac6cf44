"""Changes of a domain in operation: what may change, and what would cut somebody off."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from srv6dmm.core.links import in_force
from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.sids import sid_table
from srv6dmm.core.topology import TopologyErrors, parse_topology
from srv6dmm.core.topology_document import Document
from srv6dmm.model.state import State
from srv6dmm.model.topology import LinkEnd, Topology

Fault = tuple[str, str]
"""(key in the document, what is wrong and what to do)."""

_LIVE_NODE = ("maximum_sid_depth", "services")
"""What of a router may change while it runs."""


def patched(document: Document, patch: Mapping[str, Any]) -> Document:
    """Return a document with a merge patch applied (RFC 7396).

    Other than there, `topology.links` names links by their endpoints, in either order: a link that
    is there is merged, one that is not is added, and one with `"remove": true` goes.
    """
    patch = dict(patch)
    body = patch.get("topology")
    links = None
    if isinstance(body, Mapping) and isinstance(body.get("links"), list):
        links = body["links"]
        patch["topology"] = {key: value for key, value in body.items() if key != "links"}
    merged = cast(Document, _merged(document, patch))
    inside = merged.get("topology")
    if links is not None and isinstance(inside, dict):
        merged["topology"] = inside | {"links": _merged_links(inside.get("links"), links)}
    return merged


def _merged(value: object, patch: object) -> object:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for key, part in patch.items():
        if part is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), part)
    return merged


def _merged_links(links: object, patches: list[object]) -> list[object]:
    merged = list(links) if isinstance(links, list) else []
    places = {_ends(link): number for number, link in enumerate(merged)}
    for patch in patches:
        place = places.get(_ends(patch))
        if place is None or not isinstance(patch, Mapping):
            merged.append(patch)
        elif patch.get("remove") is True:
            merged[place] = None
        else:
            given = {key: part for key, part in patch.items() if key != "endpoints"}
            merged[place] = _merged(merged[place], given)
    return [link for link in merged if link is not None]


def _ends(link: object) -> frozenset[str] | None:
    ends = link.get("endpoints") if isinstance(link, Mapping) else None
    return frozenset(map(str, ends)) if isinstance(ends, list) else None


def read(document: Document) -> tuple[Topology | None, list[Fault]]:
    """Return the topology of a document, or every fault in it."""
    try:
        return parse_topology(json.dumps(document), "document"), []
    except TopologyErrors as errors:
        return None, [(error.key, error.message) for error in errors.errors]


def update_faults(
    old: Topology, new: Topology, state: State, down: Collection[LinkEnd]
) -> list[Fault]:
    """Return why a domain cannot go from one topology to another while it runs."""
    faults = [*_fixed(old, new), *_moved_sids(old, new)]
    return faults or [*_cut_off(old, new, state, down)]


def _fixed(old: Topology, new: Topology) -> Iterator[Fault]:
    """Yield what only a restart of the controller with another file can change."""
    if replace(old.domain, affinities=()) != replace(new.domain, affinities=()):
        yield ("domain", "of the domain only the affinities can change while it runs")
    for name in sorted(old.nodes.keys() ^ new.nodes.keys()):
        change = "is new" if name in new.nodes else "is missing"
        yield (f"topology.nodes.{name}", f"{change}: nodes come and go with the file, at a restart")
    for name in sorted(old.nodes.keys() & new.nodes.keys()):
        a, b = old.nodes[name], new.nodes[name]
        same = {key: getattr(a, key) for key in _LIVE_NODE}
        if replace(b, **same) != a:
            yield (
                f"topology.nodes.{name}",
                "only max-sid-depth and services can change while the domain runs",
            )
    if old.inner_mtu() != new.inner_mtu():
        yield (
            "topology.links",
            f"mobile nodes were told an MTU of {old.inner_mtu()} bytes; these links make it "
            f"{new.inner_mtu()}",
        )


def _moved_sids(old: Topology, new: Topology) -> Iterator[Fault]:
    """Yield adjacencies that would get another SID: packets on their way name the old ones."""
    if old.nodes.keys() != new.nodes.keys():
        return
    before, after = sid_table(old), sid_table(new)
    for router, own in before.items():
        for interface, sid in own.adjacencies.items():
            now = after[router].adjacencies.get(interface)
            if now is not None and now != sid:
                yield (
                    "topology.links",
                    f"the adjacency of {router}:{interface} would become {now} instead of {sid}: "
                    "name the interface of a new link so that it sorts last, or drain a link "
                    "instead of removing it",
                )


def _cut_off(
    old: Topology, new: Topology, state: State, down: Collection[LinkEnd]
) -> Iterator[Fault]:
    """Yield routers in use that head-ends reach now and would not reach any more."""
    used = {session.serving for session in state.sessions.values()}
    used |= {lease.anchor for lease in state.leases.values()}
    used |= {node.name for node in old.head_ends()}
    before, after = ShortestPaths(in_force(old, down)), ShortestPaths(in_force(new, down))
    head_ends = [node.name for node in old.head_ends()]
    for router in sorted(used):
        others = [name for name in head_ends if name != router]
        lost = [
            name
            for name in others
            if _reaches(before, name, router) and not _reaches(after, name, router)
        ]
        if lost:
            yield (
                "topology.links",
                f"{router} is in use and would be cut off from {', '.join(lost)}",
            )


def _reaches(paths: ShortestPaths, source: str, target: str) -> bool:
    try:
        paths.distance(source, target)
    except NoPath:
        return False
    return True
