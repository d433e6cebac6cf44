"""C structures: format letters and names become a codec, sizes and offsets."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """A C structure: its size in bytes and the offset of each member."""

    size: int
    offsets: dict[str, int]


def layout(form: str, names: str) -> tuple[struct.Struct, Layout]:
    """Return the codec of a structure and its layout; `form` is one format a member."""
    offsets: dict[str, int] = {}
    at = 0
    for name, part in zip(names.split(), form.split(), strict=True):
        offsets[name] = at
        at += struct.calcsize("=" + part)
    return struct.Struct("=" + form.replace(" ", "")), Layout(at, offsets)
