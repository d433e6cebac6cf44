"""The state machine, case by case: RFC 8885 section 3, RFC 5213 sections 5.3 and 5.5."""

from __future__ import annotations

from dataclasses import replace

import pytest

from srv6dmm.core import mobility
from srv6dmm.core.ordering import sequence_is_newer
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent, DetachEvent, Event, Outcome
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import (
    LeaseState,
    RolloutPhase,
    Session,
    SessionPhase,
    State,
)
from tests.domains import small_domain

NOW = 1_700_000_000_000
PARAMETERS = MobilityParameters()
TOPOLOGY = small_domain()
KEY = ("mn1", "0")


class Timeline:
    """A state that events are fed to, one after the other."""

    def __init__(self, parameters: MobilityParameters = PARAMETERS, **domain: int) -> None:
        self.state = State()
        self.now = NOW
        self.parameters = parameters
        self.topology = small_domain(**domain) if domain else TOPOLOGY
        self.count = 0

    def feed(self, event: Event) -> mobility.Decision:
        decision = mobility.decide(self.state, event, self.now, self.topology, self.parameters)
        if decision.change:
            self.state.apply(decision.change, self.state.revision + 1)
        return decision

    def attach(self, router: str, node: str = "mn1", **fields: object) -> mobility.Decision:
        self.count += 1
        mac = f"02:00:00:00:00:{int(node[2:]):02x}"
        event = AttachEvent(f"a{self.count}", node, router, mac)
        return self.feed(replace(event, **fields))  # type: ignore[arg-type]

    def detach(self, router: str, **fields: object) -> mobility.Decision:
        self.count += 1
        event = DetachEvent(f"d{self.count}", "mn1", router)
        return self.feed(replace(event, **fields))  # type: ignore[arg-type]

    @property
    def session(self) -> Session:
        return self.state.sessions[KEY]

    def settle(self) -> None:
        """Acknowledge every stage of the roll-out."""
        while self.session.rollout is not RolloutPhase.STABLE:
            if self.session.rollout is RolloutPhase.REDIRECT:
                self.now = self.session.redirect_until_ms or self.now
            change = mobility.advance(self.session, self.now, self.parameters)
            self.state.apply(change, self.state.revision + 1)

    def expire(self) -> None:
        for _, timer in mobility.deadlines(self.state):
            change = mobility.expire(self.state, timer, self.now, self.parameters)
            if change:
                self.state.apply(change, self.state.revision + 1)


def test_first_attach_takes_a_prefix_of_the_serving_router() -> None:
    line = Timeline()
    answer = line.attach("ar1").answer
    assert answer.outcome is Outcome.REGISTERED
    assert (answer.epoch, answer.serving) == (1, "ar1")
    (prefix,) = answer.prefixes
    assert prefix.anchor == "ar1"
    assert prefix.preferred
    assert prefix.prefix.prefixlen == 64
    assert prefix.prefix.subnet_of(TOPOLOGY.nodes["ar1"].pools[0])
    assert line.session.rollout is RolloutPhase.PREPARE


def test_reattach_at_the_same_router_extends_the_lifetime_only() -> None:
    line = Timeline()
    first = line.attach("ar1", lifetime_s=100).answer
    line.settle()
    line.now += 50_000
    before = line.session
    again = line.attach("ar1", lifetime_s=100).answer
    assert again.outcome is Outcome.REFRESHED
    assert again.prefixes == first.prefixes
    assert line.session == replace(before, expires_ms=line.now + 100_000)


def test_handover_keeps_the_prefix_and_adds_one_of_the_new_router() -> None:
    line = Timeline()
    first = line.attach("ar1").answer
    line.settle()
    answer = line.attach("ar2").answer
    assert answer.outcome is Outcome.HANDOVER
    assert answer.epoch == 2
    assert [p.anchor for p in answer.prefixes] == ["ar1", "ar2"]
    assert answer.prefixes[0].prefix == first.prefixes[0].prefix
    assert [p.preferred for p in answer.prefixes] == [False, True]
    assert (line.session.via, line.session.previous) == ("ar1", ("ar1",))


def test_ping_pong_takes_no_third_prefix_and_comes_home() -> None:
    line = Timeline()
    line.attach("ar1")
    line.settle()
    line.attach("ar2")
    line.settle()
    answer = line.attach("ar1").answer
    assert answer.epoch == 3
    assert [p.anchor for p in answer.prefixes] == ["ar1", "ar2"]
    assert [p.preferred for p in answer.prefixes] == [True, False]


def test_stages_of_a_handover_come_in_order() -> None:
    line = Timeline()
    line.attach("ar1")
    line.settle()
    line.attach("ar2")
    phases = [line.session.rollout]
    while line.session.rollout is not RolloutPhase.REDIRECT:
        change = mobility.advance(line.session, line.now, PARAMETERS)
        line.state.apply(change, line.state.revision + 1)
        phases.append(line.session.rollout)
    assert phases == [RolloutPhase.PREPARE, RolloutPhase.SWITCH, RolloutPhase.REDIRECT]
    assert not mobility.advance(line.session, line.now, PARAMETERS), "T_late must pass first"
    line.settle()
    assert (line.session.via, line.session.previous) == (None, ())


def test_detach_from_the_serving_router_waits_before_it_releases() -> None:
    line = Timeline()
    prefix = line.attach("ar1").answer.prefixes[0].prefix
    line.settle()
    answer = line.detach("ar1").answer
    assert (answer.outcome, answer.serving) == (Outcome.DETACHING, None)
    assert line.session.phase is SessionPhase.DETACH_WAIT
    line.now += PARAMETERS.min_delay_before_delete_ms - 1
    line.expire()
    assert KEY in line.state.sessions
    line.now += 1
    line.expire()
    assert not line.state.sessions
    assert line.state.leases[prefix].state is LeaseState.QUARANTINE
    line.now += PARAMETERS.valid_lifetime_s * 1000
    line.expire()
    assert not line.state.leases


def test_attach_during_the_wait_keeps_the_prefixes() -> None:
    line = Timeline()
    first = line.attach("ar1").answer
    line.settle()
    line.detach("ar1")
    answer = line.attach("ar1").answer
    assert answer.prefixes == first.prefixes
    assert answer.epoch == 2
    assert line.session.phase is SessionPhase.ACTIVE


def test_detach_from_another_router_is_acknowledged_and_ignored() -> None:
    line = Timeline()
    line.attach("ar1")
    line.settle()
    line.attach("ar2")
    line.settle()
    before = line.session
    assert line.detach("ar1").answer.outcome is Outcome.IGNORED
    assert line.session == before


def test_duplicate_gets_the_same_answer_and_no_effect() -> None:
    line = Timeline()
    first = line.attach("ar1", event_id="x")
    line.attach("ar2")
    revision = line.state.revision
    again = line.attach("ar1", event_id="x")
    assert again.replayed
    assert again.answer == first.answer
    assert line.state.revision == revision


def test_event_id_with_other_content_is_refused() -> None:
    line = Timeline()
    line.attach("ar1", event_id="x")
    with pytest.raises(Refusal) as refused:
        line.attach("ar2", event_id="x")
    assert refused.value.type == "event-id-reused"


@pytest.mark.parametrize(
    ("second", "status"),
    [(NOW + 1, None), (NOW, 157), (NOW - 1, 157), (NOW + 301, 156), (NOW + 300, None)],
)
def test_timestamps_must_grow_and_be_near_our_clock(second: int, status: int | None) -> None:
    line = Timeline()
    line.attach("ar1", timestamp_ms=NOW)
    before = line.session
    if status is None:
        assert line.attach("ar2", timestamp_ms=second).answer.outcome is Outcome.HANDOVER
        return
    with pytest.raises(Refusal) as refused:
        line.attach("ar2", timestamp_ms=second)
    assert refused.value.binding_status == status
    assert refused.value.extra["server_time_ms"] == NOW
    assert line.session == before


def test_first_event_from_the_far_past_or_future_is_refused() -> None:
    for timestamp in (NOW - 301, NOW + 301):
        line = Timeline()
        with pytest.raises(Refusal) as refused:
            line.attach("ar1", timestamp_ms=timestamp)
        assert refused.value.binding_status == 156
        assert line.state == State()


@pytest.mark.parametrize(
    ("last", "sequence", "newer"),
    [
        (15, 0, False),
        (15, 15, False),
        (15, 16, True),
        (15, 32782, True),
        (15, 32783, False),
        (15, 65535, False),
        (65535, 0, True),
        (65535, 32766, True),
        (65535, 32767, False),
    ],
)
def test_sequence_window_of_rfc6275(last: int, sequence: int, newer: bool) -> None:
    assert sequence_is_newer(sequence, last) is newer
    line = Timeline()
    line.attach("ar1", sequence=last)
    if newer:
        line.attach("ar2", sequence=sequence)
        assert line.session.sequence == sequence
    else:
        with pytest.raises(Refusal) as refused:
            line.attach("ar2", sequence=sequence)
        assert refused.value.binding_status == 135
        assert refused.value.extra == {"last_sequence": last}


def test_stale_attach_after_a_handover_changes_nothing() -> None:
    line = Timeline()
    line.attach("ar1", timestamp_ms=NOW)
    line.attach("ar3", timestamp_ms=NOW + 100)
    with pytest.raises(Refusal):
        line.attach("ar2", timestamp_ms=NOW + 50)
    assert line.session.serving == "ar3"


def test_exhausted_pool_refuses_a_first_attach_with_status_130() -> None:
    line = Timeline(access_routers=2, pool_length=63)
    line.attach("ar1", node="mn1")
    line.attach("ar1", node="mn2")
    with pytest.raises(Refusal) as refused:
        line.attach("ar1", node="mn3")
    assert refused.value.binding_status == 130
    assert ("mn3", "0") not in line.state.sessions


def test_exhausted_pool_does_not_stop_a_handover() -> None:
    line = Timeline(access_routers=2, pool_length=64)
    line.attach("ar2", node="mn2")
    line.attach("ar1")
    line.settle()
    answer = line.attach("ar2").answer
    assert answer.outcome is Outcome.HANDOVER
    assert [(p.anchor, p.preferred) for p in answer.prefixes] == [("ar1", True)]


def test_prefix_cap_gives_the_oldest_back() -> None:
    line = Timeline(replace(PARAMETERS, max_prefixes=2))
    first = line.attach("ar1").answer.prefixes[0].prefix
    line.settle()
    line.attach("ar2")
    line.settle()
    answer = line.attach("ar3").answer
    assert [p.anchor for p in answer.prefixes] == ["ar2", "ar3"]
    assert line.state.leases[first].state is LeaseState.QUARANTINE


def test_lifetime_expiry_releases_without_a_wait() -> None:
    line = Timeline()
    line.attach("ar1", lifetime_s=10)
    line.settle()
    line.now += 10_000
    line.expire()
    assert not line.state.sessions


def test_abort_goes_back_and_frees_what_was_taken() -> None:
    line = Timeline()
    line.attach("ar1")
    line.settle()
    before = line.session
    prefix = line.attach("ar2").answer.prefixes[1].prefix
    change = mobility.abort(line.state, line.session, line.now, PARAMETERS)
    line.state.apply(change, line.state.revision + 1)
    assert line.session == replace(before, epoch=3)
    assert prefix not in line.state.leases


def test_abort_of_a_first_attach_leaves_nothing() -> None:
    line = Timeline()
    line.attach("ar1")
    change = mobility.abort(line.state, line.session, line.now, PARAMETERS)
    line.state.apply(change, line.state.revision + 1)
    assert not line.state.sessions
    assert not line.state.leases


def test_handover_during_prepare_falls_back_past_the_overtaken_router() -> None:
    line = Timeline()
    line.attach("ar1")
    line.settle()
    stable = line.session
    line.attach("ar2")
    line.attach("ar3")
    assert line.session.via == "ar1", "head-ends were never told of ar2"
    assert line.session.previous == ("ar2", "ar1")
    assert line.session.fallback == stable


def test_two_interfaces_are_two_sessions() -> None:
    line = Timeline()
    one = line.attach("ar1").answer
    two = line.attach("ar2", interface="1").answer
    assert len(line.state.sessions) == 2
    assert one.prefixes[0].prefix != two.prefixes[0].prefix


def test_unknown_router_and_unknown_node() -> None:
    line = Timeline()
    for name in ("ar9", "br1", "tr1"):
        with pytest.raises(Refusal) as refused:
            line.attach(name)
        assert refused.value.type == "unknown-router"
        assert "ar1, ar2, ar3" in refused.value.detail
    with pytest.raises(Refusal) as refused:
        line.detach("ar1")
    assert refused.value.type == "unknown-mobile-node"
    assert line.state == State()


def test_old_events_are_forgotten_a_few_at_a_time() -> None:
    line = Timeline(replace(PARAMETERS, event_memory_ms=1000))
    for _ in range(6):
        line.attach("ar1")
    line.now += 1001
    line.attach("ar1")
    assert len(line.state.events) == 3
    line.attach("ar1")
    assert len(line.state.events) == 2
