"""Simulator and kernels against each other: probes through a running domain, and hostile cases."""

from __future__ import annotations

import itertools
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath.objects import FastDelivery, FastDrop, FastSteering
from srv6dmm.lab.domain import agent_name
from tests.netns.running import MODES, Running, running, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

CN, SRV, NOBODY = "2001:db8:cafe::2", "2001:db8:beef::2", "2001:db8:a1:ffff::1"
NODES = ("mn1", "mn2", "mn3")
ACCESS = ("ar1", "ar2", "ar3", "ar4")
PORTS = (4999, 5000, 5005, 5010, 5011, 7000)
POLICIES: dict[str, dict[str, Any]] = {
    "around": {"candidates": [{"paths": [{"constraints": {"avoid_routers": ["tr1"]}}]}]},
    "over": {"candidates": [{"paths": [{"constraints": {"avoid_routers": ["tr3"]}}]}]},
    "spread": {
        "candidates": [
            {
                "paths": [
                    {"weight": 2, "constraints": {"avoid_routers": ["tr1"]}},
                    {"weight": 1, "constraints": {"avoid_routers": ["tr3"]}},
                ]
            }
        ]
    },
    "narrow": {
        "candidates": [{"paths": [{"constraints": {"avoid_routers": ["tr1", "tr3"]}}]}],
        "invalid": "drop",
    },
}
MATCHES: tuple[dict[str, Any], ...] = (
    {},
    {"protocol": 17},
    {"protocol": 17, "peer_ports": [5000, 5010]},
    {"protocol": 6, "own_ports": [5000, 5000]},
    {"protocol": 58},
    {"dscp": 46},
    {"peer": "2001:db8:cafe::/64"},
    {"peer": "2001:db8:beef::/64", "protocol": 17, "own_ports": [5005, 7000]},
)
LINKS = (("tr1", "br1"), ("tr2", "ar3"))
ROUNDS, QUESTIONS = 3, 16
COMMAND = Path(sys.executable).parent / "srv6dmm"


@pytest.fixture(scope="module", params=MODES)
def campus(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running("campus.yaml", "ex", request.param) as up:
        for node, router in zip(NODES, ACCESS, strict=False):
            up.home(node, router)
        yield up


def live(campus: Running, **question: Any) -> dict[str, Any]:
    """Send a probe; one at a time is the rule, so wait where another has just been."""
    for _ in range(20):
        answer = campus.domain.client.post("/v1/paths/explain", json=question)
        if answer.status_code != 429:
            break
        time.sleep(0.03)
    assert answer.status_code == 200, (question, answer.text)
    found: dict[str, Any] = answer.json()
    return found


def put(campus: Running, path: str, body: dict[str, Any]) -> None:
    answer = campus.domain.client.put(f"/v1/{path}", json=body, params={"wait": "applied"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["applied"] is True


def delete(campus: Running, path: str) -> None:
    answer = campus.domain.client.delete(f"/v1/{path}", params={"wait": "applied"})
    assert answer.status_code == 200, answer.text


# --- the property ----------------------------------------------------------------------------


def rule_anew(campus: Running, dice: random.Random) -> None:
    """Give every node rules that are drawn: their own priority each."""
    for name in [flow["name"] for flow in campus.domain.get("/v1/flows")["flows"]]:
        delete(campus, f"flows/{name}")
    for node in NODES:
        for number, match in enumerate(dice.sample(MATCHES, 3)):
            rule = {
                "policy": dice.choice(list(POLICIES)),
                "mobile_node": node,
                "match": match,
                "priority": 100 + number,
                "direction": dice.choice(("both", "uplink", "downlink")),
            }
            put(campus, f"flows/{node}-{number}", rule)


def move(campus: Running, dice: random.Random) -> None:
    """Move every node to a router that is drawn, or leave it where it is."""
    for node in NODES:
        target = dice.choice(ACCESS)
        if target != campus.session(node)["serving"]:
            campus.scenario.soft_handover(node, target, hold_s=0)
    for node in NODES:
        wait_for("settled", lambda node=node: campus.settled(node))


def cut(campus: Running, link: tuple[str, str]) -> None:
    done = campus.run(link[0], "ip", "link", "set", link[1], "down")
    assert done.returncode == 0, done.stderr
    wait_for("noticed", lambda: len(campus.domain.get("/v1/topology")["down"]) == 2)
    time.sleep(0.5)  # routes follow in rounds
    # Whoever lost the interface is refused what is on it.
    wait_for("told", lambda: all(r["applied"] >= r["target"] for r in campus.domain.routers()))


def mend(campus: Running, link: tuple[str, str]) -> None:
    done = campus.run(link[0], "ip", "link", "set", link[1], "up")
    assert done.returncode == 0, done.stderr
    wait_for("mended", lambda: campus.domain.get("/v1/topology")["down"] == [], 20)
    time.sleep(0.5)
    wait_for("applied", lambda: not campus.domain.unready())


def drawn(campus: Running, dice: random.Random) -> dict[str, Any]:
    """Return a question."""
    node, other = dice.sample(NODES, 2)
    direction = dice.choice(("uplink", "downlink"))
    peers = [CN, CN, SRV, dice.choice(addresses(campus, other))]
    if direction == "uplink" and dice.random() < 0.15:
        peers = [NOBODY]
    asked: dict[str, Any] = {
        "mn": node,
        "dst": dice.choice(peers),
        "address": dice.choice(addresses(campus, node)),
        "direction": direction,
        "proto": dice.choice((6, 17, 17, 17, 58, 59)),
        "dscp": dice.choice((0, 0, 46)),
    }
    if asked["proto"] in (6, 17):
        asked |= {"sport": dice.choice(PORTS), "dport": dice.choice(PORTS)}
    if direction == "downlink" and dice.random() < 0.25:
        asked["head_end"] = dice.choice((*ACCESS, "br1"))
    return asked


def addresses(campus: Running, node: str) -> list[str]:
    prefixes = [entry["prefix"] for entry in campus.session(node)["bindings"]]
    return [prefix.replace("::/64", "::77") for prefix in prefixes]


def crossings(told: dict[str, Any], walk: dict[str, Any]) -> Counter[tuple[str, str, str]]:
    """Return every interface that a packet crosses by a walk, the simulator's word alone."""
    crossed: Counter[tuple[str, str, str]] = Counter()
    for number, hop in enumerate(walk["hops"]):
        arrives_by = hop["arrives_by"] or told["live"]["interface"]
        crossed[hop["router"], arrives_by, "in"] += 1
        leaves_by = hop["leaves_by"]
        if number + 1 == len(walk["hops"]):
            leaves_by = {"delivered": "acc0", "left": leaves_by}.get(walk["outcome"])
        if leaves_by is not None:
            crossed[hop["router"], leaves_by, "out"] += 1
    return crossed


def _disagreement(asked: dict[str, Any], told: dict[str, Any]) -> str:
    shown = {"asked": asked, "lists": told["lists"], "walks": told["walks"], "live": told["live"]}
    return f"{told['live']['difference']}\n{json.dumps(shown, indent=1)}"


def test_probes_go_where_the_simulator_says(campus: Running) -> None:
    """Nodes, rules, policies and links as drawn: every interface crossed is the one foretold."""
    dice = random.Random(campus.domain.mode)
    for name, policy in POLICIES.items():
        put(campus, f"policies/{name}", policy)
    outcomes: Counter[str] = Counter()
    decided, lengths = 0, set()
    for number in range(ROUNDS):
        rule_anew(campus, dice)
        move(campus, dice)
        link = LINKS[number - 1] if 0 < number <= len(LINKS) else None
        if link is not None:
            cut(campus, link)
        for _ in range(QUESTIONS):
            asked = drawn(campus, dice)
            told = live(campus, **asked)
            seen = told["live"]
            assert seen["sent"], (asked, seen["reason"])
            assert seen["unwatched"] == []
            assert seen["agrees"] is True, _disagreement(asked, told)
            crossed = Counter(
                (one["router"], one["interface"], one["direction"]) for one in seen["observations"]
            )
            foretold = [crossings(told, walk) for walk in told["walks"]]
            assert crossed in foretold, (asked, crossed, foretold)
            hops = told["walks"][0]["hops"]
            # Linux takes the routes of an interface that is set down: that router is not in sync.
            sound = [hop for hop in hops if link is None or hop["router"] != link[0]]
            assert [hop["reason"] for hop in sound if not hop["in_sync"]] == []
            assert {step["state"] for hop in sound for step in hop["steps"]} <= {"present"}
            outcomes[told["walks"][0]["outcome"]] += 1
            decided += told["policy"] is not None
            lengths.add(len(hops))
        if link is not None:
            mend(campus, link)
    # What was drawn is worth something: ends of all kinds, rules that decide, ways long and short.
    assert outcomes["delivered"] > 10
    assert outcomes["left"] > 10
    assert outcomes["dropped"] + outcomes["unreachable"] > 2
    assert decided > 15
    assert len(lengths) > 2


# --- what it tells of ------------------------------------------------------------------------


def test_a_route_that_somebody_changed_is_found_out(campus: Running) -> None:
    """With the agent frozen nobody repairs it, and nobody looks there: the neighbours tell."""
    for name in [flow["name"] for flow in campus.domain.get("/v1/flows")["flows"]]:
        delete(campus, f"flows/{name}")
    question = {"mn": "mn1", "dst": CN, "direction": "downlink", "address": away(campus, "mn1")}
    before = live(campus, **question)
    assert before["live"]["agrees"] is True, before["live"]
    hop = before["walks"][0]["hops"][1]
    router, out = hop["router"], hop["leaves_by"]
    locator = hop["steps"][0]["key"].removeprefix("underlay ")
    assert locator.startswith("fc00:")
    other = next(
        interface
        for interface in ("tr1", "tr2", "tr3")
        if interface not in (out, router) and _has(campus, router, interface)
    )
    address = f"address={question['address']}"
    campus.domain.interrupt(agent_name(router))
    try:
        done = campus.run(
            *(router, "ip", "-6", "route", "replace", locator, "dev", other),
            *("via", _neighbour(campus, other), "proto", "201", "metric", "201"),
        )
        assert done.returncode == 0, done.stderr
        started = time.monotonic()
        told = live(campus, **question)
        took = time.monotonic() - started
        answer = campus.domain.get(
            f"/v1/paths/explain?mn=mn1&dst={CN}&direction=downlink&{address}"
        )
    finally:
        campus.domain.resume(agent_name(router))
    assert told["live"]["agrees"] is False, told["live"]
    assert router in [one["router"] for one in told["live"]["unwatched"]]
    assert other in told["live"]["routers"]
    assert took < 3
    hops = {one["router"]: one for one in answer["walks"][0]["hops"]}
    assert hops[router]["in_sync"] is None
    assert "did not answer within 1 s" in hops[router]["reason"]
    assert hops["br1"]["in_sync"] is True
    wait_for("back", lambda: not campus.domain.unready())
    assert campus.domain.client.post(f"/v1/routers/{router}/resync").status_code == 200
    again = live(campus, **question)
    assert again["live"]["agrees"] is True, again["live"]
    assert all(one["in_sync"] for one in again["walks"][0]["hops"])


def away(campus: Running, node: str) -> str:
    """Move a node to another router; return an address of a prefix that is steered there."""
    router = next(name for name in ACCESS[1:] if name != campus.session(node)["serving"])
    campus.scenario.soft_handover(node, router, hold_s=0)
    wait_for("settled", lambda: campus.settled(node))
    bindings = campus.session(node)["bindings"]
    prefix: str = next(one["prefix"] for one in bindings if one["type"] != "home")
    return prefix.replace("::/64", "::77")


def _has(campus: Running, router: str, interface: str) -> bool:
    return campus.run(router, "ip", "link", "show", interface).returncode == 0


def _neighbour(campus: Running, router: str) -> str:
    return str(campus.lab.topology.nodes[router].link_local)


def test_a_lost_map_entry_is_told_of(campus: Running) -> None:
    """No notice comes of maps: what the kernel's routes hold is there, the short cut is not."""
    if campus.domain.mode != "ebpf":
        pytest.skip("there are no maps")
    serving = campus.session("mn1")["serving"]
    prefix = campus.session("mn1")["bindings"][-1]["prefix"]
    fast = campus.fast_path(serving)
    assert fast is not None
    try:
        (item,) = fast.read([("fast-prefix", prefix)]).values()
        assert isinstance(item, FastSteering | FastDelivery | FastDrop)
        assert fast.delete([item]) == []
    finally:
        fast.close()
    told = campus.domain.get(f"/v1/paths/explain?mn=mn1&dst={CN}&direction=downlink")
    hop = told["walks"][0]["hops"][-1]
    assert hop["router"] == serving
    assert hop["in_sync"] is False
    assert f"fast-prefix {prefix} is not there" in hop["reason"]
    assert hop["steps"][-1]["state"] == "missing"
    campus.domain.client.post(f"/v1/routers/{serving}/resync")
    told = live(campus, mn="mn1", dst=CN, direction="downlink")
    assert told["walks"][0]["hops"][-1]["in_sync"] is True


def test_counters_grow_by_what_a_probe_is(campus: Running) -> None:
    """At the SID that delivers, in both modes; at the head-end, where the fast path counts."""
    question = {"mn": "mn1", "dst": CN, "direction": "downlink", "address": away(campus, "mn1")}
    counted = []
    for _ in range(7):
        told = live(campus, **question)
        steps = {
            step["key"].split()[0]: step
            for hop in (told["walks"][0]["hops"][0], told["walks"][0]["hops"][-1])
            for step in hop["steps"]
        }
        counted.append({kind: step["packets"] for kind, step in steps.items()})
        assert steps["sid"]["errors"] == 0
    # Head-ends probe their lists once a second, to the same SID.
    grown = [after["sid"] - before["sid"] for before, after in pairwise(counted)]
    assert min(grown) == 1, grown
    mobile = [one["mobile"] for one in counted]
    if campus.domain.mode == "ebpf":
        assert mobile == [mobile[0] + number for number in range(len(mobile))]
    else:
        assert set(mobile) == {None}


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
def test_no_application_gets_a_probe(campus: Running, direction: str) -> None:
    """The host at the end gets it, finds its checksum wrong and says nothing to anybody."""
    node = "cn" if direction == "uplink" else "mn1"
    space = campus.lab.namespace(node)
    own = str(campus.scenario.wait_address("mn1"))
    before = _wrong(campus, node)
    with namespace.inside(space):
        listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        listener.bind(("::", 7777))
    with listener:
        told = live(
            campus,
            **{"mn": "mn1", "dst": CN, "address": own, "direction": direction},
            **{"proto": 17, "sport": 7777, "dport": 7777},
        )
        assert told["live"]["agrees"] is True, told["live"]
        wait_for("there", lambda: _wrong(campus, node) == before + 1)
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.recv(100)
    assert told["live"]["answered_by"] == [], told["live"]


def _wrong(campus: Running, node: str) -> int:
    shown = campus.run(node, "cat", "/proc/net/snmp6").stdout
    return next(int(row.split()[1]) for row in shown.splitlines() if "Udp6InCsumErrors" in row)


def test_one_probe_at_a_time(campus: Running) -> None:
    """Of many at once one is sent; the others are told to come again."""

    def ask(_: int) -> httpx.Response:
        return campus.domain.client.post("/v1/paths/explain", json={"mn": "mn1", "dst": CN})

    time.sleep(0.2)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert sorted(answer.status_code for answer in answers)[:1] == [200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    for answer in refused:
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["type"].endswith("too-many-probes")


def test_the_command_shows_it_in_eighty_columns(campus: Running) -> None:
    environment = {
        **os.environ,
        "SRV6DMM_CONTROLLER": f"http+unix://{campus.lab.directory.socket}",
        "COLUMNS": "80",
    }
    asked = ["path", "explain", "--mn", "mn1", "--dst", CN, "--proto", "udp"]
    asked += ["--sport", "7000", "--dport", "7000", "--live"]
    for more in ([], ["--json"]):
        done = subprocess.run(
            [COMMAND, *asked, *more], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        if more:
            assert json.loads(done.stdout)["live"]["agrees"] is True
        else:
            assert "verdict  as simulated" in done.stdout
            assert "in sync" in done.stdout
            assert max(map(len, done.stdout.splitlines())) <= 80
        time.sleep(0.2)


def test_probes_leave_nothing_behind(campus: Running) -> None:
    """No socket, no program, no device: as it was before any was sent."""
    assert campus.drift() == []
    for router in itertools.islice(campus.lab.topology.routers(), 4):
        shown = campus.run(router.name, "cat", "/proc/net/packet").stdout
        live(campus, mn="mn1", dst=CN)
        wait_for(
            "sockets closed",
            lambda router=router, shown=shown: (
                campus.run(router.name, "cat", "/proc/net/packet").stdout.count("\n")
                == shown.count("\n")
            ),
        )
        assert "xdp" not in campus.run(router.name, "ip", "link").stdout
