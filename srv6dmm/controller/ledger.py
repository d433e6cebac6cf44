"""The ledger: the durable state, and what was decided on top of it and is being written.

Everybody is told of a change when it is durable. A step that may be taken back at any time, as
those of a roll-out may, is announced before: routers act on it while it is being written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from srv6dmm.controller.tickets import Ticket
from srv6dmm.model.state import Change, Session, SessionKey
from srv6dmm.store.interface import Store

Before = Mapping[SessionKey, Session | None]
"""The sessions that a change touches, as they were before it."""
Published = Callable[[int], None]
"""(revision), called when a change is durable, before any later one is."""
Publish = Callable[[Change, Before, Ticket | None], None]
Announce = Callable[[int, Change, Before], None]
"""(the revision it will have, change, before)."""
Withdraw = Callable[[Change, Before], None]
"""(change, before), of one that was announced and not kept."""


@dataclass(frozen=True, slots=True, eq=False)
class _Decided:
    change: Change
    ticket: Ticket | None
    announced: bool = False
    published: Published | None = None


class Ledger:
    """Decisions build on `newest`; everybody else is told of `durable`, in order."""

    def __init__(
        self, store: Store, publish: Publish, announce: Announce, withdraw: Withdraw
    ) -> None:
        """Load the state. Raises StoreUnavailable."""
        self._store = store
        self._publish = publish
        self._announce = announce
        self._withdraw = withdraw
        self.durable = store.load()
        self.newest = self.durable.copy()
        self._decided: dict[int, _Decided] = {}
        """By revision, without a gap: what `newest` has and `durable` has not."""

    async def commit(
        self,
        change: Change,
        ticket: Ticket | None = None,
        ahead: bool = False,
        published: Published | None = None,
    ) -> int:
        """Make a change durable and publish it; return its revision.

        `ahead`: announce it before, unless an earlier one is still being written. `published` is
        called once everybody was told. Raises StoreError, and then forgets the change, with all
        that was decided on top of it.
        """
        base = self.newest.revision
        ahead = ahead and base == self.durable.revision
        self.newest.apply(change, base + 1)
        decided = self._decided[base + 1] = _Decided(change, ticket, ahead, published)
        if ahead:
            self._announce(base + 1, change, self._before(change))
        try:
            revision = await self._store.commit(change, base)
        except Exception:
            self._forget(base + 1, decided)
            raise
        while self.durable.revision < revision:
            self._follow()
        return revision

    def _follow(self) -> None:
        """Publish the change after the newest durable one."""
        revision = self.durable.revision + 1
        decided = self._decided.pop(revision)
        before = self._before(decided.change)
        self.durable.apply(decided.change, revision)
        self._publish(decided.change, before, decided.ticket)
        if decided.published is not None:
            decided.published(revision)

    def _before(self, change: Change) -> Before:
        keys = [*(session.key for session in change.sessions), *change.sessions_gone]
        return {key: self.durable.sessions.get(key) for key in keys}

    def _forget(self, revision: int, decided: _Decided) -> None:
        """Decide on without a change that was not kept.

        What was submitted before it may still be kept, so it stays decided.
        """
        if self._decided.get(revision) is not decided:
            return  # gone already, with an earlier one
        for later in [later for later in self._decided if later >= revision]:
            lost = self._decided.pop(later)
            if lost.announced:
                self._withdraw(lost.change, self._before(lost.change))
        self.newest = self.durable.copy()
        for earlier in sorted(self._decided):
            self.newest.apply(self._decided[earlier].change, earlier)
