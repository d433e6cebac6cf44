"""Probes of BPF: each returns "" when it works, else why not."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import sys
import tempfile

from srv6dmm.dataplane import namespace

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _PROG_LOAD, _OBJ_PIN = 0, 5, 6
_SCHED_CLS, _RINGBUF = 3, 27
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attribute: bytes) -> int:
    """Call bpf(2); return its result. Raises OSError."""
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"unknown machine {os.uname().machine}")
    buffer = ctypes.create_string_buffer(attribute.ljust(128, b"\0"), 128)
    result: int = _libc.syscall(number, command, buffer, 128)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _load_pass() -> int:
    """Load `return TC_ACT_OK` as a tc program; return its descriptor."""
    code = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    return _bpf(
        _PROG_LOAD,
        struct.pack(
            "<IIQQ", _SCHED_CLS, 2, ctypes.addressof(instructions), ctypes.addressof(licence)
        ),
    )


def clsact_bpf(network_namespace: str, device: str) -> str:
    """Attach a program at a device's clsact ingress by tc and see it listed."""
    try:
        program = _load_pass()
    except OSError as error:
        return f"program not loaded: {error.strerror}"
    try:
        with tempfile.TemporaryDirectory(prefix="srv6dmm-bpf-") as folder:
            fault = _mount(folder)
            if fault:
                return fault
            try:
                pin = f"{folder}/pass"
                path = ctypes.create_string_buffer(pin.encode())
                _bpf(_OBJ_PIN, struct.pack("<QI", ctypes.addressof(path), program))
                for command in (
                    f"qdisc add dev {device} clsact",
                    f"filter add dev {device} ingress bpf da object-pinned {pin}",
                ):
                    done = _in(network_namespace, ["tc", *command.split()])
                    if done.returncode:
                        return done.stderr.strip() or "tc refused it"
                shown = _in(network_namespace, ["tc", "filter", "show", "dev", device, "ingress"])
                return "" if "direct-action" in shown.stdout else "the filter is not listed"
            finally:
                _libc.umount2(folder.encode(), 2)
    except OSError as error:
        return str(error)
    finally:
        os.close(program)


def _in(network_namespace: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    with namespace.inside(network_namespace):
        return subprocess.run(command, capture_output=True, text=True, check=False)


def _mount(folder: str) -> str:
    if _libc.mount(b"bpf", folder.encode(), b"bpf", 0, None):
        return f"bpffs cannot be mounted: {os.strerror(ctypes.get_errno())}"
    return ""


def bpffs_mounts() -> str:
    """Mount a bpffs on a directory of our own and take it away."""
    with tempfile.TemporaryDirectory(prefix="srv6dmm-bpf-") as folder:
        fault = _mount(folder)
        if not fault:
            _libc.umount2(folder.encode(), 2)
        return fault


def ring_buffer() -> str:
    """Create a ring buffer map of one page."""
    try:
        os.close(_bpf(_MAP_CREATE, struct.pack("<IIIII", _RINGBUF, 0, 0, 4096, 0)))
    except OSError as error:
        return error.strerror or str(error)
    return ""


_COMPILE = """
from bcc import BPF
text = 'int f(struct __sk_buff *skb) { return 0; }'
BPF(text=text, cflags=['-Wno-macro-redefined']).load_func('f', BPF.SCHED_CLS)
"""


def bcc_compiles() -> str:
    """Compile and load a program by BCC, in a process of its own: LLVM's memory goes with it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMPILE],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return "took longer than a minute"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {done.returncode}"
