"""VPN hosts behind two edges, their traffic over End.DT4 and End.DT46 into a VRF of the kernel.

    host0 -- edge0 (VRF) == core, IPv6 only == (VRF) edge1 -- host1

The core knows no IPv4 and no host: a packet that arrives was encapsulated and taken out again.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from srv6dmm.dataplane import namespace
from tests.kernels.absent import judge
from tests.netns.kernels import Space, cable, spaces

pytestmark = pytest.mark.root

TABLE = "100"
SETTINGS = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
)


class Vpn:
    """The four namespaces, wired; SIDs and routes to them are put by `join`."""

    def __init__(self, hosts: list[Space], edges: list[Space]) -> None:
        self.hosts, self.edges = hosts, edges
        for space in (*hosts, *edges):
            for setting in SETTINGS:
                self.run(space, "sysctl", "-qw", setting)
        cable(edges[0], "core0", edges[1], "core0")
        for number, (host, edge) in enumerate(zip(hosts, edges, strict=True)):
            cable(host, "host0", edge, "port0")
            edge.ip("-6", "addr", "add", f"fd00::{number}/64", "dev", "core0", "nodad")
            edge.ip("link", "add", "vrf0", "type", "vrf", "table", TABLE)
            self.run(edge, "sysctl", "-qw", "net.vrf.strict_mode=1")
            edge.ip("link", "set", "vrf0", "up")
            edge.ip("link", "set", "port0", "master", "vrf0")
            edge.ip("addr", "add", f"192.0.2.{64 * number + 1}/26", "dev", "port0")
            edge.ip("-6", "addr", "add", f"2001:db8:{number}::1/64", "dev", "port0", "nodad")
            host.ip("addr", "add", f"192.0.2.{64 * number + 2}/26", "dev", "host0")
            host.ip("-6", "addr", "add", f"2001:db8:{number}::2/64", "dev", "host0", "nodad")
            host.ip("route", "add", "default", "via", f"192.0.2.{64 * number + 1}")
            host.ip("-6", "route", "add", "default", "via", f"2001:db8:{number}::1")

    def run(self, space: Space, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a space."""
        with namespace.inside(space.name):
            return subprocess.run(command, capture_output=True, text=True, check=False)

    def sids(self, action: str) -> str:
        """Put a SID of an action at either edge; return "", or why the kernel refuses."""
        for number, edge in enumerate(self.edges):
            local = f"fc00:{number}::1/128 encap seg6local action {action} vrftable {TABLE}"
            done = self.run(edge, "ip", "-6", "route", "add", *local.split(), "dev", "vrf0")
            if done.returncode:
                return done.stderr.strip().splitlines()[-1]
        return ""

    def join(self, family: str) -> None:
        """Route the other side's hosts of a family (-4, -6) to its SID, out of the VRF."""
        for number, edge in enumerate(self.edges):
            other = 1 - number
            far = f"192.0.2.{64 * other}/26" if family == "-4" else f"2001:db8:{other}::/64"
            sid = f"fc00:{other}::1"
            way = ("via", f"fd00::{other}", "dev", "core0")
            edge.ip("-6", "route", "replace", f"{sid}/128", *way)
            steer = ("encap", "seg6", "mode", "encap", "segs", sid, "dev", "core0")
            edge.ip(family, "route", "add", far, *steer, "table", TABLE)

    def pings(self, address: str) -> int:
        """Return how many of five pings of the first host are answered."""
        done = self.run(self.hosts[0], "ping", "-n", "-c5", "-i0.2", "-W3", address)
        return done.stdout.count("bytes from")


@pytest.fixture
def vpn() -> Iterator[Vpn]:
    with spaces(4) as made:
        yield Vpn(made[:2], made[2:])


@pytest.mark.parametrize("action", ["End.DT4", "End.DT46"])
def test_ipv4_into_a_vrf(vpn: Vpn, action: str) -> None:
    judge(f"{action} (vrftable)", vpn.sids(action))
    assert vpn.pings("192.0.2.66") == 0, "there is a way without SRv6"
    vpn.join("-4")
    assert vpn.pings("192.0.2.66") >= 4  # the first may have to wait for neighbours


def test_ipv6_into_a_vrf(vpn: Vpn) -> None:
    judge("End.DT46 (vrftable)", vpn.sids("End.DT46"))
    assert vpn.pings("2001:db8:1::2") == 0, "there is a way without SRv6"
    vpn.join("-6")
    assert vpn.pings("2001:db8:1::2") >= 4
