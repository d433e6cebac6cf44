"""Random domains whose links have every attribute, and the paths there are in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Network
from math import inf

import networkx
from hypothesis import strategies as st

from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.segments import NoSegmentList, segment_list
from srv6dmm.core.sids import sid_table
from srv6dmm.model.path import Path
from srv6dmm.model.policy import Constraints, DynamicPath, Objective, Waypoint
from srv6dmm.model.sid import EncapMode, Locator
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology

AFFINITIES = ("blue", "gold", "red")
LARGEST = (1 << 24) - 1
"""Weight of a drained link, for objectives igp and te."""


@dataclass(frozen=True)
class Network:
    """A connected domain of transit routers."""

    names: tuple[str, ...]
    links: tuple[Link, ...]
    plain: frozenset[str] = frozenset()
    """Routers without a locator."""
    deep: int = 16
    """Maximum SID depth of every router."""

    @cached_property
    def topology(self) -> Topology:
        nodes = {}
        for index, name in enumerate(self.names, start=1):
            locator = None if name in self.plain else Locator(IPv6Network(f"fc00:0:{index:x}::/48"))
            nat = () if locator is None else (("nat", locator.sid(0x5E01)),)
            nodes[name] = Node(
                name, Role.TRANSIT, index, locator, maximum_sid_depth=self.deep, services=nat
            )
        domain = Domain("random", IPv6Network("fc00::/32"), max_segments=16)
        return Topology(domain, nodes, self.links)

    def sides(self, router: str) -> list[tuple[LinkEnd, LinkEnd, Link]]:
        """Return (own end, other end, link) of each link, by neighbour and interface."""
        found = [
            (here, there, link)
            for link in self.links
            for here, there in (link.ends(), link.ends()[::-1])
            if here.node == router
        ]
        return sorted(found, key=lambda side: (side[1].node, side[0].interface))

    def simple(self, source: str, target: str) -> Iterator[tuple[LinkEnd, ...]]:
        """Yield every path that passes no router twice, as sending ends."""
        way: list[LinkEnd] = []
        seen = {source}

        def go(router: str) -> Iterator[tuple[LinkEnd, ...]]:
            if router == target:
                yield tuple(way)
                return
            for here, there, _ in self.sides(router):
                if there.node not in seen:
                    seen.add(there.node)
                    way.append(here)
                    yield from go(there.node)
                    way.pop()
                    seen.remove(there.node)

        yield from go(source)

    def over(self, stops: tuple[str, ...]) -> Iterator[tuple[LinkEnd, ...]]:
        """Yield every path that leads from stop to stop, passing no router twice in between."""
        if len(stops) == 1:
            yield ()
            return
        rests = list(self.over(stops[1:]))
        for leg in self.simple(stops[0], stops[1]):
            for rest in rests:
                yield leg + rest

    @cached_property
    def link_at(self) -> dict[LinkEnd, tuple[Link, str]]:
        """Sending end -> (link, router it leads to)."""
        return {
            here: (link, there.node)
            for link in self.links
            for here, there in (link.ends(), link.ends()[::-1])
        }

    def path(self, source: str, way: tuple[LinkEnd, ...]) -> Path:
        """Return the path that starts at a router and leaves by these ends."""
        return Path(
            (source, *(self.link_at[end][1] for end in way)), tuple(end.interface for end in way)
        )

    def weight(self, link: Link, objective: Objective) -> int:
        """Return what a link costs; delays come before numbers of links."""
        match objective:
            case Objective.IGP:
                return LARGEST if link.drained else link.metric
            case Objective.TE:
                return LARGEST if link.drained else link.te_metric or link.metric
            case Objective.DELAY:
                return (10_000_000 if link.drained else link.delay_us) * 10_000 + 1

    def graph(self, links: tuple[Link, ...], objective: Objective) -> networkx.MultiGraph:
        """Return all routers and some links with the weights of an objective."""
        graph = networkx.MultiGraph()
        graph.add_nodes_from(self.names)
        for link in links:
            graph.add_edge(link.a.node, link.b.node, weight=self.weight(link, objective), link=link)
        return graph


def allowed(link: Link, constraints: Constraints) -> bool:
    """Tell whether constraints let a link be crossed; written from their meaning."""
    names = {end.node for end in link.ends()}
    return (
        all(name in link.affinities for name in constraints.include_all)
        and not any(name in link.affinities for name in constraints.exclude_any)
        and (
            not constraints.include_any
            or any(name in link.affinities for name in constraints.include_any)
        )
        and not any(name in constraints.avoid_routers for name in names)
        and not any(end in constraints.avoid_links for end in link.ends())
        and not any(srlg in constraints.avoid_srlgs for srlg in link.srlgs)
    )


class Judge:
    """Says of any path whether it satisfies what is asked for, one constraint at a time."""

    def __init__(self, network: Network, wanted: DynamicPath, ecmp: bool) -> None:
        self.network = network
        self.wanted = wanted
        self.ecmp = ecmp
        self.paths = ShortestPaths(network.topology)
        self.sids = sid_table(network.topology)

    def cost(self, way: tuple[LinkEnd, ...]) -> int:
        return sum(
            self.network.weight(self.network.link_at[end][0], self.wanted.objective) for end in way
        )

    def order(self, way: tuple[LinkEnd, ...]) -> tuple[int, list[tuple[str, str]]]:
        """Return what the best path has the smallest of."""
        return self.cost(way), [(self.network.link_at[end][1], end.interface) for end in way]

    def satisfied(self, source: str, way: tuple[LinkEnd, ...]) -> bool:
        constraints = self.wanted.constraints
        links = [self.network.link_at[end][0] for end in way]
        path = self.network.path(source, way)
        ends = {end for link in links for end in link.ends()}
        if not all(allowed(link, constraints) for link in links):
            return False
        if not set(constraints.require_routers) <= set(path.routers):
            return False
        if any(end not in ends for end in constraints.require_links):
            return False
        if any(all(srlg not in link.srlgs for link in links) for srlg in constraints.require_srlgs):
            return False
        if sum(link.delay_us for link in links) > (constraints.maximum_delay_us or inf):
            return False
        if len(links) > (constraints.maximum_hops or inf):
            return False
        return self._list_fits(path, min((link.mtu for link in links), default=65535))

    def _list_fits(self, path: Path, link_mtu: int) -> bool:
        constraints = self.wanted.constraints
        stops, place = [], 0
        for waypoint in self.wanted.waypoints:
            place = path.routers.index(waypoint.router, place)
            if waypoint.service is not None:
                stops.append((place, self.sids[waypoint.router].services[waypoint.service]))
        final = self.sids[path.routers[-1]].end_dt6
        try:
            segments = segment_list(self.paths, self.sids, path, final, stops=stops, ecmp=self.ecmp)
        except NoSegmentList:
            return False
        count = len(segments)
        mtu = link_mtu - EncapMode.ENCAP_RED.overhead(count)
        most = min(self.network.deep, constraints.maximum_segments or 16)
        return count <= most and mtu >= (constraints.minimum_mtu or 0)

    def best(self, source: str, target: str, count: int) -> list[Path]:
        """Return the best paths there are, best first, by looking at every path."""
        stops = (source, *(waypoint.router for waypoint in self.wanted.waypoints), target)
        ways = {way for way in self.network.over(stops) if self.satisfied(source, way)}
        return [self.network.path(source, way) for way in sorted(ways, key=self.order)[:count]]


@st.composite
def networks(
    draw: st.DrawFn, largest: int = 6, more: int = 6, smallest: int = 2, plain: bool = True
) -> Network:
    """Draw a domain with ties and parallel links: a tree of routers and some more links."""
    size = draw(st.integers(smallest, largest))
    names = tuple(f"n{number}" for number in draw(st.permutations(range(size))))
    pairs = [(number, draw(st.integers(0, number - 1))) for number in range(1, size)]
    some = st.integers(0, size - 1)
    pairs += [(a, b) for a, b in draw(st.lists(st.tuples(some, some), max_size=more)) if a != b]
    numbers = draw(st.permutations(range(len(pairs))))
    links = tuple(
        Link(
            LinkEnd(names[a], f"e{number}"),
            LinkEnd(names[b], f"e{number}"),
            metric=draw(st.integers(1, 4)),
            delay_us=draw(st.integers(0, 5)),
            mtu=draw(st.sampled_from((1500, 1500, 1524, 1600))),
            te_metric=draw(st.none() | st.integers(1, 5)),
            affinities=draw(st.frozensets(st.sampled_from(AFFINITIES))),
            srlgs=draw(st.frozensets(st.integers(1, 4), max_size=2)),
            drained=draw(st.integers(0, 9)) == 9,
        )
        for number, (a, b) in zip(numbers, pairs, strict=True)
    )
    without = draw(st.frozensets(st.sampled_from(names), max_size=2)) if plain else frozenset()
    return Network(names, links, without, draw(st.sampled_from((2, 3, 16, 16))))


def rarely(strategy: st.SearchStrategy[frozenset]) -> st.SearchStrategy[frozenset]:  # type: ignore[type-arg]
    """Return the strategy, most often with nothing."""
    return st.one_of(st.just(frozenset()), st.just(frozenset()), strategy)


def limit(low: int, high: int) -> st.SearchStrategy[int | None]:
    """Return a limit, most often none."""
    return st.one_of(st.none(), st.none(), st.integers(low, high))


@st.composite
def demands(draw: st.DrawFn, network: Network, waypoints: int = 2) -> DynamicPath:
    """Draw what a path is asked for, mostly little of each."""
    names = st.sampled_from(network.names)
    ends = st.sampled_from([end for link in network.links for end in link.ends()])
    affinity = st.sampled_from(AFFINITIES)
    served = sorted(set(network.names) - network.plain)
    stops = st.builds(Waypoint, names)
    if served:
        stops |= st.builds(Waypoint, st.sampled_from(served), st.just("nat"))
    return DynamicPath(
        draw(st.sampled_from(Objective)),
        Constraints(
            include_any=draw(rarely(st.frozensets(affinity, max_size=2))),
            include_all=draw(rarely(st.frozensets(affinity, max_size=1))),
            exclude_any=draw(rarely(st.frozensets(affinity, max_size=1))),
            avoid_routers=draw(rarely(st.frozensets(names, max_size=1))),
            avoid_links=draw(rarely(st.frozensets(ends, max_size=1))),
            avoid_srlgs=draw(rarely(st.frozensets(st.integers(1, 4), max_size=1))),
            require_routers=draw(rarely(st.frozensets(names, max_size=2))),
            require_links=draw(rarely(st.frozensets(ends, max_size=2))),
            require_srlgs=draw(rarely(st.frozensets(st.integers(1, 4), max_size=1))),
            maximum_delay_us=draw(limit(1, 15)),
            maximum_hops=draw(limit(1, 6)),
            minimum_mtu=draw(limit(1420, 1560)),
            maximum_segments=draw(limit(1, 4)),
        ),
        tuple(draw(st.lists(stops, max_size=waypoints)) if draw(st.booleans()) else ()),
    )
