"""What must become of a frame: the RFCs and the semantics of docs, as plain Python.

Fast enough for a million frames, so it works on octets and not on scapy's layers; the tests of
single cases hold it against scapy. The flow label is the program's choice (RFC 6437): the
expected frame has 0 there, and `Expected.flow` names the flow all of whose packets must get one
and the same label.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network
from itertools import accumulate
from typing import NamedTuple

from tests.bpf.headers import (
    FRAGMENT,
    HOP_BY_HOP,
    IPV4,
    IPV6,
    OPTIONS,
    ROUTING,
    TAGS,
    WITH_PORTS,
    Upper,
    after_tunnel,
    is_local,
    is_local4,
    no_header,
    one_less,
    redestined,
    remarked,
    routing,
    upper_of,
    wrong_ipv4,
    wrong_ipv6,
    wrong_length,
)
from tests.bpf.running import DEVICES, NEIGHBOURS_4, OK, REDIRECT, SHOT
from tests.bpf.tables import (
    ACCESS,
    CORE,
    DROP,
    ENCAP,
    END,
    END_DT6,
    END_DX4,
    END_MAP,
    END_X,
    KERNEL,
    NO_ORDER,
    PEER,
    PSP,
    REDIRECTABLE,
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
    half,
    mac,
    octets,
)


class Expected(NamedTuple):
    """A verdict, why, and the frame with flow label 0 (None: as it came)."""

    verdict: int
    reason: str
    frame: bytes | None = None
    counted: tuple[tuple[int, int], ...] = ()
    flow: tuple[object, ...] | None = None
    choices: tuple[tuple[int, Expected], ...] = ()
    """One of these, each up to a share of 2^20: the flow's label, a hash of it, says which."""

    def of(self, label: int) -> Expected:
        """What is expected of a packet that got this flow label."""
        if not self.choices:
            return self
        total = self.choices[-1][0]
        return next(one for upto, one in self.choices if label * total < upto << 20)


def to_kernel(reason: str) -> Expected:
    """A packet that is not ours."""
    return Expected(OK, reason)


def drop(reason: str) -> Expected:
    """A packet that goes no further."""
    return Expected(SHOT, reason)


class Asked:
    """The rules of a prefix and direction, in any order."""

    def __init__(self, found: Ruleset, flows: list[tuple[Flow, Exact]]) -> None:
        self.known = found.known
        self.rules = [Condition(rule) for rule in found.rules]
        for flow, exact in flows:
            ports = (flow.source_port, flow.destination_port)
            named = flow.protocol in WITH_PORTS
            rule = Rule(
                *(exact.order, exact.action, ((exact.path, 1),), exact.counter),
                *(f"{flow.source}/128", f"{flow.destination}/128", flow.protocol),
                *([(port, port) for port in ports] if named else (None, None)),
            )
            self.rules.append(Condition(rule))


class Condition:
    """Whether a packet matches a rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        ends = [
            (place, IPv6Network(end, strict=False))
            for place, end in ((8, rule.source), (24, rule.destination))
        ]
        self.masks = [
            (place, place + 16, int(end.netmask), int(end.network_address))
            for place, end in ends
            if end.prefixlen
        ]

    def holds(self, frame: bytes, at: int, upper: Upper) -> bool:
        """Tell whether it does."""
        rule = self.rule
        if rule.protocol is not None and upper.protocol != rule.protocol:
            return False
        if rule.dscp is not None and rule.dscp != (frame[at] & 15) << 2 | frame[at + 1] >> 6:
            return False
        for place, named in ((0, rule.source_ports), (2, rule.destination_ports)):
            if named is not None:
                if upper.ports is None:
                    return False
                port = upper.ports[place] << 8 | upper.ports[place + 1]
                if not named[0] <= port <= named[1]:
                    return False
        return all(
            int.from_bytes(frame[at + start : at + end], "big") & mask == network
            for start, end, mask, network in self.masks
        )


def decisive(frame: bytes, at: int, asked: list[Asked]) -> Rule | str | None:
    """The rule that decides on a packet, or why the kernel must say."""
    if not asked:
        return None
    upper = upper_of(frame, at)
    if upper is None:
        return "EXTENSIONS"
    held = [
        condition.rule
        for one in asked
        for condition in one.rules
        if condition.holds(frame, at, upper)
    ]
    known = min(one.known for one in asked)
    first = min(held, key=lambda rule: rule.order, default=None)
    if first is not None and first.order < known:
        return first
    return None if known == NO_ORDER else "FLOW_RULES"


class Model:
    """A router: its tables, and the addresses of its devices by ifindex."""

    def __init__(self, tables: Tables, devices: dict[int, bytes]) -> None:
        self.devices = devices
        self.ports: dict[tuple[int, int], Port] = tables.ports
        self.prefixes: dict[bytes, Steer] = {half(k): v for k, v in tables.prefixes.items()}
        self.sets = {
            whose: Asked(found, [flow for flow in tables.flows.items() if flow[0].set == whose])
            for whose, found in tables.sets().items()
        }
        self.paths: dict[int, Path] = tables.paths
        self.deliveries: dict[bytes, Delivery] = {half(k): v for k, v in tables.deliveries.items()}
        self.bindings = {entry.pack() for entry in tables.bindings}
        self.sids: dict[bytes, Sid] = {octets(k): v for k, v in tables.sids.items()}
        packed = tables.packed()
        names = dict(zip(packed["prefixes4"], tables.prefixes4.values(), strict=True))
        self.prefixes4: dict[bytes, Steer] = names
        self.foreign = [
            (int(network.netmask), int(network.network_address), entry)
            for network, entry in sorted(
                ((IPv6Network(k), v) for k, v in tables.foreign.items()),
                key=lambda item: -item[0].prefixlen,
            )
        ]
        self.routes = [(IPv6Network(locator), hop) for locator, hop in tables.routes.items()]
        self.block = tables.sid_block
        if self.block is not None:
            self._mask = int(self.block.netmask)
            self._network = int(self.block.network_address)

    def in_block(self, address: bytes) -> bool:
        """Tell whether an address is in the SID block."""
        return (
            self.block is not None and int.from_bytes(address, "big") & self._mask == self._network
        )

    def steer(self, frame: bytes, ifindex: int) -> Expected:
        """A frame at a port that faces mobile nodes or the outside."""
        at, vlan, kind = 14, 0, frame[12:14]
        if kind in TAGS:
            if len(frame) < 18:
                return to_kernel("TRUNCATED")
            at, vlan, kind = 18, (frame[14] & 15) << 8 | frame[15], frame[16:18]
        port = self.ports.get((ifindex, vlan))
        if port is None or port.role == CORE:
            return to_kernel("NOT_OUR_PORT")
        if at == 18 and kind in TAGS:
            return drop("STACKED_TAGS")
        if kind == IPV6:
            return self._steer6(frame, at, ifindex, vlan, port.role)
        if kind == IPV4:
            return self._steer4(frame, at, ifindex, port.role)
        return to_kernel("NOT_IP")

    def _steer6(self, frame: bytes, at: int, ifindex: int, vlan: int, role: int) -> Expected:
        wrong = no_header(frame, at, len(frame))
        if wrong:
            return to_kernel(wrong)
        source, destination = frame[at + 8 : at + 24], frame[at + 24 : at + 40]
        if self.in_block(destination):
            return drop("TO_SID_BLOCK")
        if is_local(destination) or is_local(source):
            return to_kernel("LOCAL_SCOPE")
        if role == ACCESS:
            key = (
                source[:8]
                + ifindex.to_bytes(4, "little")
                + vlan.to_bytes(4, "little")
                + frame[6:12]
                + b"\0\0"
            )
            if key not in self.bindings:
                return drop("SOURCE_UNBOUND")
        wrong = wrong_length(frame, at, len(frame))
        if wrong:
            return to_kernel(wrong)
        length = 40 + (frame[at + 4] << 8 | frame[at + 5])
        asked = [self.sets.get((destination[:8], False))]
        if role == ACCESS:
            asked.append(self.sets.get((source[:8], True)))
        rule = decisive(frame, at, [one for one in asked if one is not None])
        if isinstance(rule, str):
            return to_kernel(rule)
        if rule is not None and rule.action == KERNEL:
            return Expected(OK, "FLOW_RULES", None, counts((rule.counter, length)))
        dropped = drop("NODE_LEFT")
        entry = None
        if rule is not None:
            entry = Steer(rule.action, 0, rule.counter)
            dropped = Expected(SHOT, "FLOW_DROP", None, counts((rule.counter, length)))
        if entry is None:
            entry = self.prefixes.get(destination[:8])
        if entry is None and self.foreign:
            address = int.from_bytes(destination, "big")
            for mask, network, candidate in self.foreign:
                if address & mask == network:
                    entry = candidate
                    break
        if entry is None:
            return to_kernel("NO_ENTRY")
        if frame[:6] != self.devices[ifindex]:
            return to_kernel("OTHER_HOST")
        if entry.action == DROP:
            return dropped
        if frame[at + 7] <= 1:
            return to_kernel("HOP_LIMIT")
        if entry.action == ENCAP:
            label = (frame[at + 1] & 15) << 16 | frame[at + 2] << 8 | frame[at + 3]
            following = frame[at + 6]
            about: tuple[object, ...] = (label,)
            if not label:
                ports = frame[at + 40 : at + 44] if following in (6, 17) and length >= 44 else b""
                about = (following, ports)
            traffic_class = (frame[at] & 15) << 4 | frame[at + 1] >> 4
            inner = frame[at : at + 7] + bytes((frame[at + 7] - 1,)) + frame[at + 8 : at + length]
            flow = (source, destination, *about)
            paths = rule.paths if rule is not None else ((entry.path, 1),)
            each = [
                self._encap(
                    *(replace(entry, path=path), frame[:12], inner, length),
                    *(41, traffic_class, flow),
                )
                for path, _ in paths
            ]
            if len(each) == 1 or each[0].verdict != REDIRECT:
                return each[0]
            sums = accumulate(weight for _, weight in paths)
            return each[0]._replace(choices=tuple(zip(sums, each, strict=True)))
        delivery = self.deliveries.get(destination[:8])
        if delivery is None:
            return to_kernel("NOT_HERE")
        if delivery.mtu and length > delivery.mtu:
            return to_kernel("OVERSIZE")
        return deliver(
            frame[:12],
            frame[at : at + 7] + bytes((frame[at + 7] - 1,)) + frame[at + 8 : at + length],
            delivery,
            ((entry.counter, length), (delivery.counter, length)),
        )

    def _steer4(self, frame: bytes, at: int, ifindex: int, role: int) -> Expected:
        wrong = wrong_ipv4(frame, at, len(frame))
        if wrong:
            return to_kernel(wrong)
        entry = self.prefixes4.get(frame[at + 16 : at + 20])
        if entry is None:
            return to_kernel("NO_ENTRY")
        if role == ACCESS:
            return drop("SOURCE_UNBOUND")
        if is_local4(frame[at + 12 : at + 16]):
            return drop("SOURCE_INVALID")
        if frame[:6] != self.devices[ifindex]:
            return to_kernel("OTHER_HOST")
        if entry.action == DROP:
            return drop("NODE_LEFT")
        if frame[at + 8] <= 1:
            return to_kernel("HOP_LIMIT")
        if entry.action != ENCAP:
            return to_kernel("NO_PATH")
        length = frame[at + 2] << 8 | frame[at + 3]
        fragment = frame[at + 6] & 0x3F or frame[at + 7]
        about: tuple[object, ...] = ()
        if not fragment:
            protocol = frame[at + 9]
            ports = frame[at + 20 : at + 24] if protocol in (6, 17) and length >= 24 else b""
            about = (protocol, ports)
        inner = one_less(frame[at : at + 20]) + frame[at + 20 : at + length]
        flow = (frame[at + 12 : at + 16], frame[at + 16 : at + 20], *about)
        return self._encap(entry, frame[:12], inner, length, 4, frame[at + 1], flow)

    def _encap(
        self,
        entry: Steer,
        link: bytes,
        inner: bytes,
        length: int,
        protocol: int,
        traffic_class: int,
        flow: tuple[object, ...],
    ) -> Expected:
        path = self.paths.get(entry.path)
        if path is None:
            return to_kernel("NO_PATH")
        header = path.header
        if length + len(header) > path.mtu or length + len(header) - 40 > 0xFFFF:
            return to_kernel("OVERSIZE")
        outer = (
            (6 << 28 | traffic_class << 20).to_bytes(4, "big")
            + (length + len(header) - 40).to_bytes(2, "big")
            + (bytes((header[6],)) if header[6] == ROUTING else bytes((protocol,)))
            + header[7:40]
        )
        if header[6] == ROUTING:
            outer += bytes((protocol,)) + header[41:]
        counted = counts((entry.counter, length), (path.counter, length))
        return Expected(REDIRECT, "STEERED", link + IPV6 + outer + inner, counted, flow)

    def sid(self, frame: bytes, ifindex: int) -> Expected:
        """A frame at a port that faces the domain's routers."""
        at, vlan, kind = 14, 0, frame[12:14]
        if kind in TAGS:
            if len(frame) < 18:
                return to_kernel("TRUNCATED")
            at, vlan, kind = 18, (frame[14] & 15) << 8 | frame[15], frame[16:18]
        port = self.ports.get((ifindex, vlan))
        if port is None or port.role != CORE:
            return to_kernel("NOT_OUR_PORT")
        if at == 18 and kind in TAGS:
            return drop("STACKED_TAGS")
        if kind != IPV6:
            return to_kernel("NOT_IP")
        wrong = no_header(frame, at, len(frame))
        if wrong:
            return to_kernel(wrong)
        sid = self.sids.get(frame[at + 24 : at + 40])
        if sid is None:
            return to_kernel("NO_ENTRY")
        if frame[:6] != self.devices[ifindex]:
            return to_kernel("OTHER_HOST")
        if self.block is not None and not self.in_block(frame[at + 8 : at + 24]):
            return drop("OUTER_SOURCE")
        wrong = wrong_length(frame, at, len(frame))
        if wrong:
            return to_kernel(wrong)
        length = 40 + (frame[at + 4] << 8 | frame[at + 5])
        following, left, size = frame[at + 6], 0, 0
        if following == FRAGMENT:
            return to_kernel("FRAGMENT")
        if following in (HOP_BY_HOP, OPTIONS):
            return to_kernel("EXTENSIONS")
        if following == ROUTING:
            answer = routing(frame, at + 40, length - 40)
            if isinstance(answer, str):
                return to_kernel(answer)
            following, left, size = answer
        end = at + length
        padded, frame = frame, frame[:end]
        if sid.behavior in (END, END_X):
            if frame[at + 7] <= 1:
                return to_kernel("HOP_LIMIT")
            if not size or not left:
                return to_kernel("SEGMENTS_LEFT")
            if sid.flags & PSP and left == 1:
                return to_kernel("UNKNOWN_BEHAVIOR")
            segment = at + 48 + 16 * (left - 1)
            if is_local(frame[segment : segment + 16]):
                return to_kernel("LOCAL_SCOPE")
            moved = frame[at + 40 : at + 43] + bytes((left - 1,)) + frame[at + 44 : at + 40 + size]
            return send_on(
                redestined(frame, at, frame[segment : segment + 16], bool(sid.ifindex))[: 14 + 40]
                + moved
                + frame[at + 40 + size :],
                sid,
                length,
            )
        if sid.behavior == END_MAP:
            if frame[at + 7] <= 1:
                return to_kernel("HOP_LIMIT")
            return send_on(
                redestined(frame, at, octets(sid.mapped), bool(sid.ifindex)), sid, length
            )
        if sid.behavior == END_DT6:
            return self._dt6(padded, at, sid, (following, left, size), end, length)
        if sid.behavior == END_DX4:
            return self._dx4(padded, at, sid, (following, left, size), end, length)
        return to_kernel("UNKNOWN_BEHAVIOR")

    def _dt6(
        self, frame: bytes, at: int, sid: Sid, found: tuple[int, int, int], end: int, length: int
    ) -> Expected:
        following, left, size = found
        if left:
            return to_kernel("SEGMENTS_LEFT")
        if following != 41:
            return to_kernel("INNER")
        inner = at + 40 + size
        # Two measures: what is in the frame, and what the outer header says is the packet.
        wrong = wrong_ipv6(frame, inner, len(frame)) or wrong_ipv6(frame, inner, end)
        if wrong:
            return to_kernel(wrong)
        if is_local(frame[inner + 8 : inner + 24]):
            return to_kernel("LOCAL_SCOPE")
        prefix = frame[inner + 24 : inner + 32]
        entry = self.prefixes.get(prefix)
        if entry is None:
            return to_kernel("NOT_HERE")
        if entry.action == DROP:
            return drop("NODE_LEFT")
        if entry.action == ENCAP:
            path = self.paths.get(entry.path)
            if path is None:
                return to_kernel("NO_PATH")
            if not path.flags & REDIRECTABLE and not self._same_hop(path):
                return to_kernel("NOT_IN_PLACE")
            if frame[at + 7] <= 1:
                return to_kernel("HOP_LIMIT")
            moved = redestined(frame[:end], at, octets(path.last))
            counted = counts((sid.counter, length), (path.counter, length))
            return Expected(REDIRECT, "REDIRECTED", moved, counted)
        delivery = self.deliveries.get(prefix)
        if delivery is None:
            return to_kernel("NOT_HERE")
        if frame[inner + 7] <= 1:
            return to_kernel("HOP_LIMIT")
        if delivery.mtu and 40 + (frame[inner + 4] << 8 | frame[inner + 5]) > delivery.mtu:
            return to_kernel("OVERSIZE")
        mark = after_tunnel(frame[at + 1] >> 4 & 3, frame[inner + 1] >> 4 & 3)
        if mark is None:
            return drop("ECN")
        packet = (
            frame[inner : inner + 1]
            + bytes((frame[inner + 1] & 0xCF | mark << 4,))
            + frame[inner + 2 : inner + 7]
            + bytes((frame[inner + 7] - 1,))
            + frame[inner + 8 :]
        )
        size = 40 + (packet[4] << 8 | packet[5])
        packet = packet[:size]
        return deliver(
            frame[:12],
            packet,
            delivery,
            ((sid.counter, length), (entry.counter, size), (delivery.counter, size)),
        )

    def _same_hop(self, path: Path) -> bool:
        """Tell whether the way to a path's last segment begins as the path does."""
        last = int.from_bytes(octets(path.last), "big")
        towards = {
            hop
            for network, hop in self.routes
            if last >> 128 - network.prefixlen
            == int(network.network_address) >> 128 - network.prefixlen
        }
        return bool(path.hop) and towards == {path.hop}

    def _dx4(
        self, frame: bytes, at: int, sid: Sid, found: tuple[int, int, int], end: int, length: int
    ) -> Expected:
        following, left, size = found
        if left:
            return to_kernel("SEGMENTS_LEFT")
        if following != 4:
            return to_kernel("INNER")
        inner = at + 40 + size
        wrong = wrong_ipv4(frame, inner, len(frame)) or wrong_ipv4(frame, inner, end)
        if wrong:
            return to_kernel(wrong)
        if is_local4(frame[inner + 12 : inner + 16]) or is_local4(frame[inner + 16 : inner + 20]):
            return to_kernel("LOCAL_SCOPE")
        if frame[inner + 8] <= 1:
            return to_kernel("HOP_LIMIT")
        neighbour = NEIGHBOURS_4.get(sid.next_hop)
        if neighbour is None:
            return to_kernel("NOT_HERE")
        size = frame[inner + 2] << 8 | frame[inner + 3]
        if size > neighbour.mtu:
            return to_kernel("OVERSIZE")
        mark = after_tunnel(frame[at + 1] >> 4 & 3, frame[inner + 1] & 3)
        if mark is None:
            return drop("ECN")
        header = remarked(one_less(frame[inner : inner + 20]), mark)
        link = mac(neighbour.mac) + mac(DEVICES[neighbour.device]) + IPV4
        counted = counts((sid.counter, length))
        packet = header + frame[inner + 20 : inner + size]
        return Expected(REDIRECT, "DELIVERED", link + packet, counted)


def counts(*each: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Counter 0 counts nothing."""
    return tuple((index, size) for index, size in each if index)


def send_on(frame: bytes, sid: Sid, length: int) -> Expected:
    """An endpoint's packet: out of the SID's device, or to the kernel's routes."""
    verdict = REDIRECT if sid.ifindex else OK
    return Expected(verdict, "ENDPOINT", frame, counts((sid.counter, length)))


def deliver(
    link: bytes, packet: bytes, delivery: Delivery, counted: tuple[tuple[int, int], ...]
) -> Expected:
    """A packet on its way to the mobile node at this router."""
    if delivery.flags & PEER:
        link = mac(delivery.mac) + mac(delivery.source_mac)
    return Expected(REDIRECT, "DELIVERED", link + IPV6 + packet, counts(*counted))
