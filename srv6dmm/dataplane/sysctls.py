"""Sysctls of one network namespace, through /proc/sys."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.netlink.channel import Rejection
from srv6dmm.dataplane.objects import Sysctl

_ROOT = Path("/proc/sys")


class Sysctls:
    """Reads and writes sysctls. /proc/sys/net is that of the thread which opens a file in it."""

    def __init__(self, network_namespace: str | None) -> None:
        self._namespace = network_namespace

    def put(self, sysctl: Sysctl) -> Rejection | None:
        """Give a sysctl its value unless it has it: writing `forwarding` resets others anew."""
        try:
            target = _path(sysctl.name)
            with namespace.inside(self._namespace):
                if _normal(target.read_text()) != _normal(sysctl.value):
                    target.write_text(sysctl.value)
        except OSError as error:
            return Rejection(
                error.errno or errno.EIO, f"{_ROOT / sysctl.name}: {error.strerror or error}"
            )
        return None

    def get(self, name: str) -> Sysctl | None:
        """Return a sysctl as it is; None when the kernel has none of that name."""
        try:
            target = _path(name)
            with namespace.inside(self._namespace):
                return Sysctl(name, _normal(target.read_text()))
        except OSError:
            return None


def _path(name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/"):
        raise OSError(errno.EINVAL, "not a slashed name below /proc/sys")
    return _ROOT.joinpath(*parts)


def _normal(text: str) -> str:
    """One blank between the parts: the kernel answers with tabs."""
    return " ".join(text.split())
