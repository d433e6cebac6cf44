"""Where maps and programs have their names: a bpffs of our own.

`/run/srv6dmm/bpf/<inode of the network namespace>/<version of the layout>/`. Not below /sys/fs/bpf,
which `ip netns exec` covers by another /sys.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath.tables import Limits, version

ROOT = Path("/run/srv6dmm/bpf")
_BPFFS_MAGIC = 0xCAFE4A11
_libc = ctypes.CDLL(None, use_errno=True)


def mount(root: Path = ROOT) -> None:
    """Mount the bpffs unless it is there; several processes may try at once.

    Raises OSError naming the directory.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(root.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_bpffs(root):
            return
        if _libc.mount(b"bpf", bytes(root), b"bpf", 0, b"mode=0700"):
            code = ctypes.get_errno()
            raise OSError(code, f"mount a bpffs on {root}: {os.strerror(code)}")
    finally:
        os.close(lock)


def _is_bpffs(path: Path) -> bool:
    buffer = (ctypes.c_long * 32)()
    if _libc.statfs(bytes(path), ctypes.byref(buffer)):
        return False
    return bool(buffer[0] & 0xFFFFFFFF == _BPFFS_MAGIC)


def home(network_namespace: str | None, root: Path = ROOT) -> Path:
    """Return the directory of everything of a namespace. Raises NamespaceError, OSError."""
    place = "/proc/self/ns/net" if network_namespace is None else None
    path = Path(place) if place else namespace.path(network_namespace or "")
    return root / str(path.stat().st_ino)


def directory(
    network_namespace: str | None, limits: Limits | None = None, root: Path = ROOT
) -> Path:
    """Return the directory of a namespace's pins of this version."""
    return home(network_namespace, root) / version(limits or Limits())


def remove(network_namespace: str | None, keep: Path | None = None, root: Path = ROOT) -> None:
    """Unpin everything of a namespace but `keep`. What is attached stays attached."""
    place = home(network_namespace, root)
    if not place.is_dir():
        return
    for one in place.iterdir():
        if one != keep:
            shutil.rmtree(one, ignore_errors=True)
    if keep is None:
        shutil.rmtree(place, ignore_errors=True)


def sweep(root: Path = ROOT) -> list[str]:
    """Remove the pins of namespaces that are gone; return their inodes.

    A namespace lives as long as a process is in it or a name leads to it: both are looked at.
    """
    if not root.is_dir():
        return []
    # In this order: who pins while we look is in a namespace that is there when we look.
    places = [place for place in root.iterdir() if place.name.isdigit()]
    living = {str(inode) for inode in _namespaces()}
    gone = [place for place in places if place.name not in living]
    for place in gone:
        shutil.rmtree(place, ignore_errors=True)
    return sorted(place.name for place in gone)


def _namespaces() -> set[int]:
    """Return the inodes of all namespaces. Processes and names go while we look at them."""
    found: set[int] = set()
    for path in (*map(namespace.path, namespace.names()), *Path("/proc").glob("[0-9]*/ns/net")):
        with suppress(OSError):
            found.add(path.stat().st_ino)
    return found
