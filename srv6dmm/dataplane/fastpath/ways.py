"""Paths as entries name them: which one leads along a list, and who still needs it.

Shared by prefixes and flow rules. A path is written before what names it, and its number is given
back after nothing does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from srv6dmm.dataplane.fastpath import syscalls, values
from srv6dmm.dataplane.fastpath.hops import Hops
from srv6dmm.dataplane.fastpath.layout import Path
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.objects import FastList, FastSteering
from srv6dmm.dataplane.fastpath.paths import Numbers, PathTable
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable
from srv6dmm.model.sid import EncapMode


class Ways:
    """The paths of one namespace's maps. Not thread-safe."""

    def __init__(
        self, maps: Maps, interfaces: InterfaceTable, counters: Numbers, hops: Hops
    ) -> None:
        self._maps = maps
        self._counters = counters
        self._interfaces = interfaces
        self._hops = hops
        self._paths = PathTable(maps.size("paths"), counters, syscalls.wait_for_programs)
        self._numbers: dict[tuple[object, ...], int] = {}

    def adopt(self, used: Counter[int]) -> set[int]:
        """Take over the paths that entries name, so often each; return their counters."""
        # Not the whole array: it is megabytes, and entries share few paths.
        paths = {
            number: Path.unpack(found)
            for number in used
            if (found := self._maps.get("paths", number.to_bytes(4, "little"))) is not None
        }
        self._paths.adopt(paths, used)
        self._numbers.clear()
        return {path.counter for path in paths.values()}

    def number(self, item: FastSteering | FastList) -> tuple[int, bytes | None]:
        """Return the number of an entry's path, and the element to write first if it is new.

        Raises NoSuchInterface, ValueError.
        """
        way = (
            item.mode is EncapMode.ENCAP,
            item.interface,
            item.mtu,
            int(item.source),
            int(item.next_hop),
            *map(int, item.segments),
        )
        number = self._numbers.get(way)
        if number is not None:
            return number, None
        path = values.path(item, self._interfaces)
        path = replace(path, hop=self._hops.number(path.ifindex, path.next_hop))
        number, new = self._paths.find(path)
        if not number:
            raise ValueError(f"map paths is full ({self._maps.size('paths')} paths)")
        self._numbers[way] = number
        return number, self._paths.by_id[number].pack() if new else None

    def use(self, number: int) -> None:
        """Note that one more entry names a path."""
        self._paths.use(number)

    def drop(self, number: int) -> None:
        """Note that one entry less names a path."""
        self._paths.drop(number)

    def sweep(self) -> None:
        """Forget paths nobody names any more; their elements stay until they are written anew."""
        gone = self._paths.forget_unused()
        if gone:
            self._numbers.clear()
            self.free(path.counter for path in gone)

    def free(self, counters: Iterable[int]) -> None:
        """Set counters to zero and let them be taken again."""
        counted = [number for number in counters if number]
        self._maps.zero_counters(counted)
        for number in counted:
            self._counters.give_back(number)

    @property
    def known(self) -> dict[int, Path]:
        """The paths that entries name, by number."""
        return self._paths.by_id

    def told(self) -> dict[int, values.Way]:
        """Return what each known path is to entries."""
        return {
            number: values.way_of(path, self._interfaces) for number, path in self.known.items()
        }

    def read(self, number: int) -> values.Way | None:
        """Return what the map says of a path now."""
        found = self._maps.get("paths", number.to_bytes(4, "little"))
        return None if found is None else values.way_of(Path.unpack(found), self._interfaces)
