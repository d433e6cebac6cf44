"""How fast a large domain has new lists and plans when a link fails that many flows cross."""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

from srv6dmm.bench.path_computation import CONSTRAINED, LINKS, ROUTERS, large_domain
from srv6dmm.bench.report import Case, percentile
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.core.rerouting import Rerouting
from srv6dmm.model.flows import MAXIMUM_FLOW_ENTRIES, Direction, FlowRule, Group
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import FlowSteering
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    Objective,
    Policy,
    WeightedPath,
)
from srv6dmm.model.state import Binding, RolloutPhase, Session, SessionPhase
from srv6dmm.model.topology import LinkEnd, Role, Topology

FLOWS = 10_000
_HEAD_ENDS, _BORDER_ROUTERS, _SERVING = 100, 4, 3
_NODES = MAXIMUM_FLOW_ENTRIES - 2
_POLICIES = {
    "quick": DynamicPath(Objective.DELAY),
    "cheap": DynamicPath(
        Objective.TE, Constraints(exclude_any=CONSTRAINED.constraints.exclude_any)
    ),
}


def edged_domain() -> Topology:
    """Return the large domain with the routers of fewest links, but two, as its edge."""
    topology = large_domain(ROUTERS, LINKS)
    degrees = Counter(end.node for link in topology.links for end in link.ends())
    edge = sorted((degree, name) for name, degree in degrees.items() if degree > 1)
    nodes = dict(topology.nodes)
    for number, (_, name) in enumerate(edge[:_HEAD_ENDS]):
        prefix = (IPv6Network(f"2001:db8:{number:x}::/48"),)
        if number < _HEAD_ENDS - _BORDER_ROUTERS:
            nodes[name] = replace(
                nodes[name], role=Role.ACCESS, pools=prefix, access_interface="access0"
            )
        else:
            nodes[name] = replace(nodes[name], role=Role.BORDER, announces=prefix)
    return replace(topology, nodes=nodes)


def crowd(topology: Topology) -> tuple[list[Session], FlowBook]:
    """Return as many mobile nodes as head-ends take, at few access routers, and their rules."""
    routers = topology.access_routers()
    sessions = []
    for number in range(_NODES):
        anchor = routers[_SERVING + number % (len(routers) - _SERVING)]
        prefix = IPv6Network((int(anchor.pools[0].network_address) + (number << 64), 64))
        sessions.append(
            Session(
                f"mn{number}",
                "0",
                f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
                routers[number % _SERVING].name,
                1,
                SessionPhase.ACTIVE,
                RolloutPhase.STABLE,
                (Binding(prefix, anchor.name, 0),),
                0,
            )
        )
    policies, rules, groups = {}, {}, {}
    for number, (name, wanted) in enumerate(_POLICIES.items()):
        policies[name] = Policy(name, (CandidatePath((WeightedPath(wanted),)),))
        nodes = (session.mobile_node for session in sessions[number :: len(_POLICIES)])
        groups[name] = Group(name, frozenset(nodes))
        rules[name] = FlowRule(name, name, group=name, direction=Direction.DOWNLINK)
    return sessions, FlowBook(policies, rules, groups)


def _entries(planner: Planner, sessions: list[Session]) -> Iterator[tuple[str, FlowSteering]]:
    for session in sessions:
        for router, entries in planner.session_entries(session).items():
            for entry in entries:
                if isinstance(entry, FlowSteering):
                    yield router, entry


def _busiest(planner: Planner, sessions: list[Session]) -> list[tuple[LinkEnd, int]]:
    """Return ends of the links that most flow entries' lists cross, with how many do."""
    ways: Counter[tuple[str, str, str]] = Counter()
    for session in sessions:
        for rule in planner.book.rules(session.mobile_node):
            for node in planner.topology.head_ends():
                if node.name != session.serving:
                    ways[rule.policy, node.name, session.serving] += 1
    crossed: Counter[LinkEnd] = Counter()
    for (name, head_end, serving), count in ways.items():
        policies = planner.book.policies
        choice = planner.choices.choose(policies[name], policies, head_end, serving)
        for end in {end for path in choice.paths for end in path.crossings()}:
            crossed[end] += count
    return crossed.most_common()


def link_failure(count: int) -> list[Case]:
    """Time a failure of the busiest link, again and again; in between it is mended."""
    topology = edged_domain()
    sessions, book = crowd(topology)
    tracemalloc.start()
    planner = Planner(topology, MobilityParameters(), book)
    planner.paths.grow_all()
    for session in sessions:  # as when every router was told its plan
        planner.session_entries(session)
    dead, crossing = _busiest(planner, sessions)[0]
    planner_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    cuts: list[float] = []
    cpu: list[float] = []
    mends: list[float] = []
    profile: dict[str, float] = {}
    made: Rerouting | None = None
    for _ in range(count):
        gc.collect()
        spent = time.process_time()
        made, took = _timed(planner, topology, {dead}, sessions, profile)
        cpu.append((time.process_time() - spent) * 1e3)
        cuts.append(took)
        gc.collect()
        mends.append(_timed(planner, topology, set(), sessions, {})[1])
    assert made is not None
    put = [entry for entries, _ in made.at_once.values() for entry in entries]
    common = {"routers": ROUTERS, "links": LINKS, "flows": crossing}
    failure: Case = _case("reroute_10k_flows", cuts) | common
    failure |= {
        "flow_entries": sum(isinstance(entry, FlowSteering) for entry in put),
        "steering_entries": sum(not isinstance(entry, FlowSteering) for entry in put),
        "routes": sum(len(entries) for entries, _ in made.routes.values()),
        "rounds": len(made.rounds),
        "cpu_p50_ms": percentile(cpu, 0.5),
        "profile_ms": {step: total / count for step, total in profile.items()},
        "planner_bytes": planner_bytes,
        "process_bytes": _resident_bytes(),
    }
    return [failure, _case("reroute_mended", mends) | common]


def _timed(
    planner: Planner,
    topology: Topology,
    down: set[LinkEnd],
    sessions: list[Session],
    profile: dict[str, float],
) -> tuple[Rerouting, float]:
    """Return what a change of links comes to, and how long that took, in milliseconds."""
    started = last = time.perf_counter()

    def done(step: str) -> None:
        nonlocal last
        now = time.perf_counter()
        profile[step] = profile.get(step, 0.0) + (now - last) * 1e3
        last = now

    made = planner.reroute(topology, down, sessions, done=done)
    return made, (time.perf_counter() - started) * 1e3


def _case(name: str, took: list[float]) -> Case:
    return {
        "name": name,
        "per_second": 1e3 * len(took) / sum(took),
        "p50_ms": percentile(took, 0.5),
        "p99_ms": percentile(took, 0.99),
        "count": len(took),
    }


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
