"""State: the records that must not be lost, and the change a decision makes to them.

Times are milliseconds since the epoch (`_ms`), taken from the caller's clock.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields
from enum import StrEnum
from ipaddress import IPv6Network
from typing import Any, TypeVar

from srv6dmm.model.events import Answer
from srv6dmm.model.flows import FlowRule, Group
from srv6dmm.model.policy import Policy
from srv6dmm.model.session_index import SessionIndex
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import LinkEnd, Topology


class SessionPhase(StrEnum):
    """Where a session is in its life (facts: RFC 8885 section 3, RFC 5213 section 5)."""

    ACTIVE = "active"
    DETACH_WAIT = "detach-wait"


class RolloutPhase(StrEnum):
    """How far the routers have been told of the newest serving router."""

    PREPARE = "prepare"
    """The new access router learns to deliver; every head-end still uses the old path."""
    SWITCH = "switch"
    """Every head-end is told the new path; the old access router still delivers."""
    REDIRECT = "redirect"
    """Routers that served before send late packets on to the new one; RAs go out."""
    STABLE = "stable"
    """Nothing of the old path is left."""


class PrefixType(StrEnum):
    """Address types of RFC 8653 section 3."""

    FIXED = "fixed"
    SESSION_LASTING = "session-lasting"
    NON_PERSISTENT = "non-persistent"
    GRACEFUL_REPLACEMENT = "graceful-replacement"


@dataclass(frozen=True, slots=True)
class Binding:
    """A prefix of a session. HOME where anchor is the serving router, else STEERED."""

    prefix: IPv6Network
    anchor: str
    created_ms: int
    type: PrefixType = PrefixType.SESSION_LASTING


SessionKey = tuple[str, str]
"""(mobile node id, interface)."""


@dataclass(frozen=True, slots=True)
class Session:
    """One interface of a mobile node, with the router that serves it now.

    `epoch` grows with every accepted change of `serving` and never falls, also when the session
    ends and another of its key begins: that begins with the revision it is written in, and no epoch
    grows without a revision. `via` is the router
    that head-ends were last told before `serving` (None: there is none). `previous` are the
    routers that may still receive this session's packets from earlier epochs, newest first,
    `serving` never among them. Once STABLE, `via` is None and `previous` is empty.
    """

    mobile_node: str
    interface: str
    link_layer_address: str
    serving: str
    epoch: int
    phase: SessionPhase
    rollout: RolloutPhase
    bindings: tuple[Binding, ...]
    """Oldest first. The one anchored at `serving`, if any, is the preferred one."""
    expires_ms: int
    """When the registration, or in DETACH_WAIT the wait, ends."""
    via: str | None = None
    previous: tuple[str, ...] = ()
    timestamp_ms: int | None = None
    sequence: int | None = None
    fallback: Session | None = None
    """In PREPARE and SWITCH: the session as it was before, for an abort and for its RA."""
    redirect_until_ms: int | None = None
    """In REDIRECT: when late packets need no more redirection (T_late)."""
    unruled: bool = False
    """No flow rule is applied to it: a head-end has no room for more flow entries."""

    @property
    def key(self) -> SessionKey:
        return (self.mobile_node, self.interface)


class LeaseState(StrEnum):
    """A prefix is LEASED by a session or in QUARANTINE; with no lease it is free."""

    LEASED = "leased"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds a prefix of a pool. Quarantined prefixes are not reassigned until the end."""

    prefix: IPv6Network
    anchor: str
    state: LeaseState
    holder: SessionKey
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """What a Refusal says of an accepted event whose roll-out ended early."""

    type: str
    detail: str
    status: int
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An answered event: its content's digest and its answer, kept for duplicates."""

    event_id: str
    digest: str
    answer: Answer
    at_ms: int
    refused: Refused | None = None
    """Put down by the change that ended its roll-out before all routers had acknowledged it."""


@dataclass(frozen=True, slots=True)
class CsidSupport:
    """A router whose kernel keeps End with NEXT-C-SID when that is put there and read back.

    Its plan has a uN. Segment lists use that once `held`: the router has acknowledged it.
    """

    router: str
    held: bool


@dataclass(frozen=True, slots=True)
class Declared:
    """The topology as it was changed in operation, and which file that began with."""

    topology: Topology
    file_digest: str
    """core.topology_document.digest of what the file said: another file makes this void."""


@dataclass(frozen=True, slots=True)
class LinkDelay:
    """What a link takes as measured, kept by one of its ends (core.links.measured_at)."""

    end: LinkEnd
    delay_us: int


@dataclass(frozen=True, slots=True)
class SilentList:
    """A segment list that does not answer a head-end's probes: something on its way is broken."""

    head_end: str
    segments: SegmentList


@dataclass(frozen=True, slots=True)
class Change:
    """What one decision does to the records: whole new values, and keys that go.

    A key is in at most one of the put and delete collections.
    """

    sessions: tuple[Session, ...] = ()
    sessions_gone: tuple[SessionKey, ...] = ()
    leases: tuple[Lease, ...] = ()
    leases_gone: tuple[IPv6Network, ...] = ()
    events: tuple[EventRecord, ...] = ()
    events_gone: tuple[str, ...] = ()
    policies: tuple[Policy, ...] = ()
    policies_gone: tuple[str, ...] = ()
    flows: tuple[FlowRule, ...] = ()
    flows_gone: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    groups_gone: tuple[str, ...] = ()
    links_down: tuple[LinkEnd, ...] = ()
    links_up: tuple[LinkEnd, ...] = ()
    csid: tuple[CsidSupport, ...] = ()
    csid_gone: tuple[str, ...] = ()
    """Routers."""
    declared: Declared | None = None
    delays: tuple[LinkDelay, ...] = ()
    delays_gone: tuple[LinkEnd, ...] = ()
    lists_silent: tuple[SilentList, ...] = ()
    lists_usable: tuple[SilentList, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    @property
    def rules(self) -> bool:
        """Whether it changes what flows ask for."""
        return any(
            (
                self.policies,
                self.policies_gone,
                self.flows,
                self.flows_gone,
                self.groups,
                self.groups_gone,
            )
        )


@dataclass(slots=True)
class State:
    """All records at one revision. Only `apply` changes it, by whole changes."""

    revision: int = 0
    sessions: dict[SessionKey, Session] = field(default_factory=dict)
    leases: dict[IPv6Network, Lease] = field(default_factory=dict)
    events: dict[str, EventRecord] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    flows: dict[str, FlowRule] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    links_down: set[LinkEnd] = field(default_factory=set)
    """Ends of links that were last reported not to work."""
    csid: dict[str, CsidSupport] = field(default_factory=dict)
    """By router; one that is not here does not support it, or did not say so yet."""
    declared: Declared | None = None
    """None: as in the file."""
    delays: dict[LinkEnd, int] = field(default_factory=dict)
    """Measured delay of links, in microseconds, by one of their ends."""
    lists_silent: set[SilentList] = field(default_factory=set)
    """Not to be used where there is another one."""
    held: dict[str, int] = field(init=False, compare=False, repr=False, default_factory=dict)
    """Anchor -> number of its prefixes that are leased or quarantined (derived)."""
    index: SessionIndex = field(init=False, compare=False, repr=False)
    """Sessions by other things than their key (derived)."""

    def __post_init__(self) -> None:
        self.index = SessionIndex(self.sessions.values())
        for lease in self.leases.values():
            self.held[lease.anchor] = self.held.get(lease.anchor, 0) + 1

    def copy(self) -> State:
        """Return a state that changes apart from this one; records are shared, they never change.

        Every field takes part: what is left out here would be forgotten by whoever loads it.
        """
        parts = {part.name: copy(getattr(self, part.name)) for part in fields(self) if part.init}
        return State(**parts)

    def apply(self, change: Change, revision: int) -> None:
        """Take a committed change in; `revision` must be the next one."""
        if revision != self.revision + 1:
            raise ValueError(f"revision {revision} does not follow {self.revision}")
        for session in change.sessions:
            self.index.change(self.sessions.get(session.key), session)
            self.sessions[session.key] = session
        for key in change.sessions_gone:
            self.index.change(self.sessions.pop(key, None), None)
        for lease in change.leases:
            if lease.prefix not in self.leases:
                self.held[lease.anchor] = self.held.get(lease.anchor, 0) + 1
            self.leases[lease.prefix] = lease
        for prefix in change.leases_gone:
            gone = self.leases.pop(prefix, None)
            if gone is not None:
                self.held[gone.anchor] -= 1
        for record in change.events:
            self.events[record.event_id] = record
        for event_id in change.events_gone:
            self.events.pop(event_id, None)
        _keep(self.policies, change.policies, change.policies_gone)
        _keep(self.flows, change.flows, change.flows_gone)
        _keep(self.groups, change.groups, change.groups_gone)
        self.links_down.update(change.links_down)
        self.links_down.difference_update(change.links_up)
        self.csid.update((support.router, support) for support in change.csid)
        for router in change.csid_gone:
            self.csid.pop(router, None)
        if change.declared is not None:
            self.declared = change.declared
        self.delays.update((measured.end, measured.delay_us) for measured in change.delays)
        for end in change.delays_gone:
            self.delays.pop(end, None)
        self.lists_silent.update(change.lists_silent)
        self.lists_silent.difference_update(change.lists_usable)
        self.revision = revision


Named = TypeVar("Named", Policy, FlowRule, Group)


def _keep(kept: dict[str, Named], put: tuple[Named, ...], gone: tuple[str, ...]) -> None:
    for record in put:
        kept[record.name] = record
    for name in gone:
        kept.pop(name, None)
