"""The SID plan: the domain's numbering, explicit SIDs, no collisions."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from srv6dmm.core.sids import core_interfaces, core_interfaces_by_router, named_sids, sid_table
from srv6dmm.core.topology import parse_topology
from srv6dmm.model.sid import Locator
from srv6dmm.model.topology import Domain, Link, LinkEnd, Node, Role, Topology

CAMPUS = Path(__file__).parents[2] / "deploy" / "topologies" / "campus.yaml"


@pytest.fixture(scope="module")
def campus() -> Topology:
    return parse_topology(CAMPUS.read_text(), "campus.yaml")


def star(leaves: int, **hub: object) -> Topology:
    """Return a hub with a locator and `leaves` plain routers around it."""
    locator = Locator(IPv6Network("fc00:0:1::/48"))
    nodes = {"hub": Node("hub", Role.TRANSIT, 1, locator=locator, **hub)}  # type: ignore[arg-type]
    links = []
    for number in range(leaves):
        name = f"r{number}"
        nodes[name] = Node(name, Role.TRANSIT, number + 2)
        links.append(Link(LinkEnd("hub", f"port{number:05}"), LinkEnd(name, "up")))
    return Topology(Domain("star", IPv6Network("fc00::/32")), nodes, tuple(links))


def test_numbers_of_the_functions(campus: Topology) -> None:
    sids = sid_table(campus)["ar4"]
    assert sids.router == "ar4"
    assert sids.end == IPv6Address("fc00:0:a4:e00::")
    assert sids.end_dt6 == IPv6Address("fc00:0:a4:d06::")
    assert sids.end_dx4 is None
    assert sids.adjacencies == {
        "tr2": IPv6Address("fc00:0:a4:f01::"),
        "tr3": IPv6Address("fc00:0:a4:f02::"),
    }, "in the order of interface names; the host's and the access interface have none"


def test_routers_without_locator_and_hosts_have_no_sids(campus: Topology) -> None:
    assert set(sid_table(campus)) == {"ar1", "ar2", "ar3", "ar4", "br1", "tr1", "tr3"}


def test_end_dx4_needs_a_next_hop() -> None:
    sids = sid_table(star(1, next_hop4=IPv4Address("192.0.2.1")))["hub"]
    assert sids.end_dx4 == IPv6Address("fc00:0:1:d04::")


def test_explicit_sids_come_first() -> None:
    explicit = {
        "end": IPv6Address("fc00:0:1:1::"),
        "end-dt6": IPv6Address("fc00:0:1:2::"),
        "end-dx4": IPv6Address("fc00:0:1:3::"),
    }
    hub = star(1, explicit_sids=tuple(explicit.items()), next_hop4=IPv4Address("192.0.2.1"))
    found = dict(named_sids(sid_table(hub)["hub"]))
    assert found == explicit | {"end-x port00000": IPv6Address("fc00:0:1:f01::")}


@pytest.mark.parametrize("adjacencies", [0, 255, 256, 300, 5000])
def test_no_collision_with_any_number_of_adjacencies(adjacencies: int) -> None:
    topology = star(adjacencies, next_hop4=IPv4Address("192.0.2.1"))
    hub = topology.nodes["hub"]
    assert hub.locator is not None
    found = [sid for _, sid in named_sids(sid_table(topology)["hub"])]
    assert len(found) == adjacencies + 3
    assert len({*found, hub.loopback, hub.locator.prefix.network_address}) == adjacencies + 5
    assert all(sid in hub.locator for sid in found)


def test_a_domain_has_every_sid_once(campus: Topology) -> None:
    found = [sid for sids in sid_table(campus).values() for _, sid in named_sids(sids)]
    assert len(found) == len(set(found))


def test_core_interfaces_lead_to_routers_only(campus: Topology) -> None:
    assert core_interfaces(campus, "ar4") == ["tr2", "tr3"]
    assert core_interfaces(campus, "br1") == ["tr1", "tr3"]
    assert core_interfaces(campus, "cn") == []
    by_router = core_interfaces_by_router(campus)
    assert by_router["tr2"] == ["ar2", "ar3", "ar4", "tr1", "tr3"]
    assert set(by_router) == {node.name for node in campus.routers()}
