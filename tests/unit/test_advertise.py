"""Router Advertisements: their bytes, and who is told when."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srv6dmm.agent.advertise import PERIOD_S, Advertiser, period_s
from srv6dmm.agent.icmp import type_filter
from srv6dmm.agent.router_advertisement import (
    Solicitation,
    encode_advertisement,
    packet_to_all_nodes,
    parse_solicitation,
)
from srv6dmm.model.plan import AdvertisedPrefix
from tests.agents import AWAY, HOME, NODE, NODE_MAC, SETTINGS, advertisement

MAC = "02:00:5e:00:64:01"
TWO = advertisement(AdvertisedPrefix(AWAY, 7200, 0), AdvertisedPrefix(HOME, 7200, 3600), epoch=2)


# --- bytes -----------------------------------------------------------------------------------


def test_golden_bytes() -> None:
    assert encode_advertisement(TWO, MAC) == bytes.fromhex(
        "86 00 0000"  # type 134, code, checksum (the kernel's work)
        "40 00 0708 00000000 00000000"  # hop limit 64, no flags, lifetime 1800, unspecified timers
        "01 01 02005e006401"  # source link-layer address
        "05 01 0000 0000058c"  # MTU 1420
        "03 04 40 40 00001c20 00000000 00000000 20010db8000200010000000000000000"  # A, not L
        "03 04 40 40 00001c20 00000e10 00000000 20010db8000100010000000000000000"
    )


def test_the_packet_is_to_all_nodes_and_its_checksum_is_right() -> None:
    from scapy.layers.inet6 import IPv6

    packet = packet_to_all_nodes(IPv6Address("fe80::1"), encode_advertisement(TWO, MAC))
    seen = IPv6(packet)
    assert (seen.src, seen.dst, seen.hlim, seen.nh) == ("fe80::1", "ff02::1", 255, 58)
    del seen[1].cksum
    assert bytes(IPv6(bytes(seen))) == packet


def _dissected(message: bytes) -> Any:
    from scapy.layers.inet6 import ICMPv6ND_RA

    return ICMPv6ND_RA(message)


_prefixes = st.lists(
    st.builds(
        AdvertisedPrefix,
        st.integers(0, 2**64 - 1).map(lambda n: IPv6Network((n << 64, 64))),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    ),
    max_size=5,
)


@given(_prefixes, st.integers(1280, 65535), st.integers(0, 65535))
def test_another_implementation_reads_what_was_meant(
    prefixes: list[AdvertisedPrefix], mtu: int, lifetime_s: int
) -> None:
    from scapy.layers.inet6 import (
        ICMPv6NDOptMTU,
        ICMPv6NDOptPrefixInfo,
        ICMPv6NDOptSrcLLAddr,
    )

    planned = replace(
        advertisement(mtu=mtu), prefixes=tuple(prefixes), router_lifetime_s=lifetime_s
    )
    message = encode_advertisement(planned, MAC)
    seen = _dissected(message)
    assert (seen.type, seen.code, seen.chlim) == (134, 0, 64)
    assert (seen.M, seen.O, seen.H, seen.prf, seen.res) == (0, 0, 0, 0, 0)
    assert (seen.routerlifetime, seen.reachabletime, seen.retranstimer) == (lifetime_s, 0, 0)
    assert seen[ICMPv6NDOptSrcLLAddr].lladdr == MAC
    assert seen[ICMPv6NDOptMTU].mtu == mtu
    options = []
    layer = seen.getlayer(ICMPv6NDOptPrefixInfo)
    while layer is not None:
        assert (layer.len, layer.L, layer.A, layer.R, layer.res1, layer.res2) == (4, 0, 1, 0, 0, 0)
        options.append(
            (layer.prefix, layer.prefixlen, layer.validlifetime, layer.preferredlifetime)
        )
        layer = layer.payload.getlayer(ICMPv6NDOptPrefixInfo)
    assert options == [
        (str(p.prefix.network_address), 64, p.valid_s, min(p.preferred_s, p.valid_s))
        for p in prefixes
    ]


def test_lifetimes_too_long_for_their_fields_become_the_longest() -> None:
    long = replace(advertisement(AdvertisedPrefix(HOME, 2**33, 2**33)), router_lifetime_s=100_000)
    message = encode_advertisement(long, MAC)
    assert struct.unpack_from("!H", message, 6)[0] == 0xFFFF
    assert struct.unpack_from("!II", message, len(message) - 28) == (0xFFFFFFFF, 0xFFFFFFFF)


# --- solicitations ---------------------------------------------------------------------------

RS = bytes.fromhex("85 00 0000 00000000")
WITH_MAC = RS + bytes.fromhex("01 01 020000000007")


def test_solicitations_are_understood() -> None:
    assert parse_solicitation(RS, f"{NODE}%access", 255) == Solicitation(NODE, None)
    assert parse_solicitation(WITH_MAC, str(NODE), 255) == Solicitation(NODE, NODE_MAC)
    assert parse_solicitation(RS, "::", 255) == Solicitation(IPv6Address("::"), None)
    unknown_option = WITH_MAC + bytes.fromhex("0e 01 000000000000")
    assert parse_solicitation(unknown_option, str(NODE), 255) == Solicitation(NODE, NODE_MAC)


@pytest.mark.parametrize(
    ("message", "source", "hop_limit"),
    [
        (RS, str(NODE), 254),
        (RS[:7], str(NODE), 255),
        (bytes((133, 1)) + RS[2:], str(NODE), 255),
        (bytes((134,)) + RS[1:], str(NODE), 255),
        (RS, "2001:db8::7", 255),
        (WITH_MAC, "::", 255),
        (RS + bytes.fromhex("01 00 020000000007"), str(NODE), 255),
        (RS + bytes.fromhex("01 02 020000000007"), str(NODE), 255),
        (RS + b"\x01", str(NODE), 255),
    ],
)
def test_what_is_no_valid_solicitation_is_ignored(
    message: bytes, source: str, hop_limit: int
) -> None:
    assert parse_solicitation(message, source, hop_limit) is None


@given(st.binary(max_size=64))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    parse_solicitation(data, str(NODE), 255)
    parse_solicitation(RS + data, str(NODE), 255)


def test_the_filter_lets_one_type_through() -> None:
    # <netinet/icmp6.h>: a set bit blocks.
    words = struct.unpack("@8I", type_filter(133))
    blocked = {
        32 * number + bit for number in range(8) for bit in range(32) if words[number] >> bit & 1
    }
    assert blocked == set(range(256)) - {133}


# --- when ------------------------------------------------------------------------------------


class _Recorded(Advertiser):
    """An advertiser whose messages go to a list instead of a socket."""

    def __init__(self) -> None:
        super().__init__(None)
        self.log: list[tuple[float, str, int]] = []
        self._began = asyncio.get_running_loop().time()

    def _send(self, node: Any) -> None:
        at = asyncio.get_running_loop().time() - self._began
        told = node.advertisement
        self.log.append((round(at, 1), told.link_layer_address, told.epoch))


class _Clock(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._jumped = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            ready = select(0)
            if not ready and timeout:
                self._jumped += timeout
            return ready

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._jumped


def _run(work: Any) -> None:
    with asyncio.Runner(loop_factory=_Clock) as runner:
        runner.run(work)


def test_a_new_arrival_is_told_at_once_again_soon_and_then_seldom() -> None:
    async def work() -> None:
        sender = _Recorded()
        sender.put(advertisement())
        assert sender.log == [(0.0, NODE_MAC, 1)]
        await asyncio.sleep(450)
        assert [at for at, _, _ in sender.log] == [0.0, 1.0, 3.0, 200.0, 400.0]

    _run(work())


def test_the_same_again_says_nothing_and_a_new_epoch_speaks_at_once() -> None:
    async def work() -> None:
        sender = _Recorded()
        sender.put(advertisement())
        await asyncio.sleep(0.5)
        sender.put(advertisement())
        assert len(sender.log) == 1
        sender.put(TWO)
        assert sender.log[1:] == [(0.5, NODE_MAC, 2)]
        await asyncio.sleep(100)
        assert sender.log[2:] == [(1.5, NODE_MAC, 2), (3.5, NODE_MAC, 2)]

    _run(work())


def test_what_is_gone_is_sent_no_more() -> None:
    async def work() -> None:
        sender = _Recorded()
        sender.put(advertisement())
        sender.put(TWO)
        sender.keep_only([TWO.key])
        sender.remove(TWO.key)
        sender.remove("advertise nobody/0")
        await asyncio.sleep(1000)
        assert len(sender.log) == 2

    _run(work())


def test_the_period_is_a_third_of_the_shortest_lifetime_that_counts() -> None:
    assert period_s(advertisement()) == PERIOD_S
    assert period_s(TWO) == PERIOD_S, "a preferred lifetime of 0 does not count"
    assert period_s(advertisement(AdvertisedPrefix(HOME, 7200, 60))) == 20
    assert period_s(replace(advertisement(), router_lifetime_s=90)) == 30
    assert period_s(advertisement(AdvertisedPrefix(HOME, 1, 1))) == 1


def test_a_solicitation_is_answered_and_an_unknown_node_is_not() -> None:
    async def work() -> None:
        sender = _Recorded()
        sender.put(advertisement())
        sender.answer(Solicitation(NODE, None))
        assert len(sender.log) == 2
        sender.answer(Solicitation(IPv6Address("fe80::bad"), "02:00:00:00:00:99"))
        sender.answer(Solicitation(IPv6Address("::"), None))
        assert (len(sender.log), sender.unknown) == (2, 2)
        sender.remove(advertisement().key)
        sender.answer(Solicitation(NODE, NODE_MAC))
        assert (len(sender.log), sender.unknown) == (2, 3)

    _run(work())


def test_a_node_with_another_link_local_address_is_known_by_its_mac() -> None:
    async def work() -> None:
        sender = _Recorded()
        sender.put(advertisement())
        for text in ("fe80::1234", "fe80::5678"):
            sender.answer(Solicitation(IPv6Address(text), NODE_MAC))
            assert sender.log[-1][1] == NODE_MAC
        assert (len(sender.log), sender.unknown) == (3, 0)
        sender.answer(Solicitation(IPv6Address("fe80::1234"), None))
        assert sender.unknown == 1

    _run(work())


def test_a_node_that_keeps_asking_does_not_keep_being_answered() -> None:
    async def work() -> None:
        sender = _Recorded()
        sender.put(advertisement())
        for _ in range(1000):
            sender.answer(Solicitation(NODE, None))
        assert len(sender.log) == 11
        await asyncio.sleep(0.9)
        for _ in range(1000):
            sender.answer(Solicitation(NODE, None))
        assert len(sender.log) == 15

    _run(work())


def test_without_a_socket_nothing_is_sent_and_that_is_counted() -> None:
    async def work() -> None:
        sender = Advertiser(None)
        sender.put(advertisement())
        assert (sender.sent, sender.unsent) == (0, 1)
        sender.configure(replace(SETTINGS, access_interface="nosuchdevice0"))
        sender.put(TWO)
        assert (sender.sent, sender.unsent) == (0, 2)
        sender.close()

    _run(work())
