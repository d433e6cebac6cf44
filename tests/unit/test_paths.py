"""Shortest paths: ties, parallel links, hosts, what has no path, and a large domain."""

from __future__ import annotations

import random
from ipaddress import IPv6Network
from itertools import pairwise
from pathlib import Path

import networkx
import pytest

from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology

CAMPUS = Path(__file__).parents[2] / "deploy" / "topologies" / "campus.yaml"


def domain(links: list[tuple[str, str, int]], *alone: str) -> Topology:
    """Return routers joined by (END, END, metric); END is NODE:INTERFACE. Names in h: hosts."""
    made: list[Link] = []
    names: dict[str, None] = dict.fromkeys(alone)
    for a, b, metric in links:
        ends = [LinkEnd(*end.split(":")) for end in (a, b)]
        names |= dict.fromkeys(end.node for end in ends)
        made.append(Link(ends[0], ends[1], metric))
    nodes = {
        name: Node(name, Role.CORRESPONDENT if name[0] == "h" else Role.TRANSIT, index)
        for index, name in enumerate(names, start=1)
    }
    return Topology(Domain("test", IPv6Network("fc00::/32")), nodes, tuple(made))


SQUARE = domain(
    [("a:1", "c:1", 10), ("c:2", "d:1", 10), ("a:2", "b:1", 10), ("b:2", "d:2", 10)], "z"
)


def test_a_tie_goes_to_the_neighbour_whose_name_comes_first() -> None:
    paths = ShortestPaths(SQUARE)
    assert paths.path("a", "d") == ("a", "b", "d")
    assert paths.next_hop("a", "d") == ("2", "b")
    assert paths.next_hops("a", "d") == [("2", "b"), ("1", "c")]
    assert paths.distance("a", "d") == 20


def test_the_distance_comes_before_the_name() -> None:
    paths = ShortestPaths(domain([("a:1", "b:1", 11), ("a:2", "c:1", 5), ("c:2", "b:2", 5)]))
    assert paths.path("a", "b") == ("a", "c", "b")


def test_parallel_links_take_the_smaller_metric_then_the_first_interface() -> None:
    links = [("a:x", "b:x", 5), ("a:z", "b:z", 3), ("a:y", "b:y", 3)]
    paths = ShortestPaths(domain(links))
    assert paths.next_hop("a", "b") == ("y", "b")
    assert paths.next_hops("a", "b") == [("y", "b"), ("z", "b")]
    assert paths.next_hop("b", "a") == ("y", "a")
    assert paths.distance("a", "b") == 3


def test_a_node_is_its_own_path() -> None:
    paths = ShortestPaths(SQUARE)
    assert paths.path("a", "a") == ("a",)
    assert paths.distance("a", "a") == 0
    with pytest.raises(NoPath, match="target itself"):
        paths.next_hop("a", "a")


@pytest.mark.parametrize(("source", "target"), [("a", "z"), ("z", "a"), ("a", "?"), ("?", "a")])
def test_no_path_is_said_by_every_question(source: str, target: str) -> None:
    paths = ShortestPaths(SQUARE)
    for question in (paths.path, paths.distance, paths.next_hop, paths.next_hops):
        with pytest.raises(NoPath, match=r"[z?]"):
            question(source, target)


def test_hosts_are_ends_of_paths_and_never_in_between() -> None:
    """A host with two links would be a short cut; it is not taken."""
    topology = domain(
        [("a:1", "b:1", 100), ("a:h", "h1:0", 1), ("b:h", "h1:1", 1), ("b:i", "h2:0", 7)]
    )
    paths = ShortestPaths(topology)
    assert paths.path("a", "b") == ("a", "b")
    assert paths.path("h1", "h2") == ("h1", "a", "b", "h2")
    assert paths.distance("h1", "h2") == 108
    assert paths.next_hop("h1", "h2") == ("0", "a")
    assert paths.next_hop("a", "h2") == ("1", "b")
    assert paths.next_hop("b", "h2") == ("i", "h2")
    assert paths.path("h1", "h1") == ("h1",)
    assert paths.distance("h1", "h1") == 0


def test_mobile_nodes_have_no_path() -> None:
    paths = ShortestPaths(parse_topology(CAMPUS.read_text(), "campus.yaml"))
    assert paths.path("cn", "srv") == ("cn", "br1", "tr3", "ar4", "srv")
    with pytest.raises(NoPath, match="mn1"):
        paths.path("cn", "mn1")


def test_largest_metrics_add_up_exactly() -> None:
    top = (1 << 24) - 1
    names = [f"r{number:04}" for number in range(4095)]
    links = [(f"{a}:r", f"{b}:l", top) for a, b in pairwise(names)]
    assert ShortestPaths(domain(links)).distance(names[0], names[-1]) == 4094 * top


@pytest.mark.timeout(60)
def test_a_thousand_routers() -> None:
    """All pairs of a large domain, in seconds; some of them against networkx."""
    draw = random.Random(7)
    names = [f"r{number}" for number in range(1000)]
    links = [
        (f"r{number}:u", f"r{draw.randrange(number)}:{number}", draw.randint(1, 50))
        for number in range(1, 1000)
    ]
    for number in range(3001):
        a, b = draw.sample(names, 2)
        links.append((f"{a}:x{number}", f"{b}:y{number}", draw.randint(1, 50)))
    paths = ShortestPaths(domain(links))
    for target in names:
        for source in names:
            if source != target:
                paths.next_hop(source, target)
    graph = networkx.MultiGraph()
    graph.add_weighted_edges_from((a.split(":")[0], b.split(":")[0], m) for a, b, m in links)
    for target in draw.sample(names, 5):
        lengths = networkx.single_source_dijkstra_path_length(graph, target)
        assert {source: paths.distance(source, target) for source in names} == lengths
