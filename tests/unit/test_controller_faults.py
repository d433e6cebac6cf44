"""The control service when stores fail, callers vanish, routers lag and clocks are stepped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from srv6dmm.config import RolloutSettings
from srv6dmm.controller.feed import Feed
from srv6dmm.controller.tickets import Incomplete
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent, DetachEvent
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import RolloutPhase
from srv6dmm.store.interface import Store
from tests.simulated import LoopClock, QuickLoop, SimulatedDomain, SlowStore, quickly

KEY = ("mn1", "0")


def attach(event_id: str, router: str, node: str = "mn1") -> AttachEvent:
    return AttachEvent(event_id, node, router, f"02:00:00:00:00:{int(node[2:]):02x}")


@pytest.fixture
async def domain() -> AsyncIterator[SimulatedDomain]:
    made = SimulatedDomain(store=SlowStore())
    await made.start()
    yield made
    await made.stop()


def store_of(domain: SimulatedDomain) -> SlowStore:
    assert isinstance(domain.store, SlowStore)
    return domain.store


async def applied(domain: SimulatedDomain, event: AttachEvent | DetachEvent) -> None:
    submitted = await domain.controller.submit(event)
    await asyncio.wait_for(submitted.applied, 2)


def quick_domain(
    parameters: MobilityParameters | None = None,
    store: Store | None = None,
    prepare_timeout_s: float = 0.3,
) -> SimulatedDomain:
    """Return a domain in a QuickLoop, whose agents need no heartbeats."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuickLoop)
    rollout = RolloutSettings(
        prepare_timeout_s=prepare_timeout_s, switch_timeout_s=0.2, heartbeats_missed=1_000_000
    )
    return SimulatedDomain(
        store or SlowStore(), LoopClock(loop), parameters=parameters, rollout=rollout
    )


async def test_a_record_that_cannot_be_kept_costs_no_earlier_event(
    domain: SimulatedDomain,
) -> None:
    """It is refused before commits that were submitted earlier are written."""
    store = store_of(domain)
    store.held = True
    store.unkept.add("mn9")
    earlier = asyncio.ensure_future(domain.controller.submit(attach("1", "ar1")))
    await domain.settle()
    with pytest.raises(Refusal, match="store-unavailable"):
        await domain.controller.submit(attach("2", "ar1", "mn9"))
    later = asyncio.ensure_future(domain.controller.submit(attach("3", "ar1", "mn2")))
    await domain.settle()
    store.held = False
    store.write()
    for submitted in (await earlier, await later):
        await asyncio.wait_for(submitted.applied, 2)
    assert set(domain.controller.state.sessions) == {KEY, ("mn2", "0")}
    domain.assert_consistent()


async def test_an_event_whose_caller_vanishes_is_rolled_out(domain: SimulatedDomain) -> None:
    store = store_of(domain)
    store.held = True
    caller = asyncio.ensure_future(domain.controller.submit(attach("1", "ar1")))
    await domain.settle()
    caller.cancel()
    await domain.settle()
    store.held = False
    store.write()
    await domain.settle()
    assert domain.controller.state.sessions[KEY].rollout is RolloutPhase.STABLE
    domain.assert_consistent()


async def test_a_lost_event_whose_caller_vanished_costs_no_later_one(
    domain: SimulatedDomain,
) -> None:
    store = store_of(domain)
    store.held = True
    caller = asyncio.ensure_future(domain.controller.submit(attach("1", "ar1")))
    await domain.settle()
    caller.cancel()
    await domain.settle()
    store.full = True
    store.write()
    await domain.settle()
    store.full = store.held = False
    await applied(domain, attach("2", "ar1", "mn2"))


@quickly
async def test_a_stage_that_is_tried_again_does_not_displace_a_newer_event() -> None:
    domain = quick_domain(prepare_timeout_s=5)
    store = store_of(domain)
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    submitted = await domain.controller.submit(attach("2", "ar2"))
    store.full = True  # the step to SWITCH is refused
    await domain.settle()
    store.full = False
    domain.agents["ar3"].mute = True
    newer = await domain.controller.submit(attach("3", "ar3"))
    with pytest.raises(Refusal, match="superseded"):
        await asyncio.wait_for(submitted.applied, 1)
    await asyncio.sleep(2)  # by now the refused step would be tried again
    domain.agents["ar3"].mute = False
    await domain.agents["ar3"].answer()
    await asyncio.wait_for(newer.applied, 1)
    domain.assert_consistent()
    await domain.stop()


@quickly
async def test_an_abort_that_is_refused_is_tried_again() -> None:
    domain = quick_domain()
    store = store_of(domain)
    await domain.start()
    domain.agents["ar1"].mute = True
    submitted = await domain.controller.submit(attach("1", "ar1"))
    store.full = True
    await asyncio.sleep(10)
    assert not submitted.applied.done()  # nobody is told what could still be lost
    store.full = False
    with pytest.raises(Refusal, match="handover-aborted"):
        await asyncio.wait_for(submitted.applied, 10)
    assert not domain.controller.state.sessions
    assert not domain.controller.state.leases
    await domain.stop()


@quickly
async def test_nothing_is_cleaned_before_a_degraded_head_end_has_switched() -> None:
    domain = quick_domain()
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    domain.agents["br1"].mute = True
    submitted = await domain.controller.submit(attach("2", "ar2"))
    with pytest.raises(Incomplete, match="br1"):
        await asyncio.wait_for(submitted.applied, 1)
    await asyncio.sleep(30)
    assert domain.controller.state.sessions[KEY].rollout is RolloutPhase.REDIRECT
    assert domain.controller.pending_routers(KEY) == ["br1"]
    assert domain.controller.measurements.degraded == 1
    domain.agents["br1"].mute = False
    await domain.agents["br1"].answer()
    await asyncio.sleep(1)
    assert domain.controller.state.sessions[KEY].rollout is RolloutPhase.STABLE
    domain.assert_consistent()
    await domain.stop()


@quickly
async def test_a_degraded_head_end_is_remembered_by_the_next_controller() -> None:
    first = quick_domain()
    await first.start()
    await applied(first, attach("1", "ar1"))
    first.agents["br1"].mute = True
    with pytest.raises(Incomplete):
        await applied(first, attach("2", "ar2"))
    await first.stop()
    second = quick_domain(store=first.store)
    second.agents["br1"].mute = True
    await second.start()
    await asyncio.sleep(30)
    assert second.controller.state.sessions[KEY].rollout is RolloutPhase.REDIRECT
    second.agents["br1"].mute = False
    await second.agents["br1"].answer()
    await asyncio.sleep(1)
    assert second.controller.state.sessions[KEY].rollout is RolloutPhase.STABLE
    await second.stop()


@quickly
async def test_what_a_router_refused_before_says_nothing_of_what_it_is_asked_now() -> None:
    domain = quick_domain()
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    key = f"mobile {domain.controller.state.sessions[KEY].bindings[0].prefix}"
    head_end = domain.agents["br1"]
    head_end.refuse.add(key)
    with pytest.raises(Incomplete):
        await applied(domain, attach("2", "ar2"))
    [(router, failure)] = domain.controller.failures(KEY)
    assert (router, failure.key, failure.errno) == ("br1", key, 95)
    assert domain.controller.measurements.degraded == 1
    await asyncio.sleep(5)
    head_end.refuse.clear()  # it succeeds next time
    head_end.mute = True
    submitted = await domain.controller.submit(attach("3", "ar3"))
    await domain.settle()
    assert domain.controller.state.sessions[KEY].rollout is RolloutPhase.SWITCH
    head_end.mute = False
    await head_end.answer()
    await asyncio.wait_for(submitted.applied, 1)
    assert domain.controller.measurements.degraded == 1
    await domain.stop()


async def test_a_router_that_is_away_costs_no_memory(domain: SimulatedDomain) -> None:
    domain.agents["br1"].disconnect()
    for hop in range(6):
        await domain.controller.submit(attach(str(hop), f"ar{hop % 3 + 1}"))
    channel = domain.controller._hub._channels["br1"]
    assert not channel.waiting_put
    assert not channel.waiting_gone
    domain.agents["br1"].connect()
    await domain.settle()
    domain.assert_consistent()


async def test_a_duplicate_after_a_restart_waits_for_the_roll_out() -> None:
    first = SimulatedDomain()
    await first.start()
    first.agents["ar1"].mute = True
    await first.controller.submit(attach("1", "ar1"))
    await first.stop()
    second = SimulatedDomain(store=first.store, clock=first.clock)
    second.agents["ar1"].mute = True
    await second.start()
    again = await second.controller.submit(attach("1", "ar1"))
    assert again.replayed
    assert not again.applied.done()
    second.agents["ar1"].mute = False
    await second.agents["ar1"].answer()
    await asyncio.wait_for(again.applied, 2)
    await second.stop()


@quickly
async def test_a_refresh_while_an_abort_waits_for_the_store_is_not_applied() -> None:
    domain = quick_domain()
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    domain.agents["ar2"].mute = True
    submitted = await domain.controller.submit(attach("2", "ar2"))
    aborted: list[str] = []
    domain.controller._rollouts.on_abort = lambda session, refusal: aborted.append(refusal.type)
    await asyncio.sleep(10)  # it waits for its turn
    assert aborted == ["handover-aborted"]
    assert not submitted.applied.done()
    refreshed = await domain.controller.submit(attach("3", "ar2"))
    await domain.settle()
    assert not refreshed.applied.done()
    await domain.stop()


@quickly
async def test_refreshes_do_not_put_off_the_end_of_patience() -> None:
    domain = quick_domain()
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    domain.agents["ar2"].mute = True
    submitted = await domain.controller.submit(attach("2", "ar2"))
    for number in range(8):
        await asyncio.sleep(0.1)
        await domain.controller.submit(attach(f"r{number}", "ar2"))
        if submitted.applied.done():
            break
    with pytest.raises(Refusal, match="handover-aborted"):
        await asyncio.wait_for(submitted.applied, 0.1)
    await domain.stop()


@quickly
async def test_refreshes_leave_no_timers_behind() -> None:
    domain = quick_domain()
    await domain.start()
    for number in range(50):
        await domain.controller.submit(attach(str(number), "ar1"))
        await asyncio.sleep(1)
    assert len(domain.controller._timers._heap) == 1
    await asyncio.sleep(domain.controller.parameters.default_lifetime_s - 10)
    assert domain.controller.state.sessions
    await asyncio.sleep(10)
    assert not domain.controller.state.sessions
    await domain.stop()


@quickly
async def test_a_clock_stepped_back_while_a_timer_waits_for_its_turn_loses_no_timer() -> None:
    domain = quick_domain(MobilityParameters(default_lifetime_s=60))
    clock = domain.clock
    assert isinstance(clock, LoopClock)
    store = store_of(domain)
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    store.held = True
    refused = asyncio.ensure_future(domain.controller.submit(attach("2", "ar1")))
    await asyncio.sleep(61)  # the timer waits for the refresh
    clock.stepped_ms = -30_000
    store.full = True
    store.write()
    with pytest.raises(Refusal):
        await refused
    store.full = store.held = False
    await asyncio.sleep(60)
    assert not domain.controller.state.sessions
    await domain.stop()


@quickly
async def test_an_acknowledgement_of_a_former_life_is_not_one_of_the_next() -> None:
    """Epochs begin anew when a session does: what was heard of the old one says nothing."""
    domain = quick_domain()
    await domain.start()
    domain.agents["ar1"].mute = True
    await domain.controller.submit(attach("1", "ar1"))
    former = domain.controller.state.sessions[KEY]
    await asyncio.sleep(1)
    assert not domain.controller.state.sessions  # aborted
    await domain.controller.submit(attach("2", "ar1"))
    await domain.controller._advance(former)
    assert domain.controller.state.sessions[KEY].rollout is RolloutPhase.PREPARE
    await domain.stop()


async def test_a_reader_of_an_earlier_life_hears_all_of_this_one() -> None:
    """A wall clock that was stepped back between two lives makes its id one of the future."""
    feed = Feed()
    feed.add("first", 0)
    reader = feed.read(1_000_000)
    assert (await asyncio.wait_for(anext(reader), 1)).kind == "first"
