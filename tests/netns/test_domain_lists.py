"""A link that swallows packets and keeps its carrier: lists over it are found silent, and left.

Nobody but probes notices: no interface goes down, no repair is taken. Traffic that is steered moves
to another list, and back when the first one answers again for a while.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from srv6dmm.lab.traffic import Probes, conversations
from tests.netns.running import MODES, Running, running, wait_for

pytestmark = [pytest.mark.root, pytest.mark.long]

GRACE_S = 2.0
RATE_PPS = 250
DETECTED_S = 7.0
"""Three probes a second apart and one to begin with, and as much again for a busy machine."""


@pytest.fixture(scope="module", params=MODES)
def campus(request: pytest.FixtureRequest) -> Iterator[Running]:
    """mn1 is away from home: at ar2, with the prefix of ar1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRV6DMM_AGENT_LIST_GRACE_S", str(GRACE_S))
        with running("campus.yaml", "li", request.param) as up:
            up.home("mn1", "ar1")
            up.scenario.soft_handover("mn1", "ar2")
            wait_for("settled", lambda: up.settled("mn1"))
            time.sleep(GRACE_S + 4)
            yield up


@contextmanager
def swallowing(campus: Running, *ends: tuple[str, str]) -> Iterator[None]:
    """Have interfaces lose all that is sent by them, without a word: a queue of no length."""
    for router, interface in ends:
        _tc(campus, router, "add", interface, "pfifo", "limit", "0")
    try:
        yield
    finally:
        for router, interface in ends:
            _tc(campus, router, "del", interface)


def _tc(campus: Running, router: str, verb: str, interface: str, *how: str) -> None:
    done = campus.run(router, "tc", "qdisc", verb, "dev", interface, "root", *how)
    assert done.returncode == 0, done.stderr


def silent(campus: Running, router: str = "br1") -> list[list[str]]:
    found: list[list[str]] = campus.domain.get(f"/v1/routers/{router}")["silent_lists"]
    return found


def steering(campus: Running) -> dict[str, Any]:
    """Return what br1 does with mn1's prefix, by its plan."""
    entries = campus.domain.get("/v1/routers/br1/plan")["entries"]
    found: dict[str, Any] = next(e for e in entries if e["kind"] == "SteeringEntry")
    return found


def test_nothing_is_silent_while_nothing_is_broken(campus: Running) -> None:
    """Every list of every head-end answers, backups of all shapes among them."""
    for router in ("ar1", "ar2", "ar3", "ar4", "br1"):
        assert silent(campus, router) == [], router
    assert campus.drift() == []


@pytest.mark.parametrize(
    "ends",
    [
        [("br1", "tr1")],
        [("br1", "tr1"), ("tr1", "br1")],
        [("tr1", "br1"), ("tr1", "ar2"), ("tr1", "tr2"), ("tr1", "ar1"), ("tr1", "tr3")],
    ],
    ids=["one way", "both ways", "a whole router"],
)
def test_traffic_leaves_a_list_that_is_broken_in_the_middle_and_comes_back(
    campus: Running, ends: list[tuple[str, str]]
) -> None:
    address = campus.address_of("mn1", "ar1")
    (talk,) = conversations(campus.lab, [("mn1", address, "cn")])
    probes = Probes(campus.lab, campus.domain.processes, [talk], rate_pps=RATE_PPS)
    first = steering(campus)["segments"]
    assert steering(campus)["interface"] == "tr1"
    probes.start()
    time.sleep(0.5)
    with swallowing(campus, *ends):
        cut = time.monotonic_ns()
        wait_for("noticed", lambda: first in silent(campus), DETECTED_S)
        noticed_s = (time.monotonic_ns() - cut) / 1e9
        wait_for("moved", lambda: steering(campus)["interface"] == "tr3")
        wait_for("applied", lambda: not campus.domain.unready())
        moved = time.monotonic_ns()
        time.sleep(2)
        assert campus.domain.get("/v1/topology")["down"] == []
    mended = time.monotonic()
    wait_for("used again", lambda: silent(campus) == [], 30)
    back_s = time.monotonic() - mended
    assert steering(campus)["segments"] == first
    wait_for("applied", lambda: not campus.domain.unready())
    time.sleep(0.5)
    flow = probes.stop().flows[talk.downlink_flow]
    report = flow.report((cut, moved))
    gap_ms = report.longest_gap_ms
    print(
        f"{campus.domain.mode}: noticed after {noticed_s:.1f} s, no packets for "
        f"{gap_ms / 1e3:.2f} s, used again {back_s:.1f} s after it was mended"
    )
    assert back_s > 2.0, "it has to answer for a while first"
    assert gap_ms / 1e3 < DETECTED_S
    after = flow.report((moved, time.monotonic_ns()))
    assert after.sent > RATE_PPS
    assert (after.lost, after.duplicated) == (0, 0), "nothing is lost once it has moved, nor back"
    wait_for("all well", lambda: not any(silent(campus, r) for r in ("ar1", "ar3", "ar4")), 60)
    assert campus.drift() == []
