"""Frames for fuzzing: good ones of every kind, and what bit rot and malice make of them.

One seed gives one sequence of frames.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from scapy.layers.inet import TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrSegmentRouting,
    PadN,
)
from scapy.layers.l2 import Dot1Q
from scapy.packet import Raw

from tests.bpf import scene
from tests.bpf.headers import sum_of
from tests.bpf.scene import (
    at_access,
    at_core,
    at_outside,
    datagram,
    datagram4,
    ether,
    outer,
    tcp,
    to_sid,
)

BYTES = (0, 1, 2, 3, 4, 5, 6, 17, 41, 43, 44, 51, 58, 59, 60, 63, 64, 127, 128, 254, 255)
KINDS = (b"\x86\xdd", b"\x08\x00", b"\x81\x00", b"\x88\xa8", b"\x08\x06", b"\x00\x40")
Target = tuple[str, str]  # program and device


def corpus() -> dict[Target, list[bytes]]:
    """Return good frames by the program and the device they are meant for."""
    node, away, correspondent = scene.NODE, scene.AWAY, scene.CORRESPONDENT
    bits = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
    destinations = (
        *(away, scene.MOVED, scene.MOVED_FAR, scene.LEFT, scene.LOST, scene.GHOST, correspondent),
        *(scene.PEER_NODE, scene.TAGGED_NODE, scene.FOREIGN, "2001:db8:f:dead::1", "ff02::1"),
        *("fe80::1", scene.SID_DT6, "2001:db8:f:1::1", "2001:db8:f:2::1"),
    )
    access = [at_access(datagram(node, to)) for to in destinations]
    access += [at_access(datagram(node, away, tc=mark, fl=mark * 77)) for mark in range(0, 256, 50)]
    access += [
        at_access(tcp(node, correspondent)),
        at_access(datagram(node, away), vlan=9),
        at_access(datagram(node, scene.PEER_NODE), vlan=9),
        at_access(datagram("2001:db8:bad::1", away)),
        at_access(IPv6(src=node, dst=scene.FOREIGN) / ICMPv6EchoRequest()),
        at_access(IPv6(src="fe80::5", dst="ff02::2", hlim=255) / ICMPv6ND_RS()),
        at_access(IPv6(src="::", dst="ff02::1:ff00:5", hlim=255) / ICMPv6ND_NS(tgt=node)),
        at_access(
            IPv6(src=node, dst=away, nh=0) / IPv6ExtHdrHopByHop(nh=60) / bits / Raw(b"a" * 8)
        ),
        at_access(IPv6(src=node, dst=away) / bits / TCP(dport=443)),
        at_access(IPv6(src=node, dst=away) / IPv6ExtHdrFragment(nh=17, m=1) / Raw(b"b" * 64)),
        at_access(datagram4(scene.IP_NODE, scene.IP_AWAY)),
        at_access(datagram4(scene.IP_NODE, scene.IP_CORRESPONDENT)),
        at_access(datagram(node, away) / Raw(bytes(1380))),
        bytes(ether("access0", scene.NODE_MAC) / Raw(b"\0" * 50)),
        bytes(ether("access0", scene.NODE_MAC, 0) / Dot1Q(vlan=0) / datagram(node, away)),
        bytes(ether("access0", scene.NODE_MAC, 0) / Dot1Q(vlan=9) / datagram(node, scene.SID_DT6)),
        *(
            at_access(IPv6(src=node, dst=to, plen=0, nh=0) / IPv6ExtHdrHopByHop() / UDP())
            for to in (scene.SID_DT6, away)
        ),
    ]
    outside = [at_outside(datagram(correspondent, to)) for to in destinations]
    outside += [at_outside(tcp(correspondent, node, hlim=2)), at_outside(tcp(correspondent, away))]
    outside += [
        at_outside(datagram4(scene.IP_NODE, scene.IP_AWAY, tos=0xB9)),
        at_outside(datagram4(scene.IP_NODE, scene.IP_AWAY, flags=1)),
        at_outside(datagram4("127.0.0.1", scene.IP_AWAY)),
        at_outside(datagram4(scene.IP_NODE, scene.IP_LEFT)),
        at_outside(datagram4(scene.IP_NODE, scene.IP_AWAY, options=[IPOption_Router_Alert()])),
        at_outside(datagram4(scene.IP_NODE, scene.IP_AWAY) / Raw(bytes(1402))),
        at_outside(datagram4(scene.IP_NODE, scene.IP_DELIVERED), vlan=9),
    ]
    inner = datagram(correspondent, node)
    marked = [
        at_core(to_sid(scene.SID_DT6, datagram(correspondent, node, tc=2 * a & 3), tc=b))
        for a in range(4)
        for b in range(4)
    ]
    longer = IPv6ExtHdrSegmentRouting(nh=41, len=5, segleft=0, lastentry=0, addresses=["fd00::1"])
    core = [
        *(at_core(to_sid(sid, inner, after=scene.SEGMENTS[:2])) for sid in scene.SIDS),
        *(at_core(to_sid(sid, inner, before=scene.SEGMENTS[:2])) for sid in scene.SIDS),
        *(at_core(to_sid(sid, inner)) for sid in scene.SIDS),
        *marked,
        *(
            at_core(to_sid(scene.SID_DT6, datagram(correspondent, to), before=scene.SEGMENTS[:1]))
            for to in destinations
        ),
        *(
            at_core(to_sid(scene.SID_DX4, datagram4("198.51.100.9", "10.1.0.5", tos=t), 4, tc=t))
            for t in (0, 1, 2, 3)
        ),
        at_core(
            to_sid(
                scene.SID_DX4,
                datagram4("198.51.100.9", "10.1.0.5"),
                4,
                before=scene.SEGMENTS[:1],
            )
        ),
        at_core(to_sid(scene.SID_DT6, inner, before=scene.SEGMENTS[:1]), vlan=8),
        at_core(to_sid(scene.SID_X, inner, after=scene.SEGMENTS[:3]), vlan=8),
        at_core(to_sid(scene.SID_END_PSP, inner, after=scene.SEGMENTS[:1])),
        at_core(to_sid(scene.SID_DT6, inner, source="2001:db8:bad::1")),
        at_core(IPv6(src=scene.NEIGHBOUR, dst=scene.SID_DT6) / bits / inner),
        at_core(IPv6(src=scene.NEIGHBOUR, dst=scene.SID_DT6) / longer / Raw(bytes(24)) / inner),
        at_core(outer((scene.SID_X, *scene.SEGMENTS[:3]), True) / inner),
        at_core(inner),
    ]
    return {
        ("steer", "access0"): access,
        ("steer", "outside0"): outside,
        ("sid", "core0"): core,
    }


def _interesting() -> tuple[list[bytes], list[bytes]]:
    addresses = (
        *(scene.NODE, scene.AWAY, scene.MOVED, scene.MOVED_FAR, scene.LEFT, scene.LOST),
        *(scene.GHOST, scene.PEER_NODE, scene.CORRESPONDENT, scene.FOREIGN, scene.NEIGHBOUR),
        *("::", "::1", "ff02::1", "fe80::1", *scene.SIDS),
    )
    short = (
        scene.IP_AWAY,
        scene.IP_LEFT,
        scene.IP_DELIVERED,
        scene.IP_NODE,
        "255.255.255.255",
        "127.0.0.1",
    )
    return [IPv6Address(a).packed for a in addresses], [IPv4Address(a).packed for a in short]


def _sum_anew(frame: bytearray) -> None:
    """Give IPv4 headers the checksum they ask for: what is wrong shall not be that alone."""
    at = 18 if frame[12:14] in (KINDS[2], KINDS[3]) else 14
    if len(frame) < at + 48:
        return
    if frame[at] >> 4 == 6:
        if frame[at + 6] not in (4, 43):
            return
        at += 40 + (8 * (frame[at + 41] + 1) if frame[at + 6] == 43 else 0)
    if len(frame) >= at + 20 and frame[at] == 0x45:
        frame[at + 10 : at + 12] = bytes(2)
        struct.pack_into("!H", frame, at + 10, 0xFFFF ^ sum_of(frame[at : at + 20]))


class Mutator:
    """An endless supply of frames for one target."""

    def __init__(self, seed: str, good: list[bytes]) -> None:
        self.random = random.Random(seed)
        self.good = good
        self.addresses, self.addresses4 = _interesting()

    def frames(self, count: int) -> Iterator[bytes]:
        """Yield `count` frames that the kernel lets in."""
        draw, good, number = self.random.random, self.good, len(self.good)
        for _ in range(count):
            frame = bytearray(good[int(draw() * number)])
            how = draw()
            if how < 0.04:
                frame = bytearray(self.random.randbytes(14 + int(draw() * 200)))
                frame[12:14] = KINDS[int(draw() * len(KINDS))]
            elif how < 0.94:
                self._mutate(frame)
                while draw() < 0.4:
                    self._mutate(frame)
                if draw() < 0.9:
                    _sum_anew(frame)
            # A frame of less than an IP header is refused by BPF_PROG_TEST_RUN itself.
            kind = frame[12:14]
            least = 54 if kind == KINDS[0] else 34 if kind == KINDS[1] else 15
            if len(frame) < least:
                frame.extend(bytes(least - len(frame)))
            yield bytes(frame)

    def _mutate(self, frame: bytearray) -> None:
        draw = self.random.random
        size = len(frame)
        at = 18 if frame[12:14] == KINDS[2] else 14
        if size < at + 48:
            frame.extend(bytes(at + 48 - size))
            return
        which = int(draw() * 14)
        near = min(size, at + 120)
        if which == 0:
            frame[int(draw() * near)] ^= 1 << int(draw() * 8)
        elif which == 1:
            frame[int(draw() * near)] = BYTES[int(draw() * len(BYTES))]
        elif which == 2:
            frame[at + 6] = BYTES[int(draw() * len(BYTES))]
        elif which == 3:
            frame[at + 7 if frame[at] >> 4 == 6 else at + 8] = int(draw() * 4)
        elif which == 4:  # traffic class and flow label
            frame[at + 1 : at + 4] = self.random.randbytes(3)
        elif which == 5:  # how long the packet says it is
            (length,) = struct.unpack_from("!H", frame, at + 4)
            struct.pack_into("!H", frame, at + 4, (length + int(draw() * 65) - 32) & 0xFFFF)
        elif which == 6:
            del frame[14 + int(draw() * (size - 14)) :]
        elif which == 7:
            frame.extend(bytes(1 + int(draw() * 60)))
        elif which == 8:  # an address, where one may stand
            if frame[at] >> 4 == 4:
                place = at + (12 if draw() < 0.3 else 16)
                frame[place : place + 4] = self.addresses4[int(draw() * len(self.addresses4))]
                return
            place = at + (8, 24, 24, 48, 64, 80)[int(draw() * 6)]
            if place + 16 <= size:
                frame[place : place + 16] = self.addresses[int(draw() * len(self.addresses))]
        elif which == 9:  # another header in front of what there is
            kind = (0, 43, 44, 60, 60)[int(draw() * 5)]
            length = int(draw() * 3) if kind != 44 else 0
            header = bytes((frame[at + 6], length)) + self.random.randbytes(6 + 8 * length)
            frame[at + 40 : at + 40] = header
            frame[at + 6] = kind
            (payload,) = struct.unpack_from("!H", frame, at + 4)
            struct.pack_into("!H", frame, at + 4, (payload + len(header)) & 0xFFFF)
        elif which == 10:  # the fields of a routing header
            frame[at + 40 + int(draw() * 6)] = int(draw() * 8)
        elif which == 11:  # an inner header
            place = at + 40 + (8 * (frame[at + 41] + 1) if frame[at + 6] == 43 else 0)
            if place + 40 <= size:
                frame[place + int(draw() * 10)] = int(draw() * 256)
        elif which == 12 and frame[at] >> 4 == 4:
            frame[at] = 0x40 | int(draw() * 16)
        else:
            frame[int(draw() * 14)] ^= 1 << int(draw() * 8)
