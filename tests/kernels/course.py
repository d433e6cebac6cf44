"""One course of hand-overs under traffic, over links that netem spoils, measured all along.

Processes are started once for both modes, to which the routers change over while it runs: to start
one takes seconds where the processor is emulated. Phases are told apart by the time of sending.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from srv6dmm.config import Mode
from srv6dmm.lab.analysis import FlowReport
from srv6dmm.lab.traffic import Conversation, ProbeResults, Probes, TcpTransfer, TransferResult
from tests.netns.running import MODES, Running, wait_for

NODE, PEER = "mn1", "cn"
PEER_ADDRESS = "2001:db8:cafe::2"
RATE = 40  # probes a second, each way
DELAY_MS = 100
LOSS = "20%"
SETTLE_S = 60.0
DWELL_S = 0.5


@dataclass
class Course:
    """What came of it, by mode and phase: plain, delay, late, loss."""

    talk: Conversation
    windows: dict[tuple[Mode, str], tuple[int, int]] = field(default_factory=dict)
    handled: dict[tuple[Mode, str], int] = field(default_factory=dict)
    """Packets that programs forwarded."""
    round_trip_ms: dict[tuple[Mode, str], float] = field(default_factory=dict)
    drift: dict[Mode, list[str]] = field(default_factory=dict)
    probes: ProbeResults | None = None
    tcp: TransferResult | None = None

    def downlink(self, mode: Mode, phase: str) -> FlowReport:
        """Report on what the correspondent sent in a phase."""
        return self._report(self.talk.downlink_flow, mode, phase)

    def uplink(self, mode: Mode, phase: str) -> FlowReport:
        """Report on what the mobile node sent in a phase."""
        return self._report(self.talk.uplink_flow, mode, phase)

    def _report(self, flow: int, mode: Mode, phase: str) -> FlowReport:
        assert self.probes is not None
        return self.probes.flows[flow].report(self.windows[mode, phase])


def run(domain: Running) -> Course:
    """Run it in both modes, in each from ar1 and back to there."""
    talk = domain.talk(NODE, PEER)[0]
    address = domain.scenario.wait_address(NODE, timeout_s=SETTLE_S)
    course = Course(talk)
    processes = domain.domain.processes
    transfer = TcpTransfer(
        domain.lab,
        processes,
        mobile_node=NODE,
        address=address,
        correspondent=PEER,
        megabits=0.3,
    )
    probes = Probes(domain.lab, processes, [talk], rate_pps=RATE)
    transfer.start()
    probes.start()
    for mode in MODES:
        _change_over(domain, mode)
        _phases(course, domain, mode)
        course.drift[mode] = domain.drift()
    course.probes = probes.stop()
    course.tcp = transfer.stop()
    return course


def _change_over(domain: Running, mode: Mode) -> None:
    """Have every router that runs change over to a mode."""
    for router in domain.lab.topology.routers():
        answer = domain.domain.client.put(f"/v1/routers/{router.name}/mode", json={"mode": mode})
        assert answer.status_code == 200, answer.text
        assert domain.domain.get(f"/v1/routers/{router.name}")["mode"] == mode
    domain.domain.mode = mode
    wait_for("settled", lambda: domain.settled(NODE), SETTLE_S)


def _phases(course: Course, domain: Running, mode: Mode) -> None:
    course.round_trip_ms[mode, "plain"] = _round_trip_ms(domain)
    with _phase(course, domain, "plain"):
        _move(domain, "ar2")
        _move(domain, "ar1")
    with _netem(domain, "cn", "eth0", "delay", f"{DELAY_MS}ms"):
        course.round_trip_ms[mode, "delay"] = _round_trip_ms(domain)
        with _phase(course, domain, "delay"):
            _move(domain, "ar2")
            _move(domain, "ar1")
    with (
        _netem(domain, "br1", "ar1", "delay", f"{DELAY_MS}ms"),
        _phase(course, domain, "late"),
    ):
        _move(domain, "ar2")
    with _netem(domain, "br1", "ar1", "loss", LOSS), _phase(course, domain, "loss"):
        _move(domain, "ar1")
        time.sleep(3.0)


@contextmanager
def _phase(course: Course, domain: Running, name: str) -> Iterator[None]:
    handled, began = domain.handled(), time.monotonic_ns()
    yield
    mode = domain.domain.mode
    course.windows[mode, name] = (began, time.monotonic_ns())
    # Netem's queue ends with it: what it holds back of this phase shall be out by then.
    time.sleep(4 * DELAY_MS / 1000)
    course.handled[mode, name] = domain.handled() - handled


@contextmanager
def _netem(domain: Running, node: str, interface: str, *how: str) -> Iterator[None]:
    """Have netem spoil what a node sends by an interface."""
    space = domain.lab.namespace(node)
    _tc(space, "qdisc", "add", "dev", interface, "root", "netem", *how)
    try:
        yield
    finally:
        _tc(space, "qdisc", "del", "dev", interface, "root")


def _tc(space: str, *arguments: str) -> None:
    done = subprocess.run(
        ["tc", "-n", space, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"tc {' '.join(arguments)}: {done.stderr}"


def _round_trip_ms(domain: Running) -> float:
    """Return the shortest of five round trips from the mobile node to the correspondent."""
    done = domain.run(NODE, "ping", "-n", "-c5", "-i0.1", PEER_ADDRESS)
    assert done.returncode == 0, done.stdout + done.stderr
    return float(done.stdout.split("min/avg/max/mdev = ")[1].split("/", maxsplit=1)[0])


def _move(domain: Running, target: str) -> None:
    """Hand the node over softly, and wait until that is over."""
    domain.scenario.soft_handover(NODE, target)
    wait_for("settled", lambda: domain.settled(NODE), SETTLE_S)
    time.sleep(DWELL_S)
