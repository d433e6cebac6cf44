"""Constrained paths on random domains, against exhaustive search and networkx."""

from __future__ import annotations

from dataclasses import replace

import networkx
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from srv6dmm.core.computation import PathComputation
from srv6dmm.core.graph import NoPath
from srv6dmm.core.simulator import Simulator
from srv6dmm.model.path import Path, Solution
from srv6dmm.model.policy import Constraints, DynamicPath, Objective
from srv6dmm.model.topology import Link
from tests.property.networks import Judge, Network, allowed, demands, ends, ladders, networks


def solved(
    computation: PathComputation, source: str, target: str, wanted: DynamicPath, count: int = 1
) -> tuple[Solution, ...]:
    """Return the solutions; none instead of an error."""
    try:
        if count == 1:
            return (computation.solve(source, target, wanted),)
        return computation.candidates(source, target, wanted, count)
    except NoPath:
        return ()


def check(computation: PathComputation, solution: Solution, wanted: DynamicPath) -> None:
    """The list leads along the path and nowhere else, and fits what it says."""
    simulator = Simulator(computation.paths, computation.sids, ecmp=computation.ecmp)
    path = solution.path
    assert simulator.paths(path.routers[0], solution.segments) == {path}
    assert solution.segments[-1] == computation.sids[path.routers[-1]].end_dt6
    assert solution.mtu >= (wanted.constraints.minimum_mtu or 0)
    stops = [
        computation.sids[waypoint.router].services[waypoint.service]
        for waypoint in wanted.waypoints
        if waypoint.service is not None
    ]
    rest = iter(solution.segments)
    assert all(stop in rest for stop in stops), "services are visited in order"


@settings(max_examples=600, deadline=None, derandomize=True)
@given(networks(), st.booleans(), st.data())
def test_the_path_is_the_best_of_all_that_satisfy_the_constraints(
    network: Network, ecmp: bool, data: st.DataObject
) -> None:
    source, target = data.draw(ends(network, same=True))
    wanted = data.draw(demands(network))
    best = Judge(network, wanted, ecmp).best(source, target, 1)
    computation = PathComputation(network.topology, ecmp=ecmp)
    found = solved(computation, source, target, wanted)
    event("a path" if best else "none")
    assert [solution.path for solution in found] == best
    for solution in found:
        check(computation, solution, wanted)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ladders(), st.data())
def test_the_cheapest_beginning_is_not_always_that_of_the_best_path(
    network: Network, data: st.DataObject
) -> None:
    steps = len(network.names) // 2
    kind = data.draw(st.sampled_from(("delay", "hops", "mtu", "segments")))
    number = data.draw(st.integers(0, 4 * steps))
    constraints = {
        "delay": Constraints(maximum_delay_us=3 * steps + number),
        "hops": Constraints(maximum_hops=steps + number % steps),
        "mtu": Constraints(minimum_mtu=1400 + 4 * number),
        "segments": Constraints(maximum_segments=1 + number % 4),
    }[kind]
    source, target = "n0", f"n{steps}"
    wanted = DynamicPath(Objective.TE, constraints)
    computation = PathComputation(network.topology)
    found = solved(computation, source, target, wanted)
    best = Judge(network, wanted, True).best(source, target, 1)
    if best and found:
        free = solved(computation, source, target, DynamicPath(Objective.TE))
        event(f"{kind}: {'the cheapest will not do' if free != found else 'no matter'}")
    assert [solution.path for solution in found] == best


@settings(max_examples=200, deadline=None, derandomize=True)
@given(networks(largest=5, more=2), st.data())
def test_candidates_are_the_best_paths_in_order(network: Network, data: st.DataObject) -> None:
    source, target = data.draw(ends(network, same=True))
    wanted = data.draw(demands(network, waypoints=1, kinds_at_once=1))
    computation = PathComputation(network.topology)
    found = solved(computation, source, target, wanted, count=5)
    event(f"{len(found)} candidates")
    best = Judge(network, wanted, True).best(source, target, 5)
    assert [solution.path for solution in found] == best
    for solution in found:
        check(computation, solution, wanted)


def in_common(network: Network, one: Path, other: Path) -> tuple[int, int, int]:
    """Return how many links, routers between the ends and SRLGs `other` shares with `one`."""
    theirs = {network.link_at[end][0] for end in one.crossings()}
    own = [network.link_at[end][0] for end in other.crossings()]
    risks = {srlg for link in theirs for srlg in link.srlgs}
    between = set(one.routers) - {one.routers[0], one.routers[-1]}
    return (
        len([link for link in own if link in theirs]),
        len([name for name in other.routers if name in between]),
        sum(srlg in risks for link in own for srlg in link.srlgs),
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(networks(largest=5, more=2), st.data())
def test_a_backup_shares_as_little_as_any_path_does(network: Network, data: st.DataObject) -> None:
    """Links first, then routers, then SRLGs, then the objective: over every path there is."""
    source, target = data.draw(ends(network))
    wanted = data.draw(demands(network, waypoints=0))
    computation = PathComputation(network.topology)
    found = solved(computation, source, target, wanted)
    assume(found)
    primary = found[0].path
    backup = computation.backup(primary, wanted)
    check(computation, backup.solution, wanted)
    judge = Judge(network, wanted, True)
    ways = [way for way in network.simple(source, target) if judge.satisfied(source, way)]
    best = min(
        ways,
        key=lambda way: (in_common(network, primary, network.path(source, way)), judge.order(way)),
    )
    assert backup.solution.path == network.path(source, best)
    shared = (backup.shared_links, backup.shared_routers, backup.shared_srlgs)
    assert shared == in_common(network, primary, backup.solution.path)
    event(f"disjoint: {[not count for count in shared]}")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(networks(), st.data())
def test_two_controllers_agree_whatever_the_order_of_the_file(
    network: Network, data: st.DataObject
) -> None:
    turned = [replace(link, a=link.b, b=link.a) for link in network.links]
    other = replace(
        network,
        names=tuple(data.draw(st.permutations(network.names))),
        links=tuple(data.draw(st.permutations(turned))),
    )
    source, target = data.draw(ends(network, same=True))
    wanted = data.draw(demands(network))
    one, two = PathComputation(network.topology), PathComputation(other.topology)
    solved(two, target, source, wanted) if source not in network.plain else ()
    for count in (1, 3):
        paths = [s.path for s in solved(one, source, target, wanted, count)]
        assert [s.path for s in solved(two, source, target, wanted, count)] == paths


@settings(max_examples=25, deadline=None, derandomize=True)
@given(networks(smallest=20, largest=200, more=2, plain=0), st.sampled_from(Objective), st.data())
def test_large_domains_against_networkx(
    network: Network, objective: Objective, data: st.DataObject
) -> None:
    network = replace(network, deep=16)  # or a list could keep the best path from being taken
    source, target = data.draw(ends(network))
    excluded = data.draw(st.frozensets(st.sampled_from(("blue", "gold")), max_size=1))
    wanted = DynamicPath(objective, Constraints(exclude_any=excluded))
    usable = tuple(link for link in network.links if allowed(link, wanted.constraints))
    graph = network.graph(usable, objective)
    computation = PathComputation(network.topology)
    found = solved(computation, source, target, wanted)
    assert bool(found) == networkx.has_path(graph, source, target)
    if not found:
        return
    path = found[0].path
    check(computation, found[0], wanted)
    cost = sum(network.weight(network.link_at[end][0], objective) for end in path.crossings())
    assert cost == networkx.dijkstra_path_length(graph, source, target)
    event(f"{len(found[0].segments)} segments")
    backup = computation.backup(path, wanted)
    check(computation, backup.solution, wanted)
    links = {network.link_at[end][0] for end in path.crossings()}
    between = set(path.routers[1:-1])
    risks = {srlg for link in links for srlg in link.srlgs}

    def connected(usable: list[Link]) -> bool:
        return bool(networkx.has_path(network.graph(tuple(usable), objective), source, target))

    rest = [link for link in usable if link not in links]
    assert (backup.shared_links == 0) == connected(rest)
    if backup.shared_links == 0:
        apart = [link for link in rest if not between & {end.node for end in link.ends()}]
        assert (backup.shared_routers == 0) == connected(apart)
        if backup.shared_routers == 0:
            safe = [link for link in apart if not link.srlgs & risks]
            assert (backup.shared_srlgs == 0) == connected(safe)
    shared = (backup.shared_links, backup.shared_routers, backup.shared_srlgs)
    event(f"disjoint: {[not count for count in shared]}")
