"""Frame redirects: tc u32 filters with mirred actions at the clsact ingress of an interface.

u32 and mirred are in every kernel that has tc actions at all. A filter is replaced by one pointer
swap in the kernel: every frame sees either the old filter or the new one.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink import traffic
from srv6dmm.dataplane.netlink.attributes import U32, attribute, attributes
from srv6dmm.dataplane.netlink.channel import Channel, Rejection
from srv6dmm.model.errors import Srv6dmmError

_SELECTOR = struct.Struct("=BBBxHHhhI")
_KEY = struct.Struct("!II")
_KEY_OFFSETS = struct.Struct("=ii")
_MIRRED = struct.Struct("=IIiiiiI")
_TCA_U32_SEL, _TCA_U32_ACT = 5, 7
_TCA_ACT_KIND, _TCA_ACT_OPTIONS, _TCA_MIRRED_PARMS = 1, 2, 2
_EGRESS_REDIRECT, _EGRESS_MIRROR = 1, 2
_ACTION_CONTINUE, _ACTION_STOLEN = -1, 4
_TERMINAL = 1
_PRIORITY = 1
_TABLE = 0x80000000
"""Handle of the first hash table of an interface's u32 filters; we use one priority only."""
MAXIMUM_SLOT = 0xFFF


class RedirectError(Srv6dmmError):
    """The kernel refused a filter."""


@dataclass(frozen=True, slots=True)
class Match:
    """One 32-bit word of a frame, at a byte offset from the network header."""

    value: int
    mask: int
    offset: int


EVERYTHING = (Match(0, 0, 0),)
GROUP = (Match(0x01000000, 0x01000000, -14),)
"""Frames to multicast and broadcast link-layer addresses."""


def destination(mac: str) -> tuple[Match, ...]:
    """Return the match for frames to one link-layer address."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return (
        Match(int.from_bytes(octets[:4], "big"), 0xFFFFFFFF, -14),
        Match(int.from_bytes(octets[4:], "big") << 16, 0xFFFF0000, -10),
    )


@dataclass(frozen=True, slots=True)
class Redirect:
    """A filter at slot `slot` (1..4095; filters are tried in the order of their slots).

    What matches leaves by `target`: the frame itself, or with `copy` a copy of it, and then the
    next filter is tried.
    """

    interface: str
    slot: int
    match: tuple[Match, ...]
    target: str
    copy: bool = False


class Redirects:
    """The redirects of one namespace. Not thread-safe."""

    def __init__(self, network_namespace: str) -> None:
        self._name = network_namespace
        with namespace.inside(network_namespace):
            self._channel = Channel(n.NETLINK_ROUTE)
            self._indices = {name: index for index, name in socket.if_nameindex()}
        self._interfaces = {index: name for name, index in self._indices.items()}

    def close(self) -> None:
        """Close the netlink socket; the filters stay."""
        self._channel.close()

    def prepare(self, interfaces: Sequence[str]) -> None:
        """Put the clsact hook on interfaces; harmless where there is one."""
        requests = [traffic.add_hook(self._index(interface)) for interface in interfaces]
        self._raise(self._channel.execute(requests), tolerate=errno.EEXIST)

    def put(self, redirects: Sequence[Redirect]) -> None:
        """Create or atomically replace filters, in order."""
        self._raise(self._channel.execute([self._request(redirect) for redirect in redirects]))

    def remove(self, places: Sequence[tuple[str, int]]) -> None:
        """Remove filters by (interface, slot); those that are not there are no error."""
        requests = [
            traffic.delete_filter(self._index(interface), _PRIORITY, _TABLE | slot, b"u32")
            for interface, slot in places
        ]
        rejected = self._channel.execute(requests)
        # ENOENT: no such filter; EINVAL: no filter of that kind on the interface at all.
        self._raise(
            {
                index: rejection
                for index, rejection in rejected.items()
                if rejection.errno not in (errno.ENOENT, errno.EINVAL)
            }
        )

    def targets(self, interface: str) -> dict[int, str]:
        """Return slot -> interface that frames leave by, as the kernel has it now."""
        request = traffic.dump_filters(self._index(interface))
        found: dict[int, str] = {}
        for _, data, start, end in self._channel.dump(request):
            handle = traffic.TCMSG.unpack_from(data, start)[4]
            outer = attributes(data, start + traffic.TCMSG.size, end)
            options = outer.get(traffic.TCA_OPTIONS, b"")
            inner = attributes(options, 0, len(options))
            if _TCA_U32_ACT in inner:
                found[handle & MAXIMUM_SLOT] = self._target(inner[_TCA_U32_ACT])
        return found

    def _target(self, actions: bytes) -> str:
        action = attributes(actions, 0, len(actions))[1]
        options = attributes(action, 0, len(action))[_TCA_ACT_OPTIONS]
        parameters = attributes(options, 0, len(options))[_TCA_MIRRED_PARMS]
        index = U32.unpack_from(parameters, _MIRRED.size - 4)[0]
        return self._interfaces.get(index, f"interface {index}")

    def _index(self, interface: str) -> int:
        try:
            return self._indices[interface]
        except KeyError:
            raise RedirectError(f"{self._name} has no interface {interface!r}") from None

    def _request(self, redirect: Redirect) -> bytes:
        selector = _SELECTOR.pack(_TERMINAL, 0, len(redirect.match), 0, 0, 0, 0, 0)
        for match in redirect.match:
            selector += _KEY.pack(match.mask, match.value) + _KEY_OFFSETS.pack(match.offset, 0)
        parameters = _MIRRED.pack(
            0,
            0,
            _ACTION_CONTINUE if redirect.copy else _ACTION_STOLEN,
            0,
            0,
            _EGRESS_MIRROR if redirect.copy else _EGRESS_REDIRECT,
            self._index(redirect.target),
        )
        action = attribute(_TCA_ACT_KIND, b"mirred\0")
        action += attribute(
            _TCA_ACT_OPTIONS | n.NLA_F_NESTED, attribute(_TCA_MIRRED_PARMS, parameters)
        )
        options = attribute(_TCA_U32_SEL, selector)
        options += attribute(_TCA_U32_ACT | n.NLA_F_NESTED, attribute(1 | n.NLA_F_NESTED, action))
        return traffic.put_filter(
            self._index(redirect.interface), _PRIORITY, _TABLE | redirect.slot, b"u32", options
        )

    def _raise(self, rejected: dict[int, Rejection], tolerate: int = 0) -> None:
        for rejection in rejected.values():
            if rejection.errno != tolerate:
                raise RedirectError(f"{self._name}: tc filter: {rejection.reason}")
