"""The packet generator: live XDP frames straight into a router's input device, on one core.

`BPF_PROG_TEST_RUN` with live frames (Linux 5.18) hands every frame for which the program returns
XDP_PASS to the network stack as if the device had received it: no sender, no queue, nothing lost,
and generator, router and sink are one flow of control on one core. Pages are recycled with what
the router has made of the last frame in them, so the program writes all headers anew.

Where the kernel has no live frames, AF_PACKET sends through the cable instead.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from srv6dmm.bench import bpf
from srv6dmm.bench.assembler import Assembler
from srv6dmm.bench.frames import Frame
from srv6dmm.dataplane import live_frames, namespace
from srv6dmm.dataplane.fastpath import syscalls

_REWRITTEN = 152
"""Octets of a frame that are written each time: all that a router changes lies within."""
_PASS, _ABORTED = 2, 0
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20
_AT_ONCE = 64
_DISTINCT = 1 << 14


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the generator: time by the clock, and without other processes' (ns, both)."""

    packets: int
    wall_ns: int
    own_ns: int


@dataclass(frozen=True, slots=True)
class Way:
    """Where frames enter: the router's device, and the cable's other end."""

    router: str
    device: str
    sender: str
    sender_device: str


class Draws:
    """Destinations' /64s in the order in which the generator uses them, over and over.

    `prefixes`: the upper halves of the addresses; a power of two of them.
    """

    def __init__(self, prefixes: list[int]) -> None:
        if len(prefixes) & (len(prefixes) - 1):
            raise ValueError("a power of two of destinations is needed")
        self.packed = struct.pack(f">{len(prefixes)}Q", *prefixes)
        self.count = len(prefixes)
        self._array: bpf.Array | None = None

    @property
    def array(self) -> bpf.Array:
        """The map the program reads them from."""
        if self._array is None:
            self._array = bpf.Array(8, self.count, flags=bpf.MMAPABLE)
            self._array.fill(self.packed)
        return self._array

    def close(self) -> None:
        """Free the map."""
        if self._array is not None:
            self._array.close()
            self._array = None


class Child:
    """Work in a forked child that is pinned to one core; no signal of a child can reach it."""

    def __init__(self, work: Callable[[], bytes], cpu: int) -> None:
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                os.close(self._reader)
                os.sched_setaffinity(0, {cpu})
                os.write(writer, b"+" + work())
                status = 0
            except OSError as error:
                number = error.errno or errno.EIO
                os.write(writer, b"-" + struct.pack("<i", number) + str(error).encode())
                status = 0
            finally:
                if status:  # a fault of the work itself: its traceback would be lost with us
                    sys.excepthook(*sys.exc_info())
                os._exit(status)
        os.close(writer)

    @property
    def running(self) -> bool:
        """Whether there is no answer yet."""
        poll = select.poll()  # select() knows descriptors up to 1023 only
        poll.register(self._reader, select.POLLIN)
        return not poll.poll(0)

    def wait(self) -> bytes:
        """Return what the work returned. Raises the OSError that it raised."""
        answer = b""
        while part := os.read(self._reader, 4096):
            answer += part
        os.close(self._reader)
        os.waitpid(self._pid, 0)
        if answer[:1] == b"+":
            return answer[1:]
        if answer[:1] == b"-":
            raise OSError(struct.unpack_from("<i", answer, 1)[0], answer[5:].decode())
        raise OSError(errno.EIO, "the generator ended without an answer")


class Generator(Protocol):
    """Sends one frame, with destinations as drawn."""

    def start(self, count: int, cpu: int) -> Child:
        """Begin to send `count` frames on a core; `result` makes a Run of the child's answer."""

    def close(self) -> None:
        """Free program and map."""


def result(count: int, answer: bytes) -> Run:
    """Return the run that a generator's child tells of."""
    wall, own = struct.unpack("<QQ", answer)
    return Run(count, wall, own)


class LiveGenerator:
    """The XDP program and its state: a sequence number, and the headers."""

    def __init__(self, frame: Frame, way: Way, draws: Draws | None, numbered: bool = False) -> None:
        self._frame = frame
        self._way = way
        words = min(len(frame.data), _REWRITTEN) // 8
        with namespace.inside(way.router):
            self._ifindex = socket.if_nametoindex(way.device)
        self._state = bpf.Array(8 + 8 * words, 1)
        self._state.write(bytes(8) + frame.data[: 8 * words])
        code = _program(frame, words, self._state, draws, numbered)
        self._program = syscalls.load_program(code, live_frames.XDP, "bench_generator")

    def start(self, count: int, cpu: int) -> Child:
        """Begin to send."""

        def work() -> bytes:
            namespace.enter(self._way.router)
            started = time.perf_counter_ns()
            each = live_frames.run_live(self._program, self._frame.data, self._ifindex, count)
            return struct.pack("<QQ", time.perf_counter_ns() - started, each * count)

        return Child(work, cpu)

    def close(self) -> None:
        """Free program and map."""
        os.close(self._program)
        self._state.close()


def _program(
    frame: Frame, words: int, state: bpf.Array, draws: Draws | None, numbered: bool
) -> bytes:
    code = Assembler()
    code.load(4, 7, 1, 0)  # data
    code.load(4, 8, 1, 4)  # data_end
    code.copy(1, 7)
    code.add(1, 8 * words)
    code.jump_if_greater(1, 8, "abort")
    code.set(1, 0)
    code.store(4, 10, -4, 1)
    code.look_up(state.descriptor, -4, "abort")
    code.load(8, 9, 0, 0)
    code.add(9, 1)
    code.store(8, 0, 0, 9)
    for word in range(words):
        code.load(8, 1, 0, 8 + 8 * word)
        code.store(8, 7, 8 * word, 1)
    if numbered:
        code.store(8, 7, frame.payload, 9)
    if draws is not None:
        code.copy(1, 9)
        code.mask(1, draws.count - 1)
        code.store(4, 10, -4, 1)
        code.look_up(draws.array.descriptor, -4, "abort")
        code.load(8, 1, 0, 0)
        code.store(8, 7, frame.destination, 1)
    code.leave(_PASS)
    code.label("abort")
    code.leave(_ABORTED)
    return code.code()


class PacketGenerator:
    """AF_PACKET without a queueing discipline, 64 frames per system call."""

    def __init__(self, frame: Frame, way: Way, draws: Draws | None) -> None:
        self._way = way
        images = [frame.data] * _AT_ONCE
        if draws is not None:
            images = [_addressed(frame, draws, number) for number in range(_DISTINCT)]
        self._size = len(frame.data)
        self._images = ctypes.create_string_buffer(b"".join(images), self._size * len(images))
        base = ctypes.addressof(self._images)
        vectors = b"".join(
            struct.pack("<QQ", base + self._size * at, self._size) for at in range(len(images))
        )
        self._vectors = ctypes.create_string_buffer(vectors, len(vectors))
        first = ctypes.addressof(self._vectors)
        messages = b"".join(
            struct.pack("<QQQQQQIIII", 0, 0, first + 16 * at, 1, 0, 0, 0, 0, 0, 0)
            for at in range(len(images))
        )
        self._messages = ctypes.create_string_buffer(messages, len(messages))
        self._count = len(images)

    def start(self, count: int, cpu: int) -> Child:
        """Begin to send."""

        def work() -> bytes:
            namespace.enter(self._way.sender)
            libc = ctypes.CDLL(None, use_errno=True)
            endpoint = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            endpoint.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
            endpoint.bind((self._way.sender_device, 0))
            base = ctypes.addressof(self._messages)
            started, own = time.perf_counter_ns(), time.thread_time_ns()
            sent = 0
            while sent < count:
                at = sent % self._count
                many = min(_AT_ONCE, self._count - at, count - sent)
                done = libc.sendmmsg(endpoint.fileno(), ctypes.c_void_p(base + 64 * at), many, 0)
                if done < 0:
                    code = ctypes.get_errno()
                    raise OSError(code, f"send frames: {os.strerror(code)}")
                sent += done
            own = time.thread_time_ns() - own
            return struct.pack("<QQ", time.perf_counter_ns() - started, own)

        return Child(work, cpu)

    def close(self) -> None:
        """Nothing is held."""


def _addressed(frame: Frame, draws: Draws, number: int) -> bytes:
    at = 8 * (number % draws.count)
    prefix = draws.packed[at : at + 8]
    return frame.data[: frame.destination] + prefix + frame.data[frame.destination + 8 :]


def has_live_frames() -> bool:
    """Tell whether the kernel runs live frames, by running one that is dropped."""
    code = Assembler()
    code.leave(1)
    program = syscalls.load_program(code.code(), live_frames.XDP, "bench_probe")
    try:
        live_frames.run_live(program, bytes(64), 1, 1)
    except OSError as error:
        if error.errno in live_frames.UNSUPPORTED:
            return False
        raise
    finally:
        os.close(program)
    return True
