"""What the benchmark needs of bpf(2) besides the fast path: its own programs and maps."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from pathlib import Path

from srv6dmm.dataplane.fastpath import syscalls
from srv6dmm.dataplane.fastpath.tables import ARRAY, PERCPU_ARRAY

XDP = 6
MMAPABLE = 0x400
_SYSTEM_CALLS = {"x86_64": 321, "aarch64": 280}
_TEST_RUN = 10
_LIVE_FRAMES = 2
_BATCH = 64
_DURATION = struct.Struct("<36xI")
_libc = ctypes.CDLL(None, use_errno=True)


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


def run_live(program: int, frame: bytes, ifindex: int, count: int) -> int:
    """Run an XDP program over `count` live frames "received" on a device; return ns per frame.

    The calling thread has to be in the device's namespace. The time leaves out what the kernel
    spent on other processes. Raises OSError: EINVAL where the kernel has no live frames (< 5.18),
    EINTR after a signal.
    """
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(
        struct.pack("<IIIIII", 0, len(frame), 0, ifindex, 0, 0), 24
    )
    attribute = struct.pack(
        "<IIIIQQIIIIQQIII",
        program,
        0,
        len(frame),
        0,
        ctypes.addressof(data),
        0,
        count,
        0,
        24,
        0,
        ctypes.addressof(context),
        0,
        _LIVE_FRAMES,
        0,
        _BATCH,
    )
    buffer = ctypes.create_string_buffer(attribute, 80)
    result: int = _libc.syscall(_SYSTEM_CALLS[os.uname().machine], _TEST_RUN, buffer, 80)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"run live frames: {os.strerror(code)}")
    return int(_DURATION.unpack_from(buffer.raw)[0])
