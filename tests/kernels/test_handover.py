"""A domain of real processes on this kernel: hand-overs under traffic, links with delay and loss.

One domain for both modes, changed over while it runs: starting one costs a minute here.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from srv6dmm.config import Mode
from srv6dmm.lab.domain import LabDomain
from srv6dmm.lab.network import Lab, take_down
from srv6dmm.lab.traffic import TcpTransfer
from tests.netns.running import MODES, TOPOLOGIES, Running, forwarding, lossless, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

READY_S = 180.0  # interpreters start slowly on an emulated processor
RATE = 40  # probes a second, each way


@pytest.fixture(scope="module")
def domain() -> Iterator[Running]:
    lab = Lab.from_file(TOPOLOGIES / "minimal.yaml", "kernels")
    running = LabDomain(lab, mode="netlink")
    try:
        lab.up()
        running.start(READY_S)
        made = Running(lab, running)
        made.scenario.first_attach("mn1", "ar1")
        made.scenario.wait_address("mn1", timeout_s=60)
        yield made
    finally:
        running.close()
        take_down("kernels")


@pytest.fixture(scope="module", params=MODES)
def minimal(request: pytest.FixtureRequest, domain: Running) -> Running:
    """The domain with every router in a mode."""
    mode: Mode = request.param
    for router in domain.lab.topology.routers():
        answer = domain.domain.client.put(f"/v1/routers/{router.name}/mode", json={"mode": mode})
        assert answer.status_code == 200, answer.text
        assert domain.domain.get(f"/v1/routers/{router.name}")["mode"] == mode
    domain.domain.mode = mode
    wait_for("settled", lambda: domain.settled("mn1"), 60)
    return domain


@contextmanager
def impaired(domain: Running, node: str, interface: str, *how: str) -> Iterator[None]:
    """Have netem spoil what a node sends by an interface."""
    space = domain.lab.namespace(node)
    _tc(space, "qdisc", "add", "dev", interface, "root", "netem", *how)
    try:
        shown = _tc(space, "qdisc", "show", "dev", interface)
        assert "netem" in shown, shown
        yield
    finally:
        _tc(space, "qdisc", "del", "dev", interface, "root")


def _tc(space: str, *arguments: str) -> str:
    done = subprocess.run(
        ["tc", "-n", space, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"tc {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def round_trip_ms(domain: Running) -> float:
    """Return the shortest of ten round trips from the mobile node to the correspondent."""
    done = domain.run("mn1", "ping", "-n", "-c10", "-i0.1", "2001:db8:cafe::2")
    assert done.returncode == 0, done.stdout + done.stderr
    return float(done.stdout.split("min/avg/max/mdev = ")[1].split("/")[0])


def move(domain: Running, target: str) -> None:
    """Hand the node over softly, and wait until that is over."""
    domain.scenario.soft_handover("mn1", target)
    wait_for("settled", lambda: domain.settled("mn1"), 60)


def test_handovers_lose_nothing(minimal: Running) -> None:
    """There and back again, with probes both ways and a TCP transfer all along."""
    transfer = TcpTransfer(
        minimal.lab,
        minimal.domain.processes,
        mobile_node="mn1",
        address=minimal.scenario.wait_address("mn1", timeout_s=60),
        correspondent="cn",
        megabits=0.5,
    )
    transfer.start()
    with forwarding(minimal), minimal.probing("mn1", rate=RATE) as results:
        for target in ("ar2", "ar1"):
            move(minimal, target)
            time.sleep(0.5)
    lossless(results)
    tcp = transfer.stop()
    assert tcp.survived, tcp.error
    assert min(tcp.uplink_bytes, tcp.downlink_bytes) > 50_000
    assert minimal.drift() == []


def test_a_long_way_loses_nothing_either(minimal: Running) -> None:
    """Netem delay before the routers part: what is under way at a hand-over still arrives."""
    before = round_trip_ms(minimal)
    with impaired(minimal, "br1", "tr1", "delay", "100ms"):
        assert 100 <= round_trip_ms(minimal) < before + 150
        with forwarding(minimal), minimal.probing("mn1", rate=RATE) as results:
            for target in ("ar2", "ar1"):
                move(minimal, target)
                time.sleep(0.5)
            time.sleep(0.5)
    lossless(results)


def test_late_packets_follow_the_node(minimal: Running) -> None:
    """Netem delay to the old access router only: what comes late there is sent on, or delivered."""
    with (
        impaired(minimal, "tr1", "ar1", "delay", "100ms"),
        minimal.probing("mn1", rate=RATE) as results,
    ):
        move(minimal, "ar2")
        time.sleep(0.5)
    move(minimal, "ar1")
    for flow in results[0].flows.values():
        report = flow.report()
        assert report.sent > 50
        assert (report.lost, report.duplicated) == (0, 0), report


def test_loss_is_the_links_own(minimal: Running) -> None:
    """Netem loss in one direction: that one loses its share, the other nothing; moves go on."""
    talk = minimal.talk("mn1", "cn")[0]
    with (
        impaired(minimal, "br1", "tr1", "loss", "20%"),
        forwarding(minimal),
        minimal.probing("mn1", rate=4 * RATE) as results,
    ):
        for target in ("ar2", "ar1"):
            move(minimal, target)
        time.sleep(1.5)
    down = results[0].flows[talk.downlink_flow].report()
    up = results[0].flows[talk.uplink_flow].report()
    assert down.sent > 300
    assert 0.08 < down.lost / down.sent < 0.35, down
    assert (up.lost, up.duplicated, up.reordered) == (0, 0, 0), up
