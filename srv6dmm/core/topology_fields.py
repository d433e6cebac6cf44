"""Typed values out of a YAML tree; whatever does not fit becomes a fault."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TypeVar

from srv6dmm.core.topology_yaml import Item
from srv6dmm.model.addresses import parse_mac
from srv6dmm.model.errors import TopologyError
from srv6dmm.model.topology import MAX_DELAY_US

NAME = re.compile(r"[a-z][a-z0-9-]{0,14}")
"""Names of nodes and domains: they become parts of names of network namespaces."""
NAME_FORM = "a letter, then letters, digits and -, lower case, at most 15"
INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
"""Linux takes at most 15 characters (IFNAMSIZ)."""
RESERVED_INTERFACES = frozenset({"lo", "all", "default"})
"""The loopback, and the names /proc/sys/net gives a meaning of their own."""

_DELAY = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,6})?) ?(us|ms|s)")
_DELAY_US = {"us": 1, "ms": 1_000, "s": 1_000_000}
_CAPACITY = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,6})?) ?([kMGT])")
_CAPACITY_BPS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
MAX_CAPACITY_BPS = 10**15

Choice = TypeVar("Choice", bound=StrEnum)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    near = difflib.get_close_matches(word, list(known), 1)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" or nothing."""
    near = nearest(word, known)
    return f"; did you mean {near!r}?" if near else ""


class Fields:
    """Reads values and collects faults. Every reader takes None for a key that is absent."""

    def __init__(self, source: str, faults: list[TopologyError]) -> None:
        self.source = source
        self.faults = faults

    def fault(self, item: Item, message: str) -> None:
        """Note a fault at an item."""
        self.faults.append(TopologyError(self.source, item.line, item.key, message))

    def members(self, item: Item | None, known: tuple[str, ...]) -> dict[str, Item]:
        """Return a mapping's members that are not null; unknown ones are faults."""
        if item is None or item.value is None:
            return {}
        if not isinstance(item.value, dict):
            self.fault(item, "must be a mapping of keys to values")
            return {}
        for name, value in item.value.items():
            if name not in known:
                hint = did_you_mean(name, known) or f"; known here: {', '.join(known)}"
                self.fault(value, f"is an unknown key{hint}")
        return {
            name: value
            for name, value in item.value.items()
            if name in known and value.value is not None
        }

    def mapping(self, item: Item | None, judge: bool = True) -> dict[str, Item]:
        """Return the members of a mapping whose names are free; not `judge`: no fault again."""
        if item is None or item.value is None:
            return {}
        if not isinstance(item.value, dict):
            if judge:
                self.fault(item, "must be a mapping of names to values")
            return {}
        return item.value

    def integer(self, item: Item | None, default: int, low: int, high: int) -> int:
        """Return a whole number within limits, both included."""
        if item is None:
            return default
        if not isinstance(item.value, int) or not low <= item.value <= high:
            self.fault(item, f"must be a whole number from {low} to {high}, without quotes")
            return default
        return item.value

    def integers(self, item: Item | None, low: int, high: int) -> frozenset[int]:
        """Return one whole number or a list of them as a set."""
        return frozenset(
            entry.value
            for entry in _entries(item)
            if self.integer(entry, low, low, high) == entry.value and isinstance(entry.value, int)
        )

    def names(self, item: Item | None, known: Iterable[str], where: str) -> frozenset[str]:
        """Return one name or a list of them as a set; all must be known from `where`."""
        found: set[str] = set()
        known = tuple(known)
        for entry in _entries(item):
            name = self.text(entry)
            if name is not None and name not in known:
                hint = did_you_mean(name, known) or f"; add it to {where}"
                self.fault(entry, f"unknown name {name!r}{hint}")
            elif name is not None:
                found.add(name)
        return frozenset(found)

    def boolean(self, item: Item | None) -> bool:
        """Return whether a key is `true`; False when absent."""
        if item is not None and item.value not in ("true", "false"):
            self.fault(item, "must be true or false")
        return item is not None and item.value == "true"

    def text(self, item: Item | None) -> str | None:
        """Return text."""
        if item is None or item.value is None:
            return None
        if not isinstance(item.value, str):
            self.fault(item, "must be text; put it in quotes")
            return None
        return item.value

    def choice(
        self, item: Item | None, kind: type[Choice], allowed: Iterable[Choice]
    ) -> Choice | None:
        """Return a member of an enumeration."""
        if item is None:
            return None
        names = [member.value for member in allowed]
        if item.value not in names:
            hint = did_you_mean(str(item.value), names)
            self.fault(item, f"must be one of {', '.join(names)}{hint}")
            return None
        return kind(str(item.value))

    def prefix(self, item: Item | None) -> IPv6Network | None:
        """Return an IPv6 prefix without host bits."""
        text = self.text(item)
        if text is None or item is None:
            return None
        try:
            if "%" in text or "/" not in text:
                raise ValueError(f"{text!r} has no length or has a zone")
            return IPv6Network(text)
        except ValueError as error:
            self.fault(item, f"must be an IPv6 prefix such as 2001:db8:a1::/48: {error}")
            return None

    def prefixes(self, item: Item | None) -> tuple[IPv6Network, ...]:
        """Return one prefix or a list of them as a tuple."""
        found = [self.prefix(entry) for entry in _entries(item)]
        return tuple(prefix for prefix in found if prefix is not None)

    def address(self, item: Item | None) -> IPv6Address | None:
        """Return an IPv6 address without a zone."""
        text = self.text(item)
        if text is None or item is None:
            return None
        try:
            if "%" in text:
                raise ValueError(f"{text!r} has a zone")
            return IPv6Address(text)
        except ValueError as error:
            self.fault(item, f"must be an IPv6 address: {error}")
            return None

    def address4(self, item: Item | None) -> IPv4Address | None:
        """Return an IPv4 unicast address."""
        text = self.text(item)
        if text is None or item is None:
            return None
        try:
            address = IPv4Address(text)
            if address.is_multicast or address.is_unspecified or address.is_loopback:
                raise ValueError(f"{text} is no address of a neighbour")
            return address
        except ValueError as error:
            self.fault(item, f"must be an IPv4 address: {error}")
            return None

    def mac(self, item: Item | None) -> str | None:
        """Return a unicast link-layer address in its one spelling."""
        text = self.text(item)
        if text is None or item is None:
            return None
        try:
            return parse_mac(text)
        except ValueError as error:
            self.fault(item, str(error))
            return None

    def interface(self, item: Item | None) -> str | None:
        """Return the name of an interface."""
        text = self.text(item)
        if text is None or item is None:
            return None
        if not INTERFACE.fullmatch(text) or text in RESERVED_INTERFACES:
            self.fault(
                item,
                f"{text!r} is no name for an interface: a letter, then letters, digits, - _ and ., "
                f"at most 15; not {', '.join(sorted(RESERVED_INTERFACES))}",
            )
            return None
        return text

    def delay_us(self, item: Item | None) -> int:
        """Return a time in microseconds; 0 when absent."""
        if item is None:
            return 0
        match = _DELAY.fullmatch(str(item.value)) if isinstance(item.value, str) else None
        delay = round(float(match[1]) * _DELAY_US[match[2]]) if match else None
        if delay is None or delay > MAX_DELAY_US:
            self.fault(item, "must be a time such as 250us, 5ms or 1s, at most 10s")
            return 0
        return delay

    def capacity_bps(self, item: Item | None) -> int | None:
        """Return bits per second; None when absent."""
        if item is None:
            return None
        match = _CAPACITY.fullmatch(str(item.value)) if isinstance(item.value, str) else None
        capacity = round(float(match[1]) * _CAPACITY_BPS[match[2]]) if match else 0
        if not 0 < capacity <= MAX_CAPACITY_BPS:
            self.fault(item, "must be bits per second such as 100M, 2.5G or 400G, at most 1000T")
            return None
        return capacity


def _entries(item: Item | None) -> list[Item]:
    """Return the entries of a list, or the one value that stands for a list of one."""
    if item is None or item.value is None:
        return []
    return item.value if isinstance(item.value, list) else [item]
