"""Interface names and indexes: a cache that knows when to ask again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


class NoSuchInterface(LookupError):
    """A name that no interface of the namespace has."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """What we care about of one interface."""

    index: int
    name: str
    up: bool
    link_layer_address: str | None


class InterfaceTable:
    """Name <-> index of one namespace, read again when a name or an index is not known.

    `load` reads all interfaces; without one the table is what `set` was given.
    """

    def __init__(self, load: Callable[[], Iterable[LinkState]] | None = None) -> None:
        self._load = load
        self._index: dict[str, int] = {}
        self._state: dict[int, LinkState] = {}

    def refresh(self) -> bool:
        """Read the interfaces anew; True when an index or a name changed."""
        before = self._index
        if self._load is not None:
            self.set(self._load())
        return self._index != before

    def set(self, links: Iterable[LinkState]) -> None:
        """Replace the whole table."""
        self._state = {link.index: link for link in links}
        self._index = {link.name: link.index for link in self._state.values()}

    def update(self, link: LinkState) -> None:
        """Take over the state of one interface, new or known."""
        self.set([*(s for s in self._state.values() if s.index != link.index), link])

    def forget(self, index: int) -> None:
        """Drop an interface that is gone."""
        self.set([state for state in self._state.values() if state.index != index])

    def index(self, name: str) -> int:
        """Return the index of a name; raises NoSuchInterface after one look at the kernel."""
        found = self._index.get(name)
        if found is None:
            self.refresh()
            found = self._index.get(name)
        if found is None:
            raise NoSuchInterface(
                f"no interface {name!r} in this namespace (there are: "
                f"{', '.join(sorted(self._index)) or 'none'})"
            )
        return found

    def name(self, index: int) -> str:
        """Return the name of an index; "#index" for one that no interface has any more."""
        found = self._state.get(index)
        if found is None:
            self.refresh()
            found = self._state.get(index)
        return found.name if found is not None else f"#{index}"

    def state(self, name: str) -> LinkState | None:
        """Return the state last read of an interface."""
        index = self._index.get(name)
        return None if index is None else self._state.get(index)

    def state_of(self, index: int) -> LinkState | None:
        """Return the state last read of an interface by its index."""
        return self._state.get(index)
