"""A small domain as values, for tests that need no file."""

from __future__ import annotations

from ipaddress import IPv6Network

from srv6dmm.model.sid import Locator
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology


def small_domain(access_routers: int = 3, pool_length: int = 56) -> Topology:
    """Return access routers ar1.. and a border router br1 around one transit router tr1."""
    nodes: dict[str, Node] = {}
    links: list[Link] = []

    def router(name: str, role: Role, index: int) -> None:
        access = role is Role.ACCESS
        pool = IPv6Network(f"2001:db8:{0xA000 + index:x}::/48").supernet(new_prefix=48)
        nodes[name] = Node(
            name=name,
            role=role,
            index=index,
            locator=Locator(IPv6Network(f"fc00:0:{index:x}::/48")),
            pools=(IPv6Network((pool.network_address, pool_length)),) if access else (),
            access_interface="acc0" if access else None,
        )

    router("tr1", Role.TRANSIT, 1)
    router("br1", Role.BORDER, 2)
    for number in range(1, access_routers + 1):
        router(f"ar{number}", Role.ACCESS, 2 + number)
    for port, name in enumerate(sorted(set(nodes) - {"tr1"})):
        links.append(Link(LinkEnd(name, "core0"), LinkEnd("tr1", f"port{port}"), mtu=1600))
    domain = Domain(name="small", sid_block=IPv6Network("fc00::/32"))
    return Topology(domain, nodes, tuple(links))
