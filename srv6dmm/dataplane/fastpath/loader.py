"""The loader: makes maps, loads programs and pins both. Maps that are pinned are adopted.

Programs are compiled once for sources, kernel and BCC, by a process of its own (`compiler`), and
kept in /run: an agent that starts again is ready in milliseconds, and none ever holds a compiler.
A program is pinned under another name and renamed, so that the directory has whole programs at
every instant.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from srv6dmm.dataplane.fastpath import maps, pins, syscalls
from srv6dmm.dataplane.fastpath.compiler import text_of
from srv6dmm.dataplane.fastpath.programs import BadArtifact, Program, read
from srv6dmm.dataplane.fastpath.tables import Limits
from srv6dmm.model.errors import Srv6dmmError

PROGRAMS = ("steer", "sid")
CACHE = Path("/run/srv6dmm/programs")
_TIMEOUT_S = 180
_COMPILER = "srv6dmm.dataplane.fastpath.compiler"


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
    names: tuple[str, ...] = PROGRAMS,
    cache: Path = CACHE,
) -> None:
    """Make what is missing in a pin directory, and put new programs in the place of old ones.

    Milliseconds when the sources were compiled before, else a second or two; then other
    processes that want the same wait for it. Raises LoadError with the compiler's or the
    kernel's words.
    """
    try:
        pins.mount()
        programs = _programs(source or sources(), names, cache)
        maps.create(directory, limits or Limits())
        for name, program in programs.items():
            _pin(directory, name, program)
    except OSError as error:
        raise LoadError(f"{directory}: {error}") from error


def _pin(directory: Path, name: str, program: Program) -> None:
    tables = sorted({table for _, table in program.references})  # one is named many times
    opened = {table: syscalls.get(str(directory / table)) for table in tables}
    try:
        descriptor = syscalls.load_program(program.linked(opened), syscalls.SCHED_CLS, name)
        try:
            fresh = directory / f"fresh_{name}_{os.getpid()}"  # a bpffs takes no dots in names
            syscalls.pin(descriptor, str(fresh))
            fresh.rename(directory / f"prog_{name}")
        finally:
            syscalls.close(descriptor)
    finally:
        for table in opened.values():
            syscalls.close(table)


def _programs(source: Path, names: tuple[str, ...], cache: Path) -> dict[str, Program]:
    """Return the programs of a directory, compiled now or before."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = f"{text_of(source, names)}\n{os.uname().release}"
    path = cache / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"
    lock = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return read(path)
        except (FileNotFoundError, BadArtifact):
            _compile(source, names, path)
        return read(path)
    finally:
        os.close(lock)


def _compile(source: Path, names: tuple[str, ...], path: Path) -> None:
    command = [sys.executable, "-m", _COMPILER, "--source", str(source)]
    command += ["--programs", ",".join(names), "--out", str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{source}: not compiled within {_TIMEOUT_S} s") from error
    if done.returncode:
        faults = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        lines = faults or done.stderr.splitlines()[-1:] or [f"exit {done.returncode}"]
        raise LoadError(f"{source}: {'; '.join(lines[:5])}")
