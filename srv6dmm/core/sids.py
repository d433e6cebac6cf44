"""SID plan: which function number is which behavior in a router's locator."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from srv6dmm.model.topology import Node, RouterSids, Topology

LOCATOR_LENGTH = 48
"""Of every locator: 32 bits of block and 16 of node; 16 bits of function follow."""
END = 0x0E00
END_DT6 = 0x0D06
END_DX4 = 0x0D04
END_X = 0x0F00
"""Plus the adjacency's number, from 1, in the order of interface names. The largest of all, so
that any number of adjacencies runs into nothing."""
SID_NAMES = {"end": "End", "end-dt6": "End.DT6", "end-dx4": "End.DX4"}
"""Key of an explicit SID -> its behavior."""


def core_interfaces_by_router(topology: Topology) -> dict[str, list[str]]:
    """Return every router's interfaces towards other routers, in name order."""
    found: dict[str, list[str]] = {node.name: [] for node in topology.routers()}
    for link in topology.core_links():
        for end in link.ends():
            found[end.node].append(end.interface)
    return {router: sorted(interfaces) for router, interfaces in found.items()}


def core_interfaces(topology: Topology, router: str) -> list[str]:
    """Return the router's interfaces towards other routers, in name order.

    Looks at every link; whoever asks for many routers uses `core_interfaces_by_router` once.
    """
    return core_interfaces_by_router(topology).get(router, [])


def named_sids(sids: RouterSids) -> Iterator[tuple[str, IPv6Address]]:
    """Yield (name, SID) of each SID of a router.

    Names are end, end-dt6, end-dx4, "end-x INTERFACE", "service NAME" and "anycast GROUP".
    """
    yield ("end", sids.end)
    yield ("end-dt6", sids.end_dt6)
    if sids.end_dx4 is not None:
        yield ("end-dx4", sids.end_dx4)
    for interface, sid in sids.adjacencies.items():
        yield (f"end-x {interface}", sid)
    for name, sid in sids.services.items():
        yield (f"service {name}", sid)
    for name, sid in sids.anycast.items():
        yield (f"anycast {name}", sid)


def _sids(node: Node, interfaces: list[str]) -> RouterSids:
    locator = node.locator
    if locator is None:
        raise ValueError(f"{node.name} has no locator")
    explicit = dict(node.explicit_sids)

    def sid(name: str, function: int) -> IPv6Address:
        return explicit.get(name) or locator.sid(function)

    return RouterSids(
        router=node.name,
        end=sid("end", END),
        end_dt6=sid("end-dt6", END_DT6),
        end_dx4=sid("end-dx4", END_DX4) if node.next_hop4 is not None else None,
        adjacencies={
            interface: locator.sid(END_X + number)
            for number, interface in enumerate(interfaces, start=1)
        },
        services=dict(node.services),
        anycast=dict(node.anycast),
    )


def sid_table(topology: Topology) -> dict[str, RouterSids]:
    """Return the SIDs of every router that has a locator.

    Collisions cannot happen among the numbered functions; explicit SIDs are checked against
    all others when the topology is read.
    """
    interfaces = core_interfaces_by_router(topology)
    return {
        node.name: _sids(node, interfaces[node.name])
        for node in topology.routers()
        if node.locator is not None
    }
