"""Parameters of the mobility state machine, with the standards' defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MobilityParameters:
    """Times in milliseconds (`_ms`) or seconds (`_s`)."""

    default_lifetime_s: int = 3600
    """Registration lifetime when the event names none."""
    max_lifetime_s: int = 86_400
    min_delay_before_delete_ms: int = 10_000
    """MinDelayBeforeBCEDelete, RFC 5213 section 9.1: from detach to release."""
    timestamp_window_ms: int = 300
    """TimestampValidityWindow, RFC 5213 section 9.1."""
    valid_lifetime_s: int = 7200
    """Valid lifetime in RAs; a released prefix is quarantined for as long."""
    preferred_lifetime_s: int = 3600
    """Preferred lifetime of the serving router's own prefix in RAs."""
    router_lifetime_s: int = 1800
    """Router lifetime in RAs."""
    late_packets_ms: int = 2000
    """T_late: how long a former router sends late packets on."""
    max_prefixes: int = 4
    """Prefixes a session may keep; the oldest goes first (RFC 8885 section 6)."""
    idle_release_s: int = 0
    """A prefix away from home is released when no router counted a packet to it for so long; 0:
    never early. Flows that are sent only, and never answered, are not seen: hence not by default.
    7440 (RFC 5382 REQ-5) spares TCP connections with keep-alives every two hours (RFC 9293)."""
    event_memory_ms: int = 3_600_000
    """How long an answered event is kept for duplicates."""
