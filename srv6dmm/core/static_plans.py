"""What a router holds whoever is attached: settings, local SIDs, routes of the underlay."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.core.anycast import AnycastGroups
from srv6dmm.core.compression import base
from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.repair import Repairs
from srv6dmm.core.sids import LOCATOR_LENGTH, core_interfaces_by_router
from srv6dmm.core.topology import fixed_hosts_by_router
from srv6dmm.model.plan import (
    LocalSid,
    PlanEntry,
    RouterSettings,
    UnderlayRoute,
    UnreachableRoute,
)
from srv6dmm.model.sid import Behavior, Flavor
from srv6dmm.model.topology import Node, RouterSids, Topology

MAIN_TABLE = 254
"""End.DT6 looks inner destinations up here: deliveries, steering and the outside."""


def micro_node(sids: RouterSids) -> LocalSid:
    """Return a router's uN: End with NEXT-C-SID, for all of its locator that is no other SID."""
    return LocalSid(
        base(sids.end),
        Behavior.END,
        flavors=(Flavor.NEXT_CSID,),
        prefix_length=LOCATOR_LENGTH,
    )


class StaticPlans:
    """Entries by router: interfaces and SIDs as declared, routes over the links that work."""

    def __init__(
        self,
        declared: Topology,
        paths: ShortestPaths,
        sids: dict[str, RouterSids],
        repairs: Repairs | None = None,
        csid: Collection[str] = (),
    ) -> None:
        """`repairs`: None where a router's neighbours are not to have any.

        `csid`: the routers that are to hold a uN.
        """
        self._csid = frozenset(csid)
        self._topology = declared
        self._paths = paths
        self._sids = sids
        self._repairs = repairs
        self._hosts = fixed_hosts_by_router(declared)
        self._core_interfaces = core_interfaces_by_router(declared)
        self._core_links = declared.core_links()
        self._neighbours: dict[str, list[tuple[str, IPv6Address]]] = {}
        for link in self._core_links:
            for here, there in (link.ends(), link.ends()[::-1]):
                far = (here.interface, declared.nodes[there.node].link_local)
                self._neighbours.setdefault(here.node, []).append(far)
        lengths = {node.locator.prefix.prefixlen for node in declared.routers() if node.locator}
        self._locator_length = lengths.pop() if len(lengths) == 1 else 0
        self._groups = AnycastGroups(sids)
        self._made: dict[str, dict[str, PlanEntry]] = {}

    def entries(self, router: str) -> dict[str, PlanEntry]:
        """Return a router's entries by key; not to be changed. Raises KeyError."""
        made = self._made.get(router)
        if made is None:
            node = self._topology.nodes[router]
            if not node.is_router:
                raise KeyError(router)
            made = self._made[router] = {entry.key: entry for entry in self._entries(node)}
        return made

    def routes(self, router: str, target: str) -> Iterator[UnderlayRoute]:
        """Yield a router's routes to what lies behind another."""
        yield from self._routes(self._topology.nodes[router], self._topology.nodes[target])

    def _entries(self, node: Node) -> Iterator[PlanEntry]:
        yield self._settings(node)
        yield from self._local_sids(node)
        for pool in node.pools:
            yield UnreachableRoute(pool)
        if node.locator is not None and node.name not in self._csid:
            yield UnreachableRoute(node.locator.prefix)
        for other in self._topology.routers():
            if other.name != node.name:
                yield from self._routes(node, other)
        for sid, members in self._groups.members.items():
            if node.name not in members:
                yield from self._anycast_route(node, sid)

    def _routes(self, node: Node, other: Node) -> Iterator[UnderlayRoute]:
        try:
            interface, neighbour = self._paths.next_hop(node.name, other.name)
        except NoPath:
            return  # cut off: packets there are answered as unreachable
        via = self._topology.nodes[neighbour].link_local
        behind = [host.prefix for host in self._hosts.get(other.name, ())]
        locator = [other.locator.prefix] if other.locator else []
        repair = self._repairs.towards(node.name, other.name) if self._repairs else None
        for prefix in (*locator, *other.pools, *other.announces, *behind):
            yield UnderlayRoute(prefix, ((interface, via),), repair)

    def _anycast_route(self, node: Node, sid: IPv6Address) -> Iterator[UnderlayRoute]:
        """Yield the route to the nearest of the routers that have a SID."""
        try:
            member = self._groups.nearest(self._paths, node.name, sid)
            interface, neighbour = self._paths.next_hop(node.name, member)
        except NoPath:
            return
        via = self._topology.nodes[neighbour].link_local
        repair = self._repairs.towards(node.name, member) if self._repairs else None
        yield UnderlayRoute(IPv6Network((sid, 128)), ((interface, via),), repair)

    def _settings(self, node: Node) -> RouterSettings:
        domain = self._topology.domain
        access = node.access_interface
        return RouterSettings(
            loopback=node.loopback,
            link_local=node.link_local,
            core_interfaces=tuple(self._core_interfaces[node.name]),
            host_interfaces=tuple(
                (host.interface, host.router_address, host.prefix.prefixlen)
                for host in self._hosts.get(node.name, ())
            ),
            access_interface=access,
            access_link_local=domain.router_link_local if access else None,
            access_mac=domain.router_mac if access else None,
            sid_block=domain.sid_block,
            locator_length=self._locator_length,
            neighbours=tuple(sorted(self._neighbours.get(node.name, ()))),
        )

    def _local_sids(self, node: Node) -> Iterator[LocalSid]:
        sids = self._sids.get(node.name)
        if sids is None:
            return
        yield LocalSid(sids.end, Behavior.END)
        if node.name in self._csid:
            yield micro_node(sids)
        yield LocalSid(sids.end_dt6, Behavior.END_DT6, table=MAIN_TABLE)
        for sid in sids.anycast.values():
            yield LocalSid(sid, Behavior.END)
        if sids.end_dx4 is not None:
            yield LocalSid(sids.end_dx4, Behavior.END_DX4, next_hop4=node.next_hop4)
        for link in self._core_links:
            for here, there in (link.ends(), link.ends()[::-1]):
                if here.node == node.name:
                    yield LocalSid(
                        sids.adjacencies[here.interface],
                        Behavior.END_X,
                        interface=here.interface,
                        next_hop=self._topology.nodes[there.node].link_local,
                        repair=self._repairs.of_adjacency(node.name, here.interface)
                        if self._repairs
                        else None,
                    )
