"""Traffic of a lab: probes both ways and TCP transfers between mobile nodes and correspondents."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from srv6dmm.lab.analysis import Crossings, Flow, flows
from srv6dmm.lab.names import AIR, LabError
from srv6dmm.lab.network import Lab
from srv6dmm.lab.probe import Session
from srv6dmm.lab.processes import Processes
from srv6dmm.lab.recordings import ProbeRecording, RecordingError, decode_probe, decode_tap

START_S = 15.0
END_S = 15.0
_PROBE_PORT = 7000
_TRANSFER_PORT = 7900


@dataclass(frozen=True, slots=True)
class Conversation:
    """A mobile node and a correspondent that send probes to each other.

    `address` is one the mobile node has now; the flows keep it for life.
    """

    mobile_node: str
    address: IPv6Address
    correspondent: str
    remote: IPv6Address
    uplink_flow: int
    downlink_flow: int


@dataclass(slots=True)
class ProbeResults:
    """Flows by number, and what spoiled the measurement itself, which must be nothing."""

    flows: dict[int, Flow]
    overruns: int
    unsent: int


def correspondent_address(lab: Lab, node: str) -> IPv6Address:
    """Return the fixed address of a correspondent. Raises LabError."""
    lab.namespace(node)
    host = lab.topology.nodes[node]
    if not host.announces:
        raise LabError(f"{node} is no correspondent; it has no fixed prefix")
    return host.announces[0][2]


def conversations(
    lab: Lab, pairs: Sequence[tuple[str, IPv6Address, str]]
) -> tuple[Conversation, ...]:
    """Number the flows of (mobile node, its address, correspondent): uplink odd, downlink even."""
    return tuple(
        Conversation(
            mobile, address, peer, correspondent_address(lab, peer), 2 * number - 1, 2 * number
        )
        for number, (mobile, address, peer) in enumerate(pairs, 1)
    )


class Probes:
    """Probe processes, one in each namespace that takes part."""

    def __init__(
        self,
        lab: Lab,
        processes: Processes,
        talks: Sequence[Conversation],
        *,
        rate_pps: float = 250,
        size: int = 100,
        label: str = "probe",
    ) -> None:
        """Prepare probes at a rate per direction; `size` is that of an IPv6 packet in bytes."""
        self._lab, self._processes = lab, processes
        self._rate, self._size, self._label = rate_pps, size, label
        self._sessions: dict[str, list[Session]] = {}
        for number, talk in enumerate(talks):
            near = (str(talk.address), _PROBE_PORT + number)
            far = (str(talk.remote), _PROBE_PORT + number)
            up, down = talk.uplink_flow, talk.downlink_flow
            self._sessions.setdefault(talk.mobile_node, []).append(Session(up, down, near, far))
            self._sessions.setdefault(talk.correspondent, []).append(Session(down, up, far, near))

    def start(self) -> None:
        """Start sending, once every receiver is ready."""
        names = []
        for number, (node, sessions) in enumerate(sorted(self._sessions.items())):
            command = [sys.executable, "-m", "srv6dmm.lab.probe"]
            command += ["--namespace", self._lab.namespace(node), "--out", str(self._out(node))]
            command += ["--rate", str(self._rate), "--size", str(self._size)]
            command += ["--cpu", str(_cpu(number))]
            for session in sessions:
                command += ["--session", session.argument()]
            self._out(node).unlink(missing_ok=True)
            names.append(f"{self._label}-{node}")
            self._processes.start(names[-1], command)
        for name in names:
            self._processes.wait_for_word(name, "ready", START_S)
        for name in names:
            self._processes.signal(name, signal.SIGUSR2)

    def stop(self, drain_s: float = 0.3) -> ProbeResults:
        """End the sending, let what is on its way arrive (`drain_s`), and return the results.

        Raises LabError when a probe process left none.
        """
        names = [f"{self._label}-{node}" for node in sorted(self._sessions)]
        for name in names:
            self._processes.signal(name, signal.SIGUSR1)
        time.sleep(drain_s)
        self._processes.stop(*names, term_s=END_S)
        recordings: list[ProbeRecording] = []
        for node in sorted(self._sessions):
            data = _result(self._processes, f"{self._label}-{node}", self._out(node))
            try:
                recordings.append(decode_probe(data))
            except RecordingError as error:
                raise LabError(f"{self._out(node)}: {error}") from error
        return ProbeResults(
            flows(recordings),
            sum(recording.overruns for recording in recordings),
            sum(recording.unsent for recording in recordings),
        )

    def _out(self, node: str) -> Path:
        return self._lab.directory.path / f"{self._label}-{node}.rec"


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A TCP transfer seen from both ends."""

    connections: int
    """How often the mobile node connected: more than one means that the first was lost."""
    error: str | None
    """Why it did not end well: broken connection or wrong content; None: all was well."""
    uplink_bytes: int
    """Bytes the correspondent received and verified."""
    downlink_bytes: int
    """Bytes the mobile node received and verified."""
    retransmits: int
    samples: tuple[tuple[int, int, int], ...]
    """At the mobile node: (CLOCK_MONOTONIC ns, bytes sent so far, bytes received so far)."""

    @property
    def survived(self) -> bool:
        return self.error is None and self.connections == 1


class TcpTransfer:
    """A TCP connection that a mobile node opens to a correspondent, with data both ways."""

    def __init__(
        self,
        lab: Lab,
        processes: Processes,
        *,
        mobile_node: str,
        address: IPv6Address,
        correspondent: str,
        megabits: float = 8,
        number: int = 0,
    ) -> None:
        """Prepare it from an address the mobile node has, at a rate per direction."""
        self._lab, self._processes = lab, processes
        self._port = _TRANSFER_PORT + number
        self._megabits = megabits
        self._remote = correspondent_address(lab, correspondent)
        self._ends = {
            f"tcp{number}-{correspondent}": (correspondent, self._remote, None),
            f"tcp{number}-{mobile_node}": (mobile_node, address, self._remote),
        }

    def start(self) -> None:
        """Connect; returns when data flows. Raises LabError when it cannot."""
        for name, (node, local, remote) in self._ends.items():
            command = [sys.executable, "-m", "srv6dmm.lab.transfer"]
            command += ["--namespace", self._lab.namespace(node), "--out", str(self._out(name))]
            command += ["--local", str(local), "--port", str(self._port)]
            command += ["--megabits", str(self._megabits)]
            command += ["--remote", str(remote)] if remote else []
            self._out(name).unlink(missing_ok=True)
            self._processes.start(name, command)
            self._processes.wait_for_word(name, "ready" if remote else "listening", START_S)

    def stop(self) -> TransferResult:
        """Finish both streams and return the results of both ends."""
        for name in self._ends:
            if self._processes.alive(name):
                self._processes.signal(name, signal.SIGUSR1)
        for name in self._ends:
            self._processes.wait(name, END_S)
        self._processes.stop(*self._ends)
        far, near = (
            json.loads(_result(self._processes, name, self._out(name))) for name in self._ends
        )
        return TransferResult(
            connections=near["connections"],
            error=near["error"] or far["error"],
            uplink_bytes=far["received"],
            downlink_bytes=near["received"],
            retransmits=near["retransmits"] + far["retransmits"],
            samples=tuple((at, out, into) for at, out, into in near["samples"]),
        )

    def _out(self, name: str) -> Path:
        return self._lab.directory.path / f"{name}.json"


class Taps:
    """The tap process: probes as they come in at routers and on the radio segment."""

    def __init__(
        self,
        lab: Lab,
        processes: Processes,
        nodes: Sequence[str] | None = None,
        *,
        label: str = "tap",
    ) -> None:
        """Tap these nodes; None: all head-ends and the radio segment."""
        self._lab, self._processes, self._label = lab, processes, label
        default = [router.name for router in lab.topology.head_ends()] + [AIR]
        self._nodes = list(default if nodes is None else nodes)
        self._out = lab.directory.path / f"{label}.rec"

    def start(self) -> None:
        """Start; returns when every socket is open."""
        command = [sys.executable, "-m", "srv6dmm.lab.tap", "--out", str(self._out)]
        for node in self._nodes:
            command += ["--at", f"{node}={self._lab.namespace(node)}"]
        self._out.unlink(missing_ok=True)
        self._processes.start(self._label, command)
        self._processes.wait_for_word(self._label, "ready", START_S)

    def stop(self) -> Crossings:
        """End it and return what it saw."""
        self._processes.stop(self._label, term_s=END_S)
        data = _result(self._processes, self._label, self._out)
        try:
            return Crossings(decode_tap(data))
        except RecordingError as error:
            raise LabError(f"{self._out}: {error}") from error


def _result(processes: Processes, name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise LabError(f"{name} left no results; its log ends:\n{processes.tail(name)}") from None


def _cpu(number: int) -> int:
    usable = sorted(os.sched_getaffinity(0))
    return usable[number % len(usable)]
