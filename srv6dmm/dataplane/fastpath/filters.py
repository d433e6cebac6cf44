"""Our program at the clsact ingress of an interface: one bpf filter of fixed priority and handle.

Replacing it is one pointer swap in the kernel: every packet sees the old program or the new one.
Filters of other priorities are not touched. The first filter at an interface brings the hook with
it and the last one takes it away, and either time the device sends nothing for some milliseconds.
"""

from __future__ import annotations

import errno
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import syscalls
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink import traffic
from srv6dmm.dataplane.netlink.attributes import U32, attribute, attributes
from srv6dmm.dataplane.netlink.channel import Channel

PRIORITY, HANDLE = 201, 1
_KIND = b"bpf"
_FD, _NAME, _FLAGS, _ID = 6, 7, 8, 11
_DIRECT_ACTION = 1
_GONE = (errno.ENOENT, errno.EINVAL, errno.ENODEV)


class Filters:
    """The filters of one namespace, with the programs of one pin directory. Not thread-safe.

    Raises OSError naming the program when a pin is not there.
    """

    def __init__(self, network_namespace: str | None, pins: Path) -> None:
        self._pins = pins
        with namespace.inside(network_namespace):
            self._channel = Channel(n.NETLINK_ROUTE)

    def close(self) -> None:
        """Close the socket; filters stay."""
        self._channel.close()

    def attach(self, interface: str, index: int, program: str) -> None:
        """Put a program at an interface, or atomically in the place of what is there of ours."""
        descriptor = syscalls.get(str(self._pins / f"prog_{program}"))
        try:
            options = attribute(_FD, U32.pack(descriptor))
            options += attribute(_NAME, f"srv6dmm_{program}".encode() + b"\0")
            options += attribute(_FLAGS, U32.pack(_DIRECT_ACTION))
            request = traffic.put_filter(index, PRIORITY, HANDLE, _KIND, options)
            self._execute(interface, traffic.add_hook(index), tolerate=(errno.EEXIST,))
            self._execute(interface, request)
        finally:
            syscalls.close(descriptor)

    def program_at(self, index: int) -> int | None:
        """Return the kernel's number of the program that our filter at an interface runs."""
        for ours, program in self._dump(index):
            if ours:
                return program
        return None

    def others_at(self, index: int) -> bool:
        """Tell whether others have filters at an interface's ingress."""
        return any(not ours for ours, _ in self._dump(index))

    def detach(self, interface: str, index: int) -> None:
        """Take our filter away, and the hook with it if nobody else has a filter there."""
        if not any(ours for ours, _ in self._dump(index)):
            return
        self._execute(
            interface,
            traffic.delete_filter(index, PRIORITY, HANDLE, _KIND),
            tolerate=_GONE,
        )
        if not self._dump(index):
            self._execute(interface, traffic.delete_hook(index), tolerate=_GONE)

    def _dump(self, index: int) -> list[tuple[bool, int | None]]:
        """Return (ours, program) of every filter at an interface's ingress."""
        found: list[tuple[bool, int | None]] = []
        try:
            messages = self._channel.dump(traffic.dump_filters(index))
        except OSError as error:
            if error.errno in _GONE:
                return []
            raise
        for _, data, start, end in messages:
            _, _, _, _, handle, _, info = traffic.TCMSG.unpack_from(data, start)
            outer = attributes(data, start + traffic.TCMSG.size, end)
            options = outer.get(traffic.TCA_OPTIONS, b"")
            inner = attributes(options, 0, len(options))
            if not handle and _ID not in inner:
                continue  # the head of a chain, not a filter
            number = U32.unpack(inner[_ID])[0] if _ID in inner else None
            found.append((info >> 16 == PRIORITY and handle == HANDLE, number))
        return found

    def _execute(self, interface: str, request: bytes, tolerate: tuple[int, ...] = ()) -> None:
        for rejection in self._channel.execute([request]).values():
            if rejection.errno not in tolerate:
                raise OSError(rejection.errno, f"tc at {interface}: {rejection.reason}")
