"""From the tree of a topology file to nodes and links; each key's own form is judged here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

from srv6dmm.core.topology_fields import (
    INTERFACE,
    NAME,
    NAME_FORM,
    RESERVED_INTERFACES,
    Fields,
    nearest,
)
from srv6dmm.core.topology_yaml import Item
from srv6dmm.model.errors import TopologyError
from srv6dmm.model.sid import EncapMode, Locator
from srv6dmm.model.topology import (
    MAX_METRIC,
    MAX_SEGMENTS,
    Domain,
    Link,
    LinkEnd,
    Node,
    Role,
    Topology,
)

MAX_INDEX = 4095
MAX_AFFINITY_BIT = 255
"""Extended administrative groups are as long as need be (RFC 7308); this is long enough."""
MAX_SRLG = (1 << 32) - 1
MIN_MTU, MAX_MTU = 1280, 65535
DEFAULT_MTU = 1500
ACCESS_INTERFACE = "acc0"

TOP_KEYS = ("name", "domain", "topology")
DOMAIN_KEYS = (
    "sid-block",
    "encap-mode",
    "max-segments",
    "mtu",
    "router-link-local",
    "router-mac",
    "usid",
    "affinities",
)
LINK_KEYS = (
    "endpoints",
    "metric",
    "te-metric",
    "delay",
    "mtu",
    "capacity",
    "affinity",
    "srlg",
    "drained",
)
SID_KEYS = ("end", "end-dt6", "end-dx4")
_ANY = ("kind", "role")
_SID_ROUTER = ("index", "locator", "next-hop4", "sids", "services", "anycast")
_HEAD_END = ("max-sid-depth",)
NODE_KEYS = {
    Role.ACCESS: (*_ANY, *_SID_ROUTER, *_HEAD_END, "pool", "announces", "access-interface"),
    Role.BORDER: (*_ANY, *_SID_ROUTER, *_HEAD_END, "announces"),
    Role.TRANSIT: (*_ANY, *_SID_ROUTER),
    Role.CORRESPONDENT: (*_ANY, "prefix"),
    Role.MOBILE: (*_ANY, "mac"),
}
_WHY = {
    "pool": "only access routers own pools",
    "announces": "traffic enters at access and border routers only, where it is steered",
    "prefix": "only correspondents have one; a router's networks are its announces",
    "mac": "only mobile nodes have one; that of all routers is domain.router-mac",
    "max-sid-depth": "only access and border routers impose segment lists",
    "access-interface": "only access routers face mobile nodes",
}
_ALL_NODE_KEYS = tuple(dict.fromkeys(key for keys in NODE_KEYS.values() for key in keys))


class Reader:
    """Reads one file. After `topology`, the other attributes say what was left out."""

    def __init__(self, source: str, faults: list[TopologyError]) -> None:
        self.fields = Fields(source, faults)
        self.link_keys: list[str] = []
        """Key of each link of the topology, for messages."""
        self.loose: set[str] = set()
        """Nodes at a link that could not be read: what they reach is not known."""
        self.incomplete = False
        """A node could not be read."""
        self._seen: set[str] = set()
        """Names given, those of faulty nodes too."""

    def topology(self, root: Item) -> Topology | None:
        """Return what could be read; None when not even the frame could."""
        fields = self.fields
        top = fields.members(root, TOP_KEYS)
        name = fields.text(top.get("name"))
        if name is None and "name" in top:
            pass  # its fault is noted
        elif name is None or not NAME.fullmatch(name):
            fields.fault(
                top.get("name", root),
                f"a name is needed: {NAME_FORM}",
            )
        settings = fields.members(top.get("domain"), DOMAIN_KEYS)
        mtu = fields.integer(settings.get("mtu"), DEFAULT_MTU, MIN_MTU, MAX_MTU)
        domain = self._domain(top.get("domain", root), name or "", settings)
        body = fields.members(top.get("topology"), ("nodes", "links"))
        place = top.get("topology", root)
        nodes = self._nodes(body.get("nodes"), place)
        links = self._links(body.get("links"), nodes, mtu, settings.get("affinities"))
        return None if domain is None else Topology(domain, nodes, tuple(links))

    def _domain(self, place: Item, name: str, settings: dict[str, Item]) -> Domain | None:
        fields = self.fields
        link_local = fields.address(settings.get("router-link-local"))
        if link_local is not None and not link_local.is_link_local:
            fields.fault(settings["router-link-local"], "must be in fe80::/10")
            link_local = None
        elif link_local is not None and not int(link_local) & (1 << 64) - 1:
            fields.fault(
                settings["router-link-local"],
                f"{link_local} is the anycast address of subnet routers; give it an identifier",
            )
            link_local = None
        mac = fields.mac(settings.get("router-mac"))
        mode = fields.choice(
            settings.get("encap-mode"), EncapMode, (EncapMode.ENCAP, EncapMode.ENCAP_RED)
        )
        segments = fields.integer(settings.get("max-segments"), 1, 1, MAX_SEGMENTS)
        block = fields.prefix(settings.get("sid-block"))
        if block is None:
            if "sid-block" not in settings:
                fields.fault(place, "domain.sid-block is needed, e.g. fc00::/32")
            return None
        domain = Domain(name=name, sid_block=block, max_segments=segments)
        return replace(
            domain,
            encap_mode=mode or domain.encap_mode,
            router_link_local=link_local or domain.router_link_local,
            router_mac=mac or domain.router_mac,
            usid=fields.boolean(settings.get("usid")),
            affinities=self._affinities(settings.get("affinities")),
        )

    def _affinities(self, item: Item | None) -> tuple[tuple[str, int], ...]:
        """Return (name, bit) of every affinity; names and bits are given once each."""
        fields = self.fields
        found: dict[int, str] = {}
        for name, entry in fields.mapping(item).items():
            bit = fields.integer(entry, -1, 0, MAX_AFFINITY_BIT)
            if not NAME.fullmatch(name):
                fields.fault(entry, f"{name!r} is no name for an affinity: {NAME_FORM}")
            elif bit in found:
                fields.fault(entry, f"bit {bit} is that of {found[bit]} too")
            elif bit >= 0:
                found[bit] = name
        return tuple((name, bit) for bit, name in sorted(found.items()))

    def _nodes(self, item: Item | None, place: Item) -> dict[str, Node]:
        if item is None or not isinstance(item.value, dict) or not item.value:
            self.fields.fault(item or place, "topology.nodes must map names to nodes")
            return {}
        given = {
            entry.value["index"].value
            for entry in item.value.values()
            if isinstance(entry.value, dict)
            and "index" in entry.value
            and isinstance(entry.value["index"].value, int)
        }
        free = (number for number in range(1, MAX_INDEX + 1) if number not in given)
        nodes: dict[str, Node] = {}
        self._seen = set(item.value)
        for name, entry in item.value.items():
            if not NAME.fullmatch(name):
                self.fields.fault(
                    entry,
                    f"{name!r} is no name for a node: {NAME_FORM}",
                )
                continue
            node = self._node(name, entry, free)
            if node is not None:
                nodes[name] = node
        self.incomplete = len(nodes) < len(item.value)
        return nodes

    def _node(self, name: str, entry: Item, free: Iterator[int]) -> Node | None:
        fields = self.fields
        members = fields.members(entry, _ALL_NODE_KEYS)
        if "role" not in members:
            if isinstance(entry.value, dict):
                roles = ", ".join(role.value for role in Role)
                fields.fault(entry, f"needs a role, one of {roles}")
            elif entry.value is None:
                fields.fault(entry, "is empty; give it a role at least")
            return None
        role = fields.choice(members["role"], Role, Role)
        if role is None:
            return None
        for key, item in members.items():
            if key not in NODE_KEYS[role]:
                why = _WHY.get(key, "only routers have one")
                fields.fault(item, f"means nothing at a node of role {role}: {why}")
        node = Node(name=name, role=role, index=0)
        if role is Role.CORRESPONDENT:
            prefix = fields.prefix(members.get("prefix"))
            return replace(node, announces=(prefix,) if prefix is not None else ())
        if role is Role.MOBILE:
            return replace(node, mac=fields.mac(members.get("mac")))
        return self._router(node, entry, members, free)

    def _router(
        self, node: Node, entry: Item, members: dict[str, Item], free: Iterator[int]
    ) -> Node:
        fields = self.fields
        index = fields.integer(members.get("index"), 0, 1, MAX_INDEX)
        if index == 0 and "index" not in members:
            index = next(free, 0)
            if index == 0:
                fields.fault(entry, f"is one router too many; a domain has {MAX_INDEX} at most")
        access = None
        if node.role is Role.ACCESS:
            access = fields.interface(members.get("access-interface")) or ACCESS_INTERFACE
        locator = fields.prefix(members.get("locator"))
        sids = fields.members(members.get("sids"), SID_KEYS)
        explicit = [(key, fields.address(item)) for key, item in sids.items()]
        return replace(
            node,
            index=index,
            locator=Locator(locator) if locator is not None else None,
            pools=fields.prefixes(members.get("pool")) if node.role is Role.ACCESS else (),
            announces=fields.prefixes(members.get("announces")) if node.is_head_end else (),
            access_interface=access,
            next_hop4=fields.address4(members.get("next-hop4")),
            explicit_sids=tuple((key, sid) for key, sid in explicit if sid is not None),
            maximum_sid_depth=fields.integer(
                members.get("max-sid-depth"), MAX_SEGMENTS, 1, MAX_SEGMENTS
            ),
            services=self._named_sids(members.get("services"), "a service"),
            anycast=self._named_sids(members.get("anycast"), "an anycast group"),
        )

    def _named_sids(self, item: Item | None, what: str) -> tuple[tuple[str, IPv6Address], ...]:
        """Return (name, SID) of each service behind a router, or anycast group, by name."""
        found: list[tuple[str, IPv6Address]] = []
        for name, entry in self.fields.mapping(item).items():
            if not NAME.fullmatch(name):
                self.fields.fault(entry, f"{name!r} is no name for {what}: {NAME_FORM}")
                continue
            sid = self.fields.address(entry)
            if sid is not None:
                found.append((name, sid))
        return tuple(sorted(found))

    def _links(
        self, item: Item | None, nodes: dict[str, Node], mtu: int, affinities: Item | None
    ) -> list[Link]:
        fields = self.fields
        names = tuple(fields.mapping(affinities, judge=False))
        if item is None:
            return []
        if not isinstance(item.value, list):
            fields.fault(item, "must be a list of links")
            return []
        links: list[Link] = []
        for entry in item.value:
            if not isinstance(entry.value, dict):
                fields.fault(entry, "must be a link: endpoints, and metric, delay, mtu")
                continue
            members = fields.members(entry, LINK_KEYS)
            metric = fields.integer(members.get("metric"), 10, 1, MAX_METRIC)
            te_metric = fields.integer(members.get("te-metric"), metric, 1, MAX_METRIC)
            delay_us = fields.delay_us(members.get("delay"))
            link_mtu = fields.integer(members.get("mtu"), mtu, MIN_MTU, MAX_MTU)
            capacity_bps = fields.capacity_bps(members.get("capacity"))
            affinity = fields.names(members.get("affinity"), names, "domain.affinities")
            srlgs = fields.integers(members.get("srlg"), 1, MAX_SRLG)
            drained = fields.boolean(members.get("drained"))
            item = members.get("endpoints", entry)
            ends = self._ends(item, nodes)
            if len(ends) == 2:
                links.append(
                    Link(
                        ends[0],
                        ends[1],
                        metric,
                        delay_us,
                        link_mtu,
                        te_metric=te_metric if "te-metric" in members else None,
                        capacity_bps=capacity_bps,
                        affinities=affinity,
                        srlgs=srlgs,
                        drained=drained,
                    )
                )
                self.link_keys.append(entry.key)
            else:
                self.loose |= _meant(item, nodes)
        return links

    def _ends(self, item: Item, nodes: dict[str, Node]) -> list[LinkEnd]:
        """Return the ends that could be read: two for a good link."""
        wanted = 'must be two ends such as ["ar1:eth0", "tr1:eth0"]'
        if not isinstance(item.value, list) or len(item.value) != 2:
            self.fields.fault(item, f"endpoints {wanted}")
            return []
        ends: list[LinkEnd] = []
        for entry in item.value:
            name, colon, interface = str(entry.value).partition(":")
            if not isinstance(entry.value, str) or not colon:
                self.fields.fault(entry, wanted)
            elif not INTERFACE.fullmatch(interface) or interface in RESERVED_INTERFACES:
                self.fields.fault(
                    entry, f"{interface!r} is no name for an interface (at most 15 characters)"
                )
            elif name in nodes:
                ends.append(LinkEnd(name, interface))
            elif name not in self._seen:  # a node that is there but faulty has its fault already
                near = nearest(name, nodes)
                hint = f"did you mean {near!r}?" if near else "add it under topology.nodes"
                self.fields.fault(entry, f"unknown node {name!r}; {hint}")
        return ends


def _meant(endpoints: Item, nodes: dict[str, Node]) -> set[str]:
    """Return the nodes that the endpoints of a faulty link were probably to be."""
    entries = endpoints.value if isinstance(endpoints.value, list) else [endpoints]
    texts = [entry.value for entry in entries if isinstance(entry.value, str)]
    words = [word for text in texts for word in re.findall(r"[a-z0-9-]+", text)]
    return {name for word in words if (name := nearest(word, nodes)) is not None}
