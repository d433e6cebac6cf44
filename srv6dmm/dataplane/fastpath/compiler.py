"""The compiler: a process that turns C into instructions by BCC and exits, with LLVM's memory.

`python -m srv6dmm.dataplane.fastpath.compiler --source DIR --out FILE`. The one place that imports
bcc. Nothing is loaded into the kernel for good here: instructions name their maps, and whoever
loads them puts the descriptors of the maps in.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from srv6dmm.dataplane.fastpath.layout import assertions
from srv6dmm.dataplane.fastpath.programs import INSTRUCTION, Program, is_map_reference, write
from srv6dmm.model.errors import Srv6dmmError

_INCLUDE = re.compile(r'#include "([^"]+)"\s*$')


class CompileError(Srv6dmmError):
    """The sources do not compile, or the kernel's verifier refuses a program."""


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


def text_of(source: Path, names: tuple[str, ...]) -> str:
    """Return the one text that all programs of a directory are compiled from."""
    seen: set[Path] = set()
    parts = [expand(source / f"{name}_tc.c", seen) for name in names]
    return "\n".join([*parts, assertions()])


def compiled(text: str, names: tuple[str, ...]) -> dict[str, Program]:
    """Compile, have the kernel verify, and return the programs. BCC stays in this process.

    Raises CompileError; the compiler's own words are on stderr.
    """
    from bcc import BPF

    try:
        module = BPF(text=text, cflags=["-Wno-macro-redefined"])
        for name in names:
            module.load_func(name, BPF.SCHED_CLS)
    except Exception as error:  # BCC raises nothing more special
        raise CompileError(str(error)) from error
    tables = {module[name].map_fd: name for name in _map_names(text)}
    return {name: _named(module.dump_func(name), tables) for name in names}


def _map_names(text: str) -> list[str]:
    return re.findall(r"^BPF_F_TABLE\([^,]+,[^,]+,[^,]+, (\w+),", text, re.MULTILINE) + re.findall(
        r"^BPF_RINGBUF_OUTPUT\((\w+),", text, re.MULTILINE
    )


def _named(code: bytes, tables: dict[int, str]) -> Program:
    """Put names in the place of this process's descriptors."""
    references = []
    for at in range(0, len(code), INSTRUCTION):
        if is_map_reference(code, at):
            descriptor = int.from_bytes(code[at + 4 : at + 8], "little")
            references.append((at, tables[descriptor]))
    return Program(code, tuple(references))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Compile the fast path's programs.")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--programs", required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    names = tuple(given.programs.split(","))
    try:
        write(given.out, compiled(text_of(given.source, names), names))
    except ImportError as error:
        print(f"no BCC: {error}; install python3-bpfcc", file=sys.stderr)
        return 1
    except (OSError, Srv6dmmError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
