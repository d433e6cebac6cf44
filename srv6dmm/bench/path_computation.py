"""How fast paths and segment lists are computed on a large domain, and in how much memory."""

from __future__ import annotations

import tracemalloc
from ipaddress import IPv6Network
from random import Random

from srv6dmm.bench.report import Case, timed
from srv6dmm.core.computation import PathComputation
from srv6dmm.core.graph import NoPath
from srv6dmm.model.path import Path
from srv6dmm.model.policy import Constraints, DynamicPath, Objective
from srv6dmm.model.sid import Locator
from srv6dmm.model.topology import MAX_SEGMENTS, Domain, Link, LinkEnd, Node, Role, Topology

ROUTERS, LINKS = 1000, 4000
_LONGEST_DELAY_US = 12_000
PLAIN = DynamicPath()
CONSTRAINED = DynamicPath(
    Objective.TE,
    Constraints(exclude_any=frozenset({"blue"}), maximum_delay_us=_LONGEST_DELAY_US),
)


def large_domain(routers: int = ROUTERS, links: int = LINKS, seed: int = 1) -> Topology:
    """Return a random connected domain: the same for the same arguments."""
    draw = Random(seed)
    names = [f"r{number}" for number in range(routers)]
    nodes = {
        name: Node(name, Role.TRANSIT, index, Locator(IPv6Network(f"fc00:0:{index:x}::/48")))
        for index, name in enumerate(names, start=1)
    }
    pairs = [(number, draw.randrange(number)) for number in range(1, routers)]
    while len(pairs) < links:
        a, b = draw.sample(range(routers), 2)
        pairs.append((a, b))
    made = tuple(
        Link(
            LinkEnd(names[a], f"e{number}"),
            LinkEnd(names[b], f"e{number}"),
            metric=draw.randint(1, 50),
            delay_us=draw.randint(100, 5000),
            mtu=1600,
            te_metric=draw.randint(1, 100),
            affinities=frozenset({"blue"} if draw.random() < 0.2 else ()),
            srlgs=frozenset({draw.randint(1, links // 10)}),
        )
        for number, (a, b) in enumerate(pairs)
    )
    domain = Domain("large", IPv6Network("fc00::/32"), max_segments=MAX_SEGMENTS)
    return Topology(domain, nodes, made)


def path_computation(count: int) -> list[Case]:
    """Time one solution after the other between random routers, each towards another endpoint.

    In the cases `new` nothing is known of the endpoint: its trees are grown first. In `known`
    the same is asked once more. Trees of routers on the way may be there from before.
    """
    topology = large_domain()
    computation = PathComputation(topology)
    draw = Random(2)
    names = sorted(topology.nodes)
    ends = [
        (draw.choice([name for name in names[:50] if name != endpoint]), endpoint)
        for endpoint in draw.sample(names, count)
    ]
    segments: list[int] = []
    primaries: list[Path] = []

    def solve(wanted: DynamicPath, index: int) -> None:
        try:
            solution = computation.solve(*ends[index], wanted)
        except NoPath:
            return  # that there is none takes as long to find out
        segments.append(len(solution.segments))
        primaries.append(solution.path)

    def case(name: str, wanted: DynamicPath) -> Case:
        segments.clear()
        primaries.clear()
        made = timed(name, count, lambda index: solve(wanted, index))
        return made | {"solved": len(segments), "mean_segments": sum(segments) / len(segments)}

    cases = [
        case("path_plain_new", PLAIN),
        case("path_plain_known", PLAIN),
        case("path_constrained_new", CONSTRAINED),
        case("path_constrained_known", CONSTRAINED),
    ]
    paths = list(primaries)
    cases.append(
        timed("path_backup", len(paths), lambda index: computation.backup(paths[index], PLAIN))
    )
    some = min(count, 100)
    cases.append(
        timed(
            "path_candidates_5",
            some,
            lambda index: computation.candidates(*ends[index], PLAIN, 5),
        )
    )
    for case_ in cases:
        case_ |= {"routers": ROUTERS, "links": LINKS}
    return [*cases, _memory(topology)]


def _memory(topology: Topology) -> Case:
    """Return the case of growing every tree of the underlay, with the memory it takes."""
    tracemalloc.start()
    computation = PathComputation(topology)
    graph_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    case = timed("path_tree", ROUTERS, computation.paths.tree)
    return case | {
        "routers": ROUTERS,
        "links": LINKS,
        "graph_bytes": graph_bytes,
        "all_trees_bytes": computation.memory_bytes(),
    }
