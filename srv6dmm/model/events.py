"""Events: what happens to mobile nodes, and what is answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Network


class HandoffIndicator(IntEnum):
    """RFC 5213 section 8.4."""

    NEW_INTERFACE = 1
    BETWEEN_INTERFACES = 2
    BETWEEN_ROUTERS = 3
    UNKNOWN = 4
    UNCHANGED = 5


class BindingStatus(IntEnum):
    """Status codes of RFC 6275 section 6.1.8 and RFC 5213 section 8.9."""

    ACCEPTED = 0
    UNSPECIFIED = 128
    ADMINISTRATIVELY_PROHIBITED = 129
    INSUFFICIENT_RESOURCES = 130
    SEQUENCE_OUT_OF_WINDOW = 135
    ROUTER_NOT_AUTHORIZED = 154
    NOT_AUTHORIZED_FOR_PREFIX = 155
    TIMESTAMP_MISMATCH = 156
    TIMESTAMP_LOWER_THAN_PREVIOUS = 157


@dataclass(frozen=True, slots=True)
class AttachEvent:
    """A mobile node appeared at an access router.

    `timestamp_ms` (milliseconds since the epoch) or `sequence` (0..65535) order the events of one
    session (RFC 5213 section 5.5), the timestamp where both are set; with neither, arrival does.
    `handoff` decides nothing: what an event does follows from where its session is. `lifetime_s` is
    the registration lifetime in seconds, None = the default.
    """

    event_id: str
    mobile_node: str
    access_router: str
    link_layer_address: str
    interface: str = "0"
    timestamp_ms: int | None = None
    sequence: int | None = None
    handoff: HandoffIndicator = HandoffIndicator.UNKNOWN
    lifetime_s: int | None = None


@dataclass(frozen=True, slots=True)
class DetachEvent:
    """A mobile node left an access router (ignored unless that router serves it)."""

    event_id: str
    mobile_node: str
    access_router: str
    interface: str = "0"
    timestamp_ms: int | None = None
    sequence: int | None = None


Event = AttachEvent | DetachEvent


class Outcome(IntEnum):
    """What an event came to; the names go to the API in lower case."""

    REGISTERED = 1
    REFRESHED = 2
    HANDOVER = 3
    DETACHING = 4
    IGNORED = 5


@dataclass(frozen=True, slots=True)
class AnsweredPrefix:
    """One prefix of the session as the answer shows it. `preferred`: use for new flows."""

    prefix: IPv6Network
    anchor: str
    preferred: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an accepted event; replayed unchanged for a duplicate."""

    event_id: str
    outcome: Outcome
    mobile_node: str
    interface: str
    epoch: int
    serving: str | None
    prefixes: tuple[AnsweredPrefix, ...]
    lifetime_s: int
    timestamp_ms: int | None = None
    sequence: int | None = None
    """Both as they came in the event (RFC 5213 section 5.5)."""
