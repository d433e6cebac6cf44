"""A topology as the document of a topology file: what core.topology reads, written."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal

from srv6dmm.core.topology_reader import ACCESS_INTERFACE
from srv6dmm.model.topology import MAX_SEGMENTS, Domain, Link, Node, Role, Topology

Document = dict[str, object]

_UNITS = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))
_DECIMALS = 10**6


def document_of(topology: Topology) -> Document:
    """Return the document that reads as this topology. Everything is said, defaults too.

    Numbers that a file may leave out, as a router's index, are in it: they stay what they are.
    """
    nodes = {name: _node(node) for name, node in topology.nodes.items()}
    links = [_link(link) for link in topology.links]
    return {
        "name": topology.domain.name,
        "domain": _domain(topology.domain),
        "topology": {"nodes": nodes, "links": links},
    }


def digest(topology: Topology) -> str:
    """Return what tells topologies apart whose documents differ (SHA-256, hexadecimal)."""
    text = json.dumps(document_of(topology), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _domain(domain: Domain) -> Document:
    document: Document = {
        "sid-block": str(domain.sid_block),
        "encap-mode": domain.encap_mode.value,
        "max-segments": domain.max_segments,
        "router-link-local": str(domain.router_link_local),
        "router-mac": domain.router_mac,
        "affinities": dict(domain.affinities),
    }
    if domain.usid:  # not said otherwise: the digest of a file stays what it was before the key
        document["usid"] = True
    return document


def _node(node: Node) -> Document:
    document: Document = {"role": node.role.value}
    if node.role is Role.MOBILE:
        return document | ({"mac": node.mac} if node.mac is not None else {})
    if node.role is Role.CORRESPONDENT:
        return document | {"prefix": str(node.announces[0])}
    document["index"] = node.index
    if node.locator is not None:
        document["locator"] = str(node.locator.prefix)
    if node.pools:
        document["pool"] = [str(pool) for pool in node.pools]
    if node.announces:
        document["announces"] = [str(prefix) for prefix in node.announces]
    if node.access_interface not in (None, ACCESS_INTERFACE):
        document["access-interface"] = node.access_interface
    if node.next_hop4 is not None:
        document["next-hop4"] = str(node.next_hop4)
    if node.explicit_sids:
        document["sids"] = {key: str(sid) for key, sid in node.explicit_sids}
    if node.services:
        document["services"] = {name: str(sid) for name, sid in node.services}
    if node.anycast:
        document["anycast"] = {name: str(sid) for name, sid in node.anycast}
    if node.maximum_sid_depth != MAX_SEGMENTS:
        document["max-sid-depth"] = node.maximum_sid_depth
    return document


def _link(link: Link) -> Document:
    document: Document = {
        "endpoints": [str(link.a), str(link.b)],
        "metric": link.metric,
        "delay": f"{link.delay_us}us",
        "mtu": link.mtu,
    }
    if link.te_metric is not None:
        document["te-metric"] = link.te_metric
    if link.capacity_bps is not None:
        document["capacity"] = _capacity(link.capacity_bps)
    if link.affinities:
        document["affinity"] = sorted(link.affinities)
    if link.srlgs:
        document["srlg"] = sorted(link.srlgs)
    if link.drained:
        document["drained"] = True
    return document


def _capacity(bps: int) -> str:
    """Return bits per second in the largest unit that tells them exactly."""
    for unit, size in _UNITS:
        if bps * _DECIMALS % size == 0 and bps >= size:
            return f"{Decimal(bps) / size:f}{unit}"
    return f"{Decimal(bps) / 1000:f}k"
