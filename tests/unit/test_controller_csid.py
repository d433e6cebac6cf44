"""Compression through the controller: what routers read back decides, and it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from srv6dmm.config import RolloutSettings
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.flows import Direction, FlowMatch, FlowRule
from srv6dmm.model.plan import FlowSteering, LocalSid, UnreachableRoute
from srv6dmm.model.policy import CandidatePath, DynamicPath, Policy, Waypoint, WeightedPath
from srv6dmm.model.sid import Flavor
from srv6dmm.model.state import Change, CsidSupport
from srv6dmm.model.topology import Topology
from srv6dmm.store.interface import Store
from srv6dmm.store.memory import MemoryStore
from tests.simulated import FailingStore, LoopClock, QuickLoop, SimulatedDomain, quickly

ROW = tuple(f"t{number}" for number in range(1, 7))
FILE = Path(__file__).parents[1] / "netns" / "usid.yaml"
USID = parse_topology(FILE.read_text(), FILE.name)
PLAIN = replace(USID, domain=replace(USID.domain, usid=False))
PATH = DynamicPath(waypoints=tuple(Waypoint(router) for router in ROW))
RULES = Change(
    policies=(Policy("row", (CandidatePath((WeightedPath(PATH),)),)),),
    flows=(
        FlowRule(
            "voice",
            "row",
            mobile_node="mn1",
            match=FlowMatch(protocol=17),
            direction=Direction.DOWNLINK,
        ),
    ),
)
PATIENCE_S = 0.3
SIX = ("fc00:0:c1:c2:c3:c4:c5:c6", "fc00:0:a1:d06::")
WITHOUT_T3 = ("fc00:0:c1:c2:f03::", "fc00:0:c4:c5:c6:a1:d06:0")
PLAIN_LIST = ("fc00:0:c1:f03::", "fc00:0:c3:f03::", "fc00:0:c5:f03::", "fc00:0:a1:d06::")


@asynccontextmanager
async def living(
    topology: Topology = USID, store: Store | None = None, without: tuple[str, ...] = ()
) -> AsyncIterator[SimulatedDomain]:
    """Run the row, whose routers support NEXT-C-SID but for some; hold it against its plans."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuickLoop)
    domain = SimulatedDomain(
        store or MemoryStore(),
        clock=LoopClock(loop),
        topology=topology,
        rollout=RolloutSettings(
            prepare_timeout_s=PATIENCE_S, switch_timeout_s=0.2, heartbeats_missed=1_000_000
        ),
    )
    for name, agent in domain.agents.items():
        agent.next_csid = name not in without
    await domain.start()
    await asyncio.sleep(0.01)
    yield domain
    await asyncio.sleep(2 * PATIENCE_S)
    domain.assert_consistent()
    await domain.stop()


async def steer(domain: SimulatedDomain) -> None:
    submitted = await domain.controller.submit(AttachEvent("1", "mn1", "ar1", "02:00:00:00:01:01"))
    await submitted.applied
    changed = await domain.controller.change_rules(lambda state: RULES)
    await changed.applied


def sent(domain: SimulatedDomain, router: str = "br1") -> tuple[str, ...]:
    """Return the list of the one flow, as the head-end was told it."""
    (flow,) = [e for e in domain.agents[router].entries.values() if isinstance(e, FlowSteering)]
    (way,) = flow.lists
    return tuple(map(str, way.segments))


def holds(domain: SimulatedDomain, router: str) -> bool:
    """Tell whether a router holds a uN; else it holds its locator's cover."""
    locator = USID.nodes[router].locator
    assert locator is not None
    entries = domain.agents[router].entries.values()
    found = [e for e in entries if isinstance(e, LocalSid) and Flavor.NEXT_CSID in e.flavors]
    covers = [e for e in entries if isinstance(e, UnreachableRoute) and e.prefix == locator.prefix]
    assert len(found) + len(covers) == 1
    if found:
        assert (found[0].sid, found[0].prefix_length) == (locator.prefix.network_address, 48)
        assert found[0].key == f"sid {locator.prefix}"
    return bool(found)


@quickly
async def test_lists_are_compressed_when_every_router_holds_its_un() -> None:
    async with living() as domain:
        assert all(holds(domain, name) for name in domain.agents)
        await steer(domain)
        assert sent(domain) == SIX


@quickly
async def test_only_routers_that_read_it_back_are_in_containers() -> None:
    async with living(without=("t3",)) as domain:
        assert not holds(domain, "t3")
        await steer(domain)
        assert sent(domain) == WITHOUT_T3


@quickly
async def test_a_router_is_used_once_it_has_acknowledged_its_un() -> None:
    async with living(without=("t3",)) as domain:
        await steer(domain)
        agent = domain.agents["t3"]
        agent.next_csid, agent.mute = True, True
        agent.disconnect()
        agent.connect()
        await asyncio.sleep(0.01)
        assert holds(domain, "t3"), "it is told as soon as it says that it can"
        assert sent(domain) == WITHOUT_T3, "and not used before it says that it has"
        assert domain.controller.state.csid["t3"] == CsidSupport("t3", False)
        agent.mute = False
        await agent.answer()
        await asyncio.sleep(0.01)
        assert sent(domain) == SIX


@quickly
async def test_a_router_whose_kernel_refuses_it_is_left_out_until_it_does_not() -> None:
    async with living() as domain:
        await steer(domain)
        agent = domain.agents["t3"]
        agent.refuse = {"sid fc00:0:c3::/48"}
        await agent.answer()
        await asyncio.sleep(0.01)
        assert sent(domain) == WITHOUT_T3
        assert holds(domain, "t3"), "its agent goes on trying"
        agent.refuse.clear()
        await agent.answer()
        await asyncio.sleep(0.01)
        assert sent(domain) == SIX


@quickly
async def test_a_router_with_an_older_kernel_is_left_out_before_its_un_goes() -> None:
    async with living() as domain:
        await steer(domain)
        border, agent = domain.agents["br1"], domain.agents["t3"]
        border.mute = True
        agent.disconnect()
        agent.next_csid = False
        agent.connect()
        await asyncio.sleep(0.01)
        assert sent(domain) == WITHOUT_T3
        assert holds(domain, "t3"), "the border has not acknowledged: it may still name it"
        border.mute = False
        await border.answer()
        await asyncio.sleep(0.01)
        assert not holds(domain, "t3")
        assert "t3" not in domain.controller.state.csid


@quickly
async def test_a_head_end_that_is_silent_is_not_waited_for_for_ever() -> None:
    async with living() as domain:
        await steer(domain)
        domain.agents["br1"].mute = True
        agent = domain.agents["t3"]
        agent.disconnect()
        agent.next_csid = False
        agent.connect()
        await asyncio.sleep(2 * PATIENCE_S)
        assert not holds(domain, "t3")
        domain.agents["br1"].mute = False
        await domain.agents["br1"].answer()


@quickly
async def test_what_routers_support_is_durable() -> None:
    """A controller that starts anew compresses before any router has said a word."""
    store = MemoryStore()
    async with living(store=store) as domain:
        await steer(domain)
        revision = domain.controller.state.revision
    async with living(store=store) as again:
        assert again.controller.state.revision == revision, "nothing was decided anew"
        assert sent(again) == SIX


@quickly
async def test_switched_off_it_is_no_part_of_anything() -> None:
    async with living(PLAIN) as domain:
        await steer(domain)
        assert not domain.controller.state.csid
        assert not any(holds(domain, name) for name in domain.agents)
        assert sent(domain) == PLAIN_LIST


@quickly
async def test_switched_off_later_what_was_known_is_forgotten() -> None:
    """Else a router would be taken to hold, when it is switched on again, what it gave up."""
    store = MemoryStore()
    async with living(store=store) as domain:
        await steer(domain)
    async with living(PLAIN, store) as off:
        assert sent(off) == PLAIN_LIST
        await asyncio.sleep(1)
        assert not off.controller.state.csid
    async with living(store=store, without=ROW) as on:
        assert sent(on) == PLAIN_LIST


@quickly
async def test_a_store_that_is_full_is_tried_again() -> None:
    store = FailingStore()
    store.full = True
    async with living(store=store) as domain:
        assert not any(holds(domain, name) for name in domain.agents)
        store.full = False
        await asyncio.sleep(1.1)
        assert all(holds(domain, name) for name in domain.agents)
        await steer(domain)
        assert sent(domain) == SIX
