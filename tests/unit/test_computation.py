"""Constrained paths on the campus, worked out by hand, and why there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from srv6dmm.core.computation import PathComputation
from srv6dmm.core.graph import Graph, NoPath, Weights
from srv6dmm.core.segments import NoSegmentList
from srv6dmm.core.simulator import NotDelivered, Simulator
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.path import Path
from srv6dmm.model.policy import Constraints, DynamicPath, Objective, Waypoint
from srv6dmm.model.topology import LinkEnd, Topology

CAMPUS = parse_topology(
    (FilePath(__file__).parents[2] / "deploy" / "topologies" / "campus.yaml").read_text(),
    "campus.yaml",
)


def campus(most: int = 3, **changes: dict[str, object]) -> PathComputation:
    """Return the campus with `most` segments and attributes changed: "br1_tr1" is a link."""
    links = tuple(
        replace(link, **changes.get(f"{link.a.node}_{link.b.node}", {}))  # type: ignore[arg-type]
        for link in CAMPUS.links
    )
    domain = replace(CAMPUS.domain, max_segments=most)
    return PathComputation(Topology(domain, CAMPUS.nodes, links))


def routers(computation: PathComputation, wanted: DynamicPath, to: str = "ar3") -> str:
    return " ".join(computation.solve("br1", to, wanted).path.routers)


def test_a_solution_says_what_it_adds_up_to() -> None:
    computation = campus(br1_tr1={"delay_us": 700, "te_metric": 1}, tr1_tr2={"mtu": 1400})
    solution = computation.solve("br1", "ar3")
    assert solution.path.routers == ("br1", "tr1", "tr2", "ar3")
    measures = solution.measures
    assert (measures.igp_metric, measures.te_metric) == (40, 31)
    assert (measures.delay_us, measures.hops, measures.link_mtu) == (700, 3, 1400)
    assert solution.segments == (computation.sids["ar3"].end_dt6,)
    assert solution.mtu == 1280, "one segment of encap.red costs 40 bytes, a repair of three 80"


def test_the_objective_decides() -> None:
    computation = campus(
        br1_tr1={"te_metric": 1000, "delay_us": 1},
        br1_tr3={"delay_us": 900},
        tr1_tr2={"delay_us": 1},
        tr1_tr3={"delay_us": 0},
    )
    assert routers(computation, DynamicPath(Objective.IGP)) == "br1 tr1 tr2 ar3"
    assert routers(computation, DynamicPath(Objective.TE)) == "br1 tr3 ar3"
    assert routers(computation, DynamicPath(Objective.DELAY)) == "br1 tr1 tr3 ar3"


def test_a_drained_link_is_the_last_resort() -> None:
    computation = campus(br1_tr1={"drained": True})
    assert routers(computation, DynamicPath()) == "br1 tr3 ar3"
    for objective in Objective:
        assert not routers(computation, DynamicPath(objective)).startswith("br1 tr1")
    avoided = DynamicPath(constraints=Constraints(avoid_routers=frozenset({"tr3"})))
    assert routers(computation, avoided) == "br1 tr1 tr2 ar3"


def test_what_is_longer_than_the_head_end_can_impose_is_not_taken() -> None:
    """br1 tr1 tr3 ar4 needs two segments; with one, only the shortest path is left."""
    wanted = DynamicPath(Objective.TE)
    cheap: dict[str, object] = {"te_metric": 1}
    cheaper = {"br1_tr1": cheap, "tr1_tr3": cheap, "ar4_tr3": cheap}
    assert routers(campus(2, **cheaper), wanted, "ar4") == "br1 tr1 tr3 ar4"
    assert routers(campus(1, **cheaper), wanted, "ar4") == "br1 tr3 ar4"
    limited = campus(1, **cheaper)
    over_tr1 = Path(("br1", "tr1", "tr3", "ar4"), ("tr1", "tr3", "ar4"))
    with pytest.raises(NoSegmentList, match="needs 2 segments; 1 are possible"):
        limited.solution(over_tr1)


def test_waypoints_are_passed_in_order() -> None:
    stops = (Waypoint("tr3"), Waypoint("tr1"))
    assert routers(campus(), DynamicPath(waypoints=stops)) == "br1 tr3 tr2 tr1 tr2 ar3"
    assert routers(campus(), DynamicPath(waypoints=stops[::-1])) == "br1 tr1 tr2 tr3 ar3"


def test_a_backup_says_what_it_shares() -> None:
    computation = campus(br1_tr1={"srlgs": frozenset({1})}, br1_tr3={"srlgs": frozenset({1})})
    primary = computation.solve("br1", "ar3")
    backup = computation.backup(primary.path)
    assert backup.solution.path.routers == ("br1", "tr3", "ar3")
    assert (backup.shared_links, backup.shared_routers, backup.shared_srlgs) == (0, 0, 1)
    only = DynamicPath(constraints=Constraints(avoid_routers=frozenset({"tr3"})))
    bound = computation.backup(primary.path, only)
    assert bound.solution.path.routers == ("br1", "tr1", "ar2", "tr2", "ar3")
    assert (bound.shared_links, bound.shared_routers) == (2, 2)


def test_candidates_come_in_order_of_cost() -> None:
    found = campus().candidates("br1", "ar3", DynamicPath(), 3)
    assert [solution.measures.igp_metric for solution in found] == [40, 43, 45]
    assert [" ".join(solution.path.routers) for solution in found] == [
        "br1 tr1 tr2 ar3",
        "br1 tr3 ar3",
        "br1 tr3 tr2 ar3",
    ]


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        (Constraints(maximum_hops=1), "the fewest links from 'br1' to 'ar3' are 2; 1 are allowed"),
        (Constraints(maximum_delay_us=9), "the least delay from 'br1' to 'ar3' is 10 us; 9 are"),
        (
            Constraints(avoid_links=frozenset({LinkEnd("tr1", "br1"), LinkEnd("br1", "tr3")})),
            "over the waypoints and the links that the constraints allow",
        ),
        (Constraints(require_routers=frozenset({"cn"})), "'cn' is not in the topology"),
        (Constraints(require_links=frozenset({LinkEnd("br1", "x")})), "br1:x is no link"),
        (
            Constraints(require_routers=frozenset({"ar1", "ar2"}), maximum_hops=3),
            "no path from 'br1' to 'ar3' satisfies the constraints",
        ),
    ],
)
def test_there_is_no_path_and_why(constraints: Constraints, words: str) -> None:
    computation = campus(br1_tr1={"delay_us": 10}, br1_tr3={"delay_us": 10})
    with pytest.raises(NoPath, match=words):
        computation.solve("br1", "ar3", DynamicPath(constraints=constraints))
    with pytest.raises(NoPath, match="'tr2' has no locator"):
        computation.solve("br1", "tr2")


def test_distances_beyond_doubles_are_exact() -> None:
    """Two ways that differ by 1 in 2^60: added up as doubles they would tie."""
    graph = Graph(CAMPUS)
    big = Weights.of([1 << 60] * len(graph.links))
    number = graph.crossing("tr1", "ar1")
    assert number is not None
    big.values[number] += 1
    distances = graph.distances(big, graph.index["ar1"])
    assert distances[graph.index["tr1"]] == (1 << 60) + 1
    assert distances[graph.index["br1"]] == 2 << 60


def test_the_simulator_says_why_a_packet_does_not_arrive() -> None:
    computation = campus()
    simulator = Simulator(computation.paths, computation.sids)
    final = computation.sids["ar3"].end_dt6
    with pytest.raises(NotDelivered, match="'cn' is not in the topology"):
        simulator.paths("cn", [final])
    with pytest.raises(NotDelivered, match="fc00:: is no SID"):
        simulator.paths("br1", [final.__class__("fc00::"), final])
