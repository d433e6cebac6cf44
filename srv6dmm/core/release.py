"""Release of drained prefixes: bindings that end before their session does. Pure.

A prefix is deprecated (preferred lifetime 0, RFC 8885 section 3.7, RFC 4862 section 5.5.4) from the
hand-over on that takes its node away from its anchor; no new flow begins with it. Once no old flow
uses it either, routers need not hold it. The node cannot be told to forget its address: RFC 4862
section 5.5.3 (e) has it ignore a valid lifetime below two hours. So the prefix ceases to be
advertised, and is quarantined for the valid lifetime like one of an ended registration.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

from srv6dmm.core.mobility import preferred_binding, quarantine
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import (
    Binding,
    Change,
    PrefixType,
    RolloutPhase,
    Session,
    SessionPhase,
    State,
)


def releasable(session: Session) -> tuple[Binding, ...]:
    """Return the bindings that may end early: none while anything of the session is under way.

    Not the one for new flows, not one at home, and no fixed one (RFC 8653 section 3.1: that is
    kept also while nothing uses it).
    """
    if session.phase is not SessionPhase.ACTIVE or session.rollout is not RolloutPhase.STABLE:
        return ()
    preferred = preferred_binding(session)
    return tuple(
        binding
        for binding in session.bindings
        if binding is not preferred
        and binding.anchor != session.serving
        and binding.type is not PrefixType.FIXED
    )


def idle_release_ms(parameters: MobilityParameters) -> int | None:
    """Return for how long a prefix must be without packets, None when none is released early.

    At least MinDelayBeforeBCEDelete (RFC 5213 section 5.3.5), the wait before any binding ends.
    """
    if not parameters.idle_release_s:
        return None
    return max(parameters.idle_release_s * 1000, parameters.min_delay_before_delete_ms)


def release(
    state: State,
    session: Session,
    prefix: IPv6Network,
    now_ms: int,
    parameters: MobilityParameters,
) -> Change:
    """Return the early end of a binding that no packet used for `idle_release_ms`.

    Whoever calls it has counted. Empty when the binding may not end now: it is not `releasable`,
    is younger than that, or `session` is not the one that `state` holds.
    """
    wait_ms = idle_release_ms(parameters)
    if wait_ms is None or state.sessions.get(session.key) != session:
        return Change()
    for binding in releasable(session):
        if binding.prefix == prefix and binding.created_ms + wait_ms <= now_ms:
            kept = tuple(other for other in session.bindings if other is not binding)
            return Change(
                sessions=(replace(session, bindings=kept),),
                leases=(quarantine(session, binding, now_ms, parameters),),
            )
    return Change()
