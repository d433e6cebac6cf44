"""All links at 1500 bytes: TCP both ways, and Packet Too Big for whom a packet is too big."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.lab.traffic import TcpTransfer
from tests.netns.running import MODES, Running, forwarding, running

pytestmark = pytest.mark.root

INNER_MTU = 1460


@pytest.fixture(scope="module", params=MODES)
def domain(request: pytest.FixtureRequest) -> Iterator[Running]:
    """mn1 is steered from ar1 to ar3, mn2 from ar2 to ar4."""
    with running("campus-1500.yaml", "mtu", request.param) as up:
        up.home("mn1", "ar1")
        up.home("mn2", "ar2")
        yield up


def test_tcp_works_both_ways_over_a_handover(domain: Running) -> None:
    address = domain.scenario.wait_address("mn1")
    transfer = TcpTransfer(
        domain.lab,
        domain.domain.processes,
        mobile_node="mn1",
        address=address,
        correspondent="cn",
        megabits=50,
    )
    with forwarding(domain):
        transfer.start()
        time.sleep(0.3)
        domain.scenario.soft_handover("mn1", "ar3")
        time.sleep(1.0)
        result = transfer.stop()
    assert result.survived, result.error
    assert min(result.uplink_bytes, result.downlink_bytes) > 1_000_000


def test_the_ra_says_what_fits(domain: Running) -> None:
    value = domain.run("mn1", "cat", "/proc/sys/net/ipv6/conf/radio0/mtu").stdout.strip()
    assert int(value) == INNER_MTU


def ping(domain: Running, node: str, source: str, target: str, size: int) -> str:
    """Send whole packets of `size` bytes; return what ping says. Fragments are not allowed."""
    done = domain.run(
        node,
        *("ping", "-6", "-M", "do", "-c", "3", "-i", "0.2", "-W", "1"),
        *("-s", str(size - 48), "-I", source, target),
    )
    return done.stdout + done.stderr


def test_too_big_for_the_way_down_is_told_to_the_correspondent(domain: Running) -> None:
    target = str(domain.address_of("mn1", "ar1"))
    before = domain.reasons("br1")
    said = ping(domain, "cn", "2001:db8:cafe::2", target, 1500)
    assert f"mtu={INNER_MTU}" in said or f"mtu: {INNER_MTU}" in said, said
    said = ping(domain, "cn", "2001:db8:cafe::2", target, INNER_MTU)
    assert "0% packet loss" in said, said
    counted = domain.reasons("br1") - before
    if domain.domain.mode == "ebpf":
        # ping heeds what it was told with the first packet.
        assert (counted[Reason.OVERSIZE], counted[Reason.STEERED]) == (1, 3)


def test_too_big_for_the_way_up_is_told_to_the_mobile_node(domain: Running) -> None:
    """To another mobile node that is away from home the node's own router encapsulates."""
    domain.scenario.soft_handover("mn2", "ar4")
    source = str(domain.address_of("mn1", "ar1"))
    target = str(domain.address_of("mn2", "ar2"))
    said = ping(domain, "mn1", source, target, 1500)
    assert f"mtu: {INNER_MTU}" in said or f"mtu={INNER_MTU}" in said, said
    # A node that does not heed the RA's MTU learns it from its router instead.
    domain.run("mn1", "sh", "-c", "echo 1500 > /proc/sys/net/ipv6/conf/radio0/mtu")
    route = ["ip", "-6", "route", "add", f"{target}/128", "via", "fe80::1", "dev", "radio0"]
    assert domain.run("mn1", *route).returncode == 0
    said = ping(domain, "mn1", source, target, 1500)
    assert f"mtu={INNER_MTU}" in said or f"mtu: {INNER_MTU}" in said, said
    assert "From 2001:db8:" in said or "From fc00:" in said, f"nobody told it: {said}"
    said = ping(domain, "mn1", source, target, INNER_MTU)
    assert "0% packet loss" in said, said
