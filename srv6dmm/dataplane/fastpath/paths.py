"""Paths: one map element for each way that steering entries share, numbered and counted here.

An element is written before an entry names it, and not again before its number has another owner.
A number is nobody's for as long as there are others, and then until every program has ended that
may have read it from an entry: no packet meets a path half written, or another's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from srv6dmm.dataplane.fastpath.layout import Path


class Numbers:
    """Numbers from 1 to a limit, those that had no owner longest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next = 1
        self._free: deque[int] = deque()

    def take(self) -> int:
        """Return a number nobody has, one that nobody had if there is one; 0: all are taken."""
        if self._next < self._limit:
            self._next += 1
            return self._next - 1
        return self._free.popleft() if self._free else 0

    @property
    def reuses(self) -> bool:
        """Whether the next number was somebody's."""
        return self._next >= self._limit

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
        self._free = deque(n for n in range(1, self._next) if n not in numbers)


class PathTable:
    """Which paths there are, and how many entries name each."""

    def __init__(self, limit: int, counters: Numbers, wait: Callable[[], None]) -> None:
        """`wait` returns when every program that runs now has ended."""
        self._ids = Numbers(limit)
        self._counters = counters
        self._wait = wait
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
        reused = self._ids.reuses
        number = self._ids.take()
        if number:
            if reused:
                self._wait()
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

    def forget_unused(self) -> list[Path]:
        """Give back the ids nobody names; return their paths, whose counters are free now."""
        gone = sorted(number for number in self._idle if number in self.by_id)
        self._idle.clear()
        paths = []
        for number in gone:
            path = self.by_id.pop(number)
            del self._known[replace(path, counter=0)]
            del self._users[number]
            self._ids.give_back(number)
            paths.append(path)
        return paths
