"""What a router holds whoever is attached: settings, local SIDs, routes of the underlay."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.repair import Repairs
from srv6dmm.core.sids import core_interfaces_by_router
from srv6dmm.core.topology import fixed_hosts_by_router
from srv6dmm.model.plan import (
    LocalSid,
    PlanEntry,
    RouterSettings,
    UnderlayRoute,
    UnreachableRoute,
)
from srv6dmm.model.sid import Behavior
from srv6dmm.model.topology import Node, RouterSids, Topology

MAIN_TABLE = 254
"""End.DT6 looks inner destinations up here: deliveries, steering and the outside."""


class StaticPlans:
    """Entries by router: interfaces and SIDs as declared, routes over the links that work."""

    def __init__(
        self,
        declared: Topology,
        paths: ShortestPaths,
        sids: dict[str, RouterSids],
        repairs: Repairs | None = None,
    ) -> None:
        """`repairs`: None where a router's neighbours are not to have any."""
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

    def _entries(self, node: Node) -> Iterator[PlanEntry]:
        yield self._settings(node)
        yield from self._local_sids(node)
        for pool in node.pools:
            yield UnreachableRoute(pool)
        if node.locator is not None:
            yield UnreachableRoute(node.locator.prefix)
        for other in self._topology.routers():
            if other.name != node.name:
                yield from self._routes(node, other)

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
        yield LocalSid(sids.end_dt6, Behavior.END_DT6, table=MAIN_TABLE)
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
