"""SID plan: which function number is which behavior in a router's locator."""

from __future__ import annotations

from ipaddress import IPv6Address

from srv6dmm.model.topology import Node, RouterSids, Topology

END = 0x0E00
END_DT6 = 0x0D06
END_DX4 = 0x0D04
END_X = 0x0F00
"""Plus the adjacency's number, from 1, in the order of interface names."""


def core_interfaces(topology: Topology, router: str) -> list[str]:
    """Return the router's interfaces towards other routers, in name order."""
    return sorted(
        end.interface
        for link in topology.core_links()
        for end in link.ends()
        if end.node == router
    )


def _sids(topology: Topology, node: Node) -> RouterSids:
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
            for number, interface in enumerate(core_interfaces(topology, node.name), start=1)
        },
    )


def sid_table(topology: Topology) -> dict[str, RouterSids]:
    """Return the SIDs of every router that has a locator.

    Collisions cannot happen among the numbered functions; explicit SIDs are checked when the
    topology is read.
    """
    return {
        node.name: _sids(topology, node)
        for node in topology.routers()
        if node.locator is not None
    }
