"""A domain of real processes on this kernel: hand-overs under traffic, links with delay and loss.

The first test waits for all of it (course.py); the others look at what came of it.
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
from tests.netns.running import MODES, Running

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

both = pytest.mark.parametrize("mode", MODES)
READY_S = 200.0  # interpreters start slowly on an emulated processor


@pytest.fixture(scope="module")
def domain() -> Iterator[Running]:
    lab = Lab.from_file(Path(__file__).with_name("star.yaml"), "kernels")
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


@pytest.fixture(scope="module")
def course(domain: Running) -> Course:
    return courses.run(domain)


def lossless(report: FlowReport) -> None:
    assert report.sent > 50, report
    assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0), report


def forwarded(course: Course, mode: Mode, phase: str) -> None:
    """Assert that the programs forwarded what passed in a phase; in mode netlink there are none."""
    handled = course.handled[mode, phase]
    assert handled > 50 if mode == "ebpf" else handled == 0


@both
def test_handovers_lose_nothing(course: Course, mode: Mode) -> None:
    """There and back again, probes both ways."""
    lossless(course.downlink(mode, "plain"))
    lossless(course.uplink(mode, "plain"))
    forwarded(course, mode, "plain")


@both
def test_a_long_way_loses_nothing_either(course: Course, mode: Mode) -> None:
    """Netem delay before the ways part: what is under way at a hand-over still arrives."""
    assert course.round_trip_ms[mode, "plain"] < DELAY_MS <= course.round_trip_ms[mode, "delay"]
    lossless(course.downlink(mode, "delay"))
    lossless(course.uplink(mode, "delay"))
    forwarded(course, mode, "delay")


@both
def test_late_packets_arrive(course: Course, mode: Mode) -> None:
    """Netem delay to the old access router: what comes late there is delivered or sent on."""
    report = course.downlink(mode, "late")
    assert report.sent > 20, report
    assert (report.lost, report.duplicated) == (0, 0), report
    assert course.uplink(mode, "late").lost == 0


@both
def test_loss_is_the_links_own(course: Course, mode: Mode) -> None:
    """Netem loss one way: that way loses its share, the other nothing, and the node moves on."""
    down, up = course.downlink(mode, "loss"), course.uplink(mode, "loss")
    assert down.sent > 100, down
    assert 0.05 < down.lost / down.sent < 0.4, down
    lossless(up)
    forwarded(course, mode, "loss")


def test_tcp_survives_all_of_it(course: Course) -> None:
    assert course.tcp is not None
    assert course.tcp.survived, course.tcp.error
    assert min(course.tcp.uplink_bytes, course.tcp.downlink_bytes) > 50_000


@both
def test_the_kernel_holds_what_was_planned(course: Course, mode: Mode) -> None:
    assert course.drift[mode] == []
