"""Topology files: containerlab's shape with our keys, to validated values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network, NetmaskValueError

from srv6dmm.core.topology_checks import check_topology
from srv6dmm.core.yaml_lines import Item, read_yaml
from srv6dmm.model.addresses import parse_mac
from srv6dmm.model.errors import Srv6dmmError, TopologyError
from srv6dmm.model.sid import EncapMode, Locator
from srv6dmm.model.topology import (
    Domain,
    Link,
    LinkEnd,
    Node,
    Role,
    Topology,
)

NAME = re.compile(r"[a-z][a-z0-9-]{0,14}")
INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
_DELAY = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s)")
_DELAY_US = {"us": 1, "ms": 1_000, "s": 1_000_000}
_TOP = ("name", "domain", "topology")
_DOMAIN = ("sid-block", "encap-mode", "max-segments", "mtu", "router-link-local", "router-mac")
_NODE = (
    "kind", "role", "index", "locator", "pool", "announces", "access-interface", "prefix",
    "mac", "next-hop4", "sids",
)
_LINK = ("endpoints", "metric", "delay", "mtu")
_SIDS = ("end", "end-dt6", "end-dx4")


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
    host_address: IPv6Address
    prefix: IPv6Network


def fixed_hosts(topology: Topology, router: str) -> tuple[FixedHost, ...]:
    """Return the correspondents behind a router, in name order."""
    found: list[FixedHost] = []
    for link in topology.links:
        for here, there in (link.ends(), link.ends()[::-1]):
            host = topology.nodes[there.node]
            if here.node == router and host.role is Role.CORRESPONDENT:
                prefix = host.announces[0]
                found.append(FixedHost(
                    host.name, here.interface, prefix[1], prefix[2], prefix
                ))
    return tuple(sorted(found, key=lambda host: host.name))


def parse_topology(text: str, source: str) -> Topology:
    """Return the topology in the text of a file; `source` is its name for messages.

    Raises TopologyErrors with every fault: the file, the line, the key and what to do.
    """
    faults: list[TopologyError] = []
    root = read_yaml(text, source, faults)
    if root is None:
        raise TopologyErrors(faults)
    topology = _Reader(source, faults).topology(root)
    if topology is None or faults:
        raise TopologyErrors(faults)
    return topology


class _Reader:
    """Turns items into values and collects faults as it goes."""

    def __init__(self, source: str, faults: list[TopologyError]) -> None:
        self.source = source
        self.faults = faults
        self.lines: dict[str, int] = {}
        """Node name, or "link N", -> line."""

    def fault(self, line: int, key: str, message: str) -> None:
        self.faults.append(TopologyError(self.source, line, key, message))

    def members(self, item: Item | None, key: str, known: tuple[str, ...]) -> dict[str, Item]:
        """Return a mapping's members; unknown ones are faults."""
        if item is None or item.value is None:
            return {}
        if not isinstance(item.value, dict):
            self.fault(item.line, key, "must be a mapping of keys to values")
            return {}
        for name, value in item.value.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                self.fault(value.line, name, f"unknown key; {hint}")
        return {name: value for name, value in item.value.items() if name in known}

    def integer(
        self, members: dict[str, Item], key: str, default: int, low: int, high: int
    ) -> int:
        item = members.get(key)
        if item is None:
            return default
        value = item.value
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fault(item.line, key, f"must be a whole number from {low} to {high}")
            return default
        return value

    def text(self, item: Item | None, key: str) -> str | None:
        if item is None or item.value is None:
            return None
        if not isinstance(item.value, str):
            self.fault(item.line, key, "must be text; put it in quotes")
            return None
        return item.value

    def prefix(self, item: Item | None, key: str) -> IPv6Network | None:
        text = self.text(item, key)
        if text is None or item is None:
            return None
        try:
            return IPv6Network(text)
        except (AddressValueError, NetmaskValueError, ValueError) as error:
            self.fault(item.line, key, f"not an IPv6 prefix: {error}")
            return None

    def address(self, item: Item | None, key: str) -> IPv6Address | None:
        text = self.text(item, key)
        if text is None or item is None:
            return None
        try:
            return IPv6Address(text)
        except ValueError as error:
            self.fault(item.line, key, f"not an IPv6 address: {error}")
            return None

    def prefixes(self, item: Item | None, key: str) -> tuple[IPv6Network, ...]:
        if item is None or item.value is None:
            return ()
        entries = item.value if isinstance(item.value, list) else [item]
        found = (self.prefix(entry, key) for entry in entries)
        return tuple(prefix for prefix in found if prefix is not None)

    def mac(self, item: Item | None, key: str) -> str | None:
        text = self.text(item, key)
        if text is None or item is None:
            return None
        try:
            return parse_mac(text)
        except ValueError as error:
            self.fault(item.line, key, str(error))
            return None

    def topology(self, root: Item) -> Topology | None:
        top = self.members(root, "file", _TOP)
        name = self.text(top.get("name"), "name") or ""
        if not NAME.fullmatch(name):
            line = top["name"].line if "name" in top else root.line
            self.fault(line, "name", "is needed: lower-case letters, digits and -, at most 15")
        settings = self.members(top.get("domain"), "domain", _DOMAIN)
        mtu = self.integer(settings, "mtu", 1500, 1280, 65535)
        domain = self.domain(root, name, settings)
        body = self.members(top.get("topology"), "topology", ("nodes", "links"))
        nodes = self.nodes(body.get("nodes"), root.line)
        links = self.links(body.get("links"), nodes, mtu)
        if domain is None:
            return None
        topology = Topology(domain, nodes, tuple(links))
        self.faults += [
            TopologyError(self.source, self.lines.get(place, root.line), key, message)
            for place, key, message in check_topology(topology)
        ]
        return topology

    def domain(self, root: Item, name: str, settings: dict[str, Item]) -> Domain | None:
        block = self.prefix(settings.get("sid-block"), "sid-block")
        if block is None:
            if "sid-block" not in settings:
                self.fault(root.line, "sid-block", "is needed in domain, e.g. fc00::/32")
            return None
        domain = Domain(name=name, sid_block=block)
        mode = settings.get("encap-mode")
        if mode is not None:
            allowed = (EncapMode.ENCAP.value, EncapMode.ENCAP_RED.value)
            if mode.value in allowed:
                domain = replace(domain, encap_mode=EncapMode(str(mode.value)))
            else:
                self.fault(mode.line, "encap-mode", f"must be one of {', '.join(allowed)}")
        link_local = self.address(settings.get("router-link-local"), "router-link-local")
        if link_local is not None and not link_local.is_link_local:
            line = settings["router-link-local"].line
            self.fault(line, "router-link-local", "must be a link-local address (fe80::/10)")
        mac = self.mac(settings.get("router-mac"), "router-mac")
        return replace(
            domain,
            max_segments=self.integer(settings, "max-segments", 1, 1, 16),
            router_link_local=link_local or domain.router_link_local,
            router_mac=mac or domain.router_mac,
        )

    def nodes(self, item: Item | None, line: int) -> dict[str, Node]:
        if item is None or not isinstance(item.value, dict) or not item.value:
            self.fault(item.line if item else line, "nodes", "is needed under topology")
            return {}
        nodes: dict[str, Node] = {}
        given = [
            entry.value["index"].value
            for entry in item.value.values()
            if isinstance(entry.value, dict) and "index" in entry.value
        ]
        free = (number for number in range(1, 4096) if number not in given)
        for name, entry in item.value.items():
            self.lines[name] = entry.line
            if not NAME.fullmatch(name):
                self.fault(entry.line, name, "node names are a-z, 0-9 and -, at most 15")
                continue
            node = self.node(name, entry)
            if node is None:
                continue
            if node.is_router and node.index == 0:
                node = replace(node, index=next(free))
            nodes[name] = node
        return nodes

    def node(self, name: str, entry: Item) -> Node | None:
        members = self.members(entry, name, _NODE)
        try:
            role = Role(str(members["role"].value))
        except (KeyError, ValueError):
            line = members["role"].line if "role" in members else entry.line
            roles = ", ".join(role.value for role in Role)
            self.fault(line, "role", f"of {name} must be one of {roles}")
            return None
        for key, item in members.items():
            self.lines[f"{name} {key}"] = item.line
        locator = self.prefix(members.get("locator"), "locator")
        announces = self.prefixes(members.get("announces"), "announces")
        prefix = self.prefix(members.get("prefix"), "prefix")
        interface = self.text(members.get("access-interface"), "access-interface")
        if role is Role.ACCESS and interface is None:
            interface = "acc0"
        sids = self.members(members.get("sids"), "sids", _SIDS)
        explicit = [(key, self.address(item, key)) for key, item in sids.items()]
        return Node(
            name=name,
            role=role,
            index=self.integer(members, "index", 0, 1, 4095),
            locator=Locator(locator) if locator else None,
            pools=self.prefixes(members.get("pool"), "pool"),
            announces=(prefix,) if prefix is not None else announces,
            access_interface=interface,
            mac=self.mac(members.get("mac"), "mac"),
            next_hop4=self.next_hop4(members.get("next-hop4")),
            explicit_sids=tuple((key, sid) for key, sid in explicit if sid is not None),
        )

    def next_hop4(self, item: Item | None) -> IPv4Address | None:
        text = self.text(item, "next-hop4")
        if text is None or item is None:
            return None
        try:
            return IPv4Address(text)
        except ValueError as error:
            self.fault(item.line, "next-hop4", f"not an IPv4 address: {error}")
            return None

    def links(self, item: Item | None, nodes: dict[str, Node], mtu: int) -> list[Link]:
        if item is None or item.value is None:
            return []
        if not isinstance(item.value, list):
            self.fault(item.line, "links", "must be a list of links")
            return []
        links: list[Link] = []
        for entry in item.value:
            members = self.members(entry, "links", _LINK)
            ends = self.ends(members.get("endpoints"), entry.line, nodes)
            if ends is None:
                continue
            self.lines[f"link {len(links)}"] = entry.line
            links.append(Link(
                a=ends[0],
                b=ends[1],
                metric=self.integer(members, "metric", 10, 1, (1 << 24) - 1),
                delay_us=self.delay(members.get("delay")),
                mtu=self.integer(members, "mtu", mtu, 1280, 65535),
            ))
        return links

    def ends(
        self, item: Item | None, line: int, nodes: dict[str, Node]
    ) -> tuple[LinkEnd, LinkEnd] | None:
        wanted = 'must be two of the form ["ar1:eth0", "tr1:eth0"]'
        if item is None or not isinstance(item.value, list) or len(item.value) != 2:
            self.fault(item.line if item else line, "endpoints", wanted)
            return None
        ends: list[LinkEnd] = []
        for entry in item.value:
            name, colon, interface = str(entry.value).partition(":")
            if not colon or not INTERFACE.fullmatch(interface):
                self.fault(entry.line, "endpoints", f"{entry.value!r}: {wanted}")
                return None
            if name not in nodes:
                if name not in self.lines:
                    near = difflib.get_close_matches(name, nodes, 1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    self.fault(entry.line, "endpoints", f"unknown node {name!r}{hint}")
                return None
            ends.append(LinkEnd(name, interface))
        return (ends[0], ends[1])

    def delay(self, item: Item | None) -> int:
        if item is None or item.value is None:
            return 0
        match = _DELAY.fullmatch(str(item.value))
        if match is None:
            self.fault(item.line, "delay", "must be a time such as 250us, 5ms or 1s")
            return 0
        return round(float(match[1]) * _DELAY_US[match[2]])
