"""The kernel's seg6 and the programs side by side: the same frames in, the same frames out.

One router has both, from the same values. Each frame goes through it twice, without the programs
and with them, and what leaves must be equal octet by octet, link-layer header included, but for
`DIFFERENCES`: there the programs do what a standard says and the kernel does otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrSegmentRouting,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from srv6dmm.agent.host import Host
from srv6dmm.agent.translate import translate
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastFlow,
    FastPort,
    FastSteering,
)
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.objects import (
    NextHop,
    Route,
    Seg6Encap,
)
from srv6dmm.model.plan import FlowSelector, FlowSteering, SteeringList
from srv6dmm.model.sid import EncapMode
from tests.netns.wired import (
    CORE_MAC,
    CORE_PORT,
    DT6,
    DX4,
    END,
    END_X,
    FAR,
    FAR4,
    LEFT_HOP,
    LEFT_MAC,
    NATIVE,
    NEIGHBOUR,
    NODE,
    NODE4,
    NODE_PORT,
    SEGMENTS,
    SOURCE,
    Router,
    link,
    wired_router,
)

pytestmark = pytest.mark.root

ETHERNET, IPV6, UDP_HEADER = 14, 40, 8
LABEL = slice(ETHERNET + 1, ETHERNET + 4)

Frame = bytearray


@dataclass(frozen=True)
class Difference:
    """What the programs do otherwise than the kernel.

    `intend` changes the kernel's frame into the one intended; it is told where the inner header
    begins and what the programs sent.
    """

    name: str
    why: str
    intend: Callable[[Frame, int, bytes], None]


def _inner_hop_limit(frame: Frame, inner: int, _: bytes) -> None:
    frame[inner + 7] -= 1


def _inner_time_to_live(frame: Frame, inner: int, _: bytes) -> None:
    header = IP(bytes(frame[inner : inner + 20]))
    header.ttl -= 1
    del header.chksum
    frame[inner : inner + 20] = bytes(header)


def _outer_hop_limit(frame: Frame, _: int, __: bytes) -> None:
    frame[ETHERNET + 7] = 64


def _flow_label(frame: Frame, _: int, seen: bytes) -> None:
    assert label_of(seen) != 0
    frame[LABEL] = bytes([frame[ETHERNET + 1] & 0xF0 | seen[ETHERNET + 1] & 0x0F]) + seen[16:18]


def _type_of_service(frame: Frame, inner: int, _: bytes) -> None:
    service = frame[inner + 1]
    frame[ETHERNET] = 0x60 | service >> 4
    frame[ETHERNET + 1] = (service & 0x0F) << 4 | frame[ETHERNET + 1] & 0x0F


HEAD_END = (
    Difference(
        "inner hop limit",
        "RFC 8986 section 5.1: the head-end is a router to the packet and decrements",
        _inner_hop_limit,
    ),
    Difference(
        "outer hop limit",
        "RFC 2473 section 6.3: the tunnel's own; the kernel copies what the sender had left",
        _outer_hop_limit,
    ),
    Difference(
        "flow label",
        "RFC 6437 section 2.2: spread by a hash, never 0; the kernel copies what may well be 0",
        _flow_label,
    ),
)
HEAD_END_4 = (
    Difference("inner time to live", "RFC 8986 section 5.1, as for IPv6", _inner_time_to_live),
    *HEAD_END[1:],
    Difference(
        "traffic class of IPv4",
        "RFC 2983, RFC 6040 section 4.1: DSCP and ECN are copied; the kernel writes 0",
        _type_of_service,
    ),
)
# What End.DT6 does with the ECN field is a case of its own below: most packets show none of it.
ENDPOINT: tuple[Difference, ...] = ()
DIFFERENCES = {"head-end": HEAD_END, "head-end, IPv4": HEAD_END_4, "endpoint": ENDPOINT}


def label_of(frame: bytes) -> int:
    """Return the flow label of a frame's first IPv6 header."""
    return int.from_bytes(frame[LABEL], "big") & 0xFFFFF


@pytest.fixture(scope="module")
def wired() -> Iterator[Router]:
    with wired_router() as made:
        yield made


def steer(wired: Router, mode: EncapMode, segments: tuple[IPv6Address, ...]) -> None:
    """Steer the far addresses by both, IPv4 too where both have it."""
    prefix = IPv6Network("2001:db8:2::/64")
    hops = (NextHop(CORE_PORT),)
    wired.put(
        Route(prefix, next_hops=hops, encap=Seg6Encap(mode, segments)),
        FastSteering(prefix, mode, segments, SOURCE, CORE_PORT, LEFT_HOP, 1500),
    )
    if mode is EncapMode.ENCAP:
        network = IPv4Network(f"{FAR4}/32")
        wired.put(Route(network, next_hops=hops, encap=Seg6Encap(mode, segments)))
        entry = wired.maps.get("prefixes", prefix.network_address.packed[:8])
        assert entry is not None
        wired.maps.put("prefixes4", {network.network_address.packed: entry})


def check(
    slow: bytes, quick: bytes, inner: int, differences: tuple[Difference, ...] = ENDPOINT
) -> None:
    """Assert that the kernel's frame, changed as is intended, is the programs' frame."""
    intended = Frame(slow)
    for difference in differences:
        difference.intend(intended, inner, quick)
    assert bytes(intended).hex(" ") == quick.hex(" ")


INNER = {
    "udp": IPv6(src=NODE, dst=FAR, hlim=61) / UDP(sport=4001, dport=5002),
    "udp with class and label": IPv6(src=NODE, dst=FAR, tc=0xBA, fl=0x54321, hlim=255)
    / UDP(sport=4001, dport=5002),
    "tcp": IPv6(src=NODE, dst=FAR, tc=0x02, hlim=2) / TCP(sport=4001, dport=443, flags="PA"),
    "echo": IPv6(src=NODE, dst=FAR, tc=0x28) / ICMPv6EchoRequest(id=7, seq=9),
    "first fragment": IPv6(src=NODE, dst=FAR)
    / IPv6ExtHdrFragment(offset=0, m=1, id=77, nh=17)
    / Raw(b"\x0f\xa1\x13\x8a\x40\x00\x00\x00"),
    "later fragment": IPv6(src=NODE, dst=FAR) / IPv6ExtHdrFragment(offset=100, m=0, id=77, nh=17),
    "options": IPv6(src=NODE, dst=FAR) / IPv6ExtHdrDestOpt() / UDP(sport=4001, dport=5002),
    "large": IPv6(src=NODE, dst=FAR) / UDP(sport=4001, dport=5002) / Raw(bytes(1200)),
}
INNER_4 = {
    "udp": IP(src=NODE4, dst=FAR4, ttl=61) / UDP(sport=4001, dport=5002),
    "udp with class": IP(src=NODE4, dst=FAR4, tos=0xBA, ttl=2, id=7) / UDP(sport=4001, dport=5002),
    "fragment": IP(src=NODE4, dst=FAR4, flags="MF", frag=50, id=8, proto=17),
}
LISTS = [SEGMENTS[:count] for count in (1, 2, 3)]
MODES = [EncapMode.ENCAP, EncapMode.ENCAP_RED]


def outer_length(mode: EncapMode, count: int) -> int:
    """Return the octets of the outer headers."""
    listed = count if mode is EncapMode.ENCAP else count - 1
    return IPV6 + (8 + 16 * listed if listed else 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("segments", LISTS, ids=len)
def test_head_end(wired: Router, mode: EncapMode, segments: tuple[IPv6Address, ...]) -> None:
    steer(wired, mode, segments)
    inner = ETHERNET + outer_length(mode, len(segments))
    for packet in INNER.values():
        slow, quick = wired.both(NODE_PORT, packet, Reason.STEERED)
        assert bytes(IPv6(quick[inner:]))[8:40] == bytes(packet)[8:40], "not where we look"
        check(slow, quick, inner, HEAD_END)


@pytest.mark.parametrize("segments", LISTS, ids=len)
def test_head_end_of_ipv4(wired: Router, segments: tuple[IPv6Address, ...]) -> None:
    steer(wired, EncapMode.ENCAP, segments)
    inner = ETHERNET + outer_length(EncapMode.ENCAP, len(segments))
    for packet in INNER_4.values():
        slow, quick = wired.both(NODE_PORT, packet, Reason.STEERED, Facing.OUTSIDE)
        check(slow, quick, inner, HEAD_END_4)


NEAR, AWAY = IPv6Network("2001:db8:1::/64"), IPv6Network("2001:db8:2::/64")
FLOWS: dict[str, tuple[FlowSelector, set[str]]] = {
    "everything": (FlowSelector(NEAR, AWAY), set(INNER)),
    "udp": (
        FlowSelector(NEAR, AWAY, 17),
        set(INNER) - {"tcp", "echo"},
    ),
    "a port": (
        FlowSelector(NEAR, AWAY, 17, None, (5002, 5002)),
        set(INNER) - {"tcp", "echo", "later fragment"},
    ),
    "5-tuple": (
        FlowSelector(
            IPv6Network(f"{NODE}/128"), IPv6Network(f"{FAR}/128"), 6, (4001, 4001), (443, 443)
        ),
        {"tcp"},
    ),
    "dscp": (FlowSelector(NEAR, AWAY, dscp=0x0A), {"echo"}),
    "icmp": (FlowSelector(NEAR, AWAY, 58), {"echo"}),
}
BY_PREFIX, BY_FLOW = SEGMENTS[:1], SEGMENTS[1:]
# Linux reads no ports in a fragment, not in the first either; docs/flows.md.
NO_PORTS_IN_LINUX = {("a port", "first fragment")}


@pytest.mark.parametrize("uplink", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_flow(wired: Router, name: str, uplink: bool) -> None:
    """Which packets a rule takes, and what they become."""
    steer(wired, EncapMode.ENCAP_RED, BY_PREFIX)
    selector, taken = FLOWS[name]
    way = SteeringList(BY_FLOW, CORE_PORT, LEFT_HOP, 1500)
    entry = FlowSteering("f", selector, 3, (way,), EncapMode.ENCAP_RED, "mn", uplink=uplink)
    host = Host(encap_red=True, sid_interfaces=(CORE_PORT,), fast=True, source=SOURCE)
    objects = translate(entry, host)
    wired.put(*objects)
    try:
        for kind, packet in INNER.items():
            before = wired.fast.reasons()[Reason.FLOW_RULES]
            slow, quick = wired.both(NODE_PORT, packet, Reason.STEERED)
            assert wired.fast.reasons()[Reason.FLOW_RULES] == before
            segments = BY_FLOW if kind in taken else BY_PREFIX
            assert quick[ETHERNET + 24 : ETHERNET + 40] == segments[0].packed, kind
            if (name, kind) in NO_PORTS_IN_LINUX:
                assert slow[ETHERNET + 24 : ETHERNET + 40] == BY_PREFIX[0].packed
                continue
            inner = ETHERNET + outer_length(EncapMode.ENCAP_RED, len(segments))
            check(slow, quick, inner, HEAD_END)
    finally:
        native = [item for item in objects if item.identity[0] in NATIVE]
        assert wired.fast.delete([one for one in objects if isinstance(one, FastFlow)]) == []
        assert wired.kernel.delete(native) == []  # type: ignore[arg-type]


def test_flow_labels_keep_flows_together_and_apart(wired: Router) -> None:
    """What `flow label` allows: the same for a flow's packets, another for others."""
    steer(wired, EncapMode.ENCAP_RED, SEGMENTS[:1])
    packet = INNER["udp"]
    ports = FastPort(NODE_PORT, Facing.ACCESS)
    wired.put(ports)
    try:
        labels = [
            label_of(wired.through(NODE_PORT, IPv6(src=NODE, dst=FAR) / UDP(sport=port, dport=9)))
            for port in (*range(1024, 1056), 1024)
        ]
        twice = [label_of(wired.through(NODE_PORT, packet)) for _ in range(2)]
    finally:
        assert wired.fast.delete([ports]) == []
    assert labels[0] == labels[-1]
    assert twice[0] == twice[1]
    assert len(set(labels[:-1])) >= 31


def at_sid(
    sid: IPv6Address,
    behind: tuple[IPv6Address, ...],
    before: int,
    following: int = 41,
    **fields: int,
) -> Packet:
    """Return outer headers of a packet now at a SID: `behind` follow, `before` came before."""
    listed = [*behind[::-1], sid, *SEGMENTS[:before]]
    return IPv6(src=NEIGHBOUR, dst=str(sid), nh=43, **fields) / IPv6ExtHdrSegmentRouting(
        nh=following,
        len=2 * len(listed),
        segleft=len(behind),
        lastentry=len(listed) - 1,
        addresses=[str(segment) for segment in listed],
    )


TO_NODE = IPv6(src=FAR, dst=NODE, tc=0x28, fl=0x12345, hlim=60) / UDP(sport=5002, dport=4001)


@pytest.mark.parametrize(("sid", "count"), list(itertools.product((END, END_X), (1, 2, 3))))
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("hop_limit", [2, 3, 64, 255])
def test_endpoint(wired: Router, sid: IPv6Address, count: int, before: int, hop_limit: int) -> None:
    packet = at_sid(sid, SEGMENTS[:count], before, hlim=hop_limit, tc=0x29, fl=0xABCDE) / TO_NODE
    slow, quick = wired.both(CORE_PORT, packet, Reason.ENDPOINT)
    assert slow[ETHERNET + 7] == hop_limit - 1
    check(slow, quick, ETHERNET + IPV6)


@pytest.mark.parametrize("before", [None, 0, 1, 2])
@pytest.mark.parametrize("name", INNER)
def test_decapsulation(wired: Router, before: int | None, name: str) -> None:
    """`before`: segments that came before, or no SRH at all."""
    inner = INNER[name].copy()
    inner.src, inner.dst = FAR, NODE
    if before is None:
        packet: Packet = IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41, tc=inner.tc, hlim=9) / inner
    else:
        packet = at_sid(DT6, (), before, tc=inner.tc, hlim=9) / inner
    slow, quick = wired.both(CORE_PORT, packet, Reason.DELIVERED)
    assert len(quick) < len(packet)
    check(slow, quick, ETHERNET)


@pytest.mark.parametrize("before", [None, 0, 1, 2])
@pytest.mark.parametrize("name", INNER_4)
def test_decapsulation_of_ipv4(wired: Router, before: int | None, name: str) -> None:
    inner = INNER_4[name].copy()
    inner.src, inner.dst = FAR4, NODE4
    if before is None:
        packet: Packet = IPv6(src=NEIGHBOUR, dst=str(DX4), nh=4, hlim=9) / inner
    else:
        packet = at_sid(DX4, (), before, hlim=9, following=4) / inner
    slow, quick = wired.both(CORE_PORT, packet, Reason.DELIVERED)
    assert len(quick) < len(packet)
    check(slow, quick, ETHERNET)


TRAILED = {
    "steer": (NODE_PORT, INNER["udp"], Reason.STEERED),
    "end": (CORE_PORT, at_sid(END, SEGMENTS[:2], 0, hlim=9) / TO_NODE, Reason.ENDPOINT),
    "end.x": (CORE_PORT, at_sid(END_X, SEGMENTS[:2], 0, hlim=9) / TO_NODE, Reason.ENDPOINT),
    "dt6": (CORE_PORT, at_sid(DT6, (), 0, hlim=9) / TO_NODE, Reason.DELIVERED),
    "dx4": (
        CORE_PORT,
        at_sid(DX4, (), 0, hlim=9, following=4) / IP(src=FAR4, dst=NODE4) / UDP(sport=5, dport=4),
        Reason.DELIVERED,
    ),
}


@pytest.mark.parametrize("name", TRAILED)
def test_what_follows_a_packet_in_its_frame_stays_behind(wired: Router, name: str) -> None:
    """Octets of somebody's memory, as like as not: the kernel forwards none of them either."""
    steer(wired, EncapMode.ENCAP, SEGMENTS[:1])
    port, packet, reason = TRAILED[name]
    slow, quick = wired.both(port, packet, reason, trailer=b"trailer " * 20)
    inner = ETHERNET + outer_length(EncapMode.ENCAP, 1)
    check(slow, quick, inner, HEAD_END if name == "steer" else ENDPOINT)
    assert b"trailer" not in quick


TAGS = (Dot1Q(vlan=0), Dot1Q(vlan=0, prio=5))


@pytest.mark.parametrize("tag", TAGS, ids=["0", "priority"])
@pytest.mark.parametrize("name", TRAILED)
def test_a_priority_tag(wired: Router, name: str, tag: Packet) -> None:
    """IEEE 802.1Q: such a frame is of no VLAN, and its tag goes no further."""
    steer(wired, EncapMode.ENCAP, SEGMENTS[:1])
    port, packet, reason = TRAILED[name]
    slow, quick = wired.both(port, tag / packet, reason)
    inner = ETHERNET + outer_length(EncapMode.ENCAP, 1)
    check(slow, quick, inner, HEAD_END if name == "steer" else ENDPOINT)


@pytest.mark.parametrize("fields", [{}, {"flags": "DF"}], ids=["any", "df"])
def test_ipv4_too_large_to_deliver_is_the_kernels(wired: Router, fields: dict[str, str]) -> None:
    """It is cut up, or its sender is told: nothing larger than the port takes is sent to it."""
    inner = IP(src=FAR4, dst=NODE4, **fields) / UDP(sport=1, dport=2) / Raw(bytes(1473))
    mark = wired.mark()
    packet = IPv6(src=NEIGHBOUR, dst=str(DX4), nh=4) / inner
    follower = IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41) / TO_NODE
    wired.space.ip("link", "set", CORE_PORT, "mtu", "3000")
    wired.left.ip("link", "set", "l0", "mtu", "3000")
    try:
        with wired.programs():
            before = wired.fast.reasons()[Reason.OVERSIZE]
            sent = bytes(link(CORE_PORT) / packet / Raw(mark))
            found = wired.comes_out(CORE_PORT, sent, mark, follower)
            assert wired.fast.reasons()[Reason.OVERSIZE] == before + 1
    finally:
        wired.left.ip("link", "set", "l0", "mtu", "1500")
        wired.space.ip("link", "set", CORE_PORT, "mtu", "1500")
    if fields:
        assert found == []
    else:
        (last,) = found
        assert Ether(last)[IP].frag > 0


NOT_ECT, ECT1, ECT0, CE = range(4)


@pytest.mark.parametrize(
    ("outer", "inner"), [pair for pair in itertools.product(range(4), range(4)) if pair != (CE, 0)]
)
def test_ecn_at_decapsulation(wired: Router, outer: int, inner: int) -> None:
    """The kernel's endpoints forget the outer field; the programs do RFC 6040 section 4.2."""
    payload = IPv6(src=FAR, dst=NODE, tc=0xB8 | inner, fl=5) / UDP(sport=5002, dport=4001)
    packet = IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41, tc=0x40 | outer) / payload
    slow, quick = wired.both(CORE_PORT, packet, Reason.DELIVERED)
    expected = CE if outer == CE else ECT1 if (outer, inner) == (ECT1, ECT0) else inner
    intended = Frame(slow)
    assert slow[ETHERNET + 1] >> 4 & 3 == inner
    intended[ETHERNET + 1] = slow[ETHERNET + 1] & 0xCF | expected << 4
    assert bytes(intended).hex(" ") == quick.hex(" ")


@pytest.mark.parametrize(
    ("outer", "inner"), [pair for pair in itertools.product(range(4), range(4)) if pair != (CE, 0)]
)
def test_ecn_at_decapsulation_of_ipv4(wired: Router, outer: int, inner: int) -> None:
    payload = IP(src=FAR4, dst=NODE4, tos=0xB8 | inner, ttl=9) / UDP(sport=5002, dport=4001)
    packet = IPv6(src=NEIGHBOUR, dst=str(DX4), nh=4, tc=0x40 | outer) / payload
    slow, quick = wired.both(CORE_PORT, packet, Reason.DELIVERED)
    expected = CE if outer == CE else ECT1 if (outer, inner) == (ECT1, ECT0) else inner
    intended = Ether(slow)
    assert intended[IP].tos == 0xB8 | inner
    intended[IP].tos = 0xB8 | expected
    del intended[IP].chksum
    assert bytes(intended).hex(" ") == quick.hex(" ")


def test_congestion_that_cannot_be_told_is_a_drop(wired: Router) -> None:
    """CE outside and not-ECT inside: RFC 6040 section 4.2 says drop; the kernel lets it pass."""
    payload = IPv6(src=FAR, dst=NODE, tc=0xB8) / UDP(sport=5002, dport=4001)
    packet = IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41, tc=CE) / payload
    assert wired.through(CORE_PORT, packet)[ETHERNET : ETHERNET + 2] == b"\x6b\x80"
    port = FastPort(CORE_PORT, Facing.CORE)
    wired.put(port)
    try:
        before = wired.fast.reasons()[Reason.ECN]
        wired.taps[CORE_PORT].send(bytes(Ether(src=LEFT_MAC, dst=CORE_MAC) / packet))
        # One that passes behind it: whatever came of the first would have come before.
        follower = INNER["udp"].copy()
        follower.src, follower.dst = FAR, NODE
        outer = IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41)
        assert wired.through(CORE_PORT, outer / follower)[38:54] == IPv6Address(NODE).packed
        assert wired.fast.reasons()[Reason.ECN] == before + 1
    finally:
        assert wired.fast.delete([port]) == []
