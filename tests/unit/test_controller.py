"""The control service with agents that obey, refuse, fall silent or vanish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from srv6dmm.config import RolloutSettings
from srv6dmm.controller.tickets import Incomplete
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent, DetachEvent, Outcome
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import Advertisement, Delivery, SteeringEntry
from srv6dmm.model.state import RolloutPhase
from tests.simulated import FailingStore, SimulatedDomain

KEY = ("mn1", "0")


def attach(event_id: str, router: str, node: str = "mn1") -> AttachEvent:
    return AttachEvent(event_id, node, router, f"02:00:00:00:00:{int(node[2:]):02x}")


@pytest.fixture
async def domain() -> AsyncIterator[SimulatedDomain]:
    made = SimulatedDomain()
    await made.start()
    yield made
    await made.stop()


async def applied(domain: SimulatedDomain, event: AttachEvent) -> None:
    submitted = await domain.controller.submit(event)
    await asyncio.wait_for(submitted.applied, 2)


async def test_first_attach_delivers_and_then_advertises(domain: SimulatedDomain) -> None:
    submitted = await domain.controller.submit(attach("1", "ar1"))
    timings = await asyncio.wait_for(submitted.applied, 2)
    kinds = {type(entry) for entry in domain.agents["ar1"].entries.values()}
    assert {Delivery, Advertisement} <= kinds
    assert list(timings.stages) == ["prepare", "stable"]
    assert timings.applied_ms is not None
    domain.assert_consistent()


async def test_handover_goes_through_its_stages_in_order(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    submitted = await domain.controller.submit(attach("2", "ar2"))
    timings = await asyncio.wait_for(submitted.applied, 2)
    assert list(timings.stages) == ["prepare", "switch", "redirect"]
    prefix = submitted.answer.prefixes[0].prefix
    steering = domain.agents["br1"].entries[f"mobile {prefix}"]
    assert isinstance(steering, SteeringEntry)
    assert steering.segments == (domain.controller.planner.sids["ar2"].end_dt6,)
    domain.assert_consistent()


@pytest.mark.parametrize(
    "phase", [RolloutPhase.PREPARE, RolloutPhase.SWITCH, RolloutPhase.REDIRECT]
)
async def test_a_new_controller_takes_up_the_roll_out(phase: RolloutPhase) -> None:
    first = SimulatedDomain()
    await first.start()
    await applied(first, attach("1", "ar1"))
    silent = {"prepare": "ar2", "switch": "br1", "redirect": "ar1"}[phase.value]
    first.agents[silent].mute = True
    await first.controller.submit(attach("2", "ar2"))
    await first.settle()
    assert first.controller.state.sessions[KEY].rollout is phase
    await first.stop()

    second = SimulatedDomain(store=first.store, clock=first.clock)
    await second.start()
    first.clock.ms += 3000
    assert second.controller.state.sessions[KEY].rollout in (
        RolloutPhase.REDIRECT,
        RolloutPhase.STABLE,
    )
    second.assert_consistent()
    await second.stop()


async def test_an_agent_that_comes_back_gets_what_it_missed(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    domain.agents["br1"].disconnect()
    submitted = await domain.controller.submit(attach("2", "ar2"))
    await domain.settle()
    assert not submitted.applied.done()
    domain.agents["br1"].connect()
    await asyncio.wait_for(submitted.applied, 2)
    domain.assert_consistent()


async def test_a_refusing_kernel_aborts_and_the_old_path_stays(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    before = {name: dict(agent.entries) for name, agent in domain.agents.items()}
    prefix = domain.controller.state.sessions[KEY].bindings[0].prefix
    domain.agents["ar2"].refuse.add(f"mobile {prefix}")
    submitted = await domain.controller.submit(attach("2", "ar2"))
    with pytest.raises(Refusal) as aborted:
        await asyncio.wait_for(submitted.applied, 2)
    assert aborted.value.type == "handover-aborted"
    assert aborted.value.status == 409
    assert aborted.value.extra["router"] == "ar2"
    await domain.settle()
    session = domain.controller.state.sessions[KEY]
    assert (session.serving, session.epoch) == ("ar1", 3)
    assert {n: a.entries.keys() for n, a in domain.agents.items()} == {
        name: entries.keys() for name, entries in before.items()
    }
    domain.assert_consistent()


async def test_silence_in_prepare_aborts_after_its_time(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    domain.agents["ar2"].mute = True
    submitted = await domain.controller.submit(attach("2", "ar2"))
    with pytest.raises(Refusal, match="did not acknowledge within"):
        await asyncio.wait_for(submitted.applied, 2)
    assert domain.controller.state.sessions[KEY].serving in ("ar1", "ar2")
    await domain.settle()
    assert domain.controller.state.sessions[KEY].serving == "ar1"


async def test_silence_of_a_head_end_degrades_but_does_not_stop(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    domain.agents["br1"].mute = True
    submitted = await domain.controller.submit(attach("2", "ar2"))
    with pytest.raises(Incomplete, match="br1"):
        await asyncio.wait_for(submitted.applied, 2)
    assert domain.controller.measurements.degraded == 1
    assert domain.controller.state.sessions[KEY].rollout is RolloutPhase.REDIRECT
    assert domain.controller.pending_routers(KEY) == ["br1"]
    assert _told(domain, "applied") == [1]
    again = await domain.controller.submit(attach("2", "ar2"))
    with pytest.raises(Incomplete):
        await asyncio.wait_for(again.applied, 2)
    domain.agents["br1"].mute = False
    await domain.agents["br1"].answer()
    await domain.settle()
    assert _told(domain, "applied") == [1, 2]
    again = await domain.controller.submit(attach("2", "ar2"))
    assert (await asyncio.wait_for(again.applied, 2)).applied_ms is not None


async def test_a_newer_event_overtakes_a_roll_out(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    domain.agents["ar2"].mute = True
    overtaken = await domain.controller.submit(attach("2", "ar2"))
    newest = await domain.controller.submit(attach("3", "ar3"))
    with pytest.raises(Refusal) as refusal:
        await asyncio.wait_for(overtaken.applied, 2)
    assert refusal.value.type == "superseded"
    domain.agents["ar2"].mute = False
    await domain.agents["ar2"].answer()
    await asyncio.wait_for(newest.applied, 2)
    assert domain.controller.state.sessions[KEY].serving == "ar3"
    domain.assert_consistent()


async def test_a_duplicate_waits_for_the_same_roll_out(domain: SimulatedDomain) -> None:
    domain.agents["ar1"].mute = True
    first = await domain.controller.submit(attach("1", "ar1"))
    again = await domain.controller.submit(attach("1", "ar1"))
    assert again.replayed
    assert again.answer == first.answer
    assert not again.applied.done()
    domain.agents["ar1"].mute = False
    await domain.agents["ar1"].answer()
    assert await asyncio.wait_for(again.applied, 2) is first.timings


async def test_events_of_one_node_keep_their_order(domain: SimulatedDomain) -> None:
    events = [
        replace(attach(str(n), f"ar{n % 3 + 1}"), timestamp_ms=domain.clock.ms + n)
        for n in range(30)
    ]
    results = await asyncio.gather(*(domain.controller.submit(event) for event in events))
    assert [result.answer.epoch for result in results] == list(range(1, 31))
    await domain.settle()
    domain.assert_consistent()


async def test_many_nodes_in_parallel(domain: SimulatedDomain) -> None:
    def event(number: int, hop: int) -> AttachEvent:
        mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
        return AttachEvent(f"{hop}-{number}", f"mn{number}", f"ar{(number + hop) % 3 + 1}", mac)

    for hop in range(2):
        submitted = await asyncio.gather(
            *(domain.controller.submit(event(number, hop)) for number in range(200))
        )
        await asyncio.wait_for(asyncio.gather(*(s.applied for s in submitted)), 20)
    assert len(domain.controller.state.sessions) == 200
    domain.assert_consistent()


async def test_a_full_disk_refuses_and_forgets_what_it_decided() -> None:
    store = FailingStore()
    domain = SimulatedDomain(store=store)
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    store.full = True
    revision = domain.controller.state.revision
    results = await asyncio.gather(
        *(domain.controller.submit(attach(f"x{n}", "ar2", f"mn{n}")) for n in range(1, 6)),
        return_exceptions=True,
    )
    assert {r.type for r in results if isinstance(r, Refusal)} == {"store-unavailable"}
    assert len(results) == 5
    assert domain.controller.not_ready() != []
    assert domain.controller.state.revision == revision
    store.full = False
    await applied(domain, attach("2", "ar2"))
    assert domain.controller.not_ready() == []
    assert domain.controller.state.sessions[KEY].serving == "ar2"
    domain.assert_consistent()
    await domain.stop()


async def test_an_agent_loss_tears_nothing_down(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    before = domain.controller.state.sessions[KEY]
    for agent in domain.agents.values():
        agent.disconnect()
    domain.clock.ms += 60_000
    await domain.settle()
    assert domain.controller.state.sessions[KEY] == before
    assert not any(status.connected for status in domain.controller.routers())


async def test_detach_releases_after_its_wait_and_frees_after_quarantine() -> None:
    parameters = MobilityParameters(min_delay_before_delete_ms=100, valid_lifetime_s=1)
    domain = SimulatedDomain(parameters=parameters, rollout=RolloutSettings())
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    submitted = await domain.controller.submit(DetachEvent("2", "mn1", "ar1"))
    assert submitted.answer.outcome is Outcome.DETACHING
    domain.clock.ms += 101
    domain.controller._timers.fire()
    await domain.settle()
    assert not domain.controller.state.sessions
    assert domain.controller.state.leases
    domain.clock.ms += 1001
    domain.controller._timers.fire()
    await domain.settle()
    assert not domain.controller.state.leases
    domain.assert_consistent()
    await domain.stop()


async def test_the_feed_resumes_where_a_reader_stopped(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    first = [event async for event in _take(domain, 0, 3)]
    rest = [event async for event in _take(domain, first[1].id, 1)]
    assert rest[0] == first[2]
    assert [event.id for event in first] == [1, 2, 3]


def _told(domain: SimulatedDomain, kind: str) -> list[object]:
    """Return the epochs of the feed's events of a kind."""
    return [event.data["epoch"] for event in domain.controller._feed._ring if event.kind == kind]


async def _take(domain: SimulatedDomain, since: int, count: int) -> AsyncIterator[object]:
    reader = domain.controller.subscribe(since)
    for _ in range(count):
        yield await asyncio.wait_for(anext(reader), 2)
