"""Random domains whose links have every attribute, and the paths there are in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Network
from math import inf
from random import Random
from typing import Any

import networkx
from hypothesis import strategies as st

from srv6dmm.core.compression import Compression
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.segments import NO_COMPRESSION, NoSegmentList, segment_list
from srv6dmm.core.sids import sid_table
from srv6dmm.model.path import Path
from srv6dmm.model.policy import Constraints, DynamicPath, Objective, Waypoint
from srv6dmm.model.sid import EncapMode, Locator
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology

AFFINITIES = ("blue", "gold", "red")
LARGEST = (1 << 24) - 1
ROOM = EncapMode.ENCAP_RED.overhead(16)
"""Of every link, for repairs: networks have up to 16 segments."""
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

    def __init__(
        self,
        network: Network,
        wanted: DynamicPath,
        ecmp: bool,
        compression: Compression = NO_COMPRESSION,
    ) -> None:
        self.compression = compression
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
            segments = self.compression.compress(
                segment_list(
                    self.paths,
                    self.sids,
                    path,
                    final,
                    stops=stops,
                    ecmp=self.ecmp,
                    compression=self.compression,
                )
            )
        except NoSegmentList:
            return False
        count = len(segments)
        mtu = link_mtu - EncapMode.ENCAP_RED.overhead(count)
        mtu -= self.network.topology.repair_overhead()
        most = min(self.network.deep, constraints.maximum_segments or 16)
        return count <= most and mtu >= (constraints.minimum_mtu or 0)

    def best(self, source: str, target: str, count: int) -> list[Path]:
        """Return the best paths there are, best first, by looking at every path."""
        stops = (source, *(waypoint.router for waypoint in self.wanted.waypoints), target)
        ways = {way for way in self.network.over(stops) if self.satisfied(source, way)}
        return [self.network.path(source, way) for way in sorted(ways, key=self.order)[:count]]


@st.composite
def networks(
    draw: st.DrawFn, smallest: int = 2, largest: int = 6, more: int = 1, plain: int = 2
) -> Network:
    """Draw a domain with ties and parallel links: a tree, and `more` links per router.

    One number stands for all the rest: a draw for each attribute would take most of the time.
    """
    size = draw(st.integers(smallest, largest))
    rng = Random(draw(st.integers(0, 1 << 32)))
    names = [f"n{number}" for number in range(size)]
    rng.shuffle(names)
    pairs = [(number, rng.randrange(number)) for number in range(1, size)]
    pairs += [
        (a, b) for a, b in (rng.choices(range(size), k=2) for _ in range(more * size)) if a != b
    ]
    numbers = list(range(len(pairs)))
    rng.shuffle(numbers)
    risks = max(4, size)
    links = tuple(
        Link(
            LinkEnd(names[a], f"e{number}"),
            LinkEnd(names[b], f"e{number}"),
            metric=rng.randint(1, 4),
            delay_us=rng.randint(0, 5),
            mtu=rng.choice((1500, 1500, 1524, 1600)) + ROOM,
            te_metric=rng.choice((None, *range(1, 6))),
            affinities=frozenset(name for name in AFFINITIES if rng.random() < 0.5),
            srlgs=frozenset(rng.choices(range(1, risks + 1), k=rng.randint(0, 2))),
            drained=rng.random() < 0.1,
        )
        for number, (a, b) in zip(numbers, pairs, strict=True)
    )
    without = frozenset(rng.sample(names, min(size - 1, rng.randint(0, plain))))
    return Network(tuple(names), links, without, rng.choice((2, 3, 16, 16)))


@st.composite
def ladders(draw: st.DrawFn) -> Network:
    """Draw a chain in which every step has ways that are cheap or good, and no way is both.

    Cheap ways have more delay, more links, a smaller MTU. What is good enough in sum is only
    found by who remembers more than the cheapest beginning.
    """
    steps = draw(st.integers(2, 4))
    rng = Random(draw(st.integers(0, 1 << 32)))
    links: list[Link] = []

    def link(a: str, b: str, metric: int, delay_us: int, mtu: int = 1600) -> None:
        number = len(links)
        ends = (LinkEnd(a, f"e{number}"), LinkEnd(b, f"e{number}"))
        links.append(
            Link(*ends, metric=metric, delay_us=delay_us, mtu=mtu + ROOM, te_metric=metric)
        )

    for step in range(steps):
        here, there, between = f"n{step}", f"n{step + 1}", f"m{step}"
        for metric in sorted(rng.sample(range(1, 9), rng.randint(1, 2))):
            link(here, there, metric + 4, 10 - metric, rng.choice((1500, 1524, 1540)))
        link(here, between, rng.randint(1, 3), rng.randint(1, 9), rng.choice((1480, 1500, 1600)))
        link(between, there, rng.randint(1, 3), rng.randint(1, 9), rng.choice((1480, 1500, 1600)))
    rng.shuffle(links)
    middle = [f"m{step}" for step in range(steps)]
    return Network(tuple(f"n{step}" for step in range(steps + 1)) + tuple(middle), tuple(links))


@st.composite
def ends(draw: st.DrawFn, network: Network, same: bool = False) -> tuple[str, str]:
    """Draw a head-end and an endpoint that can end a path; with `same`, they may be one."""
    endpoint = draw(st.sampled_from(sorted(set(network.names) - network.plain)))
    others = [name for name in network.names if same or name != endpoint]
    return draw(st.sampled_from(others)), endpoint


@st.composite
def demands(
    draw: st.DrawFn, network: Network, waypoints: int = 2, kinds_at_once: int = 3
) -> DynamicPath:
    """Draw what a path is asked for: few kinds of constraints at once, so that many have one."""
    names = st.sampled_from(network.names)
    crossed = st.sampled_from([end for link in network.links for end in link.ends()])
    affinity, srlg = st.sampled_from(AFFINITIES), st.integers(1, 4)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "include_any": st.frozensets(affinity, min_size=1, max_size=2),
        "include_all": st.frozensets(affinity, min_size=1, max_size=1),
        "exclude_any": st.frozensets(affinity, min_size=1, max_size=1),
        "avoid_routers": st.frozensets(names, min_size=1, max_size=1),
        "avoid_links": st.frozensets(crossed, min_size=1, max_size=2),
        "avoid_srlgs": st.frozensets(srlg, min_size=1, max_size=2),
        "require_routers": st.frozensets(names, min_size=1, max_size=2),
        "require_links": st.frozensets(crossed, min_size=1, max_size=2),
        "require_srlgs": st.frozensets(srlg, min_size=1, max_size=1),
        "maximum_delay_us": st.integers(2, 12),
        "maximum_hops": st.integers(1, 6),
        "minimum_mtu": st.integers(1420, 1520),
        "maximum_segments": st.integers(1, 3),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=kinds_at_once, unique=True))
    constraints = Constraints(**{kind: draw(kinds[kind]) for kind in chosen})
    served = sorted(set(network.names) - network.plain)
    stop = st.builds(Waypoint, names) | st.builds(Waypoint, st.sampled_from(served), st.just("nat"))
    passed = draw(st.lists(stop, max_size=waypoints)) if draw(st.booleans()) else []
    return DynamicPath(draw(st.sampled_from(Objective)), constraints, tuple(passed))
