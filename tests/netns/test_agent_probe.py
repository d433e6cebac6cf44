"""An agent's part in explanations on a real kernel: reads back, looks out, has a packet come in."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from srv6dmm.agent.inspection import inspect
from srv6dmm.agent.reconcile import Reconciler
from srv6dmm.core.fib_walk import Packet
from srv6dmm.core.marked_packet import marked_packet, read_packet
from srv6dmm.dataplane import live_frames, namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.marked_frames import MarkedFrames, link_layer_address
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.wire import (
    Ack,
    FullPlan,
    Hello,
    Inspect,
    Inspection,
    Probe,
    Probed,
    Sighting,
    Unwatch,
    Watch,
    Watching,
)
from tests.agents import (
    AWAY,
    HOME,
    LOOPBACK,
    FakeController,
    controller,
    delivery,
    static_entries,
    steering,
)
from tests.netns.agent_spaces import Spaces, eventually, process, surroundings
from tests.netns.kernels import Space

pytestmark = pytest.mark.root

WHOLE: tuple[PlanEntry, ...] = (*static_entries(), delivery(), steering())
TOKEN = "00ff10ef20df30cf"
OUTSIDE, INSIDE = IPv6Address("2001:db8:a::9"), HOME[7]
DECAPSULATE = IPv6Address("fc00:0:1::d06")


@pytest.fixture
def around() -> Iterator[Spaces]:
    with surroundings() as made:
        yield made


@asynccontextmanager
async def running(around: Spaces, tmp_path: Path) -> AsyncIterator[FakeController]:
    path = tmp_path / "controller"
    async with controller(path) as fake, process(around.router, path, tmp_path / "log") as agent:
        await fake.next(Hello)
        await fake.send(FullPlan(7, WHOLE))
        assert (await fake.next(Ack)).revision == 7
        await eventually(lambda: fake.links_down == ())
        fake.process = agent  # type: ignore[attr-defined]
        yield fake


def probe(interface: str = "host0") -> Probe:
    return Probe(TOKEN, interface, None, OUTSIDE, INSIDE, 17, 1000, 2000, 0)


def sockets(space: Space) -> int:
    """Return how many packet sockets of a namespace see packets of all protocols."""
    with namespace.inside(space.name):
        _, *rows = Path("/proc/thread-self/net/packet").read_text().splitlines()
    return sum(row.split()[3] == "0003" for row in rows)


async def test_a_probe_is_seen_in_and_out(around: Spaces, tmp_path: Path) -> None:
    async with running(around, tmp_path) as fake:
        before = sockets(around.router)
        await fake.send(Watch(TOKEN, 4.0))
        assert await fake.next(Watching) == Watching(TOKEN, None)
        assert sockets(around.router) == before + 1
        await fake.send(probe())
        assert (await fake.next(Probed)).reason is None
        came, went = await fake.next(Sighting), await fake.next(Sighting)
        assert (came.interface, came.outgoing, came.hop_limit) == ("host0", False, 64)
        assert (went.interface, went.outgoing, went.hop_limit) == ("access", True, 63)
        for one in (came, went):
            assert (one.source, one.destination, one.protocol) == (OUTSIDE, INSIDE, 17)
            assert one.headers == ()
        assert went.at_ns >= came.at_ns
        await fake.send(Unwatch(TOKEN))
        assert (await fake.next(Watching)).reason == "it has ended"
        assert sockets(around.router) == before
        await fake.send(probe())
        assert (await fake.next(Probed)).reason is None
        await asyncio.sleep(0.1)
        assert fake.silent(), "nobody looks any more"


async def test_what_cannot_be_done_is_said(around: Spaces, tmp_path: Path) -> None:
    async with running(around, tmp_path) as fake:
        await fake.send(Watch("no token", 1.0))
        assert "non-hexadecimal" in ((await fake.next(Watching)).reason or "")
        await fake.send(Watch("00", 1.0))
        assert "16 hexadecimal digits" in ((await fake.next(Watching)).reason or "")
        await fake.send(probe("nowhere"))
        assert "nowhere" in ((await fake.next(Probed)).reason or "")
        await fake.send(Probe(TOKEN, "host0", None, OUTSIDE, INSIDE, 17, None, None, 0))
        assert "needs sport and dport" in ((await fake.next(Probed)).reason or "")
        await fake.send(Unwatch("another"))
        assert (await fake.next(Watching)).token == "another"


async def test_a_watch_ends_by_itself_and_a_new_one_takes_its_place(
    around: Spaces, tmp_path: Path
) -> None:
    async with running(around, tmp_path) as fake:
        before = sockets(around.router)
        for number in range(3):
            await fake.send(Watch(f"{number:016x}", 0.5))
            assert (await fake.next(Watching)).reason is None
            assert sockets(around.router) == before + 1
        await eventually(lambda: sockets(around.router) == before)


@pytest.mark.parametrize("way", ["the agent is killed", "the controller goes"])
async def test_nothing_is_left_of_a_watch(around: Spaces, tmp_path: Path, way: str) -> None:
    async with running(around, tmp_path) as fake:
        before = sockets(around.router)
        await fake.send(Watch(TOKEN, 5.0))
        assert (await fake.next(Watching)).reason is None
        if way == "the agent is killed":
            fake.process.send_signal(signal.SIGKILL)  # type: ignore[attr-defined]
            await fake.process.wait()  # type: ignore[attr-defined]
            before = 0
        else:
            await fake.hang_up()
        await eventually(lambda: sockets(around.router) <= before)


async def test_the_agent_tells_what_it_holds(around: Spaces, tmp_path: Path) -> None:
    async with running(around, tmp_path) as fake:
        stranger = steering(IPv6Network("2001:db8:3:1::/64"))
        await fake.send(Inspect(5, (*WHOLE, stranger)))
        told = await fake.next(Inspection)
        assert (told.number, told.revision) == (5, 7)
        states = {state.key: state for state in told.entries}
        assert (states.pop(stranger.key).planned, len(states)) == (False, len(WHOLE))
        collides = "sid fc00:0:1::f01"  # its next hop's address is its own, in this plan
        for key in states.keys() - {collides}:
            assert (states[key].planned, states[key].state) == (True, "present"), states[key]
        assert states[f"sid {DECAPSULATE}"].packets == 0


def test_what_somebody_changed_is_told_and_left(around: Spaces) -> None:
    """Without an agent: nobody puts it back while we look."""
    router = around.router
    kernel = LinuxKernel(router.name)
    try:
        reconciler = Reconciler(kernel, encap_red=True)
        assert reconciler.apply_full(WHOLE) == []
        router.ip("-6", "route", "delete", str(HOME), "proto", "201")
        router.ip(
            *("-6", "route", "replace", str(AWAY), "encap", "seg6", "mode", "encap.red"),
            *("segs", "fc00:0:9::d06", "dev", "core0", "proto", "201", "metric", "201"),
        )
        for _ in range(2):
            told = inspect(kernel, reconciler.host, reconciler.entries, WHOLE)
            states = {state.key: state for state in told}
            assert states[delivery().key].state == "missing"
            assert states[steering().key].state == "different"
            (found,) = states[steering().key].found
            assert found.endswith("has encap encap.red fc00:0:9::d06, not encap.red fc00:0:2::d06")
        assert str(HOME) not in {route["dst"] for route in router.routes("proto", "201")}
    finally:
        kernel.close()


def test_counters_of_a_sid_are_those_of_all_its_devices(around: Spaces) -> None:
    """As `sid_counters` has them, at the price of the routes asked for."""
    router = around.router
    kernel = LinuxKernel(router.name)
    try:
        reconciler = Reconciler(kernel, encap_red=True)
        assert reconciler.apply_full(WHOLE) == []
        inner = marked_packet(Packet(OUTSIDE, INSIDE), bytes.fromhex(TOKEN))
        outer = b"\x60\0\0\0" + len(inner).to_bytes(2, "big") + b"\x29\x40"
        outer += IPv6Address("fc00:0:2::1").packed + DECAPSULATE.packed
        head = (
            link_layer_address(router.name, "core0") + bytes.fromhex("020000000001") + b"\x86\xdd"
        )
        frames = MarkedFrames(router.name, bytes.fromhex(TOKEN))
        for _ in range(3):
            live_frames.receive(router.name, "core0", head + outer + inner)
        seen = [read_packet(frame.packet) for frame in frames.read() if not frame.outgoing]
        frames.close()
        assert [one.headers for one in seen if one is not None] == [((DECAPSULATE,),)] * 3
        told = inspect(kernel, reconciler.host, reconciler.entries, WHOLE)
        counted = next(state for state in told if state.key == f"sid {DECAPSULATE}")
        assert counted.packets == 3
        assert (counted.packets, counted.octets, counted.errors) == kernel.sid_counters()[
            str(DECAPSULATE)
        ]
        assert LOOPBACK != DECAPSULATE
    finally:
        kernel.close()
