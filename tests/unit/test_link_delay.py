"""Measured delays of links: the least of late, another one only when it stays, and who wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv6Address

from srv6dmm.config import RolloutSettings
from srv6dmm.core.computation import PathComputation
from srv6dmm.core.link_delay import LeastOfLate, Settling, differs, settle
from srv6dmm.core.links import delay_in_use, in_force, measured_at
from srv6dmm.core.planner import Planner
from srv6dmm.dataplane.link_probe import LinkProbe, decode
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.flows import FlowMatch, FlowRule
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import FlowSteering, RouterSettings
from srv6dmm.model.policy import (
    CandidatePath,
    Constraints,
    DynamicPath,
    Objective,
    Policy,
    WeightedPath,
)
from srv6dmm.model.state import Change, State
from srv6dmm.model.topology import Link, LinkEnd, Topology
from srv6dmm.model.wire import DelayReport
from tests.domains import small_domain
from tests.simulated import LoopClock, QuickLoop, SimulatedDomain, quickly

MAIN, SPARE = LinkEnd("ar1", "core0"), LinkEnd("ar1", "spare")


def ring(spare_us: int = 0) -> Topology:
    """Return the small domain with a second way between its border and ar1, dearer by metric."""
    small = small_domain()
    link = Link(SPARE, LinkEnd("br1", "spare"), metric=50, mtu=1600, delay_us=spare_us)
    domain = replace(small.domain, max_segments=3)
    return replace(small, domain=domain, links=(*small.links, link))


# --- statistics -----------------------------------------------------------------------------


def test_the_least_of_a_window_counts_and_is_forgotten_with_it() -> None:
    least = LeastOfLate(10.0)
    assert least.value(0.0) is None
    for now, value in enumerate([300, 250, 900, 400, 260]):
        least.add(float(now), value)
    assert least.value(4.0) == 250
    assert least.value(10.9) == 250
    assert least.value(11.0) == 260
    assert least.value(14.0) is None


def test_noise_is_no_other_delay() -> None:
    assert not differs(10_000, 11_900, 0.2, 100), "a share too small"
    assert not differs(50, 149, 0.2, 100), "microseconds too few"
    assert differs(10_000, 12_001, 0.2, 100)
    assert differs(10_000, 7_999, 0.2, 100)


def judged(
    held_us: int, seen_us: int, settling: Settling | None, now_ms: int
) -> tuple[int, Settling | None]:
    return settle(held_us, seen_us, settling, now_ms, share=0.2, least_us=100, hold_ms=10_000)


def test_another_delay_has_to_stay() -> None:
    held, waits = judged(0, 5000, None, 0)
    assert (held, waits) == (0, Settling(0, 5000))
    held, waits = judged(0, 5400, waits, 9_999)
    assert (held, waits) == (0, Settling(0, 5000))
    assert judged(0, 5300, waits, 10_000) == (5300, None)


def test_what_returns_or_moves_on_meanwhile_begins_anew() -> None:
    waits = Settling(0, 5000)
    assert judged(0, 20, waits, 9_000) == (0, None)
    held, anew = judged(0, 9000, waits, 10_000)
    assert (held, anew) == (0, Settling(10_000, 9000))


def test_a_delay_too_small_to_matter_is_none() -> None:
    assert judged(5000, 90, Settling(0, 0), 10_000) == (0, None)


# --- the message ----------------------------------------------------------------------------


def test_probes_read_as_they_were_written_and_nothing_else_does() -> None:
    for probe in (LinkProbe(7, b"12345678"), LinkProbe((1 << 32) - 1, b"\0" * 8, True, 1 << 40)):
        assert decode(probe.encode()) == probe
    whole = LinkProbe(1, b"12345678").encode()
    for bad in (b"", whole[:-1], whole + b"\0", b"X" + whole[1:], whole[:4] + b"\3" + whole[5:]):
        assert decode(bad) is None


# --- the rule -------------------------------------------------------------------------------


def test_the_declared_delay_wins_and_a_measured_one_fills_in() -> None:
    topology = ring(spare_us=700)
    delays = {MAIN: 2000, SPARE: 9000}
    for link in topology.links:
        if measured_at(link) == SPARE:
            assert delay_in_use(link, delays) == 700
        elif measured_at(link) == MAIN:
            assert delay_in_use(link, delays) == 2000
        else:
            assert delay_in_use(link, delays) == 0
    assert in_force(topology, ()) is topology
    seen = {measured_at(link): link.delay_us for link in in_force(topology, (), delays).links}
    assert (seen[MAIN], seen[SPARE]) == (2000, 700)


def test_paths_and_their_limits_see_measured_delays() -> None:
    quick = DynamicPath(Objective.DELAY)
    limited = DynamicPath(constraints=Constraints(maximum_delay_us=1000))
    before = PathComputation(ring())
    assert before.solve("br1", "ar1", limited).path.routers == ("br1", "tr1", "ar1")
    assert before.solve("br1", "ar1", quick).path.routers == ("br1", "ar1")  # fewest links
    slow_spare = PathComputation(in_force(ring(), (), {SPARE: 3000}))
    assert slow_spare.solve("br1", "ar1", quick).path.routers == ("br1", "tr1", "ar1")
    slow_main = PathComputation(in_force(ring(), (), {MAIN: 3000}))
    solution = slow_main.solve("br1", "ar1", limited)
    assert solution.path.routers == ("br1", "ar1")
    assert solution.measures.delay_us == 0


def test_every_router_is_told_its_neighbours() -> None:
    planner = Planner(ring(), MobilityParameters())
    settings = planner.plan("ar1", State()).entries["settings"]
    assert isinstance(settings, RouterSettings)
    assert settings.neighbours == (
        ("core0", IPv6Address("fe80::1")),
        ("spare", IPv6Address("fe80::2")),
    )


# --- in the controller ----------------------------------------------------------------------

POLICY = Policy("quick", (CandidatePath((WeightedPath(DynamicPath(Objective.DELAY)),)),))
RULE = FlowRule("voice", "quick", "mn1", None, FlowMatch(protocol=17))


@asynccontextmanager
async def living(topology: Topology | None = None) -> AsyncIterator[SimulatedDomain]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuickLoop)
    rollout = RolloutSettings(
        prepare_timeout_s=0.3, switch_timeout_s=0.2, heartbeats_missed=1_000_000
    )
    domain = SimulatedDomain(clock=LoopClock(loop), topology=topology or ring(), rollout=rollout)
    await domain.start()
    yield domain
    domain.assert_consistent()
    controller = domain.controller
    planner = Planner(
        controller.topology,
        controller.parameters,
        controller.planner.book,
        controller.state.links_down,
        controller.state.csid.values(),
        controller.state.delays,
    )
    for router in domain.agents:
        fresh = planner.plan(router, controller.state).entries
        assert fresh == controller.plan(router).entries, router
    await domain.stop()


async def report(domain: SimulatedDomain, router: str, **delays: int) -> None:
    connection = domain.agents[router].connection
    assert connection is not None
    await connection.receive(DelayReport(delays))


def way_out(domain: SimulatedDomain) -> str:
    """Return the interface by which the flow leaves br1."""
    (entry,) = (
        entry for entry in domain.agents["br1"].entries.values() if isinstance(entry, FlowSteering)
    )
    return entry.lists[0].interface


async def attach_with_a_flow(domain: SimulatedDomain) -> None:
    submitted = await domain.controller.submit(AttachEvent("1", "mn1", "ar1", "02:00:00:00:00:01"))
    await submitted.applied
    await domain.controller.change_rules(lambda _: Change(policies=(POLICY,), flows=(RULE,)))
    await domain.settle()


@quickly
async def test_a_flow_moves_when_a_measured_delay_has_stayed_and_not_for_noise() -> None:
    async with living() as domain:
        await attach_with_a_flow(domain)
        assert way_out(domain) == "spare"
        revision = domain.controller.topology.revision
        await report(domain, "ar1", core0=20, spare=4000)
        await asyncio.sleep(9)
        assert way_out(domain) == "spare"
        await asyncio.sleep(4)
        assert way_out(domain) == "core0"
        assert domain.controller.state.delays == {SPARE: 4000}
        assert domain.controller.topology.revision == revision + 1
        assert domain.controller.measured_delays()[MAIN] == 20
        before = domain.controller.state.revision
        for noise in range(20):
            await report(domain, "ar1", core0=20 + noise, spare=4000 + 39 * noise)
            await asyncio.sleep(3)
        assert domain.controller.state.revision == before, "noise plans nothing"
        await report(domain, "ar1", core0=20, spare=30)
        await asyncio.sleep(14)
        assert way_out(domain) == "spare"
        assert domain.controller.state.delays == {}


@quickly
async def test_a_declared_delay_is_not_touched_by_a_measured_one() -> None:
    async with living(ring(spare_us=50)) as domain:
        await attach_with_a_flow(domain)
        await report(domain, "ar1", core0=20, spare=4000)
        await asyncio.sleep(14)
        assert domain.controller.state.delays == {SPARE: 4000}
        assert way_out(domain) == "core0"  # 50 us are declared, and 0 are less
        await report(domain, "br1", core0=1000)
        await report(domain, "ar1", core0=1000, spare=4000)
        await asyncio.sleep(14)
        assert way_out(domain) == "spare"


@quickly
async def test_the_lesser_of_both_ends_counts_while_they_are_connected() -> None:
    async with living() as domain:
        await report(domain, "ar1", spare=4000)
        await report(domain, "br1", spare=2500)
        assert domain.controller.measured_delays() == {SPARE: 2500}
        domain.agents["br1"].disconnect()
        assert domain.controller.measured_delays() == {SPARE: 4000}
        domain.agents["br1"].connect()
        await domain.settle()


@quickly
async def test_a_restarted_controller_plans_by_the_delays_it_kept() -> None:
    async with living() as domain:
        await attach_with_a_flow(domain)
        await report(domain, "ar1", spare=4000)
        await asyncio.sleep(14)
        revision = domain.controller.topology.revision
        await domain.controller.stop()
        second = SimulatedDomain(store=domain.store, clock=domain.clock, topology=ring())
        await second.start()
        assert way_out(second) == "core0"
        assert second.controller.topology.revision == revision
        assert second.controller.measured_delays() == {SPARE: 4000}
        second.assert_consistent()
        await second.stop()


@quickly
async def test_reports_that_say_nothing_change_nothing() -> None:
    async with living() as domain:
        before = domain.controller.state.revision
        for delays in ({"core0": 5}, {"nowhere": 9000}, {}):
            await report(domain, "ar1", **delays)
            await asyncio.sleep(20)
        assert domain.controller.state.revision == before
