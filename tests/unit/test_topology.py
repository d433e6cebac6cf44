"""Good topology files: what is read from them, and what the shipped ones hold."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import networkx
import pytest

from srv6dmm.core.paths import ShortestPaths
from srv6dmm.core.sids import sid_table
from srv6dmm.core.topology import (
    fixed_hosts,
    fixed_hosts_by_router,
    host_prefixes,
    parse_topology,
)
from srv6dmm.core.topology_reader import DOMAIN_KEYS, LINK_KEYS, NODE_KEYS, SID_KEYS, TOP_KEYS
from srv6dmm.model.sid import EncapMode
from srv6dmm.model.topology import MAX_METRIC, Role, Topology

SHIPPED = Path(__file__).parents[2] / "deploy" / "topologies"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "topology.md"

GOOD = """\
name: lab
domain:
  sid-block: fc00::/32
  max-segments: 2
  mtu: 1600
topology:
  nodes:
    ar1:
      role: access
      locator: fc00:0:1::/48
      pool: 2001:db8:1::/48
    ar2:
      role: access
      locator: fc00:0:2::/48
      pool: [2001:db8:2::/48, 2001:db8:12::/56]
      access-interface: radio0
    tr1:
      role: transit
    br1:
      role: border
      locator: fc00:0:3::/48
      announces: ["::/0", "2001:db8:f00::/40"]
    cn:
      role: correspondent
      prefix: 2001:db8:cafe::/64
    mn1:
      role: mobile
      mac: "02:00:00:00:00:01"
  links:
    - endpoints: ["ar1:eth0", "tr1:eth1"]
      metric: 5
      delay: 2.5ms
    - endpoints: ["ar2:eth0", "tr1:eth2"]
    - endpoints: ["br1:eth0", "tr1:eth3"]
      mtu: 9000
    - endpoints: ["br1:eth1", "cn:eth0"]
      mtu: 1500
"""


def load(name: str) -> Topology:
    return parse_topology((SHIPPED / name).read_text(), name)


def test_reads_every_key() -> None:
    topology = parse_topology(GOOD, "lab.yaml")
    assert topology.domain.name == "lab"
    assert topology.domain.sid_block == IPv6Network("fc00::/32")
    assert topology.domain.encap_mode is EncapMode.ENCAP_RED
    assert topology.domain.max_segments == 2
    ar1, ar2 = topology.nodes["ar1"], topology.nodes["ar2"]
    assert ar1.role is Role.ACCESS
    assert ar1.access_interface == "acc0"
    assert ar1.loopback == IPv6Address("fc00:0:1::1")
    assert ar2.access_interface == "radio0"
    assert ar2.pools == (IPv6Network("2001:db8:2::/48"), IPv6Network("2001:db8:12::/56"))
    assert topology.nodes["br1"].announces == (
        IPv6Network("::/0"),
        IPv6Network("2001:db8:f00::/40"),
    )
    assert topology.nodes["cn"].announces == (IPv6Network("2001:db8:cafe::/64"),)
    assert topology.nodes["mn1"].mac == "02:00:00:00:00:01"
    first = topology.links[0]
    assert (str(first.a), str(first.b)) == ("ar1:eth0", "tr1:eth1")
    assert (first.metric, first.delay_us, first.mtu) == (5, 2500, 1600)
    assert (topology.links[1].metric, topology.links[1].delay_us) == (10, 0)
    assert [link.mtu for link in topology.links] == [1600, 1600, 9000, 1500]


def test_attributes_of_links_and_routers() -> None:
    text = (
        GOOD.replace("  mtu: 1600\n", "  mtu: 1600\n  affinities: {gold: 3, low-delay: 0}\n")
        .replace(
            "      metric: 5\n",
            "      metric: 5\n      te-metric: 70\n      capacity: 2.5G\n"
            "      affinity: [low-delay, gold]\n      srlg: [9, 7]\n      drained: true\n",
        )
        .replace(
            "mtu: 9000", "mtu: 9000\n      affinity: gold\n      srlg: 9\n      drained: false"
        )
        .replace(
            "      locator: fc00:0:1::/48\n",
            "      locator: fc00:0:1::/48\n      max-sid-depth: 3\n"
            "      services: {nat: 'fc00:0:1:5e01::', dpi: 'fc00:0:1:5e02::'}\n",
        )
    )
    topology = parse_topology(text, "lab.yaml")
    assert topology.domain.affinities == (("low-delay", 0), ("gold", 3))
    first, plain, third, _ = topology.links
    assert (first.te_metric, first.capacity_bps, first.drained) == (70, 2_500_000_000, True)
    assert (first.affinities, first.srlgs) == ({"gold", "low-delay"}, {7, 9})
    assert (first.metric, first.igp_metric) == (5, MAX_METRIC)
    assert (plain.te_metric, plain.capacity_bps, plain.drained) == (None, None, False)
    assert (plain.affinities, plain.srlgs, plain.igp_metric) == (frozenset(), frozenset(), 10)
    assert (third.affinities, third.srlgs, third.drained) == ({"gold"}, {9}, False)
    ar1 = topology.nodes["ar1"]
    assert ar1.maximum_sid_depth == 3
    services = {"dpi": IPv6Address("fc00:0:1:5e02::"), "nat": IPv6Address("fc00:0:1:5e01::")}
    assert dict(ar1.services) == services
    assert sid_table(topology)["ar1"].services == services


def test_routers_are_numbered_in_file_order_around_explicit_numbers() -> None:
    topology = parse_topology(GOOD, "lab.yaml")
    assert {n.name: n.index for n in topology.routers()} == {
        "ar1": 1,
        "ar2": 2,
        "tr1": 3,
        "br1": 4,
    }
    text = GOOD.replace("    tr1:\n", "    tr1:\n      index: 1\n")
    topology = parse_topology(text, "lab.yaml")
    assert {n.name: n.index for n in topology.routers()} == {
        "tr1": 1,
        "ar1": 2,
        "ar2": 3,
        "br1": 4,
    }
    assert topology.nodes["ar1"].link_local == IPv6Address("fe80::2")


def test_explicit_sids_and_ipv4_next_hop() -> None:
    text = GOOD.replace(
        "    ar2:\n",
        "    ar2:\n      sids: {end: 'fc00:0:2:1::', end-dx4: 'fc00:0:2:2::'}\n"
        "      next-hop4: 192.0.2.1\n",
    )
    node = parse_topology(text, "lab.yaml").nodes["ar2"]
    assert dict(node.explicit_sids) == {
        "end": IPv6Address("fc00:0:2:1::"),
        "end-dx4": IPv6Address("fc00:0:2:2::"),
    }
    assert node.next_hop4 == IPv4Address("192.0.2.1")


def test_fixed_hosts_are_what_their_router_sees() -> None:
    topology = parse_topology(GOOD, "lab.yaml")
    (host,) = fixed_hosts(topology, "br1")
    assert (host.name, host.interface) == ("cn", "eth1")
    assert host.router_address == IPv6Address("2001:db8:cafe::1")
    assert host.host_address == IPv6Address("2001:db8:cafe::2")
    assert host_prefixes(topology, "br1") == (IPv6Network("2001:db8:cafe::/64"),)
    assert fixed_hosts(topology, "ar1") == ()
    assert fixed_hosts_by_router(topology) == {"br1": (host,)}


@pytest.mark.parametrize("name", ["campus.yaml", "campus-1500.yaml", "minimal.yaml"])
def test_shipped_topologies_are_valid(name: str) -> None:
    topology = load(name)
    assert topology.domain.name == name.removesuffix(".yaml")
    assert topology.inner_mtu() >= 1280


def test_campus_has_what_the_demo_shows() -> None:
    topology = load("campus.yaml")
    roles = {role: sorted(n.name for n in topology.nodes.values() if n.role is role)
             for role in Role}  # fmt: skip
    assert roles == {
        Role.ACCESS: ["ar1", "ar2", "ar3", "ar4"],
        Role.BORDER: ["br1"],
        Role.TRANSIT: ["tr1", "tr2", "tr3"],
        Role.CORRESPONDENT: ["cn", "srv"],
        Role.MOBILE: ["mn1", "mn2", "mn3"],
    }
    assert host_prefixes(topology, "br1") == (IPv6Network("2001:db8:cafe::/64"),)
    assert host_prefixes(topology, "ar4") == (IPv6Network("2001:db8:beef::/64"),)
    assert topology.inner_mtu() == 1500
    assert topology.nodes["tr2"].locator is None
    assert "tr2" in ShortestPaths(topology).path("ar1", "ar3"), "the plain router is on a path"


def test_campus_survives_any_one_core_link_cut() -> None:
    topology = load("campus.yaml")
    graph = networkx.MultiGraph((link.a.node, link.b.node) for link in topology.core_links())
    assert networkx.edge_connectivity(networkx.Graph(graph)) == 2
    for router in topology.access_routers():
        uplinks = set(graph.neighbors(router.name))
        assert len(uplinks) == 2
        assert all(topology.nodes[name].role is Role.TRANSIT for name in uplinks)


def test_campus_has_no_ties_and_no_transit_through_access_routers() -> None:
    topology = load("campus.yaml")
    graph = networkx.Graph()
    for link in topology.core_links():
        graph.add_edge(link.a.node, link.b.node, weight=link.metric)
    for source in graph:
        for target in graph:
            found = list(networkx.all_shortest_paths(graph, source, target, weight="weight"))
            assert len(found) == 1
            assert not any(name.startswith("ar") for name in found[0][1:-1])


def test_campus_1500_differs_in_the_mtu_only() -> None:
    campus, small = load("campus.yaml"), load("campus-1500.yaml")
    assert small.nodes == campus.nodes
    assert {link.mtu for link in small.links} == {1500}
    assert small.inner_mtu() == 1460
    assert [(link.a, link.b, link.metric, link.delay_us) for link in small.links] == [
        (link.a, link.b, link.metric, link.delay_us) for link in campus.links
    ]


def test_minimal_is_minimal() -> None:
    topology = load("minimal.yaml")
    assert len(topology.nodes) == 6
    assert len(topology.access_routers()) == 2


def test_the_documentation_has_a_valid_example_and_every_key() -> None:
    page = DOCUMENTATION.read_text()
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    assert parse_topology(example[1], "example").domain.name == "example"
    keys = {key for known in (TOP_KEYS, DOMAIN_KEYS, LINK_KEYS, SID_KEYS) for key in known}
    for known in NODE_KEYS.values():
        keys |= set(known)
    assert [key for key in sorted(keys) if f"`{key}" not in page] == []
