"""Packets of live probes, against scapy: as asked, marked at the end, and never taken for good."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrSegmentRouting

from srv6dmm.core.fib_walk import Packet
from srv6dmm.core.marked_packet import marked_packet, read_packet, unfit

TOKEN = bytes(range(8))
SOURCE, DESTINATION = IPv6Address("2001:db8:a1::7"), IPv6Address("2001:db8:cafe::2")
SIDS = tuple(IPv6Address(f"fc00:0:{number}::e00") for number in range(1, 5))


def packet(protocol: int, **more: Any) -> Packet:
    return Packet(SOURCE, DESTINATION, protocol, 1000, 2000, **more)


@pytest.mark.parametrize(("protocol", "layer"), [(17, UDP), (6, TCP), (58, ICMPv6EchoRequest)])
def test_the_upper_layer_is_as_asked_but_for_its_checksum(protocol: int, layer: Any) -> None:
    made = marked_packet(packet(protocol, dscp=46), TOKEN)
    read = IPv6(made)
    assert (read.src, read.dst, read.nh) == (str(SOURCE), str(DESTINATION), protocol)
    assert read.tc >> 2 == 46
    assert read.plen == len(made) - 40
    assert made.endswith(TOKEN)
    upper = read[layer]
    if protocol != 58:
        assert (upper.sport, upper.dport) == (1000, 2000)
    field = "cksum" if protocol == 58 else "chksum"
    wrong = getattr(upper, field)
    right = read.copy()
    delattr(right[layer], field)
    right = IPv6(bytes(right))
    assert right[layer].getfieldval(field) != wrong
    assert wrong != 0, "0 is no checksum at all (RFC 8200 section 8.1)"


@given(st.binary(min_size=8, max_size=8), st.integers(0, 65535), st.integers(0, 65535))
def test_no_token_makes_a_checksum_right(token: bytes, sport: int, dport: int) -> None:
    made = marked_packet(Packet(SOURCE, DESTINATION, 17, sport, dport), token)
    again = IPv6(made)
    wrong = again[UDP].chksum
    del again[UDP].chksum
    assert IPv6(bytes(again))[UDP].chksum != wrong != 0


@pytest.mark.parametrize("protocol", [59, 47, 132, 33, 136, 255])
def test_others_end_in_the_token_too(protocol: int) -> None:
    made = marked_packet(packet(protocol), TOKEN)
    assert made.endswith(TOKEN)
    assert len(made) >= 48, "an Ethernet frame of it needs no padding"
    assert IPv6(made).nh == protocol


@pytest.mark.parametrize("protocol", [0, 43, 44, 60])
def test_an_extension_header_is_no_upper_layer(protocol: int) -> None:
    assert "extension header" in (unfit(packet(protocol)) or "")
    with pytest.raises(ValueError, match="extension header"):
        marked_packet(packet(protocol), TOKEN)


@pytest.mark.parametrize("protocol", [6, 17, 33, 132, 136])
def test_ports_that_are_not_known_are_not_made_up(protocol: int) -> None:
    with pytest.raises(ValueError, match="needs sport and dport"):
        marked_packet(Packet(SOURCE, DESTINATION, protocol, 1000, None), TOKEN)


@pytest.mark.parametrize("left", [0, 1, 2, 3])
@pytest.mark.parametrize("reduced", [False, True])
def test_outer_headers_are_read_as_segments_left(left: int, reduced: bool) -> None:
    """Whole SRH or reduced one (RFC 8754 section 4.1.1): the same segments are left."""
    inner = marked_packet(packet(17), TOKEN)
    listed = [str(sid) for sid in reversed(SIDS[1:] if reduced else SIDS)]
    routing = IPv6ExtHdrSegmentRouting(addresses=listed, segleft=left, lastentry=len(listed) - 1)
    outer = IPv6(src="fc00:0:9::1", dst=str(SIDS[3 - left]), hlim=60) / routing / IPv6(inner)
    seen = read_packet(bytes(outer))
    assert seen is not None
    assert seen.headers == (SIDS[3 - left :],)
    assert (seen.source, seen.destination, seen.protocol) == (SOURCE, DESTINATION, 17)
    assert seen.hop_limit == 60


def test_headers_over_headers_come_with_the_outermost_last() -> None:
    inner = IPv6(marked_packet(packet(59), TOKEN))
    both = IPv6(dst=str(SIDS[0])) / (IPv6(dst=str(SIDS[1])) / inner)
    seen = read_packet(bytes(both))
    assert seen is not None
    assert seen.headers == ((SIDS[1],), (SIDS[0],))


def test_a_bare_packet_has_no_outer_header() -> None:
    seen = read_packet(marked_packet(packet(6), TOKEN))
    assert seen is not None
    assert (seen.headers, seen.protocol, seen.hop_limit) == ((), 6, 64)


@given(st.binary(max_size=200))
def test_noise_is_no_packet_and_no_fault(data: bytes) -> None:
    read_packet(data)
    read_packet(b"\x60" + data)


@given(st.integers(0, 160))
def test_a_packet_cut_short_is_no_fault(length: int) -> None:
    routing = IPv6ExtHdrSegmentRouting(addresses=[str(SIDS[0])], segleft=1)
    whole = IPv6(dst=str(SIDS[1])) / routing / IPv6(marked_packet(packet(17), TOKEN))
    read_packet(bytes(whole)[:length])
