"""What the kernel does without us: plain forwarding (the measure of all), seg6, VXLAN."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.bench import frames
from srv6dmm.bench.frames import Frame
from srv6dmm.bench.inject import Draws
from srv6dmm.bench.rig import ACCESS, CORE, OUT, SOURCE, TUNNEL_SOURCE, Rig
from srv6dmm.dataplane.objects import (
    MAIN_TABLE,
    Neighbour,
    NextHop,
    Route,
    Seg6Encap,
    Seg6Local,
)
from srv6dmm.model.sid import Behavior, EncapMode, SegmentList

SIDS: SegmentList = tuple(IPv6Address(f"fc00:0:{number}::e") for number in range(2, 8))
"""SIDs of routers further on."""
END, DELIVER = IPv6Address("fc00:0:1::e"), IPv6Address("fc00:0:1::d")
"""The router's own."""
PLAIN = IPv6Address("2001:db8::2")
DRAWS = 1 << 20
"""Destinations that are drawn, then used over and over."""
_PLAIN_MANY = 0x20010DB8_30000000
_VXLAN_HOP = IPv6Address("fe80::9")
_VXLAN_OVERHEAD = frames.IPV6 + frames.UDP + 8 + frames.ETHERNET


@dataclass(frozen=True, slots=True)
class Case:
    """One thing a router does with a packet of `bytes` octets (with its Ethernet header).

    `frame` makes the frame that comes in, `grows` is by how many octets the one that leaves is
    longer than `bytes`; `prepare` is called before every run. `draws`: destinations that vary; the
    plain forwarding it is compared with then is `plain_many`.
    """

    name: str
    rig: Rig
    device: str
    frame: Callable[[int], Frame]
    grows: int = 0
    draws: Draws | None = None
    prepare: Callable[[], None] | None = None


def towards(rig: Rig, device: str, destination: IPv6Address) -> Callable[[int], Frame]:
    """Return the maker of plain frames to a destination."""
    return lambda size: frames.plain(rig.macs(device), SOURCE, destination, size)


def tunnelled(
    rig: Rig, segments: SegmentList, left: int, destination: IPv6Address
) -> Callable[[int], Frame]:
    """Return the maker of encapsulated frames that come from the domain."""
    return lambda size: frames.encapsulated(
        rig.macs(CORE), TUNNEL_SOURCE, segments, left, (SOURCE, destination), size
    )


def plain(rig: Rig, many: bool = False) -> Case:
    """Return plain IPv6 forwarding, of one flow or (`plain_many`) to a thousand destinations.

    Of a batch of packets to one destination the kernel looks up the route of the first only; the
    plain forwarding of mixed traffic costs a quarter more.
    """
    frame = towards(rig, ACCESS, PLAIN)
    if not many:
        return Case("plain", rig, ACCESS, frame)
    return Case("plain_many", rig, ACCESS, frame, draws=_thousand(_PLAIN_MANY))


def _thousand(first: int) -> Draws:
    """Return draws out of the thousand /64s from one on."""
    chance = random.Random(1)
    return Draws([first + number for number in chance.choices(range(1_000), k=DRAWS)])


def encap_many(rig: Rig) -> Case:
    """Return seg6 encapsulation (two segments) of traffic to a thousand destinations."""
    prefix = IPv6Network("2001:db8:2000::/36")
    encap = Seg6Encap(EncapMode.ENCAP, SIDS[:2])
    rig.put(Route(prefix, next_hops=(NextHop(OUT),), encap=encap))
    drawn = _thousand(int(prefix.network_address) >> 64)
    frame = towards(rig, ACCESS, prefix.network_address + 2)
    return Case("kernel_encap_2_many", rig, ACCESS, frame, EncapMode.ENCAP.overhead(2), drawn)


def cases(rig: Rig) -> list[Case]:
    """Set the router up and return what is measured on it besides plain forwarding."""
    made: list[Case] = []
    for mode, count in (
        (EncapMode.ENCAP, 1),
        (EncapMode.ENCAP, 2),
        (EncapMode.ENCAP, 3),
        (EncapMode.ENCAP_RED, 1),
    ):
        name = f"kernel_{mode.value.replace('.', '_')}_{count}"
        destination = IPv6Address(f"2001:db8:{len(made) + 1}::2")
        rig.put(
            Route(
                IPv6Network((int(destination) - 2, 64)),
                next_hops=(NextHop(OUT),),
                encap=Seg6Encap(mode, SIDS[:count]),
            )
        )
        frame = towards(rig, ACCESS, destination)
        made.append(Case(name, rig, ACCESS, frame, mode.overhead(count)))
    rig.put(
        Route(
            IPv6Network(END),
            next_hops=(NextHop(CORE),),
            encap=Seg6Local(Behavior.END),
        ),
        Route(
            IPv6Network(DELIVER),
            next_hops=(NextHop(CORE),),
            encap=Seg6Local(Behavior.END_DT6, table=MAIN_TABLE),
        ),
    )
    outer = EncapMode.ENCAP.overhead(2)
    at_end = tunnelled(rig, (END, SIDS[0]), 1, PLAIN)
    at_delivery = tunnelled(rig, (SIDS[0], DELIVER), 0, PLAIN)
    made.append(Case("kernel_end", rig, CORE, at_end, outer))
    made.append(Case("kernel_end_dt6", rig, CORE, at_delivery))
    made.append(_vxlan(rig))
    return made


def _vxlan(rig: Rig) -> Case:
    rig.ip(
        *("link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", "4789", "dev", OUT),
        *("local", str(TUNNEL_SOURCE), "remote", str(SIDS[0])),
    )
    rig.ip("link", "set", "vx0", "up")
    destination = IPv6Address("2001:db8:9::2")
    rig.put(
        Neighbour("vx0", _VXLAN_HOP, "02:00:00:00:00:99"),
        Route(IPv6Network((int(destination) - 2, 64)), next_hops=(NextHop("vx0", _VXLAN_HOP),)),
    )
    return Case("vxlan", rig, ACCESS, towards(rig, ACCESS, destination), _VXLAN_OVERHEAD)
