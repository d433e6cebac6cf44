"""Virtual cables: veth pairs whose two ends are made where they belong, in one message each."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Interface

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import attribute, message, u32
from srv6dmm.dataplane.netlink.channel import Channel
from srv6dmm.model.addresses import IPv6Address
from srv6dmm.model.errors import Srv6dmmError

_IFINFOMSG = struct.Struct("=BBHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_RTPROT_BOOT = 3
_MAIN_TABLE = 254
_NLM_F_EXCL = 0x200
_IFF_UP = 1
_FIRST_INDEX = 10
"""Every interface of one call has an index of its own. Were the two ends of a pair to have the
same (each in its namespace), the kernel would take up to a second to see the carrier."""


class WiringError(Srv6dmmError):
    """The kernel refused an interface, an address or a route."""


@dataclass(frozen=True, slots=True)
class CableEnd:
    """One end: the namespace it lives in and its interface there; no MAC: a random one."""

    network_namespace: str
    interface: str
    link_layer_address: str | None = None


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair. `mtu` in bytes holds at both ends."""

    a: CableEnd
    b: CableEnd
    mtu: int = 1500


def lay(cables: Sequence[Cable]) -> None:
    """Make all the pairs, up. Raises WiringError naming the first pair the kernel refused."""
    names = {end.network_namespace for cable in cables for end in (cable.a, cable.b)}
    descriptors: dict[str, int] = {}
    channel = Channel(n.NETLINK_ROUTE)
    try:
        for name in sorted(names):
            descriptors[name] = os.open(namespace.path(name), os.O_RDONLY | os.O_CLOEXEC)
        rejected = channel.execute(
            [
                _pair(cable, descriptors, _FIRST_INDEX + 2 * number)
                for number, cable in enumerate(cables)
            ]
        )
    except OSError as error:
        raise WiringError(f"cannot reach a network namespace to wire: {error}") from error
    finally:
        channel.close()
        for descriptor in descriptors.values():
            os.close(descriptor)
    for index, rejection in sorted(rejected.items()):
        cable = cables[index]
        raise WiringError(
            f"cannot join {cable.a.network_namespace}:{cable.a.interface} and "
            f"{cable.b.network_namespace}:{cable.b.interface}: {rejection.reason}"
        )
    for name in sorted({cable.b.network_namespace for cable in cables}):
        ends = [cable.b.interface for cable in cables if cable.b.network_namespace == name]
        with namespace.inside(name):
            _execute(name, [_up(end) for end in ends])


def set_up(network_namespace: str, sysctls: Iterable[tuple[str, str]] = ()) -> None:
    """Write sysctls (names below /proc/sys, with slashes) in a namespace and set its lo up.

    Done before interfaces are made, `net/ipv6/conf/default/...` holds for all of them.
    """
    with namespace.inside(network_namespace):
        for name, value in sysctls:
            try:
                with open(f"/proc/sys/{name}", "w") as file:
                    file.write(value)
            except OSError as error:
                raise WiringError(f"{network_namespace}: sysctl {name}={value}: {error}") from error
        body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 1, _IFF_UP, _IFF_UP)
        _execute(network_namespace, [message(n.RTM_NEWLINK, n.NLM_F_REQUEST, body)])


def configure_host(
    network_namespace: str, interface: str, address: IPv6Interface, gateway: IPv6Address
) -> None:
    """Give a fixed host its address (no duplicate address detection) and its default route."""
    with namespace.inside(network_namespace):
        index = socket.if_nametoindex(interface)
        packed = address.ip.packed
        add = _IFADDRMSG.pack(
            socket.AF_INET6, address.network.prefixlen, n.IFA_F_NODAD, n.RT_SCOPE_UNIVERSE, index
        )
        add += attribute(n.IFA_LOCAL, packed) + attribute(n.IFA_ADDRESS, packed)
        route = _RTMSG.pack(
            socket.AF_INET6,
            0,
            0,
            0,
            _MAIN_TABLE,
            _RTPROT_BOOT,
            n.RT_SCOPE_UNIVERSE,
            n.RTN_UNICAST,
            0,
        )
        route += u32(n.RTA_OIF, index) + attribute(n.RTA_GATEWAY, gateway.packed)
        flags = n.NLM_F_REQUEST | n.NLM_F_CREATE | n.NLM_F_REPLACE
        _execute(
            network_namespace,
            [message(n.RTM_NEWADDR, flags, add), message(n.RTM_NEWROUTE, flags, route)],
        )


def _execute(network_namespace: str, requests: Sequence[bytes]) -> None:
    channel = Channel(n.NETLINK_ROUTE)
    try:
        for rejection in channel.execute(requests).values():
            raise WiringError(f"{network_namespace}: {rejection.reason}")
    finally:
        channel.close()


def _pair(cable: Cable, descriptors: dict[str, int], index: int) -> bytes:
    # The second end cannot come up here: at that moment it has no peer yet.
    peer = _end(cable.b, cable.mtu, descriptors, index + 1, up=False)
    info = attribute(_INFO_KIND, b"veth\0")
    info += attribute(
        _INFO_DATA | n.NLA_F_NESTED, attribute(_VETH_INFO_PEER | n.NLA_F_NESTED, peer)
    )
    body = _end(cable.a, cable.mtu, descriptors, index, up=True)
    body += attribute(_IFLA_LINKINFO | n.NLA_F_NESTED, info)
    return message(n.RTM_NEWLINK, n.NLM_F_REQUEST | n.NLM_F_CREATE | _NLM_F_EXCL, body)


def _up(interface: str) -> bytes:
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, _IFF_UP, _IFF_UP)
    return message(n.RTM_NEWLINK, n.NLM_F_REQUEST, body + _name(interface))


def _name(interface: str) -> bytes:
    name = interface.encode() + b"\0"
    if len(name) > 16:
        raise WiringError(f"interface name {interface!r} is longer than 15 characters")
    return attribute(_IFLA_IFNAME, name)


def _end(end: CableEnd, mtu: int, descriptors: dict[str, int], index: int, *, up: bool) -> bytes:
    flag = _IFF_UP if up else 0
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, index, flag, flag)
    body += _name(end.interface) + u32(_IFLA_MTU, mtu)
    body += u32(_IFLA_NET_NS_FD, descriptors[end.network_namespace])
    if end.link_layer_address is not None:
        octets = bytes.fromhex(end.link_layer_address.replace(":", ""))
        body += attribute(_IFLA_ADDRESS, octets)
    return body
