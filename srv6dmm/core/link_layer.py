"""Link-layer addresses of mobile nodes: whose they may not be, and who holds one already."""

from __future__ import annotations

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent, BindingStatus
from srv6dmm.model.state import Session, SessionPhase, State
from srv6dmm.model.topology import Topology


def check_link_layer(state: State, event: AttachEvent, topology: Topology) -> None:
    """Raise Refusal when a node cannot have its link-layer address where it is.

    Frames to it would go to somebody else: to the access router, or another mobile node there. A
    node holds its address where it is, and where it goes back to should its hand-over be aborted;
    one that was detached does not, so a node may come back under another name.
    """
    mac = event.link_layer_address
    if mac == topology.domain.router_mac:
        message = f"{mac} is that of the access routers (domain.router-mac), not of a node"
        fault = {"pointer": "/link_layer_address", "in": "body", "message": message}
        raise Refusal(
            "validation", f"body /link_layer_address: {message}", 422, extra={"errors": [fault]}
        )
    for key in state.index.of_mac(mac):
        session = state.sessions[key]
        if session.mobile_node != event.mobile_node and _holds(session, event.access_router):
            raise Refusal(
                "link-layer-address-in-use",
                f"{session.mobile_node} has {mac} at {event.access_router}; detach it first if "
                f"{event.mobile_node} is the same node",
                binding_status=BindingStatus.ADMINISTRATIVELY_PROHIBITED,
                extra={"link_layer_address": mac},
            )


def _holds(session: Session, router: str) -> bool:
    before = session.fallback
    return session.phase is SessionPhase.ACTIVE and (
        session.serving == router or (before is not None and before.serving == router)
    )
