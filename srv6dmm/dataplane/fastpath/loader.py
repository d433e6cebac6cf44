"""The loader: a process that compiles, pins and exits, taking LLVM's memory with it.

`python -m srv6dmm.dataplane.fastpath.loader --pins DIR`. Maps that are pinned are adopted, with
all they hold; programs are pinned under another name and renamed, so that DIR has whole programs
at every instant.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from srv6dmm.dataplane.fastpath import maps, pins, syscalls
from srv6dmm.dataplane.fastpath.layout import Limits, assertions
from srv6dmm.model.errors import Srv6dmmError

PROGRAMS = ("steer", "sid")
_INCLUDE = re.compile(r'#include "([^"]+)"\s*$')
_TIMEOUT_S = 120


class LoadError(Srv6dmmError):
    """The programs were not loaded; what was pinned before is untouched."""


def sources() -> Path:
    """Return the directory of the C sources: beside the package, or installed with it."""
    here = Path(__file__).resolve()
    for folder in (here.parents[3] / "ebpf", here.parents[2] / "ebpf"):
        if (folder / "steer_tc.c").exists():
            return folder
    raise LoadError(f"no ebpf/steer_tc.c beside {here.parents[2]}")


def load(
    directory: Path,
    limits: Limits | None = None,
    *,
    source: Path | None = None,
    programs: tuple[str, ...] = PROGRAMS,
) -> None:
    """Load in a process of its own. Takes a second or two. Raises LoadError with its words."""
    command = [sys.executable, "-m", __spec__.name, "--pins", str(directory)]
    command += ["--programs", ",".join(programs)]
    if source is not None:
        command += ["--source", str(source)]
    for name, number in asdict(limits or Limits()).items():
        command += [f"--{name}", str(number)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{directory}: not loaded within {_TIMEOUT_S} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise LoadError(f"{directory}: {lines[-1] if lines else f'exit {done.returncode}'}")


def expand(path: Path, seen: set[Path] | None = None) -> str:
    """Return a file with its own includes in place, each once, and #line to tell where from.

    BCC rewrites what stands in the main text only.
    """
    seen = set() if seen is None else seen
    seen.add(path.resolve())
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = _INCLUDE.match(line)
        if not found:
            lines.append(line)
            continue
        inner = (path.parent / found[1]).resolve()
        if inner not in seen:
            lines.append(expand(inner, seen))
        lines.append(f'#line {number + 1} "{path.name}"')
    return "\n".join(lines)


def compile_and_pin(
    directory: Path, limits: Limits, source: Path, programs: tuple[str, ...]
) -> None:
    """Compile, have the kernel verify, pin. In this process: BCC stays in its memory."""
    from bcc import BPF

    pins.mount()
    maps.create(directory, limits)
    seen: set[Path] = set()
    text = "\n".join(expand(source / f"{name}_tc.c", seen) for name in programs)
    flags = [f"-DMAX_{name.upper()}={number}" for name, number in asdict(limits).items()]
    flags += [f'-DPINS="{directory}"', "-Wno-macro-redefined"]
    module = BPF(text=f"{text}\n{assertions()}", cflags=flags)
    for name in programs:
        descriptor = module.load_func(name, BPF.SCHED_CLS).fd
        fresh = directory / f"fresh_{name}_{os.getpid()}"  # a bpffs takes no dots in names
        syscalls.pin(descriptor, str(fresh))
        fresh.rename(directory / f"prog_{name}")


def main() -> int:
    """Run from the command line; print what it took as JSON."""
    parser = argparse.ArgumentParser(description="Compile and pin the fast path's programs.")
    parser.add_argument("--pins", type=Path, required=True)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    for name, number in asdict(Limits()).items():
        parser.add_argument(f"--{name}", type=int, default=number)
    given = vars(parser.parse_args())
    limits = Limits(**{name: given[name] for name in asdict(Limits())})
    started = time.perf_counter()
    try:
        compile_and_pin(
            given["pins"],
            limits,
            given["source"] or sources(),
            tuple(given["programs"].split(",")),
        )
    except ImportError as error:
        print(f"no BCC: {error}; install python3-bpfcc", file=sys.stderr)
        return 1
    except (OSError, Srv6dmmError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"took_ms": round((time.perf_counter() - started) * 1e3, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
