"""Detections: who it is, whether it is news, and what the controller makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv6Address

import pytest
from pydantic import ValidationError

from srv6dmm.agent.detect import detected
from srv6dmm.config import DetectionSettings
from srv6dmm.controller.feed import FeedEvent
from srv6dmm.controller.service import Controller
from srv6dmm.dataplane.fastpath.layout import Event, EventKind
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.wire import Detected
from tests.simulated import SimulatedAgent, SimulatedDomain

MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:99"
ADDRESS = IPv6Address("fe80::1")


class Domain(SimulatedDomain):
    """A domain whose controller knows one node by its link-layer address."""

    def __init__(self, settings: DetectionSettings) -> None:
        super().__init__()
        self.controller = Controller(
            self.topology,
            MobilityParameters(),
            self.controller._rollouts._settings,
            self.store,
            self.clock,
            "test",
            settings,
        )
        self.agents = {name: SimulatedAgent(self.controller, name) for name in self.agents}
        self._at_ms = 1000

    async def sees(self, router: str, kind: str = "solicitation", mac: str = MAC) -> None:
        self._at_ms += 1
        connection = self.agents[router].connection
        assert connection is not None
        await connection.receive(Detected(kind, mac, ADDRESS, self._at_ms))
        await self.settle()

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.controller.measurements.detections)

    def feed(self, kind: str) -> list[FeedEvent]:
        return [event for event in self.controller._feed._ring if event.kind == kind]

    def where(self, node: str = "mn1", interface: str = "0") -> tuple[str, int]:
        session = self.controller.state.sessions[node, interface]
        return session.serving, session.epoch


async def _running(settings: DetectionSettings) -> AsyncIterator[Domain]:
    domain = Domain(settings)
    await domain.start()
    yield domain
    domain.assert_consistent()
    await domain.stop()


@pytest.fixture
async def domain() -> AsyncIterator[Domain]:
    async for made in _running(DetectionSettings(nodes={MAC.upper().replace(":", "-"): "mn1"})):
        yield made


@pytest.fixture
async def enrolling() -> AsyncIterator[Domain]:
    async for made in _running(DetectionSettings(nodes={MAC: "mn1/wlan0"}, enrol="mn-{mac}")):
        yield made


@pytest.mark.parametrize("kind", ["solicitation", "duplicate-address-detection", "data"])
async def test_a_node_is_registered_and_handed_over_where_it_is_seen(
    domain: Domain, kind: str
) -> None:
    await domain.sees("ar1", kind)
    assert domain.where() == ("ar1", 1)
    await domain.sees("ar3", kind)
    assert domain.where() == ("ar3", 2)
    assert domain.counts == {"attached": 2}
    [event] = domain.feed("handover")
    assert event.data["event_id"] == "nd-ar3-020000000001-1002"


async def test_a_node_that_is_served_there_is_no_news(domain: Domain) -> None:
    await domain.sees("ar1")
    revision = domain.controller.state.revision
    for kind in ("solicitation", "duplicate-address-detection", "data"):
        await domain.sees("ar1", kind)
    assert domain.controller.state.revision == revision
    assert domain.counts == {"attached": 1, "served": 3}


async def test_several_words_of_one_arrival_are_one_event(domain: Domain) -> None:
    connection = domain.agents["ar1"].connection
    assert connection is not None
    for number, kind in enumerate(("solicitation", "duplicate-address-detection", "data")):
        await connection.receive(Detected(kind, MAC, ADDRESS, number))
    await domain.settle()
    assert domain.counts == {"attached": 1, "served": 2}
    assert len(domain.feed("registered")) == 1


async def test_what_a_leaving_node_still_sends_does_not_bring_it_back(domain: Domain) -> None:
    """Until the roll-out is over only a solicitation at the old router is that of a new link."""
    await domain.sees("ar1")
    await domain.sees("ar3")
    await domain.sees("ar1", "data")
    await domain.sees("ar1", "duplicate-address-detection")
    assert domain.where() == ("ar3", 2)
    assert domain.counts == {"attached": 2, "late": 2}
    await domain.sees("ar1", "solicitation")
    assert domain.where() == ("ar1", 3)


async def test_data_at_the_old_router_counts_when_the_move_is_over(domain: Domain) -> None:
    await domain.sees("ar1")
    await domain.sees("ar3")
    domain.clock.ms += 3000
    domain.controller._timers.fire()
    await domain.settle()
    await domain.sees("ar1", "data")
    assert domain.where() == ("ar1", 3)


async def test_a_session_ordered_by_timestamps_is_moved_by_what_is_seen(domain: Domain) -> None:
    """By our clock; a sequence number nobody but its caller can give."""
    event = AttachEvent("1", "mn1", "ar1", MAC, timestamp_ms=domain.clock.ms)
    await domain.controller.submit(event)
    await domain.settle()
    domain.clock.ms += 1
    await domain.sees("ar2")
    assert domain.where()[0] == "ar2"
    assert domain.controller.state.sessions["mn1", "0"].timestamp_ms == domain.clock.ms


async def test_a_session_ordered_by_sequence_numbers_is_not(domain: Domain) -> None:
    await domain.controller.submit(AttachEvent("1", "mn1", "ar1", MAC, sequence=7))
    await domain.settle()
    await domain.sees("ar2")
    assert domain.where()[0] == "ar1"
    assert domain.feed("detected")[0].data["reason"] == "order-missing"


async def test_a_registration_that_runs_out_is_renewed(domain: Domain) -> None:
    await domain.sees("ar1")
    expires = domain.controller.state.sessions["mn1", "0"].expires_ms
    domain.clock.ms += 2000 * 1000
    await domain.sees("ar1")
    assert domain.controller.state.sessions["mn1", "0"].expires_ms > expires
    assert domain.where() == ("ar1", 1)


async def test_a_node_that_was_leaving_stays_when_it_is_seen(domain: Domain) -> None:
    from srv6dmm.model.events import DetachEvent
    from srv6dmm.model.state import SessionPhase

    await domain.sees("ar1")
    await domain.controller.submit(DetachEvent("bye", "mn1", "ar1"))
    await domain.sees("ar1")
    assert domain.controller.state.sessions["mn1", "0"].phase is SessionPhase.ACTIVE


async def test_unknown_nodes_are_counted_and_told_of(domain: Domain) -> None:
    for mac in (OTHER, "33:33:00:00:00:01", "nonsense"):
        await domain.sees("ar1", mac=mac)
    assert domain.counts == {"unknown": 3}
    assert not domain.controller.state.sessions
    told = domain.feed("detected")[0].data
    assert told == {
        "router": "ar1",
        "sent": "solicitation",
        "link_layer_address": OTHER,
        "address": "fe80::1",
        "reason": "unknown-mobile-node",
    }


async def test_a_refusal_is_told_of_and_breaks_nothing(domain: Domain) -> None:
    await domain.sees("br1")  # no access router
    assert domain.counts == {"refused": 1}
    assert domain.feed("detected")[0].data["reason"] == "unknown-router"
    await domain.sees("ar1")
    assert domain.where() == ("ar1", 1)


async def test_others_are_enrolled_by_rule(enrolling: Domain) -> None:
    await enrolling.sees("ar1")
    await enrolling.sees("ar2", mac=OTHER)
    assert enrolling.where("mn1", "wlan0") == ("ar1", 1)
    assert enrolling.where("mn-020000000099")[0] == "ar2"


async def test_a_detection_and_an_event_of_a_caller_agree(domain: Domain) -> None:
    await domain.controller.submit(AttachEvent("http", "mn1", "ar2", MAC))
    await domain.settle()
    await domain.sees("ar2")
    assert domain.where() == ("ar2", 1)
    assert domain.counts == {"served": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"nodes": {"nonsense": "mn1"}},
        {"nodes": {"33:33:00:00:00:01": "mn1"}},
        {"nodes": {MAC: "a name"}},
        {"enrol": "everybody"},
        {"enrol": "mn {mac}"},
        {"enrol": "{mac}{mac}"},
    ],
)
def test_settings_that_name_nobody(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DetectionSettings.model_validate(settings)


def test_an_event_of_the_program_as_a_message() -> None:
    event = Event(EventKind.DAD, 3, 0, bytes.fromhex("020000000001"), ADDRESS)
    assert detected(event, 5) == Detected("duplicate-address-detection", MAC, ADDRESS, 5)
    group = Event(EventKind.DAD, 3, 0, bytes.fromhex("333300000001"), ADDRESS)
    assert detected(group, 5) is None
    assert detected(Event(77, 3, 0, bytes.fromhex("020000000001"), ADDRESS), 5) is None
