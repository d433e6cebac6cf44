"""What is measured on: one router between the generator and the sink, by virtual cables."""

from __future__ import annotations

import subprocess
from ipaddress import IPv6Address, IPv6Network
from typing import Self

from srv6dmm.bench.inject import Way
from srv6dmm.bench.sink import Sink
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    NativeObject,
    Neighbour,
    NextHop,
    Route,
    TunnelSource,
)
from srv6dmm.dataplane.wiring import Cable, CableEnd, lay, set_up

MTU = 1600
SOURCE = IPv6Address("2001:db8:ffff::1")
"""The sender of every packet."""
TUNNEL_SOURCE = IPv6Address("fc00:0:1::1")
SID_BLOCK = IPv6Network("fc00::/16")
NEXT_HOP = IPv6Address("fe80::2")
ACCESS, CORE, OUT, SECOND_OUT = "in0", "core0", "out0", "out1"
"""The router's devices: frames enter at the first two and leave at the others."""
_SENDERS = {ACCESS: "gen0", CORE: "gen1"}
_SINKS = {OUT: "sink0", SECOND_OUT: "sink1"}
_MACS = {
    device: f"02:00:00:00:00:{number:02x}"
    for number, device in enumerate([*_SENDERS, *_SINKS, *_SENDERS.values(), *_SINKS.values()], 1)
}
_ROUTER = {
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    "net/ipv6/conf/all/seg6_enabled": "1",
    "net/ipv6/conf/default/seg6_enabled": "1",
    "net/ipv6/conf/default/accept_dad": "0",
}
_SILENT = {"net/ipv6/conf/all/disable_ipv6": "1", "net/ipv6/conf/default/disable_ipv6": "1"}


class Rig:
    """Three namespaces NAME-r, NAME-g, NAME-s; removed when the block ends.

    The router's neighbours are permanent, and `NEXT_HOP` is the sink's end of either output. The
    sink's end is silent: what it counts is what the generator has sent. `numbered_at`: see Sink.
    """

    def __init__(self, name: str, numbered_at: int | None = None) -> None:
        self.router, self.sender, self.receiver = f"{name}-r", f"{name}-g", f"{name}-s"
        self.sink = Sink(numbered_at)
        self._names = (self.router, self.sender, self.receiver)
        self._made: list[str] = []

    def __enter__(self) -> Self:
        try:
            for each in self._names:
                namespace.create(each)
                self._made.append(each)
            self._wire()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take everything away."""
        for each in self._made:
            namespace.remove(each)
        self._made.clear()
        self.sink.close()

    def _wire(self) -> None:
        set_up(self.router, _ROUTER.items())
        set_up(self.sender, _SILENT.items())
        set_up(self.receiver, _SILENT.items())
        far = {device: (self.sender, end) for device, end in _SENDERS.items()}
        far |= {device: (self.receiver, end) for device, end in _SINKS.items()}
        lay(
            [
                Cable(
                    CableEnd(self.router, device, _MACS[device]),
                    CableEnd(space, end, _MACS[end]),
                    MTU,
                )
                for device, (space, end) in far.items()
            ]
        )
        for end in _SINKS.values():
            self.sink.attach(self.receiver, end)
        self.put(
            InterfaceAddress("lo", TUNNEL_SOURCE, 128),
            TunnelSource(TUNNEL_SOURCE),
            *(Neighbour(device, NEXT_HOP, _MACS[end]) for device, end in _SINKS.items()),
            leads_out("2001:db8::/32"),
            leads_out(str(SID_BLOCK)),
        )

    def put(self, *objects: NativeObject) -> None:
        """Put objects into the router's kernel. Raises RuntimeError when it refuses one."""
        kernel = LinuxKernel(self.router)
        try:
            failures = kernel.put(objects)
        finally:
            kernel.close()
        if failures:
            raise RuntimeError(f"{self.router}: the kernel refused {failures[0]}")

    def ip(self, *arguments: str) -> None:
        """Run `ip` in the router. Raises RuntimeError with what it said."""
        done = subprocess.run(
            ["ip", "-n", self.router, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.router}: ip {' '.join(arguments)}: {done.stderr.strip()}")

    def way(self, device: str) -> Way:
        """Return how frames enter at a device."""
        return Way(self.router, device, self.sender, _SENDERS[device])

    def macs(self, device: str) -> tuple[str, str]:
        """Return the link-layer addresses of frames that enter at a device: (from, to)."""
        return _MACS[_SENDERS[device]], _MACS[device]

    def sink_macs(self, device: str) -> tuple[str, str]:
        """Return those of frames that leave at a device: (from, to)."""
        return _MACS[device], _MACS[_SINKS[device]]


def leads_out(prefix: str) -> Route:
    """Return the plain route of a prefix to the sink."""
    return leads_by(IPv6Network(prefix), NextHop(OUT, NEXT_HOP))


def leads_by(prefix: IPv6Network, hop: NextHop) -> Route:
    """Return the plain route of a prefix by a neighbour."""
    return Route(prefix, next_hops=(hop,))
