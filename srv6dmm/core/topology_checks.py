"""What a topology must satisfy as a whole, beyond the form of its keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.core.compression import BLOCK_LENGTH, function, slot_of
from srv6dmm.core.sids import LOCATOR_LENGTH, SID_NAMES, named_sids, sid_table
from srv6dmm.model.topology import Node, Role, RouterSids, Topology

Fault = tuple[str, str]
"""(key, message)."""

MINIMUM_MTU = 1280
"""RFC 8200 section 5: every link carries this much, so an encapsulated packet must too."""
MOBILE_LENGTH = 64
_UNUSABLE = tuple(IPv6Network(text) for text in ("::/8", "fe80::/10", "ff00::/8"))
"""Unspecified and loopback, link-local, multicast: no prefix of ours can lie there."""


def check_topology(
    topology: Topology, link_keys: Sequence[str] = (), loose: Collection[str] = ()
) -> Iterator[Fault]:
    """Yield every fault; none means that plans can be made for it.

    `link_keys` are the keys of the links in the file. `loose` are nodes at links that could not
    be read: nothing is said about what these nodes are not connected to.
    """
    keys = list(link_keys) or [f"topology.links[{n}]" for n in range(len(topology.links))]
    yield from _nodes(topology)
    yield from _degrees(topology, keys, loose)
    yield from _prefixes(topology)
    yield from _sids(topology)
    if topology.domain.usid:
        yield from _slots(topology)
    yield from _links(topology, keys)
    yield from _reachable(topology, loose)


def _key(node: str, key: str) -> str:
    return f"topology.nodes.{node}.{key}"


def _nodes(topology: Topology) -> Iterator[Fault]:
    indices: dict[int, str] = {}
    macs = {topology.domain.router_mac: "the routers' (domain.router-mac)"}
    if not topology.access_routers():
        yield ("topology.nodes", "there is no access router; a domain needs one at least")
    for name, node in topology.nodes.items():
        if node.is_router and node.index:
            if node.index in indices:
                yield (_key(name, "index"), f"{node.index} is that of {indices[node.index]} too")
            indices.setdefault(node.index, name)
        if node.is_head_end and node.locator is None:
            yield (_key(name, "locator"), f"is needed: {node.role} routers encapsulate")
        if node.role is Role.ACCESS and not node.pools:
            yield (_key(name, "pool"), "is needed: mobile nodes get their prefixes from it")
        if node.role is Role.CORRESPONDENT and not node.announces:
            yield (_key(name, "prefix"), "is needed: the host's /64")
        if node.role is Role.MOBILE:
            if node.mac is None:
                yield (_key(name, "mac"), "is needed: deliveries go to it")
            elif node.mac in macs:
                yield (_key(name, "mac"), f"{node.mac} is {macs[node.mac]} too")
            else:
                macs[node.mac] = f"that of {name}"


def _degrees(topology: Topology, keys: Sequence[str], loose: Collection[str]) -> Iterator[Fault]:
    """Correspondents hang on one router that can steer; mobile nodes on none."""
    used: dict[str, list[int]] = {}
    for number, link in enumerate(topology.links):
        for here, there in (link.ends(), link.ends()[::-1]):
            used.setdefault(here.node, []).append(number)
            router = topology.nodes[there.node]
            host = topology.nodes[here.node].role is Role.CORRESPONDENT
            if host and router.role is Role.TRANSIT:
                yield (
                    keys[number],
                    f"{here.node} hangs on the transit router {there.node}, which cannot steer its "
                    "traffic; put it behind an access or border router",
                )
    for name, node in topology.nodes.items():
        links = used.get(name, [])
        if node.role is Role.MOBILE:
            for number in links:
                yield (keys[number], f"mobile node {name} has a radio only; remove this link")
        if node.role is Role.CORRESPONDENT:
            if not links and name not in loose:
                yield (f"topology.nodes.{name}", "has no link; a correspondent needs one")
            for number in links[1:]:
                yield (keys[number], f"correspondent {name} has a link already; keep one")


def _prefixes(topology: Topology) -> Iterator[Fault]:
    block = topology.domain.sid_block
    claims: list[tuple[IPv6Network, str, str]] = []
    """(prefix, node, key in it)"""
    if block.prefixlen > LOCATOR_LENGTH or any(block.overlaps(bad) for bad in _UNUSABLE):
        yield (
            "domain.sid-block",
            f"{block} must be unicast and /{LOCATOR_LENGTH} or shorter, e.g. fc00::/32",
        )
    default: str | None = None
    for name, node in topology.nodes.items():
        if node.locator is not None:
            prefix = node.locator.prefix
            claims.append((prefix, name, "locator"))
            if prefix.prefixlen != LOCATOR_LENGTH:
                yield (_key(name, "locator"), f"{prefix} must be a /{LOCATOR_LENGTH}")
            elif block.prefixlen <= LOCATOR_LENGTH and not prefix.subnet_of(block):
                yield (_key(name, "locator"), f"{prefix} is not in the SID block {block}")
        for pool in node.pools:
            claims.append((pool, name, "pool"))
            if pool.prefixlen > MOBILE_LENGTH:
                yield (
                    _key(name, "pool"),
                    f"{pool} is longer than /{MOBILE_LENGTH}, the prefix that a node gets",
                )
        for prefix in node.announces:
            if prefix.prefixlen == 0:
                if default is not None:
                    yield (_key(name, "announces"), f"::/0 is announced by {default} too; keep one")
                default = default or name
            else:
                claims.append((prefix, name, _announces(node)))
        if node.role is Role.CORRESPONDENT and node.announces:
            prefix = node.announces[0]
            if prefix.prefixlen != MOBILE_LENGTH:
                yield (_key(name, "prefix"), f"{prefix} must be a /{MOBILE_LENGTH}")
    for prefix, name, key in claims:
        bad = [str(unusable) for unusable in _UNUSABLE if prefix.overlaps(unusable)]
        if bad:
            yield (
                _key(name, key),
                f"{prefix} overlaps {bad[0]}; take unicast addresses that are routed",
            )
        if key != "locator" and prefix.overlaps(block):
            yield (_key(name, key), f"{prefix} overlaps the SID block {block}")
    yield from _overlaps(claims)


def _announces(node: Node) -> str:
    return "prefix" if node.role is Role.CORRESPONDENT else "announces"


def _overlaps(claims: list[tuple[IPv6Network, str, str]]) -> Iterator[Fault]:
    """Two prefixes overlap only when one holds the other: sorted, holders are a stack."""
    holders: list[tuple[IPv6Network, str, str]] = []
    for claim in sorted(claims, key=lambda c: (int(c[0].network_address), c[0].prefixlen)):
        prefix, name, key = claim
        while holders and not prefix.subnet_of(holders[-1][0]):
            holders.pop()
        if holders:
            held, owner, kind = holders[-1]
            yield (
                _key(name, key),
                f"{prefix} overlaps {held} ({kind} of {owner}); give each its own",
            )
        holders.append(claim)


def _sids(topology: Topology) -> Iterator[Fault]:
    for name, node in topology.nodes.items():
        if node.locator is None:
            if node.explicit_sids:
                yield (_key(name, "sids"), "there is no locator to take SIDs from; add one")
            if node.services:
                yield (_key(name, "services"), "there is no locator to take SIDs from; add one")
            if node.anycast:
                yield (_key(name, "anycast"), "a router without a locator has no SIDs; add one")
            if node.next_hop4 is not None:
                yield (_key(name, "next-hop4"), "End.DX4 needs a locator; add one")
    table = sid_table(topology)
    for name, sids in table.items():
        node = topology.nodes[name]
        if node.explicit_sids or node.services:
            yield from _explicit(node, sids)
    yield from _anycast(topology)


def _anycast(topology: Topology) -> Iterator[Fault]:
    """A group has one SID, in the SID block and in nobody's locator, and a name of its own."""
    block = topology.domain.sid_block
    groups: dict[str, tuple[IPv6Address, str]] = {}
    owners: dict[IPv6Address, str] = {}
    locators = [node for node in topology.nodes.values() if node.locator is not None]
    for name, node in topology.nodes.items():
        for group, sid in node.anycast:
            key = _key(name, f"anycast.{group}")
            known, first = groups.setdefault(group, (sid, name))
            if sid != known:
                yield (key, f"{sid} differs from {known}, the SID of the group at {first}")
                continue
            if first != name:
                continue  # judged there
            if group in topology.nodes:
                yield (key, f"{group} is the name of a node; give the group one of its own")
            if sid not in block:
                yield (key, f"{sid} is outside the SID block {block}")
            for other in locators:
                if other.locator is not None and sid in other.locator:
                    yield (
                        key,
                        f"{sid} is in {other.locator.prefix}, the locator of {other.name}; an "
                        "anycast SID is nobody's own",
                    )
            taken = owners.setdefault(sid, group)
            if taken != group:
                yield (key, f"{sid} is the SID of group {taken} already; choose another")


def _explicit(node: Node, sids: RouterSids) -> Iterator[Fault]:
    """Named SIDs lie in the locator and collide with nothing, numbered SIDs included."""
    if node.locator is None:
        return
    prefix = node.locator.prefix
    base = prefix.network_address
    owners: dict[IPv6Address, str] = {
        IPv6Address(int(base)): "the locator's own base address",
        IPv6Address(int(base) + 1): "the router's loopback",
    }
    explicit = dict(node.explicit_sids)
    for name, sid in named_sids(sids):
        if name not in explicit and not name.startswith(("service ", "anycast ")):
            owners[sid] = f"the SID of {name}"
    given = [(f"sids.{name}", sid, SID_NAMES[name]) for name, sid in node.explicit_sids]
    given += [(f"services.{name}", sid, f"service {name}") for name, sid in node.services]
    for suffix, sid, meaning in given:
        key = _key(node.name, suffix)
        if sid not in prefix:
            yield (key, f"{sid} is outside the locator {prefix} of {node.name}")
        if sid in owners:
            yield (key, f"{sid} is {owners[sid]} already; choose another function")
        owners.setdefault(sid, f"the SID of {meaning}")
    if "end-dx4" in explicit and node.next_hop4 is None:
        yield (_key(node.name, "sids.end-dx4"), "End.DX4 needs next-hop4, where it delivers to")


def _slots(topology: Topology) -> Iterator[Fault]:
    """What a container needs: one block, and slots that no router takes for a function of its own.

    A uN hands the destination on with the next router's slot where a function stands in a SID.
    """
    block: tuple[int, str] | None = None
    routers: dict[int, str] = {}
    for node in topology.routers():
        if node.locator is None or node.locator.prefix.prefixlen != LOCATOR_LENGTH:
            continue
        key = _key(node.name, "locator")
        sid = node.locator.prefix.network_address
        own = int(sid) >> 128 - BLOCK_LENGTH
        block = block or (own, node.name)
        if own != block[0]:
            yield (
                key,
                f"differs from that of {block[1]} in the first {BLOCK_LENGTH} bits; with "
                "domain.usid all locators share them",
            )
        if slot_of(sid) == 0:
            yield (key, "has zeros behind its block; with domain.usid they end a container")
        else:
            routers.setdefault(slot_of(sid), node.name)
    for own_sids in sid_table(topology).values():
        for name, sid in named_sids(own_sids):
            if (router := routers.pop(function(sid), None)) is not None:  # said once
                yield (
                    _key(router, "locator"),
                    f"{function(sid):x} is a function of {own_sids.router} ({name}) too; with "
                    "domain.usid a router's number is nobody's function: choose another",
                )


def _links(topology: Topology, keys: Sequence[str]) -> Iterator[Fault]:
    used: dict[tuple[str, str], str] = {}
    for node in topology.nodes.values():
        if node.access_interface is not None:
            used[node.name, node.access_interface] = "the access interface"
    needed = MINIMUM_MTU + topology.overhead() + topology.repair_overhead()
    repaired = ", and as much for a repair," if topology.repair_overhead() else ""
    for key, link in zip(keys, topology.links, strict=True):
        for number, end in enumerate(link.ends()):
            owner = used.get((end.node, end.interface))
            if owner is not None:
                yield (f"{key}.endpoints[{number}]", f"{end} is {owner} already; name another")
            used.setdefault((end.node, end.interface), f"in {key}")
        if link.a.node == link.b.node:
            yield (key, f"joins {link.a.node} to itself; a link has two nodes")
        routers = [end for end in link.ends() if topology.nodes[end.node].is_router]
        if not routers:
            yield (key, "joins two hosts; one end must be a router")
        if len(routers) == 2 and link.mtu < needed:
            yield (
                f"{key}.mtu",
                f"{link.mtu} is too small: the IPv6 minimum of {MINIMUM_MTU} bytes with "
                f"{topology.domain.max_segments} segment(s) of {topology.domain.encap_mode}"
                f"{repaired} needs {needed}",
            )


def _reachable(topology: Topology, loose: Collection[str]) -> Iterator[Fault]:
    near: dict[str, set[str]] = {node.name: set() for node in topology.routers()}
    for link in topology.core_links():
        near[link.a.node].add(link.b.node)
        near[link.b.node].add(link.a.node)
    parts: list[set[str]] = []
    left = set(near)
    for start in sorted(near):
        if start not in left:
            continue
        part, todo = {start}, [start]
        while todo:
            for name in near[todo.pop()] - part:
                part.add(name)
                todo.append(name)
        left -= part
        parts.append(part)
    parts.sort(key=len, reverse=True)  # stable: the largest, then that of the first name
    for part in parts[1:]:
        if not part.isdisjoint(loose):
            continue
        for name in sorted(part):
            yield (
                f"topology.nodes.{name}",
                f"cannot be reached from {min(parts[0])}; add a link between routers",
            )
