"""Frames that a device is made to receive, by test runs of an XDP program (Linux 5.18).

`BPF_PROG_TEST_RUN` with live frames hands what the program passes to the network stack as if the
device had received it: packet sockets, tc ingress, rules and routes all see it. Nothing is left
behind in the kernel, whenever the process ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import syscalls

XDP = 6
UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP, 524)
"""What kernels without live frames answer."""
_SYSTEM_CALLS = {"x86_64": 321, "aarch64": 280}
_TEST_RUN = 10
_LIVE_FRAMES = 2
_BATCH = 64
_DURATION = struct.Struct("<36xI")
_INSTRUCTION = struct.Struct("=BBhi")
_PASS = _INSTRUCTION.pack(0xB7, 0, 0, 2) + _INSTRUCTION.pack(0x95, 0, 0, 0)
"""return XDP_PASS"""
_libc = ctypes.CDLL(None, use_errno=True)


def run_live(program: int, frame: bytes, ifindex: int, count: int) -> int:
    """Run an XDP program over `count` live frames "received" on a device; return ns per frame.

    The calling thread has to be in the device's namespace. The time leaves out what the kernel
    spent on other processes. Raises OSError: EINVAL where the kernel has no live frames (< 5.18),
    EINTR after a signal.
    """
    number = _SYSTEM_CALLS.get(os.uname().machine)
    if number is None:
        raise OSError(errno.EOPNOTSUPP, f"bpf(2) has no number on {os.uname().machine}")
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
    result: int = _libc.syscall(number, _TEST_RUN, buffer, 80)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"run live frames: {os.strerror(code)}")
    return int(_DURATION.unpack_from(buffer.raw)[0])


def receive(network_namespace: str | None, interface: str, frame: bytes) -> None:
    """Have an interface of a namespace receive one Ethernet frame, now.

    Raises OSError saying what is missing, NamespaceError where there is no such namespace.
    """
    with namespace.inside(network_namespace):
        index = socket.if_nametoindex(interface)
        program = syscalls.load_program(_PASS, XDP, "probe")
        try:
            run_live(program, frame, index, 1)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                words = "this kernel cannot make a device receive a frame: that is in Linux 5.18"
                raise OSError(error.errno, words) from error
            raise
        finally:
            syscalls.close(program)
