"""A whole domain of real processes for a test, and questions about its kernels."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from srv6dmm.agent import fastpath
from srv6dmm.agent.host import Host
from srv6dmm.agent.translate import translate
from srv6dmm.config import Mode
from srv6dmm.core.planner import Planner
from srv6dmm.dataplane.combined import CombinedKernel
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import InterfaceAddress, LinkAddress, Sysctl, TunnelSource
from srv6dmm.lab.domain import LabDomain
from srv6dmm.lab.network import Lab, take_down
from srv6dmm.lab.scenario import Scenario
from srv6dmm.lab.traffic import Conversation, ProbeResults, Probes, conversations
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import RouterSettings
from srv6dmm.model.state import State

TOPOLOGIES = Path(__file__).parents[2] / "deploy" / "topologies"
MODES: tuple[Mode, ...] = ("netlink", "ebpf")
HANDLED = (Reason.STEERED, Reason.DELIVERED, Reason.ENDPOINT, Reason.REDIRECTED)
"""What the programs count of packets that they sent on themselves."""


class Running:
    """One lab with its controller and agents."""

    def __init__(self, lab: Lab, domain: LabDomain) -> None:
        self.lab = lab
        self.domain = domain
        self.scenario = Scenario(domain)

    def home(self, mobile_node: str, router: str) -> None:
        """Attach a node for the first time and wait for its address."""
        self.scenario.first_attach(mobile_node, router)
        self.scenario.wait_address(mobile_node)

    @contextmanager
    def probing(
        self,
        mobile_node: str,
        correspondent: str = "cn",
        rate: float = 250,
        address: IPv6Address | None = None,
    ) -> Iterator[list[ProbeResults]]:
        """Send probes both ways during the block; the results are in the list afterwards.

        To and from an address of the node's, the one for new flows if none is given.
        """
        address = address or self.scenario.wait_address(mobile_node)
        talks = conversations(self.lab, [(mobile_node, address, correspondent)])
        probes = Probes(self.lab, self.domain.processes, talks, rate_pps=rate)
        probes.start()
        found: list[ProbeResults] = []
        try:
            time.sleep(0.3)
            yield found
            time.sleep(0.3)
        finally:
            found.append(probes.stop())

    def talk(self, mobile_node: str, correspondent: str) -> tuple[Conversation, ...]:
        """Return a conversation of a node's present address."""
        address = self.scenario.wait_address(mobile_node)
        return conversations(self.lab, [(mobile_node, address, correspondent)])

    def address_of(self, mobile_node: str, anchor: str) -> IPv6Address:
        """Return a node's address out of the pool of a router."""
        pool = self.lab.topology.nodes[anchor].pools[0]
        return next(
            entry.address for entry in self.scenario.addresses(mobile_node) if entry.address in pool
        )

    def run(self, node: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a node's namespace."""
        return subprocess.run(
            ["ip", "netns", "exec", self.lab.namespace(node), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def session(self, mobile_node: str) -> dict[str, Any]:
        """Return a node's first session as the API shows it."""
        found: dict[str, Any] = self.domain.get(f"/v1/mobile-nodes/{mobile_node}")["sessions"][0]
        return found

    def settled(self, mobile_node: str) -> bool:
        """Tell whether a node's roll-out is over and every router has its plan."""
        session = self.session(mobile_node)
        return session["rollout"] == "stable" and not self.domain.unready()

    def drift(self) -> list[str]:
        """Have every router read its kernel back; return what was not as planned."""
        found = []
        for router in self.lab.topology.routers():
            answer = self.domain.client.post(f"/v1/routers/{router.name}/resync")
            assert answer.status_code == 200, answer.text
            report = answer.json()
            for kind in ("missing", "different", "superfluous"):
                found += [f"{router.name}: {kind} {key}" for key in report[kind]]
        return found

    def fast_path(self, router: str) -> FastPath | None:
        """Return a router's fast path to look at, to be closed; None where there is none."""
        found = fastpath.present(self.lab.namespace(router))
        assert len(found) <= 1, f"{router} has pins of {len(found)} layouts"
        return found[0] if found else None

    def reasons(self, router: str) -> Counter[Reason]:
        """Return what a router's programs have counted; nothing where there are none."""
        fast = self.fast_path(router)
        if fast is None:
            return Counter()
        try:
            return Counter(fast.reasons())
        finally:
            fast.close()

    def handled(self) -> int:
        """Return how many times a packet was sent on by a program, in the whole domain."""
        return sum(
            self.reasons(router.name)[reason]
            for router in self.lab.topology.routers()
            for reason in HANDLED
        )

    def extra_objects(self) -> list[str]:
        """Return every object of ours in any router's kernel that mobility has put there."""
        planner = Planner(self.lab.topology, MobilityParameters())
        found = []
        for router in self.lab.topology.routers():
            entries = planner.plan(router.name, State()).entries.values()
            settings = next(e for e in entries if isinstance(e, RouterSettings))
            host = Host.of(settings, True, self.domain.mode == "ebpf")
            static = {i.identity for entry in entries for i in translate(entry, host)}
            space = self.lab.namespace(router.name)
            kernel = CombinedKernel(LinuxKernel(space), self.fast_path(router.name))
            held = kernel.read()
            kernel.close()
            found += [f"{router.name}: {identity}" for identity in held if identity not in static]
            missing = static - held.keys()
            found += [
                f"{router.name}: missing {item.identity}"
                for entry in entries
                for item in translate(entry, host)
                if item.identity in missing
                and not isinstance(item, Sysctl | LinkAddress | TunnelSource | InterfaceAddress)
            ]
        return found


def wait_for(what: str, true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so; fail saying what when it does not become so in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


@contextmanager
def running(file: str, name: str, mode: Mode = "netlink") -> Iterator[Running]:
    """Bring a domain up for a block and take everything away afterwards."""
    name = f"{name}{mode[0]}{os.getpid() % 1000}"
    lab = Lab.from_file(TOPOLOGIES / file, name)
    domain = LabDomain(lab, mode=mode)
    try:
        lab.up()
        domain.start()
        yield Running(lab, domain)
    finally:
        domain.close()
        take_down(name)


@contextmanager
def forwarding(domain: Running, at_least: int = 50) -> Iterator[None]:
    """Assert that packets of a block are forwarded by the programs in mode ebpf, else by none."""
    before = domain.handled()
    yield
    handled = domain.handled() - before
    if domain.domain.mode == "ebpf":
        assert handled >= at_least, f"the programs forwarded {handled} packets"
    else:
        assert handled == 0


def lossless(results: list[ProbeResults]) -> None:
    """Assert that no probe was lost, doubled or overtaken, and that there were many."""
    for number, flow in results[0].flows.items():
        report = flow.report()
        assert report.sent > 50, f"flow {number} sent only {report.sent}"
        assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0), (number, report)
