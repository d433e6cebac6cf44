"""Addresses: what the standard library has not: link-layer and link-local addresses."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = [
    "IPv4Address",
    "IPv4Network",
    "IPv6Address",
    "IPv6Network",
    "as_text",
    "link_local_from_mac",
    "parse_mac",
]


@lru_cache(maxsize=1 << 16)
def as_text(value: IPv4Address | IPv4Network | IPv6Address | IPv6Network) -> str:
    """Return str(value), remembered: formatting an IPv6 prefix anew costs more than a look-up."""
    return str(value)


_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def parse_mac(text: str) -> str:
    """Return a 48-bit link-layer address as six lower-case hex pairs with colons.

    Raises ValueError when the text is not such an address, is all zero, or is a group address,
    as the broadcast address is (a node cannot send from one).
    """
    mac = text.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError(f"not a link-layer address: {text!r} (want aa:bb:cc:dd:ee:ff)")
    if mac == "00:00:00:00:00:00":
        raise ValueError(f"{text!r} is nobody's address; a mobile node has one of its own")
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{text!r} is a group address; a mobile node has a unicast one")
    return mac


@lru_cache(maxsize=1 << 16)
def link_local_from_mac(mac: str) -> IPv6Address:
    """Return the modified-EUI-64 link-local address of a MAC (RFC 4291 appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((octets[0] ^ 0x02,)) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)
