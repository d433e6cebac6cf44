"""Whether a state that was loaded can be one of the domain at hand."""

from __future__ import annotations

from srv6dmm.model.errors import Refusal
from srv6dmm.model.state import State
from srv6dmm.model.topology import Topology


def check_topology(state: State, topology: Topology) -> None:
    """Raise Refusal `topology-mismatch` when a state speaks of routers that there are not."""
    known = {node.name for node in topology.access_routers()}
    named = {session.serving for session in state.sessions.values()}
    named |= {lease.anchor for lease in state.leases.values()}
    if named - known:
        raise Refusal(
            "topology-mismatch",
            f"the store speaks of access routers that the topology has not: "
            f"{', '.join(sorted(named - known))}; name the topology it was written with, "
            "or another store",
        )
