"""Segment lists on the campus, worked out by hand, and paths that cannot be."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from pathlib import Path as FilePath

import pytest

from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.segments import NoSegmentList, segment_list
from srv6dmm.core.sids import sid_table
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.path import Path
from srv6dmm.model.sid import Locator
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology

CAMPUS = parse_topology(
    (FilePath(__file__).parents[2] / "deploy" / "topologies" / "campus.yaml").read_text(),
    "campus.yaml",
)
PATHS = ShortestPaths(CAMPUS)
SIDS = sid_table(CAMPUS)


def over(path: str) -> Path:
    """Return the path over these routers; in the campus, interfaces are named after neighbours."""
    routers = tuple(path.split())
    return Path(routers, routers[1:])


def lay(path: str, ecmp: bool = True) -> list[str]:
    """Return the list for a path as readable words; interfaces are named after neighbours."""
    names = {own.end: f"End {own.router}" for own in SIDS.values()}
    names |= {own.end_dt6: f"End.DT6 {own.router}" for own in SIDS.values()}
    for own in SIDS.values():
        names |= {sid: f"End.X {own.router} {to}" for to, sid in own.adjacencies.items()}
    wanted = over(path)
    final = SIDS[wanted.routers[-1]].end_dt6
    return [names[sid] for sid in segment_list(PATHS, SIDS, wanted, final, ecmp=ecmp)]


def test_the_shortest_path_is_one_segment() -> None:
    assert lay("br1 tr1 tr2 ar3") == ["End.DT6 ar3"]


def test_a_router_that_ends_a_path_where_it_begins() -> None:
    assert lay("ar1") == ["End.DT6 ar1"]


def test_a_node_segment_bends_the_path() -> None:
    assert lay("br1 tr3 ar3") == ["End tr3", "End.DT6 ar3"]


def test_an_adjacency_segment_crosses_a_link_that_no_shortest_path_takes() -> None:
    """tr1 and tr3 are nearer over tr2 than over their own link."""
    assert lay("br1 tr1 tr3 ar4") == ["End.X tr1 tr3", "End.DT6 ar4"]


def test_an_adjacency_segment_of_the_head_end_itself() -> None:
    """From ar4, tr2 is nearer over tr3 than over their own link."""
    assert lay("ar4 tr2 ar2") == ["End.X ar4 tr2", "End.DT6 ar2"]


def test_an_adjacency_segment_stands_in_for_a_plain_router() -> None:
    """tr2 has no SID; End.X of tr3 leads to it, and on it goes by itself."""
    assert lay("br1 tr3 tr2 ar3") == ["End.X tr3 tr2", "End.DT6 ar3"]


def test_a_path_may_come_back() -> None:
    assert lay("br1 tr1 br1 tr3 ar4") == ["End.X tr1 br1", "End.DT6 ar4"]
    assert lay("ar1 tr1 ar1") == ["End tr1", "End.DT6 ar1"]


def test_a_plain_router_that_would_have_to_turn_is_named() -> None:
    with pytest.raises(NoSegmentList, match=r"lead to tr2.*give tr2 a locator"):
        lay("br1 tr1 tr2 ar4")


def test_equal_cost_paths_need_a_segment_only_under_ecmp() -> None:
    """A square: a to d over b or over c at the same cost."""
    locators = [Locator(IPv6Network(f"fc00:0:{n:x}::/48")) for n in range(1, 5)]
    nodes = {
        name: Node(name, Role.TRANSIT, n, locator=locators[n - 1])
        for n, name in enumerate("abcd", start=1)
    }
    links = tuple(Link(LinkEnd(x, f"to-{y}"), LinkEnd(y, f"to-{x}")) for x, y in ("ab", "bd", "ac",
                                                                                 "cd"))  # fmt: skip
    square = Topology(Domain("square", IPv6Network("fc00::/32")), nodes, links)
    paths, sids = ShortestPaths(square), sid_table(square)
    final = sids["d"].end_dt6
    abd, acd = (Path(("a", via, "d"), (f"to-{via}", "to-d")) for via in "bc")
    assert segment_list(paths, sids, abd, final, ecmp=False) == (final,)
    assert segment_list(paths, sids, abd, final) == (sids["b"].end, final)
    assert segment_list(paths, sids, acd, final, ecmp=False) == (sids["c"].end, final)


def bundle(**metrics: int) -> Topology:
    """Return routers a and b with parallel links (interface=metric)."""
    nodes = {
        name: Node(name, Role.TRANSIT, n, locator=Locator(IPv6Network(f"fc00:0:{n}::/48")))
        for n, name in enumerate("ab", start=1)
    }
    links = [Link(LinkEnd("a", x), LinkEnd("b", x), metric) for x, metric in metrics.items()]
    return Topology(Domain("bundle", IPv6Network("fc00::/32")), nodes, tuple(links))


@pytest.mark.parametrize(
    ("ecmp", "needs_segment"),
    [(True, {"w", "y", "z"}), (False, {"w", "z"})],
)
def test_parallel_links_are_told_apart(ecmp: bool, needs_segment: set[str]) -> None:
    """y and z tie, so only single-path forwarding takes y by itself; w is dearer."""
    topology = bundle(w=60, y=50, z=50)
    paths, sids = ShortestPaths(topology), sid_table(topology)
    final = sids["b"].end_dt6
    for interface in "wyz":
        found = segment_list(paths, sids, Path(("a", "b"), (interface,)), final, ecmp=ecmp)
        adjacency = sids["a"].adjacencies[interface]
        assert found == ((adjacency, final) if interface in needs_segment else (final,))


def test_stops_are_in_the_list_and_the_path_stays() -> None:
    """A service at a router on the way, and one at a router that would need a segment anyway."""
    nat = IPv6Address("fc00:0:c1:5e01::")
    final = SIDS["ar3"].end_dt6
    path = over("br1 tr1 tr2 ar3")
    assert segment_list(PATHS, SIDS, path, final, stops=[(1, nat)]) == (nat, final)
    other = IPv6Address("fc00:0:c1:5e02::")
    stops = [(1, nat), (1, other)]
    assert segment_list(PATHS, SIDS, path, final, stops=stops) == (nat, other, final)
    with pytest.raises(NoSegmentList, match="not in fc00:0:c1::/48"):
        segment_list(PATHS, SIDS, path, final, stops=[(1, final)])
    with pytest.raises(NoSegmentList, match="not ahead"):
        segment_list(PATHS, SIDS, path, final, stops=[(1, nat), (0, SIDS["br1"].end)])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("ar1 ar2", "ar1:ar2 does not lead to ar2"),
        ("ar1 ar1", "ar1:ar1 does not lead to ar1"),
        ("cn br1", "'cn' is not in the topology"),
        ("ar1 nobody", "'nobody' is not in the topology"),
        ("ar1 tr1 tr2", "tr2 has no locator"),
    ],
)
def test_a_path_that_is_none_is_refused(path: str, words: str) -> None:
    with pytest.raises(NoSegmentList, match=words):
        segment_list(PATHS, SIDS, over(path), IPv6Address("fc00:0:a1:d06::"))


def test_a_path_has_one_interface_per_link() -> None:
    with pytest.raises(ValueError, match="over 2 routers has 1 links, not 2"):
        Path(("a", "b"), ("x", "y"))


def test_a_final_segment_of_another_router_is_refused() -> None:
    with pytest.raises(NoSegmentList, match="not in fc00:0:a3::/48, the locator of ar3"):
        segment_list(PATHS, SIDS, over("br1 tr1 tr2 ar3"), SIDS["ar4"].end_dt6)
