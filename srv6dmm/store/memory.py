"""The store in memory: for tests, and for domains that may forget."""

from __future__ import annotations

from srv6dmm.model.errors import StoreConflict
from srv6dmm.model.state import Change, State


class MemoryStore:
    """Records in this process; a restart of the controller object can load them again."""

    def __init__(self) -> None:
        self._state = State()

    def load(self) -> State:
        """Return every record; what the caller does to the state stays with the caller."""
        return self._state.copy()

    async def commit(self, change: Change, base: int) -> int:
        """Apply the change if `base` is the newest revision, else raise StoreConflict."""
        if base != self._state.revision:
            raise StoreConflict(f"revision {base} is not the newest, {self._state.revision} is")
        self._state.apply(change, base + 1)
        return base + 1

    def health(self) -> str | None:
        """Return None: memory does not fail."""
        return None

    def close(self) -> None:
        """Do nothing; the records stay for the next load."""
