"""The interface to a kernel: read back, put, delete. One real and one fake implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from srv6dmm.dataplane.objects import Identity, KernelFailure, KernelObject


class Kernel(Protocol):
    """One network namespace. Not thread-safe; calls block for microseconds to milliseconds."""

    def put(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        """Create or atomically replace every object, in order, batched; go on after a failure.

        A route of the same identity is replaced by one netlink message (never delete and add).
        Transient ENOMEM and EAGAIN are retried with back-off inside.
        """

    def delete(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        """Delete objects; one that is not there any more is not a failure.

        TunnelSource, Sysctl and LinkAddress are left as they are.
        """

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, KernelObject]:
        """Read back what is ours, in the very values `put` takes (so that == decides).

        Without `wanted`: every route and neighbour with our protocol, every address of ours, and
        of the singular kinds (tunsrc, sysctl, link) nothing. With `wanted`: those identities only,
        of any kind, the missing ones left out.
        """

    def sid_counters(self) -> dict[str, tuple[int, int, int]]:
        """Return SID -> (packets, bytes, errors) of local SIDs, where the kernel counts."""

    def counted(self, objects: Iterable[KernelObject]) -> tuple[int, int, int] | None:
        """Return (packets, bytes, errors) that objects counted together; None: none of them does.

        Takes the time of a few messages, however many objects there are besides.
        """

    def subscribe(self, changed: Callable[[], None]) -> int:
        """Open a netlink monitor of routes, links and neighbours; return its file descriptor.

        The caller waits for it to be readable and then calls `drain()`; `changed` is called once
        per drain if anything but our own writes may have touched an object of ours.
        """

    def drain(self) -> None:
        """Read what the monitor has."""

    def close(self) -> None:
        """Close the sockets; kernel objects stay."""
