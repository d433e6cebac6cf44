"""Raw ICMPv6 sockets in a router's network namespace (RFC 3542)."""

from __future__ import annotations

import socket
import struct

from srv6dmm.dataplane import namespace

_ICMPV6_FILTER = 1
_ETH_P_IPV6 = 0x86DD
_PASS_NOTHING = 0xFFFFFFFF


def type_filter(*passed: int) -> bytes:
    """Return the ICMP6_FILTER option that lets only these message types through."""
    words = [_PASS_NOTHING] * 8
    for kind in passed:
        words[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
    return struct.pack("@8I", *words)


def listen(network_namespace: str | None, *types: int) -> socket.socket:
    """Return a non-blocking raw socket that hears these ICMPv6 types in the namespace.

    The kernel checks the checksum of what it hands over and computes that of what is sent.
    Raises OSError (CAP_NET_RAW is needed) and NamespaceError.
    """
    with namespace.inside(network_namespace):
        made = socket.socket(
            socket.AF_INET6,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.IPPROTO_ICMPV6,
        )
    try:
        made.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, type_filter(*types))
    except OSError:
        made.close()
        raise
    return made


def packet_sender(network_namespace: str | None) -> socket.socket:
    """Return a packet socket of the namespace that hears nothing: `sendto` with IPv6 packets and
    `link_address`. Raises OSError (CAP_NET_RAW is needed) and NamespaceError."""
    with namespace.inside(network_namespace):
        return socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
        )


def link_address(interface: str, mac: str) -> tuple[str, int, int, int, bytes]:
    """Return where a packet socket sends an IPv6 packet: to one station on an interface."""
    return (interface, _ETH_P_IPV6, 0, 0, bytes.fromhex(mac.replace(":", "")))


def interface_index(network_namespace: str | None, interface: str) -> int:
    """Return the index of an interface of the namespace. Raises OSError when there is none."""
    with namespace.inside(network_namespace):
        return socket.if_nametoindex(interface)
