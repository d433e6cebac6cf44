"""The demonstration: a campus at work, mobile nodes moving, every packet accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from srv6dmm.config import Mode
from srv6dmm.core.planner import Planner
from srv6dmm.core.topology import fixed_hosts
from srv6dmm.lab.assess import Talk, assess, summarise
from srv6dmm.lab.domain import LabDomain
from srv6dmm.lab.names import LabError, cell_ports
from srv6dmm.lab.network import Lab
from srv6dmm.lab.scenario import Move, Scenario
from srv6dmm.lab.traffic import Probes, Taps, TcpTransfer, conversations
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.topology import Role, Topology

SOFT_ROUNDS = 18
"""Soft hand-overs of each mobile node; three nodes make more than fifty."""
HARD_ROUNDS = 2
GAP_MS = 50
DWELL_S = 0.25
RATE_PPS = 250
TRANSFER_MBITS = 8


@dataclass(slots=True)
class Progress:
    """What a spectator is told: where everybody is, and what just happened."""

    stage: str = "starting"
    done: int = 0
    total: int = 1
    where: dict[str, str] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)


Watch = Callable[[Progress], None]


class Demo:
    """One run on one lab. `run` returns the report."""

    def __init__(self, lab: Lab, watch: Watch, mode: Mode = "netlink") -> None:
        self.lab = lab
        self.mode = mode
        self.topology = lab.topology
        self.planner = Planner(lab.topology, MobilityParameters())
        self._watch = watch
        self.progress = Progress()
        self._nodes = sorted(
            name for name, node in self.topology.nodes.items() if node.role is Role.MOBILE
        )
        self._routers = [node.name for node in self.topology.access_routers()]
        self._peers = sorted(
            name for name, node in self.topology.nodes.items() if node.role is Role.CORRESPONDENT
        )
        if not self._nodes or not self._peers:
            raise LabError("a demonstration needs mobile nodes and correspondents")
        self.peer = self._peers[0]
        self.entry = entry_router(self.topology, self.peer)
        """The head-end that a spectator is shown the segment lists of."""
        rounds = SOFT_ROUNDS + HARD_ROUNDS
        strays = sum(_stride(step) for step in range(rounds)) % len(self._routers) != 0
        self.progress.total = len(self._nodes) * (rounds + strays)

    def run(self) -> dict[str, Any]:
        """Build the domain, move everybody, take it all away, and return the report."""
        domain = LabDomain(self.lab, mode=self.mode)
        try:
            self._say("building namespaces and links")
            self.lab.up()
            self._say("starting the controller and an agent per router")
            domain.start()
            return self._play(domain)
        finally:
            self._say("taking everything away")
            domain.close()
            self.lab.down()

    def _play(self, domain: LabDomain) -> dict[str, Any]:
        scenario = Scenario(domain)
        self._say("mobile nodes attach and wait for their RAs")
        homes = {
            name: self._routers[number % len(self._routers)]
            for number, name in enumerate(self._nodes)
        }
        for name, router in homes.items():
            scenario.first_attach(name, router)
            self.progress.where[name] = router
        addresses = {name: scenario.wait_address(name) for name in self._nodes}
        pairs = [
            (name, addresses[name], self._peers[number // 2 % len(self._peers)])
            for number, name in enumerate(self._nodes)
        ]
        talks = conversations(self.lab, pairs)
        taps = Taps(self.lab, domain.processes)
        probes = Probes(self.lab, domain.processes, talks, rate_pps=RATE_PPS)
        transfer = TcpTransfer(
            self.lab,
            domain.processes,
            mobile_node=self._nodes[0],
            address=addresses[self._nodes[0]],
            correspondent=self._peers[0],
            megabits=TRANSFER_MBITS,
        )
        self._say("starting traffic")
        taps.start()
        probes.start()
        transfer.start()
        time.sleep(0.5)
        moves = self._move_everybody(scenario, homes)
        self._say("collecting what was received")
        time.sleep(0.5)
        over = time.monotonic_ns()
        results = probes.stop()
        tcp = transfer.stop()
        crossings = taps.stop()
        if crossings.drops or results.overruns:
            raise LabError(
                f"the measurement itself lost packets (tap {crossings.drops}, probes "
                f"{results.overruns}): the host is too busy; run it again with less load"
            )
        judged = {
            talk.mobile_node: Talk(
                talk, homes[talk.mobile_node], entry_router(self.topology, talk.correspondent)
            )
            for talk in talks
        }
        cells = cell_ports(self.topology)
        records = []
        for mobile, own in moves.items():
            ends = [move.start_ns for move in own[1:]] + [over]
            for move, until in zip(own, ends, strict=True):
                records.append(
                    (
                        move.event_ns,
                        assess(
                            move,
                            until,
                            judged[mobile],
                            results.flows,
                            crossings,
                            self.planner,
                            cells,
                        ),
                    )
                )
        records.sort(key=lambda entry: entry[0])
        handovers = [record for _, record in records]
        summary = summarise(handovers, self.mode)
        summary["probes_unsent"] = results.unsent
        return {
            "topology": self.topology.domain.name,
            "handovers": handovers,
            "tcp": {
                "survived": tcp.survived,
                "bytes": tcp.uplink_bytes + tcp.downlink_bytes,
                "connections": tcp.connections,
                "retransmits": tcp.retransmits,
                "error": tcp.error,
            },
            "summary": summary,
        }

    def _move_everybody(self, scenario: Scenario, homes: dict[str, str]) -> dict[str, list[Move]]:
        """Each node in a thread of its own: soft moves, hard ones, then home."""

        def travel(number: int, name: str) -> list[Move]:
            moves: list[Move] = []
            time.sleep(0.1 * number)
            here = self._routers.index(homes[name])
            for step in range(SOFT_ROUNDS + HARD_ROUNDS):
                here = (here + _stride(step)) % len(self._routers)
                target = self._routers[here]
                if step < SOFT_ROUNDS:
                    moves.append(scenario.soft_handover(name, target))
                else:
                    moves.append(scenario.hard_handover(name, target, GAP_MS))
                self._moved(moves[-1])
                time.sleep(DWELL_S)
            if self._routers[here] != homes[name]:
                moves.append(scenario.soft_handover(name, homes[name]))
                self._moved(moves[-1])
            return moves

        self._say("mobile nodes move")
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            runs = {
                name: pool.submit(travel, number, name) for number, name in enumerate(self._nodes)
            }
            return {name: run.result() for name, run in runs.items()}

    def _moved(self, move: Move) -> None:
        self.progress.where[move.mobile_node] = move.target
        self.progress.moves.append(move)
        self.progress.done += 1
        self._watch(self.progress)

    def _say(self, stage: str) -> None:
        self.progress.stage = stage
        self._watch(self.progress)


def _stride(step: int) -> int:
    """Two steps forward and one back: passes every router, and ping-pongs."""
    return 1 if step % 3 != 2 else -1


def entry_router(topology: Topology, correspondent: str) -> str:
    """Return the router that a correspondent hangs on. Raises LabError."""
    for router in topology.routers():
        if any(host.name == correspondent for host in fixed_hosts(topology, router.name)):
            return router.name
    raise LabError(f"{correspondent} hangs on no router")
