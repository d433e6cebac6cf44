"""Desired and actual: makes the kernel equal to the plan, and says what it took.

Two views are held: `desired` follows from the plan, `actual` is asked of the kernel. Nothing is
written that is already right, nothing is deleted before a full plan is held, and only what is
provably ours (dataplane.objects) is ever deleted. What was written is read back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from srv6dmm.agent.host import Host
from srv6dmm.agent.owners import Owners
from srv6dmm.agent.translate import translate
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
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.plan import Delivery, PlanEntry, RouterSettings
from srv6dmm.model.wire import EntryFailure

_SINGULAR = Sysctl | LinkAddress | TunnelSource | InterfaceAddress
"""What a whole read-back leaves out, or cannot be sure of: asked for by identity."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What a read-back found wrong and put right.

    Keys of plan entries; superfluous are kernel identities, which no entry has.
    """

    missing: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    superfluous: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.different or self.superfluous)


def _rank(item: KernelObject) -> int:
    """Order of writing: what others need comes first. Deletes come after all writes, reversed.

    Links before neighbours: Linux forgets an interface's neighbours when its address changes.
    """
    match item:
        case Sysctl():
            return 0
        case LinkAddress():
            return 1
        case InterfaceAddress() | TunnelSource():
            return 2
        case Route(encap=Seg6Local()):
            return 4
        case Neighbour():
            return 5
        case Route(encap=Seg6Encap()):
            return 7
        case Rule():
            return 8  # when the table it names holds the flow's way
        case FastPort():
            return 9  # a filter is attached when all that it looks up is there
        case FastSettings() | FastSid() | FastRoute() | FastSteering() | FastDelivery():
            return 8  # a short cut never before the road
        case FastFlow() | FastDrop() | FastBinding():
            return 8
        case _:
            return 3  # underlay, unreachable, blackhole; deliveries are lifted to 6


_DELIVERY = 6


def matches(found: KernelObject | None, wanted: KernelObject) -> bool:
    """Tell whether the kernel holds what is wanted."""
    if isinstance(wanted, LinkAddress) and wanted.link_layer_address is None:
        return found is not None  # any link-layer address will do
    return found == wanted


class Reconciler:
    """The plan's objects against one kernel. No asyncio, no clock: every call runs through.

    A kernel that does not answer (OSError) is a refusal of what was asked of it. Not thread-safe.
    """

    def __init__(
        self, kernel: Kernel, encap_red: bool, fast: bool = False, detect: bool = False
    ) -> None:
        self._kernel = kernel
        self._encap_red = encap_red
        self._fast = fast
        self._detect = detect
        self._host = Host.of(None, encap_red, fast, detect)
        self.entries: dict[str, PlanEntry] = {}
        """The plan as it was last told."""
        self._desired: dict[Identity, KernelObject] = {}
        self._owners = Owners()
        self._deliveries: set[Identity] = set()
        self._rules: set[Identity] = set()
        """Of flows. Their tables' numbers are digests of their keys, and two could be the same."""
        self._failed: dict[Identity, KernelFailure] = {}
        self._orphans: dict[Identity, KernelObject] = {}
        """To be deleted, but the kernel refused."""
        self._raised: set[Identity] = set()
        """Links that were up once. One that is down later was set down by somebody, on purpose:
        it is left down, and what needs it is reported."""
        self.in_sync = False
        """Whether a full plan is held. Before that nothing is deleted or repaired."""

    @property
    def host(self) -> Host:
        """What the router's settings make of it."""
        return self._host

    @property
    def size(self) -> int:
        """The number of kernel objects of the plan."""
        return len(self._desired)

    # --- plans -------------------------------------------------------------------------------

    def apply_full(self, entries: Iterable[PlanEntry]) -> list[EntryFailure]:
        """Take a whole plan, make the kernel equal to it, return what is refused."""
        self.entries = {entry.key: entry for entry in entries}
        self._host = self._host_of(self.entries.values())
        for table in (self._desired, self._failed, self._orphans):
            table.clear()
        self._owners.clear()
        self._deliveries.clear()
        self._rules.clear()
        for key, entry in self.entries.items():
            for identity in self._own(key, entry):
                self._desired[identity] = self._owners.wanted(identity)
        self.in_sync = True
        self.repair()
        return self.failures()

    def use_fast_path(self, on: bool) -> list[EntryFailure]:
        """Fill or empty the fast path; the kernel's routes forward before, during and after."""
        self._fast = on
        return self.apply_full(list(self.entries.values())) if self.in_sync else []

    def apply_delta(self, put: Sequence[PlanEntry], gone: Sequence[str]) -> list[EntryFailure]:
        """Take changed entries and keys that go; return everything that is refused now."""
        if any(isinstance(entry, RouterSettings) for entry in put):
            merged = {key: entry for key, entry in self.entries.items() if key not in set(gone)}
            merged.update((entry.key, entry) for entry in put)
            if self._host_of(merged.values()) != self._host:
                return self.apply_full(merged.values())  # every SID moves to another device
        touched: dict[Identity, None] = {}
        for key in gone:
            touched.update(dict.fromkeys(self._disown(key)))
        for entry in put:
            touched.update(dict.fromkeys(self._disown(entry.key)))
            self.entries[entry.key] = entry
            touched.update(dict.fromkeys(self._own(entry.key, entry)))
        writes: list[KernelObject] = []
        deletes: list[KernelObject] = []
        for identity in touched:
            old = self._desired.get(identity)
            if identity in self._owners:
                new = self._desired[identity] = self._owners.wanted(identity)
                if new != old or identity in self._failed:
                    writes.append(new)
            elif old is not None:
                del self._desired[identity]
                deletes.append(old)
        self._write(writes)
        self._delete(deletes)
        return self.failures()

    # --- the kernel as it is -----------------------------------------------------------------

    def repair(self) -> Repair:
        """Read everything back, write what is missing or different, delete what is not planned.

        What the kernel refuses is a failure, not a repair.
        """
        if not self.in_sync:
            return Repair()
        try:
            actual = self._kernel.read()
            actual |= self._kernel.read(
                [i for i, item in self._desired.items() if isinstance(item, _SINGULAR)]
            )
        except OSError as error:
            self._doubt(list(self._desired.values()), error)
            return Repair()
        known = set(self._failed)
        missing: list[Identity] = []
        different: list[Identity] = []
        for identity, item in self._desired.items():
            found = actual.get(identity)
            if matches(found, item):
                self._holds(identity, item)
            elif found is not None:
                different.append(identity)
            elif identity not in self._raised:
                missing.append(identity)
        superfluous = [item for i, item in actual.items() if i not in self._desired]
        self._write([self._desired[i] for i in (*missing, *different)])
        self._delete(superfluous)
        known |= self._failed.keys()
        return Repair(
            self._keys(i for i in missing if i not in known),
            self._keys(i for i in different if i not in known),
            tuple(
                sorted(
                    " ".join(map(str, item.identity))
                    for item in superfluous
                    if item.identity not in known
                )
            ),
        )

    def retry(self) -> list[EntryFailure]:
        """Try again what the kernel refused; return what it still refuses."""
        self._write([self._desired[i] for i in self._failed if i in self._desired])
        self._delete(list(self._orphans.values()))
        return self.failures()

    def failures(self) -> list[EntryFailure]:
        """Return everything the kernel refuses now, by plan entry; "kernel": no entry's."""
        return [
            EntryFailure(key, failure.errno, f"{' '.join(map(str, identity))}: {failure.reason}")
            for identity, failure in self._failed.items()
            for key in self._owners.keys(identity) or ("kernel",)
        ] + [
            EntryFailure(
                key, 0, f"table {identity[1]} is that of {' and '.join(owners)}: rename one"
            )
            for identity in self._rules
            if len(owners := self._owners.keys(identity)) > 1
            for key in owners
        ]

    # --- desired -----------------------------------------------------------------------------

    def _host_of(self, entries: Iterable[PlanEntry]) -> Host:
        settings = next((e for e in entries if isinstance(e, RouterSettings)), None)
        return Host.of(settings, self._encap_red, self._fast, self._detect)

    def _own(self, key: str, entry: PlanEntry) -> list[Identity]:
        identities: list[Identity] = []
        for item in translate(entry, self._host):
            identity = item.identity
            self._owners.add(identity, key, item)
            if isinstance(item, Rule):
                self._rules.add(identity)
            identities.append(identity)
            if isinstance(entry, Delivery):
                self._deliveries.add(identity)
            else:
                self._deliveries.discard(identity)
        return identities

    def _disown(self, key: str) -> list[Identity]:
        entry = self.entries.pop(key, None)
        identities: list[Identity] = []
        for item in translate(entry, self._host) if entry is not None else ():
            identity = item.identity
            self._owners.remove(identity, key)
            if identity not in self._owners:
                self._deliveries.discard(identity)
                self._rules.discard(identity)
            identities.append(identity)
        return identities

    def _order(self, item: KernelObject) -> int:
        rank = _rank(item)
        return _DELIVERY if rank == 3 and item.identity in self._deliveries else rank

    # --- actual ------------------------------------------------------------------------------

    def _write(self, items: list[KernelObject]) -> None:
        """Put objects and read them back: only what the kernel then holds is applied."""
        if not items:
            return
        items.sort(key=self._order)
        try:
            refused = {failure.identity: failure for failure in self._kernel.put(items)}
            held = self._kernel.read([item.identity for item in items])
        except OSError as error:
            self._doubt(items, error)
            return
        for item in items:
            identity = item.identity
            self._orphans.pop(identity, None)
            found = held.get(identity)
            if identity in refused:
                self._failed[identity] = refused[identity]
            elif matches(found, item):
                self._holds(identity, item)
            else:
                reason = "is not there" if found is None else f"reads back as {found}"
                self._failed[identity] = KernelFailure(identity, 0, f"accepted, but {reason}")

    def _delete(self, items: list[KernelObject]) -> None:
        if not items:
            return
        items.sort(key=self._order, reverse=True)
        try:
            refused = {failure.identity: failure for failure in self._kernel.delete(items)}
        except OSError as error:
            self._doubt(items, error)
            self._orphans.update((item.identity, item) for item in items)
            return
        for item in items:
            if item.identity in refused:
                self._orphans[item.identity] = item
                self._failed[item.identity] = refused[item.identity]
            else:
                self._orphans.pop(item.identity, None)
                self._failed.pop(item.identity, None)

    def _holds(self, identity: Identity, item: KernelObject) -> None:
        self._failed.pop(identity, None)
        if isinstance(item, LinkAddress):
            self._raised.add(identity)

    def _doubt(self, items: Collection[KernelObject], error: OSError) -> None:
        """The kernel did not answer: nothing is known of these objects."""
        number = error.errno or 0
        for item in items:
            self._failed[item.identity] = KernelFailure(item.identity, number, str(error))

    def _keys(self, identities: Iterable[Identity]) -> tuple[str, ...]:
        found = {key for identity in identities for key in self._owners.keys(identity)}
        return tuple(sorted(found))
