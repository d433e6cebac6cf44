"""The store: what it promises, whatever keeps the records."""

from __future__ import annotations

from typing import Protocol

from srv6dmm.model.state import Change, State


class Store(Protocol):
    """Keeps records and a revision that grows by one with every change."""

    def load(self) -> State:
        """Return every record at the newest durable revision. Raises StoreUnavailable."""

    async def commit(self, change: Change, base: int) -> int:
        """Make a change durable on top of revision `base`; return the new revision, base + 1.

        Commits take effect in the order of the calls, and a call may be made on top of one that
        is still under way. Raises StoreConflict when `base` is not the newest revision by then,
        as it is after an earlier one failed, and StoreUnavailable when nothing can be written.
        Either way nothing of the change is kept.
        """

    def health(self) -> str | None:
        """Return None when commits succeed, else why they do not and what to do."""

    def close(self) -> None:
        """Finish what was submitted and let go of the file."""
