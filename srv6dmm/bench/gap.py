"""A receiver that knows the longest time in which nothing came."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass

from srv6dmm.bench import bpf, sink
from srv6dmm.bench.assembler import CALL_CLOCK_NS, Assembler
from srv6dmm.dataplane.fastpath import syscalls

_OK, _SHOT = 0, 2
_LENGTH = 0  # offset in struct __sk_buff
_VALUE = struct.Struct("<QQQQ")  # packets, when the last one came, the longest gap, the length


@dataclass(frozen=True, slots=True)
class Arrived:
    """Since the last `reset`."""

    packets: int
    longest_gap_ms: float
    """Between two packets, one after the other."""


class GapSink:
    """A tc program that counts frames of one length at one device and drops them; others pass.

    Frames are to come on one core: they are counted without locks.
    """

    def __init__(self, network_namespace: str, device: str) -> None:
        self._map = bpf.Array(_VALUE.size, 1)
        self._program = syscalls.load_program(
            _program(self._map.descriptor), syscalls.SCHED_CLS, "bench_gap"
        )
        sink.attach(self._program, network_namespace, device)

    def reset(self, length: int) -> None:
        """Count from zero; frames have that many octets, Ethernet header included."""
        self._map.write(_VALUE.pack(0, 0, 0, length))

    def read(self) -> Arrived:
        """Return what came."""
        packets, _, longest, _ = _VALUE.unpack(self._map.read()[0])
        return Arrived(packets, longest / 1e6)

    def wait(self, packets: int, seconds: float = 0.2) -> Arrived:
        """Return what came as soon as that many did, or after that time."""
        deadline = time.monotonic() + seconds
        while (arrived := self.read()).packets < packets and time.monotonic() < deadline:
            time.sleep(0.005)
        return arrived

    def close(self) -> None:
        """Close the descriptors; the filter keeps the program."""
        os.close(self._program)
        self._map.close()


def _program(values: int) -> bytes:
    code = Assembler()
    code.copy(6, 1)
    code.set(1, 0)
    code.store(4, 10, -4, 1)
    code.look_up(values, -4, "pass")
    code.copy(9, 0)
    code.load(4, 1, 6, _LENGTH)
    code.load(8, 2, 9, 24)
    code.jump_if_same(1, 2, "ours")
    code.label("pass")
    code.leave(_OK)
    code.label("ours")
    code.load(8, 1, 9, 0)
    code.add(1, 1)
    code.store(8, 9, 0, 1)
    code.call(CALL_CLOCK_NS)
    code.load(8, 7, 9, 8)
    code.store(8, 9, 8, 0)
    code.jump_if_equal(7, 0, "done")
    code.subtract(0, 7)
    code.load(8, 1, 9, 16)
    code.jump_if_greater(1, 0, "done")
    code.store(8, 9, 16, 0)
    code.label("done")
    code.leave(_SHOT)
    return code.code()
