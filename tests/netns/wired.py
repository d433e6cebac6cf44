"""One router between two wires: the kernel's seg6 and the programs side by side, the same values.

`node` is at its access port, `left` at its core port; frames go in and come out whole.
"""

from __future__ import annotations

import itertools
import select
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastPort,
    FastSettings,
    FastSid,
)
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    KernelObject,
    LinkAddress,
    Neighbour,
    NextHop,
    Route,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.sid import Behavior
from tests.netns.kernels import Space, cable, spaces

NODE_MAC, ACCESS_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
CORE_MAC, LEFT_MAC = "02:00:00:00:00:03", "02:00:00:00:00:04"
NODE_PORT, CORE_PORT = "a0", "left"
NODE, FAR = "2001:db8:1::9", "2001:db8:2::2"
NODE4, FAR4 = "10.1.0.9", "192.0.2.8"
BLOCK = IPv6Network("fc00::/16")
SOURCE = IPv6Address("fc00:9::1")
NEIGHBOUR = "fc00:8::1"
SEGMENTS = tuple(IPv6Address(f"fc00:{index}::e00{index}") for index in (3, 1, 2))
END, END_X, DT6, DX4 = (IPv6Address(f"fc00:9:0:{it}::") for it in ("e00", "f01", "d06", "d04"))
NODE_HOP, LEFT_HOP = IPv6Address("fe80::9"), IPv6Address("fe80::2")


class Router:
    """Both ways through one router: `node` is at its access port, `left` at its core port."""

    def __init__(self, router: Space, node: Space, left: Space) -> None:
        self.space, self.node, self.left = router, node, left
        self.kernel = LinuxKernel(router.name)
        pins.mount()
        self.place = pins.directory(router.name)
        loader.load(self.place)
        self.fast = FastPath(router.name, self.place)
        self.maps = Maps(self.place)
        self.taps = {NODE_PORT: tap(node, "h0"), CORE_PORT: tap(left, "l0")}
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Close and unpin everything."""
        for one in self.taps.values():
            one.close()
        self.maps.close()
        self.fast.close()
        self.kernel.close()
        shutil.rmtree(self.place.parent)

    def put(self, *objects: KernelObject) -> None:
        """Put objects where they belong; none may be refused."""
        native = [item for item in objects if item.identity[0] in NATIVE]
        fast = [item for item in objects if item.identity[0] not in NATIVE]
        assert self.kernel.put(native) == []  # type: ignore[arg-type]
        assert self.fast.put(fast) == []  # type: ignore[arg-type]

    def mark(self) -> bytes:
        """Return a payload that no frame had before."""
        return f"packet {next(self._numbers):06}".encode()

    def through(self, port: str, packet: Packet, mark: bytes = b"", trailer: bytes = b"") -> bytes:
        """Send a packet into a port; return the one frame with its payload that comes out."""
        mark = mark or self.mark()
        self._waiting()
        frame = bytes(link(port) / packet / Raw(mark)) + trailer
        self.taps[port].send(frame)
        return self._out(frame, mark)

    def _waiting(self) -> list[bytes]:
        """Take what has come out and was not read."""
        found = []
        for one in self.taps.values():
            while select.select([one], [], [], 0)[0]:
                found.append(one.recv(65_536))
        return found

    def _out(self, frame: bytes, mark: bytes, seen: list[bytes] | None = None) -> bytes:
        """Wait for a frame with a payload that is not the one sent; add others to `seen`."""
        until = time.monotonic() + 3
        while (rest := until - time.monotonic()) > 0:
            for ready in select.select(list(self.taps.values()), [], [], rest)[0]:
                found: bytes = ready.recv(65_536)
                if mark in found and found != frame:
                    return found
                if seen is not None:
                    seen.append(found)
        pytest.fail(f"nothing came out for {Ether(frame).summary()}")

    @contextmanager
    def programs(self, facing: Facing = Facing.ACCESS) -> Iterator[None]:
        """Have the programs at both ports; `facing` is what the node's is."""
        ports = (FastPort(NODE_PORT, facing), FastPort(CORE_PORT, Facing.CORE))
        assert self.fast.put(ports) == []
        try:
            yield
        finally:
            assert self.fast.delete(ports) == []

    def comes_out(self, port: str, frame: bytes, mark: bytes, follower: Packet) -> list[bytes]:
        """Send a frame; return all that came out with its payload.

        `follower` is a packet of the same port that is forwarded: what became of the frame came
        out before it, or never will.
        """
        self._waiting()
        last = self.mark()
        behind = bytes(link(port) / follower / Raw(last))
        self.taps[port].send(frame)
        self.taps[port].send(behind)
        seen: list[bytes] = []
        self._out(behind, last, seen)
        seen += self._waiting()
        return [found for found in seen if mark in found and found != frame]

    def both(
        self,
        port: str,
        packet: Packet,
        reason: Reason,
        facing: Facing = Facing.ACCESS,
        trailer: bytes = b"",
    ) -> tuple[bytes, bytes]:
        """Return what the kernel and what the programs make of a packet.

        The latter must count the given reason: else the kernel has forwarded it once more.
        """
        mark = self.mark()
        slow = self.through(port, packet, mark, trailer)
        with self.programs(facing):
            before = self.fast.reasons()
            quick = self.through(port, packet, mark, trailer)
            after = self.fast.reasons()
        counted = {one: after[one] - before[one] for one in after if after[one] != before[one]}
        assert counted.get(reason) == 1, f"{packet.summary()}: counted as {counted}"
        return slow, quick


def link(port: str) -> Packet:
    """Return the link-layer header of a frame into a port."""
    macs = (NODE_MAC, ACCESS_MAC) if port == NODE_PORT else (LEFT_MAC, CORE_MAC)
    return Ether(src=macs[0], dst=macs[1])


NATIVE = ("rule", "route", "neighbour", "address", "tunsrc", "sysctl", "link")


def tap(space: Space, interface: str) -> socket.socket:
    """Open an interface for whole frames, both ways."""
    with namespace.inside(space.name):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        made.bind((interface, 0x0003))
    return made


@contextmanager
def wired_router() -> Iterator[Router]:
    """Make a router and its two neighbours."""
    with spaces(3) as (router, node, left):
        for space in (node, left):
            kernel = LinuxKernel(space.name)
            quiet = Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
            assert kernel.put([quiet]) == []
            kernel.close()
        cable(node, "h0", router, NODE_PORT)
        cable(left, "l0", router, CORE_PORT)
        made = Router(router, node, left)
        try:
            route = IPv6Network("::/0"), NextHop(CORE_PORT, LEFT_HOP)
            made.put(
                Sysctl("net/ipv6/conf/all/forwarding", "1"),
                Sysctl("net/ipv4/ip_forward", "1"),
                Sysctl("net/ipv4/conf/all/rp_filter", "0"),
                Sysctl(f"net/ipv4/conf/{NODE_PORT}/rp_filter", "0"),
                Sysctl(f"net/ipv6/conf/{CORE_PORT}/accept_dad", "0"),
                LinkAddress(NODE_PORT, ACCESS_MAC),
                LinkAddress(CORE_PORT, CORE_MAC),
                InterfaceAddress(NODE_PORT, IPv6Address("fe80::1"), 64),
                InterfaceAddress(CORE_PORT, IPv6Address("fe80::3"), 64),
                InterfaceAddress("lo", SOURCE, 128),
                TunnelSource(SOURCE),
                Neighbour(CORE_PORT, LEFT_HOP, LEFT_MAC),
                Neighbour(NODE_PORT, NODE_HOP, NODE_MAC),
                Route(route[0], next_hops=(route[1],)),
                Route(IPv6Network("2001:db8:1::/64"), next_hops=(NextHop(NODE_PORT, NODE_HOP),)),
                *(
                    Route(
                        IPv6Network((sid, 128)),
                        next_hops=(NextHop(CORE_PORT),),
                        encap=Seg6Local(behavior, next_hop=hop, table=table),
                    )
                    for sid, behavior, hop, table in (
                        (END, Behavior.END, None, None),
                        (END_X, Behavior.END_X, LEFT_HOP, None),
                        (DT6, Behavior.END_DT6, None, 254),
                    )
                ),
                FastSettings(BLOCK),
                FastBinding(IPv6Network("2001:db8:1::/64"), NODE_PORT, NODE_MAC),
                FastDelivery(IPv6Network("2001:db8:1::/64"), NODE_PORT, NODE_MAC, NODE_HOP, 1500),
                FastSid(END, Behavior.END),
                FastSid(END_X, Behavior.END_X, CORE_PORT, LEFT_HOP),
                FastSid(DT6, Behavior.END_DT6),
                FastSid(DX4, Behavior.END_DX4, None, IPv4Address(NODE4)),
                Route(
                    IPv6Network((DX4, 128)),
                    next_hops=(NextHop(CORE_PORT),),
                    encap=Seg6Local(Behavior.END_DX4, next_hop4=IPv4Address(NODE4)),
                ),
            )
            router.ip("route", "add", f"{NODE4}/32", "dev", NODE_PORT)
            router.ip("neigh", "add", NODE4, "lladdr", NODE_MAC, "dev", NODE_PORT)
            yield made
        finally:
            made.close()
