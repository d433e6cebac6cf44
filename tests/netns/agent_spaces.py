"""One router with a neighbour, a fixed host and a mobile node, each in its namespace."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.netlink import neighbours
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.channel import Monitor
from srv6dmm.dataplane.objects import PROTOCOL, Sysctl
from tests.agents import NODE_MAC, ROUTER
from tests.netns.kernels import Space, cable, spaces

MAIN = (sys.executable, "-m", "srv6dmm.cli.main")
FOREIGN = ("2001:db8:77::/64", "2001:db8:1:77::/64")
"""Routes of somebody else: one outside, one inside the router's pool."""


@dataclass(frozen=True)
class Spaces:
    """`router` has core0, core1 (to `neighbour`), host0 (to `host`), access (to `node`)."""

    router: Space
    neighbour: Space
    host: Space
    node: Space


@contextmanager
def surroundings() -> Iterator[Spaces]:
    """Make the namespaces and their cables; the node takes RAs, the router has foreign routes."""
    with spaces(4) as (router, neighbour, host, node):
        # Settled: no duplicate address detection whose end would be heard.
        kernel = LinuxKernel(router.name)
        assert kernel.put([Sysctl("net/ipv6/conf/default/addr_gen_mode", "1")]) == []
        kernel.close()
        cable(router, "core0", neighbour, "core0")
        cable(router, "core1", neighbour, "core1")
        cable(router, "host0", host, "eth0")
        cable(router, "access", node, "wlan0")
        # Down first: the link-local address is made of the address it has when it comes up.
        node.ip("link", "set", "wlan0", "down")
        node.ip("link", "set", "wlan0", "address", NODE_MAC, "up")
        cable(router, "foreign", router, "foreign1")
        for prefix in FOREIGN:
            router.ip("-6", "route", "add", prefix, "dev", "foreign", "proto", "static")
        router.ip(
            *("neigh", "add", "fe80::99", "lladdr", "02:00:00:00:00:99"),
            *("dev", "host0", "nud", "permanent"),
        )
        router.ip("address", "add", "2001:db8:77::1/128", "dev", "lo")
        yield Spaces(router, neighbour, host, node)


@asynccontextmanager
async def process(space: Space, socket: Path, log: Path) -> AsyncIterator[Process]:
    """Run an agent as a process of its own; killed at the end if it still runs."""
    with log.open("ab") as output:
        made = await create_subprocess_exec(
            *(*MAIN, "agent", "--router", ROUTER, "--netns", space.name),
            *("--controller", f"ws+unix://{socket}", "--resync", "600", "--mode", "netlink"),
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield made
    finally:
        if made.returncode is None:
            made.kill()
            await made.wait()


class Events:
    """What happens to a namespace's routes, neighbours, addresses and links."""

    def __init__(self, space: Space) -> None:
        with namespace.inside(space.name):
            self._monitor = Monitor()

    def heard(self) -> list[str]:
        """Return what was heard since the last call.

        Without what neighbour discovery does by itself, to entries of nobody's.
        """
        found = []
        for event in self._monitor.events():
            if event is None:
                found.append("some were lost")
                continue
            kind, port, datagram, start, end = event
            if (
                kind in (n.RTM_NEWNEIGH, n.RTM_DELNEIGH)
                and port == 0
                and neighbours.facts(datagram, start, end).protocol != PROTOCOL
            ):
                continue
            found.append(f"type {kind} caused by {port}")
        return found

    def close(self) -> None:
        """Stop listening."""
        self._monitor.close()


async def eventually(happened: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(timeout_s):
        while not happened():  # noqa: ASYNC110 (what a kernel holds wakes nobody)
            await asyncio.sleep(0.01)
