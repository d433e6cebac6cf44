"""What the fast path tells the controller of a real domain: counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.running import Running, lossless, running, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def campus() -> Iterator[Running]:
    with running("campus.yaml", "fp", "ebpf") as up:
        yield up


def _traffic(campus: Running, mobile_node: str) -> dict[str, dict[str, int]]:
    """Return router -> packets, bytes, idle_ms of a node's first prefix."""
    [session] = campus.domain.get(f"/v1/mobile-nodes/{mobile_node}")["sessions"]
    return {counted["router"]: counted for counted in session["bindings"][0]["traffic"]}


def test_packets_are_counted_where_they_are_handled(campus: Running) -> None:
    campus.home("mn1", "ar1")
    with campus.probing("mn1") as results:
        campus.scenario.soft_handover("mn1", "ar3")
    lossless(results)
    received = sum(flow.report().received for flow in results[0].flows.values())
    assert received > 100
    # Downlink at the border router and where the node is.
    wait_for("counts of both", lambda: {"br1", "ar3"} <= _traffic(campus, "mn1").keys())
    wait_for("all", lambda: _traffic(campus, "mn1")["ar3"]["packets"] > received // 10)
    before = _traffic(campus, "mn1")
    assert before["br1"]["bytes"] > 40 * before["br1"]["packets"]
    wait_for("idle", lambda: _traffic(campus, "mn1")["br1"]["idle_ms"] > 2500)
    assert campus.domain.get("/v1/routers/br1")["fast_path"]["steered"] > received // 10
    page = campus.domain.client.get("/metrics").text
    assert 'srv6dmm_fastpath_packets_total{outcome="handled",reason="steered",router="br1"}' in page
