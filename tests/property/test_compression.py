"""Compressed lists on random domains: the same path, and as short as any list can be sent."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from srv6dmm.core.compression import Compression
from srv6dmm.core.computation import PathComputation
from srv6dmm.core.fib_walk import FibWalk, Outcome, Packet
from srv6dmm.core.graph import NoPath
from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.planner import Planner
from srv6dmm.core.segments import NoSegmentList, segment_list
from srv6dmm.core.sids import sid_table
from srv6dmm.core.simulator import Simulator
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.path import Path
from srv6dmm.model.plan import PlanEntry, SteeringEntry
from srv6dmm.model.policy import Constraints, DynamicPath, Objective, Waypoint
from srv6dmm.model.state import CsidSupport, State
from srv6dmm.model.topology import LinkEnd, Topology
from tests.property.networks import Judge, Network, demands, ends, networks
from tests.property.test_paths import Underlay, underlays
from tests.property.test_paths_segments import Walk, walks


def some_of(names: Collection[str]) -> st.SearchStrategy[frozenset[str]]:
    """Draw routers that hold a uN: all of them half of the time."""
    return st.just(frozenset(names)) | st.frozensets(st.sampled_from(sorted(names)))


def fewest_sent(oracle: Walk, able: Collection[str], path: Path, final: IPv6Address) -> int | None:
    """Return the SIDs that the best list along a path is sent as, of all lists there are.

    Every SID of the domain at every place; a container is gone on with, or not, as both can be.
    """
    crossings = tuple(zip(path.interfaces, path.routers[1:], strict=True))
    todo = [(0, 0, 0)]
    """(SIDs sent, place reached, slots left in the last one)."""
    seen = set(todo)
    while todo:
        sent, place, left = heapq.heappop(todo)
        if place > len(crossings):
            return sent
        here = path.routers[place]
        for sid, owner in oracle.owners.items():
            ways = oracle.segment(here, sid)
            if len(ways) != 1:
                continue
            (way,) = ways
            if crossings[place : place + len(way)] != way:
                continue
            then = place + len(way)
            if sid == final and then == len(crossings):
                then += 1
            own_end = int(sid) >> 64 & 0xFFFF == 0xE00
            needed = 1 if own_end else 2
            following = [(sent + 1, then, 0)]
            if owner in able:
                following = [(sent + 1, then, 6 - needed if own_end else 0)]
                if left >= needed:
                    following.append((sent, then, left - needed if own_end else 0))
            for state in following:
                if state not in seen:
                    seen.add(state)
                    heapq.heappush(todo, state)
    return None


@settings(max_examples=400, deadline=None, derandomize=True)
@given(underlays(plain=True, largest=6), st.booleans(), st.data())
def test_the_list_leads_along_the_path_and_none_is_sent_shorter(
    underlay: Underlay, ecmp: bool, data: st.DataObject
) -> None:
    path = data.draw(walks(underlay))
    assume(path.routers[-1] not in underlay.plain)
    sids = sid_table(underlay.topology)
    able = data.draw(some_of(sids.keys()))
    compression = Compression(sids, able)
    final = sids[path.routers[-1]].end_dt6
    paths, oracle = ShortestPaths(underlay.topology), Walk(underlay, sids, ecmp)
    try:
        plain = segment_list(paths, sids, path, final, ecmp=ecmp)
    except NoSegmentList:
        return
    chosen = segment_list(paths, sids, path, final, ecmp=ecmp, compression=compression)
    sent = compression.compress(chosen)
    event(f"{len(plain)} plain, {len(sent)} sent")
    assert oracle.paths(path.routers[0], chosen) == {path}
    assert tuple(sid for one in sent for sid in compression.expand(one)) == chosen
    assert len(sent) <= len(plain)
    simulator = Simulator(paths, sids, ecmp=ecmp, compression=compression)
    assert simulator.paths(path.routers[0], sent) == {path}
    assert len(sent) == fewest_sent(oracle, able, path, final)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(networks(), st.booleans(), st.data())
def test_the_best_path_within_limits_of_what_is_sent(
    network: Network, ecmp: bool, data: st.DataObject
) -> None:
    """A limit refuses nothing that fits when compressed, and lets nothing through that does not."""
    source, target = data.draw(ends(network, same=True))
    wanted = data.draw(demands(network, kinds_at_once=1))
    most = replace(wanted.constraints, maximum_segments=data.draw(st.integers(1, 2)))
    wanted = replace(wanted, constraints=most)
    sids = sid_table(network.topology)
    compression = Compression(sids, data.draw(some_of(sids.keys())))
    best = Judge(network, wanted, ecmp, compression).best(source, target, 1)
    computation = PathComputation(network.topology, ecmp=ecmp, compression=compression)
    simulator = Simulator(computation.paths, sids, ecmp=ecmp, compression=compression)
    try:
        solution = computation.solve(source, target, wanted)
    except NoPath:
        assert not best
        event("none")
        return
    assert [solution.path] == best
    assert simulator.paths(source, solution.segments) == {solution.path}
    assert len(solution.segments) <= min(network.deep, wanted.constraints.maximum_segments or 16)
    plain_only = Judge(network, wanted, ecmp).best(source, target, 1)
    event("only when compressed" if plain_only != best else "anyway")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(networks(smallest=5, largest=7, plain=0), st.booleans(), st.data())
def test_a_limit_leads_to_the_best_path_that_fits_when_compressed(
    network: Network, ecmp: bool, data: st.DataObject
) -> None:
    """Where the best ways need many segments, and what fits is found by counting slots only."""
    source, target = data.draw(ends(network))
    free = DynamicPath(data.draw(st.sampled_from((Objective.TE, Objective.DELAY))))
    most = data.draw(st.integers(1, 2))
    wanted = replace(free, constraints=Constraints(maximum_segments=most))
    sids = sid_table(network.topology)
    compression = Compression(sids, data.draw(some_of(sids.keys())))
    best = Judge(network, wanted, ecmp, compression).best(source, target, 1)
    computation = PathComputation(network.topology, ecmp=ecmp, compression=compression)
    try:
        found = [computation.solve(source, target, wanted)]
    except NoPath:
        found = []
    assert [solution.path for solution in found] == best
    unlimited = Judge(network, free, ecmp, compression).best(source, target, 1)
    event("the best of all fits" if best == unlimited else f"another within {most}")


def supports(topology: Topology) -> st.SearchStrategy[list[CsidSupport]]:
    names = [node.name for node in topology.routers()]
    return st.lists(
        st.builds(CsidSupport, st.sampled_from(names), st.booleans()),
        unique_by=lambda support: support.router,
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(networks(largest=5), st.data())
def test_plans_change_by_what_routers_support_as_if_made_anew(
    network: Network, data: st.DataObject
) -> None:
    """Incremental equals from scratch, when links and support change by turns."""
    topology = with_usid(network.topology)
    planner = Planner(topology, MobilityParameters())
    state = State()
    held: dict[str, dict[str, PlanEntry]] = {
        node.name: dict(planner.plan(node.name, state).entries) for node in topology.routers()
    }
    ends_of_links = sorted((end for link in network.links for end in link.ends()), key=str)
    for _ in range(data.draw(st.integers(1, 4))):
        down: list[LinkEnd] = []
        if ends_of_links:
            down = data.draw(st.lists(st.sampled_from(ends_of_links), max_size=1))
        csid = data.draw(supports(topology))
        change = planner.reroute(topology, down, (), csid)
        for deltas in (change.at_once, change.routes):
            for router, (put, gone) in deltas.items():
                for key in gone:
                    held[router].pop(key, None)
                held[router].update((entry.key, entry) for entry in put)
        fresh = Planner(topology, MobilityParameters(), down=down, csid=csid)
        for router, entries in held.items():
            assert entries == fresh.plan(router, state).entries, router


@settings(max_examples=200, deadline=None, derandomize=True)
@given(networks(smallest=3), st.data())
def test_a_walk_through_plans_follows_the_container(network: Network, data: st.DataObject) -> None:
    """What routers hold leads a packet with a compressed list along the path, and out there."""
    topology = with_usid(network.topology)
    source, target = data.draw(ends(network))
    assume(source not in network.plain)
    able = data.draw(some_of(sid_table(topology).keys()))
    planner = Planner(
        topology, MobilityParameters(), csid=[CsidSupport(router, True) for router in able]
    )
    computation = PathComputation(topology, ecmp=False, compression=Compression(planner.sids, able))
    try:
        wanted = data.draw(demands(network))
        stops = tuple(Waypoint(waypoint.router) for waypoint in wanted.waypoints)
        solution = computation.solve(source, target, replace(wanted, waypoints=stops))
    except NoPath:
        assume(False)
        return
    assume(len(solution.path.routers) > 1)
    steered = IPv6Network("2001:db8::/64")
    steering = SteeringEntry(
        steered,
        solution.segments,
        topology.domain.encap_mode,
        solution.path.interfaces[0],
        IPv6Address("fe80::1"),
        1500,
        "mn1",
        1,
    )

    def plans(router: str) -> list[PlanEntry]:
        planned = list(planner.plan(router, State()).entries.values())
        return [*planned, steering] if router == source else planned

    walk = FibWalk(topology, plans).walk(source, Packet(IPv6Address("2001:db8:1::1"), steered[1]))
    event(f"{len(solution.segments)} sent")
    assert walk.routers == solution.path.routers, walk.detail
    assert walk.outcome is Outcome.UNREACHABLE, "taken out of its headers there"
    assert walk.hops[-1].headers == ()


def with_usid(topology: Topology) -> Topology:
    """Return the domain with compression switched on."""
    return replace(topology, domain=replace(topology.domain, usid=True))
