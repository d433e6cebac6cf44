"""Compiled programs as values: instructions, and which of them name which map."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from srv6dmm.model.errors import Srv6dmmError

INSTRUCTION = 8
_LOAD_64, _PSEUDO_MAP = 0x18, 1


class BadArtifact(Srv6dmmError):
    """A file of compiled programs is not one."""


@dataclass(frozen=True, slots=True)
class Program:
    """Instructions as in <linux/bpf.h>; `references`: (offset in bytes, map name)."""

    code: bytes
    references: tuple[tuple[int, str], ...]

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """Return the instructions with the descriptors of maps in place."""
        code = bytearray(self.code)
        for at, name in self.references:
            code[at + 4 : at + 8] = descriptors[name].to_bytes(4, "little")
        return bytes(code)


def is_map_reference(code: bytes, at: int) -> bool:
    """Tell whether the instruction at an offset loads a map's address."""
    return code[at] == _LOAD_64 and code[at + 1] >> 4 == _PSEUDO_MAP


def write(path: Path, programs: Mapping[str, Program]) -> None:
    """Write programs to a file, whole or not at all. Raises OSError."""
    document = {
        name: {
            "code": base64.b64encode(program.code).decode(),
            "references": [list(reference) for reference in program.references],
        }
        for name, program in programs.items()
    }
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(document))
    fresh.replace(path)


def read(path: Path) -> dict[str, Program]:
    """Read programs from a file. Raises OSError, and BadArtifact for a file that is none."""
    try:
        document = json.loads(path.read_text())
        return {
            name: Program(
                base64.b64decode(part["code"], validate=True),
                tuple((int(at), str(table)) for at, table in part["references"]),
            )
            for name, part in document.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadArtifact(f"{path}: {error!r}; delete it") from error
