"""The meter: only news, bounded messages, ages without the kernel's clock."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from srv6dmm.agent.meter import LONGEST_SILENCE_S, MAX_PREFIXES, Meter, Owner
from srv6dmm.dataplane.fastpath.layout import Counter
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.model.sid import Behavior
from srv6dmm.model.wire import FlowTraffic, PrefixTraffic, SidTraffic, Telemetry

P, Q = IPv6Network("2001:db8:1::/64"), IPv6Network("2001:db8:2::/64")


class Router:
    """Counters that are set; those that were set since the last look are the changed ones."""

    def __init__(self) -> None:
        self.now = 100.0
        self.counts: dict[Reason, int] = {Reason.STEERED: 0}
        self.changed: list[tuple[int, Owner | None, Counter]] = []
        self.sids: tuple[SidTraffic, ...] = ()
        self.meter = Meter(self, lambda: self.now)

    def reasons(self) -> dict[Reason, int]:
        return self.counts

    def sid_traffic(self) -> tuple[SidTraffic, ...]:
        return self.sids

    def counted(self) -> list[tuple[int, Owner | None, Counter]]:
        changed, self.changed = self.changed, []
        return changed

    def set(self, number: int, owner: Owner | None, packets: int, last: int) -> None:
        self.changed.append((number, owner, Counter(packets, packets * 100, last)))


def test_the_first_word_is_said_and_then_only_news() -> None:
    router = Router()
    assert router.meter.read() == Telemetry({}, (), ())
    assert router.meter.read() is None
    router.now += LONGEST_SILENCE_S
    assert router.meter.read() == Telemetry({}, (), ()), "a sign of life"
    assert router.meter.read() is None
    router.counts[Reason.NO_ENTRY] = 4
    assert router.meter.read() == Telemetry({"no-entry": 4}, (), ())
    router.set(1, P, 5, 777)
    told = router.meter.read()
    assert told == Telemetry({"no-entry": 4}, (PrefixTraffic(P, 5, 500, 0),), ())
    assert router.meter.read() is None


def test_the_age_is_that_of_the_newest_last_packet() -> None:
    router = Router()
    router.set(1, P, 5, 777)
    router.meter.read()
    router.now += 2.5
    router.meter.start_over()
    told = router.meter.read()
    assert told is not None
    assert told.prefixes == (PrefixTraffic(P, 5, 500, 2500),)
    router.set(1, P, 6, 778)
    told = router.meter.read()
    assert told is not None
    assert told.prefixes == (PrefixTraffic(P, 6, 600, 0),)


def test_a_message_is_bounded_and_the_rest_follows() -> None:
    router = Router()
    many = [IPv6Network((int(P.network_address) + (n << 64), 64)) for n in range(MAX_PREFIXES + 7)]
    for number, prefix in enumerate(many, start=1):
        router.set(number, prefix, 1, 1)
    first, second = router.meter.read(), router.meter.read()
    assert first is not None
    assert second is not None
    assert len(first.prefixes) == MAX_PREFIXES
    assert [one.prefix for one in (*first.prefixes, *second.prefixes)] == many
    assert router.meter.read() is None


def test_a_prefix_without_an_entry_is_told_as_gone() -> None:
    router = Router()
    router.set(1, P, 5, 777)
    router.meter.read()
    router.set(1, None, 0, 0)
    told = router.meter.read()
    assert told == Telemetry({}, (), (P,))
    assert router.meter.read() is None


def test_a_counter_that_changed_hands() -> None:
    router = Router()
    router.set(1, P, 5, 777)
    router.meter.read()
    router.set(1, Q, 2, 800)
    assert router.meter.read() == Telemetry({}, (PrefixTraffic(Q, 2, 200, 0),), (P,))


def test_a_prefix_that_moved_to_another_counter_is_not_gone() -> None:
    router = Router()
    router.set(9, P, 5, 777)
    router.meter.read()
    router.set(1, P, 2, 800)
    assert router.meter.read() == Telemetry({}, (PrefixTraffic(P, 2, 200, 0),), ())
    router.set(9, None, 0, 0)
    assert router.meter.read() is None


def test_an_entry_made_anew_counts_from_nothing() -> None:
    router = Router()
    router.set(1, P, 5, 777)
    router.meter.read()
    router.set(1, P, 0, 0)
    assert router.meter.read() == Telemetry({}, (), (P,))


def test_who_listens_anew_is_told_everything() -> None:
    router = Router()
    router.counts[Reason.STEERED] = 5
    router.set(1, P, 5, 777)
    router.set(2, Q, 6, 778)
    router.meter.read()
    router.meter.start_over()
    told = router.meter.read()
    assert told is not None
    assert told.reasons == {"steered": 5}
    assert {one.prefix: one.packets for one in told.prefixes} == {P: 5, Q: 6}


FLOW = 0x4000_0005


def test_flows_are_told_beside_prefixes() -> None:
    router = Router()
    router.set(1, P, 5, 777)
    router.set(2, FLOW, 6, 778)
    told = router.meter.read()
    assert told == Telemetry(
        {}, (PrefixTraffic(P, 5, 500, 0),), (), (FlowTraffic(FLOW, 6, 600, 0),)
    )
    router.now += 1.5
    router.set(2, FLOW, 6, 778)
    told = router.meter.read()
    assert told == Telemetry({}, (), (), (FlowTraffic(FLOW, 6, 600, 1500),))
    router.set(2, None, 0, 0)
    assert router.meter.read() == Telemetry({}, (), (), (), (FLOW,))


def test_a_counter_goes_from_a_flow_to_a_prefix() -> None:
    router = Router()
    router.set(1, FLOW, 5, 777)
    router.meter.read()
    router.set(1, Q, 2, 800)
    told = router.meter.read()
    assert told == Telemetry({}, (PrefixTraffic(Q, 2, 200, 0),), (), (), (FLOW,))


def test_sids_are_told_when_they_counted_something() -> None:
    router = Router()
    router.meter.read()
    end = SidTraffic(IPv6Address("fc00:1:0:e00::"), Behavior.END, 3, 400)
    router.sids = (end,)
    assert router.meter.read() == Telemetry({}, (), (), sids=(end,))
    assert router.meter.read() is None
    router.counts = {Reason.NO_ENTRY: 1}
    assert router.meter.read() == Telemetry({"no-entry": 1}, (), ()), "of SIDs there is no news"
    router.meter.start_over()
    assert router.meter.read() == Telemetry({"no-entry": 1}, (), (), sids=(end,))
    router.sids = ()
    assert router.meter.read() == Telemetry({"no-entry": 1}, (), (), sids=())
