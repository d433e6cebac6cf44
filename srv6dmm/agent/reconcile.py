"""Desired and actual: makes the kernel equal to the plan, and says what it took.

Nothing is written that is already right, nothing is deleted before an in-sync full plan is held,
and only what is provably ours (dataplane.objects) is ever deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from srv6dmm.agent.translate import Host, translate
from srv6dmm.dataplane.kernel import Kernel
from srv6dmm.dataplane.objects import (
    Identity,
    InterfaceAddress,
    KernelFailure,
    KernelObject,
    LinkAddress,
    Neighbour,
    Route,
    RouteKind,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.plan import PlanEntry, RouterSettings
from srv6dmm.model.wire import EntryFailure


@dataclass(frozen=True, slots=True)
class Repair:
    """What a read-back found wrong, as plan entry keys (or kernel identities: superfluous)."""

    missing: tuple[str, ...]
    different: tuple[str, ...]
    superfluous: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.different or self.superfluous)


def _rank(item: KernelObject) -> int:
    """Order of writing: what others need comes first. Deletes come last of all."""
    match item:
        case Sysctl():
            return 0
        case LinkAddress():
            return 1
        case InterfaceAddress() | TunnelSource():
            return 2
        case Neighbour():
            return 5
        case Route(encap=Seg6Local()):
            return 4
        case Route(encap=Seg6Encap()):
            return 7
        case Route(kind=RouteKind.UNICAST):
            return 3 if item.next_hops and item.next_hops[0].via is not None else 6
        case _:
            return 3


class Reconciler:
    """The plan's objects (desired) against one kernel (actual)."""

    def __init__(self, kernel: Kernel, encap_red: bool) -> None:
        self._kernel = kernel
        self._encap_red = encap_red
        self._host = Host(encap_red, "lo")
        self.entries: dict[str, PlanEntry] = {}
        """The plan as it was last told."""
        self._desired: dict[Identity, KernelObject] = {}
        self._owners: dict[Identity, dict[str, KernelObject]] = {}
        self._failed: dict[Identity, KernelFailure] = {}
        self._orphans: dict[Identity, KernelObject] = {}
        """To be deleted, but the kernel refused."""
        self.in_sync = False
        """Whether a full plan was ever applied."""

    def apply_full(self, entries: Iterable[PlanEntry]) -> list[EntryFailure]:
        """Take a whole plan, make the kernel equal to it, return what was refused."""
        self.entries = {entry.key: entry for entry in entries}
        for entry in self.entries.values():
            if isinstance(entry, RouterSettings) and entry.core_interfaces:
                self._host = Host(self._encap_red, entry.core_interfaces[0])
        self._desired.clear()
        self._owners.clear()
        self._failed.clear()
        self._orphans.clear()
        for key, entry in self.entries.items():
            self._own(key, entry)
        self._desired = {
            identity: next(reversed(owners.values())) for identity, owners in self._owners.items()
        }
        self.in_sync = True
        self.repair()
        return self.failures()

    def apply_delta(self, put: Sequence[PlanEntry], gone: Sequence[str]) -> list[EntryFailure]:
        """Take changed entries and keys that go; return everything that is refused now."""
        touched: set[Identity] = set()
        for key in gone:
            touched |= self._disown(key)
            self.entries.pop(key, None)
        for entry in put:
            touched |= self._disown(entry.key)
            self.entries[entry.key] = entry
            touched |= self._own(entry.key, entry)
        before = {identity: self._desired.get(identity) for identity in touched}
        writes: list[KernelObject] = []
        deletes: list[KernelObject] = []
        for identity in touched:
            owners = self._owners.get(identity)
            old = before[identity]
            if owners:
                new = next(reversed(owners.values()))
                self._desired[identity] = new
                if new != old or identity in self._failed:
                    writes.append(new)
            elif old is not None:
                del self._desired[identity]
                deletes.append(old)
        self._write(writes)
        self._delete(deletes)
        return self.failures()

    def repair(self) -> Repair:
        """Read everything back, write what is missing or different, delete what is not planned."""
        actual = self._kernel.read()
        singular = [
            identity
            for identity, item in self._desired.items()
            if isinstance(item, Sysctl | LinkAddress | TunnelSource | InterfaceAddress)
        ]
        actual |= self._kernel.read(singular)
        missing = [i for i in self._desired if i not in actual]
        different = [i for i, item in self._desired.items() if actual.get(i, item) != item]
        superfluous = [item for i, item in actual.items() if i not in self._desired]
        self._write([self._desired[i] for i in (*missing, *different)])
        self._delete(superfluous)
        return Repair(
            self._keys(missing),
            self._keys(different),
            tuple(sorted(" ".join(map(str, item.identity)) for item in superfluous)),
        )

    def retry(self) -> list[EntryFailure]:
        """Try again what the kernel refused; return what it still refuses."""
        self._write([self._desired[i] for i in self._failed if i in self._desired])
        self._delete(list(self._orphans.values()))
        return self.failures()

    def failures(self) -> list[EntryFailure]:
        """Return everything the kernel refuses now, by plan entry."""
        return [
            EntryFailure(key, failure.errno, failure.reason)
            for identity, failure in self._failed.items()
            for key in self._owners.get(identity, {"kernel": None})
        ]

    def flush(self) -> list[KernelFailure]:
        """Delete every route, neighbour and address of ours, planned or not."""
        return self._kernel.delete(list(self._kernel.read().values()))

    def _own(self, key: str, entry: PlanEntry) -> set[Identity]:
        touched: set[Identity] = set()
        for item in translate(entry, self._host):
            self._owners.setdefault(item.identity, {})[key] = item
            touched.add(item.identity)
        return touched

    def _disown(self, key: str) -> set[Identity]:
        entry = self.entries.get(key)
        touched: set[Identity] = set()
        if entry is None:
            return touched
        for item in translate(entry, self._host):
            owners = self._owners.get(item.identity, {})
            owners.pop(key, None)
            if not owners:
                self._owners.pop(item.identity, None)
            touched.add(item.identity)
        return touched

    def _write(self, items: list[KernelObject]) -> None:
        """Put objects and read them back: only what the kernel then holds is applied."""
        if not items:
            return
        items.sort(key=_rank)
        refused = {failure.identity: failure for failure in self._kernel.put(items)}
        held = self._kernel.read([item.identity for item in items])
        for item in items:
            identity = item.identity
            self._orphans.pop(identity, None)
            if identity in refused:
                self._failed[identity] = refused[identity]
            elif held.get(identity) != item:
                found = held.get(identity)
                reason = "is not there" if found is None else f"reads back as {found}"
                self._failed[identity] = KernelFailure(identity, 0, f"accepted, but {reason}")
            else:
                self._failed.pop(identity, None)

    def _delete(self, items: list[KernelObject]) -> None:
        if not items:
            return
        items.sort(key=_rank, reverse=True)
        refused = {failure.identity: failure for failure in self._kernel.delete(items)}
        for item in items:
            if item.identity in refused:
                self._orphans[item.identity] = item
                self._failed[item.identity] = refused[item.identity]
            else:
                self._orphans.pop(item.identity, None)
                self._failed.pop(item.identity, None)

    def _keys(self, identities: list[Identity]) -> tuple[str, ...]:
        return tuple(
            sorted({key for identity in identities for key in self._owners.get(identity, ())})
        )
