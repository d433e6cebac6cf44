"""What GET routes show: the state as people ask for it."""

from __future__ import annotations

import heapq
from ipaddress import IPv6Network
from typing import Any

from srv6dmm import codec
from srv6dmm.controller.hub import RouterStatus
from srv6dmm.controller.service import Controller
from srv6dmm.core.links import delay_in_use, measured_at
from srv6dmm.core.mobility import preferred_binding
from srv6dmm.core.paths import NoPath
from srv6dmm.model.addresses import IPv6Address
from srv6dmm.model.errors import Refusal
from srv6dmm.model.plan import PlanEntry, SteeringEntry
from srv6dmm.model.sid import SegmentList
from srv6dmm.model.state import Session


def session_view(controller: Controller, session: Session) -> dict[str, Any]:
    """Return a session with its bindings and the segment list at every head-end."""
    preferred = preferred_binding(session)
    steering = [
        {
            "head_end": router,
            "prefix": str(entry.prefix),
            "segments": [str(sid) for sid in entry.segments],
            "mode": entry.mode.value,
            "path": list(controller.planner.path(router, target)),
        }
        for router, entry, target in _steering(controller, session)
    ]
    return {
        "mobile_node": session.mobile_node,
        "interface": session.interface,
        "link_layer_address": session.link_layer_address,
        "serving": session.serving,
        "epoch": session.epoch,
        "phase": session.phase.value,
        "rollout": session.rollout.value,
        "pending": controller.pending_routers(session.key),
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


def _steering(controller: Controller, session: Session) -> list[tuple[str, SteeringEntry, str]]:
    """Return (head-end, entry, router the entry leads to), sorted by head-end.

    While a roll-out is under way that router need not be the serving one.
    """
    return [
        (router, entry, _owner(controller, entry.segments))
        for router, entries in sorted(controller.planner.session_entries(session).items())
        for entry in entries
        if isinstance(entry, SteeringEntry)
    ]


def _owner(controller: Controller, segments: SegmentList) -> str:
    return _meaning(controller, segments[-1])[0]


def _sessions(controller: Controller, name: str) -> list[Session]:
    """Return a node's sessions by interface. Raises Refusal `unknown-mobile-node`."""
    state = controller.state
    found = [state.sessions[key] for key in state.index.of_node(name)]
    if not found:
        raise Refusal("unknown-mobile-node", f"mobile node {name!r} has no session", 404)
    return sorted(found, key=lambda session: session.interface)


def node_view(controller: Controller, name: str) -> dict[str, Any]:
    """Return every session of a mobile node. Raises Refusal `unknown-mobile-node`."""
    sessions = [session_view(controller, session) for session in _sessions(controller, name)]
    for session in sessions:
        for binding in session["bindings"]:
            binding["traffic"] = _traffic(controller, IPv6Network(binding["prefix"]))
    return {"mobile_node": name, "sessions": sessions}


def _traffic(controller: Controller, prefix: IPv6Network) -> list[dict[str, Any]]:
    return [
        {
            "router": counted.router,
            "packets": counted.packets,
            "bytes": counted.octets,
            "idle_ms": counted.idle_ms,
        }
        for counted in controller.traffic(prefix)
    ]


def nodes_view(controller: Controller, after: str, limit: int) -> dict[str, Any]:
    """Return up to `limit` mobile nodes with names greater than `after`, in name order."""
    nodes: dict[str, list[Session]] = {}
    for (name, _), session in controller.state.sessions.items():
        if name > after:
            nodes.setdefault(name, []).append(session)
    names = heapq.nsmallest(limit, nodes)
    view: dict[str, Any] = {
        "mobile_nodes": [
            {
                "mobile_node": name,
                "sessions": [
                    session_view(controller, session)
                    for session in sorted(nodes[name], key=lambda session: session.interface)
                ],
            }
            for name in names
        ]
    }
    if len(nodes) > len(names):
        view["next"] = names[-1]
    return view


def routers_view(controller: Controller) -> list[dict[str, Any]]:
    """Return every router's status in name order."""
    return [_router(controller, status) for status in controller.routers()]


def router_view(controller: Controller, router: str) -> dict[str, Any]:
    """Return one router's status. Raises Refusal `unknown-router`."""
    for status in controller.routers():
        if status.name == router:
            return _router(controller, status)
    raise unknown_router(router)


def _router(controller: Controller, status: RouterStatus) -> dict[str, Any]:
    view: dict[str, Any] = codec.to_builtins(status)
    for counted in view["sids"]:
        counted["bytes"] = counted.pop("octets")
    view["silent_lists"] = sorted(
        [str(sid) for sid in known.segments]
        for known in controller.state.lists_silent
        if known.head_end == status.name
    )
    return view


def unknown_router(router: str) -> Refusal:
    """Return the refusal of a name that no router of the domain has."""
    return Refusal("unknown-router", f"{router!r} is no router of this domain", 404)


def entry_view(entry: PlanEntry) -> dict[str, Any]:
    """Return a plan entry with its kind and key."""
    return {"kind": type(entry).__name__, "key": entry.key, **codec.to_builtins(entry)}


def plan_view(controller: Controller, router: str) -> dict[str, Any]:
    """Return a router's whole plan. Raises Refusal `unknown-router`."""
    try:
        plan = controller.plan(router)
    except KeyError:
        raise unknown_router(router) from None
    return {
        "router": router,
        "revision": plan.revision,
        "entries": [entry_view(entry) for _, entry in sorted(plan.entries.items())],
    }


def path_view(controller: Controller, head_end: str, target: str) -> dict[str, Any]:
    """Return the path and segment list between two routers, with every SID's behavior.

    Raises Refusal `unknown-router` and, where the underlay does not connect them, `not-found`.
    """
    planner = controller.planner
    for name in (head_end, target):
        node = controller.topology.nodes.get(name)
        if node is None or not node.is_router:
            raise unknown_router(name)
    if target not in planner.sids:
        raise Refusal("unknown-router", f"{target} has no SIDs: it is a plain router", 422)
    try:
        segments = planner.segments(head_end, target)
    except NoPath as error:
        raise Refusal("not-found", str(error), 404) from error
    return _path(controller, head_end, target, segments)


def node_paths_view(
    controller: Controller, mobile_node: str, head_end: str | None
) -> dict[str, Any]:
    """Return the path of every steered prefix, at every head-end or one of them."""
    if head_end is not None:
        router_view(controller, head_end)
    paths = [
        {
            "interface": session.interface,
            "prefix": str(entry.prefix),
            **_path(controller, router, target, entry.segments),
        }
        for session in _sessions(controller, mobile_node)
        for router, entry, target in _steering(controller, session)
        if head_end in (None, router)
    ]
    return {"mobile_node": mobile_node, "paths": paths}


def _path(
    controller: Controller, head_end: str, target: str, segments: SegmentList
) -> dict[str, Any]:
    try:
        path = controller.planner.path(head_end, target)
        metric = controller.planner.paths.distance(head_end, target)
    except NoPath as error:
        raise Refusal("not-found", str(error), 404) from error
    mode = controller.topology.domain.encap_mode
    return {
        "from": head_end,
        "to": target,
        "path": list(path),
        "metric": metric,
        "mode": mode.value,
        "overhead_bytes": mode.overhead(len(segments)) if segments else 0,
        "segments": [
            {"sid": str(sid), "router": router, "behavior": behavior}
            for sid in segments
            for router, behavior in [_meaning(controller, sid)]
        ],
    }


def _meaning(controller: Controller, sid: IPv6Address) -> tuple[str, str]:
    """Return whose a SID is and what it does there."""
    for name, sids in controller.planner.sids.items():
        if sid == sids.end_dt6:
            return name, "End.DT6"
        if sid == sids.end:
            return name, "End"
        if sid == sids.end_dx4:
            return name, "End.DX4"
        if sid in sids.adjacencies.values():
            return name, "End.X"
    raise ValueError(f"{sid} is in a segment list and no router's SID")


def topology_view(controller: Controller) -> dict[str, Any]:
    """Return the topology as values, with every router's SIDs."""
    topology = controller.topology
    view: dict[str, Any] = codec.to_builtins(topology)
    view["sids"] = {name: codec.to_builtins(s) for name, s in controller.planner.sids.items()}
    view["inner_mtu"] = topology.inner_mtu()
    measured = controller.measured_delays()
    for shown, link in zip(view["links"], topology.links, strict=True):
        shown["measured_delay_us"] = measured.get(measured_at(link))
        shown["delay_in_use_us"] = delay_in_use(link, controller.planner.delays)
    view["down"] = sorted(map(str, controller.planner.down))
    held = (support.router for support in controller.planner.csid if support.held)
    view["compressing"] = sorted(held)
    return view
