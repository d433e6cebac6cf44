"""The kernel's seg6 and the programs side by side: the same frames in, the same frames out.

One router has both, from the same values. Each frame goes through it twice, without the programs
and with them, and what leaves must be equal octet by octet, link-layer header included, but for
`DIFFERENCES`: there the programs do what a standard says and the kernel does otherwise.
"""

from __future__ import annotations

import itertools
import select
import shutil
import socket
import time
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
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from srv6dmm.agent.host import Host
from srv6dmm.agent.translate import translate
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastFlow,
    FastPort,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.objects import (
    InterfaceAddress,
    KernelObject,
    LinkAddress,
    Neighbour,
    NextHop,
    Route,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.plan import FlowSelector, FlowSteering, SteeringList
from srv6dmm.model.sid import Behavior, EncapMode
from tests.netns.kernels import Space, cable, spaces

pytestmark = pytest.mark.root

NODE_MAC, ACCESS_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
CORE_MAC, LEFT_MAC = "02:00:00:00:00:03", "02:00:00:00:00:04"
NODE_PORT, CORE_PORT = "a0", "left"
NODE, FAR = "2001:db8:1::9", "2001:db8:2::2"
NODE4, FAR4 = "10.1.0.9", "192.0.2.8"
BLOCK = IPv6Network("fc00::/16")
SOURCE = IPv6Address("fc00:9::1")
NEIGHBOUR = "fc00:8::1"
SEGMENTS = tuple(IPv6Address(f"fc00:{index}::e00{index}") for index in (3, 1, 2))
END, END_X, DT6 = (IPv6Address(f"fc00:9:0:{code}::") for code in ("e00", "f01", "d06"))
NODE_HOP, LEFT_HOP = IPv6Address("fe80::9"), IPv6Address("fe80::2")
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


class Router:
    """Both ways through one router: `node` is at its access port, `left` at its core port."""

    def __init__(self, router: Space, node: Space, left: Space) -> None:
        self.kernel = LinuxKernel(router.name)
        pins.mount()
        self.place = pins.directory(router.name)
        loader.load(self.place)
        self.fast = FastPath(router.name, self.place)
        self.maps = Maps(self.place)
        self.taps = {NODE_PORT: tap(node, "h0"), CORE_PORT: tap(left, "l0")}
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Close and unpin everything."""
        for one in self.taps.values():
            one.close()
        self.maps.close()
        self.fast.close()
        self.kernel.close()
        shutil.rmtree(self.place.parent)

    def put(self, *objects: KernelObject) -> None:
        """Put objects where they belong; none may be refused."""
        native = [item for item in objects if item.identity[0] in NATIVE]
        fast = [item for item in objects if item.identity[0] not in NATIVE]
        assert self.kernel.put(native) == []  # type: ignore[arg-type]
        assert self.fast.put(fast) == []  # type: ignore[arg-type]

    def mark(self) -> bytes:
        """Return a payload that no frame had before."""
        return f"packet {next(self._numbers):06}".encode()

    def through(self, port: str, packet: Packet, mark: bytes = b"") -> bytes:
        """Send a packet into a port; return the one frame with its payload that comes out."""
        mark = mark or self.mark()
        for one in self.taps.values():
            while select.select([one], [], [], 0)[0]:
                one.recv(65_536)
        macs = (NODE_MAC, ACCESS_MAC) if port == NODE_PORT else (LEFT_MAC, CORE_MAC)
        frame = bytes(Ether(src=macs[0], dst=macs[1]) / packet / Raw(mark))
        self.taps[port].send(frame)
        until = time.monotonic() + 3
        while (rest := until - time.monotonic()) > 0:
            for ready in select.select(list(self.taps.values()), [], [], rest)[0]:
                found: bytes = ready.recv(65_536)
                if mark in found and found != frame:
                    return found
        pytest.fail(f"nothing came out for {packet.summary()}")

    def both(self, port: str, packet: Packet, reason: Reason) -> tuple[bytes, bytes]:
        """Return what the kernel and what the programs make of a packet.

        The latter must count the given reason: else the kernel has forwarded it once more.
        """
        mark = self.mark()
        slow = self.through(port, packet, mark)
        ports = (FastPort(NODE_PORT, Facing.ACCESS), FastPort(CORE_PORT, Facing.CORE))
        assert self.fast.put(ports) == []
        try:
            before = self.fast.reasons()
            quick = self.through(port, packet, mark)
            after = self.fast.reasons()
        finally:
            assert self.fast.delete(ports) == []
        counted = {one: after[one] - before[one] for one in after if after[one] != before[one]}
        assert counted.get(reason) == 1, f"{packet.summary()}: counted as {counted}"
        return slow, quick


NATIVE = ("rule", "route", "neighbour", "address", "tunsrc", "sysctl", "link")


def tap(space: Space, interface: str) -> socket.socket:
    """Open an interface for whole frames, both ways."""
    with namespace.inside(space.name):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        made.bind((interface, 0x0003))
    return made


@pytest.fixture(scope="module")
def wired() -> Iterator[Router]:
    with spaces(3) as (router, node, left):
        for space in (node, left):
            kernel = LinuxKernel(space.name)
            quiet = Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
            assert kernel.put([quiet]) == []
            kernel.close()
        cable(node, "h0", router, NODE_PORT)
        cable(left, "l0", router, CORE_PORT)
        made = Router(router, node, left)
        try:
            route = IPv6Network("::/0"), NextHop(CORE_PORT, LEFT_HOP)
            made.put(
                Sysctl("net/ipv6/conf/all/forwarding", "1"),
                Sysctl("net/ipv4/ip_forward", "1"),
                Sysctl("net/ipv4/conf/all/rp_filter", "0"),
                Sysctl(f"net/ipv4/conf/{NODE_PORT}/rp_filter", "0"),
                Sysctl(f"net/ipv6/conf/{CORE_PORT}/accept_dad", "0"),
                LinkAddress(NODE_PORT, ACCESS_MAC),
                LinkAddress(CORE_PORT, CORE_MAC),
                InterfaceAddress(NODE_PORT, IPv6Address("fe80::1"), 64),
                InterfaceAddress(CORE_PORT, IPv6Address("fe80::3"), 64),
                InterfaceAddress("lo", SOURCE, 128),
                TunnelSource(SOURCE),
                Neighbour(CORE_PORT, LEFT_HOP, LEFT_MAC),
                Neighbour(NODE_PORT, NODE_HOP, NODE_MAC),
                Route(route[0], next_hops=(route[1],)),
                Route(IPv6Network("2001:db8:1::/64"), next_hops=(NextHop(NODE_PORT, NODE_HOP),)),
                *(
                    Route(
                        IPv6Network((sid, 128)),
                        next_hops=(NextHop(CORE_PORT),),
                        encap=Seg6Local(behavior, next_hop=hop, table=table),
                    )
                    for sid, behavior, hop, table in (
                        (END, Behavior.END, None, None),
                        (END_X, Behavior.END_X, LEFT_HOP, None),
                        (DT6, Behavior.END_DT6, None, 254),
                    )
                ),
                FastSettings(BLOCK),
                FastBinding(IPv6Network("2001:db8:1::/64"), NODE_PORT, NODE_MAC),
                FastDelivery(IPv6Network("2001:db8:1::/64"), NODE_PORT, NODE_MAC, NODE_HOP, 1500),
                FastSid(END, Behavior.END),
                FastSid(END_X, Behavior.END_X, CORE_PORT, LEFT_HOP),
                FastSid(DT6, Behavior.END_DT6),
            )
            yield made
        finally:
            made.close()


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
        slow, quick = wired.both(NODE_PORT, packet, Reason.STEERED)
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


def at_sid(sid: IPv6Address, behind: tuple[IPv6Address, ...], before: int, **fields: int) -> Packet:
    """Return outer headers of a packet now at a SID: `behind` follow, `before` came before."""
    listed = [*behind[::-1], sid, *SEGMENTS[:before]]
    return IPv6(src=NEIGHBOUR, dst=str(sid), nh=43, **fields) / IPv6ExtHdrSegmentRouting(
        nh=41,
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


NOT_ECT, ECT1, ECT0, CE = range(4)


@pytest.mark.parametrize(
    ("outer", "inner"), [pair for pair in itertools.product(range(4), range(4)) if pair != (CE, 0)]
)
def test_ecn_at_decapsulation(wired: Router, outer: int, inner: int) -> None:
    """The kernel's End.DT6 forgets the outer field; the programs do RFC 6040 section 4.2."""
    payload = IPv6(src=FAR, dst=NODE, tc=0xB8 | inner, fl=5) / UDP(sport=5002, dport=4001)
    packet = IPv6(src=NEIGHBOUR, dst=str(DT6), nh=41, tc=0x40 | outer) / payload
    slow, quick = wired.both(CORE_PORT, packet, Reason.DELIVERED)
    expected = CE if outer == CE else ECT1 if (outer, inner) == (ECT1, ECT0) else inner
    intended = Frame(slow)
    assert slow[ETHERNET + 1] >> 4 & 3 == inner
    intended[ETHERNET + 1] = slow[ETHERNET + 1] & 0xCF | expected << 4
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
