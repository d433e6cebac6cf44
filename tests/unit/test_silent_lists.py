"""Lists that do not answer: what is used instead, who says so, and when they are used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from srv6dmm.config import RolloutSettings
from srv6dmm.controller.list_states import FORGOTTEN_MS
from srv6dmm.core.computation import PathComputation
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.core.policy_paths import SILENT, Choice, PolicyPaths
from srv6dmm.core.return_path import ReturnPaths
from srv6dmm.core.simulator import Simulator
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.path import Path as RouterPath
from srv6dmm.model.plan import SteeringEntry, WatchedList
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    Invalid,
    Policy,
    WeightedPath,
)
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.state import SilentList, State
from srv6dmm.model.topology import Topology
from srv6dmm.model.wire import ListReport
from tests.simulated import LoopClock, QuickLoop, SimulatedDomain, quickly
from tests.unit.test_link_delay import ring

CAMPUS = Path("deploy/topologies/campus.yaml")


@pytest.fixture(scope="module")
def campus() -> Topology:
    return parse_topology(CAMPUS.read_text(), str(CAMPUS))


def choices(campus: Topology, *silent: SegmentList) -> PolicyPaths:
    """Return choices where lists of br1 do not answer."""
    lists = [SilentList("br1", segments) for segments in silent]
    return PolicyPaths(campus, PathComputation(campus), lists)


def around(*avoided: str, invalid: Invalid = Invalid.SHORTEST) -> Policy:
    """Return a policy with a candidate for each router that is to be avoided, in order."""
    candidates = tuple(
        CandidatePath(
            (WeightedPath(DynamicPath(constraints=Constraints(avoid_routers=frozenset({name})))),),
            200 - number,
        )
        for number, name in enumerate(avoided)
    )
    return Policy("around", candidates, invalid=invalid)


def routers(choice: Choice) -> tuple[str, ...]:
    return choice.paths[0].routers


# --- what is used instead -------------------------------------------------------------------


def test_plain_steering_takes_what_has_least_in_common(campus: Topology) -> None:
    before = choices(campus).shortest("br1", "ar2")
    assert routers(before) == ("br1", "tr1", "ar2")
    assert before.backup is not None
    after = choices(campus, before.lists[0].segments).shortest("br1", "ar2")
    assert after.lists[0].segments == before.backup.segments
    assert not after.silent
    looked, instead = after.candidates
    assert (looked.active, looked.reason) == (False, SILENT)
    assert instead.active


def test_another_head_end_does_not_mind(campus: Topology) -> None:
    before = choices(campus).shortest("ar3", "ar2")
    after = choices(campus, before.lists[0].segments).shortest("ar3", "ar2")
    assert after.lists == before.lists


def test_when_the_backup_is_silent_too_the_next_path_is_taken_and_at_last_the_first(
    campus: Topology,
) -> None:
    silent: list[SegmentList] = []
    first = choices(campus).shortest("br1", "ar2")
    seen = [first]
    for _ in range(20):
        silent.append(seen[-1].lists[0].segments)
        choice = choices(campus, *silent).shortest("br1", "ar2")
        if choice.silent:
            break
        assert choice.lists[0].segments not in silent
        seen.append(choice)
    assert len(seen) > 3
    assert choice.lists == first.lists, "a broken promise is better than none"
    assert choice.candidates[0].reason == SILENT


def test_a_silent_candidate_gives_way_to_the_next_and_says_why(campus: Topology) -> None:
    policy = around("tr1", "tr3")
    before = choices(campus).choose(policy, {}, "br1", "ar3")
    assert "tr1" not in routers(before)
    looked = choices(campus, before.lists[0].segments).choose(policy, {}, "br1", "ar3")
    assert "tr3" not in routers(looked)
    assert [(c.active, c.reason) for c in looked.candidates] == [(False, SILENT), (True, None)]
    assert looked.candidates[0].lists[0].solution is not None, "it is still shown"


@pytest.mark.parametrize("invalid", Invalid)
def test_when_no_candidate_answers_the_shortest_does_or_nothing_changes(
    campus: Topology, invalid: Invalid
) -> None:
    policy = around("tr1", invalid=invalid)
    before = choices(campus).choose(policy, {}, "br1", "ar3")
    after = choices(campus, before.lists[0].segments).choose(policy, {}, "br1", "ar3")
    if invalid is Invalid.SHORTEST:
        assert after.fell_back
        assert "tr1" in routers(after)
    else:  # the flow would rather be dropped than go another way, and what is silent may work
        assert after.lists == before.lists
        assert after.silent


def test_a_backup_that_answers_is_preferred(campus: Topology) -> None:
    before = choices(campus).shortest("br1", "ar2")
    assert before.backup is not None
    after = choices(campus, before.backup.segments).shortest("br1", "ar2")
    assert after.lists == before.lists
    assert after.backup == before.backup, "better than none"


# --- the way home ---------------------------------------------------------------------------


def test_probes_come_home_the_way_they_went(campus: Topology) -> None:
    """All lists between all head-ends: back over the same routers where SIDs can say so."""
    computation = PathComputation(campus)
    returns = ReturnPaths(computation.paths, computation.sids)
    simulator = Simulator(computation.paths, computation.sids)
    chosen = PolicyPaths(campus, computation)
    ends = [node.name for node in campus.head_ends()]
    same = every = 0
    for head_end in ends:
        for endpoint in ends:
            if head_end == endpoint:
                continue
            choice = chosen.shortest(head_end, endpoint)
            for path in (choice.paths[0], choice.backup_path):
                assert path is not None
                back = returns.back(path)
                way: tuple[str, ...] = (endpoint,)
                if back:
                    (walked,) = simulator.paths(endpoint, back)
                    way = walked.routers
                rest = computation.paths.path(way[-1], head_end)
                every += 1
                same += (*way, *rest[1:]) == path.routers[::-1]
    print(f"{same} of {every} come home the way they went")
    assert same / every > 0.7


def test_a_way_home_ends_before_home(campus: Topology) -> None:
    """The last router before it takes the header off: what is left is plainly for home."""
    computation = PathComputation(campus)
    returns = ReturnPaths(computation.paths, computation.sids)
    back = returns.back(RouterPath(("br1", "tr3", "ar1"), ("tr3", "ar1")))
    assert back == (computation.sids["tr3"].end_dt6,)
    assert returns.back(RouterPath(("br1", "tr1", "ar2"), ("tr1", "ar2"))) == ()


# --- in the controller ----------------------------------------------------------------------


@asynccontextmanager
async def living() -> AsyncIterator[SimulatedDomain]:
    """Run the ring with a node away from home, and hold all against planning from scratch."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuickLoop)
    rollout = RolloutSettings(
        prepare_timeout_s=0.3, switch_timeout_s=0.2, heartbeats_missed=1_000_000
    )
    domain = SimulatedDomain(clock=LoopClock(loop), topology=ring(), rollout=rollout)
    await domain.start()
    for event, router in (("1", "ar2"), ("2", "ar1")):
        submitted = await domain.controller.submit(
            AttachEvent(event, "mn1", router, "02:00:00:00:00:01")
        )
        await submitted.applied
    await asyncio.sleep(3)  # late packets are over
    yield domain
    assert_planned_from_scratch(domain)
    await domain.stop()


def assert_planned_from_scratch(domain: SimulatedDomain) -> None:
    domain.assert_consistent()
    controller = domain.controller
    planner = Planner(
        controller.topology,
        controller.parameters,
        FlowBook.of(controller.state),
        controller.state.links_down,
        controller.state.csid.values(),
        controller.state.delays,
        controller.state.lists_silent,
    )
    for router in domain.agents:
        fresh = planner.plan(router, controller.state).entries
        assert fresh == controller.plan(router).entries, router


def steering(domain: SimulatedDomain) -> SteeringEntry:
    (entry,) = (
        entry for entry in domain.agents["br1"].entries.values() if isinstance(entry, SteeringEntry)
    )
    return entry


def watched(domain: SimulatedDomain) -> list[SegmentList]:
    entries = domain.agents["br1"].entries.values()
    return [entry.segments for entry in entries if isinstance(entry, WatchedList)]


async def report(
    domain: SimulatedDomain,
    silent: tuple[SegmentList, ...] = (),
    answering: tuple[SegmentList, ...] = (),
) -> None:
    connection = domain.agents["br1"].connection
    assert connection is not None
    await connection.receive(ListReport(silent, answering))
    await asyncio.sleep(0.01)


@quickly
async def test_a_silent_list_is_left_watched_and_used_again_when_it_answered_for_a_while() -> None:
    async with living() as domain:
        first = steering(domain)
        assert first.interface == "core0"
        await report(domain, silent=(first.segments,))
        assert steering(domain).interface == "spare"
        assert watched(domain) == [first.segments]
        assert_planned_from_scratch(domain)
        assert domain.controller.planner.path("br1", "ar1") == ("br1", "ar1")
        await report(domain, answering=(first.segments,))
        await asyncio.sleep(0.9)
        assert steering(domain).interface == "spare"
        await asyncio.sleep(0.2)
        assert steering(domain) == first
        assert watched(domain) == []


@quickly
async def test_a_list_that_flaps_is_held_down_the_longer() -> None:
    async with living() as domain:
        first = steering(domain)
        for number in range(4):
            await report(domain, silent=(first.segments,))
            assert steering(domain).interface == "spare"
            await report(domain, answering=(first.segments,))
            await asyncio.sleep(0.9 * 2**number)
            assert steering(domain).interface == "spare", number
            await asyncio.sleep(0.2 * 2**number)
            assert steering(domain).interface == "core0", number


@quickly
async def test_it_must_answer_without_a_break() -> None:
    async with living() as domain:
        first = steering(domain)
        await report(domain, silent=(first.segments,))
        await asyncio.sleep(0.1)
        revision = domain.controller.state.revision
        for _ in range(10):
            await report(domain, answering=(first.segments,))
            await asyncio.sleep(0.5)
            await report(domain, silent=(first.segments,))
            await asyncio.sleep(0.5)
        assert domain.controller.state.revision == revision
        assert steering(domain).interface == "spare"


@quickly
async def test_a_restarted_controller_knows_and_forgets_what_nobody_would_use() -> None:
    async with living() as domain:
        first = steering(domain)
        stray = (*first.segments, first.segments[0])
        await report(domain, silent=(first.segments, stray))
        await domain.controller.stop()
        second = SimulatedDomain(store=domain.store, clock=domain.clock, topology=ring())
        await second.start()
        assert steering(second).interface == "spare"
        assert watched(second) == sorted([first.segments, stray])
        await asyncio.sleep(FORGOTTEN_MS / 1e3 + 1)
        assert watched(second) == [first.segments], "wanted, so kept; the other one is not"
        assert steering(second).interface == "spare"
        second.assert_consistent()
        await second.stop()


@quickly
async def test_what_is_said_of_lists_that_are_fine_changes_nothing() -> None:
    async with living() as domain:
        revision = domain.controller.state.revision
        await report(domain, answering=(steering(domain).segments,))
        await report(domain)
        await asyncio.sleep(5)
        assert domain.controller.state.revision == revision


@quickly
async def test_the_feed_tells_of_it() -> None:
    async with living() as domain:
        segments = steering(domain).segments
        await report(domain, silent=(segments,))
        await report(domain, answering=(segments,))
        await asyncio.sleep(2)
        told = []
        async for event in domain.controller.subscribe(0):
            told.append(event)
            if event.kind == "lists-usable":
                break
        kinds = [event.kind for event in told if event.kind.startswith(("lists", "links"))]
        assert kinds == ["lists-silent", "lists-usable"]
        assert told[-1].data["router"] == "br1"
        assert told[-1].data["lists"] == [[str(sid) for sid in segments]]


def test_plans_are_the_same_whatever_came_before(campus: Topology) -> None:
    silent = [SilentList("br1", choices(campus).shortest("br1", "ar2").lists[0].segments)]
    planner = Planner(campus, MobilityParameters())
    planner.reroute(campus, (), (), silent=silent)
    fresh = Planner(campus, MobilityParameters(), silent=silent)
    state = replace(State(), lists_silent=set(silent))
    for node in campus.routers():
        assert planner.plan(node.name, state) == fresh.plan(node.name, state)
