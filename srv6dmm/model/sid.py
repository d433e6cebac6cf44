"""SIDs: locators, behaviors and segment lists (RFC 8986, RFC 8402)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network

SegmentList = tuple[IPv6Address, ...]
"""SIDs in travel order: the first one is visited first. Reversed only on the wire."""


class Behavior(StrEnum):
    """Endpoint behaviors, written as in RFC 8986 section 4."""

    END = "End"
    END_X = "End.X"
    END_DT6 = "End.DT6"
    END_DX4 = "End.DX4"
    END_DX6 = "End.DX6"
    END_B6_ENCAPS = "End.B6.Encaps"


class Flavor(StrEnum):
    """Flavors of End and End.X that Linux knows (RFC 8986 section 4.16, RFC 9800)."""

    PSP = "psp"
    NEXT_CSID = "next-csid"


class EncapMode(StrEnum):
    """How a head-end adds the segment list (RFC 8986 section 5)."""

    ENCAP = "encap"
    """H.Encaps: outer IPv6 header and an SRH with every segment."""
    ENCAP_RED = "encap.red"
    """H.Encaps.Red: the first segment only in the destination address (Linux 6.0)."""
    INLINE = "inline"
    """H.Insert: SRH into the packet itself; a Linux mode, not in RFC 8986."""

    def overhead(self, segments: int) -> int:
        """Return the bytes this mode adds to a packet for a list of that many segments."""
        if segments < 1:
            raise ValueError("a segment list has at least one segment")
        if self is EncapMode.INLINE:
            return 8 + 16 * (segments + 1)  # the original destination becomes a segment
        if self is EncapMode.ENCAP:
            return 40 + 8 + 16 * segments
        return 40 if segments == 1 else 40 + 8 + 16 * (segments - 1)


@dataclass(frozen=True, slots=True)
class Locator:
    """The prefix whose addresses are the SIDs of one router (RFC 8986 section 3.1)."""

    prefix: IPv6Network
    function_bits: int = 16

    def sid(self, function: int) -> IPv6Address:
        """Return LOC:FUNCT with argument bits zero.

        Raises ValueError when the function does not fit into `function_bits` or would be the
        locator's own base address (function 0).
        """
        if not 0 < function < (1 << self.function_bits):
            raise ValueError(
                f"function {function:#x} does not fit into {self.function_bits} bits of "
                f"locator {self.prefix}"
            )
        shift = 128 - self.prefix.prefixlen - self.function_bits
        return IPv6Address(int(self.prefix.network_address) | (function << shift))

    def __contains__(self, sid: IPv6Address) -> bool:
        return sid in self.prefix
