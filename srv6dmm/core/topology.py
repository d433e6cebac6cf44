"""Topology files: YAML in containerlab's shape with our keys, to a validated Topology."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from srv6dmm.core.topology_checks import check_topology
from srv6dmm.core.topology_reader import Reader
from srv6dmm.core.topology_yaml import ROOT, Item, read_yaml
from srv6dmm.model.errors import Srv6dmmError, TopologyError
from srv6dmm.model.topology import Role, Topology

_ENTRY = re.compile(r"\[\d+\]$")
_LAST_PART = re.compile(r"(\.[^.\[\]]*|\[\d+\]|^[^.\[\]]+)$")


class TopologyErrors(Srv6dmmError):
    """Every fault found in a topology file, sorted by line."""

    def __init__(self, errors: Iterable[TopologyError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda e: (e.line, e.key, e.message)))
        super().__init__("\n".join(str(error) for error in self.errors))


@dataclass(frozen=True, slots=True)
class FixedHost:
    """A correspondent's link as its router sees it."""

    name: str
    interface: str
    """The router's interface."""
    router_address: IPv6Address
    """::1 of the prefix."""
    host_address: IPv6Address
    """::2 of the prefix."""
    prefix: IPv6Network


def fixed_hosts_by_router(topology: Topology) -> dict[str, tuple[FixedHost, ...]]:
    """Return the correspondents behind each router that has any, in name order."""
    found: dict[str, list[FixedHost]] = {}
    for link in topology.links:
        for here, there in (link.ends(), link.ends()[::-1]):
            host = topology.nodes[there.node]
            if host.role is Role.CORRESPONDENT:
                prefix = host.announces[0]
                found.setdefault(here.node, []).append(
                    FixedHost(host.name, here.interface, prefix[1], prefix[2], prefix)
                )
    return {
        router: tuple(sorted(hosts, key=lambda host: host.name)) for router, hosts in found.items()
    }


def fixed_hosts(topology: Topology, router: str) -> tuple[FixedHost, ...]:
    """Return the correspondents behind a router, in name order.

    Looks at every link; whoever asks for many routers uses `fixed_hosts_by_router` once.
    """
    return fixed_hosts_by_router(topology).get(router, ())


def host_prefixes(topology: Topology, router: str) -> tuple[IPv6Network, ...]:
    """Return the prefixes of the correspondents behind a router, in the hosts' name order."""
    return tuple(host.prefix for host in fixed_hosts(topology, router))


def parse_topology(text: str, source: str) -> Topology:
    """Return the topology in the text of a file; `source` is its name for messages.

    Raises TopologyErrors with every fault: the file, the line, the key and what to do.
    """
    faults: list[TopologyError] = []
    root = read_yaml(text, source, faults)
    if root is None:
        raise TopologyErrors(faults)
    reader = Reader(source, faults)
    topology = reader.topology(root)
    if topology is not None:
        lines = _lines(root)
        judged = {_ENTRY.sub("", fault.key) for fault in faults}
        if reader.incomplete:
            judged.add("topology.nodes")
        for key, message in check_topology(topology, reader.link_keys, reader.loose):
            if key not in judged:  # what could not be read is not said to be missing, too
                faults.append(TopologyError(source, lines[_nearest(key, lines)], key, message))
    if topology is None or faults:
        raise TopologyErrors(faults)
    return topology


def _lines(root: Item) -> dict[str, int]:
    """Return key -> line of everything in the tree."""
    lines: dict[str, int] = {}
    todo = [root]
    while todo:
        item = todo.pop()
        lines[item.key] = item.line
        if isinstance(item.value, dict):
            todo += item.value.values()
        elif isinstance(item.value, list):
            todo += item.value
    return lines


def _nearest(key: str, lines: dict[str, int]) -> str:
    """Return the key itself or, where the file has it not, what it would stand in."""
    while key and key not in lines:
        key = _LAST_PART.sub("", key)
    return key or ROOT
