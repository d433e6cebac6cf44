"""A whole domain of real processes for a test, and questions about its kernels."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srv6dmm.agent.translate import Host, translate
from srv6dmm.core.planner import Planner
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
        self, mobile_node: str, correspondent: str = "cn", rate: float = 250
    ) -> Iterator[list[ProbeResults]]:
        """Send probes both ways during the block; the results are in the list afterwards."""
        address = self.scenario.wait_address(mobile_node)
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

    def extra_objects(self) -> list[str]:
        """Return every object of ours in any router's kernel that mobility has put there."""
        planner = Planner(self.lab.topology, MobilityParameters())
        found = []
        for router in self.lab.topology.routers():
            entries = planner.plan(router.name, State()).entries.values()
            settings = next(e for e in entries if isinstance(e, RouterSettings))
            host = Host(True, settings.core_interfaces[0])
            static = {i.identity for entry in entries for i in translate(entry, host)}
            kernel = LinuxKernel(self.lab.namespace(router.name))
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
def running(file: str, name: str) -> Iterator[Running]:
    """Bring a domain up for a block and take everything away afterwards."""
    name = f"{name}{os.getpid() % 1000}"
    lab = Lab.from_file(TOPOLOGIES / file, name)
    domain = LabDomain(lab)
    try:
        lab.up()
        domain.start()
        yield Running(lab, domain)
    finally:
        domain.close()
        take_down(name)


def lossless(results: list[ProbeResults]) -> None:
    """Assert that no probe was lost, doubled or overtaken, and that there were many."""
    for number, flow in results[0].flows.items():
        report = flow.report()
        assert report.sent > 50, f"flow {number} sent only {report.sent}"
        assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0), (number, report)
