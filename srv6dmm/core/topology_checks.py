"""What a topology must satisfy as a whole, beyond the form of its keys."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from srv6dmm.model.topology import Role, Topology

Fault = tuple[str, str, str]
"""(place: a node's name, "NAME key" or "link N"; key; message)."""

MINIMUM_MTU = 1280
"""RFC 8200 section 5: every link carries this much, so an encapsulated packet must too."""
LOCATOR_LENGTH = 48


def check_topology(topology: Topology) -> Iterator[Fault]:
    """Yield every fault; none means that plans can be made for it."""
    yield from _nodes(topology)
    yield from _prefixes(topology)
    yield from _links(topology)
    yield from _reachable(topology)


def _nodes(topology: Topology) -> Iterator[Fault]:
    indices: dict[int, str] = {}
    macs: dict[str, str] = {}
    degree = {name: 0 for name in topology.nodes}
    for link in topology.links:
        for end in link.ends():
            degree[end.node] += 1
    if not topology.access_routers():
        yield ("", "nodes", "there is no access router; a domain needs one at least")
    for name, node in topology.nodes.items():
        if node.is_router:
            if node.index in indices:
                yield (f"{name} index", "index", f"is that of {indices[node.index]} too")
            indices[node.index] = name
        if node.is_head_end and node.locator is None:
            yield (name, "locator", f"{name} is a head-end and needs a locator")
        if node.role is Role.ACCESS and not node.pools:
            yield (name, "pool", f"{name} is an access router and needs a prefix pool")
        if node.role is not Role.ACCESS and node.pools:
            yield (f"{name} pool", "pool", f"{name} is no access router; only those own pools")
        for pool in node.pools:
            if pool.prefixlen > 64:
                yield (f"{name} pool", "pool", f"{pool} is longer than /64, the prefix a node gets")
        if node.role is Role.CORRESPONDENT:
            if len(node.announces) != 1 or node.announces[0].prefixlen > 64:
                yield (name, "prefix", f"correspondent {name} needs a prefix of /64 or shorter")
            if degree[name] != 1:
                yield (name, "links", f"correspondent {name} has {degree[name]} links, not one")
        if node.role is Role.MOBILE:
            if degree[name]:
                yield (name, "links", f"mobile node {name} has a radio only, no links")
            if node.mac is None:
                yield (name, "mac", f"mobile node {name} needs a link-layer address")
            elif node.mac in macs:
                yield (f"{name} mac", "mac", f"is that of {macs[node.mac]} too")
            else:
                macs[node.mac] = name


def _prefixes(topology: Topology) -> Iterator[Fault]:
    block = topology.domain.sid_block
    claimed: list[tuple[IPv6Network, str, str]] = []
    for name, node in topology.nodes.items():
        if node.locator is not None:
            prefix = node.locator.prefix
            claimed.append((prefix, name, "locator"))
            if prefix.prefixlen != LOCATOR_LENGTH:
                yield (f"{name} locator", "locator", f"{prefix} must be a /{LOCATOR_LENGTH}")
            elif not prefix.subnet_of(block):
                yield (f"{name} locator", "locator", f"{prefix} is not in the SID block {block}")
            taken: dict[object, str] = {}
            for key, sid in node.explicit_sids:
                if sid not in prefix:
                    yield (f"{name} sids", key, f"SID {sid} is outside {name}'s locator {prefix}")
                if sid == node.loopback or sid in taken:
                    other = taken.get(sid, "the router's loopback")
                    yield (f"{name} sids", key, f"SID {sid} is that of {other} too")
                taken[sid] = key
        elif node.explicit_sids:
            yield (f"{name} sids", "sids", f"{name} has no locator to take SIDs from")
        claimed += [(pool, name, "pool") for pool in node.pools]
        claimed += [(prefix, name, "announces") for prefix in node.announces
                    if prefix.prefixlen > 0]
        for prefix in (*node.pools, *node.announces):
            if prefix.prefixlen > 0 and prefix.overlaps(block):
                yield (name, "prefix", f"{prefix} overlaps the SID block {block}")
    claimed.sort(key=lambda claim: (int(claim[0].network_address), claim[0].prefixlen))
    for (first, owner, kind), (second, other, key) in zip(claimed, claimed[1:], strict=False):
        if first.overlaps(second):
            yield (
                f"{other} {key}", key, f"{second} of {other} overlaps the {kind} {first} of {owner}"
            )


def _links(topology: Topology) -> Iterator[Fault]:
    used: dict[tuple[str, str], str] = {}
    for node in topology.nodes.values():
        if node.access_interface is not None:
            used[(node.name, node.access_interface)] = "the access interface"
    overhead = topology.overhead()
    core = set(topology.core_links())
    for number, link in enumerate(topology.links):
        place = f"link {number}"
        if link.a.node == link.b.node:
            yield (place, "endpoints", f"joins {link.a.node} to itself")
        for end in link.ends():
            if (end.node, end.interface) in used:
                yield (place, "endpoints", f"{end} is {used[end.node, end.interface]} already")
            used[(end.node, end.interface)] = "used by another link"
            if end.interface == "lo":
                yield (place, "endpoints", f"{end}: lo is every node's own")
        hosts = [end for end in link.ends() if not topology.nodes[end.node].is_router]
        if len(hosts) == 2:
            yield (place, "endpoints", "joins two hosts; one end must be a router")
        if link in core and link.mtu < MINIMUM_MTU + overhead:
            yield (
                place,
                "mtu",
                f"{link.mtu} is too small: {MINIMUM_MTU} bytes with {topology.domain.max_segments} "
                f"segment(s) of {topology.domain.encap_mode} need {MINIMUM_MTU + overhead}",
            )


def _reachable(topology: Topology) -> Iterator[Fault]:
    routers = [node.name for node in topology.routers()]
    if not routers:
        return
    near: dict[str, set[str]] = {name: set() for name in routers}
    for link in topology.core_links():
        near[link.a.node].add(link.b.node)
        near[link.b.node].add(link.a.node)
    start = max(routers, key=lambda name: len(near[name]))
    reached, todo = {start}, [start]
    while todo:
        for name in near[todo.pop()] - reached:
            reached.add(name)
            todo.append(name)
    for name in routers:
        if name not in reached:
            yield (name, "links", f"router {name} cannot be reached from {start}; add a link")
