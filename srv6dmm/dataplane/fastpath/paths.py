"""Paths: one map element for each way that steering entries share, numbered and counted here.

An element is written before an entry names it and deleted after the last one has gone, so that no
packet meets an entry without its path, except for the instant of a crash: then the kernel's route
takes it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from srv6dmm.dataplane.fastpath.layout import Path


class Numbers:
    """Numbers from 1 to a limit, the lowest free one first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next = 1
        self._free: list[int] = []

    def take(self) -> int:
        """Return a number nobody has; 0 when all are taken."""
        if self._free:
            return self._free.pop()
        if self._next >= self._limit:
            return 0
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        """Let a number be taken again."""
        if number:
            self._free.append(number)

    def taken_from(self, number: int) -> bool:
        """Tell whether a number from there on was ever taken."""
        return number < self._next

    def adopt(self, numbers: set[int]) -> None:
        """Start over, with these numbers taken."""
        self._next = max(numbers, default=0) + 1
        self._free = sorted(set(range(1, self._next)) - numbers, reverse=True)


class PathTable:
    """Which paths there are, and how many entries name each."""

    def __init__(self, limit: int, counters: Numbers) -> None:
        self._ids = Numbers(limit)
        self._counters = counters
        self._known: dict[Path, int] = {}
        self.by_id: dict[int, Path] = {}
        self._users: Counter[int] = Counter()
        self._idle: set[int] = set()

    def adopt(self, found: dict[int, Path], used: Counter[int]) -> None:
        """Take over what the maps hold: paths by id, and how many entries name each."""
        self.by_id = dict(found)
        self._known = {replace(path, counter=0): number for number, path in found.items()}
        self._users = Counter({number: used[number] for number in found})
        self._ids.adopt(set(found))
        self._idle = {number for number in found if not used[number]}

    def find(self, path: Path) -> tuple[int, bool]:
        """Return the id of a path (its counter left out) and whether it is new; 0: table full."""
        number = self._known.get(path)
        if number is not None:
            return number, False
        number = self._ids.take()
        if number:
            self._known[path] = number
            self.by_id[number] = replace(path, counter=self._counters.take())
            self._idle.add(number)
        return number, True

    def use(self, number: int) -> None:
        """Note that one more entry names a path."""
        self._users[number] += 1
        self._idle.discard(number)

    def drop(self, number: int) -> None:
        """Note that one entry less names a path."""
        self._users[number] -= 1
        if self._users[number] <= 0:
            self._idle.add(number)

    def unused(self) -> list[int]:
        """Return the ids nobody names, and forget them."""
        gone = sorted(number for number in self._idle if number in self.by_id)
        self._idle.clear()
        for number in gone:
            path = self.by_id.pop(number)
            del self._known[replace(path, counter=0)]
            del self._users[number]
            self._counters.give_back(path.counter)
            self._ids.give_back(number)
        return gone
