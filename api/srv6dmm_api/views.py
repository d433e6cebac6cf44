"""What GET routes show: the state as people ask for it."""

from __future__ import annotations

from typing import Any

from srv6dmm import codec
from srv6dmm.controller.service import Controller
from srv6dmm.core.mobility import preferred_binding
from srv6dmm.core.paths import NoPath
from srv6dmm.model.errors import Refusal
from srv6dmm.model.plan import PlanEntry, SteeringEntry
from srv6dmm.model.state import RolloutPhase, Session


def session_view(controller: Controller, session: Session) -> dict[str, Any]:
    """Return a session with its bindings and the segment list at every head-end."""
    preferred = preferred_binding(session)
    steering = [
        {
            "head_end": router,
            "prefix": str(entry.prefix),
            "segments": [str(sid) for sid in entry.segments],
            "mode": entry.mode.value,
            "path": list(controller.planner.path(router, session.serving)),
        }
        for router, entries in sorted(controller.planner.session_entries(session).items())
        for entry in entries
        if isinstance(entry, SteeringEntry)
    ]
    return {
        "mobile_node": session.mobile_node,
        "interface": session.interface,
        "link_layer_address": session.link_layer_address,
        "serving": session.serving,
        "epoch": session.epoch,
        "phase": session.phase.value,
        "rollout": session.rollout.value,
        "degraded": session.rollout is not RolloutPhase.STABLE
        and bool(controller.pending_routers(session.key)),
        "expires_ms": session.expires_ms,
        "bindings": [
            {
                "prefix": str(binding.prefix),
                "anchor": binding.anchor,
                "state": "home" if binding.anchor == session.serving else "steered",
                "type": binding.type.value,
                "preferred": binding is preferred,
            }
            for binding in session.bindings
        ],
        "steering": steering,
    }


def node_view(controller: Controller, name: str) -> dict[str, Any]:
    """Return every session of a mobile node. Raises Refusal `unknown-mobile-node`."""
    sessions = [
        session_view(controller, session)
        for key, session in sorted(controller.state.sessions.items())
        if key[0] == name
    ]
    if not sessions:
        raise Refusal("unknown-mobile-node", f"mobile node {name!r} has no session", 404)
    return {"mobile_node": name, "sessions": sessions}


def entry_view(entry: PlanEntry) -> dict[str, Any]:
    """Return a plan entry with its kind and key."""
    return {"kind": type(entry).__name__, "key": entry.key, **codec.to_builtins(entry)}


def plan_view(controller: Controller, router: str) -> dict[str, Any]:
    """Return a router's whole plan. Raises Refusal `unknown-router`."""
    try:
        plan = controller.plan(router)
    except KeyError:
        raise Refusal("unknown-router", f"{router!r} is no router of this domain", 404) from None
    return {
        "router": router,
        "revision": plan.revision,
        "entries": [entry_view(entry) for _, entry in sorted(plan.entries.items())],
    }


def path_view(controller: Controller, head_end: str, serving: str) -> dict[str, Any]:
    """Return the path and segment list between two routers, with every SID's behavior."""
    planner = controller.planner
    for name in (head_end, serving):
        node = controller.topology.nodes.get(name)
        if node is None or not node.is_router:
            raise Refusal("unknown-router", f"{name!r} is no router of this domain", 404)
    if serving not in planner.sids:
        raise Refusal("unknown-router", f"{serving} has no SIDs: it is a plain router", 422)
    try:
        path = planner.path(head_end, serving)
        cost = planner.paths.distance(head_end, serving)
    except NoPath as error:
        raise Refusal("not-found", str(error), 404) from error
    segments = planner.segments(head_end, serving)
    mode = controller.topology.domain.encap_mode
    return {
        "from": head_end,
        "to": serving,
        "path": list(path),
        "metric": cost,
        "mode": mode.value,
        "overhead_bytes": mode.overhead(len(segments)),
        "segments": [
            {"sid": str(sid), "router": router, "behavior": behavior}
            for sid in segments
            for router, behavior in [_meaning(controller, sid)]
        ],
    }


def _meaning(controller: Controller, sid: object) -> tuple[str | None, str | None]:
    for name, sids in controller.planner.sids.items():
        if sid == sids.end_dt6:
            return name, "End.DT6"
        if sid == sids.end:
            return name, "End"
        if sid in sids.adjacencies.values():
            return name, "End.X"
    return None, None


def topology_view(controller: Controller) -> dict[str, Any]:
    """Return the topology as values, with every router's SIDs."""
    topology = controller.topology
    view: dict[str, Any] = codec.to_builtins(topology)
    view["sids"] = {name: codec.to_builtins(s) for name, s in controller.planner.sids.items()}
    view["inner_mtu"] = topology.inner_mtu()
    return view
