"""A router for the tests: its ports, nodes, paths and SIDs, and frames by scapy.

Addresses are chosen so that no two SIDs have the same sum of 16-bit words: a checksum that was
left as it was could not be told from a right one otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.bpf.running import DEVICES
from tests.bpf.tables import (
    ACCESS,
    CORE,
    DELIVER,
    DROP,
    ENCAP,
    END,
    END_DT6,
    END_DX4,
    END_MAP,
    END_X,
    KERNEL,
    OUTSIDE,
    PEER,
    PSP,
    REDIRECTABLE,
    Binding,
    Delivery,
    Exact,
    Flow,
    Path,
    Port,
    Rule,
    Ruleset,
    Sid,
    Steer,
    Tables,
)

BLOCK = IPv6Network("fd00:5a::/32")
ROUTER = "fd00:5a:11::1"  # the outer source of ours
NEIGHBOUR = "fd00:5a:12::7"  # another router of the domain
SEGMENTS = (
    "fd00:5a:21:e001::",
    "fd00:5a:22:e0d2::",
    "fd00:5a:23:e0b4::",
    "fd00:5a:24:e097::",
    "fd00:5a:25:e0f9::",
    "fd00:5a:26:e16c::",
)
SID_END, SID_END_TO, SID_END_PSP = "fd00:5a:11:1::", "fd00:5a:11:2::", "fd00:5a:11:3::"
SID_X, SID_DT6, SID_DX4 = "fd00:5a:11:4::", "fd00:5a:11:5::", "fd00:5a:11:6::"
SID_MAP, SID_MAP_TO, SID_UNKNOWN = "fd00:5a:11:7::", "fd00:5a:11:8::", "fd00:5a:11:9::"
SID_DX4_NOWHERE = "fd00:5a:11:a::"
MAPPED = "fd00:5a:33:f00d::"
LAST = "fd00:5a:44:d7ee::"  # the DT6 of the router where the node is now
SIDS = (
    *(SID_END, SID_END_TO, SID_END_PSP, SID_X, SID_DT6, SID_DX4, SID_MAP, SID_MAP_TO),
    *(SID_UNKNOWN, SID_DX4_NOWHERE, MAPPED, LAST, *SEGMENTS),
)

NODE, NODE_MAC = "2001:db8:a1:1::5", "02:00:00:00:01:01"  # bound to access0
TAGGED_NODE, TAGGED_MAC = "2001:db8:a2:2::6", "02:00:00:00:02:02"  # bound to access1, VLAN 7
PEER_NODE = "2001:db8:a3:3::7"  # at the other end of a veth
AWAY = "2001:db8:b1:1::8"  # a node elsewhere: path 1
MOVED = "2001:db8:b2:2::9"  # one that can be redirected in place: path 2
MOVED_FAR = "2001:db8:b3:3::a"  # one that cannot: path 3
LEFT = "2001:db8:b4:4::b"
LOST = "2001:db8:b5:5::c"  # its path is missing
GHOST = "2001:db8:b6:6::d"  # DELIVER without a delivery
CORRESPONDENT, OUTSIDE_MAC = "2001:db8:c0::99", "02:00:00:00:99:99"
FOREIGN = "2001:db8:f:1:2:3:4:5"
CORE_MAC = "02:00:00:00:cc:cc"
IP_NODE, IP_AWAY, IP_LEFT = "10.1.0.5", "192.0.2.8", "192.0.2.9"
IP_DELIVERED = "192.0.2.10"
IP_CORRESPONDENT = "198.51.100.9"


def segment_header(segments: tuple[str, ...], reduced: bool, following: int) -> Packet | None:
    """The SRH of H.Encaps or H.Encaps.Red; None when the one segment is in the destination."""
    listed = segments[1:] if reduced else segments
    if not listed:
        return None
    return IPv6ExtHdrSegmentRouting(
        nh=following,
        len=2 * len(listed),
        segleft=len(segments) - 1,
        lastentry=len(listed) - 1,
        addresses=list(reversed(listed)),
    )


def outer(
    segments: tuple[str, ...],
    reduced: bool,
    following: int = 41,
    traffic_class: int = 0,
    source: str = ROUTER,
    hop_limit: int = 64,
) -> Packet:
    """The headers that H.Encaps (or .Red) puts in front, flow label 0."""
    routing = segment_header(segments, reduced, following)
    first = IPv6(
        tc=traffic_class,
        src=source,
        dst=segments[0],
        hlim=hop_limit,
        nh=43 if routing is not None else following,
    )
    return first if routing is None else first / routing


def template(segments: tuple[str, ...], reduced: bool) -> bytes:
    """A path's header as it stands in the map: payload length 0."""
    header = outer(segments, reduced)
    header[IPv6].plen = 0
    return bytes(header)


def ether(device: str, source: str, vlan: int | None = None) -> Packet:
    """A link-layer header to one of our devices."""
    link = Ether(dst=DEVICES[device], src=source)
    return link if vlan is None else link / Dot1Q(vlan=vlan)


def at_access(packet: Packet, vlan: int | None = None) -> bytes:
    """A frame of the node at access0."""
    return bytes(ether("access0", NODE_MAC, vlan) / packet)


def at_outside(packet: Packet, vlan: int | None = None) -> bytes:
    """A frame at the outside port."""
    return bytes(ether("outside0", OUTSIDE_MAC, vlan) / packet)


def at_core(packet: Packet, vlan: int | None = None) -> bytes:
    """A frame of a router of the domain."""
    return bytes(ether("core0", CORE_MAC, vlan) / packet)


def datagram(source: str, destination: str, **fields: Any) -> Packet:
    """An IPv6 packet with UDP in it; `fields` are scapy's of IPv6."""
    return (
        IPv6(src=source, dst=destination, **fields)
        / UDP(sport=4001, dport=5002)
        / Raw(bytes(range(100)))
    )


def datagram4(source: str, destination: str, **fields: Any) -> Packet:
    """An IPv4 packet with UDP in it; `fields` are scapy's of IP."""
    return (
        IP(src=source, dst=destination, **fields)
        / UDP(sport=4003, dport=5004)
        / Raw(bytes(range(90)))
    )


def to_sid(
    sid: str,
    inner: Packet,
    following: int = 41,
    source: str = NEIGHBOUR,
    before: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    **fields: Any,
) -> Packet:
    """A packet on its way along `before`, `sid`, `after`, now at `sid`."""
    listed = (*before, sid, *after)
    packet = IPv6(src=source, dst=sid, nh=43 if len(listed) > 1 else following, **fields)
    if len(listed) > 1:
        packet /= IPv6ExtHdrSegmentRouting(
            nh=following,
            len=2 * len(listed),
            segleft=len(after),
            lastentry=len(listed) - 1,
            addresses=list(reversed(listed)),
        )
    return packet / inner


def tcp(source: str, destination: str, **fields: Any) -> Packet:
    """An IPv6 packet with TCP in it."""
    return IPv6(src=source, dst=destination, **fields) / TCP(sport=4001, dport=443) / Raw(b"x" * 40)


def router(devices: dict[str, int]) -> Tables:
    """The entries of the router under test; a test changes what it is about."""
    access0, access1 = devices["access0"], devices["access1"]
    core0, core1 = devices["core0"], devices["core1"]
    node_hop, tagged_hop = "fe80::1:1", "fe80::2:2"
    return Tables(
        sid_block=BLOCK,
        ports={
            (access0, 0): Port(ACCESS, detect=True),
            (access1, 7): Port(ACCESS),
            (access0, 9): Port(ACCESS),
            (devices["outside0"], 0): Port(OUTSIDE),
            (devices["outside0"], 9): Port(OUTSIDE),
            (core0, 0): Port(CORE),
            (core0, 8): Port(CORE),
            (core1, 0): Port(CORE),
        },
        prefixes={
            NODE: Steer(DELIVER, counter=1),
            TAGGED_NODE: Steer(DELIVER, counter=2),
            PEER_NODE: Steer(DELIVER, counter=3),
            AWAY: Steer(ENCAP, 1, 4),
            MOVED: Steer(ENCAP, 2, 5),
            MOVED_FAR: Steer(ENCAP, 3, 6),
            LEFT: Steer(DROP),
            LOST: Steer(ENCAP, 77),
            GHOST: Steer(DELIVER),
        },
        prefixes4={
            IP_AWAY: Steer(ENCAP, 1, 7),
            IP_LEFT: Steer(DROP),
            IP_DELIVERED: Steer(DELIVER),
        },
        paths={
            1: Path(core0, template(SEGMENTS[:2], False), counter=10),
            2: Path(core1, template((LAST,), True), counter=11, flags=REDIRECTABLE, last=LAST),
            3: Path(core1, template(SEGMENTS[2:5], True), counter=12, last=SEGMENTS[4]),
            4: Path(core0, template(SEGMENTS[5:], False), counter=13),
        },
        deliveries={
            NODE: Delivery(access0, NODE_MAC, DEVICES["access0"], node_hop, counter=20),
            TAGGED_NODE: Delivery(access1, TAGGED_MAC, DEVICES["access1"], tagged_hop, 21),
            PEER_NODE: Delivery(
                access1, "02:00:00:00:03:03", DEVICES["access1"], "fe80::3:3", 22, PEER
            ),
        },
        bindings=[
            Binding(NODE, access0, NODE_MAC),
            Binding(NODE, access0, NODE_MAC, 9),
            Binding(TAGGED_NODE, access1, TAGGED_MAC, 7),
        ],
        sids={
            SID_END: Sid(END, counter=30),
            SID_END_TO: Sid(END, ifindex=core1, counter=31, next_hop="fe80::c1"),
            SID_END_PSP: Sid(END, PSP, counter=32),
            SID_X: Sid(END_X, ifindex=core1, counter=33, next_hop="fe80::c1"),
            SID_DT6: Sid(END_DT6, counter=34),
            SID_DX4: Sid(END_DX4, ifindex=access0, counter=35, next_hop=IP_NODE),
            SID_MAP: Sid(END_MAP, counter=36, mapped=MAPPED),
            SID_MAP_TO: Sid(END_MAP, ifindex=core1, counter=37, next_hop="fe80::c1", mapped=MAPPED),
            SID_UNKNOWN: Sid(24, ifindex=core1, counter=38),
            SID_DX4_NOWHERE: Sid(END_DX4, counter=39, next_hop="0.0.0.0"),
        },
    )


def with_flows(tables: Tables) -> Tables:
    """The same router with flow entries and foreign prefixes."""
    tables.flows = {
        Flow(NODE, AWAY, 17, 4001, 5002): Exact(ENCAP, 4, 40),
        Flow(NODE, CORRESPONDENT, 6, 4001, 443, uplink=True): Exact(ENCAP, 4, 41),
        Flow(CORRESPONDENT, MOVED, 17, 4001, 5002): Exact(ENCAP, 4, 42),
        Flow(NODE, FOREIGN, 58, uplink=True): Exact(ENCAP, 4, 43),
    }
    tables.foreign = {
        "2001:db8:f::/48": Steer(ENCAP, 1, 44),
        "2001:db8:f:1::/64": Steer(ENCAP, 2, 45),
        "2001:db8:f:1:2::/80": Steer(ENCAP, 3, 46),
        "2001:db8:b1::/48": Steer(ENCAP, 3, 47),
        "2001:db8:f:dead::/64": Steer(DROP),
    }
    return tables


def with_rules(tables: Tables) -> Tables:
    """The same router with flow rules of every kind, before and behind those of 5-tuples."""
    first = tables.paths[1]
    # As long as the first: which of a rule's paths it is does not say whether a packet fits.
    tables.paths[5] = replace(first, header=template(SEGMENTS[3:5], False), counter=14)
    tables.flows = {
        flow: replace(exact, order=4 + number)
        for number, (flow, exact) in enumerate(tables.flows.items())
    }
    shared = ((1, 3), (5, 1))
    many = [
        Rule(10 + n, ENCAP, ((4, 1),), 55, protocol=17, destination_ports=(5010 + n, 5010 + n))
        for n in range(12)
    ]
    tables.ruled = {
        (AWAY, False): Ruleset(
            (
                Rule(1, DROP, (), 48, protocol=6, destination_ports=(400, 500)),
                Rule(3, ENCAP, shared, 49, dscp=12),
                Rule(5, ENCAP, ((5, 1),), 50, protocol=17, source_ports=(4000, 4100)),
                Rule(6, ENCAP, ((1, 1), (5, 1), (1, 2), (5, 4)), 51, protocol=17),
            )
        ),
        (MOVED, False): Ruleset(
            (
                Rule(1, ENCAP, ((2, 1),), 52, source="2001:db8:c0::/64", dscp=0, protocol=6),
                Rule(9, ENCAP, shared, 49, source=f"{NODE}/127", destination=f"{MOVED}/128"),
            )
        ),
        (PEER_NODE, False): Ruleset(
            (
                Rule(2, KERNEL, (), 53, protocol=17, destination_ports=(0, 5002), dscp=0),
                Rule(3, ENCAP, ((4, 1),), 54),
            )
        ),
        (TAGGED_NODE, False): Ruleset((Rule(1, ENCAP, ((4, 1),), 54, dscp=0),), known=2),
        (NODE, True): Ruleset(
            (
                Rule(0, ENCAP, ((4, 1),), 56, destination=f"{FOREIGN}/64", protocol=6),
                Rule(2, DROP, (), 57, destination=f"{GHOST}/60", source_ports=(0, 65535)),
                *many,
                Rule(70, ENCAP, ((77, 1),), 58, protocol=89),
                Rule(80, ENCAP, ((3, 1),), 59, destination=f"{MOVED_FAR}/128", dscp=0),
            )
        ),
    }
    return tables
