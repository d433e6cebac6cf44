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
        as it is after an earlier one failed, StoreUnavailable when nothing can be written, and
        StoreError for a record that cannot be kept. Each way nothing of the change is kept, and
        the store stays usable. Cancelling the call ends the wait only: what becomes of the change
        is not known then.
        """

    def health(self) -> str | None:
        """Return None when commits succeed, else why they do not and what to do.

        Turns None again by itself when the cause is gone, without any commit.
        """

    def close(self) -> None:
        """Finish what was submitted and let go of the file. May be repeated."""
