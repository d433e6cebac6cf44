"""Packet Too Big from outer to inner: checked against packets that scapy builds."""

from __future__ import annotations

import asyncio
import struct
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrSegmentRouting,
)
from scapy.packet import Raw

from srv6dmm.agent.rate_limit import RateLimit
from srv6dmm.agent.too_big import MINIMUM_MTU, Relay, relay
from srv6dmm.agent.too_big_relay import ALL_BURST, ALL_RATE, TooBigRelay
from tests.agents import LOOPBACK
from tests.simulated import quickly

INNER_SOURCE = "2001:db8:2:1::7"
INNER_TARGET = "2001:db8:1:1::9"
SID = "fc00:0:2::d06"
PAYLOAD = Raw(bytes(range(256)) * 6)


def _inner(layers: Any = None, source: str = INNER_SOURCE) -> Any:
    return IPv6(src=source, dst=INNER_TARGET) / (layers or UDP(sport=1, dport=2) / PAYLOAD)


def _srh(segments: int) -> Any:
    return IPv6ExtHdrSegmentRouting(addresses=[SID] * segments, segleft=segments - 1)


def _outer(inner: Any, *headers: Any, source: str = str(LOOPBACK)) -> bytes:
    packet: Any = IPv6(src=source, dst=SID)
    for header in headers:
        packet /= header
    return bytes(packet / inner)


def _too_big(outer: bytes, mtu: int, code: int = 0) -> bytes:
    return struct.pack("!BBHI", 2, code, 0, mtu) + outer[:1232]


@pytest.mark.parametrize(
    ("segments", "overhead"), [(0, 40), (1, 40 + 24), (2, 40 + 40), (3, 40 + 56)]
)
def test_the_inner_source_is_told_what_is_left(segments: int, overhead: int) -> None:
    headers = [_srh(segments)] if segments else []
    inner = bytes(_inner())
    found = relay(_too_big(_outer(_inner(), *headers), 1500), LOOPBACK)
    assert isinstance(found, Relay)
    assert found.destination == IPv6Address(INNER_SOURCE)
    assert found.mtu == 1500 - overhead
    seen = ICMPv6PacketTooBig(found.message)
    assert (seen.type, seen.code, seen.mtu) == (2, 0, 1500 - overhead)
    quoted = found.message[8:]
    assert quoted == inner[: len(quoted)]
    assert len(quoted) == 1232 - overhead


def _expired(outer: bytes, code: int = 0) -> bytes:
    return struct.pack("!BBHI", 3, code, 0, 0) + outer[:1232]


@pytest.mark.parametrize("segments", range(4))
@pytest.mark.parametrize("hop_limit", [0, 1])
def test_a_hop_limit_spent_at_the_head_end_is_told(segments: int, hop_limit: int) -> None:
    sent = _inner()
    sent.hlim = hop_limit
    found = relay(_expired(_outer(sent, *([_srh(segments)] if segments else []))), LOOPBACK)
    assert isinstance(found, Relay)
    assert (found.destination, found.mtu) == (IPv6Address(INNER_SOURCE), 0)
    seen = ICMPv6TimeExceeded(found.message)
    assert (seen.type, seen.code, seen.unused) == (3, 0, 0)
    assert bytes(sent).startswith(found.message[8:])


@pytest.mark.parametrize("hop_limit", [2, 64, 255])
def test_what_expires_later_is_not_the_senders_to_hear(hop_limit: int) -> None:
    sent = _inner()
    sent.hlim = hop_limit
    assert relay(_expired(_outer(sent)), LOOPBACK) == "expired behind the head-end"


def test_an_error_that_expires_is_not_answered() -> None:
    sent = _inner(ICMPv6DestUnreach() / PAYLOAD)
    sent.hlim = 1
    assert relay(_expired(_outer(sent)), LOOPBACK) == "inner packet is an ICMPv6 error"


def test_of_another_router_nothing_is_told() -> None:
    sent = _inner()
    sent.hlim = 1
    outer = _outer(sent, source="fc00:0:7::1")
    assert relay(_expired(outer), LOOPBACK) == "not about a packet of ours"


def test_a_whole_quoted_packet_is_cut_to_the_minimum_mtu() -> None:
    outer = _outer(_inner())
    found = relay(struct.pack("!BBHI", 2, 0, 0, 1500) + outer, LOOPBACK)
    assert isinstance(found, Relay)
    assert 40 + len(found.message) == MINIMUM_MTU


def test_nobody_is_told_less_than_the_minimum() -> None:
    found = relay(_too_big(_outer(_inner(), _srh(3)), 1300), LOOPBACK)
    assert isinstance(found, Relay)
    assert found.mtu == MINIMUM_MTU
    found = relay(_too_big(_outer(_inner()), 0), LOOPBACK)
    assert isinstance(found, Relay)
    assert found.mtu == MINIMUM_MTU


def test_the_code_is_ignored() -> None:
    assert isinstance(relay(_too_big(_outer(_inner()), 1500, code=7), LOOPBACK), Relay)


def test_an_echo_request_is_no_error_and_is_answered() -> None:
    inner = _inner(ICMPv6EchoRequest(data=bytes(1500)))
    assert isinstance(relay(_too_big(_outer(inner), 1500), LOOPBACK), Relay)


def _ignored(message: bytes, why: str) -> None:
    assert relay(message, LOOPBACK) == why


def test_only_our_own_encapsulations_are_believed() -> None:
    _ignored(_too_big(_outer(_inner(), source="fc00:0:9::1"), 1500), "not about a packet of ours")
    _ignored(_too_big(bytes(IP(src="192.0.2.1") / PAYLOAD), 1400), "not about a packet of ours")
    _ignored(_too_big(_outer(UDP() / PAYLOAD), 1400), "not an IPv6 packet inside")
    inner4 = IP(src="192.0.2.1", dst="192.0.2.2") / UDP() / PAYLOAD
    _ignored(_too_big(_outer(inner4), 1400), "not an IPv6 packet inside")


def test_a_packet_that_fits_is_no_reason_to_tell_anybody() -> None:
    outer = _outer(_inner())
    assert isinstance(relay(_too_big(outer, len(outer) - 1), LOOPBACK), Relay)
    _ignored(_too_big(outer, len(outer)), "the quoted packet is not too big")


@pytest.mark.parametrize("source", ["::", "::1", "fe80::7", "ff02::1"])
def test_sources_that_cannot_be_told(source: str) -> None:
    _ignored(_too_big(_outer(_inner(source=source)), 1500), "inner source cannot be told")


@pytest.mark.parametrize(
    "layers",
    [
        ICMPv6DestUnreach() / PAYLOAD,
        IPv6ExtHdrDestOpt() / ICMPv6DestUnreach() / PAYLOAD,
        IPv6ExtHdrFragment(offset=0, m=1, nh=58) / ICMPv6PacketTooBig() / PAYLOAD,
    ],
)
def test_errors_are_never_answered_with_errors(layers: Any) -> None:
    _ignored(_too_big(_outer(_inner(layers)), 1500), "inner packet is an ICMPv6 error")


def test_a_later_fragment_is_answered() -> None:
    layers = IPv6ExtHdrFragment(offset=100, m=1, nh=58) / PAYLOAD
    assert isinstance(relay(_too_big(_outer(_inner(layers)), 1500), LOOPBACK), Relay)


def test_truncated_quotes() -> None:
    whole = _too_big(_outer(_inner(), _srh(2)), 1500)
    ends = {
        8 + 39: "truncated",
        8 + 40: "extension header is not quoted whole",
        8 + 47: "extension header is not quoted whole",
        8 + 80: "no whole inner header quoted",
        8 + 119: "no whole inner header quoted",
    }
    for end, why in ends.items():
        _ignored(whole[:end], why)
    found = relay(whole[: 8 + 120], LOOPBACK)
    assert isinstance(found, Relay)
    assert len(found.message) == 48


def test_extension_headers_are_bounded() -> None:
    outer = _outer(_inner(), *[IPv6ExtHdrDestOpt() for _ in range(9)])
    _ignored(_too_big(outer, 1500), "too many extension headers")


def test_other_messages_are_not_ours() -> None:
    message = _too_big(_outer(_inner()), 1500)
    _ignored(bytes((1,)) + message[1:], "not a Packet Too Big or Time Exceeded")
    _ignored(b"", "truncated")


# --- fuzz ------------------------------------------------------------------------------------

_VALID = [_too_big(_outer(_inner(), *([_srh(n)] if n else [])), 1500) for n in range(4)]


def _sound(message: bytes) -> None:
    found = relay(message, LOOPBACK)
    if isinstance(found, str):
        assert found
        return
    assert MINIMUM_MTU <= found.mtu <= 0xFFFF
    assert 48 <= len(found.message) <= MINIMUM_MTU - 40
    assert found.message[8:] in message
    assert found.destination.packed == found.message[16:32]
    assert not found.destination.is_multicast


@given(st.binary(max_size=1500))
def test_no_bytes_break_it(data: bytes) -> None:
    _sound(data)
    _sound(b"\x02\0\0\0\0\0\x05\xdc" + data)


@given(
    st.sampled_from(_VALID),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    st.integers(0, 1300),
)
def test_no_damage_to_a_valid_one_breaks_it(
    message: bytes, damage: list[tuple[int, int]], end: int
) -> None:
    damaged = bytearray(message)
    for at, value in damage:
        damaged[at] = value
    _sound(bytes(damaged[:end]))
    _sound(bytes(damaged))


# --- rate ------------------------------------------------------------------------------------


def test_bursts_and_rates_are_by_destination() -> None:
    limit = RateLimit(rate=10, burst=3)
    assert [limit.allow("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert limit.allow("b", 0.0)
    assert not limit.allow("a", 0.05)
    assert limit.allow("a", 0.15)
    assert not limit.allow("a", 0.15)
    assert [limit.allow("a", 100.0) for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.floats(0, 1), max_size=200))
def test_no_schedule_gets_more_than_its_share(gaps: list[float]) -> None:
    limit = RateLimit(rate=10, burst=3)
    now = allowed = 0.0
    for gap in gaps:
        now += gap
        allowed += limit.allow("a", now)
    assert allowed <= 3 + 10 * now + 1e-6


class _Sink:
    """A socket that takes everything."""

    def __init__(self) -> None:
        self.sent = 0

    def sendmsg(self, *_: Any) -> None:
        self.sent += 1


@quickly
async def test_made_up_sources_do_not_get_more_than_all_may_have() -> None:
    """Each has a bucket of its own, and there is no end of them (RFC 4443 section 2.4 (f))."""
    sender, sink = TooBigRelay(None), _Sink()
    sender._tunnel_source = LOOPBACK
    for second in range(3):
        for number in range(1000):
            inner = _inner(source=f"2001:db8::{second:x}:{number:x}")
            sender._take(sink, _too_big(_outer(inner), 1500))  # type: ignore[arg-type]
        await asyncio.sleep(1)
    assert sink.sent == sender.relayed == ALL_BURST + 2 * ALL_RATE
    assert sender.ignored["rate"] == 3000 - sink.sent


def test_memory_is_bounded() -> None:
    limit = RateLimit(rate=1, burst=1, remembered=10)
    for number in range(100):
        assert limit.allow(number, 0.0)
    assert limit.allow(0, 0.0), "forgotten"
    assert not limit.allow(99, 0.0), "remembered"
