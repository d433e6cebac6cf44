"""`bench control`: how fast decisions, plans, paths, commits and kernel routes are made."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srv6dmm.bench.bulk import bulk_routes
from srv6dmm.bench.link_failure import link_failure
from srv6dmm.bench.path_computation import path_computation
from srv6dmm.bench.report import Case, environment, timed
from srv6dmm.bench.store_commits import store_commits
from srv6dmm.core import mobility
from srv6dmm.core.planner import Planner
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import State
from srv6dmm.model.topology import Topology

NOW_MS = 1_700_000_000_000


def decisions(topology: Topology, count: int) -> list[Case]:
    """Time pure decisions and incremental plans: every node attaches, then moves on."""
    parameters = MobilityParameters()
    routers = [node.name for node in topology.access_routers()]
    planner = Planner(topology, parameters)
    state = State()
    moved: list[tuple[Any, Any]] = []

    def event(index: int, hop: int) -> None:
        attach = AttachEvent(
            event_id=f"{hop}-{index}",
            mobile_node=f"mn{index}",
            access_router=routers[(index + hop) % len(routers)],
            link_layer_address=f"02:00:{index >> 24 & 255:02x}:{index >> 16 & 255:02x}"
            f":{index >> 8 & 255:02x}:{index & 255:02x}",
        )
        before = state.sessions.get((attach.mobile_node, attach.interface))
        decision = mobility.decide(state, attach, NOW_MS, topology, parameters)
        state.apply(decision.change, state.revision + 1)
        moved.append((before, state.sessions[(attach.mobile_node, attach.interface)]))

    cases = [
        timed("decide_attach", count, lambda index: event(index, 0)),
        timed("decide_handover", count, lambda index: event(index, 1)),
    ]
    handovers = moved[count:]
    cases.append(timed("plan_handover_deltas", count, lambda i: planner.deltas(*handovers[i])))
    whole = max(1, min(20, 20_000 // count))
    cases.append(
        timed(f"plan_from_scratch_{count}_nodes", whole, lambda _: planner.plan(routers[0], state))
    )
    return cases


def run(
    topology: Topology, quick: bool, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Return the report of `bench control`. Needs root for the kernel routes."""
    routes, events, commits = (20_000, 1_000, 500) if quick else (100_000, 10_000, 5_000)
    cases: list[Case] = []
    progress("decisions and plans")
    cases += decisions(topology, events)
    progress("paths")
    cases += path_computation(100 if quick else 500)
    progress("a link failure")
    cases += link_failure(3 if quick else 10)
    progress("durable commits")
    with tempfile.TemporaryDirectory(prefix="srv6dmm-bench-") as folder:
        for concurrency in (1, 64):
            path = Path(folder) / f"commits-{concurrency}.sqlite3"
            cases += asyncio.run(store_commits(commits, concurrency, path))
    progress("kernel routes")
    cases += bulk_routes(routes, f"s6-bench-{os.getpid()}")
    return {"environment": environment("netlink"), "cases": cases}
