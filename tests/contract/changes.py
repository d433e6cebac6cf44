"""Changes for stores to keep: numbered ones that can be checked, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

from hypothesis import strategies as st

from srv6dmm.model.events import Answer, AnsweredPrefix, Outcome
from srv6dmm.model.flows import Direction, FlowMatch, FlowRule, Group
from srv6dmm.model.policy import (
    BindingSid,
    CandidatePath,
    Constraints,
    DynamicPath,
    ExplicitPath,
    Invalid,
    Objective,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.state import (
    Binding,
    Change,
    CsidSupport,
    Declared,
    EventRecord,
    Lease,
    LeaseState,
    LinkDelay,
    PrefixType,
    RolloutPhase,
    Session,
    SessionPhase,
    SilentList,
    State,
)
from srv6dmm.model.topology import LinkEnd
from tests.domains import small_domain


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
    """Return the change that leads from revision n to n + 1: it touches every record of nodes.

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


_ENDS = st.builds(LinkEnd, _ROUTERS, st.sampled_from(["core0", "core1"]))
_SUPPORTS = st.builds(CsidSupport, _ROUTERS, st.booleans())
_DELAYS = st.builds(LinkDelay, _ENDS, st.integers(0, 1 << 40))
_SIDS = st.integers(0, (1 << 128) - 1).map(IPv6Address)
_SILENT = st.builds(
    SilentList,
    _ROUTERS,
    st.lists(st.integers(1, 2).map(IPv6Address), min_size=1, max_size=2).map(tuple),
)
_TEXTS = st.frozensets(_NAMES, max_size=2)
_PORTS = st.tuples(st.integers(0, 65535), st.integers(0, 65535))
_CONSTRAINTS = st.builds(
    Constraints,
    include_any=_TEXTS,
    include_all=_TEXTS,
    exclude_any=_TEXTS,
    avoid_routers=_TEXTS,
    avoid_links=st.frozensets(_ENDS, max_size=2),
    avoid_srlgs=st.frozensets(st.integers(0, 9), max_size=2),
    require_routers=_TEXTS,
    require_links=st.frozensets(_ENDS, max_size=2),
    require_srlgs=st.frozensets(st.integers(0, 9), max_size=2),
    maximum_delay_us=st.none() | st.integers(0, 9),
    maximum_hops=st.none() | st.integers(1, 9),
    minimum_mtu=st.none() | st.integers(1280, 9000),
    maximum_segments=st.none() | st.integers(1, 9),
)
_PATHS = st.builds(
    WeightedPath,
    st.builds(
        DynamicPath,
        st.sampled_from(Objective),
        _CONSTRAINTS,
        st.lists(st.builds(Waypoint, _NAMES, st.none() | _NAMES), max_size=2).map(tuple),
    )
    | st.builds(ExplicitPath, st.lists(_SIDS, max_size=3).map(tuple)),
    st.integers(1, 9),
)
POLICIES = st.builds(
    Policy,
    _NAMES,
    st.lists(
        st.builds(CandidatePath, st.lists(_PATHS, max_size=2).map(tuple), st.integers(0, 9)),
        max_size=2,
    ).map(tuple),
    disjoint_from=st.none() | _NAMES,
    invalid=st.sampled_from(Invalid),
    binding_sids=st.lists(st.builds(BindingSid, _ROUTERS, _ROUTERS, _SIDS), max_size=2).map(tuple),
)
_FLOWS = st.builds(
    FlowRule,
    _NAMES,
    _NAMES,
    st.none() | _NAMES,
    st.none() | _NAMES,
    st.builds(
        FlowMatch,
        st.none() | _PREFIXES,
        st.none() | _PREFIXES,
        st.none() | st.integers(0, 255),
        st.none() | _PORTS,
        st.none() | _PORTS,
        st.none() | st.integers(0, 63),
    ),
    st.integers(0, 999),
    st.sampled_from(Direction),
)
_GROUPS = st.builds(Group, _NAMES, _TEXTS)
_TOPOLOGIES = st.builds(small_domain, st.integers(1, 3))


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
    policies = draw(st.lists(POLICIES, max_size=2, unique_by=lambda made: made.name))
    flows = draw(st.lists(_FLOWS, max_size=2, unique_by=lambda made: made.name))
    groups = draw(st.lists(_GROUPS, max_size=2, unique_by=lambda made: made.name))
    down = draw(st.lists(_ENDS, max_size=2, unique=True))
    csid = draw(st.lists(_SUPPORTS, max_size=2, unique_by=lambda made: made.router))
    gone_csid = draw(st.lists(_ROUTERS, max_size=2, unique=True))
    delays = draw(st.lists(_DELAYS, max_size=2, unique_by=lambda made: made.end))
    kept = {made.end for made in delays}
    silent = draw(st.lists(_SILENT, max_size=2, unique=True))
    return Change(
        tuple(sessions),
        tuple(key for key in gone_sessions if key not in put_sessions),
        tuple(leases),
        tuple(key for key in gone_leases if key not in put_leases),
        tuple(events),
        tuple(key for key in gone_events if key not in put_events),
        policies=tuple(policies),
        policies_gone=_others(draw, policies),
        flows=tuple(flows),
        flows_gone=_others(draw, flows),
        groups=tuple(groups),
        groups_gone=_others(draw, groups),
        links_down=tuple(down),
        links_up=tuple(end for end in draw(st.lists(_ENDS, max_size=2)) if end not in down),
        csid=tuple(csid),
        csid_gone=tuple(
            router for router in gone_csid if router not in {made.router for made in csid}
        ),
        declared=draw(st.none() | st.builds(Declared, _TOPOLOGIES, st.text(max_size=4))),
        delays=tuple(delays),
        delays_gone=tuple(end for end in draw(st.lists(_ENDS, max_size=2)) if end not in kept),
        lists_silent=tuple(silent),
        lists_usable=tuple(
            known for known in draw(st.lists(_SILENT, max_size=2)) if known not in silent
        ),
    )


def _others(draw: st.DrawFn, put: Sequence[Policy | FlowRule | Group]) -> tuple[str, ...]:
    """Draw names that go: none of those that are put."""
    names = {record.name for record in put}
    return tuple(
        name for name in draw(st.lists(_NAMES, max_size=2, unique=True)) if name not in names
    )
