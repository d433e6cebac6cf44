"""What orders events, whose a link-layer address is, and that epochs only grow."""

from __future__ import annotations

import pytest

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import Outcome
from srv6dmm.model.state import SessionPhase
from tests.unit.test_mobility import KEY, NOW, PARAMETERS, TOPOLOGY, Timeline

MAC = "02:00:00:00:00:01"


def refused(line: Timeline, verb: str, router: str, **fields: object) -> Refusal:
    before = line.state.copy()
    with pytest.raises(Refusal) as raised:
        getattr(line, verb)(router, **fields)
    assert line.state == before
    return raised.value


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_a_session_ordered_by_timestamps_is_not_moved_without_one(verb: str) -> None:
    line = Timeline()
    line.attach("ar1", timestamp_ms=NOW)
    for fields in ({}, {"sequence": 7}):
        why = refused(line, verb, "ar1", **fields)
        assert (why.type, why.status, why.binding_status) == ("order-missing", 409, 156)
        assert why.extra == {"order": "timestamp", "server_time_ms": NOW}


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_a_session_ordered_by_sequence_numbers_is_not_moved_without_one(verb: str) -> None:
    line = Timeline()
    line.attach("ar1", sequence=7)
    for fields in ({}, {"timestamp_ms": NOW}):
        why = refused(line, verb, "ar1", **fields)
        assert (why.type, why.status, why.binding_status) == ("order-missing", 409, 135)
        assert why.extra == {"order": "sequence", "last_sequence": 7}


def test_who_sends_neither_is_ordered_by_arrival_until_one_is_sent() -> None:
    line = Timeline()
    line.attach("ar1")
    line.attach("ar2")
    line.attach("ar3", sequence=9)
    assert refused(line, "attach", "ar1").type == "order-missing"
    assert line.attach("ar1", sequence=10).answer.outcome is Outcome.HANDOVER


def test_with_a_timestamp_the_sequence_is_ignored_and_copied() -> None:
    line = Timeline()
    line.attach("ar1", timestamp_ms=NOW, sequence=500)
    answer = line.attach("ar2", timestamp_ms=NOW + 1, sequence=3).answer
    assert (answer.timestamp_ms, answer.sequence) == (NOW + 1, 3)
    assert (line.session.timestamp_ms, line.session.sequence) == (NOW + 1, None)
    answer = line.attach("ar3", timestamp_ms=NOW + 2).answer
    assert (answer.timestamp_ms, answer.sequence) == (NOW + 2, None)


def test_from_sequence_numbers_to_timestamps_with_both() -> None:
    line = Timeline()
    line.attach("ar1", sequence=7)
    late = refused(line, "attach", "ar2", sequence=7, timestamp_ms=NOW)
    assert late.type == "sequence-out-of-window"
    line.attach("ar2", sequence=8, timestamp_ms=NOW)
    line.attach("ar3", timestamp_ms=NOW + 1)
    assert refused(line, "attach", "ar1", sequence=9).type == "order-missing"


def test_timestamps_grow_over_all_interfaces_of_a_node() -> None:
    line = Timeline()
    line.attach("ar1", timestamp_ms=NOW + 10)
    for stamp in (NOW + 10, NOW + 9):
        why = refused(line, "attach", "ar2", interface="1", timestamp_ms=stamp)
        assert (why.type, why.binding_status) == ("timestamp-lower-than-previous", 157)
    line.attach("ar2", interface="1", timestamp_ms=NOW + 11)
    assert refused(line, "attach", "ar3", timestamp_ms=NOW + 11).binding_status == 157
    line.attach("ar3", node="mn2", timestamp_ms=NOW)  # another node is none of its affair


def test_a_late_detach_of_a_former_router_is_ignored_with_or_without_order() -> None:
    line = Timeline()
    line.attach("ar1", timestamp_ms=NOW)
    line.attach("ar2", timestamp_ms=NOW + 1)
    before = line.session
    assert line.detach("ar1").answer.outcome is Outcome.IGNORED
    assert line.session == before


def test_the_routers_address_is_no_nodes() -> None:
    mac = TOPOLOGY.domain.router_mac
    why = refused(Timeline(), "attach", "ar1", link_layer_address=mac)
    assert (why.type, why.status) == ("validation", 422)
    assert why.extra["errors"][0]["pointer"] == "/link_layer_address"  # type: ignore[index]


def test_an_address_is_held_by_one_node_at_an_access_router() -> None:
    line = Timeline()
    line.attach("ar1")
    why = refused(line, "attach", "ar1", node="mn2", link_layer_address=MAC)
    assert (why.type, why.status, why.binding_status) == ("link-layer-address-in-use", 409, 129)
    assert "mn1" in why.detail
    line.attach("ar2", node="mn2", link_layer_address=MAC)  # at another router nobody minds
    assert refused(line, "attach", "ar2").type == "link-layer-address-in-use"
    line.attach("ar1", interface="1", link_layer_address=MAC)  # its own


def test_a_node_that_may_come_back_holds_its_address_there() -> None:
    line = Timeline()
    line.attach("ar1")
    line.settle()
    line.attach("ar2")
    why = refused(line, "attach", "ar1", node="mn2", link_layer_address=MAC)
    assert why.type == "link-layer-address-in-use"
    line.settle()
    line.attach("ar1", node="mn2", link_layer_address=MAC)


def test_a_node_that_was_detached_may_come_back_under_another_name() -> None:
    line = Timeline()
    line.attach("ar1")
    line.settle()
    line.detach("ar1")
    assert line.session.phase is SessionPhase.DETACH_WAIT
    line.attach("ar1", node="mn2", link_layer_address=MAC)
    assert refused(line, "attach", "ar1").type == "link-layer-address-in-use"


def test_an_address_that_a_node_gave_up_is_free() -> None:
    line = Timeline()
    line.attach("ar1")
    line.attach("ar1", link_layer_address="02:00:00:00:00:77")
    line.attach("ar1", node="mn2", link_layer_address=MAC)


def test_an_epoch_grows_also_over_the_end_of_a_session() -> None:
    line = Timeline()
    for router in ("ar1", "ar2", "ar1", "ar3"):
        line.attach(router)
        line.settle()
    newest = line.session.epoch
    line.detach("ar3")
    line.now += PARAMETERS.min_delay_before_delete_ms
    line.expire()
    assert KEY not in line.state.sessions
    assert line.attach("ar1").answer.epoch > newest
