"""Changes for stores to keep: numbered ones that can be checked, and random ones."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

from hypothesis import strategies as st

from srv6dmm.model.events import Answer, AnsweredPrefix, Outcome
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


def prefix(number: int) -> IPv6Network:
    """Return the n-th /64 of the documentation prefix."""
    return IPv6Network(((0x20010DB8 << 96) + (number << 64), 64))


def session(node: str, interface: str = "0", epoch: int = 1) -> Session:
    """Return a settled session without prefixes."""
    return Session(
        node,
        interface,
        "02:00:00:00:00:01",
        "ar1",
        epoch,
        SessionPhase.ACTIVE,
        RolloutPhase.STABLE,
        (),
        expires_ms=epoch * 1000,
    )


def lease(number: int) -> Change:
    """Return the smallest change: one lease."""
    return Change(leases=(Lease(prefix(number), "ar1", LeaseState.LEASED, (f"mn{number}", "0")),))


def numbered(number: int, padding: int = 0) -> Change:
    """Return the change that leads from revision n to n + 1: it touches every table.

    `padding` makes it larger, in bytes.
    """
    answer = Answer(f"e{number}", Outcome.REGISTERED, "mn", "0", number, "x" * padding, (), 60)
    return Change(
        sessions=(session(f"mn{number % 5}", epoch=number + 1),),
        sessions_gone=((f"mn{(number + 1) % 5}", "0"),),
        leases=lease(number).leases,
        leases_gone=(prefix(number - 3),) if number >= 3 else (),
        events=(EventRecord(f"e{number}", "digest", answer, 1000 + number),),
        events_gone=(f"e{number - 7}",) if number >= 7 else (),
    )


def replayed(revision: int, padding: int = 0) -> State:
    """Return the state after the numbered changes up to a revision."""
    state = State()
    for number in range(revision):
        state.apply(numbered(number, padding), number + 1)
    return state


def _anchor(prefix: IPv6Network) -> str:
    """A prefix belongs to one router's pool for ever."""
    return f"ar{int(prefix.network_address) >> 64 & 1}"


# Random ones: few keys, so that they meet; any text in names; every field used.

_NAMES = st.sampled_from(["mn1", "mn1\n0", "mn2"]) | st.text(max_size=6)
_INTERFACES = st.sampled_from(["0", "0\n0", ""])
_PREFIXES = st.integers(0, 5).map(prefix)
_ROUTERS = st.sampled_from(["ar1", "ar2"])
_TIMES = st.integers(0, (1 << 63) - 1)
_BINDINGS = st.builds(Binding, _PREFIXES, _ROUTERS, _TIMES, st.sampled_from(PrefixType))
_SESSIONS = st.builds(
    Session,
    _NAMES,
    _INTERFACES,
    st.just("02:00:00:00:00:01"),
    _ROUTERS,
    st.integers(1, 1 << 40),
    st.sampled_from(SessionPhase),
    st.sampled_from(RolloutPhase),
    st.lists(_BINDINGS, max_size=2).map(tuple),
    _TIMES,
    via=st.none() | _ROUTERS,
    previous=st.lists(_ROUTERS, max_size=2).map(tuple),
    timestamp_ms=st.none() | _TIMES,
    sequence=st.none() | st.integers(0, 65535),
    redirect_until_ms=st.none() | _TIMES,
)
_LEASES = st.builds(
    lambda prefix, state, holder, until_ms: Lease(prefix, _anchor(prefix), state, holder, until_ms),
    _PREFIXES,
    st.sampled_from(LeaseState),
    st.tuples(_NAMES, _INTERFACES),
    st.none() | _TIMES,
)
_ANSWERS = st.builds(
    Answer,
    _NAMES,
    st.sampled_from(Outcome),
    _NAMES,
    _INTERFACES,
    st.integers(0, 9),
    st.none() | _ROUTERS,
    st.lists(st.builds(AnsweredPrefix, _PREFIXES, _ROUTERS, st.booleans()), max_size=2).map(tuple),
    st.integers(0, 3600),
)
_EVENTS = st.builds(EventRecord, _NAMES, st.text(max_size=4), _ANSWERS, _TIMES)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Draw a change; as promised, no key is both put and deleted, and none is put twice."""
    sessions = draw(st.lists(_SESSIONS, max_size=2, unique_by=lambda made: made.key))
    sessions = [replace(made, fallback=draw(st.none() | _SESSIONS)) for made in sessions]
    leases = draw(st.lists(_LEASES, max_size=2, unique_by=lambda made: made.prefix))
    events = draw(st.lists(_EVENTS, max_size=2, unique_by=lambda made: made.event_id))
    put_sessions = {made.key for made in sessions}
    put_leases = {made.prefix for made in leases}
    put_events = {made.event_id for made in events}
    gone_sessions = draw(st.lists(st.tuples(_NAMES, _INTERFACES), max_size=2, unique=True))
    gone_leases = draw(st.lists(_PREFIXES, max_size=2, unique=True))
    gone_events = draw(st.lists(_NAMES, max_size=2, unique=True))
    return Change(
        tuple(sessions),
        tuple(key for key in gone_sessions if key not in put_sessions),
        tuple(leases),
        tuple(key for key in gone_leases if key not in put_leases),
        tuple(events),
        tuple(key for key in gone_events if key not in put_events),
    )
