"""`bench protection`: what a cut, a drain and a dead router cost traffic that is being steered.

A domain of real agents and kernels. Steered packets come from outside at an even pace; the
mobile node's side knows the longest time in which none came. A link is cut at its far end, so that
the router before it loses its carrier, as with a cable.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from srv6dmm.bench import frames, paced
from srv6dmm.bench.gap import GapSink
from srv6dmm.bench.report import environment, percentile
from srv6dmm.config import Mode
from srv6dmm.lab.domain import CONTROLLER, LabDomain, agent_name
from srv6dmm.lab.names import RADIO, LabError
from srv6dmm.lab.network import Lab, take_down
from srv6dmm.lab.scenario import Scenario

PPS = 120_000
LOCAL_MS, REMOTE_MS = 5.0, 50.0
"""To be reached: at the dead link, and by repairs of routers before it."""
_BYTES = 100
_BEFORE_S, _AFTER_S = 0.25, 0.45
_RESTARTED = 3
_NODE, _HOME = "mn1", "ar1"
MODES: tuple[Mode, ...] = ("netlink", "ebpf")
CASES = ("quiet", "drain", "head_end", "middle", "node", "node_middle")


@dataclass(frozen=True, slots=True)
class Cut:
    """What one cut cost."""

    sent: int
    lost: int
    gap_ms: float
    """Longest time without a packet at the receiver."""
    own_gap_ms: float
    """Longest time in which the sender sent none."""
    kpps: float

    @property
    def lost_ms(self) -> float:
        """How long packets were lost for, at the pace at which they were sent."""
        return self.lost / self.kpps


@dataclass(slots=True)
class Failure:
    """Something that fails: (router, interface) at the far ends, and agents that die with it."""

    ends: list[tuple[str, str]] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)


FAILURES = {
    "head_end": Failure([("tr1", "br1")]),
    "middle": Failure([("ar2", "tr1")]),
    "node": Failure([("tr1", peer) for peer in ("br1", "tr2", "tr3", "ar1", "ar2")], ["tr1"]),
    "node_middle": Failure(
        [("tr2", peer) for peer in ("tr1", "tr3", "ar2", "ar3", "ar4")], ["tr2"]
    ),
}
"""On the way br1 tr1 ar2, and br1 tr1 tr2 ar3. tr2 is a router without SIDs."""


class Protection:
    """One domain in one mode, with traffic towards a node that is away from home."""

    def __init__(self, topology: Path, name: str, mode: Mode) -> None:
        self.lab = Lab.from_file(topology, name)
        self.domain = LabDomain(self.lab, mode=mode)
        self._sink: GapSink | None = None
        self._mended = 0

    def up(self) -> None:
        """Bring all up. Raises LabError and what the lab raises."""
        self.lab.up()
        self.domain.start()
        self.scenario = Scenario(self.domain)
        self.scenario.first_attach(_NODE, _HOME)
        self.address = self.scenario.wait_address(_NODE)
        self._sink = GapSink(self.lab.namespace(_NODE), RADIO)

    def close(self) -> None:
        """Take all away."""
        if self._sink is not None:
            self._sink.close()
        self.domain.close()
        take_down(self.lab.name)

    def serve_at(self, router: str) -> None:
        """Have the node served by a router; its traffic goes on to its first address."""
        self.scenario.soft_handover(_NODE, router)
        self._until("the hand-over is over", lambda: not self.domain.unready())

    def measure(self, act: Callable[[], object]) -> Cut:
        """Send, act in the middle of it, and return what that cost."""
        assert self._sink is not None
        router, host = self.lab.namespace("br1"), self.lab.namespace("cn")
        macs = (_mac(host, "eth0"), _mac(router, "cn"))
        source = self.lab.topology.nodes["cn"].announces[0][2]
        frame = frames.plain(macs, source, self.address, _BYTES).data
        self._sink.reset(_BYTES)
        cores = sorted(os.sched_getaffinity(0))
        child = paced.send(host, "eth0", frame, PPS, _BEFORE_S + _AFTER_S, cores[-1])
        time.sleep(_BEFORE_S)
        act()
        sent = paced.sent(child.wait())
        arrived = self._sink.wait(sent.packets)
        return Cut(
            sent.packets,
            sent.packets - arrived.packets,
            arrived.longest_gap_ms,
            sent.longest_gap_ms,
            sent.kpps,
        )

    def cuts(self, name: str, count: int) -> Iterator[Cut]:
        """Measure one case again and again, each time from a domain in order."""
        if name == "quiet":
            for _ in range(count):
                yield self.measure(lambda: None)
            return
        if name == "drain":
            for number in range(count):
                yield self.measure(partial(self._drain, number % 2 == 0))
            if count % 2:
                self._drain(False)
            return
        failure = FAILURES[name]
        for _ in range(count):
            yield self.measure(partial(self._fail, failure))
            self._until("the failure is known", lambda: bool(self._down()))
            self._mend(failure)

    def _drain(self, drained: bool) -> None:
        link = {"endpoints": ["br1:tr1", "tr1:br1"], "drained": drained}
        answer = self.domain.client.patch(
            "/v1/topology", json={"topology": {"links": [link]}}, params={"wait": "applied"}
        )
        if not answer.is_success:
            raise LabError(f"drain br1:tr1: {answer.text}")

    def _fail(self, failure: Failure) -> None:
        self._set(failure, "down")
        for router in failure.agents:
            self.domain.kill(agent_name(router))

    def _mend(self, failure: Failure) -> None:
        """Mend, and wait until the link is used again.

        Now and then the controller is started anew, and with it the hold-down, which would grow
        to a minute.
        """
        self._mended += 1
        anew = self._mended % _RESTARTED == 0
        if anew:
            self.domain.kill(CONTROLLER)
        self._set(failure, "up")
        for router in failure.agents:
            self.domain.start_agent(router)
        if anew:
            self.domain.start_controller()
        self.domain.wait_ready()
        self._until("all links are in use again", lambda: not self._down())
        self._until("plans are applied", lambda: not self.domain.unready())
        time.sleep(0.3)

    def _down(self) -> list[str]:
        found: list[str] = self.domain.get("/v1/topology")["down"]
        return found

    def _set(self, failure: Failure, state: str) -> None:
        """Set the far ends up or down, those of one router with one command."""
        batches: dict[str, list[str]] = {}
        for router, interface in failure.ends:
            batches.setdefault(router, []).append(f"link set {interface} {state}\n")
        for router, lines in batches.items():
            subprocess.run(
                ["ip", "-n", self.lab.namespace(router), "-batch", "-"],
                input="".join(lines),
                text=True,
                check=True,
                capture_output=True,
            )

    @staticmethod
    def _until(what: str, true: Callable[[], bool], seconds: float = 70) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise LabError(f"not within {seconds:g} s: {what}")
            time.sleep(0.02)


@contextmanager
def protected(topology: Path, name: str, mode: Mode) -> Iterator[Protection]:
    """Bring a domain up for a block and take everything away afterwards."""
    domain = Protection(topology, name, mode)
    try:
        domain.up()
        yield domain
    finally:
        domain.close()


def run(
    topology: Path,
    cuts: int,
    only: tuple[str, ...] = (),
    modes: tuple[Mode, ...] = MODES,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the report of `bench protection`. Needs root."""
    cases: list[dict[str, Any]] = []
    for mode in modes:
        progress(f"{mode}: a domain comes up")
        with protected(topology, f"pr{mode[0]}{os.getpid() % 10_000}", mode) as domain:
            domain.serve_at("ar2")
            for name in CASES:
                if only and name not in only:
                    continue
                if name == "node_middle":
                    domain.serve_at("ar3")
                found: list[Cut] = []
                for cut in domain.cuts(name, cuts):
                    found.append(cut)
                    progress(f"{mode}: {name}, {len(found)} of {cuts}")
                cases.append(case(name, mode, found))
    return {"environment": environment("netlink, ebpf"), "cases": cases}


def case(name: str, mode: Mode, found: list[Cut]) -> dict[str, Any]:
    """Return the case of some cuts."""
    gaps = [cut.gap_ms for cut in found]
    lost = [cut.lost_ms for cut in found]
    return {
        "name": name,
        "mode": mode,
        "cuts": len(found),
        "kpps": sum(cut.kpps for cut in found) / len(found),
        "packets": sum(cut.sent for cut in found),
        "lost": sum(cut.lost for cut in found),
        "lost_per_cut": [cut.lost for cut in found],
        "gap_ms": _spread(gaps),
        "lost_ms": _spread(lost),
        "sender_gap_ms": _spread([cut.own_gap_ms for cut in found]),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "p50": percentile(values, 0.5),
        "p95": percentile(values, 0.95),
        "max": max(values),
    }


def _mac(network_namespace: str, device: str) -> str:
    shown = subprocess.run(
        ["ip", "-n", network_namespace, "-br", "link", "show", "dev", device],
        check=True,
        capture_output=True,
        text=True,
    )
    return shown.stdout.split()[2]
