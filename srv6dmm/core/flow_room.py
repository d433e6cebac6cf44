"""Room for flow entries: a session whose entries a head-end has no room for has none anywhere.

Its packets then take the way of their prefix. Judged anew with each event of the node.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.model.flows import MAXIMUM_FLOW_ENTRIES
from srv6dmm.model.state import Change, RolloutPhase, Session, SessionKey, State


class FlowRoom:
    """Counts flow entries of one planner's sessions, each session's once."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._counted: dict[SessionKey, tuple[Session, Counter[str]]] = {}
        self._by: tuple[FlowBook, object] | None = None
        """Rules and topology that were counted by."""

    def settle(self, change: Change, key: SessionKey, state: State) -> tuple[Change, list[str]]:
        """Return a change in which the session has its flow rules applied if there is room.

        Also the head-ends without room: none, when it has.
        """
        changed = {session.key: session for session in change.sessions}
        session = changed.get(key)
        if session is None or (not session.unruled and not self._ruled(session)):
            return change, []
        full = self._without_room(replace(session, unruled=False), state)
        if session.unruled is bool(full):
            return change, full
        changed[key] = replace(session, unruled=bool(full))
        return replace(change, sessions=tuple(changed.values())), full

    def _ruled(self, session: Session) -> bool:
        return bool(self._planner.book.rules(session.mobile_node))

    def _without_room(self, session: Session, state: State) -> list[str]:
        by = (self._planner.book, self._planner.topology)
        if self._by is None or self._by[0] is not by[0] or self._by[1] is not by[1]:
            self._counted.clear()
            self._by = by
        total = self._most(session)
        for key, other in state.sessions.items():
            if key != session.key and self._ruled(other):
                total.update(self._count(other))
        own = self._most(session)
        return sorted(r for r in own if total[r] > MAXIMUM_FLOW_ENTRIES)

    def _count(self, session: Session) -> Counter[str]:
        known = self._counted.get(session.key)
        if known is None or known[0] is not session:
            known = self._counted[session.key] = (session, self._most(session))
        return known[1]

    def _most(self, session: Session) -> Counter[str]:
        """Return the most entries a session has on each head-end until its roll-out ends."""
        most: Counter[str] = Counter()
        for rollout in {session.rollout, RolloutPhase.SWITCH, RolloutPhase.STABLE}:
            via = None if rollout is RolloutPhase.STABLE else session.via
            phase = replace(session, rollout=rollout, via=via)
            most |= Counter(self._planner.flow_counts(phase, self._planner.book))
        return most
