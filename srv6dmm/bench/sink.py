"""The receiver: a tc program that counts exactly and drops, the cheapest there is on a veth."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from srv6dmm.bench import bpf
from srv6dmm.bench.assembler import CALL_LOAD_BYTES, Assembler
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import syscalls
from srv6dmm.dataplane.fastpath.tables import PERCPU_ARRAY

_SHOT = 2
_LENGTH, _DATA, _DATA_END = 0, 76, 80  # offsets in struct __sk_buff
_VALUE = struct.Struct("<QQQQQ")  # the three counts, the last number, the length
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Received:
    """Since the last `reset`: frames of the length that was asked for, frames of another length,
    and numbered frames that came after a later one (or twice)."""

    packets: int
    others: int
    reordered: int


class Sink:
    """Counts on devices of one namespace. Multicast (what the router itself says) is left out.

    `numbered_at`: offset of a sequence number in the frames; None: there is none.
    """

    def __init__(self, numbered_at: int | None = None) -> None:
        self._counts = bpf.Array(_VALUE.size, 1, PERCPU_ARRAY)
        code = _program(self._counts.descriptor, numbered_at)
        self._program = syscalls.load_program(code, syscalls.SCHED_CLS, "bench_sink")

    def attach(self, network_namespace: str, device: str) -> None:
        """Put the program at a device's clsact ingress. Raises OSError, CalledProcessError."""
        attach(self._program, network_namespace, device)

    def reset(self, length: int) -> None:
        """Count from zero; frames are to have that many octets, Ethernet header included."""
        self._counts.write(_VALUE.pack(0, 0, 0, 0, length))

    def read(self) -> Received:
        """Return the counts."""
        values = [_VALUE.unpack(value) for value in self._counts.read()]
        return Received(*(sum(value[at] for value in values) for at in range(3)))

    def wait(self, packets: int, seconds: float = 1.0) -> Received:
        """Return the counts as soon as there are that many, or after that time."""
        deadline = time.monotonic() + seconds
        while (received := self.read()).packets < packets and time.monotonic() < deadline:
            time.sleep(0.001)
        return received

    def close(self) -> None:
        """Close the descriptors; the filter keeps the program."""
        os.close(self._program)
        self._counts.close()


def attach(program: int, network_namespace: str, device: str) -> None:
    """Put a program at a device's clsact ingress. Raises OSError, CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="srv6dmm-bench-") as folder:
        if _libc.mount(b"bpf", folder.encode(), b"bpf", 0, None):
            code = ctypes.get_errno()
            raise OSError(code, f"mount bpffs on {folder}: {os.strerror(code)}")
        try:
            path = Path(folder) / "sink"
            syscalls.pin(program, str(path))
            for command in (
                f"qdisc replace dev {device} clsact",
                f"filter replace dev {device} ingress prio 1 handle 1 bpf da object-pinned {path}",
            ):
                with namespace.inside(network_namespace):
                    subprocess.run(["tc", *command.split()], check=True, capture_output=True)
        finally:
            _libc.umount2(folder.encode(), _MNT_DETACH)


def _count(code: Assembler, offset: int) -> None:
    code.load(8, 1, 9, offset)
    code.add(1, 1)
    code.store(8, 9, offset, 1)


def _program(counts: int, numbered_at: int | None) -> bytes:
    code = Assembler()
    code.copy(6, 1)
    code.load(4, 7, 6, _DATA)
    code.load(4, 8, 6, _DATA_END)
    code.copy(1, 7)
    code.add(1, 14)
    code.jump_if_greater(1, 8, "drop")
    code.load(1, 1, 7, 0)
    code.jump_if_bits(1, 1, "drop")  # a group address
    code.set(1, 0)
    code.store(4, 10, -4, 1)
    code.look_up(counts, -4, "drop")
    code.copy(9, 0)
    code.load(8, 1, 9, 32)
    code.load(4, 2, 6, _LENGTH)
    code.jump_if_same(1, 2, "ours")
    _count(code, 8)
    code.leave(_SHOT)
    code.label("ours")
    _count(code, 0)
    if numbered_at is not None:
        code.copy(1, 6)
        code.set(2, numbered_at)
        code.copy(3, 10)
        code.add(3, -16)
        code.set(4, 8)
        code.call(CALL_LOAD_BYTES)
        code.jump_if_not_equal(0, 0, "drop")
        code.load(8, 1, 10, -16)
        code.load(8, 2, 9, 24)
        code.jump_if_greater(1, 2, "next")
        _count(code, 16)
        code.leave(_SHOT)
        code.label("next")
        code.store(8, 9, 24, 1)
    code.label("drop")
    code.leave(_SHOT)
    return code.code()
