"""A whole small domain: controller, agents, traffic, taps, and mobile nodes that move."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from srv6dmm.core.paths import ShortestPaths
from srv6dmm.lab.analysis import Crossings
from srv6dmm.lab.capture import capture
from srv6dmm.lab.domain import CONTROLLER, LabDomain, agent_name
from srv6dmm.lab.names import LabError
from srv6dmm.lab.network import Lab
from srv6dmm.lab.recordings import HOP_LIMIT, MAGIC
from srv6dmm.lab.scenario import Refused, Scenario
from srv6dmm.lab.traffic import (
    Conversation,
    ProbeResults,
    Probes,
    Taps,
    TcpTransfer,
    conversations,
)

pytestmark = pytest.mark.root

MINIMAL = Path(__file__).parents[2] / "deploy/topologies/minimal.yaml"
SETTLE_NS = 200_000_000


@pytest.fixture(scope="module")
def scenario() -> Iterator[Scenario]:
    lab = Lab.from_file(MINIMAL, f"d{os.getpid() % 100_000}")
    lab.up()
    domain = LabDomain(lab)
    try:
        domain.start()
        made = Scenario(domain)
        made.first_attach("mn1", "ar1")
        made.wait_address("mn1")
        yield made
    finally:
        domain.close()
        lab.down()


class Measurement:
    """Probes both ways, taps and a TCP transfer between mn1 and cn while a block runs."""

    results: ProbeResults
    crossings: Crossings

    def __init__(self, scenario: Scenario) -> None:
        lab, processes = scenario.lab, scenario.domain.processes
        address = scenario.wait_address("mn1")
        talks = conversations(lab, [("mn1", address, "cn")])
        self.talk: Conversation = talks[0]
        self.taps = Taps(lab, processes)
        self.probes = Probes(lab, processes, talks, rate_pps=500)
        self.tcp = TcpTransfer(
            lab, processes, mobile_node="mn1", address=address, correspondent="cn", megabits=4
        )

    def __enter__(self) -> Measurement:
        self.taps.start()
        self.probes.start()
        self.tcp.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.transfer = self.tcp.stop()
        self.results = self.probes.stop()
        self.crossings = self.taps.stop()

    def assert_sound(self) -> None:
        """The measurement itself dropped nothing."""
        assert (self.results.overruns, self.crossings.drops) == (0, 0)


def test_soft_handovers_lose_and_reorder_nothing(scenario: Scenario) -> None:
    moves = []
    with Measurement(scenario) as measured:
        for number in range(6):
            moves.append(scenario.soft_handover("mn1", ("ar2", "ar1")[number % 2]))
            time.sleep(0.1)
    measured.assert_sound()
    for flow in measured.results.flows.values():
        report = flow.report()
        assert report.sent > 1000
        assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0)
    assert measured.transfer.survived
    assert min(measured.transfer.uplink_bytes, measured.transfer.downlink_bytes) > 500_000
    paths = ShortestPaths(scenario.lab.topology)
    for move in moves:
        assert move.source is not None
        down = measured.talk.downlink_flow
        # From the end of the move back to when the old cell was let go, nothing is on its way.
        after = (move.end_ns - 50_000_000, move.end_ns)
        assert measured.crossings.packets_through(move.target, down, after) > 10
        assert measured.crossings.packets_through(move.source, down, after) == 0
        hops = len(paths.path("br1", move.target)) - 1
        assert set(measured.crossings.hops(move.target, down, after)) == {hops}
        first = measured.crossings.first_through(
            "air", down, move.start_ns, interface=f"cell-{move.target}"
        )
        assert first is not None
        assert first[0] < move.answered_ns + SETTLE_NS
        # One encapsulation to where the prefix was not assigned, none at home.
        overhead = 0 if move.target == "ar1" else 40
        assert set(measured.crossings.overheads(move.target, down, after)) == {overhead}


def test_what_arrives_is_what_the_path_makes_of_it(scenario: Scenario) -> None:
    scenario.radio.associate("mn1", scenario.radio.where("mn1").uplink or "ar1")
    with Measurement(scenario) as measured:
        time.sleep(0.5)
    measured.assert_sound()
    # At home all is plain forwarding: three routers, each takes one.
    up = measured.results.flows[measured.talk.uplink_flow]
    assert set(up.hop_limits()) == {HOP_LIMIT - 3}
    assert up.report().lost == 0
    assert up.report().sent > 200


def test_a_hard_handover_loses_only_while_there_is_no_way(scenario: Scenario) -> None:
    with Measurement(scenario) as measured:
        time.sleep(0.3)
        out = scenario.hard_handover("mn1", "ar2", gap_ms=50)
        time.sleep(0.5)
        back = scenario.hard_handover("mn1", "ar1", gap_ms=0)
        time.sleep(0.3)
    measured.assert_sound()
    for flow in measured.results.flows.values():
        whole = flow.report()
        inside = [flow.report((move.start_ns - 5_000_000, move.end_ns)) for move in (out, back)]
        assert whole.lost == sum(report.lost for report in inside)
        assert inside[0].lost >= 20  # 50 ms of 500 packets a second, and what was on its way
        assert inside[0].longest_gap_ms >= 50
        assert (whole.duplicated, whole.reordered) == (0, 0)
    assert measured.transfer.survived


@pytest.mark.parametrize("name", [agent_name("ar1"), agent_name("tr1"), CONTROLLER])
def test_a_kill_loses_no_packet(scenario: Scenario, name: str) -> None:
    domain = scenario.domain
    with Measurement(scenario) as measured:
        time.sleep(0.2)
        domain.kill(name)
        assert not domain.processes.alive(name)
        with pytest.raises(LabError, match=f"{name} ended; its log ends:"):
            domain.wait_ready(5)
        time.sleep(0.2)
        domain.restart(name)
        domain.wait_ready(30)
        moved = scenario.soft_handover("mn1", "ar2")
        scenario.soft_handover("mn1", "ar1")
    assert moved.answer["outcome"] == "handover"
    measured.assert_sound()
    for flow in measured.results.flows.values():
        report = flow.report()
        assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0)
    assert measured.transfer.survived


def test_a_capture_shows_the_packets(scenario: Scenario, tmp_path: Path) -> None:
    from scapy.layers.inet6 import UDP, IPv6
    from scapy.utils import PcapNgReader

    file = tmp_path / "out.pcapng"
    target = scenario.lab.namespace("cn")
    going = threading.Event()
    going.set()
    with file.open("wb") as output:
        thread = threading.Thread(
            target=capture, args=(target, "eth0", output), kwargs={"running": going.is_set}
        )
        thread.start()
        while not file.stat().st_size:  # the header is written once the socket is open
            assert thread.is_alive()
            time.sleep(0.01)
        with Measurement(scenario) as measured:
            time.sleep(0.2)
        going.clear()
        thread.join(20)
    talk = measured.talk
    packets = [packet for packet in PcapNgReader(str(file)) if packet.haslayer(UDP)]
    probes = [
        packet for packet in packets if bytes(packet[UDP].payload)[:4] == MAGIC.to_bytes(4, "big")
    ]
    sent = sum(flow.report().sent for flow in measured.results.flows.values())
    assert len(probes) == sent
    assert {packet[IPv6].src for packet in probes} == {str(talk.address), str(talk.remote)}
    with (
        pytest.raises(LabError, match=r"cannot capture at 'eth9'.*the node has"),
        (tmp_path / "none").open("wb") as output,
    ):
        capture(target, "eth9", output, duration_s=0.1)


def test_refusals_reach_the_caller(scenario: Scenario) -> None:
    with pytest.raises(LabError, match=r"POST /v1/attach: 4\d\d The router is .*: 'ar9'"):
        scenario.attach("mn1", "ar9")
    with pytest.raises(LabError, match="no mobile node 'mn7'"):
        scenario.attach("mn7", "ar1")
    with pytest.raises(LabError, match="no usable address of 2001:db8:dead::/64"):
        scenario.wait_address("mn1", 0.1, prefix="2001:db8:dead::/64")


def test_a_refused_move_lets_go_of_the_new_cell(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Refused("no")

    before = scenario.radio.where("mn1")
    monkeypatch.setattr(scenario, "attach", refuse)
    with pytest.raises(Refused):
        scenario.soft_handover("mn1", "ar2" if before.uplink == "ar1" else "ar1")
    assert scenario.radio.where("mn1") == before
