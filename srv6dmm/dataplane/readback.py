"""Reading back what the kernel holds, as the values it was given."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import IPv6Address

from srv6dmm.dataplane.netlink import addresses, neighbours, routes, rules
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import MalformedMessage
from srv6dmm.dataplane.netlink.channel import Channel, Rejection
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable, NoSuchInterface
from srv6dmm.dataplane.netlink.tunnel_source import TunnelSourceControl
from srv6dmm.dataplane.objects import (
    MAIN_TABLE,
    METRIC,
    PROTOCOL,
    Identity,
    InterfaceAddress,
    LinkAddress,
    NativeObject,
    Neighbour,
    Route,
    Rule,
    TunnelSource,
)
from srv6dmm.dataplane.sysctls import Sysctls

_ASK_ONE_BY_ONE = 64
"""Up to so many routes are asked for singly, beyond it the table is dumped."""


class Reader:
    """Reads objects of ours. `duplicated` holds identities that more than one route has."""

    def __init__(
        self,
        channel: Channel,
        interfaces: InterfaceTable,
        tunnel_source: TunnelSourceControl,
        sysctls: Sysctls,
    ) -> None:
        self._channel = channel
        self._interfaces = interfaces
        self._tunnel_source = tunnel_source
        self._sysctls = sysctls
        self._any_link_layer_address: set[str] = set()
        self._leaves_by: dict[Identity, str] = {}
        """Interface of routes that another one of the same prefix comes before."""
        self.duplicated: set[Identity] = set()

    def note_backup(self, route: Route) -> None:
        """Remember where a route leads that the kernel does not show as long as a better works."""
        self._leaves_by[route.identity] = route.next_hops[0].interface

    def note(self, link: LinkAddress) -> None:
        """Remember whether a link was put with any link-layer address: it is read back so."""
        if link.link_layer_address is None:
            self._any_link_layer_address.add(link.interface)
        else:
            self._any_link_layer_address.discard(link.interface)

    def everything(self) -> dict[Identity, NativeObject]:
        """Return every route, neighbour and address that carries our protocol."""
        found: dict[Identity, NativeObject] = {}
        self.duplicated.clear()
        for route in self._routes((socket.AF_INET6, socket.AF_INET)):
            self._add(found, route)
        for rule in self.rules():
            found[rule.identity] = rule
        for neighbour in self._neighbours():
            found[neighbour.identity] = neighbour
        for about in self.addresses().values():
            if about.protocol == PROTOCOL:
                address = addresses.build(about, self._interfaces)
                found[address.identity] = address
        return found

    def those(self, wanted: Iterable[Identity]) -> dict[Identity, NativeObject]:
        """Return the objects of these identities that are there."""
        kinds: dict[str, list[Identity]] = {}
        for identity in wanted:
            kinds.setdefault(str(identity[0]), []).append(identity)
        found: dict[Identity, NativeObject] = {}
        for kind, identities in kinds.items():
            match kind:
                case "route":
                    found.update(self._wanted_routes(identities))
                case "rule":
                    held = {rule.identity: rule for rule in self.rules()}
                    found.update((key, held[key]) for key in identities if key in held)
                case "neighbour":
                    found.update(self._wanted_neighbours(identities))
                case "address":
                    found.update(self._wanted_addresses(identities))
                case "tunsrc":
                    source = self._tunnel_source.get()
                    if source is not None:
                        found[identities[0]] = TunnelSource(source)
                case "sysctl":
                    for identity in identities:
                        sysctl = self._sysctls.get(str(identity[1]))
                        if sysctl is not None:
                            found[identity] = sysctl
                case "link":
                    self._interfaces.refresh()
                    for identity in identities:
                        link = self._link(str(identity[1]))
                        if link is not None:
                            found[identity] = link
                case _:
                    raise ValueError(f"not the identity of a kernel object: {identities[0]!r}")
        return found

    def sid_counters(self) -> dict[str, tuple[int, int, int]]:
        """Return SID -> (packets, bytes, errors) of the local SIDs that count."""
        found: dict[str, tuple[int, int, int]] = {}
        for kind, datagram, start, end in self._channel.dump(routes.dump_request(socket.AF_INET6)):
            if kind != n.RTM_NEWROUTE:
                continue
            about, parts = routes.facts(datagram, start, end)
            if about.protocol == PROTOCOL:
                counted = routes.counters(parts)
                if counted is not None:
                    sid = str(IPv6Address(about.destination))
                    before = found.get(sid, (0, 0, 0))
                    found[sid] = (
                        before[0] + counted[0],
                        before[1] + counted[1],
                        before[2] + counted[2],
                    )
        return found

    def counted(self, sids: Iterable[Route]) -> tuple[int, int, int] | None:
        """Return the sum of what the routes of local SIDs count, each asked for by itself."""
        total: tuple[int, int, int] | None = None
        for route in sids:
            try:
                index = self._interfaces.index(route.next_hops[0].interface)
            except (NoSuchInterface, IndexError):
                continue
            packed = route.prefix.network_address.packed
            answer = self._channel.ask(routes.match_request(packed, index))
            if isinstance(answer, Rejection) or answer[0] != n.RTM_NEWROUTE:
                continue
            about, parts = routes.facts(*answer[1:])
            if about.protocol != PROTOCOL or (about.destination, about.metric) != (
                packed,
                route.metric,
            ):
                continue
            one = routes.counters(parts)
            if one is not None:
                before = total or (0, 0, 0)
                total = (before[0] + one[0], before[1] + one[1], before[2] + one[2])
        return total

    def rules(self) -> list[Rule]:
        """Return the rules of ours, in the order in which the kernel asks them."""
        found: list[Rule] = []
        for kind, datagram, start, end in self._channel.dump(rules.dump_request()):
            if kind != n.RTM_NEWRULE or not rules.is_ours(datagram, start, end):
                continue
            try:
                found.append(rules.decode(datagram, start, end))
            except MalformedMessage:
                continue  # our protocol number on a kind of rule we never make
        return found

    # --- routes ------------------------------------------------------------------------------

    def _routes(
        self,
        families: Iterable[int],
        destinations: frozenset[bytes] | None = None,
        table: int = 0,
    ) -> Iterable[Route]:
        """Yield routes of ours; with `destinations`, those to one of these addresses only.

        With `table`, those in it; a table that is not there has none.
        """
        for family in families:
            for kind, datagram, start, end in self._dump(family, table):
                if kind != n.RTM_NEWROUTE:
                    continue
                about, parts = routes.facts(datagram, start, end)
                if about.protocol != PROTOCOL or about.family != family:
                    continue
                if destinations is not None and about.destination not in destinations:
                    continue
                try:
                    yield routes.build(about, parts, self._interfaces)
                except MalformedMessage:
                    continue  # our protocol number on a kind of route we never make

    def _dump(self, family: int, table: int) -> Iterable[tuple[int, bytes, int, int]]:
        try:
            yield from self._channel.dump(routes.dump_request(family, table))
        except OSError as error:
            if not table or error.errno != errno.ENOENT:
                raise

    def _add(self, found: dict[Identity, NativeObject], route: Route) -> None:
        identity = route.identity
        other = found.get(identity)
        if isinstance(other, Route):
            # Somebody appended a route; shown as one that can equal nothing that was put.
            self.duplicated.add(identity)
            route = Route(
                other.prefix, other.kind, other.next_hops + route.next_hops, None,
                other.table, other.metric,
            )  # fmt: skip
        found[identity] = route

    def _wanted_routes(self, identities: list[Identity]) -> dict[Identity, NativeObject]:
        found: dict[Identity, NativeObject] = {}
        left = set(identities)
        for table in sorted({int(str(i[2])) for i in left} - {MAIN_TABLE}):
            inside = {identity for identity in left if identity[2] == table}
            held: dict[Identity, NativeObject] = {}
            for route in self._routes((socket.AF_INET6, socket.AF_INET), table=table):
                if route.table == table:
                    self._add(held, route)
            found.update((key, held[key]) for key in inside if key in held)
            left -= inside
        identities = [identity for identity in identities if identity in left]
        if len(left) <= _ASK_ONE_BY_ONE:
            for identity in identities:
                matched = self._match(identity)
                if matched is not None:
                    found[identity] = matched
                    left.discard(identity)
        if left:
            destinations, families = set(), set()
            for identity in left:
                address, _, length = str(identity[1]).partition("/")
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                families.add(family)
                destinations.add(b"" if length == "0" else socket.inet_pton(family, address))
            dumped: dict[Identity, NativeObject] = {}
            for route in self._routes(families, frozenset(destinations)):
                self._add(dumped, route)
            found.update((key, dumped[key]) for key in left if key in dumped)
        return found

    def _match(self, identity: Identity) -> Route | None:
        """Ask the kernel for the route it takes to a prefix's first address.

        None when that is another one (more specific, better, or in another table): only a dump
        tells then.
        """
        _, prefix, table, metric = identity
        address, _, length = str(prefix).partition("/")
        if table != MAIN_TABLE or ":" not in address:
            return None
        packed = socket.inet_pton(socket.AF_INET6, address)
        index = 0
        if metric != METRIC:
            try:
                index = self._interfaces.index(self._leaves_by.get(identity, ""))
            except NoSuchInterface:
                return None
        answer = self._channel.ask(routes.match_request(packed, index))
        if isinstance(answer, Rejection) or answer[0] != n.RTM_NEWROUTE:
            return None
        about, parts = routes.facts(*answer[1:])
        if (
            about.protocol != PROTOCOL
            or about.prefix_length != int(length)
            or about.table != table
            or about.metric != metric
            or identity in self.duplicated
        ):
            return None
        try:
            return routes.build(about, parts, self._interfaces)
        except MalformedMessage:
            return None

    # --- the rest ----------------------------------------------------------------------------

    def _neighbours(self) -> Iterable[Neighbour]:
        for kind, datagram, start, end in self._channel.dump(neighbours.dump_request()):
            if kind == n.RTM_NEWNEIGH:
                neighbour = neighbours.build(
                    neighbours.facts(datagram, start, end), self._interfaces
                )
                if neighbour is not None:
                    yield neighbour

    def _wanted_neighbours(self, identities: list[Identity]) -> dict[Identity, NativeObject]:
        """Singly up to some: a dump of all nodes of an access router takes milliseconds."""
        found: dict[Identity, NativeObject] = {}
        left = set(identities)
        if len(left) <= _ASK_ONE_BY_ONE:
            for identity in identities:
                neighbour = self._ask_neighbour(str(identity[1]), str(identity[2]))
                if neighbour is not None:
                    found[identity] = neighbour
                    left.discard(identity)
                else:
                    break  # not there, or an older kernel: only a dump tells
        if left:
            these = {one.identity: one for one in self._neighbours()}
            found.update((key, these[key]) for key in left if key in these)
        return found

    def _ask_neighbour(self, interface: str, address: str) -> Neighbour | None:
        try:
            index = self._interfaces.index(interface)
        except NoSuchInterface:
            return None
        packed = socket.inet_pton(socket.AF_INET6, address)
        answer = self._channel.ask(neighbours.get_request(index, packed))
        if isinstance(answer, Rejection) or answer[0] != n.RTM_NEWNEIGH:
            return None
        return neighbours.build(neighbours.facts(*answer[1:]), self._interfaces)

    def addresses(self) -> dict[tuple[int, bytes], addresses.AddressFacts]:
        """Return all IPv6 addresses of the namespace by (interface index, packed address)."""
        found = {}
        for kind, datagram, start, end in self._channel.dump(addresses.dump_request()):
            if kind == n.RTM_NEWADDR:
                about = addresses.facts(datagram, start, end)
                found[about.index, about.address] = about
        return found

    def _wanted_addresses(self, identities: list[Identity]) -> dict[Identity, InterfaceAddress]:
        """Here an address counts without our protocol too: older kernels keep none."""
        wanted = set(identities)
        found: dict[Identity, InterfaceAddress] = {}
        for about in self.addresses().values():
            address = addresses.build(about, self._interfaces)
            if address.identity in wanted:
                found[address.identity] = address
        return found

    def _link(self, interface: str) -> LinkAddress | None:
        state = self._interfaces.state(interface)
        if state is None or not state.up:
            return None
        if interface in self._any_link_layer_address:
            return LinkAddress(interface, None)
        return LinkAddress(interface, state.link_layer_address)
