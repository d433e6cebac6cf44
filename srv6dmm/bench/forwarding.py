"""`bench forwarding`: what a packet costs, as a ratio to plain forwarding of the same moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from srv6dmm.bench import fast_cases, inject, kernel_cases, switching, sync, tcp
from srv6dmm.bench.fast_router import FastRouter
from srv6dmm.bench.kernel_cases import Case
from srv6dmm.bench.report import Case as Row
from srv6dmm.bench.report import environment
from srv6dmm.bench.rig import Rig
from srv6dmm.bench.rounds import Meter
from srv6dmm.dataplane.fastpath.loader import LoadError

_TRANSFER_S = 1
SIZES = (100, 1400)
"""Octets of a frame, Ethernet header included, before anything is put in front of it."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    runs: int
    packets: int
    switched: int
    transfers: int
    transfer_runs: int
    synced: int
    large: tuple[str, ...]
    sizes: tuple[int, ...] = SIZES


FULL = Effort(7, 4, 25_000, 4_000_000, 5, 4, 100_000, ("1k", "100k", "1m"))
QUICK = Effort(3, 2, 15_000, 400_000, 3, 1, 100_000, ("1k", "100k", "1m"))


def run(
    effort: Effort,
    progress: Callable[[str], None] = lambda _: None,
    only: Sequence[str] = (),
    live: bool | None = None,
) -> dict[str, Any]:
    """Return the report of `bench forwarding`. Needs root.

    `only`: names of cases, also `tcp`, `switch` and `sync`; empty: all. `live`: by live frames or
    by AF_PACKET; None: live frames where the kernel has them. Raises MeasureError when a packet
    is missing.
    """
    name = f"s6b{os.getpid()}"
    live = inject.has_live_frames() if live is None else live
    meter = Meter(effort.packets, effort.runs, live)
    notes: list[str] = []
    if not live:
        notes.append(
            "AF_PACKET instead of live XDP frames (Linux 5.18): most of a packet's time is the "
            "sender's, and ratios come out nearer to 1; no `switch`"
        )
    load_before = os.getloadavg()[0]
    report: dict[str, Any] = {}
    with ExitStack() as stack:
        rig = stack.enter_context(Rig(f"{name}k"))
        progress("kernel cases")
        cases = kernel_cases.cases(rig)
        if not only or "kernel_encap_2_many" in only:
            cases.append(kernel_cases.encap_many(rig))
        try:
            cases += _fast(stack, name, effort, progress, only)
        except LoadError as error:
            notes.append(f"no cases of the fast path: {error}")
        if only:
            cases = [case for case in cases if case.name in only]
        rows: list[Row] = []
        for size in effort.sizes:
            rows += meter.rounds(
                lambda many: kernel_cases.plain(rig, many), cases, size, effort.rounds, progress
            )
        for case in cases:
            if case.draws is not None:
                case.draws.close()
        report["cases"] = rows
    fast = not any("fast path" in note for note in notes)
    report["tcp"] = []
    if _wanted("tcp", only) and fast:
        if shutil.which("iperf3"):
            progress("TCP")
            report["tcp"] = tcp.transfers(
                f"{name}t", effort.transfers, effort.transfer_runs, _TRANSFER_S, progress
            )
        else:
            notes.append("no TCP: iperf3 is not installed")
    if _wanted("switch", only) and fast and live:
        progress("switching a flow under load")
        report["switch"] = _switch(f"{name}w", effort)
    if _wanted("sync", only) and fast:
        progress("full sync")
        with Rig(f"{name}y") as rig:
            report["sync"] = sync.full_sync(rig, effort.synced)
    report["environment"] = {
        **environment("netlink+ebpf"),
        "cpu": _processor(),
        "generator": "live frames" if live else "AF_PACKET",
        "rounds": effort.rounds,
        "runs_per_round": effort.runs,
        "packets_per_run": effort.packets,
        "disturbed_runs": meter.disturbed,
        "load": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "notes": notes,
    }
    return report


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or name in only


def _fast(
    stack: ExitStack,
    name: str,
    effort: Effort,
    progress: Callable[[str], None],
    only: Sequence[str],
) -> list[Case]:
    progress("loading the fast path")
    router = stack.enter_context(FastRouter(stack.enter_context(Rig(f"{name}f"))))
    cases = fast_cases.cases(router)
    for number, size in enumerate(effort.large):
        if only and not any(one.startswith(f"steer_prefix_2_{size}") for one in only):
            continue
        entries = fast_cases.SIZES[size]
        progress(f"{entries:,} entries")
        rig = stack.enter_context(Rig(f"{name}f{number}"))
        router = stack.enter_context(FastRouter(rig, fast_cases.limits_for(entries)))
        fast_cases.fill(router, entries)
        cases += fast_cases.large_cases(router, size, entries)
    return cases


def _switch(name: str, effort: Effort) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    with switching.make_rig(name) as rig, FastRouter(rig) as router:
        return switching.switch_under_load(router, effort.switched, (cores[0], cores[-1]))


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"
