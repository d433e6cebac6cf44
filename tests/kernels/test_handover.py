"""A domain of real processes on this kernel: hand-overs under traffic, links with delay and loss.

One domain for both modes, changed over while it runs: starting one costs a minute here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from srv6dmm.config import Mode
from srv6dmm.lab.analysis import FlowReport
from srv6dmm.lab.domain import LabDomain
from srv6dmm.lab.network import Lab, take_down
from tests.kernels import course as courses
from tests.kernels.course import DELAY_MS, NODE, Course
from tests.netns.running import MODES, TOPOLOGIES, Running, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

READY_S = 200.0  # interpreters start slowly on an emulated processor


@pytest.fixture(scope="module")
def domain() -> Iterator[Running]:
    lab = Lab.from_file(TOPOLOGIES / "minimal.yaml", "kernels")
    running = LabDomain(lab, mode="netlink")
    patch = pytest.MonkeyPatch()
    # While one agent loads programs, the others may wait for the one, emulated processor.
    patch.setenv("SRV6DMM_ROLLOUT__HEARTBEATS_MISSED", "30")
    try:
        lab.up()
        running.start(READY_S)
        made = Running(lab, running)
        made.scenario.first_attach(NODE, "ar1")
        made.scenario.wait_address(NODE, timeout_s=60)
        yield made
    finally:
        patch.undo()
        running.close()
        if lab.directory.logs.is_dir():
            shutil.copytree(lab.directory.logs, Path(os.environ["SRV6DMM_GUEST"]) / "logs")
        take_down("kernels")


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest, domain: Running) -> Mode:
    """Every router in a mode, changed over while the domain runs."""
    mode: Mode = request.param
    for router in domain.lab.topology.routers():
        answer = domain.domain.client.put(f"/v1/routers/{router.name}/mode", json={"mode": mode})
        assert answer.status_code == 200, answer.text
        assert domain.domain.get(f"/v1/routers/{router.name}")["mode"] == mode
    domain.domain.mode = mode
    wait_for("settled", lambda: domain.settled(NODE), 60)
    return mode


@pytest.fixture(scope="module")
def course(domain: Running, mode: Mode) -> Course:
    return courses.run(domain)


def lossless(report: FlowReport) -> None:
    assert report.sent > 50, report
    assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0), report


def forwarded(course: Course, mode: Mode, phase: str) -> None:
    """Assert that the programs forwarded what passed in a phase; in mode netlink there are none."""
    handled = course.handled[phase]
    assert handled > 50 if mode == "ebpf" else handled == 0


def test_handovers_lose_nothing(course: Course, mode: Mode) -> None:
    """There and back again, probes both ways."""
    lossless(course.downlink("plain"))
    lossless(course.uplink("plain"))
    forwarded(course, mode, "plain")


def test_a_long_way_loses_nothing_either(course: Course, mode: Mode) -> None:
    """Netem delay before the ways part: what is under way at a hand-over still arrives."""
    assert course.round_trip_ms["plain"] < DELAY_MS <= course.round_trip_ms["delay"]
    lossless(course.downlink("delay"))
    lossless(course.uplink("delay"))
    forwarded(course, mode, "delay")


def test_late_packets_arrive(course: Course) -> None:
    """Netem delay to the old access router: what comes late there is delivered or sent on."""
    report = course.downlink("late")
    assert report.sent > 20, report
    assert (report.lost, report.duplicated) == (0, 0), report
    assert course.uplink("late").lost == 0


def test_loss_is_the_links_own(course: Course, mode: Mode) -> None:
    """Netem loss one way: that way loses its share, the other nothing, and the node moves on."""
    down, up = course.downlink("loss"), course.uplink("loss")
    assert down.sent > 100, down
    assert 0.05 < down.lost / down.sent < 0.4, down
    lossless(up)
    forwarded(course, mode, "loss")


def test_tcp_survives_all_of_it(course: Course) -> None:
    assert course.tcp is not None
    assert course.tcp.survived, course.tcp.error
    assert min(course.tcp.uplink_bytes, course.tcp.downlink_bytes) > 50_000


def test_the_kernel_holds_what_was_planned(course: Course) -> None:
    assert course.drift == []
