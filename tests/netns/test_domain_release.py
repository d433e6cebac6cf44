"""Drained prefixes given back in a real domain, by what its routers' fast paths count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv6Network

import pytest

from tests.netns.running import Running, lossless, running, wait_for

pytestmark = pytest.mark.root

IDLE_S = 4


@pytest.fixture(scope="module")
def campus() -> Iterator[Running]:
    """A domain that waits for seconds where others wait for hours."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SRV6DMM_MOBILITY__IDLE_RELEASE_S", str(IDLE_S))
        environment.setenv("SRV6DMM_MOBILITY__MIN_DELAY_BEFORE_DELETE_MS", "1000")
        environment.setenv("SRV6DMM_MOBILITY__LATE_PACKETS_MS", "500")
        with running("campus.yaml", "rel", "ebpf") as up:
            yield up


def held(campus: Running) -> dict[str, IPv6Network]:
    """Return anchor -> prefix of mn1."""
    return {b["anchor"]: IPv6Network(b["prefix"]) for b in campus.session("mn1")["bindings"]}


def entries(campus: Running, router: str, prefix: IPv6Network) -> list[str]:
    """Return what a router has of a prefix, in the kernel and in the fast path."""
    found = campus.run(router, "ip", "-6", "route", "show", str(prefix)).stdout.splitlines()
    fast = campus.fast_path(router)
    if fast is not None:
        found += [name for item in fast.read() if str(prefix) in (name := " ".join(map(str, item)))]
        fast.close()
    return found


def test_a_prefix_in_use_stays_and_one_without_packets_goes(campus: Running) -> None:
    campus.home("mn1", "ar1")
    for router in ("ar2", "ar3"):
        campus.scenario.soft_handover("mn1", router)
    wait_for("settled", lambda: campus.settled("mn1"))
    before = held(campus)
    assert list(before) == ["ar1", "ar2", "ar3"]
    assert entries(campus, "br1", before["ar2"])
    used = campus.address_of("mn1", "ar1")
    with campus.probing("mn1", address=used) as results:
        wait_for("the idle one released", lambda: "ar2" not in held(campus), 4 * IDLE_S)
        time.sleep(IDLE_S)
        assert list(held(campus)) == ["ar1", "ar3"]
    lossless(results)
    for router in ("br1", "ar1", "ar2", "ar3", "ar4"):
        assert entries(campus, router, before["ar2"]) == []
    deprecated = {a.address for a in campus.scenario.addresses("mn1") if a.deprecated}
    assert any(address in before["ar2"] for address in deprecated), "no new flow takes it"
    wait_for("the other one, unused now", lambda: list(held(campus)) == ["ar3"], 4 * IDLE_S)
    assert campus.drift() == []


def test_a_router_that_does_not_count_keeps_what_it_steers(campus: Running) -> None:
    """In mode netlink br1 knows nothing of packets; once it counts again, time begins anew."""
    answer = campus.domain.client.put("/v1/routers/br1/mode", json={"mode": "netlink"})
    assert answer.status_code == 200, answer.text
    campus.scenario.soft_handover("mn1", "ar4")
    wait_for("settled", lambda: campus.settled("mn1"))
    time.sleep(3 * IDLE_S)
    assert list(held(campus)) == ["ar3", "ar4"]
    answer = campus.domain.client.put("/v1/routers/br1/mode", json={"mode": "ebpf"})
    assert answer.status_code == 200, answer.text
    counting_since = time.monotonic()
    wait_for("released", lambda: list(held(campus)) == ["ar4"], 4 * IDLE_S)
    assert time.monotonic() - counting_since > IDLE_S - 1
    assert campus.drift() == []
