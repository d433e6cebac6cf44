"""How many seg6 routes a second: our encoder beside `ip -6 -batch`, on one kernel in one run."""

from __future__ import annotations

import gc
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from srv6dmm.bench.report import Case, percentile
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import METRIC, PROTOCOL, NextHop, Route, Seg6Encap
from srv6dmm.model.sid import EncapMode

_PREFIXES = int(IPv6Address("2001:db8::"))
_SIDS = int(IPv6Address("fc00::"))
_DEVICE = "bulk0"
_ROUNDS = 3
_BATCHES = 100
"""The routes are put in so many calls, to have percentiles of something."""


def bulk_routes(count: int, network_namespace: str) -> list[Case]:
    """Install `count` seg6 encap routes of two segments, each time anew; return the cases.

    * `routes_put_all`: one call of `LinuxKernel.put`, values to kernel, all answers read; the
      middle one of three rounds, all of them in `rounds_per_second`.
    * `routes_put`: the same in a hundred calls; p50 and p99 are of one call.
    * `routes_build`: making the values (not part of the two above).
    * `routes_ip_batch`: `ip -6 -force -batch`, the file written beforehand; p50 and p99 of one
      batch of the same size.

    Every case says in `batch` how many routes p50 and p99 stand for, and in `installed` what the
    kernel holds afterwards. Makes the namespace and removes it; needs root. Raises NamespaceError
    if there is one of that name, RuntimeError if routes are missing after our own put.
    """
    gc.collect()
    started = time.perf_counter()
    routes = [_route(index) for index in range(count)]
    built = time.perf_counter() - started
    size = max(1, count // _BATCHES)
    chunks = [routes[start : start + size] for start in range(0, count, size)]
    rounds = [
        _in_fresh_namespace(network_namespace, "routes_put_all", [routes]) for _ in range(_ROUNDS)
    ]
    whole = sorted(rounds, key=lambda case: float(case["per_second"]))[_ROUNDS // 2]
    whole["rounds_per_second"] = [case["per_second"] for case in rounds]
    cases = [
        whole,
        _in_fresh_namespace(network_namespace, "routes_put", chunks),
        _case("routes_build", [built], count),
        _ip_batch(network_namespace, chunks),
    ]
    return cases


def _route(index: int) -> Route:
    first = _SIDS + ((index & 0xFFFF) << 80) + 0x0E00
    segments = (IPv6Address(first), IPv6Address(first + (1 << 64)))
    return Route(
        prefix=IPv6Network((_PREFIXES + (index << 64), 64)),
        next_hops=(NextHop(_DEVICE),),
        encap=Seg6Encap(EncapMode.ENCAP, segments),
    )


def _case(name: str, took: Sequence[float], count: int, **more: object) -> Case:
    return {
        "name": name,
        "per_second": count / sum(took),
        "p50_ms": percentile(took, 0.5) * 1e3,
        "p99_ms": percentile(took, 0.99) * 1e3,
        "count": count,
        "batch": -(-count // len(took)),
        **more,
    }


def _in_fresh_namespace(name: str, case: str, chunks: Sequence[Sequence[Route]]) -> Case:
    count = sum(map(len, chunks))
    _make(name)
    try:
        kernel = LinuxKernel(name)
        took = []
        for chunk in chunks:
            started = time.perf_counter()
            failures = kernel.put(chunk)
            took.append(time.perf_counter() - started)
            if failures:
                raise RuntimeError(f"the kernel refused {len(failures)} routes: {failures[0]}")
        kernel.close()
        installed = _installed(name)
    finally:
        _remove(name)
    if installed != count:
        raise RuntimeError(f"{installed} routes are in the kernel, {count} were put")
    return _case(case, took, count, installed=installed)


def _ip_batch(name: str, chunks: Sequence[Sequence[Route]]) -> Case:
    """`-force`: where the kernel is out of per-CPU memory for a moment, ip does not try again."""
    _make(name)
    try:
        with tempfile.TemporaryDirectory(prefix="srv6dmm-bulk-") as folder:
            files = [Path(folder) / str(index) for index in range(len(chunks))]
            for file, chunk in zip(files, chunks, strict=True):
                file.write_text("".join(_lines(chunk)))
            took = []
            for file in files:
                started = time.perf_counter()
                subprocess.run(
                    ["ip", "-n", name, "-6", "-force", "-batch", str(file)],
                    check=False,  # it fails when one line does; `installed` counts
                    capture_output=True,
                )
                took.append(time.perf_counter() - started)
        installed = _installed(name)
    finally:
        _remove(name)
    return _case("routes_ip_batch", took, sum(map(len, chunks)), installed=installed)


def _lines(routes: Iterable[Route]) -> Iterable[str]:
    for route in routes:
        assert isinstance(route.encap, Seg6Encap)
        segments = ",".join(map(str, route.encap.segments))
        yield (
            f"route replace {route.prefix} encap seg6 mode {route.encap.mode} segs {segments} "
            f"dev {_DEVICE} proto {PROTOCOL} metric {METRIC}\n"
        )


def _make(name: str) -> None:
    namespace.create(name)
    for command in (
        ["link", "add", _DEVICE, "type", "veth", "peer", "name", "bulk1"],
        ["link", "set", _DEVICE, "up"],
        ["link", "set", "bulk1", "up"],
    ):
        subprocess.run(["ip", "-n", name, *command], check=True, capture_output=True)


def _installed(name: str) -> int:
    shown = subprocess.run(
        ["ip", "-n", name, "-6", "route", "show", "proto", str(PROTOCOL)],
        check=True,
        capture_output=True,
    )
    return shown.stdout.count(b"encap seg6")


def _remove(name: str) -> None:
    """Flush before removing, so that the kernel's clean-up does not slow the next case."""
    subprocess.run(["ip", "-n", name, "link", "del", _DEVICE], check=False, capture_output=True)
    namespace.remove(name)
