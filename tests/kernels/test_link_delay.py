"""What adjacent routers measure of a link that netem delays."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from srv6dmm.agent.delay_probes import DelayProbes
from srv6dmm.dataplane.link_probe import LinkProbeSocket
from srv6dmm.model.plan import RouterSettings
from srv6dmm.model.wire import DelayReport, FromAgent
from tests.netns.kernels import Space, cable, spaces

pytestmark = pytest.mark.root

ADDRESSES = IPv6Address("fe80::1"), IPv6Address("fe80::2")
DELAY_MS = 80
PORT = 8643


@pytest.fixture
def two() -> Iterator[list[Space]]:
    with spaces(2) as made:
        cable(made[0], "core0", made[1], "core0")
        for space, address in zip(made, ADDRESSES, strict=True):
            space.ip("address", "add", f"{address}/64", "dev", "core0", "nodad")
        command = ["tc", "-n", made[0].name, "qdisc", "add", "dev", "core0", "root", "netem"]
        subprocess.run([*command, "delay", f"{DELAY_MS}ms"], check=True, capture_output=True)
        yield made


async def test_netem_delays_a_link_and_both_ends_measure_it(two: list[Space]) -> None:
    """The queue is at one end only: each end measures half of what it adds to both ways."""
    said: tuple[list[FromAgent], list[FromAgent]] = ([], [])
    ends = [DelayProbes(LinkProbeSocket(space.name, PORT), 0.5) for space in two]
    try:
        for end, heard in zip(ends, said, strict=True):
            end.start(heard.append)
        for end, own, far in zip(ends, ADDRESSES, ADDRESSES[::-1], strict=True):
            neighbours = (("core0", far),)
            settings = RouterSettings(
                None, own, ("core0",), (), None, None, None, neighbours=neighbours
            )
            end.full([settings])
        await asyncio.sleep(5)
    finally:
        for end in ends:
            end.close()
    for heard in said:
        report = heard[-1]
        assert isinstance(report, DelayReport)
        measured_ms = report.delays["core0"] / 1000
        print(f"netem of {DELAY_MS} ms at one end, one way: {measured_ms:.1f} ms")
        assert DELAY_MS / 2 <= measured_ms < DELAY_MS / 2 + 15  # emulated processors are slow
