"""The maps of one pin directory: elements in and out, counters summed over processors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from srv6dmm.dataplane.fastpath import syscalls
from srv6dmm.dataplane.fastpath.layout import Counter
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.fastpath.tables import PERCPU_ARRAY, RINGBUF, Limits, maps

Change = tuple[int, Counter]
"""A counter's number, and what it is now."""
_POSSIBLE = Path("/sys/devices/system/cpu/possible")


def create(pins: Path, limits: Limits) -> None:
    """Make and pin the maps that are not there; those that are keep their elements.

    Raises OSError naming the map.
    """
    pins.mkdir(mode=0o700, parents=True, exist_ok=True)
    for spec in maps(limits):
        path = pins / spec.name
        if path.exists():
            continue
        descriptor = syscalls.map_create(
            spec.kind, spec.key_size, spec.value_size, spec.max_entries, spec.flags, spec.name
        )
        try:
            syscalls.pin(descriptor, str(path))
        except OSError as error:
            if error.errno != errno.EEXIST:  # another process was quicker: its map is as good
                raise
        finally:
            syscalls.close(descriptor)


class Maps:
    """Open descriptors of pinned maps. Raises OSError naming the map that is not there."""

    def __init__(self, pins: Path) -> None:
        self._open: dict[str, int] = {}
        self._sizes: dict[str, tuple[int, int, int]] = {}
        self._processors = _processors()
        try:
            for spec in maps(Limits()):
                descriptor = syscalls.get(str(pins / spec.name))
                self._open[spec.name] = descriptor
                kind, key_size, value_size, entries = syscalls.map_info(descriptor)
                if kind == PERCPU_ARRAY:
                    value_size = (value_size + 7) // 8 * 8 * self._processors
                if kind != RINGBUF:
                    self._sizes[spec.name] = (key_size, value_size, entries)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptors; the maps stay pinned."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def descriptor(self, name: str) -> int:
        """Return the descriptor of a map."""
        return self._open[name]

    def size(self, name: str) -> int:
        """Return how many elements a map holds at most."""
        return self._sizes[name][2]

    def put(self, name: str, elements: Mapping[bytes, bytes]) -> None:
        """Create or replace elements, each atomically. Raises OSError; some may be written."""
        self.put_each(name, list(elements), list(elements.values()))

    def put_each(self, name: str, keys: Sequence[bytes], elements: Sequence[bytes]) -> None:
        """Create or replace elements in order. Raises OSError; some may be written."""
        if len(keys) == 1:
            syscalls.update(self._open[name], keys[0], elements[0], name)
        else:
            syscalls.update_batch(self._open[name], keys, elements, name)

    def delete(self, name: str, keys: Sequence[bytes]) -> None:
        """Delete elements; those that are not there are fine."""
        syscalls.delete_each(self._open[name], keys, name)

    def get(self, name: str, key: bytes) -> bytes | None:
        """Return one element's value, or None."""
        return syscalls.lookup(self._open[name], key, self._sizes[name][1], name)

    def each(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield every element; of one that is written meanwhile nothing is promised."""
        key_size, value_size, _ = self._sizes[name]
        return syscalls.items(self._open[name], key_size, value_size, name)

    def read_all(self, name: str) -> dict[bytes, bytes]:
        """Return every element."""
        return dict(self.each(name))

    def counters(self, numbers: Iterable[int]) -> dict[int, Counter]:
        """Return counters by number, summed over processors (`last`: the newest)."""
        found: dict[int, Counter] = {}
        for number in numbers:
            value = self.get("counters", number.to_bytes(4, "little"))
            if value is not None:
                found[number] = self._summed(value)
        return found

    def _summed(self, value: bytes) -> Counter:
        size = len(value) // self._processors
        each = [Counter.unpack(value[at : at + size]) for at in range(0, len(value), size)]
        return Counter(
            sum(one.packets for one in each),
            sum(one.octets for one in each),
            max(one.last for one in each),
        )

    def changed_counters(self, first: int, count: int, before: bytes) -> tuple[bytes, list[Change]]:
        """Read `count` counters from number `first` on in one call.

        Returns what was read, to be given as `before` the next time, and the counters that differ
        from it. Counters that are not there count as zero.
        """
        count = min(count, self.size("counters") - first)
        size = self._sizes["counters"][1]
        data = syscalls.read_array(self._open["counters"], first, count, size, "counters")
        before = before or bytes(len(data))
        if data == before:
            return data, []
        return data, [
            (first + at // size, self._summed(data[at : at + size]))
            for at in range(0, len(data), size)
            if data[at : at + size] != before[at : at + size]
        ]

    def zero_counters(self, numbers: Iterable[int]) -> None:
        """Set counters to zero, for another owner."""
        zero = bytes(self._sizes["counters"][1])
        self.put("counters", {number.to_bytes(4, "little"): zero for number in numbers})

    def reasons(self) -> dict[Reason, int]:
        """Return how many packets were counted under each reason, since the maps were made."""
        counted: dict[Reason, int] = {}
        for reason in Reason:
            value = self.get("reasons", reason.to_bytes(4, "little")) or b""
            counted[reason] = sum(
                int.from_bytes(value[at : at + 8], "little") for at in range(0, len(value), 8)
            )
        return counted


def _processors() -> int:
    """Return how many values a per-CPU element has: one for each possible processor."""
    last = _POSSIBLE.read_text().strip().replace("-", ",").split(",")[-1]
    return int(last) + 1
