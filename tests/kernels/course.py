"""One course of hand-overs under traffic, over links that netem spoils, measured all along.

Processes that send and receive are started once for it: to start one takes seconds where the
processor is emulated. What happened when is told apart by the time of sending.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from srv6dmm.lab.analysis import FlowReport
from srv6dmm.lab.traffic import Conversation, ProbeResults, Probes, TcpTransfer, TransferResult
from tests.netns.running import Running, wait_for

NODE, PEER = "mn1", "cn"
PEER_ADDRESS = "2001:db8:cafe::2"
RATE = 40  # probes a second, each way
DELAY_MS = 100
LOSS = "20%"
SETTLE_S = 60.0
DWELL_S = 0.5


@dataclass
class Course:
    """What came of it, by phase: plain, delay, late, loss."""

    talk: Conversation
    windows: dict[str, tuple[int, int]] = field(default_factory=dict)
    handled: dict[str, int] = field(default_factory=dict)
    """Packets that programs forwarded."""
    round_trip_ms: dict[str, float] = field(default_factory=dict)
    drift: list[str] = field(default_factory=list)
    probes: ProbeResults | None = None
    tcp: TransferResult | None = None

    def downlink(self, phase: str) -> FlowReport:
        """Report on what the correspondent sent in a phase."""
        return self._report(self.talk.downlink_flow, phase)

    def uplink(self, phase: str) -> FlowReport:
        """Report on what the mobile node sent in a phase."""
        return self._report(self.talk.uplink_flow, phase)

    def _report(self, flow: int, phase: str) -> FlowReport:
        assert self.probes is not None
        return self.probes.flows[flow].report(self.windows[phase])


def run(domain: Running) -> Course:
    """Run it, from ar1 and back to there."""
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
    course.round_trip_ms["plain"] = _round_trip_ms(domain)
    with _phase(course, domain, "plain"):
        _move(domain, "ar2")
        _move(domain, "ar1")
    with _netem(domain, "br1", "tr1", "delay", f"{DELAY_MS}ms"):
        course.round_trip_ms["delay"] = _round_trip_ms(domain)
        with _phase(course, domain, "delay"):
            _move(domain, "ar2")
            _move(domain, "ar1")
    with (
        _netem(domain, "tr1", "ar1", "delay", f"{DELAY_MS}ms"),
        _phase(course, domain, "late"),
    ):
        _move(domain, "ar2")
    with _netem(domain, "br1", "tr1", "loss", LOSS), _phase(course, domain, "loss"):
        _move(domain, "ar1")
        time.sleep(3.0)
    course.probes = probes.stop()
    course.tcp = transfer.stop()
    course.drift = domain.drift()
    return course


@contextmanager
def _phase(course: Course, domain: Running, name: str) -> Iterator[None]:
    handled, began = domain.handled(), time.monotonic_ns()
    yield
    course.windows[name] = (began, time.monotonic_ns())
    # Netem's queue ends with it: what it holds back of this phase shall be out by then.
    time.sleep(4 * DELAY_MS / 1000)
    course.handled[name] = domain.handled() - handled


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
