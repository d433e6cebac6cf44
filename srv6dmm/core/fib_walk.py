"""A packet's way through what routers hold: plans in, hops out, without a kernel.

Each router does with a packet what Linux does with the plan's routes, rules and local SIDs: flow
entries before prefixes, the longest prefix, local SIDs as in RFC 8986 section 4 (NEXT-C-SID:
RFC 9800 section 4.1), and, where an
interface has no carrier, what is held ready for that. A packet that End.DT6 let out is looked up
in the main table alone: flow entries do not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.core.compression import shifted
from srv6dmm.model.addresses import as_text
from srv6dmm.model.plan import (
    Delivery,
    DropEntry,
    FlowSelector,
    FlowSteering,
    LocalSid,
    PlanEntry,
    RouterSettings,
    SteeringEntry,
    SteeringList,
    UnderlayRoute,
    UnreachableRoute,
)
from srv6dmm.model.sid import Behavior, Flavor, SegmentList
from srv6dmm.model.topology import LinkEnd, Topology

MAXIMUM_HOPS = 64


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv6 packet as its sender made it. Ports: None where the protocol has none."""

    source: IPv6Address
    destination: IPv6Address
    protocol: int = 59
    source_port: int | None = None
    destination_port: int | None = None
    dscp: int = 0


class Outcome(StrEnum):
    """What became of a packet."""

    DELIVERED = "delivered"
    """To a mobile node."""
    LEFT = "left"
    """By an interface towards a fixed network."""
    LOCAL = "local"
    """To an address of the router itself."""
    DROPPED = "dropped"
    UNREACHABLE = "unreachable"
    """Answered so: no route leads on."""
    LOOP = "loop"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a router does with the packet, and the plan entry that makes it."""

    action: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Outer:
    """An outer header: the segments yet to be visited, the active one first."""

    segments: SegmentList
    pushed: SegmentList
    """As it was when the header was made."""


@dataclass(frozen=True, slots=True)
class Hop:
    """What one router does."""

    router: str
    arrives_by: str | None
    steps: tuple[Step, ...]
    leaves_by: str | None
    headers: tuple[Outer, ...]
    """Of the packet as it leaves, the outermost last."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A packet's way, in travel order."""

    hops: tuple[Hop, ...]
    outcome: Outcome
    detail: str

    @property
    def routers(self) -> tuple[str, ...]:
        return tuple(hop.router for hop in self.hops)


ChooseList = Callable[[FlowSteering], SteeringList]


def first_list(entry: FlowSteering) -> SteeringList:
    """Return a flow entry's first list."""
    return entry.lists[0]


class Fib:
    """One router's plan, ready to be looked things up in."""

    def __init__(self, entries: Iterable[PlanEntry]) -> None:
        self.sids: dict[IPv6Address, LocalSid] = {}
        self.flows: list[FlowSteering] = []
        self.addresses: set[IPv6Address] = set()
        self._prefixes: dict[int, dict[int, PlanEntry]] = {}
        self._connected: dict[IPv6Network, str] = {}
        for entry in entries:
            match entry:
                case LocalSid() if entry.prefix_length == 128:
                    self.sids[entry.sid] = entry
                case LocalSid():
                    by_length = self._prefixes.setdefault(entry.prefix_length, {})
                    by_length[int(entry.sid)] = entry
                case FlowSteering():
                    self.flows.append(entry)
                case RouterSettings():
                    self._settings(entry)
                case (
                    Delivery()
                    | SteeringEntry()
                    | DropEntry()
                    | UnderlayRoute()
                    | UnreachableRoute()
                ):
                    prefix = entry.prefix
                    by_length = self._prefixes.setdefault(prefix.prefixlen, {})
                    by_length[int(prefix.network_address)] = entry
                case _:
                    pass
        self.flows.sort(key=lambda flow: (flow.order, flow.key))
        self._lengths = sorted(self._prefixes, reverse=True)

    def _settings(self, settings: RouterSettings) -> None:
        if settings.loopback is not None:
            self.addresses.add(settings.loopback)
        for interface, address, length in settings.host_interfaces:
            self.addresses.add(address)
            self._connected[IPv6Network((address, length), strict=False)] = interface

    def flow(self, packet: Packet) -> FlowSteering | None:
        """Return the flow entry that decides on a packet, if one matches."""
        return next(
            (
                flow
                for flow in self.flows
                if not mismatch(flow.selector, packet) and flow.takes(packet.destination)
            ),
            None,
        )

    def longest(
        self, destination: IPv6Address, works: Callable[[str], bool]
    ) -> PlanEntry | str | None:
        """Return the entry of the longest prefix, or the interface of a connected one.

        Linux passes over routes without carrier; `works` tells of an interface whether it has one.
        """
        connected = [prefix for prefix in self._connected if destination in prefix]
        nearest = max(connected, key=lambda prefix: prefix.prefixlen, default=None)
        for length in self._lengths:
            if nearest is not None and nearest.prefixlen >= length:
                break
            entry = self._prefixes[length].get(int(destination) >> (128 - length) << (128 - length))
            if entry is not None and not _dead(entry, works):
                return entry
        return self._connected[nearest] if nearest is not None else None


def mismatch(selector: FlowSelector, packet: Packet) -> str | None:
    """Return in what a packet differs from what a selector takes; None: it is taken."""
    if packet.source not in selector.source:
        return f"source {as_text(packet.source)} is not in {selector.source}"
    if packet.destination not in selector.destination:
        return f"destination {as_text(packet.destination)} is not in {selector.destination}"
    if selector.protocol is not None and packet.protocol != selector.protocol:
        return f"protocol {packet.protocol} is not {selector.protocol}"
    for name, port, wanted in (
        ("source", packet.source_port, selector.source_ports),
        ("destination", packet.destination_port, selector.destination_ports),
    ):
        if wanted is None:
            continue
        if port is None:
            return f"it has no {name} port"
        if not wanted[0] <= port <= wanted[1]:
            return f"{name} port {port} is not in {wanted[0]}-{wanted[1]}"
    if selector.dscp is not None and packet.dscp != selector.dscp:
        return f"DSCP {packet.dscp} is not {selector.dscp}"
    return None


class FibWalk:
    """Walks packets through the plans of one domain."""

    def __init__(
        self,
        topology: Topology,
        plans: Callable[[str], Iterable[PlanEntry]],
        down: Collection[LinkEnd] = (),
    ) -> None:
        """`plans` returns what a router holds. `down`: ends of links that have no carrier now."""
        self._plans = plans
        self._fibs: dict[str, Fib] = {}
        self._far: dict[tuple[str, str], LinkEnd] = {}
        self._down: set[tuple[str, str]] = set()
        for link in topology.core_links():
            dead = any(end in down for end in link.ends())
            for here, there in (link.ends(), link.ends()[::-1]):
                self._far[here.node, here.interface] = there
                if dead:
                    self._down.add((here.node, here.interface))

    def fib(self, router: str) -> Fib:
        """Return what a router holds."""
        found = self._fibs.get(router)
        if found is None:
            found = self._fibs[router] = Fib(self._plans(router))
        return found

    def walk(self, router: str, packet: Packet, choose: ChooseList = first_list) -> Walk:
        """Return the way of a packet that enters the domain at a router, from outside."""
        return _Walker(self, packet, choose).run(router)

    def works(self, router: str, interface: str) -> bool:
        """Tell whether packets can leave by an interface."""
        return (router, interface) not in self._down

    def far_end(self, router: str, interface: str) -> LinkEnd | None:
        """Return what is on the other end of a core interface; None: it is none."""
        return self._far.get((router, interface))


class _Done(Exception):
    def __init__(self, outcome: Outcome, detail: str) -> None:
        self.outcome = outcome
        self.detail = detail
        super().__init__(detail)


class _Walker:
    """One packet under way."""

    def __init__(self, fibs: FibWalk, packet: Packet, choose: ChooseList) -> None:
        self._fibs = fibs
        self._packet = packet
        self._choose = choose
        self._headers: list[Outer] = []
        self._steps: list[Step] = []
        self._router = ""
        self._decapsulated = False

    def run(self, router: str) -> Walk:
        hops: list[Hop] = []
        here, arrives_by = router, None
        while True:
            self._router, self._steps, self._decapsulated = here, [], False
            ended: _Done | None = None
            leaves_by: str | None = None
            try:
                leaves_by = self._forward()
            except _Done as done:
                ended = done
            hops.append(Hop(here, arrives_by, tuple(self._steps), leaves_by, tuple(self._headers)))
            if ended is None and leaves_by is not None:
                far = self._fibs.far_end(here, leaves_by)
                if far is None:
                    ended = _Done(Outcome.LEFT, f"it leaves {here} by {leaves_by}")
                elif not self._fibs.works(here, leaves_by):
                    ended = _Done(Outcome.DROPPED, f"{here}:{leaves_by} has no carrier")
                elif len(hops) >= MAXIMUM_HOPS:
                    ended = _Done(Outcome.LOOP, f"{MAXIMUM_HOPS} hops and no end")
                else:
                    here, arrives_by = far.node, far.interface
            if ended is not None:
                return Walk(tuple(hops), ended.outcome, ended.detail)

    def _forward(self) -> str:
        """Do what the present router does; return the interface the packet leaves by."""
        for _ in range(MAXIMUM_HOPS):
            leaves_by = self._headed() if self._headers else self._bare()
            if leaves_by is not None:
                return leaves_by
        raise _Done(Outcome.LOOP, f"{self._router} never sends it on")

    def _works(self, interface: str) -> bool:
        return self._fibs.works(self._router, interface)

    def _step(self, action: str, key: str | None) -> None:
        self._steps.append(Step(action, key))

    # --- with an outer header ----------------------------------------------------------------

    def _headed(self) -> str | None:
        outer = self._headers[-1]
        active = outer.segments[0]
        fib = self._fibs.fib(self._router)
        sid = fib.sids.get(active)
        if sid is None:
            if active in fib.addresses:
                raise _Done(Outcome.LOCAL, f"{as_text(active)} is {self._router} itself")
            entry = fib.longest(active, self._works)
            if not isinstance(entry, LocalSid):
                return self._plain(active)
            sid = entry
        rest = outer.segments[1:]
        moved = shifted(active) if Flavor.NEXT_CSID in sid.flavors else None
        match sid.behavior:
            case Behavior.END if moved is not None:
                self._headers[-1] = replace(outer, segments=(moved, *rest))
                self._step(f"uN: on to {as_text(moved)}", sid.key)
                return None
            case Behavior.END:
                self._advance(outer, rest, sid)
                self._step("End: on to the next segment", sid.key)
                return None
            case Behavior.END_X:
                self._advance(outer, rest, sid)
                if sid.interface is not None and self._works(sid.interface):
                    self._step(f"End.X: on to the next segment, out of {sid.interface}", sid.key)
                    return sid.interface
                if sid.repair is None:
                    raise _Done(Outcome.DROPPED, f"{self._router}:{sid.interface} has no carrier")
                self._step("End.X without carrier: as End, on to the next segment", sid.key)
                return None
            case Behavior.END_DT6:
                if rest:
                    raise _Done(Outcome.DROPPED, f"{as_text(active)} is not the last segment")
                self._headers.pop()
                self._decapsulated = not self._headers
                self._step("End.DT6: decapsulate, look the inner packet up", sid.key)
                return None
            case Behavior.END_B6_ENCAPS:
                self._advance(outer, rest, sid)
                self._push(sid.segments)
                self._step(f"End.B6.Encaps: on to {_segments(sid.segments)}", sid.key)
                return None
            case _:
                raise _Done(Outcome.LEFT, f"{sid.behavior} of {self._router} takes it")

    def _advance(self, outer: Outer, rest: SegmentList, sid: LocalSid) -> None:
        if not rest:
            raise _Done(
                Outcome.DROPPED, f"{as_text(sid.sid)} is the last segment and decapsulates nothing"
            )
        self._headers[-1] = replace(outer, segments=rest)

    # --- without one -------------------------------------------------------------------------

    def _bare(self) -> str | None:
        packet = self._packet
        fib = self._fibs.fib(self._router)
        if not self._decapsulated:
            flow = fib.flow(packet)
            if flow is not None:
                self._flow(flow)
                return None
        if packet.destination in fib.addresses:
            raise _Done(Outcome.LOCAL, f"{as_text(packet.destination)} is {self._router} itself")
        return self._plain(packet.destination)

    def _flow(self, flow: FlowSteering) -> None:
        if not flow.lists:
            self._step(f"flow rule {flow.rule}: drop", flow.key)
            raise _Done(Outcome.DROPPED, f"flow rule {flow.rule} drops it: no path is valid")
        alive = [way for way in flow.lists if self._works(way.interface)]
        if alive:
            way = self._choose(
                flow if len(alive) == len(flow.lists) else replace(flow, lists=tuple(alive))
            )
        elif flow.backup is not None and self._works(flow.backup.interface):
            way = flow.backup
        else:
            raise _Done(Outcome.DROPPED, f"no list of flow rule {flow.rule} leads on")
        self._push(way.segments)
        backup = " (backup)" if way is flow.backup else ""
        self._step(
            f"flow rule {flow.rule}{backup}: {flow.mode}, {_segments(way.segments)}", flow.key
        )

    def _plain(self, destination: IPv6Address) -> str | None:
        """Look a destination up in the main table."""
        entry = self._fibs.fib(self._router).longest(destination, self._works)
        match entry:
            case str():
                self._step(f"connected: out of {entry}", "settings")
                return entry
            case Delivery():
                self._step(f"deliver to {entry.mobile_node} on {entry.interface}", entry.key)
                raise _Done(Outcome.DELIVERED, f"{entry.mobile_node} gets it from {self._router}")
            case DropEntry():
                self._step("drop", entry.key)
                raise _Done(Outcome.DROPPED, f"{entry.mobile_node} has just left {self._router}")
            case SteeringEntry():
                self._steer(entry)
                return None
            case UnderlayRoute():
                return self._route(entry)
            case UnreachableRoute():
                self._step("unreachable", entry.key)
            case LocalSid():
                raise _Done(Outcome.DROPPED, f"{as_text(destination)} without a segment list")
        raise _Done(Outcome.UNREACHABLE, f"{self._router} has no way to {as_text(destination)}")

    def _steer(self, entry: SteeringEntry) -> None:
        segments, backup = entry.segments, ""
        if not self._works(entry.interface) and entry.backup is not None:
            segments, backup = entry.backup.segments, " (backup)"
        self._push(segments)
        self._step(f"steer{backup}: {entry.mode}, {_segments(segments)}", entry.key)

    def _route(self, entry: UnderlayRoute) -> str | None:
        for interface, _ in entry.next_hops:
            if self._works(interface):
                self._step(f"route {entry.prefix}: out of {interface}", entry.key)
                return interface
        if entry.repair is None:
            raise _Done(Outcome.DROPPED, f"{self._router} has no carrier towards {entry.prefix}")
        if not entry.repair.segments:
            self._step(
                f"route {entry.prefix} without carrier, repair: out of {entry.repair.interface}",
                entry.key,
            )
            return entry.repair.interface
        self._push(entry.repair.segments)
        self._step(
            f"route {entry.prefix} without carrier, repair: {_segments(entry.repair.segments)}",
            entry.key,
        )
        return None

    def _push(self, segments: SegmentList) -> None:
        if len(self._headers) >= MAXIMUM_HOPS:
            raise _Done(Outcome.LOOP, "outer headers without end")
        self._headers.append(Outer(segments, segments))


def _dead(entry: PlanEntry, works: Callable[[str], bool]) -> bool:
    match entry:
        case SteeringEntry():
            ways = [entry.interface, *([entry.backup.interface] if entry.backup else [])]
        case UnderlayRoute():
            repair = entry.repair
            ways = [*(name for name, _ in entry.next_hops), *([repair.interface] if repair else [])]
        case _:
            return False
    return not any(map(works, ways))


def _segments(segments: Sequence[IPv6Address]) -> str:
    return ", ".join(as_text(sid) for sid in segments)


def plans_of(
    entries: Mapping[str, Mapping[str, PlanEntry]],
) -> Callable[[str], Iterable[PlanEntry]]:
    """Return what a FibWalk asks for, of plans by router and key."""
    return lambda router: entries.get(router, {}).values()
