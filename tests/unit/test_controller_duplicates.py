"""Repeated events: the same answer as the first time, also when its roll-out ended early."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from srv6dmm.controller.service import Submitted
from srv6dmm.controller.tickets import Incomplete
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent, DetachEvent, Event
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import RolloutPhase, State
from srv6dmm.store.sqlite import SqliteStore
from tests.simulated import SimulatedDomain, quickly
from tests.unit.test_controller_faults import quick_domain, store_of

KEY = ("mn1", "0")


def attach(event_id: str, router: str, lifetime_s: int | None = None) -> AttachEvent:
    return AttachEvent(event_id, "mn1", router, "02:00:00:00:00:01", lifetime_s=lifetime_s)


async def told(domain: SimulatedDomain, event: Event) -> str:
    """Return what the caller of an event is told in the end."""
    return await outcome(await domain.controller.submit(event))


async def outcome(submitted: Submitted) -> str:
    try:
        await asyncio.wait_for(submitted.applied, 30)
    except Refusal as refusal:
        return str(refusal)
    except Incomplete:
        return "incomplete"
    return "applied"


async def restarted(domain: SimulatedDomain) -> SimulatedDomain:
    await domain.stop()
    again = quick_domain(domain.controller.parameters, domain.store)
    await again.start()
    return again


@quickly
async def test_an_aborted_event_stays_aborted_also_after_a_restart() -> None:
    domain = quick_domain()
    await domain.start()
    assert await told(domain, attach("1", "ar1")) == "applied"
    domain.agents["ar2"].mute = True
    event = attach("2", "ar2")
    first = await domain.controller.submit(event)
    assert (why := await outcome(first)).startswith("handover-aborted: ar2 did not acknowledge")
    again = await domain.controller.submit(event)
    assert again.replayed
    assert again.answer == first.answer
    assert await outcome(again) == why
    domain.agents["ar2"].mute = False
    revision = domain.controller.state.revision
    assert await told(domain, event) == why
    assert domain.controller.state.revision == revision
    domain = await restarted(domain)
    assert await told(domain, event) == why
    assert domain.controller.state.sessions[KEY].serving == "ar1"
    await domain.stop()


@quickly
async def test_an_aborted_first_attach_stays_aborted() -> None:
    domain = quick_domain()
    await domain.start()
    domain.agents["ar1"].mute = True
    why = await told(domain, attach("1", "ar1"))
    assert why.startswith("handover-aborted")
    domain.agents["ar1"].mute = False
    assert await told(domain, attach("1", "ar1")) == why
    assert not domain.controller.state.sessions
    await domain.stop()


@quickly
async def test_an_overtaken_event_stays_overtaken_and_an_applied_one_applied() -> None:
    domain = quick_domain(prepare_timeout_s=5)
    await domain.start()
    assert await told(domain, attach("1", "ar1")) == "applied"
    domain.agents["ar2"].mute = True
    overtaken = await domain.controller.submit(attach("2", "ar2"))
    refreshed = await domain.controller.submit(attach("3", "ar2"))
    domain.agents["ar2"].mute = False  # too late for those
    assert await told(domain, attach("4", "ar3")) == "applied"
    why = await outcome(overtaken)
    assert why.startswith("superseded")
    assert await outcome(refreshed) == why
    for _ in range(2):
        assert await told(domain, attach("1", "ar1")) == "applied"
        assert await told(domain, attach("2", "ar2")) == why
        assert await told(domain, attach("3", "ar2")) == why
        assert await told(domain, attach("4", "ar3")) == "applied"
        domain = await restarted(domain)
    await domain.stop()


@quickly
async def test_an_event_that_is_being_overtaken_is_not_applied_meanwhile() -> None:
    """The last acknowledgement comes while the newer event is being written."""
    domain = quick_domain(prepare_timeout_s=5)
    await domain.start()
    store = store_of(domain)
    domain.agents["ar1"].mute = True
    first = await domain.controller.submit(attach("1", "ar1"))
    store.held = True
    newer = asyncio.ensure_future(domain.controller.submit(attach("2", "ar2")))
    await domain.settle()
    domain.agents["ar1"].mute = False
    await domain.agents["ar1"].answer()
    await domain.settle()
    assert not first.applied.done()
    store.held = False
    store.write()
    assert await outcome(await newer) == "applied"
    why = await outcome(first)
    assert why.startswith("superseded")
    assert await told(domain, attach("1", "ar1")) == why
    await domain.stop()


@quickly
async def test_an_event_that_was_overtaken_by_one_that_is_lost_goes_on() -> None:
    domain = quick_domain(prepare_timeout_s=5)
    await domain.start()
    store = store_of(domain)
    domain.agents["ar1"].mute = True
    first = await domain.controller.submit(attach("1", "ar1"))
    store.held = True
    newer = asyncio.ensure_future(domain.controller.submit(attach("2", "ar2")))
    await domain.settle()
    domain.agents["ar1"].mute = False
    await domain.agents["ar1"].answer()
    store.full = True
    store.write()
    with pytest.raises(Refusal, match="store-unavailable"):
        await newer
    store.full = store.held = False
    store.write()
    assert await outcome(first) == "applied"
    await domain.stop()


@quickly
async def test_an_event_whose_session_ends_first_is_told_so() -> None:
    parameters = MobilityParameters(default_lifetime_s=2)
    domain = quick_domain(parameters, prepare_timeout_s=60)
    await domain.start()
    domain.agents["ar1"].mute = True
    why = await told(domain, attach("1", "ar1"))
    assert why.startswith("session-ended")
    assert await told(domain, attach("1", "ar1")) == why
    await domain.stop()


@quickly
async def test_an_attach_is_not_asked_again_of_a_detach() -> None:
    """Both have the same epoch; what becomes of the detach says nothing of the attach."""
    domain = quick_domain()
    await domain.start()
    assert await told(domain, attach("1", "ar1")) == "applied"
    domain.agents["ar1"].mute = True
    detached = await domain.controller.submit(DetachEvent("2", "mn1", "ar1"))
    assert await told(domain, attach("1", "ar1")) == "applied"
    assert (await outcome(detached)).startswith("handover-aborted")
    assert await told(domain, attach("1", "ar1")) == "applied"
    assert (await told(domain, DetachEvent("2", "mn1", "ar1"))).startswith("handover-aborted")
    await domain.stop()


@quickly
async def test_what_waited_when_the_controller_died_is_overtaken_all_the_same() -> None:
    domain = quick_domain(prepare_timeout_s=5)
    await domain.start()
    domain.agents["ar1"].mute = True
    await domain.controller.submit(attach("1", "ar1"))
    await domain.stop()
    domain = quick_domain(store=domain.store, prepare_timeout_s=5)
    domain.agents["ar1"].mute = True
    await domain.start()
    newer = await domain.controller.submit(attach("2", "ar2"))
    domain.agents["ar1"].mute = False
    await domain.agents["ar1"].answer()
    assert await outcome(newer) == "applied"
    assert (await told(domain, attach("1", "ar1"))).startswith("superseded")
    await domain.stop()


async def asked_again(event_id: str, router: str) -> None:
    domain = quick_domain()
    await domain.start()
    await domain.controller.submit(attach("1", "ar1"))
    await domain.settle()
    assert domain.controller.state.sessions[KEY].rollout is RolloutPhase.STABLE
    await domain.stop()
    domain = quick_domain(store=domain.store)
    domain.agents["ar1"].mute = True
    await domain.start()
    again = await domain.controller.submit(attach(event_id, router))
    await domain.settle()
    assert not again.applied.done()
    domain.agents["ar1"].mute = False
    await domain.agents["ar1"].answer()
    assert await outcome(again) == "applied"
    await domain.stop()


@quickly
async def test_a_stable_session_of_an_earlier_life_is_asked_for_again() -> None:
    await asked_again("1", "ar1")


@quickly
async def test_a_refresh_of_a_session_of_an_earlier_life_waits_for_its_router() -> None:
    await asked_again("2", "ar1")


async def test_a_refusal_is_kept_in_the_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state")
    domain = SimulatedDomain(store=store)
    await domain.start()
    domain.agents["ar1"].mute = True
    await outcome(await domain.controller.submit(attach("1", "ar1")))
    assert not domain.controller.state.sessions
    await domain.stop()
    store.close()
    opened = SqliteStore(tmp_path / "state")
    kept: State = opened.load()
    opened.close()
    refused = kept.events["1"].refused
    assert refused is not None
    assert refused.type == "handover-aborted"
    assert refused.extra == {"router": "ar1", "failures": []}
