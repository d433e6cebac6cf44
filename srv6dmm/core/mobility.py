"""The mobility state machine: state and event to change and answer (RFC 8885, RFC 5213).

Pure: the time is an argument, the result a value. Every function leaves `state` as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from srv6dmm.core.link_layer import check_link_layer
from srv6dmm.core.ordering import check_order, order_of
from srv6dmm.core.outcomes import refusal_of
from srv6dmm.core.pools import take_prefix
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import (
    Answer,
    AnsweredPrefix,
    AttachEvent,
    DetachEvent,
    Event,
    Outcome,
)
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import (
    Binding,
    Change,
    EventRecord,
    Lease,
    LeaseState,
    PrefixType,
    RolloutPhase,
    Session,
    SessionPhase,
    State,
)
from srv6dmm.model.topology import Node, Role, Topology

_FORGET_AT_MOST = 4
"""Old event records that one event may clear away: keeps every change small."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What an event comes to. `replayed`: a duplicate, the change is empty.

    `refused`: the first one was accepted, and its roll-out was ended early for this reason.
    """

    change: Change
    answer: Answer
    replayed: bool = False
    refused: Refusal | None = None


def decide(
    state: State,
    event: Event,
    now_ms: int,
    topology: Topology,
    parameters: MobilityParameters,
) -> Decision:
    """Return what the event does. Raises Refusal when it changes nothing and says why."""
    digest = hashlib.sha256(repr(event).encode()).hexdigest()
    record = state.events.get(event.event_id)
    if record is not None:
        if record.digest != digest:
            raise Refusal(
                "event-id-reused",
                f"event id {event.event_id!r} was used for an event with other content; "
                "every event needs an id of its own",
            )
        return Decision(Change(), record.answer, replayed=True, refused=refusal_of(record))
    router = topology.nodes.get(event.access_router)
    if router is None or router.role is not Role.ACCESS:
        names = ", ".join(node.name for node in topology.access_routers())
        raise Refusal(
            "unknown-router",
            f"{event.access_router!r} is no access router of this domain; there are {names}",
            status=422,
        )
    session = state.sessions.get((event.mobile_node, event.interface))
    if isinstance(event, AttachEvent):
        check_link_layer(state, event, topology)
        _check_order(state, event, session, now_ms, parameters)
        outcome, change, after = _attach(state, event, router, session, now_ms, parameters)
    else:
        if session is None:
            raise Refusal(
                "unknown-mobile-node",
                f"mobile node {event.mobile_node!r} has no session on interface "
                f"{event.interface!r}; nothing to detach",
                status=404,
            )
        outcome, change, after = _detach(state, event, session, now_ms, parameters)
    answer = _answer(event, outcome, after, now_ms)
    forgotten = _old_events(state, now_ms - parameters.event_memory_ms)
    kept = EventRecord(event.event_id, digest, answer, now_ms)
    return Decision(replace(change, events=(kept,), events_gone=forgotten), answer)


def _attach(
    state: State,
    event: AttachEvent,
    router: Node,
    session: Session | None,
    now_ms: int,
    parameters: MobilityParameters,
) -> tuple[Outcome, Change, Session]:
    lifetime_s = min(event.lifetime_s or parameters.default_lifetime_s, parameters.max_lifetime_s)
    expires_ms = now_ms + lifetime_s * 1000
    if session is None:
        timestamp_ms, sequence = order_of(event)
        lease = take_prefix(state, router, (event.mobile_node, event.interface))
        new = Session(
            mobile_node=event.mobile_node,
            interface=event.interface,
            link_layer_address=event.link_layer_address,
            serving=router.name,
            epoch=state.revision + 1,
            phase=SessionPhase.ACTIVE,
            rollout=RolloutPhase.PREPARE,
            bindings=(Binding(lease.prefix, router.name, now_ms),),
            expires_ms=expires_ms,
            timestamp_ms=timestamp_ms,
            sequence=sequence,
        )
        return Outcome.REGISTERED, Change(sessions=(new,), leases=(lease,)), new
    heard = replace(
        _ordered(session, event),
        link_layer_address=event.link_layer_address,
        phase=SessionPhase.ACTIVE,
        expires_ms=expires_ms,
    )
    if session.serving != router.name:
        return _handover(state, session, heard, router, now_ms, parameters)
    unchanged = (
        session.phase is SessionPhase.ACTIVE
        and session.link_layer_address == event.link_layer_address
    )
    if not unchanged:
        heard = replace(
            heard,
            epoch=session.epoch + 1,
            rollout=RolloutPhase.PREPARE,
            via=session.via if session.rollout is RolloutPhase.PREPARE else None,
            fallback=_fallback(session),
            redirect_until_ms=None,
        )
    return Outcome.REFRESHED, Change(sessions=(heard,)), heard


def _handover(
    state: State,
    session: Session,
    heard: Session,
    router: Node,
    now_ms: int,
    parameters: MobilityParameters,
) -> tuple[Outcome, Change, Session]:
    """Move the session: prefixes stay, one of the new router's own is added if it can be."""
    told = session.serving
    if session.rollout is RolloutPhase.PREPARE and session.via is not None:
        told = session.via  # head-ends were never told of the router that is overtaken now
    previous = dict.fromkeys((session.serving, *session.previous, told))
    previous.pop(router.name, None)
    kept = [b for b in session.bindings if b.type is not PrefixType.NON_PERSISTENT]
    leases: list[Lease] = []
    if not any(binding.anchor == router.name for binding in kept):
        try:
            lease = take_prefix(state, router, session.key)
        except Refusal:
            # An exhausted pool must not cost a moving node the flows that it has.
            if not kept:
                raise
        else:
            leases.append(lease)
            kept.append(Binding(lease.prefix, router.name, now_ms))
    while len(kept) > max(1, parameters.max_prefixes):
        kept.remove(next(b for b in kept if b.anchor != router.name))
    gone = [b for b in session.bindings if b not in kept]
    leases += [quarantine(session, binding, now_ms, parameters) for binding in gone]
    moved = replace(
        heard,
        serving=router.name,
        epoch=session.epoch + 1,
        rollout=RolloutPhase.PREPARE,
        bindings=tuple(kept),
        via=told if told != router.name else None,
        previous=tuple(previous),
        fallback=_without(_fallback(session), gone),
        redirect_until_ms=None,
    )
    return Outcome.HANDOVER, Change(sessions=(moved,), leases=tuple(leases)), moved


def _detach(
    state: State,
    event: DetachEvent,
    session: Session,
    now_ms: int,
    parameters: MobilityParameters,
) -> tuple[Outcome, Change, Session]:
    """Start the wait of RFC 5213 section 5.3.5, if the serving router says so.

    Any other router's word is acknowledged and ignored (RFC 8885 section 3.5), as is a repeated
    one. Order is checked only for the serving router: the late word of a former one is no error.
    """
    if session.serving != event.access_router or session.phase is SessionPhase.DETACH_WAIT:
        return Outcome.IGNORED, Change(), session
    _check_order(state, event, session, now_ms, parameters)
    stable = session.rollout is RolloutPhase.STABLE
    leaving = replace(
        _ordered(session, event),
        phase=SessionPhase.DETACH_WAIT,
        expires_ms=now_ms + parameters.min_delay_before_delete_ms,
        rollout=RolloutPhase.PREPARE if stable else session.rollout,
        fallback=_fallback(session) if stable else session.fallback,
    )
    return Outcome.DETACHING, Change(sessions=(leaving,)), leaving


def advance(session: Session, now_ms: int, parameters: MobilityParameters) -> Change:
    """Return the step to the next roll-out phase, its present one being acknowledged.

    Phases with nothing to do are skipped. REDIRECT ends by time: before `redirect_until_ms`
    the change is empty, as it is for a STABLE session.
    """
    if session.rollout is RolloutPhase.PREPARE and session.via is not None:
        return Change(sessions=(replace(session, rollout=RolloutPhase.SWITCH),))
    if session.rollout in (RolloutPhase.PREPARE, RolloutPhase.SWITCH) and session.previous:
        redirecting = replace(
            session,
            rollout=RolloutPhase.REDIRECT,
            fallback=None,
            redirect_until_ms=now_ms + parameters.late_packets_ms,
        )
        return Change(sessions=(redirecting,))
    if session.rollout is RolloutPhase.STABLE:
        return Change()
    if session.redirect_until_ms is not None and now_ms < session.redirect_until_ms:
        return Change()
    stable = replace(
        session,
        rollout=RolloutPhase.STABLE,
        via=None,
        previous=(),
        fallback=None,
        redirect_until_ms=None,
    )
    return Change(sessions=(stable,))


def abort(state: State, session: Session, now_ms: int, parameters: MobilityParameters) -> Change:
    """Return the way back from a PREPARE that failed; no head-end was told of it.

    The session is what it was before, in a new epoch; a first attach leaves no session. Prefixes
    that were taken for the attempt were never advertised, so they are free at once.
    """
    if session.rollout is not RolloutPhase.PREPARE:
        raise ValueError(f"roll-out of {session.key} is in {session.rollout}: too late to abort")
    before = session.fallback
    kept = {b.prefix for b in before.bindings} if before else set()
    freed = tuple(b.prefix for b in session.bindings if b.prefix not in kept)
    if before is None:
        return Change(sessions_gone=(session.key,), leases_gone=freed)
    restored = replace(
        before,
        epoch=session.epoch + 1,
        timestamp_ms=session.timestamp_ms,
        sequence=session.sequence,
        expires_ms=max(before.expires_ms, now_ms + parameters.min_delay_before_delete_ms),
    )
    if session.phase is SessionPhase.DETACH_WAIT:  # the node is gone wherever we go back to
        restored = replace(restored, phase=session.phase, expires_ms=session.expires_ms)
    return Change(sessions=(restored,), leases_gone=freed)


Timer = tuple[str, object]
"""(kind, key): "session", "late" and "idle" with a SessionKey, "lease" with a prefix."""


def deadlines(records: Change | State) -> list[tuple[int, Timer]]:
    """Return when the given records want `expire` to be called, in milliseconds."""
    sessions: Iterable[Session]
    leases: Iterable[Lease]
    if isinstance(records, State):
        sessions, leases = records.sessions.values(), records.leases.values()
    else:
        sessions, leases = records.sessions, records.leases
    due: list[tuple[int, Timer]] = []
    for session in sessions:
        due.append((session.expires_ms, ("session", session.key)))
        if session.redirect_until_ms is not None:
            due.append((session.redirect_until_ms, ("late", session.key)))
    due += [
        (lease.until_ms, ("lease", lease.prefix)) for lease in leases if lease.until_ms is not None
    ]
    return due


def expire(state: State, timer: Timer, now_ms: int, parameters: MobilityParameters) -> Change:
    """Return what the end of a timer does; empty when a newer event made it meaningless."""
    kind, key = timer
    if kind == "lease":
        lease = state.leases.get(key)  # type: ignore[call-overload]
        if lease is None or lease.until_ms is None or lease.until_ms > now_ms:
            return Change()
        return Change(leases_gone=(lease.prefix,))
    session = state.sessions.get(key)  # type: ignore[call-overload]
    if session is None:
        return Change()
    if kind == "late":
        if session.rollout is not RolloutPhase.REDIRECT:
            return Change()
        return advance(session, now_ms, parameters)
    if session.expires_ms > now_ms:
        return Change()
    return Change(
        sessions_gone=(session.key,),
        leases=tuple(quarantine(session, b, now_ms, parameters) for b in session.bindings),
    )


def _ordered(session: Session, event: Event) -> Session:
    """Return the session with the event's place in the order noted."""
    timestamp_ms, sequence = order_of(event)
    return replace(
        session,
        timestamp_ms=session.timestamp_ms if timestamp_ms is None else timestamp_ms,
        sequence=session.sequence if sequence is None else sequence,
    )


def _check_order(
    state: State,
    event: Event,
    session: Session | None,
    now_ms: int,
    parameters: MobilityParameters,
) -> None:
    stamps = [
        stamp
        for key in state.index.of_node(event.mobile_node)
        if (stamp := state.sessions[key].timestamp_ms) is not None
    ]
    newest_ms = max(stamps, default=None)
    check_order(event, session, newest_ms, now_ms, parameters.timestamp_window_ms)


def _fallback(session: Session) -> Session | None:
    """Return the last session that routers were prepared for (None: there was none)."""
    if session.rollout is RolloutPhase.PREPARE:
        return session.fallback
    return replace(session, fallback=None)


def _without(session: Session | None, gone: list[Binding]) -> Session | None:
    """Return the fallback without bindings that were given up meanwhile."""
    if session is None or not gone:
        return session
    return replace(session, bindings=tuple(b for b in session.bindings if b not in gone))


def quarantine(
    session: Session, binding: Binding, now_ms: int, parameters: MobilityParameters
) -> Lease:
    """Return the lease of a released prefix: RFC 4862 section 5.5.3 (e) keeps addresses alive
    in the node for the advertised valid lifetime, so nobody else may get it before."""
    until_ms = now_ms + parameters.valid_lifetime_s * 1000
    return Lease(binding.prefix, binding.anchor, LeaseState.QUARANTINE, session.key, until_ms)


def preferred_binding(session: Session) -> Binding:
    """Return the binding for new flows: the serving router's own, else the newest."""
    for binding in reversed(session.bindings):
        if binding.anchor == session.serving:
            return binding
    return session.bindings[-1]


def _answer(event: Event, outcome: Outcome, session: Session, now_ms: int) -> Answer:
    preferred = preferred_binding(session)
    return Answer(
        event_id=event.event_id,
        outcome=outcome,
        mobile_node=session.mobile_node,
        interface=session.interface,
        epoch=session.epoch,
        serving=session.serving if session.phase is SessionPhase.ACTIVE else None,
        prefixes=tuple(
            AnsweredPrefix(binding.prefix, binding.anchor, binding is preferred)
            for binding in session.bindings
        ),
        lifetime_s=max(0, (session.expires_ms - now_ms) // 1000),
        timestamp_ms=event.timestamp_ms,
        sequence=event.sequence,
    )


def _old_events(state: State, before_ms: int) -> tuple[str, ...]:
    old: list[str] = []
    for event_id, record in state.events.items():
        if len(old) == _FORGET_AT_MOST or record.at_ms >= before_ms:
            break
        old.append(event_id)
    return tuple(old)
