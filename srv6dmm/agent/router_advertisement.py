"""Bytes of Router Advertisements, and of the Solicitations that ask for them (RFC 4861)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from srv6dmm.model.plan import Advertisement

ROUTER_SOLICITATION = 133
ROUTER_ADVERTISEMENT = 134
ALL_NODES = IPv6Address("ff02::1")
HOP_LIMIT = 255
"""RFC 4861 section 6.1: a receiver takes nothing else, so nothing off the link gets through."""
CURRENT_HOP_LIMIT = 64
SOURCE_LINK_LAYER, PREFIX_INFORMATION, MTU = 1, 3, 5
_AUTONOMOUS = 0x40
_ICMPV6 = 58
_IPV6_HEADER = struct.Struct("!IHBB")
"""Version, class and flow label, payload length, next header, hop limit."""
_HEADER = struct.Struct("!BBHBBHII")
"""Type, code, checksum, hop limit, flags, router lifetime, reachable time, retransmission."""
_LINK_LAYER_OPTION = struct.Struct("!BB6s")
_MTU_OPTION = struct.Struct("!BBHI")
_PREFIX_OPTION = struct.Struct("!BBBBIII16s")
_MOST_U16, _MOST_U32 = 0xFFFF, 0xFFFFFFFF


def encode_advertisement(advertisement: Advertisement, router_mac: str) -> bytes:
    """Return the ICMPv6 message, its checksum zero.

    Flags 0: no DHCPv6, preference medium (RFC 4191 section 2.2). Prefixes are autonomous but
    not on-link: they are the node's alone, and everything goes through the router (RFC 5213
    section 6.9.3). An old prefix has preferred lifetime 0 (RFC 8885 section 3.7). Lifetimes too
    long for their fields become the longest there are; preferred never exceeds valid.
    """
    parts = [
        _HEADER.pack(
            ROUTER_ADVERTISEMENT,
            0,
            0,
            CURRENT_HOP_LIMIT,
            0,
            min(advertisement.router_lifetime_s, _MOST_U16),
            0,
            0,
        ),
        _LINK_LAYER_OPTION.pack(SOURCE_LINK_LAYER, 1, bytes.fromhex(router_mac.replace(":", ""))),
        _MTU_OPTION.pack(MTU, 1, 0, advertisement.mtu),
    ]
    for advertised in advertisement.prefixes:
        valid_s = min(advertised.valid_s, _MOST_U32)
        parts.append(
            _PREFIX_OPTION.pack(
                PREFIX_INFORMATION,
                4,
                advertised.prefix.prefixlen,
                _AUTONOMOUS,
                valid_s,
                min(advertised.preferred_s, valid_s),
                0,
                advertised.prefix.network_address.packed,
            )
        )
    return b"".join(parts)


def packet_to_all_nodes(source: IPv6Address, message: bytes) -> bytes:
    """Return an ICMPv6 message as an IPv6 packet from a link-local address to ff02::1."""
    addresses = source.packed + ALL_NODES.packed
    pseudo_header = addresses + struct.pack("!II", len(message), _ICMPV6)
    message = message[:2] + _checksum(pseudo_header + message).to_bytes(2, "big") + message[4:]
    return _IPV6_HEADER.pack(6 << 28, len(message), _ICMPV6, HOP_LIMIT) + addresses + message


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071); the field itself counts as zero."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True, slots=True)
class Solicitation:
    """A valid Router Solicitation: who asks, as far as it says."""

    source: IPv6Address
    """A link-local address, or :: from a node that has none yet."""
    link_layer_address: str | None
    """From its source link-layer option."""


def parse_solicitation(message: bytes, source: str, hop_limit: int) -> Solicitation | None:
    """Return what a received ICMPv6 message asks; None when it is no valid RS.

    Validity as in RFC 4861 section 6.1.1. The kernel has checked the checksum.
    """
    if len(message) < 8 or message[0] != ROUTER_SOLICITATION or message[1] != 0:
        return None
    address = IPv6Address(source.partition("%")[0])
    if hop_limit != HOP_LIMIT or not (address.is_link_local or address.is_unspecified):
        return None
    link_layer_address = None
    offset = 8
    while offset < len(message):
        if offset + 2 > len(message) or message[offset + 1] == 0:
            return None
        end = offset + 8 * message[offset + 1]
        if end > len(message):
            return None
        if message[offset] == SOURCE_LINK_LAYER:
            link_layer_address = message[offset + 2 : offset + 8].hex(":")
        offset = end
    if address.is_unspecified and link_layer_address is not None:
        return None
    return Solicitation(address, link_layer_address)
