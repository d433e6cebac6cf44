"""Links that fail and come back: reported by routers, planned around, held down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from srv6dmm.config import RolloutSettings
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.plan import LocalSid, SteeringEntry, UnderlayRoute
from srv6dmm.model.topology import Link, LinkEnd, Topology
from srv6dmm.model.wire import LinkReport
from tests.domains import small_domain
from tests.simulated import LoopClock, QuickLoop, SimulatedDomain, quickly


def ring() -> Topology:
    """Return the small domain with a second, longer way between its border and ar1."""
    small = small_domain()
    spare = Link(LinkEnd("ar1", "spare"), LinkEnd("br1", "spare"), metric=50, mtu=1600)
    domain = replace(small.domain, max_segments=3)
    return replace(small, domain=domain, links=(*small.links, spare))


def routes(domain: SimulatedDomain, router: str) -> dict[str, str]:
    """Return prefix -> interface of a router's plain routes."""
    return {
        str(entry.prefix): entry.next_hops[0][0]
        for entry in domain.agents[router].entries.values()
        if isinstance(entry, UnderlayRoute)
    }


async def report(domain: SimulatedDomain, router: str, *down: str) -> None:
    connection = domain.agents[router].connection
    assert connection is not None
    await connection.receive(LinkReport(down))


@asynccontextmanager
async def living() -> AsyncIterator[SimulatedDomain]:
    """Run the ring, and hold every router against its plan in the end."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuickLoop)
    rollout = RolloutSettings(
        prepare_timeout_s=0.3, switch_timeout_s=0.2, heartbeats_missed=1_000_000
    )
    domain = SimulatedDomain(clock=LoopClock(loop), topology=ring(), rollout=rollout)
    await domain.start()
    yield domain
    domain.assert_consistent()
    await domain.stop()


async def _attach(domain: SimulatedDomain, event_id: str, router: str) -> None:
    submitted = await domain.controller.submit(
        AttachEvent(event_id, "mn1", router, "02:00:00:00:00:01")
    )
    await submitted.applied


@quickly
async def test_a_failed_link_is_planned_around_and_used_again_when_it_was_up_for_a_while() -> None:
    async with living() as domain:
        for router in domain.agents:
            await report(domain, router)
        locator = "fc00:0:3::/48"  # of ar1
        assert routes(domain, "br1")[locator] == "core0"
        await report(domain, "ar1", "core0")
        await asyncio.sleep(0.01)
        assert routes(domain, "br1")[locator] == "spare"
        assert routes(domain, "ar1")["fc00:0:4::/48"] == "spare"
        domain.assert_consistent()
        await report(domain, "ar1")
        await asyncio.sleep(0.99)
        assert routes(domain, "br1")[locator] == "spare"
        await asyncio.sleep(0.03)
        assert routes(domain, "br1")[locator] == "core0"


@quickly
async def test_a_link_that_flaps_is_moved_to_once_and_left_alone() -> None:
    async with living() as domain:
        revision = domain.controller.state.revision
        for _ in range(20):
            await report(domain, "ar1", "core0")
            await asyncio.sleep(0.2)
            await report(domain, "ar1")
            await asyncio.sleep(0.2)
        # Two changes for the failure (the links, then nothing more), none for each flap.
        assert domain.controller.state.links_down == {LinkEnd("ar1", "core0")}
        assert domain.controller.state.revision - revision <= 2


@quickly
async def test_both_ends_have_to_say_that_a_link_works() -> None:
    async with living() as domain:
        await report(domain, "ar1", "core0")
        await report(domain, "tr1", "port0")
        await report(domain, "ar1")
        await asyncio.sleep(5)
        assert domain.controller.planner.down == {LinkEnd("tr1", "port0")}
        assert routes(domain, "br1")["fc00:0:3::/48"] == "spare"


@quickly
async def test_steering_moves_with_the_links_and_no_sid_does() -> None:
    async with living() as domain:
        await _attach(domain, "1", "ar2")
        await _attach(domain, "2", "ar1")
        sids = {r: _sids(domain, r) for r in domain.agents}
        steering = _steering(domain, "br1")
        assert steering.interface == "core0"
        assert steering.backup is not None
        assert steering.backup.interface == "spare"
        await report(domain, "br1", "core0")
        await asyncio.sleep(0.01)
        assert _steering(domain, "br1").interface == "spare"
        assert _steering(domain, "br1").backup is None
        assert {r: _sids(domain, r) for r in domain.agents} == sids


@quickly
async def test_a_cut_off_router_loses_its_routes_and_gets_them_back() -> None:
    async with living() as domain:
        await _attach(domain, "1", "ar2")
        await report(domain, "ar2", "core0")
        await asyncio.sleep(0.01)
        assert "fc00:0:4::/48" not in routes(domain, "br1")
        domain.assert_consistent()
        await report(domain, "ar2")
        await asyncio.sleep(1.5)
        assert routes(domain, "br1")["fc00:0:4::/48"] == "core0"


@quickly
async def test_a_restarted_controller_plans_on_the_links_that_worked() -> None:
    async with living() as domain:
        await report(domain, "ar1", "core0")
        await asyncio.sleep(0.01)
        await domain.controller.stop()
        second = SimulatedDomain(store=domain.store, clock=domain.clock, topology=ring())
        await second.start()
        assert routes(second, "br1")["fc00:0:3::/48"] == "spare"
        second.assert_consistent()
        await second.stop()


def _steering(domain: SimulatedDomain, router: str) -> SteeringEntry:
    (entry,) = (
        entry
        for entry in domain.agents[router].entries.values()
        if isinstance(entry, SteeringEntry)
    )
    return entry


def _sids(domain: SimulatedDomain, router: str) -> set[str]:
    entries = domain.agents[router].entries
    return {key for key, entry in entries.items() if isinstance(entry, LocalSid)}
