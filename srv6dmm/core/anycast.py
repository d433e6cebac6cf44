"""Anycast SIDs: one SID that several routers have, each as its own End (RFC 8402 section 3.3).

The underlay leads packets to the nearest of them, by IGP metric; of several as near, to the first
by name. Every router on the way finds the same one nearest: a step towards it makes it nearer by
as much as any other can become.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.model.policy import Waypoint
from srv6dmm.model.topology import RouterSids


@dataclass(frozen=True, slots=True)
class Member(Waypoint):
    """A router as a waypoint for the group it is in: the SID of that is in the list."""

    group: str = ""


class AnycastGroups:
    """The groups of one topology."""

    def __init__(self, sids: Mapping[str, RouterSids]) -> None:
        self.sids: dict[str, IPv6Address] = {}
        """Name of a group -> its SID."""
        self.members: dict[IPv6Address, tuple[str, ...]] = {}
        """SID of a group -> its routers, by name."""
        for router, own in sorted(sids.items()):
            for name, sid in own.anycast.items():
                self.sids[name] = sid
                self.members[sid] = (*self.members.get(sid, ()), router)

    def nearest(self, paths: ShortestPaths, router: str, sid: IPv6Address) -> str:
        """Return the member that packets from a router reach. Raises NoPath when none is."""
        found: list[tuple[int, str]] = []
        for member in self.members.get(sid, ()):
            try:
                found.append((paths.distance(router, member), member))
            except NoPath:
                continue
        if not found:
            raise NoPath(f"no router with the anycast SID {sid} can be reached from {router!r}")
        return min(found)[1]
