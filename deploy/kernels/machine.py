"""One boot of a kernel under qemu, with an end in any case."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from packages import Kernel

HELLO = "srv6dmm guest:"
HELLO_S = 20.0
"""A /dev/kvm may take a guest and not run it (KVM's PVM runs kernels made for it only)."""


@dataclass(frozen=True)
class Accelerator:
    """How qemu runs the guest's instructions."""

    name: str
    options: tuple[str, ...]


KVM = Accelerator("KVM", ("-accel", "kvm", "-cpu", "host,-arch-capabilities"))
# One processor: emulated ones that wait for each other cost more than they bring on a busy host.
# No vector extensions: the C library would prefer them, and emulating them is slow.
TCG = Accelerator("TCG", ("-accel", "tcg", "-cpu", "qemu64,+rdrand"))


@dataclass(frozen=True)
class Boot:
    """What became of it."""

    said_hello: bool
    ended: bool
    seconds: float
    processor_s: float
    """What qemu used: about as long as it takes where nothing else runs."""


def usable_kvm() -> bool:
    """Tell whether /dev/kvm can be opened at all; whether it works shows at the boot."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def boot(
    kernel: Kernel,
    initramfs: Path,
    results: Path,
    accelerator: Accelerator,
    repository: Path,
    limit_s: float,
) -> Boot:
    """Boot and wait for the guest to switch itself off; at the limit it is switched off.

    The serial console goes to `results`/console.log.
    """
    console = results / "console.log"
    (results / "start.sh").write_text(
        "export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run/tmp HOME=/root LC_ALL=C.UTF-8\n"
        "mkdir -p /dev/pts /dev/shm\n"
        "mount -t devpts devpts /dev/pts\n"
        "mount -t tmpfs tmpfs /dev/shm\n"
        "ip link set lo up\n"
        f"cd {shlex.quote(str(repository))}\n"
        ".venv/bin/python -m tests.kernels.guest /run/results "
        ">/run/results/tests.log 2>&1 </dev/null\n"
        "echo o >/proc/sysrq-trigger\n"
        "sleep 30\n"
    )
    command = [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        *accelerator.options,
        *("-smp", "1", "-m", "2048", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-serial", f"file:{_quoted(console)}"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable"),
        *("-virtfs", _share(Path("/"), "host", "readonly=on,multidevs=remap")),
        *("-virtfs", _share(kernel.tree, "kernel", "readonly=on")),
        *("-virtfs", _share(results, "results", "readonly=off")),
    ]
    began, used = time.monotonic(), _children_s()
    with (results / "qemu.log").open("w") as log:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    said_hello = False
    try:
        while machine.poll() is None and time.monotonic() - began < limit_s:
            if not said_hello:
                said_hello = console.exists() and HELLO in console.read_text(errors="replace")
                if not said_hello and accelerator is KVM and time.monotonic() - began > HELLO_S:
                    break
            time.sleep(0.2)
        ended = machine.poll() is not None
    finally:
        if machine.poll() is None:
            machine.kill()
        machine.wait()
    said_hello = said_hello or (console.exists() and HELLO in console.read_text(errors="replace"))
    return Boot(said_hello, ended, time.monotonic() - began, _children_s() - used)


def _children_s() -> float:
    """Return the processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _share(path: Path, tag: str, more: str) -> str:
    return f"local,path={_quoted(path)},mount_tag={tag},security_model=none,{more}"


def _quoted(path: Path) -> str:
    """A comma ends a value in qemu's options unless it is doubled."""
    return str(path).replace(",", ",,")
