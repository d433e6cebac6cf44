"""What the benchmark needs of bpf(2) besides the fast path: its own programs and maps."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from srv6dmm.dataplane.fastpath import syscalls
from srv6dmm.dataplane.fastpath.tables import ARRAY, PERCPU_ARRAY

MMAPABLE = 0x400


def possible_cpus() -> int:
    """Return how many values an element of a per-CPU map has."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")
    return 1 + max(int(part.split("-")[-1]) for part in ranges)


class Array:
    """An array map (per-CPU: one value per possible CPU, padded to 8 octets)."""

    def __init__(self, value_size: int, entries: int, kind: int = ARRAY, flags: int = 0) -> None:
        self._values = possible_cpus() if kind == PERCPU_ARRAY else 1
        self._size = -(-value_size // 8) * 8 if kind == PERCPU_ARRAY else value_size
        self.descriptor = syscalls.map_create(kind, 4, value_size, entries, flags, "bench")

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def write(self, value: bytes) -> None:
        """Write element 0; of a per-CPU map every CPU's."""
        syscalls.update(self.descriptor, bytes(4), value * self._values, "bench")

    def read(self) -> list[bytes]:
        """Return element 0: one value, or one per CPU."""
        size = self._size * self._values
        raw = syscalls.lookup(self.descriptor, bytes(4), size, "bench") or b""
        return [raw[at : at + self._size] for at in range(0, len(raw), self._size)]

    def fill(self, values: bytes) -> None:
        """Write all elements at once, through memory (the map has flag MMAPABLE)."""
        length = -(-len(values) // mmap.PAGESIZE) * mmap.PAGESIZE
        with mmap.mmap(self.descriptor, length, mmap.MAP_SHARED) as memory:
            memory[: len(values)] = values
