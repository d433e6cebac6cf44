"""What the fast path tells the controller of a real domain: counts, and nodes that arrive."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath.layout import Hop
from srv6dmm.lab.domain import LabDomain
from srv6dmm.lab.names import RADIO
from srv6dmm.lab.network import Lab, take_down
from tests.netns.running import TOPOLOGIES, Running, forwarding, lossless, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def campus() -> Iterator[Running]:
    """A domain that detects mn1 and mn2 and knows mn3 by nothing."""
    name = f"fp{os.getpid() % 1000}"
    lab = Lab.from_file(TOPOLOGIES / "campus.yaml", name)
    domain = LabDomain(lab, mode="ebpf")
    domain.detected = {lab.topology.nodes[node].mac or "": node for node in ("mn1", "mn2")}
    try:
        lab.up()
        domain.start()
        yield Running(lab, domain)
    finally:
        domain.close()
        take_down(name)


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


def _solicit(campus: Running, mobile_node: str) -> None:
    """Have a node send what it sends first on a new link: a Router Solicitation (RFC 4861)."""
    with namespace.inside(campus.lab.namespace(mobile_node)):
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex(RADIO)
    with raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        raw.sendto(bytes([133, 0, 0, 0, 0, 0, 0, 0]), ("ff02::2", 0, 0, index))


def _serving(campus: Running, mobile_node: str) -> str | None:
    answer = campus.domain.client.get(f"/v1/mobile-nodes/{mobile_node}")
    if answer.status_code == 404:
        return None
    return str(answer.json()["sessions"][0]["serving"])


def test_a_solicitation_is_enough(campus: Running) -> None:
    """Nobody tells the controller anything: first attach and hand-over by what the node sends."""
    campus.scenario.radio.associate("mn2", "ar2")
    _solicit(campus, "mn2")
    wait_for("registered", lambda: _serving(campus, "mn2") == "ar2")
    campus.scenario.wait_address("mn2")
    epoch = campus.session("mn2")["epoch"]
    time.sleep(1.2)  # longer than the gap between two events of one node
    _solicit(campus, "mn2")
    with campus.probing("mn2") as results:
        campus.scenario.radio.associate("mn2", "ar4")
        _solicit(campus, "mn2")
        moved_at = time.monotonic_ns()
        wait_for("handed over", lambda: _serving(campus, "mn2") == "ar4", 3)
        wait_for("settled", lambda: campus.settled("mn2"))
        time.sleep(0.5)
    session = campus.session("mn2")
    assert session["epoch"] == epoch + 1, "one hand-over, and none by what it sent at home"
    for flow in results[0].flows.values():
        assert flow.first_received_after(moved_at + 500_000_000) is not None
        report = flow.report()
        assert report.duplicated == 0
        assert report.lost < report.sent // 4, report
    assert campus.drift() == []


def test_an_unknown_node_is_told_of(campus: Running) -> None:
    campus.scenario.radio.associate("mn3", "ar3")
    _solicit(campus, "mn3")

    def unknown() -> bool:
        page = campus.domain.client.get("/metrics").text
        return 'srv6dmm_detections_total{outcome="unknown"} 0.0' not in page

    wait_for("counted", unknown)
    assert _serving(campus, "mn3") is None


def test_the_next_agent_goes_on_detecting(campus: Running) -> None:
    """The ring buffer stays; whoever reads it next begins with what comes then."""
    campus.domain.kill("agent-ar1")
    campus.domain.restart("agent-ar1")
    wait_for("agent back", lambda: not campus.domain.unready(), 20)
    campus.scenario.radio.associate("mn2", "ar1")
    _solicit(campus, "mn2")
    wait_for("handed over", lambda: _serving(campus, "mn2") == "ar1", 5)


def test_detection_follows_the_mode(campus: Running) -> None:
    """Of the running agent: without the fast path nobody sees arrivals, with it again they are."""
    page = "/v1/routers/ar4/mode"
    for mode in ("netlink", "ebpf"):
        answer = campus.domain.client.put(page, json={"mode": mode})
        assert answer.status_code == 200, answer.text
        campus.scenario.radio.associate("mn2", "ar4")
        _solicit(campus, "mn2")
        if mode == "netlink":
            assert _serving(campus, "mn2") == "ar1"
            campus.scenario.radio.associate("mn2", "ar1")
    wait_for("handed over", lambda: _serving(campus, "mn2") == "ar4", 5)


def _resolved(campus: Running, router: str) -> dict[str, bytes]:
    """Return the link-layer addresses of the next hops that a router's programs know."""
    fast = campus.fast_path(router)
    assert fast is not None
    try:
        hops = map(Hop.unpack, fast._maps.read_all("hops").values())
        return {str(hop.next_hop): hop.mac for hop in hops if hop.resolved}
    finally:
        fast.close()


def test_next_hops_are_known_and_followed(campus: Running) -> None:
    """A neighbour that gets another link-layer address is followed as soon as ND tells."""
    campus.home("mn1", "ar3")
    campus.scenario.soft_handover("mn1", "ar2")
    wait_for("settled", lambda: campus.settled("mn1"))
    address = campus.address_of("mn1", "ar3")  # br1 steers it, by tr1
    hop = str(campus.lab.topology.nodes["tr1"].link_local)
    neighbour = ("br1", "ip", "-6", "neigh")

    def lossless_for(what: str, true: Callable[[], bool]) -> None:
        with forwarding(campus), campus.probing("mn1", address=address) as results:
            wait_for(what, true)
            time.sleep(0.5)
        lossless(results)

    lossless_for("known", lambda: hop in _resolved(campus, "br1"))
    before = _resolved(campus, "br1")[hop]
    fresh = bytes.fromhex("02aa00000077")
    try:
        campus.run("tr1", "ip", "link", "set", "br1", "address", fresh.hex(":"))
        told = ("dev", "tr1", "lladdr", fresh.hex(":"), "nud", "reachable")
        campus.run(*neighbour, "replace", hop, *told)
        wait_for("followed", lambda: _resolved(campus, "br1").get(hop) == fresh)
        lossless_for("still known", lambda: hop in _resolved(campus, "br1"))
        campus.run(*neighbour, "del", hop, "dev", "tr1")
        lossless_for("known again", lambda: _resolved(campus, "br1").get(hop) == fresh)
    finally:
        campus.run("tr1", "ip", "link", "set", "br1", "address", before.hex(":"))
        campus.run(*neighbour, "del", hop, "dev", "tr1")


def test_no_address_outlives_the_agent_that_follows_it(campus: Running) -> None:
    assert _resolved(campus, "br1")
    assert campus.domain.processes.stop("agent-br1") == []
    assert _resolved(campus, "br1") == {}
    campus.domain.restart("agent-br1")
    wait_for("known by the next", lambda: bool(_resolved(campus, "br1")), 20)
