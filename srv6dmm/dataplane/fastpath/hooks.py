"""Where a port's program runs: tcx where the kernel has it, else a filter at clsact ingress."""

from __future__ import annotations

import errno
from pathlib import Path

from srv6dmm.dataplane.fastpath import syscalls
from srv6dmm.dataplane.fastpath.filters import Filters
from srv6dmm.dataplane.fastpath.tcx import Tcx


class Hooks:
    """The ingress of one namespace's interfaces, with the programs of one pin directory.

    Not thread-safe. tcx runs before every filter and ends the classification; an interface at whose
    clsact ingress others have filters therefore gets a filter of ours among theirs. Every call
    raises OSError naming the interface, or the program whose pin is not there.
    """

    def __init__(self, network_namespace: str | None, pins: Path) -> None:
        self._pins = pins
        self._tcx = Tcx(network_namespace, pins)
        self._filters = Filters(network_namespace, pins)

    def close(self) -> None:
        """Close what is open; programs stay where they are."""
        self._filters.close()

    def attach(self, interface: str, index: int, program: str) -> None:
        """Put a program at an interface, or atomically in the place of what is there of ours."""
        if self._filters.others_at(index) or not self._tcx.present(interface, index):
            self._filters.attach(interface, index, program)
            if self._tcx.present(interface, index):
                self._tcx.detach(interface, index)
            return
        self._tcx.attach(interface, index, program)
        if self._filters.program_at(index) is not None:
            self._filters.detach(interface, index)

    def attached(self, interface: str, index: int, program: str) -> bool:
        """Tell whether an interface runs the program that is pinned now."""
        pinned = syscalls.get(str(self._pins / f"prog_{program}"))
        try:
            return self.program_at(interface, index) == syscalls.program_id(pinned)
        finally:
            syscalls.close(pinned)

    def program_at(self, interface: str, index: int) -> int | None:
        """Return the kernel's number of our program at an interface, None without one."""
        try:
            number = self._tcx.program_at(interface, index)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            number = None  # a kernel without tcx
        return self._filters.program_at(index) if number is None else number

    def detach(self, interface: str, index: int) -> None:
        """Take our program away, wherever it is."""
        if self._tcx.present(interface, index):
            self._tcx.detach(interface, index)
        self._filters.detach(interface, index)
