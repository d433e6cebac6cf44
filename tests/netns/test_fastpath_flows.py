"""Flow rules in the kernel's maps: put, read back, adopted, repaired, counted, and replaced whole
while packets pass.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Network

import pytest

from srv6dmm.agent.reconcile import Reconciler
from srv6dmm.bench import frames, inject
from srv6dmm.bench.fast_router import FastRouter
from srv6dmm.bench.inject import LiveGenerator
from srv6dmm.bench.kernel_cases import SIDS, towards
from srv6dmm.bench.rig import ACCESS, NEXT_HOP, OUT, SECOND_OUT, TUNNEL_SOURCE, Rig
from srv6dmm.bench.rig import SOURCE as SENDER
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.combined import CombinedKernel
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.layout import Config
from srv6dmm.dataplane.fastpath.objects import FastFlow, FastList
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.fastpath.rule_layout import MAX_RULES, RuledKey
from srv6dmm.dataplane.fastpath.tables import Limits
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.model.plan import (
    FlowSelector,
    FlowSteering,
    PlanEntry,
    RouterSettings,
    SteeringList,
)
from srv6dmm.model.sid import EncapMode
from tests.agents import SETTINGS
from tests.unit.test_flow_entries import HOME, HOP, KINDS, OTHER, WANTED, flow, way

pytestmark = pytest.mark.root


@pytest.fixture
def router() -> Iterator[str]:
    """A namespace with two interfaces; the loaded pins go with it."""
    name = f"s6-flow-{os.getpid()}"
    namespace.create(name)
    try:
        for interface in ("core0", "core1", "access"):
            words = ("add", interface, "type", "veth", "peer", "name", f"{interface}x")
            subprocess.run(["ip", "-n", name, "link", *words], check=True)
        loader.load(pins.directory(name))
        yield name
    finally:
        pins.remove(name)
        namespace.remove(name)


def opened(name: str) -> FastPath:
    return FastPath(name, pins.directory(name))


def asks(fast: FastPath) -> bool:
    """Tell whether programs look into the rules at all."""
    return bool(Config.unpack(fast._maps.get("config", bytes(4)) or b"").has_flows)


def test_what_is_put_is_read_back_by_itself_and_by_the_next_process(router: str) -> None:
    first = opened(router)
    assert first.put(KINDS) == []
    assert asks(first)
    assert first.read() == first.read(WANTED) == WANTED
    first.close()
    second = opened(router)
    assert second.read() == second.read(WANTED) == WANTED
    assert second.put(KINDS) == []
    assert second.read() == WANTED
    assert second.delete(KINDS[1:]) == []
    assert asks(second)
    assert second.delete(KINDS[:1]) == []
    assert not asks(second)
    assert second.read() == {}
    for table in ("flows", "ruled"):
        assert second._maps.read_all(table) == {}
    second.close()


def test_a_full_map_is_named_and_other_sets_are_written(router: str) -> None:
    few = Limits(rulesets=4)
    place = pins.directory(router, few)
    loader.load(place, few)
    fast = FastPath(router, place)
    many = [
        flow(n, way(0), destination=IPv6Network((int(HOME.network_address) + (n << 64), 64)))
        for n in range(8)
    ]
    failures = fast.put(many)
    assert failures
    assert all("ruled" in failure.reason for failure in failures)
    assert len(fast.read()) == len(many) - len(failures)
    fast.close()


def test_more_rules_than_programs_look_at(router: str) -> None:
    fast = opened(router)
    many = [flow(n, way(n % 6), protocol=n) for n in range(3 * MAX_RULES)]
    assert fast.put(many) == []
    wanted = {item.identity: item for item in many}
    assert fast.read() == fast.read(wanted) == wanted
    fast.close()
    successor = opened(router)
    assert successor.read() == wanted
    assert successor.delete(many) == []
    assert successor._maps.read_all("ruled") == {}
    successor.close()


def steering(number: int, *segments: int, uplink: bool = False) -> FlowSteering:
    """A plan entry; its kernel objects are of the same interfaces."""
    ends = (HOME, OTHER) if uplink else (OTHER, HOME)
    lists = tuple(
        SteeringList((SIDS[segment],), f"core{segment % 2}", HOP, 1600) for segment in segments
    )
    selector = FlowSelector(*ends, 17, None, (number, number))
    return FlowSteering(
        f"f{number}", selector, number, lists, EncapMode.ENCAP_RED, "mn1", uplink=uplink
    )


ENTRIES: list[PlanEntry] = [
    replace(SETTINGS, core_interfaces=("core0", "core1"), host_interfaces=()),
    steering(1, 0),
    steering(2, 0, 1),
    steering(3),
    steering(4, 1, uplink=True),
]


@pytest.fixture
def agent(router: str) -> Iterator[Reconciler]:
    assert isinstance(ENTRIES[0], RouterSettings)
    kernel = CombinedKernel(LinuxKernel(router), opened(router))
    made = Reconciler(kernel, encap_red=True, fast=True)
    assert made.apply_full(ENTRIES) == []
    yield made
    kernel.close()


def test_drift_is_seen_and_repaired(router: str, agent: Reconciler) -> None:
    fast = opened(router)
    keys = {entry.key for entry in ENTRIES if isinstance(entry, FlowSteering)}
    downlink = RuledKey(HOME.network_address.packed[:8], False)
    assert not agent.repair()
    fast._maps.delete("ruled", [downlink.pack()])
    assert set(agent.repair().missing) == keys - {ENTRIES[4].key}
    value = fast._maps.get("ruled", downlink.pack())
    assert value is not None
    changed = bytearray(value)
    changed[16 + 64] ^= 9  # the order of the first rule
    fast._maps.put("ruled", {downlink.pack(): bytes(changed)})
    assert agent.repair().different == (ENTRIES[1].key,)
    assert fast._maps.get("ruled", downlink.pack()) == value
    fast.put([flow(77, way(3))])
    assert agent.repair().superfluous == (f"fast-flow {HOME} False {0x4000_0000 + 77}",)
    assert not agent.repair()
    fast.close()


def test_a_new_agent_writes_nothing_and_can_take_all_of_it_away(
    router: str, agent: Reconciler
) -> None:
    fast = opened(router)
    before = {table: fast._maps.read_all(table) for table in ("ruled", "flows", "prefixes")}
    kernel = CombinedKernel(LinuxKernel(router), opened(router))
    writes: list[object] = []
    put = kernel.put
    kernel.put = lambda objects: writes.extend(objects) or put(objects)  # type: ignore[method-assign, func-returns-value]
    second = Reconciler(kernel, encap_red=True, fast=True)
    assert second.apply_full(ENTRIES) == []
    assert writes == []
    assert {table: fast._maps.read_all(table) for table in before} == before
    assert second.apply_full(ENTRIES[:1]) == []
    assert fast._maps.read_all("ruled") == {}
    assert not asks(fast)
    kernel.close()
    fast.close()


# --- under traffic ---------------------------------------------------------------------------

BYTES = 100
OVERHEAD = EncapMode.ENCAP.overhead(2)
TARGET = IPv6Network("2001:db8:d::/64")
ADDRESS = TARGET.network_address + 2


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(f"s6fl{os.getpid()}") as made:
        yield made


def lists(number: int) -> FastList:
    device = (OUT, SECOND_OUT)[number]
    segments = SIDS[2 * number : 2 * number + 2]
    return FastList(EncapMode.ENCAP, segments, TUNNEL_SOURCE, device, NEXT_HOP, 1600)


def rules(number: int, exact: bool) -> list[FastFlow]:
    """Sixteen rules, of which the last is that of the generator's flow; or one 5-tuple."""
    own = FlowSelector(
        IPv6Network(f"{SENDER}/128"),
        IPv6Network(f"{ADDRESS}/128"),
        socket.IPPROTO_UDP,
        (frames.SOURCE_PORT,) * 2,
        (frames.DESTINATION_PORT,) * 2,
        None if exact else 0,
    )
    others = [FlowSelector(IPv6Network("::/0"), TARGET, 6, None, (n, n)) for n in range(15)]
    return [
        FastFlow(0x4000_0000 + n, selector, False, n, (lists(number),))
        for n, selector in enumerate((*others, own))
    ]


@pytest.mark.parametrize("exact", [False, True], ids=["set", "5-tuple"])
def test_replaced_under_traffic_without_a_packet_that_is_not_steered(rig: Rig, exact: bool) -> None:
    """Every millisecond the whole set, all of its paths new; each packet takes one or the other."""
    burst, packets, changes = 300_000, 0, 0
    if not inject.has_live_frames():
        pytest.skip("needs live frames (Linux 5.18)")
    with FastRouter(rig) as made:
        for device in (OUT, SECOND_OUT):
            made.hop(device)
        fast = FastPath(rig.router, made.pins)
        assert fast.put(rules(0, exact)) == []
        before = fast.reasons()
        frame = towards(rig, ACCESS, ADDRESS)(BYTES)
        generator = LiveGenerator(frame, rig.way(ACCESS), None)
        rig.sink.reset(BYTES + OVERHEAD)
        try:
            while changes <= 20:  # a busy host may have no core for both at once
                assert packets < 20 * burst
                child = generator.start(burst, min(os.sched_getaffinity(0)))
                while child.running:
                    changes += 1
                    assert fast.put(rules(changes % 2, exact)) == []
                    time.sleep(0.001)
                assert inject.result(burst, child.wait()).packets == burst
                packets += burst
        finally:
            generator.close()
        received = rig.sink.wait(packets)
        after = fast.reasons()
        counted = {owner: counter for _ in range(9) for _, owner, counter in fast.counted()}
        assert received.packets == packets
        grown = {r: after[r] - before[r] for r in after if after[r] != before[r]}
        assert grown.pop(Reason.STEERED) == packets
        assert not {Reason.FLOW_RULES, Reason.NO_PATH, Reason.NO_ENTRY} & grown.keys(), grown
        assert counted[0x4000_0000 + 15].packets == packets
        assert counted[0x4000_0000 + 15].octets == packets * (BYTES - frames.ETHERNET)
        fast.close()
