"""Names of a lab's namespaces and radio ports: derived, so that a crash loses none of them."""

from __future__ import annotations

import re

from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.topology import Role, Topology

PREFIX = "s6-"
AIR = "air"
"""The node name that stands for the radio segment."""
RADIO = "radio0"
"""The one interface of every mobile node."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,14}")
_LONGEST_INTERFACE = 15


class LabError(Srv6dmmError):
    """The lab cannot do what was asked; the message says what to do."""


def check_lab_name(name: str) -> str:
    """Return the name of a lab if it is one; raises LabError."""
    if not _NAME.fullmatch(name):
        raise LabError(
            f"{name!r} is no name for a lab: lower-case letters, digits and -, at most 15"
        )
    return name


def namespace_name(lab: str, node: str) -> str:
    """Return the network namespace of a node, or of `AIR`, in a lab."""
    return f"{PREFIX}{lab}-{node}"


def namespaces(lab: str, topology: Topology) -> dict[str, str]:
    """Return node -> namespace of a lab, the radio segment last.

    Raises LabError when a node has the radio segment's name.
    """
    if AIR in topology.nodes:
        raise LabError(f"a node cannot be called {AIR!r}: that is the radio segment; rename it")
    return {node: namespace_name(lab, node) for node in (*sorted(topology.nodes), AIR)}


def cell_ports(topology: Topology) -> dict[str, str]:
    """Return access router -> the radio segment's interface to it (cell-ROUTER)."""
    return _ports("cell", [node.name for node in topology.access_routers()])


def mobile_ports(topology: Topology) -> dict[str, str]:
    """Return mobile node -> the radio segment's interface to it (air-NODE)."""
    return _ports(
        "air", sorted(name for name, node in topology.nodes.items() if node.role is Role.MOBILE)
    )


def _ports(prefix: str, names: list[str]) -> dict[str, str]:
    """Name ports after their nodes, or number them where that is too long for an interface."""
    return {
        name: f"{prefix}-{name}"
        if len(prefix) + 1 + len(name) <= _LONGEST_INTERFACE
        else f"{prefix}{number}"
        for number, name in enumerate(names, 1)
    }
