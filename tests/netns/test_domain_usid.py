"""Compressed segment lists in a domain of real kernels: six waypoints in one container."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from srv6dmm.dataplane import namespace
from srv6dmm.lab.traffic import Probes, Taps
from tests.netns.ring import Ring
from tests.netns.running import MODES, Running, lossless, running, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

ROW = tuple(f"t{number}" for number in range(1, 7))
CONTAINER = IPv6Address("fc00:0:c1:c2:c3:c4:c5:c6")
SEEN = ("c1:c2:c3:c4:c5:c6", "c2:c3:c4:c5:c6:0", "c3:c4:c5:c6:0:0", "c4:c5:c6:0:0:0",
        "c5:c6:0:0:0:0", "c6:0:0:0:0:0")  # fmt: skip
"""Behind the block: the destination as it comes in at each router of the row."""
DELIVER = IPv6Address("fc00:0:a1:d06::")
ROUTING, IPV6 = 43, 41


@pytest.fixture(scope="module", params=MODES)
def row(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(str(Path(__file__).parent / "usid.yaml"), "us", request.param) as up:
        names = sorted(router.name for router in up.lab.topology.routers())
        wait_for("uNs", lambda: up.domain.get("/v1/topology")["compressing"] == names)
        wait_for("settled", lambda: not up.domain.unready())
        up.home("mn1", "ar1")
        for direction, stops in (("downlink", ROW), ("uplink", ROW[::-1])):
            waypoints = [{"router": name} for name in stops]
            path = {"waypoints": waypoints, "constraints": {"maximum_segments": 2}}
            put(up, f"policies/{direction}", {"candidates": [{"paths": [path]}], "invalid": "drop"})
            rule = {"policy": direction, "mobile_node": "mn1", "direction": direction}
            put(up, f"flows/{direction}", rule | {"match": {"protocol": 17}})
        yield up


def put(row: Running, path: str, body: dict[str, Any]) -> None:
    answer = row.domain.client.put(f"/v1/{path}", json=body, params={"wait": "applied"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["applied"] is True


def send(row: Running, host: str, target: IPv6Address, payload: bytes) -> None:
    with namespace.inside(row.lab.namespace(host)):
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(payload, (str(target), 7000))


def test_six_waypoints_are_one_container_on_the_wire(row: Running) -> None:
    """Byte by byte at every hop: the router's slot goes out, the rest moves up, hop by hop."""
    address = row.scenario.wait_address("mn1")
    payload = f"container {time.monotonic_ns()}".encode()
    rings = [Ring(row.lab.namespace(name), "last") for name in (*ROW, "ar1")]
    send(row, "cn", address, payload)
    packets = [ring.carrying(payload) for ring in rings]
    for ring in rings:
        ring.close()
    source = row.lab.topology.nodes["br1"].loopback
    srh = bytes([IPV6, 2, 4, 1, 0, 0, 0, 0]) + DELIVER.packed
    for place, packet in enumerate(packets[:-1]):
        slots = [int(part, 16) for part in SEEN[place].split(":")]
        destination = b"\xfc\0\0\0" + b"".join(slot.to_bytes(2, "big") for slot in slots)
        assert packet[6] == ROUTING
        assert packet[7] == packets[0][7] - place, "one hop less at every router"
        assert packet[8:24] == source.packed if source else False
        assert packet[24:40] == destination
        assert packet[40:64] == srh, "the routing header is not touched"
        assert packet[40:] == packets[0][40:]
    assert packets[0][24:40] == CONTAINER.packed
    last = packets[-1]
    assert last[7] == packets[0][7] - 6
    assert last[24:40] == DELIVER.packed
    assert last[40:64] == bytes([IPV6, 2, 4, 0, 0, 0, 0, 0]) + DELIVER.packed, "plain End at t6"
    assert last[64:] == packets[0][64:], "and inside, nothing but the packet"
    assert last[64 + 24 : 64 + 40] == address.packed


def test_the_list_is_explained_slot_by_slot(row: Running) -> None:
    told = row.domain.get(
        "/v1/paths/explain?mn=mn1&dst=2001:db8:cafe::2&proto=17&direction=downlink"
    )
    (one,) = [one for one in told["lists"] if not one["backup"]]
    container, final = one["segments"]
    assert IPv6Address(container["sid"]) == CONTAINER
    assert [(slot["behavior"], slot["router"]) for slot in container["slots"]] == [
        ("uN", name) for name in ROW
    ]
    assert final["behavior"] == "End.DT6"
    assert one["header"]["octets"] == 64
    (walk,) = told["walks"]
    assert [hop["router"] for hop in walk["hops"]] == ["br1", *ROW, "ar1"]
    assert walk["outcome"] == "delivered"
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "srv6dmm.cli.main", "path", "explain", "--mn", "mn1"),
            *("--dst", "2001:db8:cafe::2", "--proto", "udp", "--downlink"),
            *("--controller", f"http+unix://{row.lab.directory.socket}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    place = shown.index("fc00:0:c1:c2:c3:c4:c5:c6  container of\n")
    assert shown[place:].splitlines()[1:7] == [f"           uN of {name}" for name in ROW]
    wide = [line for line in shown.splitlines() if len(line) > 80]
    assert not [line for line in wide if "fc00:0:c1:c2" in line and "flow rule" not in line], wide


def test_packets_keep_the_way_over_hand_overs(row: Running) -> None:
    """Both directions, each by its own container; from the first router served to the next."""
    (talk,) = row.talk("mn1", "cn")
    seen = Taps(row.lab, row.domain.processes, [*ROW, "hub"])
    probes = Probes(row.lab, row.domain.processes, [talk], rate_pps=250)
    seen.start()
    probes.start()
    time.sleep(0.3)
    for router in ("ar2", "ar1"):
        row.scenario.soft_handover("mn1", router)
        wait_for("settled", lambda: row.settled("mn1"))
        time.sleep(0.3)
    results = probes.stop()
    crossings = seen.stop()
    assert crossings.drops == 0
    lossless([results])
    for flow in (talk.uplink_flow, talk.downlink_flow):
        sent = results.flows[flow].report().sent
        assert [crossings.packets_through(name, flow) for name in ROW] == [sent] * len(ROW)
        assert crossings.packets_through("hub", flow) == 0


def test_a_restarted_agent_adopts_its_uN(row: Running) -> None:
    """Killed and started again under traffic: nothing is lost, nothing had drifted."""
    with row.probing("mn1", rate=250) as results:
        row.domain.kill("agent-t3")
        time.sleep(0.2)
        row.domain.restart("agent-t3")
        row.domain.wait_ready()
    lossless(results)
    assert row.drift() == []
    shown = row.run("t3", "ip", "-6", "route", "show", "fc00:0:c3::/48").stdout
    assert "action End flavors next-csid lblen 32 nflen 16" in shown, shown
    assert "unreachable" not in shown


def test_nothing_is_left_behind(row: Running) -> None:
    for path in ("flows/uplink", "flows/downlink", "policies/uplink", "policies/downlink"):
        answer = row.domain.client.delete(f"/v1/{path}", params={"wait": "applied"})
        assert answer.status_code == 200, answer.text
    flushed = row.run("t3", "ip", "-6", "route", "flush", "proto", "201")
    assert flushed.returncode == 0
    wait_for("put back", lambda: "next-csid" in row.run("t3", "ip", "-6", "route").stdout)
