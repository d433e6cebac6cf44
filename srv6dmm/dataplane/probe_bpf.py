"""Probes of BPF: each returns "" when it works, else why not."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import tempfile
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import loader, syscalls

_RINGBUF = 27
_RETURN_0 = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
_libc = ctypes.CDLL(None, use_errno=True)


def clsact_bpf(network_namespace: str, device: str) -> str:
    """Attach a program at a device's clsact ingress by tc and see it listed."""
    try:
        program = syscalls.load_program(_RETURN_0, syscalls.SCHED_CLS, "pass")
    except OSError as error:
        return f"program not loaded: {error.strerror}"
    try:
        with tempfile.TemporaryDirectory(prefix="srv6dmm-bpf-") as folder:
            fault = _mount(folder)
            if fault:
                return fault
            try:
                pin = f"{folder}/pass"
                syscalls.pin(program, pin)
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
        syscalls.close(syscalls.map_create(_RINGBUF, 0, 0, 4096, 0, "events"))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def fast_path() -> str:
    """Compile and load the fast path's programs, and take them away again."""
    with tempfile.TemporaryDirectory(prefix="srv6dmm-bpf-") as folder:
        fault = _mount(folder)
        if fault:
            return fault
        try:
            loader.load(Path(folder) / "pins")
        except loader.LoadError as error:
            return str(error)
        finally:
            _libc.umount2(folder.encode(), 2)
    return ""
