"""Policies, flow rules and groups as values for answers."""

from __future__ import annotations

from typing import Any

from srv6dmm import codec
from srv6dmm.controller.service import Controller
from srv6dmm.controller.traffic import Traffic
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.flow_checks import FlowChecker
from srv6dmm.model.flows import FlowRule, Group
from srv6dmm.model.plan import FlowSteering
from srv6dmm.model.policy import Policy
from srv6dmm.policy_codec import policy_document


def policy_view(controller: Controller, policy: Policy) -> dict[str, Any]:
    """Return a policy and who names it."""
    users = FlowChecker(controller.planner, controller.state).users(policy.name)
    return {**policy_document(policy), "used_by": users}


def rule_view(rule: FlowRule) -> dict[str, Any]:
    """Return a flow rule."""
    view: dict[str, Any] = codec.to_builtins(rule)
    return view


def flow_view(controller: Controller, rule: FlowRule) -> dict[str, Any]:
    """Return a flow rule and what it comes to at every head-end now."""
    state = controller.state
    nodes = FlowBook({}, {rule.name: rule}, state.groups).nodes()
    entries = [
        {
            "router": router,
            "source": str(entry.selector.source),
            "destination": str(entry.selector.destination),
            "order": entry.order,
            "lists": codec.to_builtins(entry.lists),
            "backup": codec.to_builtins(entry.backup),
            "traffic": _traffic(controller.flow_traffic(router, entry)),
        }
        for _, session in sorted(state.sessions.items())
        if session.mobile_node in nodes
        for router, found in sorted(controller.planner.session_entries(session).items())
        for entry in found
        if isinstance(entry, FlowSteering) and entry.rule == rule.name
    ]
    return {**rule_view(rule), "entries": entries}


def _traffic(counted: Traffic | None) -> dict[str, int] | None:
    if counted is None:
        return None
    return {"packets": counted.packets, "bytes": counted.octets, "idle_ms": counted.idle_ms}


def group_view(controller: Controller, group: Group) -> dict[str, Any]:
    """Return a group and who names it."""
    users = FlowChecker(controller.planner, controller.state).group_users(group.name)
    return {"name": group.name, "members": sorted(group.members), "used_by": users}
