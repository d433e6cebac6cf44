"""TCP from a correspondent to a mobile node through three routers, segmentation offload on.

The correspondent's router encapsulates with two segments (End at the core, End.DT6 at the mobile
node's router); acknowledgements go back as they are, through the check of their source.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Any, Self

from srv6dmm.bench.rig import leads_by
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastObject,
    FastPort,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import (
    MAIN_TABLE,
    InterfaceAddress,
    NativeObject,
    Neighbour,
    NextHop,
    Route,
    Seg6Encap,
    Seg6Local,
    TunnelSource,
)
from srv6dmm.dataplane.wiring import Cable, CableEnd, configure_host, lay, set_up
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.sid import Behavior, EncapMode

MODES = ("plain", "kernel", "ebpf")
_CORE_MTU, _ACCESS_MTU = 1600, 1500
_BLOCK = IPv6Network("fc00::/16")
_END, _DELIVER = IPv6Address("fc00:0:c::e"), IPv6Address("fc00:0:a::d")
_SOURCE = IPv6Address("fc00:0:b::1")
_MOBILE, _FIXED = IPv6Network("2001:db8:1::/64"), IPv6Network("2001:db8:2::/64")
_MOBILE_NODE, _CORRESPONDENT = IPv6Address("2001:db8:1::2"), IPv6Address("2001:db8:2::2")
_NODES = ("mn", "ra", "co", "rb", "cn")
_ENDS = (
    (("mn", "eth0"), ("ra", "mn0"), _ACCESS_MTU),
    (("ra", "co0"), ("co", "ra0"), _CORE_MTU),
    (("co", "rb0"), ("rb", "co0"), _CORE_MTU),
    (("rb", "cn0"), ("cn", "eth0"), _ACCESS_MTU),
)
_PORT = "5201"
_SYSCTLS = {
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    "net/ipv6/conf/all/seg6_enabled": "1",
    "net/ipv6/conf/default/seg6_enabled": "1",
    "net/ipv6/conf/default/accept_dad": "0",
}


class TransferError(Srv6dmmError):
    """iperf3 did not run as it should."""


@dataclass(frozen=True, slots=True)
class _Link:
    """An interface, its link-local address and MAC, and those at the other end."""

    own: IPv6Address
    mac: str
    far: IPv6Address
    far_mac: str


class Domain:
    """Five namespaces NAME-mn, -ra, -co, -rb, -cn of one mode, with a server at the mobile node."""

    def __init__(self, name: str, mode: str) -> None:
        self.mode = mode
        self._name = name
        self._made: list[str] = []
        self._links: dict[tuple[str, str], _Link] = {}
        self._pinned: list[str] = []
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            for node in _NODES:
                namespace.create(self._space(node))
                self._made.append(self._space(node))
                set_up(self._space(node), _SYSCTLS.items() if node in ("ra", "co", "rb") else ())
            self._wire()
            self._route()
            if self.mode == "ebpf":
                self._load()
            self._serve()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take everything away."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
        for space in self._pinned:
            pins.remove(space)
        for space in self._made:
            namespace.remove(space)
        self._made.clear()
        self._pinned.clear()

    def _space(self, node: str) -> str:
        return f"{self._name}-{node}"

    def _wire(self) -> None:
        cables = []
        for number, (one, other, mtu) in enumerate(_ENDS):
            macs = [f"02:00:00:01:{number:02x}:{end:02x}" for end in (1, 2)]
            near, far = (IPv6Address(f"fe80::{number + 1}:{end}") for end in (1, 2))
            self._links[one] = _Link(near, macs[0], far, macs[1])
            self._links[other] = _Link(far, macs[1], near, macs[0])
            cables.append(
                Cable(
                    CableEnd(self._space(one[0]), one[1], macs[0]),
                    CableEnd(self._space(other[0]), other[1], macs[1]),
                    mtu,
                )
            )
        lay(cables)
        for (node, interface), link in self._links.items():
            self._put(
                node,
                InterfaceAddress(interface, link.own, 64),
                Neighbour(interface, link.far, link.far_mac),
            )
        for node, address in (("mn", _MOBILE_NODE), ("cn", _CORRESPONDENT)):
            far = self._links[node, "eth0"].far
            configure_host(self._space(node), "eth0", IPv6Interface((address, 64)), far)

    def _via(self, node: str, interface: str) -> NextHop:
        return NextHop(interface, self._links[node, interface].far)

    def _route(self) -> None:
        self._put(
            "ra",
            leads_by(_MOBILE, self._via("ra", "mn0")),
            leads_by(_FIXED, self._via("ra", "co0")),
            Route(
                IPv6Network(_DELIVER),
                next_hops=(NextHop("co0"),),
                encap=Seg6Local(Behavior.END_DT6, table=MAIN_TABLE),
            ),
        )
        self._put(
            "co",
            leads_by(_MOBILE, self._via("co", "ra0")),
            leads_by(IPv6Network(_DELIVER), self._via("co", "ra0")),
            leads_by(_FIXED, self._via("co", "rb0")),
            Route(IPv6Network(_END), next_hops=(NextHop("ra0"),), encap=Seg6Local(Behavior.END)),
        )
        towards = leads_by(_MOBILE, self._via("rb", "co0"))
        if self.mode != "plain":
            encap = Seg6Encap(EncapMode.ENCAP, (_END, _DELIVER))
            towards = Route(_MOBILE, next_hops=(NextHop("co0"),), encap=encap)
        self._put(
            "rb",
            InterfaceAddress("lo", _SOURCE, 128),
            TunnelSource(_SOURCE),
            leads_by(_FIXED, self._via("rb", "cn0")),
            leads_by(_BLOCK, self._via("rb", "co0")),
            towards,
        )

    def _load(self) -> None:
        settings = FastSettings(_BLOCK)
        node = self._links["ra", "mn0"]
        onward = self._links["rb", "co0"]
        self._put_fast(
            "ra",
            settings,
            FastSid(_DELIVER, Behavior.END_DT6),
            FastDelivery(_MOBILE, "mn0", node.far_mac, node.far, 9000),
            FastBinding(_MOBILE, "mn0", node.far_mac),
            FastPort("mn0", Facing.ACCESS),
            FastPort("co0", Facing.CORE),
        )
        self._put_fast(
            "co",
            settings,
            FastSid(_END, Behavior.END),
            FastPort("ra0", Facing.CORE),
            FastPort("rb0", Facing.CORE),
        )
        self._put_fast(
            "rb",
            settings,
            FastSteering(
                _MOBILE,
                EncapMode.ENCAP,
                (_END, _DELIVER),
                _SOURCE,
                "co0",
                onward.far,
                _CORE_MTU,
            ),
            FastPort("cn0", Facing.OUTSIDE),
            FastPort("co0", Facing.CORE),
        )

    def _put(self, node: str, *objects: NativeObject) -> None:
        kernel = LinuxKernel(self._space(node))
        try:
            failures = kernel.put(objects)
        finally:
            kernel.close()
        if failures:
            raise TransferError(f"{self._space(node)}: the kernel refused {failures[0]}")

    def _put_fast(self, node: str, *objects: FastObject) -> None:
        pins.mount()
        directory: Path = pins.directory(self._space(node))
        self._pinned.append(self._space(node))
        loader.load(directory)
        fast = FastPath(self._space(node), directory)
        try:
            failures = fast.put(objects)
        finally:
            fast.close()
        if failures:
            raise TransferError(f"{self._space(node)}: the fast path refused {failures[0]}")

    def _serve(self) -> None:
        with namespace.inside(self._space("mn")):
            self._server = subprocess.Popen(
                ["iperf3", "-s", "-p", _PORT, "--forceflush"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self._server.stdout is not None
        for line in self._server.stdout:
            if "listening" in line:
                return
        raise TransferError("iperf3 -s ended at once")

    def transfer(self, seconds: int) -> float:
        """Return what arrives at the mobile node, Gb/s."""
        cores = sorted(os.sched_getaffinity(0))
        command = ["iperf3", "-c", str(_MOBILE_NODE), "-p", _PORT, "-t", str(seconds), "-J"]
        command += ["-A", f"{cores[0]},{cores[-1]}"]
        with namespace.inside(self._space("cn")):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        report = json.loads(done.stdout or "{}")
        if done.returncode or "error" in report:
            raise TransferError(f"iperf3 ({self.mode}): {report.get('error', done.stderr)}")
        return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9


def transfers(
    name: str, rounds: int, runs: int, seconds: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return {name, gbps, ratio, ratio_min, ratio_max} of each mode, rounds interleaved.

    In a round the modes take turns `runs` times, and the fastest transfer of each counts: others
    on the machine only ever make it slower.

    Raises TransferError; FileNotFoundError when there is no iperf3.
    """
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    with (
        Domain(f"{name}0", "plain") as plain,
        Domain(f"{name}1", "kernel") as kernel,
        Domain(f"{name}2", "ebpf") as ebpf,
    ):
        for number in range(rounds):
            best = dict.fromkeys(MODES, 0.0)
            for domain in (plain, kernel, ebpf) * runs:
                progress(f"TCP, round {number + 1} of {rounds}: {domain.mode}")
                best[domain.mode] = max(best[domain.mode], domain.transfer(seconds))
            for mode, rate in best.items():
                rates[mode].append(rate)
    rows = []
    for mode in MODES:
        pairs = zip(rates[mode], rates["plain"], strict=True)
        ratios = [rate / base for rate, base in pairs]
        rows.append(
            {
                "name": mode,
                "gbps": round(statistics.median(rates[mode]), 2),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_min": round(min(ratios), 3),
                "ratio_max": round(max(ratios), 3),
            }
        )
    return rows
