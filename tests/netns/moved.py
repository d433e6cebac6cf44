"""A campus whose nodes are away from home, and what of the fast path is anywhere in it.

mn1 and mn2 are at ar3 and ar4: both directions between them are steered by one access router and
delivered by the other. `cn` is steered to by br1.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address

from srv6dmm.config import Mode
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import pins
from srv6dmm.dataplane.fastpath.hooks import Hooks
from tests.netns.kernels import Space
from tests.netns.running import Running, lossless, running, wait_for

AT = {"mn1": "ar3", "mn2": "ar4"}
HOME = {"mn1": "ar1", "mn2": "ar2"}
CORRESPONDENT = "2001:db8:cafe::2"


@contextmanager
def moved(name: str, mode: Mode) -> Iterator[Running]:
    """Bring the campus up for a block, its nodes handed over."""
    with running("campus.yaml", name, mode) as up:
        for node, router in AT.items():
            up.home(node, HOME[node])
            up.scenario.soft_handover(node, router)
        for node in AT:
            wait_for(f"{node} settled", lambda node=node: up.settled(node))
        yield up


def address(campus: Running, node: str) -> str:
    """Return a node's address of its first router, which is steered, or a correspondent's."""
    return str(campus.address_of(node, HOME[node])) if node in HOME else CORRESPONDENT


@contextmanager
def steered_traffic(campus: Running) -> Iterator[None]:
    """Probe both ways within the block; mn1 must lose nothing."""
    with campus.probing("mn1", address=IPv6Address(address(campus, "mn1")), rate=500) as results:
        yield
    lossless(results)


def programs(campus: Running, router: str) -> dict[str, int]:
    """Return interface -> the kernel's number of our program there."""
    space = campus.lab.namespace(router)
    with namespace.inside(space):
        indexes = {name: index for index, name in socket.if_nameindex()}
    hooks = Hooks(space, pins.directory(space))
    try:
        found = {name: hooks.program_at(name, index) for name, index in indexes.items()}
    finally:
        hooks.close()
    return {name: number for name, number in found.items() if number is not None}


def traces(campus: Running) -> list[str]:
    """Return what of the fast path is at tc and on disk, anywhere in the domain."""
    found = []
    for router in campus.lab.topology.routers():
        space = Space(campus.lab.namespace(router.name))
        if pins.home(space.name).exists():
            found.append(f"{router.name}: {pins.home(space.name)}")
        shown = campus.run(router.name, "tc", "-j", "qdisc", "show").stdout
        hooks = [one["dev"] for one in json.loads(shown) if one["kind"] == "clsact"]
        found += [f"{router.name}: clsact at {device}" for device in hooks]
        found += [
            f"{router.name}: a program at {device}" for device in programs(campus, router.name)
        ]
    return found
