"""A domain at work: anchors cut off, kernels that refuse, drift, and nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from srv6dmm.config import Mode
from srv6dmm.dataplane.objects import PROTOCOL
from srv6dmm.lab.traffic import Probes, Taps
from tests.netns.running import MODES, Running, lossless, running, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=MODES)
def campus(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running("campus.yaml", "dom", request.param) as up:
        yield up


def test_the_old_anchor_may_be_cut_off(campus: Running) -> None:
    """Links of the anchor go down after a hand-over: the flow neither stops nor crosses it."""
    campus.home("mn1", "ar1")
    taps = Taps(campus.lab, campus.domain.processes)
    talk = campus.talk("mn1", "cn")[0]
    taps.start()
    probes = Probes(campus.lab, campus.domain.processes, [talk], rate_pps=250)
    handled = campus.handled()
    probes.start()
    move = campus.scenario.soft_handover("mn1", "ar3")
    for interface in ("tr1", "tr3", "acc0"):
        assert campus.run("ar1", "ip", "link", "set", interface, "down").returncode == 0
    cut = time.monotonic_ns()
    try:
        time.sleep(0.5)
        again = campus.scenario.soft_handover("mn1", "ar2")
        time.sleep(0.5)
    finally:
        for interface in ("tr1", "tr3", "acc0"):
            campus.run("ar1", "ip", "link", "set", interface, "up")
    results = probes.stop()
    crossings = taps.stop()
    lossless([results])
    handled = campus.handled() - handled
    assert handled > 100 if campus.domain.mode == "ebpf" else handled == 0
    assert crossings.drops == 0
    for number in (talk.downlink_flow, talk.uplink_flow):
        assert crossings.packets_through("ar1", number, (move.end_ns, 1 << 62)) == 0
        assert results.flows[number].first_received_after(cut) is not None
    assert set(crossings.hops("ar2", talk.downlink_flow, (again.answered_ns, 1 << 62))) == {2}
    wait_for("ar1 whole again", lambda: campus.drift() == [], 15)


def test_a_kernel_that_refuses_aborts_the_handover(campus: Running) -> None:
    """The access interface of the new router is gone: the old path stays, the caller is told."""
    campus.home("mn2", "ar2")
    namespace = campus.lab.namespace("ar4")
    air = campus.lab.namespace("air")
    with campus.probing("mn2") as results:
        before = campus.session("mn2")
        moved = campus.run("ar4", "ip", "link", "set", "acc0", "netns", air, "name", "parked")
        assert moved.returncode == 0, moved.stderr
        try:
            answer = campus.domain.client.post(
                "/v1/attach",
                params={"wait": "applied"},
                json={
                    "event_id": "refused-1",
                    "mobile_node": "mn2",
                    "access_router": "ar4",
                    "link_layer_address": "02:00:00:00:01:02",
                },
            )
        finally:
            campus.run("air", "ip", "link", "set", "parked", "netns", namespace, "name", "acc0")
            campus.run("ar4", "ip", "link", "set", "acc0", "up")
        assert answer.status_code == 409, answer.text
        problem = answer.json()
        assert problem["type"] == "urn:srv6dmm:problem:handover-aborted"
        assert problem["router"] == "ar4"
        assert "acc0" in problem["detail"]
        wait_for("back on the old path", lambda: campus.session("mn2")["serving"] == "ar2")
        after = campus.session("mn2")
        assert after["bindings"] == before["bindings"]
        assert after["epoch"] > before["epoch"]
    lossless(results)
    wait_for("no drift", lambda: campus.drift() == [], 15)


def test_drift_is_repaired_and_foreign_routes_are_left_alone(campus: Running) -> None:
    campus.home("mn3", "ar3")
    campus.scenario.soft_handover("mn3", "ar4")
    prefix = next(b["prefix"] for b in campus.session("mn3")["bindings"] if b["anchor"] == "ar3")
    foreign = ["2001:db8:f00::/48", "via", "fe80::1234", "dev", "tr1", "proto", "static"]
    assert campus.run("br1", "ip", "-6", "route", "add", *foreign).returncode == 0
    stray = ["2001:db8:bad::/64", "dev", "tr1", "proto", str(PROTOCOL), "metric", "201"]
    assert campus.run("br1", "ip", "-6", "route", "add", *stray).returncode == 0
    gone = campus.run("br1", "ip", "-6", "route", "del", prefix, "proto", str(PROTOCOL))
    assert gone.returncode == 0, gone.stderr

    def shown() -> str:
        return campus.run("br1", "ip", "-6", "route", "show").stdout

    wait_for("steering is back", lambda: f"{prefix}" in shown(), 5)
    wait_for("the stray route is gone", lambda: "2001:db8:bad::" not in shown(), 5)
    assert "2001:db8:f00::/48" in shown()
    assert campus.drift() == []
    campus.run("br1", "ip", "-6", "route", "del", *foreign)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_when_everybody_has_gone(
    monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    monkeypatch.setenv("SRV6DMM_MOBILITY__MIN_DELAY_BEFORE_DELETE_MS", "200")
    monkeypatch.setenv("SRV6DMM_MOBILITY__VALID_LIFETIME_S", "1")
    monkeypatch.setenv("SRV6DMM_MOBILITY__PREFERRED_LIFETIME_S", "1")
    with running("minimal.yaml", "lve", mode) as domain:
        assert domain.extra_objects() == []
        domain.scenario.first_attach("mn1", "ar1")
        domain.scenario.soft_handover("mn1", "ar2")
        assert domain.extra_objects() != []
        domain.scenario.detach("mn1", "ar2")
        wait_for(
            "released", lambda: domain.domain.get("/v1/mobile-nodes") == {"mobile_nodes": []}, 5
        )
        wait_for("quarantine over", lambda: _prefixes(domain) == 0, 5)
        wait_for("nothing left", lambda: domain.extra_objects() == [], 5)
        assert domain.drift() == []


def _prefixes(domain: Running) -> int:
    text = domain.domain.client.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("srv6dmm_prefixes{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)
