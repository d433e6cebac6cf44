"""Flow entries: what a session's flow rules put on each head-end.

Downlink packets meet their rule where they enter the domain, uplink packets at the router that
serves their node. Uplink rules lead to the networks that the topology knows: a router's fixed
prefixes. Towards another mobile node, the rules of that one's downlink hold: uplink entries pass
on what goes there, and to whatever else no entry leads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv6Network, collapse_addresses
from typing import NamedTuple

from srv6dmm.core.flow_book import FlowBook, order_of
from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.policy_paths import Choice, PolicyPaths
from srv6dmm.core.topology import fixed_hosts_by_router
from srv6dmm.model.flows import Direction, FlowRule
from srv6dmm.model.plan import FlowSelector, FlowSteering
from srv6dmm.model.state import Binding, Session
from srv6dmm.model.topology import Node, Role, Topology

ANY = IPv6Network("::/0")
_REMEMBERED = 16_384


class Exit(NamedTuple):
    """A fixed network that uplink packets may be for, and the router it is behind."""

    prefix: IPv6Network
    egress: str
    depth: int
    """0: none of the others lies in it; else one more than the greatest of those that do."""
    passes_on: tuple[IPv6Network, ...]
    """What in it plain routing takes elsewhere: the domain itself, and fixed networks to which
    no rule leads, because they are behind the same router or nowhere to be reached."""


class FlowPlans:
    """Flow entries on one topology."""

    def __init__(self, topology: Topology, paths: ShortestPaths, choices: PolicyPaths) -> None:
        self._topology = topology
        self._paths = paths
        self._choices = choices
        hosts = fixed_hosts_by_router(topology)
        self.fixed: list[tuple[IPv6Network, str]] = []
        """(fixed prefix, its router), the longest first."""
        for node in topology.routers():
            behind = {host.prefix for host in hosts.get(node.name, ())}
            self.fixed += [(prefix, node.name) for prefix in {*node.announces, *behind}]
        self.fixed.sort(key=lambda known: (-known[0].prefixlen, known[0], known[1]))
        self._pools = [pool for node in topology.access_routers() for pool in node.pools]
        self._inside = [*self._pools, topology.domain.sid_block]
        """Where no rule leads: to mobile nodes, and to the routers themselves."""
        self._exits: dict[tuple[str, IPv6Network | None], tuple[Exit, ...]] = {}
        self._entrances: dict[IPv6Network | None, frozenset[str]] = {}

    def downlink(
        self, head_end: Node, session: Session, binding: Binding, target: str, book: FlowBook
    ) -> Iterator[FlowSteering]:
        """Yield the entries for packets to a prefix that enter here and go to `target`."""
        for rule in book.rules(session.mobile_node):
            for _, entry in self.downlinks(rule, (head_end.name,), session, binding, target, book):
                yield entry

    def downlinks(
        self,
        rule: FlowRule,
        head_ends: Iterable[str],
        session: Session,
        binding: Binding,
        target: str,
        book: FlowBook,
    ) -> Iterator[tuple[str, FlowSteering]]:
        """Yield (head-end, the entry of one rule there) where the rule's packets may enter."""
        match = rule.match
        own = _common(binding.prefix, match.own_prefix)
        if rule.direction is Direction.UPLINK or own is None:
            return
        selector = FlowSelector(
            match.peer or ANY,
            own,
            match.protocol,
            match.peer_ports,
            match.own_ports,
            match.dscp,
        )
        entrances = self.entrances(match.peer)
        for head_end in head_ends:
            if head_end in entrances:
                yield head_end, self._entry(rule, selector, 0, head_end, target, session, book)

    def uplink(
        self, router: Node, session: Session, binding: Binding, book: FlowBook
    ) -> Iterator[FlowSteering]:
        """Yield the entries for packets from a prefix whose node is, or just was, here."""
        for rule in book.rules(session.mobile_node):
            own = _common(binding.prefix, rule.match.own_prefix)
            if rule.direction is Direction.DOWNLINK or own is None:
                continue
            match = rule.match
            for way in self.exits(router.name, match.peer):
                if way.egress == router.name:
                    continue
                selector = FlowSelector(
                    own,
                    way.prefix,
                    match.protocol,
                    match.own_ports,
                    match.peer_ports,
                    match.dscp,
                )
                entry = self._entry(
                    rule, selector, way.depth, router.name, way.egress, session, book
                )
                yield replace(entry, uplink=True, passes_on=way.passes_on)

    def expected(self, mobile_node: str, book: FlowBook) -> Counter[str]:
        """Return how many entries a node that is not attached will put on head-ends at least.

        It will have one prefix. Its uplink entries will be where nobody knows yet.
        """
        counts: Counter[str] = Counter()
        for rule in book.rules(mobile_node):
            if rule.direction is not Direction.UPLINK and rule.match.own_prefix is None:
                counts.update(self.entrances(rule.match.peer))
        return counts

    def entrances(self, peer: IPv6Network | None) -> frozenset[str]:
        """Return the head-ends at which packets from a peer may enter the domain."""
        found = self._entrances.get(peer)
        if found is None:
            found = self._entrances[peer] = frozenset(self._find_entrances(peer))
        return found

    def _find_entrances(self, peer: IPv6Network | None) -> Iterator[str]:
        head_ends = self._topology.head_ends()
        if peer is None:
            yield from (node.name for node in head_ends)
            return
        yield from (router for prefix, router in self.fixed if prefix.overlaps(peer))
        if any(pool.overlaps(peer) for pool in self._pools):
            yield from (node.name for node in head_ends if node.role is Role.ACCESS)
        inside = [*self._pools, *(prefix for prefix, _ in self.fixed)]
        if not any(peer.subnet_of(prefix) for prefix in inside):
            yield from (node.name for node in head_ends if node.role is Role.BORDER)

    def exits(self, router: str, peer: IPv6Network | None) -> tuple[Exit, ...]:
        """Return the fixed networks that a peer outside all pools may be in, and their routers.

        The longest first: a packet takes the first that its destination is in. Of several
        routers with the same prefix the nearest is taken, as plain routing does.
        """
        known = self._exits.get((router, peer))
        if known is None:
            if len(self._exits) >= _REMEMBERED:
                self._exits.clear()
            known = self._exits[router, peer] = self._find_exits(router, peer)
        return known

    def _find_exits(self, router: str, peer: IPv6Network | None) -> tuple[Exit, ...]:
        found: dict[IPv6Network, tuple[int, str]] = {}
        for prefix, egress in self.fixed:
            common = _common(prefix, peer)
            if common is None or any(common.subnet_of(inside) for inside in self._inside):
                continue
            try:
                near = (self._paths.distance(router, egress), egress)
            except NoPath:
                continue
            if common not in found or (
                prefix.prefixlen == common.prefixlen and near < found[common]
            ):
                found[common] = near
        led = {prefix for prefix, (_, egress) in found.items() if egress != router}
        unled = {*self._inside, *(prefix for prefix, _ in self.fixed)} - led
        depths = _depths(found)
        return tuple(
            Exit(
                prefix,
                found[prefix][1],
                depths[prefix],
                tuple(collapse_addresses(p for p in unled if p.subnet_of(prefix))),
            )
            for prefix in sorted(found, key=lambda known: (-known.prefixlen, known))
        )

    def choose(self, rule: FlowRule, head_end: str, target: str, book: FlowBook) -> Choice | None:
        """Return what a rule's policy comes to; None when there is no such policy."""
        policy = book.policies.get(rule.policy)
        if policy is None:
            return None
        return self._choices.choose(policy, book.policies, head_end, target)

    def _entry(
        self,
        rule: FlowRule,
        selector: FlowSelector,
        depth: int,
        head_end: str,
        target: str,
        session: Session,
        book: FlowBook,
    ) -> FlowSteering:
        choice = self.choose(rule, head_end, target, book)
        return FlowSteering(
            rule.name,
            selector,
            order_of(rule, depth),
            choice.lists if choice is not None else (),
            self._topology.domain.encap_mode,
            session.mobile_node,
            choice.backup if choice is not None else None,
        )


def _depths(prefixes: Iterable[IPv6Network]) -> dict[IPv6Network, int]:
    """Return how deep others are nested in each prefix; 0: none is."""
    depths: dict[IPv6Network, int] = {}
    holders: list[IPv6Network] = []
    for prefix in sorted(prefixes):  # by address, the shorter first: holders are a stack
        depths[prefix] = 0
        while holders and not prefix.subnet_of(holders[-1]):
            holders.pop()
        holders.append(prefix)
        for number, holder in enumerate(reversed(holders)):
            depths[holder] = max(depths[holder], number)
    return depths


def _common(prefix: IPv6Network, other: IPv6Network | None) -> IPv6Network | None:
    """Return the addresses that two prefixes have in common: the longer one, or nothing."""
    if other is None or prefix.subnet_of(other):
        return prefix
    return other if other.subnet_of(prefix) else None
