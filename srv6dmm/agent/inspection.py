"""Plan entries against the kernel as it is now, to be told and not repaired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Literal

from srv6dmm.agent.host import Host
from srv6dmm.agent.reconcile import matches
from srv6dmm.agent.translate import translate
from srv6dmm.dataplane.kernel import Kernel
from srv6dmm.dataplane.objects import Identity, KernelObject
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.wire import EntryState

_LONGEST = 400
"""Characters of one sentence about what was found."""


def inspect(
    kernel: Kernel, host: Host, planned: Mapping[str, PlanEntry], entries: Iterable[PlanEntry]
) -> tuple[EntryState, ...]:
    """Read back exactly what entries are in the kernel and the fast path.

    `planned` is the plan that was applied. A kernel that does not answer leaves entries `unread`.
    """
    return tuple(_state(kernel, host, planned.get(entry.key), entry) for entry in entries)


def _state(kernel: Kernel, host: Host, applied: PlanEntry | None, entry: PlanEntry) -> EntryState:
    # As the reconciler has it: of two objects of one identity the last one counts.
    objects = {item.identity: item for item in translate(entry, host)}
    planned = applied == entry
    try:
        held = kernel.read(objects)
        counted = kernel.counted(objects.values())
    except OSError as error:
        return EntryState(entry.key, planned, "unread", (str(error),))
    state: Literal["present", "different", "missing"] = "present"
    found: list[str] = []
    for identity, item in objects.items():
        there = held.get(identity)
        if matches(there, item):
            continue
        if there is None:
            state = "missing"
            found.append(f"{_name(identity)} is not there")
        else:
            state = "missing" if state == "missing" else "different"
            found.append(f"{_name(identity)} {_difference(there, item)}")
    packets, octets, errors = counted if counted is not None else (None, None, None)
    return EntryState(
        entry.key,
        planned,
        state,
        tuple(sentence[:_LONGEST] for sentence in found),
        packets,
        octets,
        errors,
    )


def _name(identity: Identity) -> str:
    return " ".join(map(str, identity))


def _difference(there: KernelObject, wanted: KernelObject) -> str:
    if type(there) is not type(wanted):
        return f"is a {type(there).__name__}, not a {type(wanted).__name__}"
    differing = [
        f"{one.name.replace('_', ' ')} {_plain(got)}, not {_plain(asked)}"
        for one in fields(wanted)
        if (got := getattr(there, one.name)) != (asked := getattr(wanted, one.name))
    ]
    return f"has {'; '.join(differing)}"


def _plain(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(_plain, value))
    if is_dataclass(value):
        parts = (getattr(value, one.name) for one in fields(value) if one.compare)
        return " ".join(_plain(part) for part in parts if part is not None)
    return str(value)
