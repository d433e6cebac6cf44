"""`make test-kernels`: the old kernels that srv6dmm supports, each booted and tried.

`python deploy/kernels [--limit SECONDS] [SUITE...]`. Exit code 0 when on every kernel everything
passed that it is not known to lack. Kernels and what the guests wrote stay below out/kernels.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import initramfs
import machine
import packages
import report

SUITES = ("bullseye", "bookworm")
LIMIT_S = 355.0
REPOSITORY = Path(__file__).resolve().parents[2]
PLACE = REPOSITORY / "out" / "kernels"


def main() -> int:
    """Try every suite asked for; one that cannot be had keeps none from its run."""
    parser = argparse.ArgumentParser(description="Try srv6dmm on the old kernels it supports.")
    parser.add_argument("suites", nargs="*", metavar="suite", help=", ".join(SUITES))
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for each kernel")
    given = parser.parse_args()
    suites = given.suites or list(SUITES)
    if not set(suites) <= set(SUITES):
        parser.error(f"suites: {', '.join(SUITES)}")
    if os.geteuid() != 0 or os.uname().machine != "x86_64":
        print("test-kernels: run it as root, on x86-64", file=sys.stderr)
        return 2
    try:
        packages.install_tools()
    except packages.Unavailable as error:
        print(f"test-kernels: {error}", file=sys.stderr)
        return 1
    accelerators = [machine.KVM, machine.TCG] if machine.usable_kvm() else [machine.TCG]
    verdicts: dict[str, str] = {}
    for suite in suites:
        try:
            kernel = packages.kernel(suite, PLACE / suite)
            verdicts[suite] = _try(kernel, accelerators, given.limit)
        except packages.Unavailable as error:
            verdicts[suite] = f"FAILED: its kernel cannot be had: {error}"
            print(f"{suite}: {error}", file=sys.stderr)
    print()
    for suite, verdict in verdicts.items():
        print(f"{suite}: {verdict}")
    return 0 if all(verdict.startswith("passed") for verdict in verdicts.values()) else 1


def _try(kernel: packages.Kernel, accelerators: list[machine.Accelerator], limit_s: float) -> str:
    """Boot a kernel by the first accelerator that runs it, print its table, return the verdict.

    An accelerator that does not run a guest is taken off the list.
    """
    results = PLACE / kernel.suite / "results"
    image = initramfs.build(kernel, PLACE / kernel.suite)
    while True:
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir()
        accelerator = accelerators[0]
        print(f"\n== {kernel.release} ({kernel.suite}) under {accelerator.name}", flush=True)
        boot = machine.boot(kernel, image, results, accelerator, REPOSITORY, limit_s)
        if boot.said_hello or len(accelerators) == 1:
            break
        print(f"{accelerator.name} does not run this kernel here ({_words(results)})", flush=True)
        accelerators.pop(0)
    found = report.Results.read(results / "tests.jsonl")
    print("\n".join(report.table(found)))
    took = f"{boot.seconds:.0f} s ({boot.processor_s:.0f} s of processor)"
    figures = report.summary(found)
    if not boot.said_hello:
        return f"FAILED: {kernel.release} did not boot: {_words(results)}"
    if not boot.ended:
        return f"FAILED: {kernel.release} was switched off after {took}; {figures}"
    if not found.passed:
        return f"FAILED: {kernel.release}, {took}, {figures}; see {results}/tests.log"
    return f"passed: {kernel.release}, {took}, {figures}"


def _words(results: Path) -> str:
    """Return the last that qemu or the console said."""
    for name in ("qemu.log", "console.log"):
        path = results / name
        lines = path.read_text(errors="replace").split("\n") if path.exists() else []
        said = [line.strip() for line in lines if line.strip()]
        if said:
            return said[-1]
    return "without a word"


if __name__ == "__main__":
    sys.exit(main())
