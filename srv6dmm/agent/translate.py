"""Plan entries as what the dataplane holds."""

from __future__ import annotations

from srv6dmm.agent.fast_entries import fast_objects
from srv6dmm.agent.host import Host
from srv6dmm.agent.kernel_entries import kernel_objects
from srv6dmm.dataplane.objects import KernelObject
from srv6dmm.model.plan import PlanEntry


def translate(entry: PlanEntry, host: Host) -> tuple[KernelObject, ...]:
    """Return what an entry is in the kernel and, in mode `ebpf`, in the fast path.

    An advertisement is nothing in either.
    """
    slow = kernel_objects(entry, host)
    return (*slow, *fast_objects(entry, host)) if host.fast else slow
