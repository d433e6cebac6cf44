"""What the translation of plan entries must know of the router it is for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.model.plan import RouterSettings


@dataclass(frozen=True, slots=True)
class Host:
    """What the translation must know of the router it is for."""

    encap_red: bool
    """Whether the kernel has encap.red (Linux 6.0)."""
    sid_interface: str
    """A device for SIDs that name none. Not lo: seg6local on lo is silently stripped."""
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
        """Return the host that a router's settings make it: SIDs go on a core interface.

        A router without one takes what it has; with nothing but lo its SIDs do not read back,
        and are reported so.
        """
        devices: list[str] = []
        if settings is not None:
            devices += settings.core_interfaces
            devices += [interface for interface, _, _ in settings.host_interfaces]
            devices += [settings.access_interface] if settings.access_interface else []
        host = cls(encap_red, devices[0] if devices else "lo", fast, detect)
        if settings is None:
            return host
        return replace(
            host,
            source=settings.loopback,
            access_mac=settings.access_mac,
            sid_block=settings.sid_block,
            locator_length=settings.locator_length,
        )
