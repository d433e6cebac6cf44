"""A kernel in memory, with faults on demand, for tests and the simulator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from errno import ENODEV

from srv6dmm.dataplane.fastpath.objects import (
    FastBinding,
    FastDelivery,
    FastDrop,
    FastFlow,
    FastPort,
    FastRoute,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.kernel import Kernel
from srv6dmm.dataplane.objects import (
    Identity,
    InterfaceAddress,
    KernelFailure,
    KernelObject,
    LinkAddress,
    Neighbour,
    Route,
    Rule,
    Seg6Local,
    Sysctl,
    TunnelSource,
)

_LISTED = (Route, Rule, Neighbour, InterfaceAddress)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that was asked of the kernel, in order: "put" or "delete"."""

    verb: str
    item: KernelObject


class FakeKernel(Kernel):
    """The same contract as the real kernel (`dataplane.kernel.Kernel`), and hooks for faults.

    `interfaces` (None: any name will do) makes objects on other interfaces fail with ENODEV.
    `operations` is all that was asked, `objects` all that is held now.
    """

    def __init__(self, interfaces: Iterable[str] | None = None) -> None:
        self.objects: dict[Identity, KernelObject] = {}
        self.operations: list[Operation] = []
        self.counters: dict[str, tuple[int, int, int]] = {}
        self._interfaces = None if interfaces is None else set(interfaces)
        self._refusals: list[tuple[Callable[[Identity], bool], int]] = []
        self._changed: Callable[[], None] | None = None
        self._event = -1
        self.closed = False

    # --- faults ------------------------------------------------------------------------------

    def refuse(self, predicate: Callable[[Identity], bool], errno: int) -> None:
        """From now on refuse to put or delete objects whose identity the predicate is true for."""
        self._refusals.append((predicate, errno))

    def relent(self) -> None:
        """Refuse nothing any more."""
        self._refusals.clear()

    def lose(self, identity: Identity, *, tell: bool = False) -> None:
        """Drop an object behind everybody's back; with `tell` the monitor hears of it.

        KeyError when it is not there: a test that loses nothing proves nothing.
        """
        del self.objects[identity]
        if tell:
            self._signal()

    def meddle(self, item: KernelObject, *, tell: bool = True) -> None:
        """Put an object as somebody else would (not in `operations`)."""
        self.objects[item.identity] = item
        if tell:
            self._signal()

    # --- the contract ------------------------------------------------------------------------

    def put(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        """Create or replace every object, in order; go on after a failure."""
        failures = []
        for item in objects:
            self.operations.append(Operation("put", item))
            failure = self._refusal(item.identity) or self._no_device(item)
            if failure is not None:
                failures.append(failure)
            else:
                self.objects[item.identity] = item
        return failures

    def delete(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        """Delete objects; one that is not there any more is not a failure."""
        failures = []
        for item in objects:
            self.operations.append(Operation("delete", item))
            if not isinstance(item, _LISTED) or item.identity not in self.objects:
                continue
            failure = self._refusal(item.identity)
            if failure is not None:
                failures.append(failure)
            else:
                del self.objects[item.identity]
        return failures

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, KernelObject]:
        """Read back what is held; without `wanted` routes, neighbours and addresses only."""
        if wanted is None:
            return {
                identity: item
                for identity, item in self.objects.items()
                if isinstance(item, _LISTED)
            }
        return {key: self.objects[key] for key in wanted if key in self.objects}

    def sid_counters(self) -> dict[str, tuple[int, int, int]]:
        """Return what `counters` was set to."""
        return dict(self.counters)

    def counted(self, objects: Iterable[KernelObject]) -> tuple[int, int, int] | None:
        """Return the first of `counters` that is of a SID among the objects."""
        for item in objects:
            if isinstance(item, Route) and isinstance(item.encap, Seg6Local):
                counted = self.counters.get(str(item.prefix.network_address))
                if counted is not None:
                    return counted
        return None

    def subscribe(self, changed: Callable[[], None]) -> int:
        """Return a descriptor that is readable after `lose(tell=True)` or `meddle`."""
        if self._changed is not None:
            raise RuntimeError("this kernel is being watched already")
        self._changed = changed
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self._event

    def drain(self) -> None:
        """Report once if somebody else changed something since the last call."""
        if self._changed is None:
            return
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
        self._changed()

    def close(self) -> None:
        """Close the monitor; the objects stay."""
        if self._event >= 0:
            os.close(self._event)
            self._event = -1
        self._changed = None
        self.closed = True

    # --- inside ------------------------------------------------------------------------------

    def _signal(self) -> None:
        if self._event >= 0:
            os.eventfd_write(self._event, 1)

    def _refusal(self, identity: Identity) -> KernelFailure | None:
        for predicate, errno in self._refusals:
            if predicate(identity):
                return KernelFailure(identity, errno, f"refused by test: {os.strerror(errno)}")
        return None

    def _no_device(self, item: KernelObject) -> KernelFailure | None:
        if self._interfaces is None:
            return None
        for interface in _interfaces_of(item):
            if interface not in self._interfaces:
                reason = f"no interface {interface!r} in this namespace"
                return KernelFailure(item.identity, ENODEV, reason)
        return None


def _interfaces_of(item: KernelObject) -> tuple[str, ...]:
    match item:
        case Route():
            return tuple(hop.interface for hop in item.next_hops)
        case Neighbour() | InterfaceAddress() | LinkAddress():
            return (item.interface,)
        case FastPort() | FastRoute() | FastBinding() | FastSteering() | FastDelivery():
            return (item.interface,)
        case FastSid():
            return (item.interface,) if item.interface else ()
        case TunnelSource() | Sysctl() | Rule() | FastSettings() | FastDrop():
            return ()
        case FastFlow():
            return tuple(way.interface for way in item.lists)
