"""Flows of one mobile node on paths of their own, before, while and after it moves."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.lab.analysis import Crossings, Flow
from srv6dmm.lab.traffic import Conversation, Probes, Taps, conversations
from tests.netns.running import MODES, Running, running, wait_for

pytestmark = pytest.mark.root

AROUND = {"low": "tr3", "high": "tr1"}
"""Policy -> the router that its flows do not pass."""
PORTS = {"low": 7000, "high": 7001}
TRANSIT = ("tr1", "tr2", "tr3")


@pytest.fixture(scope="module", params=MODES)
def campus(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running("campus.yaml", "fl", request.param) as up:
        up.home("mn1", "ar1")
        up.home("mn2", "ar3")
        yield up


def put(campus: Running, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Put a policy or a rule and wait until every router has it."""
    answer = campus.domain.client.put(f"/v1/{path}", json=body, params={"wait": "applied"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["applied"] is True
    found: dict[str, Any] = answer.json()
    return found


def rules(campus: Running, node: str) -> None:
    """Give a node two flows with a policy each."""
    for policy, avoided in AROUND.items():
        constraints = {"avoid_routers": [avoided]}
        put(
            campus,
            f"policies/{policy}",
            {"candidates": [{"paths": [{"constraints": constraints}]}]},
        )
        ports = [PORTS[policy], PORTS[policy]]
        match = {"protocol": 17, "own_ports": ports, "peer_ports": ports}
        put(campus, f"flows/{policy}", {"policy": policy, "mobile_node": node, "match": match})


def lossless(flows: dict[int, Flow]) -> None:
    for number, flow in flows.items():
        report = flow.report()
        assert report.sent > 200
        assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0), (number, report)


def numbers(talk: Conversation) -> tuple[int, int]:
    return talk.uplink_flow, talk.downlink_flow


def test_two_flows_keep_two_paths_while_their_node_moves(campus: Running) -> None:
    """Not one packet on the other's path, and not one lost, over three soft hand-overs."""
    rules(campus, "mn1")
    address = campus.scenario.wait_address("mn1")
    talks = conversations(campus.lab, [("mn1", address, "cn"), ("mn1", address, "cn")])
    taps = Taps(campus.lab, campus.domain.processes, TRANSIT)
    probes = Probes(campus.lab, campus.domain.processes, talks, rate_pps=250)
    before = fast_reasons(campus)
    taps.start()
    probes.start()
    time.sleep(0.3)
    moved = [time.monotonic_ns()]
    for router in ("ar2", "ar3", "ar1"):  # to ar4 no list can avoid tr3: tr2 has no SIDs
        campus.scenario.soft_handover("mn1", router)
        wait_for("settled", lambda: campus.settled("mn1"))
        time.sleep(0.3)
        moved.append(time.monotonic_ns())
    results = probes.stop()
    crossings = taps.stop()
    assert crossings.drops == 0
    lossless(results.flows)
    if campus.domain.mode == "ebpf":
        grown = fast_reasons(campus) - before
        sent = sum(flow.report().sent for flow in results.flows.values())
        assert grown[Reason.FLOW_RULES] == 0, "not one was left to the kernel's rules"
        assert grown[Reason.STEERED] >= sent
    for talk, avoided, passed in ((talks[0], "tr3", "tr1"), (talks[1], "tr1", "tr3")):
        for flow in numbers(talk):
            sent = results.flows[flow].report().sent
            assert crossings.packets_through(avoided, flow) == 0
            assert crossings.packets_through(passed, flow) == sent
    # Where both are on the shortest path's side by chance, the paths differ all the same.
    for start, end in itertools.pairwise(moved):
        ways = [_ways(crossings, talk, (start, end)) for talk in talks]
        assert ways[0] != ways[1]


def _ways(
    crossings: Crossings, talk: Conversation, window: tuple[int, int]
) -> list[dict[str, bool]]:
    return [
        {node: crossings.packets_through(node, flow, window) > 0 for node in TRANSIT}
        for flow in numbers(talk)
    ]


def fast_reasons(campus: Running) -> Counter[Reason]:
    """Return what the programs of all routers counted; nothing in mode netlink."""
    total: Counter[Reason] = Counter()
    if campus.domain.mode == "ebpf":
        for router in campus.lab.topology.routers():
            total += campus.reasons(router.name)
    return total


def test_what_a_flow_s_entries_counted_is_shown(campus: Running) -> None:
    """By head-end, as many packets as its direction sent; in mode netlink nobody counts."""
    rules(campus, "mn1")
    address = campus.scenario.wait_address("mn1")
    talks = conversations(campus.lab, [("mn1", address, "cn"), ("mn1", address, "cn")])
    before = settled(campus)
    probes = Probes(campus.lab, campus.domain.processes, talks, rate_pps=200)
    probes.start()
    time.sleep(0.3)
    results = probes.stop()
    lossless_ = [flow.report() for flow in results.flows.values()]
    assert all(report.lost == 0 for report in lossless_)
    if campus.domain.mode == "netlink":
        assert not any(found for name in PORTS for found in shown(campus, name).values())
        return
    for name, talk in zip(PORTS, talks, strict=True):
        sent = sum(results.flows[flow].report().sent for flow in numbers(talk))

        def counted(name: str = name) -> int:
            return sum(shown(campus, name).values()) - sum(before[name].values())

        wait_for("counted", lambda: counted() >= sent)  # noqa: B023 - called within this turn
        assert counted() == sent


def settled(campus: Running) -> dict[str, dict[str, int]]:
    """Return what is shown once agents have told all that they counted, which takes a second."""
    found = {name: shown(campus, name) for name in PORTS}
    while True:
        time.sleep(2.5)
        last, found = found, {name: shown(campus, name) for name in PORTS}
        if found == last:
            return found


def shown(campus: Running, name: str) -> dict[str, int]:
    """Return the packets of a flow's entries, by head-end and source."""
    entries = campus.domain.get(f"/v1/flows/{name}")["entries"]
    return {
        f"{entry['router']} {entry['source']}": entry["traffic"]["packets"]
        for entry in entries
        if entry["traffic"] is not None
    }


def test_explanation_and_packets_agree(campus: Running) -> None:
    """Where the API says that a packet goes is where it goes."""
    rules(campus, "mn1")
    address = campus.scenario.wait_address("mn1")
    talks = conversations(campus.lab, [("mn1", address, "cn"), ("mn1", address, "cn")])
    campus_routers = [router.name for router in campus.lab.topology.routers()]
    for number, talk in enumerate(talks):
        port = 7000 + number
        for direction, flow in (("uplink", talk.uplink_flow), ("downlink", talk.downlink_flow)):
            told = campus.domain.get(
                f"/v1/paths/explain?mn=mn1&dst={talk.remote}&proto=17&sport={port}&dport={port}"
                f"&address={address}&direction={direction}"
            )
            (walk,) = told["walks"]
            routers = [hop["router"] for hop in walk["hops"]]
            assert told["policy"] == ("low", "high")[number]
            assert all(hop["applied"] for hop in walk["hops"])
            seen = _traced(campus, talks, flow, campus_routers)
            assert seen == set(routers), (direction, told["policy"])


def _traced(
    campus: Running, talks: tuple[Conversation, ...], flow: int, routers: list[str]
) -> set[str]:
    """Return the routers that packets of a flow come in at."""
    taps = Taps(campus.lab, campus.domain.processes, routers)
    probes = Probes(campus.lab, campus.domain.processes, talks, rate_pps=100)
    taps.start()
    probes.start()
    time.sleep(0.3)
    probes.stop()
    crossings = taps.stop()
    return {router for router in routers if crossings.packets_through(router, flow)}


def test_a_changed_policy_moves_its_flow_without_loss(campus: Running) -> None:
    """The path changes under traffic, there and back; the other flow does not notice."""
    rules(campus, "mn1")
    address = campus.scenario.wait_address("mn1")
    talks = conversations(campus.lab, [("mn1", address, "cn"), ("mn1", address, "cn")])
    taps = Taps(campus.lab, campus.domain.processes, TRANSIT)
    probes = Probes(campus.lab, campus.domain.processes, talks, rate_pps=250)
    taps.start()
    probes.start()
    time.sleep(0.3)
    for avoided in ("tr1", "tr3", "tr1", "tr3"):
        constraints = {"avoid_routers": [avoided]}
        body = {"candidates": [{"paths": [{"constraints": constraints}]}]}
        put(campus, "policies/low", body)
        time.sleep(0.3)
    results = probes.stop()
    crossings = taps.stop()
    assert crossings.drops == 0
    for flow in numbers(talks[1]):
        assert crossings.packets_through("tr1", flow) == 0
    for number, flow in results.flows.items():
        report = flow.report()
        # A shorter path may overtake a longer one: that is no loss.
        assert (report.lost, report.duplicated) == (0, 0), (number, report)
    for flow in numbers(talks[0]):
        assert crossings.packets_through("tr1", flow) > 50
        assert crossings.packets_through("tr3", flow) > 50


def test_between_two_nodes_that_both_move_packets_go_straight(campus: Running) -> None:
    """From access router to access router, through no border and no anchor."""
    addresses = {node: campus.scenario.wait_address(node) for node in ("mn1", "mn2")}
    talk = Conversation("mn1", addresses["mn1"], "mn2", addresses["mn2"], 1, 2)
    taps = Taps(campus.lab, campus.domain.processes, ["br1", *TRANSIT])
    probes = Probes(campus.lab, campus.domain.processes, [talk], rate_pps=250)
    taps.start()
    probes.start()
    time.sleep(0.3)
    for first, second in (("ar2", "ar4"), ("ar1", "ar2"), ("ar3", "ar1")):
        campus.scenario.soft_handover("mn1", first)
        campus.scenario.soft_handover("mn2", second)
        wait_for("settled", lambda: campus.settled("mn1") and campus.settled("mn2"))
        time.sleep(0.2)
    results = probes.stop()
    crossings = taps.stop()
    lossless(results.flows)
    assert crossings.drops == 0
    for flow in numbers(talk):
        assert crossings.packets_through("br1", flow) == 0


def test_nothing_is_left_of_rules_that_go(campus: Running) -> None:
    for path in ("flows/low", "flows/high", "policies/low", "policies/high"):
        answer = campus.domain.client.delete(f"/v1/{path}", params={"wait": "applied"})
        assert answer.status_code == 200, answer.text
    assert campus.drift() == []
    for router in campus.lab.topology.routers():
        shown = campus.run(router.name, "ip", "-6", "rule", "show").stdout
        assert len(shown.splitlines()) == 2, shown
