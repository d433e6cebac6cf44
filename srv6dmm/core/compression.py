"""NEXT-C-SID compression: several SIDs of a list in one 128-bit container (RFC 9800 section 4.1).

A container is the block that all locators share (32 bits) and six slots of 16 bits. A router that
holds its locator as End with NEXT-C-SID (a uN) takes its own slot out: what follows moves up
behind the block, and the packet goes on to the router that the next slot names. With nothing but
zeros behind it, it is a plain End.

* End takes one slot, the router's.
* Any other SID, if it is locator, function and zeros, takes two, router and function. When it is
  reached, the destination is that very SID; so it ends the container.
* All other SIDs stand alone, and so does whatever no neighbour shares a container with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv6Address

from srv6dmm.core.sids import LOCATOR_LENGTH, named_sids
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.topology import RouterSids

BLOCK_LENGTH = 32
SLOT = 16
"""Bits of a slot; Linux's own values for NEXT-C-SID are these (lblen 32, nflen 16)."""
SLOTS = (128 - BLOCK_LENGTH) // SLOT
ALONE = 0
"""Slots of a SID that shares no container."""

_ARGUMENT = 128 - LOCATOR_LENGTH
"""Bits behind a router's own slot."""
_REST = _ARGUMENT - SLOT
"""Bits behind its function."""


def after(used: int, slots: int) -> int:
    """Return the slots a list has used up when it has one more SID, those left empty included.

    More used before is never less used after, so the least used so far is always best.
    """
    if slots == 1:
        return used + 1
    if slots == ALONE:
        return SLOTS * (containers(used) + 1)
    return SLOTS * containers(used + slots)  # it ends the container, or stands in a new one


def containers(used: int) -> int:
    """Return the SIDs that so many slots are sent as."""
    return -(-used // SLOTS)


def base(sid: IPv6Address) -> IPv6Address:
    """Return the uN of the router that a SID belongs to: its locator, and zeros."""
    return IPv6Address(int(sid) >> _ARGUMENT << _ARGUMENT)


def function(sid: IPv6Address) -> int:
    """Return the slot behind the locator."""
    return int(sid) >> _REST & (1 << SLOT) - 1


def slot_of(sid: IPv6Address) -> int:
    """Return the slot that names the router of a SID."""
    return int(sid) >> _ARGUMENT & (1 << SLOT) - 1


class Compression:
    """What SIDs take in containers, where some routers hold a uN.

    That no slot of a container is taken for a function of the router before it is for
    core.topology_checks and core.flow_checks to see to: no router's slot is anybody's function.
    """

    def __init__(self, sids: Mapping[str, RouterSids], able: Collection[str] = ()) -> None:
        """`able`: the routers that hold a uN."""
        self._slots: dict[IPv6Address, int] = {}
        self._ends: dict[IPv6Address, IPv6Address] = {}
        """uN -> the same router's End."""
        for router in able:
            own = sids.get(router)
            if own is None:
                continue
            for _, sid in named_sids(own):
                if function(sid) and not int(sid) & (1 << _REST) - 1:
                    self._slots[sid] = 2
            self._slots[own.end] = 1
            self._ends[base(own.end)] = own.end

    def __bool__(self) -> bool:
        return bool(self._ends)

    def slots(self, sid: IPv6Address) -> int:
        """Return the slots a SID takes: 1, or 2, which end a container; or ALONE."""
        return self._slots.get(sid, ALONE)

    def used(self, segments: Iterable[IPv6Address], before: int = 0) -> int:
        """Return the slots used up behind these segments."""
        for sid in segments:
            before = after(before, self.slots(sid))
        return before

    def compress(self, segments: SegmentList) -> SegmentList:
        """Return the list as it is sent: as few SIDs as its order allows."""
        if not self:
            return segments
        shared: list[list[IPv6Address]] = []
        used = 0
        for sid in segments:
            used = after(used, self.slots(sid))
            if containers(used) == len(shared):
                shared[-1].append(sid)
            else:
                shared.append([sid])
        return tuple(self._container(members) for members in shared)

    def _container(self, members: list[IPv6Address]) -> IPv6Address:
        if len(members) == 1:
            return members[0]
        value = int(members[0]) >> 128 - BLOCK_LENGTH
        left = SLOTS
        for sid in members:
            value = value << SLOT | slot_of(sid)
            left -= 1
        if self.slots(members[-1]) == 2:
            value = value << SLOT | function(members[-1])
            left -= 1
        return IPv6Address(value << SLOT * left)

    def expand(self, sid: IPv6Address) -> SegmentList:
        """Return the SIDs a container stands for, in travel order; of any other SID itself.

        Each router of it does what it does with the destination that it sees.
        """
        found: list[IPv6Address] = []
        here = sid
        while here not in self._slots:
            end = self._ends.get(base(here))
            if end is None:
                return (sid,)
            found.append(end)
            moved = shifted(here)
            if moved is None:
                return tuple(found)
            here = moved
        return (*found, here)


def shifted(container: IPv6Address) -> IPv6Address | None:
    """Return the destination behind a uN; None where it is a plain End, at the container's end."""
    value = int(container)
    argument = value & (1 << _ARGUMENT) - 1
    if not argument:
        return None
    block = value >> 128 - BLOCK_LENGTH << 128 - BLOCK_LENGTH
    return IPv6Address(block | argument << SLOT)
