"""Policies and flow rules through the controller, with agents that obey, refuse or vanish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv6Network

import pytest

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.flows import FlowMatch, FlowRule
from srv6dmm.model.plan import FlowSteering
from srv6dmm.model.policy import CandidatePath, DynamicPath, Policy, WeightedPath
from srv6dmm.model.state import Change, State
from tests.domains import small_domain
from tests.simulated import FailingStore, SimulatedDomain

OUTSIDE = IPv6Network("2001:db8:cafe::/64")
POLICY = Policy("low-delay", (CandidatePath((WeightedPath(DynamicPath()),)),))
RULE = FlowRule("voice", "low-delay", mobile_node="mn1", match=FlowMatch(peer=OUTSIDE, protocol=17))
RULES = Change(policies=(POLICY,), flows=(RULE,))


def attach(event_id: str, router: str) -> AttachEvent:
    return AttachEvent(event_id, "mn1", router, "02:00:00:00:00:01")


@pytest.fixture
async def domain() -> AsyncIterator[SimulatedDomain]:
    made = SimulatedDomain()
    await made.start()
    yield made
    await made.stop()


async def applied(domain: SimulatedDomain, event: AttachEvent) -> None:
    submitted = await domain.controller.submit(event)
    await asyncio.wait_for(submitted.applied, 2)


def flows(domain: SimulatedDomain, router: str) -> list[FlowSteering]:
    entries = domain.agents[router].entries.values()
    return [entry for entry in entries if isinstance(entry, FlowSteering)]


async def test_a_rule_reaches_the_head_ends_of_a_node_that_is_there(
    domain: SimulatedDomain,
) -> None:
    await applied(domain, attach("1", "ar1"))
    changed = await domain.controller.change_rules(lambda state: RULES)
    assert await asyncio.wait_for(changed.applied, 2) >= 0
    (flow,) = flows(domain, "br1")
    assert flow.selector.source == OUTSIDE
    assert flow.lists[0].segments == (domain.controller.planner.sids["ar1"].end_dt6,)
    assert not flows(domain, "ar2")  # packets from outside enter at the border
    domain.assert_consistent()


async def test_a_rule_follows_its_node(domain: SimulatedDomain) -> None:
    await domain.controller.change_rules(lambda state: RULES)
    for number, router in enumerate(("ar1", "ar2", "ar3", "ar1")):
        await applied(domain, attach(str(number), router))
        target = domain.controller.planner.sids[router].end_dt6
        bindings = domain.controller.state.sessions["mn1", "0"].bindings
        steered = {flow.selector.destination: flow.lists for flow in flows(domain, "br1")}
        assert steered.keys() == {binding.prefix for binding in bindings}
        assert {lists[0].segments for lists in steered.values()} == {(target,)}
        domain.assert_consistent()


async def test_a_rule_that_goes_leaves_nothing(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    await domain.controller.change_rules(lambda state: RULES)
    changed = await domain.controller.change_rules(lambda state: Change(flows_gone=("voice",)))
    await asyncio.wait_for(changed.applied, 2)
    assert not flows(domain, "br1")
    domain.assert_consistent()


async def test_decisions_are_made_on_what_was_decided_before(domain: SimulatedDomain) -> None:
    seen: list[State] = []

    def decide(state: State) -> Change:
        seen.append(state)
        if state.flows:
            raise Refusal("name-taken", "there is a rule of that name")
        return RULES

    first, second = await asyncio.gather(
        domain.controller.change_rules(decide),
        domain.controller.change_rules(decide),
        return_exceptions=True,
    )
    assert not isinstance(first, BaseException)
    assert isinstance(second, Refusal)
    assert domain.controller.state.flows == {"voice": RULE}


async def test_a_router_that_refuses_a_flow_is_named(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    prefix = domain.controller.state.sessions["mn1", "0"].bindings[0].prefix
    domain.agents["br1"].refuse.add(f"flow voice {OUTSIDE} {prefix}")
    changed = await domain.controller.change_rules(lambda state: RULES)
    with pytest.raises(Refusal, match="br1 could not apply 'flow voice") as refused:
        await asyncio.wait_for(changed.applied, 2)
    assert refused.value.type == "not-applied"
    assert refused.value.extra["routers"] == ["br1"]


async def test_a_silent_router_is_named_and_told_again(domain: SimulatedDomain) -> None:
    await applied(domain, attach("1", "ar1"))
    domain.agents["br1"].disconnect()
    changed = await domain.controller.change_rules(lambda state: RULES)
    with pytest.raises(Refusal, match="br1 did not acknowledge within"):
        await asyncio.wait_for(changed.applied, 2)
    domain.agents["br1"].connect()
    await domain.settle()
    assert len(flows(domain, "br1")) == 1
    domain.assert_consistent()


async def test_a_refused_flow_at_the_new_router_aborts_the_hand_over() -> None:
    small = small_domain()
    border = replace(small.nodes["br1"], announces=(OUTSIDE,))
    domain = SimulatedDomain(topology=replace(small, nodes={**small.nodes, "br1": border}))
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    await domain.controller.change_rules(lambda state: RULES)
    await domain.settle()
    assert [flow.rule for flow in flows(domain, "ar1")] == ["voice"]  # uplink
    domain.agents["ar2"].refuse |= domain.agents["ar1"].entries.keys() & {
        flow.key for flow in flows(domain, "ar1")
    }
    submitted = await domain.controller.submit(attach("2", "ar2"))
    with pytest.raises(Refusal, match="ar2 could not apply 'flow voice"):
        await asyncio.wait_for(submitted.applied, 2)
    await domain.settle()
    assert domain.controller.state.sessions["mn1", "0"].serving == "ar1"
    domain.assert_consistent()
    await domain.stop()


async def test_who_comes_where_flow_entries_have_no_room_has_none_and_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By prefix it is reached; when there is room, its next event gives it its rules."""
    monkeypatch.setattr("srv6dmm.core.flow_room.MAXIMUM_FLOW_ENTRIES", 2)
    domain = SimulatedDomain()
    await domain.start()
    rules = replace(RULES, flows=(RULE, replace(RULE, name="other", mobile_node="mn2")))
    await domain.controller.change_rules(lambda state: rules)
    await applied(domain, attach("1", "ar1"))
    second = AttachEvent("2", "mn2", "ar1", "02:00:00:00:00:02")
    await applied(domain, second)
    assert {flow.rule for flow in flows(domain, "br1")} == {"voice", "other"}
    await applied(domain, attach("3", "ar2"))  # two prefixes now, and one of mn2's
    assert {flow.rule for flow in flows(domain, "br1")} == {"other"}
    assert domain.controller.state.sessions["mn1", "0"].unruled
    ring = domain.controller._feed._ring
    told = [event for event in ring if event.kind == "rules-left-out"]
    assert [(event.data["mobile_node"], event.data["routers"]) for event in told] == [
        ("mn1", ["br1"])
    ]
    domain.assert_consistent()
    await domain.controller.change_rules(lambda state: Change(flows_gone=("other",)))
    await applied(domain, attach("4", "ar2"))
    assert {flow.rule for flow in flows(domain, "br1")} == {"voice"}
    assert len(flows(domain, "br1")) == 2
    domain.assert_consistent()
    await domain.stop()


async def test_rules_outlive_the_controller() -> None:
    first = SimulatedDomain()
    await first.start()
    await applied(first, attach("1", "ar1"))
    await first.controller.change_rules(lambda state: RULES)
    await first.stop()
    second = SimulatedDomain(store=first.store, clock=first.clock)
    await second.start()
    assert len(flows(second, "br1")) == 1
    second.assert_consistent()
    await second.stop()


async def test_what_cannot_be_kept_changes_nothing() -> None:
    store = FailingStore()
    domain = SimulatedDomain(store=store)
    await domain.start()
    await applied(domain, attach("1", "ar1"))
    store.full = True
    with pytest.raises(Refusal, match="store-unavailable"):
        await domain.controller.change_rules(lambda state: RULES)
    store.full = False
    assert not domain.controller.state.flows
    assert not flows(domain, "br1")
    domain.assert_consistent()
    await domain.stop()
