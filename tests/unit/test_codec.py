"""Records and messages as JSON: everything comes back equal, everything else is a ValueError."""

from __future__ import annotations

import json
import typing
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from srv6dmm import codec
from srv6dmm.model import plan, wire
from srv6dmm.model.sid import Behavior, EncapMode, Flavor, SegmentList
from srv6dmm.model.state import Change, EventRecord, Lease, Session
from tests.contract.changes import changes

NETWORK = IPv6Network("2001:db8:a::/64")
ADDRESS = IPv6Address("fe80::1")
ENTRIES: tuple[plan.PlanEntry, ...] = (
    plan.RouterSettings(
        IPv6Address("fc00:0:1::1"),
        ADDRESS,
        ("core0", "core1"),
        (("host0", ADDRESS, 64),),
        "acc0",
        ADDRESS,
        "02:00:5e:00:64:01",
    ),
    plan.RouterSettings(None, ADDRESS, (), (), None, None, None, neighbours=(("core0", ADDRESS),)),
    plan.UnderlayRoute(NETWORK, (("core0", ADDRESS),)),
    plan.UnreachableRoute(NETWORK),
    plan.LocalSid(
        ADDRESS,
        Behavior.END_X,
        "core0",
        ADDRESS,
        IPv4Address("192.0.2.1"),
        "core1",
        254,
        SegmentList((ADDRESS, ADDRESS)),
        tuple(Flavor),
    ),
    plan.Delivery(NETWORK, "acc0", "02:00:00:00:00:01", ADDRESS, 1500, "mn1", 4),
    plan.SteeringEntry(
        NETWORK, SegmentList((ADDRESS,)), EncapMode.ENCAP, "core0", ADDRESS, 1600, "mn1", 4
    ),
    plan.FlowSteering(
        "video",
        plan.FlowSelector(NETWORK, NETWORK, 17, (1000, 2000), (5004, 5004), 46),
        7,
        (plan.SteeringList(SegmentList((ADDRESS, ADDRESS)), "core0", ADDRESS, 1600, 3),),
        EncapMode.ENCAP_RED,
        "mn1",
        plan.SteeringList(SegmentList((ADDRESS,)), "core1", ADDRESS, 1600),
        True,
        (NETWORK,),
    ),
    plan.WatchedList(SegmentList((ADDRESS,)), EncapMode.ENCAP, SegmentList((ADDRESS,))),
    plan.UplinkBinding(NETWORK, "access0", "02:00:00:00:01:01", "mn1"),
    plan.DropEntry(NETWORK, "mn1", 4),
    plan.Advertisement(
        "mn1",
        "0",
        "acc0",
        "02:00:00:00:00:01",
        ADDRESS,
        (plan.AdvertisedPrefix(NETWORK, 7200, 0),),
        1400,
        1800,
        4,
    ),
)
MESSAGES: tuple[wire.FromAgent | wire.FromController, ...] = (
    wire.Hello("ar1", "boot", "0.1", wire.PROTOCOL, None, {"seg6": True}),
    wire.Ack(3, 1.5, 0.25),
    wire.Failed(3, (wire.EntryFailure("sid fc00::1", 12, "no memory"),)),
    wire.Heartbeat(7),
    wire.Report(3, ("a",), (), ("b", "c"), {"fc00::1": (1, 2, 3)}),
    wire.Telemetry({}, (), (), sids=(wire.SidTraffic(ADDRESS, Behavior.END_DT6, 3, 4200),)),
    wire.Telemetry({"steered": 7}, (wire.PrefixTraffic(NETWORK, 3, 4200, 15),), (NETWORK,)),
    wire.Telemetry({}, (), (), (wire.FlowTraffic(0x4000_0001, 3, 4200, 15),), (0x4000_0002,)),
    wire.LinkReport(("core0", "core1")),
    wire.ListReport((SegmentList((ADDRESS, ADDRESS)),), (SegmentList((ADDRESS,)),)),
    wire.DelayReport({"core0": 250, "core1": 0}),
    wire.Detected("solicitation", "02:00:00:00:00:01", ADDRESS, 1_700_000_000_000),
    wire.ModeReport("ebpf", "netlink", "no tcx and no clsact"),
    wire.Welcome(1.0, "boot"),
    wire.FullPlan(5, ENTRIES),
    wire.DeltaPlan(5, 6, ENTRIES, ("mobile 2001:db8::/64",)),
    wire.Resync(),
    wire.SetMode("ebpf"),
    wire.Inspect(7, ENTRIES),
    wire.Inspection(
        7,
        3,
        (
            wire.EntryState("settings", True, "present"),
            wire.EntryState("sid fc00::1", False, "missing", ("it is not there",), 1, 2, 3),
        ),
    ),
    wire.Watch("0123456789abcdef", 2.5),
    wire.Unwatch("0123456789abcdef"),
    wire.Watching("0123456789abcdef", None),
    wire.Probe(
        "0123456789abcdef", "acc0", "02:00:00:00:01:01", ADDRESS, ADDRESS, 17, 1000, 2000, 46
    ),
    wire.Probed("0123456789abcdef", 1_700_000_000_000_000_000, "no such interface"),
    wire.Sighting(
        "0123456789abcdef",
        "core0",
        True,
        1_700_000_000_000_000_000,
        ADDRESS,
        ADDRESS,
        59,
        63,
        ((ADDRESS, ADDRESS), (ADDRESS,)),
    ),
)


def test_the_examples_leave_out_no_kind() -> None:
    assert {type(entry) for entry in ENTRIES} == set(typing.get_args(plan.PlanEntry))
    both = {*typing.get_args(wire.FromAgent), *typing.get_args(wire.FromController)}
    assert {type(message) for message in MESSAGES} == both


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_equal(message: wire.FromAgent | wire.FromController) -> None:
    frame = codec.encode_message(message)
    again = codec.decode_message(frame)
    assert again == message
    assert type(again) is type(message)
    assert codec.encode_message(again) == frame, "fields that == leaves out came back as well"
    assert codec.decode_message(frame.decode()) == message, "a text frame is the same"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__)
def test_entries_are_tagged_with_their_kind(entry: plan.PlanEntry) -> None:
    name, fields = json.loads(codec.encode_entry(entry))
    assert name == type(entry).__name__
    assert fields == json.loads(json.dumps(codec.to_builtins(entry)))


@given(changes())
@settings(deadline=None)
def test_records_come_back_equal(change: Change) -> None:
    kinds: list[tuple[type, tuple[Any, ...]]] = [
        (Session, change.sessions),
        (Lease, change.leases),
        (EventRecord, change.events),
    ]
    for kind, records in kinds:
        for record in records:
            text = codec.encode(record)
            again: object = codec.decode(text, kind)
            assert again == record
            assert codec.encode(again) == text
            assert codec.decode(json.dumps(codec.to_builtins(record)), kind) == record


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"5", "array"),
        (b'["Ack"]', "length 2"),
        (b'["Ack", {}]', "revision"),
        (b'["Ack", {"revision": "3", "applied_at_ms": 1, "took_ms": 1}]', r"int.*\$\.revision"),
        (b'["Ack", {"revision": 3, "applied_at_ms": NaN, "took_ms": 1}]', "malformed"),
        (b'["SetMode", {"mode": "auto"}]', r"auto.*\$\.mode"),
        (b'["Change", {}]', "unknown message 'Change': is the other side newer"),
        (b'["FullPlan", {"revision": 1, "entries": [["Teleport", {}]]}]', "unknown plan entry"),
        (b'["FullPlan", {"revision": 1, "entries": [], "extra": 1}]', "unknown field"),
        (b'["FullPlan", {"revision": 1, "entries": [["UnreachableRoute", 5]]}]', "object"),
        (
            b'["FullPlan", {"revision": 1, "entries": [["UnreachableRoute", {"prefix": "x/64"}]]}]',
            r"x.*\$\.prefix",
        ),
        (
            b'["FullPlan", {"revision": 1, "entries": '
            b'[["UnreachableRoute", {"prefix": "2001:db8::1/64"}]]}]',
            "host bits",
        ),
        (
            b'["FullPlan", {"revision": 1, "entries": [["UnreachableRoute", {"prefix": 5}]]}]',
            "want text",
        ),
    ],
)
def test_frames_that_are_no_messages_say_why(frame: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        codec.decode_message(frame)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["revision", "entries", "put", "gone", "base", "applied"]), inner
        )
    ),
    max_leaves=8,
)
_FRAMES = st.binary(max_size=20) | st.tuples(
    st.sampled_from([type(message).__name__ for message in MESSAGES]) | st.text(max_size=3), _JSON
).map(lambda pair: json.dumps(pair).encode())


@given(_FRAMES)
@example(b"[" * 200_000)
@example(b'["FullPlan",' + b"[" * 200_000)
@example(b'["FullPlan", {"revision": 1, "entries": ' + b"[" * 200_000)
@example(b'["FullPlan", {"revision": 1, "entries": [["DropEntry", ' + b'{"a":' * 200_000)
@settings(deadline=None)
def test_any_frame_is_a_message_or_a_value_error(frame: bytes) -> None:
    try:
        message = codec.decode_message(frame)
    except ValueError:
        return
    assert codec.decode_message(codec.encode_message(message)) == message


def test_what_is_no_record_is_not_encoded() -> None:
    with pytest.raises(NotImplementedError, match="object"):
        codec.encode(object())
