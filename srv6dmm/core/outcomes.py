"""What became of accepted events whose roll-out ended early, kept for whoever sends them again.

The record of such an event gets its refusal in the same change that ends the roll-out. So an event
whose record has none was acknowledged everywhere, or still waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import Outcome
from srv6dmm.model.state import (
    Change,
    EventRecord,
    Refused,
    RolloutPhase,
    Session,
    SessionKey,
    SessionPhase,
    State,
)


def refuse(state: State, change: Change, event_ids: Iterable[str], refusal: Refusal) -> Change:
    """Return the change with the refusal put down in the records of events that wait."""
    told = Refused(refusal.type, refusal.detail, refusal.status, refusal.extra)
    records = tuple(
        replace(record, refused=told)
        for event_id in event_ids
        if (record := state.events.get(event_id)) is not None
        and record.refused is None
        and event_id not in change.events_gone
    )
    return replace(change, events=change.events + records)


def refusal_of(record: EventRecord) -> Refusal | None:
    """Return what callers of an event are told, if its roll-out ended early."""
    told = record.refused
    if told is None:
        return None
    return Refusal(told.type, told.detail, told.status, extra=dict(told.extra))


def superseded(by: Session) -> Refusal:
    """Return what callers of an event are told that a newer one of the session overtook."""
    return Refusal(
        "superseded",
        f"a newer event of {by.mobile_node} was accepted before this one was applied everywhere; "
        f"{by.serving} serves it now",
        extra={"epoch": by.epoch, "serving": by.serving},
    )


def session_ended(session: Session) -> Refusal:
    """Return what callers of an event are told whose session ended meanwhile."""
    return Refusal(
        "session-ended",
        f"the session of {session.mobile_node} on interface {session.interface} ended before this "
        "was applied everywhere",
        extra={"epoch": session.epoch},
    )


def unsettled(state: State) -> dict[SessionKey, list[str]]:
    """Return by session the events whose roll-out may not be over, as far as the records tell.

    Of REDIRECT they do not tell whether every router has acknowledged it.
    """
    found: dict[SessionKey, list[str]] = {}
    for record in state.events.values():
        answer = record.answer
        session = state.sessions.get((answer.mobile_node, answer.interface))
        if (
            session is None
            or session.rollout is RolloutPhase.STABLE
            or session.epoch != answer.epoch
            or record.refused is not None
            or answer.outcome is Outcome.IGNORED
        ):
            continue
        if session.phase is SessionPhase.ACTIVE or answer.outcome is Outcome.DETACHING:
            found.setdefault(session.key, []).append(record.event_id)
    return found
