"""What a session puts on each router, stage by stage."""

from __future__ import annotations

from srv6dmm.core import mobility
from srv6dmm.core.planner import Planner
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import Delivery, PlanEntry, RouterSettings, SteeringEntry, UplinkBinding
from srv6dmm.model.state import RolloutPhase, Session, State
from tests.domains import small_domain

TOPOLOGY = small_domain()
PARAMETERS = MobilityParameters()
PLANNER = Planner(TOPOLOGY, PARAMETERS)
MAC = "02:00:00:00:01:01"


def attach(state: State, router: str, number: int) -> Session:
    """Let mn1 attach at a router; return its session, in the first phase."""
    event = AttachEvent(f"e{number}", "mn1", router, MAC)
    decision = mobility.decide(state, event, number * 1000, TOPOLOGY, PARAMETERS)
    state.apply(decision.change, state.revision + 1)
    return state.sessions["mn1", "0"]


def advance(state: State, session: Session) -> Session:
    """Take the session to its next phase; the last one ends by a timer."""
    if session.rollout is RolloutPhase.REDIRECT:
        assert session.redirect_until_ms is not None
        late = ("late", session.key)
        change = mobility.expire(state, late, session.redirect_until_ms, PARAMETERS)
    else:
        change = mobility.advance(session, 5000, PARAMETERS)
    assert change
    state.apply(change, state.revision + 1)
    return state.sessions[session.key]


def at(session: Session, router: str, kind: type[PlanEntry]) -> list[PlanEntry]:
    """Return the entries of a kind that a session puts on a router."""
    entries = PLANNER.session_entries(session).get(router, ())
    return [entry for entry in entries if isinstance(entry, kind)]


def test_the_router_that_was_left_lets_the_last_packets_in_until_the_move_is_over() -> None:
    """A node sends to its old router until the network has switched: none of it is spoofed."""
    state = State(0, {}, {}, {})
    session = attach(state, "ar1", 1)
    while session.rollout is not RolloutPhase.STABLE:
        session = advance(state, session)
    prefix = session.bindings[0].prefix
    session = attach(state, "ar2", 2)
    seen = []
    while True:
        delivered = [entry for entry in at(session, "ar1", Delivery) if entry.prefix == prefix]  # type: ignore[union-attr]
        uplinks = [entry for entry in at(session, "ar1", UplinkBinding) if entry.prefix == prefix]  # type: ignore[union-attr]
        seen.append((session.rollout, len(delivered), len(uplinks)))
        for router in ("ar2", "ar3", "br1"):
            assert not at(session, router, UplinkBinding)
        if session.rollout is RolloutPhase.STABLE:
            break
        session = advance(state, session)
    assert seen == [
        (RolloutPhase.PREPARE, 1, 0),
        (RolloutPhase.SWITCH, 1, 0),
        (RolloutPhase.REDIRECT, 0, 1),
        (RolloutPhase.STABLE, 0, 0),
    ]


def test_a_steering_entry_says_where_it_leads_and_what_fits() -> None:
    state = State(0, {}, {}, {})
    session = attach(state, "ar1", 1)
    while session.rollout is not RolloutPhase.STABLE:
        session = advance(state, session)
    session = attach(state, "ar2", 2)
    while session.rollout is not RolloutPhase.STABLE:
        session = advance(state, session)
    (entry,) = (e for e in at(session, "br1", SteeringEntry))
    assert isinstance(entry, SteeringEntry)
    assert entry.segments == (PLANNER.sids["ar2"].end_dt6,)
    assert entry.next_hop == TOPOLOGY.nodes["tr1"].link_local
    assert entry.mtu == 1600


def test_every_router_knows_the_sid_block() -> None:
    for router in ("ar1", "br1", "tr1"):
        settings = PLANNER.plan(router, State(0, {}, {}, {})).entries["settings"]
        assert isinstance(settings, RouterSettings)
        assert settings.sid_block == TOPOLOGY.domain.sid_block
