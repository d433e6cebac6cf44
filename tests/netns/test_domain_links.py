"""Links that are drained, cut and mended under traffic, and routers that fall dead."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from srv6dmm.lab.analysis import Crossings
from srv6dmm.lab.domain import CONTROLLER
from srv6dmm.lab.traffic import Conversation, ProbeResults, Probes, Taps, conversations
from tests.netns.running import MODES, Running, running, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

RATE_PPS = 1000
LOCAL_MS, REMOTE_MS = 5.0, 50.0
CUTS = 3


@pytest.fixture(scope="module", params=MODES)
def campus(request: pytest.FixtureRequest) -> Iterator[Running]:
    """mn1 is away from home: at ar2, with the prefix of ar1."""
    with running("campus.yaml", "ln", request.param) as up:
        up.home("mn1", "ar1")
        up.scenario.soft_handover("mn1", "ar2")
        wait_for("settled", lambda: up.settled("mn1"))
        yield up


@contextmanager
def traffic(campus: Running) -> Iterator[tuple[Conversation, list[ProbeResults], list[Crossings]]]:
    """Probe both ways between the steered address and the correspondent outside."""
    address = campus.address_of("mn1", "ar1")
    (talk,) = conversations(campus.lab, [("mn1", address, "cn")])
    taps = Taps(campus.lab, campus.domain.processes, ("tr1", "tr3"))
    probes = Probes(campus.lab, campus.domain.processes, [talk], rate_pps=RATE_PPS)
    results: list[ProbeResults] = []
    seen: list[Crossings] = []
    taps.start()
    probes.start()
    time.sleep(0.3)
    try:
        yield talk, results, seen
        time.sleep(0.3)
    finally:
        results.append(probes.stop())
        seen.append(taps.stop())


def down(campus: Running) -> list[str]:
    found: list[str] = campus.domain.get("/v1/topology")["down"]
    return found


def cut(campus: Running, router: str, interface: str) -> None:
    """Take a link down at one end: the other one loses its carrier."""
    done = campus.run(router, "ip", "link", "set", interface, "down")
    assert done.returncode == 0, done.stderr


def mend(campus: Running, router: str, interface: str) -> None:
    done = campus.run(router, "ip", "link", "set", interface, "up")
    assert done.returncode == 0, done.stderr


def drain(campus: Running, drained: bool) -> None:
    change(campus, {"endpoints": ["br1:tr1", "tr1:br1"], "drained": drained})


def change(campus: Running, link: dict[str, Any]) -> None:
    """Patch a link, and wait until every router has what follows."""
    answer = campus.domain.client.patch(
        "/v1/topology", json={"topology": {"links": [link]}}, params={"wait": "applied"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["applied"] is True


def test_a_link_is_drained_and_taken_again_without_loss(campus: Running) -> None:
    with traffic(campus) as (talk, results, seen):
        drain(campus, True)
        time.sleep(0.2)
        drained_from = time.monotonic_ns()
        time.sleep(0.5)
        drained_until = time.monotonic_ns()
        drain(campus, False)
        time.sleep(0.5)
    for number, flow in results[0].flows.items():
        report = flow.report()
        assert report.sent > 1000
        # The spare way is longer, so packets may be overtaken when they are moved back.
        assert (report.lost, report.duplicated) == (0, 0), (number, report)
    window = (drained_from, drained_until)
    for flow_number in (talk.uplink_flow, talk.downlink_flow):
        assert seen[0].packets_through("tr3", flow_number, window) > 300
    assert seen[0].packets_through("tr1", talk.downlink_flow, window) == 0
    assert campus.drift() == []


@pytest.mark.parametrize(
    ("router", "interface", "local"),
    [("tr1", "br1", "downlink"), ("tr1", "ar2", "uplink")],
    ids=["at the border", "at the access router"],
)
def test_a_cut_link_costs_milliseconds(
    campus: Running, router: str, interface: str, local: str
) -> None:
    """The transit router's end is set down: the head-end loses its carrier, and has a backup.

    In the other direction the transit router stands before the dead link, and has a repair.
    """
    lost: dict[str, list[int]] = {"uplink": [], "downlink": []}
    for _ in range(CUTS):
        with traffic(campus) as (talk, results, _):
            time.sleep(0.2)
            cut(campus, router, interface)
            wait_for("noticed", lambda: len(down(campus)) == 2)
            time.sleep(0.5)
        mend(campus, router, interface)
        wait_for("mended", lambda: down(campus) == [], 60)
        time.sleep(0.3)
        flows = results[0].flows
        lost["uplink"].append(flows[talk.uplink_flow].report().lost)
        lost["downlink"].append(flows[talk.downlink_flow].report().lost)
    remote = "downlink" if local == "uplink" else "uplink"
    print(f"{campus.domain.mode}: {local} at the dead link {lost[local]}, behind {lost[remote]}")
    assert statistics.median(lost[local]) <= LOCAL_MS * RATE_PPS / 1000, lost
    assert statistics.median(lost[remote]) <= REMOTE_MS * RATE_PPS / 1000, lost
    assert campus.drift() == []


@pytest.mark.parametrize(("metric", "segments"), [(35, 0), (200, 2)], ids=["next hop", "list"])
def test_packets_of_full_size_are_repaired(campus: Running, metric: int, segments: int) -> None:
    """Encapsulated already, by a transit router to which nobody tells anything.

    At tr1, ar1 is reached by tr3 as well: plainly, or with a list where tr3 would send back.
    """
    if not any(s["mobile_node"] == "mn2" for s in _sessions(campus)):
        campus.home("mn2", "ar2")
        campus.scenario.soft_handover("mn2", "ar1")
        wait_for("settled", lambda: campus.settled("mn2"))
    address = campus.address_of("mn2", "ar2")
    change(campus, {"endpoints": ["ar1:tr3", "tr3:ar1"], "metric": metric})
    repair = campus.run("tr1", "ip", "-6", "route", "show", "fc00:0:a1::/48", "metric", "202")
    assert ("segs 2" in repair.stdout) == bool(segments), repair.stdout
    size = int(campus.run("mn2", "cat", "/proc/sys/net/ipv6/conf/radio0/mtu").stdout)
    assert size == 1500
    campus.domain.kill(CONTROLLER)
    cut(campus, "ar1", "tr1")
    try:
        said = campus.run(
            "cn",
            *("ping", "-6", "-M", "do", "-c", "5", "-i", "0.2", "-W", "1"),
            *("-s", str(size - 48), str(address)),
        ).stdout
    finally:
        mend(campus, "ar1", "tr1")
        campus.domain.restart(CONTROLLER)
        campus.domain.wait_ready()
    assert "5 received" in said, said
    wait_for("mended", lambda: down(campus) == [], 60)
    change(campus, {"endpoints": ["ar1:tr3", "tr3:ar1"], "metric": 35})
    assert campus.drift() == []


def _sessions(campus: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = campus.domain.get("/v1/mobile-nodes")["mobile_nodes"]
    return found


def test_mending_a_link_costs_nothing(campus: Running) -> None:
    """Routes move back make before break, long after the link is up."""
    cut(campus, "tr1", "br1")
    wait_for("noticed", lambda: len(down(campus)) == 2)
    with traffic(campus) as (_, results, _):
        mend(campus, "tr1", "br1")
        wait_for("mended", lambda: down(campus) == [], 60)
        time.sleep(0.5)
    for number, flow in results[0].flows.items():
        report = flow.report()
        assert (report.lost, report.duplicated) == (0, 0), (number, report)


def test_a_link_that_flaps_does_not_move_packets(campus: Running) -> None:
    """It is left once. While it comes and goes, packets stay where they went, and none is lost."""
    cut(campus, "tr1", "br1")
    wait_for("noticed", lambda: len(down(campus)) == 2)
    with traffic(campus) as (talk, results, seen):
        flapping_from = time.monotonic_ns()
        for _ in range(10):
            mend(campus, "tr1", "br1")
            time.sleep(0.15)
            cut(campus, "tr1", "br1")
            assert len(down(campus)) == 2
            time.sleep(0.05)
        flapping_until = time.monotonic_ns()
        mend(campus, "tr1", "br1")
    for number, flow in results[0].flows.items():
        report = flow.report()
        assert report.sent > 1000
        assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0), (number, report)
    window = (flapping_from, flapping_until)
    assert seen[0].packets_through("tr3", talk.downlink_flow, window) > 1000
    assert seen[0].packets_through("tr1", talk.downlink_flow, window) == 0
    wait_for("mended", lambda: down(campus) == [], 90)
    assert campus.drift() == []
