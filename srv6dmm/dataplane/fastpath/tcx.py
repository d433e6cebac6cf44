"""Our program at the tcx ingress of an interface (Linux 6.6 and newer).

No queueing discipline has a part in it: putting one there or taking it away stops the device's
transmission for some milliseconds, and what is sent meanwhile is lost.
"""

from __future__ import annotations

import errno
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import syscalls

_INGRESS = 46
_UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Tcx:
    """The tcx ingress of one namespace's interfaces, with the programs of one pin directory."""

    def __init__(self, network_namespace: str | None, pins: Path) -> None:
        self._namespace = network_namespace
        self._pins = pins

    def present(self, interface: str, index: int) -> bool:
        """Tell whether this kernel has tcx. Raises OSError for an interface that is not there."""
        try:
            self._programs(interface, index)
        except OSError as error:
            if error.errno in _UNKNOWN:
                return False
            raise
        return True

    def attach(self, interface: str, index: int, program: str) -> None:
        """Put a program before all others, or atomically in the place of ours.

        Raises OSError naming the interface.
        """
        fresh = syscalls.get(str(self._pins / f"prog_{program}"))
        try:
            number = self.program_at(interface, index)
            if number == syscalls.program_id(fresh):
                return
            old = None if number is None else syscalls.program_by_id(number)
            try:
                with namespace.inside(self._namespace):
                    syscalls.attach_program(fresh, index, _INGRESS, old, f"tcx at {interface}")
            finally:
                if old is not None:
                    syscalls.close(old)
        finally:
            syscalls.close(fresh)

    def program_at(self, interface: str, index: int) -> int | None:
        """Return the kernel's number of our program there, by its name; None without one."""
        for number in self._programs(interface, index):
            try:
                program = syscalls.program_by_id(number)
            except FileNotFoundError:
                continue  # just taken away
            try:
                if syscalls.program_name(program).startswith(syscalls.PREFIX):
                    return number
            finally:
                syscalls.close(program)
        return None

    def detach(self, interface: str, index: int) -> None:
        """Take our program away; none there is fine."""
        number = self.program_at(interface, index)
        if number is None:
            return
        program = syscalls.program_by_id(number)
        try:
            with namespace.inside(self._namespace):
                syscalls.detach_program(program, index, _INGRESS, f"tcx at {interface}")
        finally:
            syscalls.close(program)

    def _programs(self, interface: str, index: int) -> list[int]:
        with namespace.inside(self._namespace):
            return syscalls.programs_at(index, _INGRESS, f"tcx at {interface}")
