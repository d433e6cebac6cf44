"""Reports: the environment block, percentiles, and the one JSON shape of every benchmark."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

Case = dict[str, Any]
"""{name, per_second, p50_ms, p99_ms, count}; more keys are welcome."""

_PACKAGES = ("srv6dmm", "pyroute2", "rustworkx", "fastapi", "uvicorn", "websockets", "msgspec")


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the nearest-rank percentile; `fraction` in 0..1. NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    rank = max(0, min(len(ordered) - 1, round(fraction * len(ordered) + 0.5) - 1))
    return ordered[rank]


def timed(name: str, count: int, once: Callable[[int], object]) -> Case:
    """Return the case of calling `once(i)` for i in 0..count-1, one after the other."""
    took: list[float] = []
    started = time.perf_counter()
    for index in range(count):
        before = time.perf_counter()
        once(index)
        took.append((time.perf_counter() - before) * 1e3)
    total = time.perf_counter() - started
    return {
        "name": name,
        "per_second": count / total,
        "p50_ms": percentile(took, 0.5),
        "p99_ms": percentile(took, 0.99),
        "count": count,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def environment(mode: str) -> dict[str, Any]:
    """Return what the figures were taken on: kernel, CPUs, mode, versions."""
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "mode": mode,
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
        },
    }


def write(path: Path, report: dict[str, Any]) -> None:
    """Write a report as indented JSON, making its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
