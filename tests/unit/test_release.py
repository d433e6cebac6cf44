"""Release of drained prefixes: what may end early, and on which evidence it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv6Network

import pytest

from srv6dmm.core import mobility
from srv6dmm.core.release import idle_release_ms, releasable, release
from srv6dmm.model.events import AttachEvent, DetachEvent
from srv6dmm.model.flows import Direction, FlowMatch, FlowRule
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import Advertisement, FlowSteering, mobile_key
from srv6dmm.model.policy import CandidatePath, DynamicPath, Policy, WeightedPath
from srv6dmm.model.state import (
    Change,
    LeaseState,
    PrefixType,
    RolloutPhase,
    Session,
    SessionPhase,
    State,
)
from srv6dmm.model.wire import FlowTraffic, ModeReport, PrefixTraffic
from tests.domains import small_domain
from tests.simulated import FailingStore, FakeClock, SimulatedDomain

NOW = 1_700_000_000_000
IDLE_S = 60
PARAMETERS = MobilityParameters(idle_release_s=IDLE_S, late_packets_ms=100, valid_lifetime_s=7200)
KEY = ("mn1", "0")
HEAD_ENDS = ("ar1", "ar2", "ar3", "br1")


# --- the decision ----------------------------------------------------------------------------


def moved(*routers: str, parameters: MobilityParameters = PARAMETERS) -> State:
    """Return a state whose node was at these routers, and is settled at the last."""
    state = State()
    for number, router in enumerate(routers):
        event = AttachEvent(f"e{number}", "mn1", router, "02:00:00:00:00:01")
        decision = mobility.decide(state, event, NOW, small_domain(), parameters)
        state.apply(decision.change, state.revision + 1)
        while state.sessions[KEY].rollout is not RolloutPhase.STABLE:
            at = state.sessions[KEY].redirect_until_ms or NOW
            change = mobility.advance(state.sessions[KEY], at, parameters)
            state.apply(change, state.revision + 1)
    return state


def with_session(state: State, **fields: object) -> Session:
    """Change the node's session in place and return it."""
    session = replace(state.sessions[KEY], **fields)  # type: ignore[arg-type]
    state.apply(Change(sessions=(session,)), state.revision + 1)
    return session


def anchors(session: Session) -> list[str]:
    return [binding.anchor for binding in releasable(session)]


def test_a_prefix_away_from_home_ends_and_is_quarantined() -> None:
    state = moved("ar1", "ar2", "ar3")
    session = state.sessions[KEY]
    assert anchors(session) == ["ar1", "ar2"]
    prefix = session.bindings[0].prefix
    later = NOW + IDLE_S * 1000
    change = release(state, session, prefix, later, PARAMETERS)
    assert change.sessions == (replace(session, bindings=session.bindings[1:]),)
    [lease] = change.leases
    assert (lease.prefix, lease.anchor, lease.holder) == (prefix, "ar1", KEY)
    assert (lease.state, lease.until_ms) == (LeaseState.QUARANTINE, later + 7_200_000)
    assert (change.sessions_gone, change.leases_gone) == ((), ())
    state.apply(change, state.revision + 1)
    assert release(state, state.sessions[KEY], prefix, later, PARAMETERS) == Change()
    assert release(state, session, prefix, later, PARAMETERS) == Change(), "of an old session"


def test_a_younger_one_cannot_have_been_idle_for_so_long() -> None:
    state = moved("ar1", "ar2")
    session = state.sessions[KEY]
    prefix = session.bindings[0].prefix
    assert not release(state, session, prefix, NOW + IDLE_S * 1000 - 1, PARAMETERS)
    assert release(state, session, prefix, NOW + IDLE_S * 1000, PARAMETERS)


def test_the_wait_is_never_shorter_than_that_of_a_detach() -> None:
    assert idle_release_ms(replace(PARAMETERS, idle_release_s=1)) == 10_000
    assert idle_release_ms(PARAMETERS) == 60_000
    assert idle_release_ms(MobilityParameters()) is None
    state = moved("ar1", "ar2")
    session = state.sessions[KEY]
    off = replace(PARAMETERS, idle_release_s=0)
    assert not release(state, session, session.bindings[0].prefix, NOW + 10**9, off)


def test_what_never_ends_early() -> None:
    state = moved("ar1", "ar2")
    session = state.sessions[KEY]
    away, home = session.bindings
    later = NOW + 10**9
    assert not release(state, session, home.prefix, later, PARAMETERS)
    assert not release(state, session, IPv6Network("2001:db8:ffff::/64"), later, PARAMETERS)
    fixed = with_session(state, bindings=(replace(away, type=PrefixType.FIXED), home))
    assert anchors(fixed) == []
    assert not release(state, fixed, away.prefix, later, PARAMETERS)
    leaving = with_session(state, bindings=(away, home), phase=SessionPhase.DETACH_WAIT)
    assert not release(state, leaving, away.prefix, later, PARAMETERS)
    for rollout in set(RolloutPhase) - {RolloutPhase.STABLE}:
        moving = with_session(state, phase=SessionPhase.ACTIVE, rollout=rollout)
        assert not release(state, moving, away.prefix, later, PARAMETERS)
    again = with_session(state, rollout=RolloutPhase.STABLE)
    assert release(state, again, away.prefix, later, PARAMETERS)


def test_without_a_prefix_of_the_serving_router_the_newest_stays() -> None:
    state = moved("ar1", "ar2", "ar3")
    session = with_session(state, bindings=state.sessions[KEY].bindings[:2])
    assert anchors(session) == ["ar1"]


def test_back_home_the_first_prefix_is_the_preferred_one() -> None:
    state = moved("ar1", "ar2", "ar1")
    assert anchors(state.sessions[KEY]) == ["ar2"]


# --- the evidence ----------------------------------------------------------------------------


class Counting(SimulatedDomain):
    """A domain whose routers have fast paths and tell of them every ten seconds."""

    async def pass_time(self, seconds: int, silent: str | None = None) -> None:
        """Let time pass in which only what a test says is counted."""
        for _ in range(seconds // 10):
            self.clock.ms += 10_000
            for agent in self.agents.values():
                if agent.router != silent:
                    await agent.count()
            self.controller._timers.fire()
            await self.settle()

    def anchors(self) -> list[str]:
        return [b.anchor for b in self.controller.state.sessions[KEY].bindings]

    def prefix(self, anchor: str) -> IPv6Network:
        bindings = self.controller.state.sessions[KEY].bindings
        return next(b.prefix for b in bindings if b.anchor == anchor)

    def packet(self, prefix: IPv6Network) -> PrefixTraffic:
        return PrefixTraffic(prefix, 1, 100, 0)

    async def attach(self, router: str) -> None:
        event = AttachEvent(f"{router}-{self.clock.ms}", "mn1", router, "02:00:00:00:00:01")
        submitted = await self.controller.submit(event)
        await asyncio.wait_for(submitted.applied, 2)
        self.clock.ms += 1000
        self.controller._timers.fire()  # the time for late packets is over
        await self.settle()
        assert self.controller.state.sessions[KEY].rollout is RolloutPhase.STABLE


@asynccontextmanager
async def counting(netlink: str | None = None, **options: object) -> AsyncIterator[Counting]:
    parameters = replace(PARAMETERS, default_lifetime_s=80_000)
    domain = Counting(parameters=parameters, **options)  # type: ignore[arg-type]
    for agent in domain.agents.values():
        agent.fast_path = agent.router != netlink
    await domain.start()
    try:
        yield domain
    finally:
        await domain.stop()


async def test_what_nobody_uses_is_released_everywhere() -> None:
    async with counting() as domain:
        for router in ("ar1", "ar2", "ar3"):
            await domain.attach(router)
        gone = [domain.prefix("ar1"), domain.prefix("ar2")]
        epoch = domain.controller.state.sessions[KEY].epoch
        await domain.pass_time(IDLE_S - 10)
        assert domain.anchors() == ["ar1", "ar2", "ar3"]
        await domain.pass_time(30)
        assert domain.anchors() == ["ar3"]
        domain.assert_consistent()
        for agent in domain.agents.values():
            assert not {mobile_key(prefix) for prefix in gone} & agent.entries.keys()
        [told] = [e for e in domain.agents["ar3"].entries.values() if isinstance(e, Advertisement)]
        assert [advertised.prefix for advertised in told.prefixes] == [domain.prefix("ar3")]
        assert {domain.controller.state.leases[prefix].state for prefix in gone} == {
            LeaseState.QUARANTINE
        }
        assert domain.controller.state.sessions[KEY].epoch == epoch
        events = [event async for event in _feed(domain)]
        assert [e.data["prefix"] for e in events if e.kind == "prefix-released"] == [
            str(prefix) for prefix in gone
        ]
        await domain.attach("ar1")  # as ever: another prefix there, the first is quarantined
        assert domain.prefix("ar1") != gone[0]
        domain.assert_consistent()


async def _feed(domain: Counting) -> AsyncIterator[object]:
    reader = domain.controller.subscribe(0)
    for _ in range(domain.controller._feed._next - 1):
        yield await anext(reader)


@pytest.mark.parametrize("router", HEAD_ENDS)
async def test_a_packet_anywhere_keeps_a_prefix_and_only_that(router: str) -> None:
    async with counting() as domain:
        for anchor in ("ar1", "ar2", "ar3"):
            await domain.attach(anchor)
        used = domain.prefix("ar1")
        for _ in range(3):
            await domain.agents[router].count(domain.packet(used))
            await domain.pass_time(IDLE_S - 10)
        assert domain.anchors() == ["ar1", "ar3"]
        await domain.pass_time(30)
        assert domain.anchors() == ["ar3"]


@pytest.mark.parametrize("direction", [Direction.UPLINK, Direction.DOWNLINK])
async def test_packets_that_a_flow_rule_takes_keep_their_prefix(direction: Direction) -> None:
    """No router counts them as the prefix's, those that the node sends least of all."""
    small = small_domain()
    border = replace(small.nodes["br1"], announces=(IPv6Network("2001:db8:cafe::/64"),))
    topology = replace(small, nodes={**small.nodes, "br1": border})
    async with counting(topology=topology) as domain:
        policy = Policy("any", (CandidatePath((WeightedPath(DynamicPath()),)),))
        rule = FlowRule("voice", "any", "mn1", match=FlowMatch(protocol=17), direction=direction)
        rules = Change(policies=(policy,), flows=(rule,))
        await domain.controller.change_rules(lambda _: rules)
        for anchor in ("ar1", "ar2", "ar3"):
            await domain.attach(anchor)
        used = domain.prefix("ar1")
        (router, number), *_ = [
            (agent.router, entry.number)
            for agent in domain.agents.values()
            for entry in agent.entries.values()
            if isinstance(entry, FlowSteering) and entry.own_prefix == used
        ]
        for packets in range(1, 4):
            await domain.agents[router].count(flows=(FlowTraffic(number, packets, 100, 0),))
            await domain.pass_time(IDLE_S - 10)
        assert domain.anchors() == ["ar1", "ar3"]
        await domain.pass_time(30)
        assert domain.anchors() == ["ar3"]


@pytest.mark.parametrize("router", HEAD_ENDS)
async def test_a_router_that_does_not_count_keeps_everything(router: str) -> None:
    async with counting(netlink=router) as domain:
        for anchor in ("ar1", "ar2"):
            await domain.attach(anchor)
        await domain.pass_time(10 * IDLE_S)
        assert domain.anchors() == ["ar1", "ar2"]
        connection = domain.agents[router].connection
        assert connection is not None
        await connection.receive(ModeReport("ebpf", "ebpf", None))
        await domain.pass_time(IDLE_S - 10)
        assert domain.anchors() == ["ar1", "ar2"], "the time before it counted is no idle time"
        await domain.pass_time(IDLE_S + 20)
        assert domain.anchors() == ["ar2"]


@pytest.mark.parametrize("router", HEAD_ENDS)
async def test_a_router_that_tells_nothing_keeps_everything(router: str) -> None:
    """Its agent is alive, but cannot read its counters."""
    async with counting() as domain:
        for anchor in ("ar1", "ar2"):
            await domain.attach(anchor)
        await domain.agents[router].count()
        await domain.pass_time(10 * IDLE_S, silent=router)
        assert domain.anchors() == ["ar1", "ar2"]
        await domain.pass_time(2 * IDLE_S)
        assert domain.anchors() == ["ar2"]


async def test_a_router_that_is_away_or_refuses_keeps_everything() -> None:
    async with counting() as domain:
        for anchor in ("ar1", "ar2"):
            await domain.attach(anchor)
        domain.agents["br1"].disconnect()
        await domain.pass_time(3 * IDLE_S)
        assert domain.anchors() == ["ar1", "ar2"]
        domain.agents["br1"].refuse = {mobile_key(domain.prefix("ar1"))}
        domain.agents["br1"].connect()
        await domain.pass_time(3 * IDLE_S)
        assert domain.anchors() == ["ar1", "ar2"]
        domain.agents["br1"].refuse.clear()
        await domain.agents["br1"].answer()
        await domain.pass_time(2 * IDLE_S)
        assert domain.anchors() == ["ar2"]


async def test_a_router_that_has_not_acknowledged_keeps_everything() -> None:
    """It is back and counts, and what it holds is not known."""
    async with counting() as domain:
        for anchor in ("ar1", "ar2"):
            await domain.attach(anchor)
        domain.agents["br1"].disconnect()
        domain.agents["br1"].mute = True
        domain.agents["br1"].connect()
        await domain.pass_time(3 * IDLE_S)
        assert domain.anchors() == ["ar1", "ar2"]
        domain.agents["br1"].mute = False
        await domain.agents["br1"].answer()
        await domain.pass_time(2 * IDLE_S)
        assert domain.anchors() == ["ar2"]


async def test_a_hand_over_begins_the_time_anew() -> None:
    async with counting() as domain:
        for anchor in ("ar1", "ar2"):
            await domain.attach(anchor)
        await domain.pass_time(IDLE_S - 10)
        await domain.attach("ar3")
        await domain.pass_time(IDLE_S - 10)
        assert domain.anchors() == ["ar1", "ar2", "ar3"]
        await domain.pass_time(30)
        assert domain.anchors() == ["ar3"]


async def test_a_new_controller_begins_the_time_anew() -> None:
    clock = FakeClock()
    async with counting(clock=clock) as first:
        for anchor in ("ar1", "ar2"):
            await first.attach(anchor)
        await first.pass_time(IDLE_S - 10)
    async with counting(store=first.store, clock=clock) as second:
        await second.pass_time(IDLE_S - 10)
        assert second.anchors() == ["ar1", "ar2"]
        await second.pass_time(30)
        assert second.anchors() == ["ar2"]
        second.assert_consistent()


async def test_a_full_disk_puts_it_off() -> None:
    store = FailingStore()
    async with counting(store=store) as domain:
        for anchor in ("ar1", "ar2"):
            await domain.attach(anchor)
        store.full = True
        await domain.pass_time(2 * IDLE_S)
        assert domain.anchors() == ["ar1", "ar2"]
        store.full = False
        await domain.pass_time(10)
        assert domain.anchors() == ["ar2"]


async def test_nothing_is_released_of_a_node_that_leaves() -> None:
    async with counting() as domain:
        for anchor in ("ar1", "ar2"):
            await domain.attach(anchor)
        await domain.controller.submit(DetachEvent("gone", "mn1", "ar2"))
        await domain.settle()
        await domain.pass_time(2 * IDLE_S)
        assert not domain.controller.state.sessions
        assert not domain.controller._releases._changed
        domain.assert_consistent()
