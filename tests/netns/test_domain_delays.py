"""A link that takes time, in a running domain: measured, shown, left by flows that want speed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.relay import slow_cable
from tests.netns.running import Running, running, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

HOLD_S = 2.0


@pytest.fixture
def campus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("SRV6DMM_DELAY__HOLD_S", str(HOLD_S))
    monkeypatch.setenv("SRV6DMM_AGENT_DELAY_PROBE_S", "0.2")
    with running("campus.yaml", "dl") as up:
        yield up


def link(campus: Running) -> dict[str, Any]:
    """Return the link of br1 and tr1."""
    links = campus.domain.get("/v1/topology")["links"]
    return next(one for one in links if (one["a"]["node"], one["b"]["node"]) == ("br1", "tr1"))


def way_out(campus: Running) -> str:
    """Return the interface by which the flow leaves br1, by the kernel's own word."""
    plan = campus.domain.get("/v1/routers/br1/plan")["entries"]
    (entry,) = (entry for entry in plan if entry["kind"] == "FlowSteering")
    interface = str(entry["lists"][0]["interface"])
    routes = campus.run("br1", "ip", "-6", "route", "show", "table", "all", "proto", "srv6dmm")
    first = entry["lists"][0]["segments"][0]
    assert any(first in line and f"dev {interface} " in line for line in routes.stdout.splitlines())
    return interface


def test_a_flow_leaves_a_link_that_is_slow_and_comes_back(campus: Running) -> None:
    campus.home("mn1", "ar1")
    client = campus.domain.client
    policy = {"candidates": [{"paths": [{"objective": "delay"}]}]}
    assert client.put("/v1/policies/quick", json=policy).status_code == 200
    rule = {"policy": "quick", "mobile_node": "mn1", "direction": "downlink"}
    assert client.put("/v1/flows/quick", json=rule, params={"wait": "applied"}).status_code == 200
    wait_for("measured", lambda: link(campus)["measured_delay_us"] is not None)
    assert link(campus)["measured_delay_us"] < 1000
    assert link(campus)["delay_in_use_us"] == 0
    # br1 - tr1 - ar1 and br1 - tr3 - ar1 have as many links: the name decides.
    assert way_out(campus) == "tr1"
    revision = campus.domain.get("/v1/topology")["revision"]

    spaces = [campus.lab.namespace(name) for name in ("br1", "tr1")]
    assert campus.run("br1", "ip", "link", "del", "tr1").returncode == 0
    with slow_cable((spaces[0], "tr1"), (spaces[1], "br1"), 0.005):
        wait_for("in use again", lambda: campus.domain.get("/v1/topology")["down"] == [], 30)
        wait_for("counted", lambda: link(campus)["delay_in_use_us"] > 4000, 30)
        shown = link(campus)
        print(f"5 ms: measured {shown['measured_delay_us']}, counted {shown['delay_in_use_us']} us")
        assert 5000 <= shown["delay_in_use_us"] < 8000
        assert campus.domain.get("/v1/topology")["revision"] > revision
        wait_for("moved", lambda: not campus.domain.unready() and way_out(campus) == "tr3")
        measures = campus.domain.get(
            "/v1/paths/explain?mn=mn1&dst=2001:db8:cafe::2&direction=downlink"
        )["candidates"][0]["paths"][0]
        assert measures["routers"] == ["br1", "tr3", "ar1"]
        assert measures["delay_us"] == 0
