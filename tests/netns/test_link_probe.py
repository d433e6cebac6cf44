"""Probes between two adjacent routers: what they measure, and what they do not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address

import pytest

from srv6dmm.agent.delay_probes import DelayProbes
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.link_probe import LinkProbe, LinkProbeSocket, decode
from srv6dmm.model.plan import RouterSettings
from srv6dmm.model.wire import DelayReport, FromAgent
from tests.netns.kernels import Space, cable, spaces
from tests.netns.relay import slow_cable

pytestmark = pytest.mark.root

PORT = 8643
ONE, OTHER = IPv6Address("fe80::1"), IPv6Address("fe80::2")


@pytest.fixture
def two() -> Iterator[list[Space]]:
    with spaces(2) as made:
        yield made


def settings(own: IPv6Address, neighbour: IPv6Address) -> RouterSettings:
    return RouterSettings(
        None, own, ("core0",), (), None, None, None, neighbours=(("core0", neighbour),)
    )


def addressed(one: Space, other: Space) -> None:
    for space, address in ((one, ONE), (other, OTHER)):
        space.ip("address", "add", f"{address}/64", "dev", "core0", "nodad")


@asynccontextmanager
async def probing(one: Space, other: Space, every_s: float) -> AsyncIterator[list[FromAgent]]:
    """Run both ends; yield what `one` says."""
    said: list[FromAgent] = []
    ends = [DelayProbes(LinkProbeSocket(space.name, PORT), every_s) for space in (one, other)]
    try:
        ends[0].start(said.append)
        ends[1].start(lambda message: None)
        ends[0].full([settings(ONE, OTHER)])
        ends[1].full([settings(OTHER, ONE)])
        yield said
    finally:
        for end in ends:
            end.close()


def newest(said: list[FromAgent]) -> int:
    report = said[-1]
    assert isinstance(report, DelayReport)
    return report.delays["core0"]


async def test_a_short_cable_takes_microseconds_and_is_told_of_once(two: list[Space]) -> None:
    cable(two[0], "core0", two[1], "core0")
    addressed(*two)
    async with probing(*two, every_s=0.05) as said:
        await asyncio.sleep(1.5)
    assert newest(said) < 1000
    print(f"veth, one way: {newest(said)} us")
    assert 1 <= len(said) < 15, "what does not change is not said again"


async def test_a_slow_cable_is_measured_and_so_is_a_change_of_it(two: list[Space]) -> None:
    with slow_cable((two[0].name, "core0"), (two[1].name, "core0"), 0.004) as relay:
        addressed(*two)
        async with probing(*two, every_s=0.05) as said:
            await asyncio.sleep(2)
            first = newest(said)
            assert 4000 <= first < 6000
            relay.delay_s = 0.010
            await asyncio.sleep(2)
            second = newest(said)
            assert 10_000 <= second < 13_000
            print(f"relays of 4 and 10 ms, one way: {first} and {second} us")


async def test_a_far_end_that_is_slow_to_answer_does_not_count(two: list[Space]) -> None:
    """It says for how long it held the probe: here 30 ms, as a busy router would."""
    cable(two[0], "core0", two[1], "core0")
    addressed(*two)
    slow = LinkProbeSocket(two[1].name, PORT)
    said: list[FromAgent] = []
    ours = DelayProbes(LinkProbeSocket(two[0].name, PORT), 0.1)
    try:
        ours.start(said.append)
        ours.full([settings(ONE, OTHER)])
        for _ in range(8):
            await asyncio.sleep(0.1)
            while (heard := slow.read()) is not None:
                await asyncio.sleep(0.03)
                slow.reply(heard, OTHER)
        await asyncio.sleep(0.2)
        assert newest(said) < 2000
    finally:
        ours.close()
        slow.close()


async def test_forwarded_and_foreign_packets_are_not_answered(two: list[Space]) -> None:
    """RFC 5082: a hop limit below 255 says that it came from elsewhere."""
    cable(two[0], "core0", two[1], "core0")
    addressed(*two)
    two[0].ip("address", "add", "fe80::99/64", "dev", "core0", "nodad")
    other = DelayProbes(LinkProbeSocket(two[1].name, PORT), 0)
    with namespace.inside(two[0].name):
        index = socket.if_nametoindex("core0")

    async def answered(hop_limit: int, source: IPv6Address, message: bytes) -> bool:
        with namespace.inside(two[0].name):
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        with made:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hop_limit)
            made.bind((str(source), PORT, 0, index))
            made.sendto(message, (str(OTHER), PORT, 0, index))
            await asyncio.sleep(0.1)
            try:
                answer = decode(made.recv(100))
            except BlockingIOError:
                return False
            return answer is not None and answer.reply

    try:
        other.start(lambda message: None)
        other.full([settings(OTHER, ONE)])
        probe = LinkProbe(1, b"12345678").encode()
        assert await answered(255, ONE, probe)
        assert not await answered(254, ONE, probe)
        assert not await answered(255, IPv6Address("fe80::99"), probe)
        assert not await answered(255, ONE, probe[:-1])
    finally:
        other.close()
