"""What the translation of plan entries must know of the router it is for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.model.plan import RouterSettings

_MOST = 8
"""A SID has a route for each of so many devices: who loses more carriers at once has no link."""


@dataclass(frozen=True, slots=True)
class Host:
    """What the translation must know of the router it is for."""

    encap_red: bool
    """Whether the kernel has encap.red (Linux 6.0)."""
    sid_interfaces: tuple[str, ...]
    """Devices for SIDs that name none, as long as one has a carrier. Not lo: seg6local on lo is
    silently stripped."""
    fast: bool = False
    """Whether the fast path is to hold what it can hold (mode `ebpf`)."""
    detect: bool = False
    """Whether the fast path is to tell of mobile nodes that arrive."""
    source: IPv6Address | None = None
    """Outer source of what this router encapsulates."""
    access_mac: str | None = None
    """Link-layer address of the access interface."""
    sid_block: IPv6Network | None = None
    locator_length: int = 0
    """Bits of every locator of the domain; 0 where they differ."""

    @classmethod
    def of(
        cls,
        settings: RouterSettings | None,
        encap_red: bool,
        fast: bool = False,
        detect: bool = False,
    ) -> Host:
        """Return the host that a router's settings make it: SIDs go on the core interfaces.

        A router without any takes what it has; with nothing but lo its SIDs do not read back,
        and are reported so.
        """
        host = cls(encap_red, _sid_interfaces(settings), fast, detect)
        if settings is None:
            return host
        return replace(
            host,
            source=settings.loopback,
            access_mac=settings.access_mac,
            sid_block=settings.sid_block,
            locator_length=settings.locator_length,
        )


def _sid_interfaces(settings: RouterSettings | None) -> tuple[str, ...]:
    if settings is None:
        return ("lo",)
    if settings.core_interfaces:
        return settings.core_interfaces[:_MOST]
    others = [interface for interface, _, _ in settings.host_interfaces]
    others += [settings.access_interface] if settings.access_interface else []
    return tuple(others[:1] or ["lo"])
