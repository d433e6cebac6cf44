"""POST /v1/attach and /v1/detach: what events come to, and how they are refused."""

from __future__ import annotations

import asyncio
import time

import pytest
from srv6dmm_api.schemas import EventAnswer

from srv6dmm.config import RolloutSettings
from srv6dmm.model.errors import StoreUnavailable
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import Change
from srv6dmm.store.memory import MemoryStore
from tests.api.support import MAC, PATIENT_S, refused, running, until
from tests.domains import small_domain


async def test_first_attach_is_durable_and_answers_with_a_prefix() -> None:
    async with running() as site:
        response = await site.attach("ar1")
        assert response.status_code == 200, response.text
        answer = EventAnswer.model_validate_json(response.content, extra="forbid")
        assert answer.outcome == "registered"
        assert (answer.mobile_node, answer.serving, answer.epoch) == ("mn1", "ar1", 1)
        assert answer.revision == 1
        assert not answer.replayed
        assert answer.applied is None
        [prefix] = answer.prefixes
        assert prefix.anchor == "ar1"
        assert prefix.preferred
        assert prefix.prefix.startswith("2001:db8:a003")
        assert 0 <= answer.timings.event_to_decided_ms <= answer.timings.event_to_durable_ms
        assert answer.lifetime == 3600


async def test_wait_applied_answers_when_every_stage_was_acknowledged() -> None:
    async with running() as site:
        await site.attach("ar1", wait="applied")
        response = await site.attach("ar2", wait="applied")
        assert response.status_code == 200
        answer = EventAnswer.model_validate_json(response.content, extra="forbid")
        assert answer.outcome == "handover"
        assert answer.applied is True
        assert answer.pending == []
        assert {"prepare", "switch", "redirect"} <= set(answer.timings.stages)
        assert answer.timings.event_to_applied_ms is not None
        old, new = answer.prefixes
        assert (old.anchor, old.preferred) == ("ar1", False)
        assert (new.anchor, new.preferred) == ("ar2", True)
        key = f"mobile {old.prefix}"
        assert type(site.agents["ar2"].holds[key]).__name__ == "Delivery"
        assert type(site.agents["br1"].holds[key]).__name__ == "SteeringEntry"


async def test_wait_applied_names_who_is_waited_for_when_it_takes_too_long() -> None:
    async with running() as site:
        site.agents["ar1"].mute = True
        response = await site.attach("ar1", wait="applied", timeout="0.05")
        assert response.status_code == 202
        answer = response.json()
        assert answer["applied"] is False
        assert answer["pending"] == ["ar1"]
        assert answer["timings"]["event_to_applied_ms"] is None
        assert ("mn1", "0") in site.controller.state.sessions


async def test_waiting_ends_at_once_when_the_controller_stops() -> None:
    async with running() as site:
        site.agents["ar1"].mute = True
        waiting = asyncio.create_task(site.attach("ar1", wait="applied", timeout="60"))
        await until(lambda: bool(site.controller.state.sessions))
        started = time.monotonic()
        site.app.state.stopping.set()
        response = await waiting
        assert response.status_code == 202
        assert time.monotonic() - started < 1


async def test_a_kernel_that_refuses_aborts_and_leaves_the_old_path() -> None:
    async with running() as site:
        await site.attach("ar1", wait="applied")
        before = dict(site.agents["br1"].holds)
        site.agents["ar2"].refuses = lambda key: key.startswith("mobile")
        document = refused(await site.attach("ar2", wait="applied"), 409, "handover-aborted")
        assert document["router"] == "ar2"
        [failure, *_] = document["failures"]
        assert failure["errno"] == 22
        assert failure["reason"] == "Invalid argument"
        assert "ar2" in document["detail"]
        await until(lambda: site.controller.state.sessions["mn1", "0"].serving == "ar1")
        await until(lambda: site.agents["br1"].holds == before)
        session = (await site.client.get("/v1/mobile-nodes/mn1")).json()["sessions"][0]
        assert (session["serving"], session["epoch"]) == ("ar1", 3)


async def test_a_silent_router_aborts_after_the_prepare_timeout() -> None:
    async with running(
        rollout=RolloutSettings(prepare_timeout_s=0.05, heartbeat_s=PATIENT_S)
    ) as site:
        site.agents["ar1"].mute = True
        document = refused(await site.attach("ar1", wait="applied"), 409, "handover-aborted")
        assert document["failures"] == []


async def test_an_overtaken_event_says_who_serves_now() -> None:
    async with running() as site:
        site.agents["ar1"].mute = True
        first = asyncio.create_task(site.attach("ar1", wait="applied"))
        await until(lambda: bool(site.controller.state.sessions))
        await site.attach("ar2")
        document = refused(await first, 409, "superseded")
        assert document["serving"] == "ar2"
        assert document["epoch"] == 2


async def test_a_duplicate_gets_the_same_answer_and_has_no_effect() -> None:
    async with running() as site:
        first = (await site.attach("ar1", event_id="e1", wait="applied")).json()
        revision = site.controller.state.revision
        again = (await site.attach("ar1", event_id="e1", wait="applied")).json()
        assert again["replayed"] is True
        assert again["applied"] is True
        same = ("event_id", "outcome", "epoch", "serving", "prefixes", "lifetime")
        assert {key: again[key] for key in same} == {key: first[key] for key in same}
        assert site.controller.state.revision >= revision
        assert site.controller.state.sessions["mn1", "0"].epoch == 1


async def test_a_duplicate_of_an_aborted_event_is_told_the_same() -> None:
    async with running() as site:
        await site.attach("ar1", wait="applied")
        site.agents["ar2"].refuses = lambda key: key.startswith("mobile")
        first = refused(
            await site.attach("ar2", event_id="e2", wait="applied"), 409, "handover-aborted"
        )
        site.agents["ar2"].refuses = lambda key: False
        again = refused(
            await site.attach("ar2", event_id="e2", wait="applied"), 409, "handover-aborted"
        )
        assert again == first
        durable = (await site.attach("ar2", event_id="e2")).json()
        assert durable["replayed"] is True
        assert durable["applied"] is None


async def test_head_ends_that_refuse_or_say_nothing_are_named() -> None:
    rollout = RolloutSettings(switch_timeout_s=0.1, heartbeat_s=PATIENT_S)
    async with running(rollout=rollout) as site:
        await site.attach("ar1", wait="applied")
        site.agents["br1"].refuses = lambda key: key.startswith("mobile")
        site.agents["ar3"].mute = True
        response = await site.attach("ar2", event_id="e2", wait="applied")
        assert response.status_code == 202, response.text
        answer = EventAnswer.model_validate_json(response.content, extra="forbid")
        assert answer.applied is False
        assert answer.pending == ["ar3", "br1"]
        assert answer.timings.event_to_applied_ms is None
        [failure] = answer.failures
        assert (failure.router, failure.errno, failure.reason) == ("br1", 22, "Invalid argument")
        metrics = (await site.client.get("/metrics")).text
        assert 'srv6dmm_handover_duration_seconds_count{until="applied"} 1.0' in metrics
        again = await site.attach("ar2", event_id="e2", wait="applied")
        assert again.status_code == 202
        assert again.json()["failures"] == response.json()["failures"]


async def test_an_event_id_is_of_one_event() -> None:
    async with running() as site:
        await site.attach("ar1", event_id="e1")
        revision = site.controller.state.revision
        refused(await site.attach("ar2", event_id="e1"), 409, "event-id-reused")
        assert site.controller.state.sessions["mn1", "0"].serving == "ar1"
        assert site.controller.state.revision >= revision


async def test_detach_of_the_serving_router_and_of_another() -> None:
    async with running() as site:
        await site.attach("ar1", wait="applied")
        ignored = (await site.detach("ar2", wait="applied")).json()
        assert ignored["outcome"] == "ignored"
        assert ignored["serving"] == "ar1"
        gone = (await site.detach("ar1", wait="applied")).json()
        assert gone["outcome"] == "detaching"
        assert gone["serving"] is None


async def test_unknown_names() -> None:
    async with running() as site:
        document = refused(await site.attach("ar9"), 422, "unknown-router")
        assert "ar1, ar2, ar3" in document["detail"]
        refused(await site.attach("br1"), 422, "unknown-router")
        refused(await site.detach("ar1"), 404, "unknown-mobile-node")
        assert site.controller.state.revision == 0


async def test_timestamps_out_of_order_carry_status_and_clock() -> None:
    async with running() as site:
        now = time.time_ns() // 1_000_000
        for wrong in (now - 60_000, now + 60_000, 0, 1 << 53):
            document = refused(await site.attach("ar1", timestamp=wrong), 409, "timestamp-mismatch")
            assert document["binding_status"] == 156
            assert abs(document["server_time_ms"] - now) < 30_000
        now = time.time_ns() // 1_000_000
        assert (await site.attach("ar1", timestamp=now)).status_code == 200
        late = await site.attach("ar2", timestamp=now - 1)
        document = refused(late, 409, "timestamp-lower-than-previous")
        assert document["binding_status"] == 157
        assert site.controller.state.sessions["mn1", "0"].serving == "ar1"


async def test_sequence_numbers_wrap_and_refuse_the_past() -> None:
    async with running() as site:
        assert (await site.attach("ar1", sequence=65535)).status_code == 200
        assert (await site.attach("ar2", sequence=0)).status_code == 200
        document = refused(await site.attach("ar1", sequence=65535), 409, "sequence-out-of-window")
        assert document["binding_status"] == 135
        assert document["last_sequence"] == 0


async def test_answers_repeat_what_orders_an_event_and_leaving_it_out_is_refused() -> None:
    async with running() as site:
        now = time.time_ns() // 1_000_000
        answer = (await site.attach("ar1", timestamp=now, sequence=9)).json()
        assert (answer["timestamp"], answer["sequence"]) == (now, 9)
        document = refused(await site.attach("ar2", sequence=10), 409, "order-missing")
        assert (document["order"], document["binding_status"]) == ("timestamp", 156)
        refused(await site.detach("ar1"), 409, "order-missing")
        answer = (await site.attach("ar1", node="mn2")).json()
        assert (answer["timestamp"], answer["sequence"]) == (None, None)


@pytest.mark.parametrize(
    "address", ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", "02:00:5e:00:64:01"]
)
async def test_addresses_that_are_no_nodes(address: str) -> None:
    async with running() as site:
        response = await site.attach("ar1", link_layer_address=address)
        document = refused(response, 422, "validation")
        assert document["errors"][0]["pointer"] == "/link_layer_address"


async def test_an_address_that_another_node_has_there() -> None:
    async with running() as site:
        await site.attach("ar1")
        response = await site.attach("ar1", node="mn2", link_layer_address=MAC)
        document = refused(response, 409, "link-layer-address-in-use")
        assert document["binding_status"] == 129


async def test_an_exhausted_pool() -> None:
    async with running(topology=small_domain(pool_length=63)) as site:
        for number in (1, 2):
            assert (await site.attach("ar1", node=f"mn{number}")).status_code == 200
        response = await site.attach("ar1", node="mn3")
        document = response.json()
        assert document["type"] == "urn:srv6dmm:problem:prefix-pool-exhausted"
        assert 400 <= response.status_code < 600
        assert document["binding_status"] == 130
        assert len(site.controller.state.sessions) == 2


class _FailingStore(MemoryStore):
    """A store on a disk that is full, until it is not."""

    full = True

    async def commit(self, change: Change, base: int) -> int:
        if self.full:
            raise StoreUnavailable("the disk is full")
        return await super().commit(change, base)

    def health(self) -> str | None:
        return "the disk is full; make room" if self.full else None


async def test_a_store_that_cannot_write_refuses_and_says_so_until_it_can() -> None:
    store = _FailingStore()
    async with running(store=store) as site:
        document = refused(await site.attach("ar1", event_id="e1"), 503, "store-unavailable")
        assert "disk is full" in document["detail"]
        ready = await site.client.get("/readyz")
        assert ready.status_code == 503
        assert "disk is full" in ready.json()["reasons"][0]
        assert (await site.client.get("/healthz")).status_code == 200
        assert site.controller.state.sessions == {}
        store.full = False
        assert (await site.attach("ar1", event_id="e1")).status_code == 200
        assert (await site.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("lifetime", [1, 262_140])
async def test_lifetimes_within_limits(lifetime: int) -> None:
    parameters = MobilityParameters(max_lifetime_s=86_400)
    async with running(parameters=parameters) as site:
        answer = (await site.attach("ar1", lifetime=lifetime)).json()
        assert answer["lifetime"] == min(lifetime, 86_400)


async def test_events_of_different_nodes_run_side_by_side() -> None:
    async with running() as site:
        answers = await asyncio.gather(
            *(
                site.attach("ar1", node=f"mn{n}", event_id=f"e{n}", wait="applied")
                for n in range(50)
            )
        )
        assert {answer.status_code for answer in answers} == {200}
        prefixes = {answer.json()["prefixes"][0]["prefix"] for answer in answers}
        assert len(prefixes) == 50
