"""The real kernel: one network namespace, by netlink and /proc/sys."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.netlink import addresses, lanes, links, neighbours, rules
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import MalformedMessage
from srv6dmm.dataplane.netlink.channel import BATCH, Channel, Rejection
from srv6dmm.dataplane.netlink.interfaces import InterfaceTable, LinkState, NoSuchInterface
from srv6dmm.dataplane.netlink.routes import RouteEncoder
from srv6dmm.dataplane.netlink.tunnel_source import TunnelSourceControl
from srv6dmm.dataplane.objects import (
    METRIC,
    Identity,
    InterfaceAddress,
    KernelFailure,
    LinkAddress,
    NativeObject,
    Neighbour,
    Route,
    Rule,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.dataplane.readback import Reader
from srv6dmm.dataplane.sysctls import Sysctls
from srv6dmm.dataplane.watch import Watch

_BULK = 4096
"""From so many steering routes on, a second socket pays."""
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV})
"""What the kernel says when the object to delete, or its interface, is not there."""


class LinuxKernel:
    """One network namespace (None: that of the caller).

    Put links before neighbours: Linux forgets the neighbours of an interface whose link-layer
    address changes. The sockets are opened inside the namespace, and the calling thread is
    brought back at once. Raises NamespaceError when there is no such namespace, OSError when
    netlink is refused.
    """

    def __init__(self, network_namespace: str | None = None) -> None:
        with namespace.inside(network_namespace):
            self._channel = Channel(n.NETLINK_ROUTE)
            self._tunnel_source = TunnelSourceControl()
        self._namespace = network_namespace
        self._interfaces = InterfaceTable(self._load_links)
        self._encoder = RouteEncoder(self._interfaces)
        self._sysctls = Sysctls(network_namespace)
        self._reader = Reader(self._channel, self._interfaces, self._tunnel_source, self._sysctls)
        self._second_channel: Channel | None = None
        self._watch: Watch | None = None

    # --- writing -----------------------------------------------------------------------------

    def put(self, objects: Sequence[NativeObject]) -> list[KernelFailure]:
        """Create or atomically replace every object, in order, batched; go on after a failure."""
        if len(objects) >= _BULK and (bulk := self._put_bulk(objects)) is not None:
            return bulk
        failures: list[KernelFailure] = []
        for start in range(0, len(objects), BATCH):
            chunk = objects[start : start + BATCH]
            if set(map(type, chunk)) == {Route} and not self._reader.duplicated:
                routes = cast("Sequence[Route]", chunk)
                try:
                    requests = list(map(self._encoder.put, routes))
                except (NoSuchInterface, ValueError):
                    failures += self._put_chunk(chunk)  # one by one, to tell which it is
                else:
                    for route in routes:
                        if route.metric != METRIC and route.next_hops:
                            self._reader.note_backup(route)
                    failures += self._send(routes, requests)
            else:
                failures += self._put_chunk(chunk)
        return failures

    def _put_bulk(self, objects: Sequence[NativeObject]) -> list[KernelFailure] | None:
        """Put steering routes by two sockets; None when order matters or one cannot be encoded."""
        if set(map(type, objects)) != {Route} or self._reader.duplicated:
            return None
        routes = cast("Sequence[Route]", objects)
        if not all(
            type(route.encap) is Seg6Encap
            and len(route.next_hops) == 1
            and route.next_hops[0].via is None
            for route in routes
        ):
            return None
        if len({int(route.prefix.network_address) for route in routes}) != len(routes):
            return None  # perhaps the same route twice: then the last one must win
        if self._second_channel is None:
            with namespace.inside(self._namespace):
                self._second_channel = Channel(n.NETLINK_ROUTE)
            if self._watch is not None:
                self._watch.own(self._second_channel.port)
        try:
            requests = list(map(self._encoder.put, routes))
        except (NoSuchInterface, ValueError):
            return None  # one by one, to tell which it is
        rejected = lanes.execute((self._channel, self._second_channel), requests)
        return self._settle(routes, rejected)

    def _put_chunk(self, objects: Sequence[NativeObject]) -> list[KernelFailure]:
        failures: list[KernelFailure] = []
        items: list[NativeObject] = []
        requests: list[bytes] = []
        held: list[Rule] | None = None
        if any(isinstance(item, LinkAddress) for item in objects):
            self._refresh()
        for item in objects:
            try:
                if isinstance(item, TunnelSource | Sysctl):
                    # Not on the same socket: what came before goes out first.
                    failures += self._send(items, requests)
                    items, requests = [], []
                    failures += self._put_singular(item)
                    continue
                if isinstance(item, Rule):
                    if held is None:
                        held = self._reader.rules()
                    for request in _rule_requests(item, held):
                        items.append(item)
                        requests.append(request)
                    continue
                for request in self._requests(item):
                    items.append(item)
                    requests.append(request)
            except NoSuchInterface as error:
                failures.append(KernelFailure(item.identity, errno.ENODEV, str(error.args[0])))
            except ValueError as error:
                failures.append(KernelFailure(item.identity, errno.EINVAL, str(error)))
        failures += self._send(items, requests)
        return failures

    def _requests(
        self, item: Route | Neighbour | InterfaceAddress | LinkAddress
    ) -> Iterator[bytes]:
        """Encode one object; a link that is as it should be needs nothing."""
        match item:
            case Route():
                if item.identity in self._reader.duplicated:
                    self._clear(item)
                if item.metric != METRIC and item.next_hops:
                    self._reader.note_backup(item)
                yield self._encoder.put(item)
            case Neighbour():
                yield neighbours.put(item, self._interfaces)
            case InterfaceAddress():
                # Replace cannot change a prefix length: an address with another one goes first.
                index, packed = self._interfaces.index(item.interface), item.address.packed
                found = self._reader.addresses().get((index, packed))
                if found is not None and found.prefix_length != item.prefix_length:
                    yield addresses.delete(index, packed, found.prefix_length)
                yield addresses.put(item, self._interfaces)
            case LinkAddress():
                self._reader.note(item)
                if not self._is_so(item):
                    yield links.put(item, self._interfaces)

    def _send(
        self, items: Sequence[NativeObject], requests: Sequence[bytes]
    ) -> list[KernelFailure]:
        failures = self._settle(items, self._channel.execute(requests))
        if any(type(item) is LinkAddress for item in items):
            self._refresh()
        return failures

    def _settle(
        self, items: Sequence[NativeObject], rejected: dict[int, Rejection]
    ) -> list[KernelFailure]:
        """Name what failed; what failed for a stale interface index is encoded anew once."""
        if not rejected:
            return []
        failures: list[KernelFailure] = []
        stale = {index for index, answer in rejected.items() if answer.errno == errno.ENODEV}
        if stale and self._refresh():
            failures += self.put([items[index] for index in sorted(stale)])
            rejected = {index: rejected[index] for index in rejected if index not in stale}
        return failures + [_failure(items[index], answer) for index, answer in rejected.items()]

    def _put_singular(self, item: TunnelSource | Sysctl) -> list[KernelFailure]:
        if isinstance(item, TunnelSource):
            answer = self._tunnel_source.set(item.address)
        else:
            answer = self._sysctls.put(item)
        return [_failure(item, answer)] if answer is not None else []

    def _is_so(self, item: LinkAddress) -> bool:
        state = self._interfaces.state(item.interface)
        if state is None or not state.up:
            return False
        wanted = item.link_layer_address
        return wanted is None or wanted == state.link_layer_address

    def _clear(self, route: Route) -> None:
        """Take away all routes of an identity that has several of them (somebody appended).

        The one case where replace does not do: it would leave the others.
        """
        for _ in range(16):
            if self._channel.execute([self._encoder.delete(route)]):
                break
        self._reader.duplicated.discard(route.identity)

    def delete(self, objects: Sequence[NativeObject]) -> list[KernelFailure]:
        """Delete objects; one that is not there any more is not a failure."""
        pending: list[tuple[NativeObject, bytes]] = []
        held = self._reader.rules() if any(isinstance(i, Rule) for i in objects) else []
        for item in objects:
            try:
                if isinstance(item, Rule):
                    pending += [
                        (item, rules.delete(rule)) for rule in held if rule.table == item.table
                    ]
                elif isinstance(item, Route):
                    pending.append((item, self._encoder.delete(item)))
                elif isinstance(item, Neighbour):
                    pending.append((item, neighbours.delete(item, self._interfaces)))
                    self._expect_gone(self._interfaces.index(item.interface), item.address.packed)
                elif isinstance(item, InterfaceAddress):
                    index = self._interfaces.index(item.interface)
                    request = addresses.delete(index, item.address.packed, item.prefix_length)
                    pending.append((item, request))
                    self._expect_gone(index, item.address.packed)
            except NoSuchInterface:
                continue  # gone with its interface
        rejected = self._channel.execute([request for _, request in pending])
        return [
            _failure(pending[index][0], answer)
            for index, answer in rejected.items()
            if answer.errno not in _GONE
        ]

    def _expect_gone(self, index: int, packed: bytes) -> None:
        if self._watch is not None:
            self._watch.expect_gone(index, packed)

    # --- reading -----------------------------------------------------------------------------

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, NativeObject]:
        """Read back what is ours, in the very values `put` takes (so that == decides)."""
        if wanted is None:
            return self._reader.everything()
        return self._reader.those(wanted)

    def sid_counters(self) -> dict[str, tuple[int, int, int]]:
        """Return SID -> (packets, bytes, errors) of local SIDs, where the kernel counts."""
        return self._reader.sid_counters()

    def counted(self, objects: Iterable[NativeObject]) -> tuple[int, int, int] | None:
        """Return (packets, bytes, errors) that local SIDs among objects counted together."""
        return self._reader.counted(
            item for item in objects if isinstance(item, Route) and type(item.encap) is Seg6Local
        )

    # --- watching ----------------------------------------------------------------------------

    def subscribe(self, changed: Callable[[], None]) -> int:
        """Open a netlink monitor; return its file descriptor. See `dataplane.kernel.Kernel`."""
        if self._watch is not None:
            raise RuntimeError("this kernel is being watched already")
        self._interfaces.refresh()
        with namespace.inside(self._namespace):
            self._watch = Watch(self._interfaces, changed, self._encoder.forget)
        for channel in (self._channel, self._second_channel):
            if channel is not None:
                self._watch.own(channel.port)
        return self._watch.fileno()

    def drain(self) -> None:
        """Read what the monitor has; calls `changed` at most once."""
        if self._watch is not None:
            self._watch.drain()

    def close(self) -> None:
        """Close the sockets; kernel objects stay."""
        self._channel.close()
        self._tunnel_source.close()
        if self._second_channel is not None:
            self._second_channel.close()
            self._second_channel = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    # --- interfaces --------------------------------------------------------------------------

    def _load_links(self) -> list[LinkState]:
        states = []
        for kind, datagram, start, end in self._channel.dump(links.dump_request()):
            if kind == n.RTM_NEWLINK:
                try:
                    state = links.state(datagram, start, end)
                except MalformedMessage:
                    continue
                if state is not None:
                    states.append(state)
        return states

    def _refresh(self) -> bool:
        changed = self._interfaces.refresh()
        if changed:
            self._encoder.forget()
        return changed


def _failure(item: NativeObject, answer: Rejection) -> KernelFailure:
    return KernelFailure(item.identity, answer.errno, answer.reason)


def _rule_requests(rule: Rule, held: Sequence[Rule]) -> Iterator[bytes]:
    """Yield what makes the rules of a table this one: the new one is there before others go."""
    same_table = [other for other in held if other.table == rule.table]
    if rule not in same_table:
        yield rules.put(rule)
    yield from (rules.delete(other) for other in same_table if other != rule)
    copies = same_table.count(rule)
    yield from (rules.delete(rule) for _ in range(copies - 1))
