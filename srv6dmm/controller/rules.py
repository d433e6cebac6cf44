"""Decisions on policies, flow rules, groups and the topology: a change, or a refusal.

Each function returns what `Controller.change_rules` or `change_topology` decides by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from srv6dmm.core.flow_checks import FlowChecker
from srv6dmm.core.orphaned_policies import orphaned_policies
from srv6dmm.core.planner import Planner
from srv6dmm.core.policy_checks import Fault
from srv6dmm.core.topology_document import document_of
from srv6dmm.core.topology_update import patched, read, update_faults
from srv6dmm.model.errors import Refusal
from srv6dmm.model.flows import FlowRule, Group
from srv6dmm.model.policy import Policy
from srv6dmm.model.state import Change, State
from srv6dmm.model.topology import Topology

Decide = Callable[[State], Change]
FAULTS_SHOWN = 20


def put_policy(planner: Planner, policy: Policy, *, new: bool) -> Decide:
    """Decide that a policy is there; `new`: none of its name may be."""

    def decide(state: State) -> Change:
        _untaken("policy", policy.name, state.policies, new)
        _refuse(FlowChecker(planner, state).policy_faults(policy))
        return Change(policies=(policy,))

    return decide


def delete_policy(planner: Planner, name: str) -> Decide:
    """Decide that a policy goes, which nobody may name."""

    def decide(state: State) -> Change:
        known("unknown-policy", name, state.policies)
        _unused("policy", name, FlowChecker(planner, state).users(name))
        return Change(policies_gone=(name,))

    return decide


def put_flow(planner: Planner, rule: FlowRule, *, new: bool) -> Decide:
    """Decide that a flow rule is there; `new`: none of its name may be."""

    def decide(state: State) -> Change:
        _untaken("flow", rule.name, state.flows, new)
        _refuse(FlowChecker(planner, state).rule_faults(rule))
        return Change(flows=(rule,))

    return decide


def delete_flow(name: str) -> Decide:
    """Decide that a flow rule goes."""

    def decide(state: State) -> Change:
        known("unknown-flow", name, state.flows)
        return Change(flows_gone=(name,))

    return decide


def put_group(planner: Planner, group: Group, *, new: bool) -> Decide:
    """Decide that a group is there; `new`: none of its name may be."""

    def decide(state: State) -> Change:
        _untaken("group", group.name, state.groups, new)
        _refuse(FlowChecker(planner, state).group_faults(group))
        return Change(groups=(group,))

    return decide


def delete_group(planner: Planner, name: str) -> Decide:
    """Decide that a group goes, which no rule may name."""

    def decide(state: State) -> Change:
        known("unknown-group", name, state.groups)
        _unused("group", name, FlowChecker(planner, state).group_users(name))
        return Change(groups_gone=(name,))

    return decide


def put_topology(document: Mapping[str, Any]) -> Callable[[Topology, State], Topology]:
    """Decide that the domain is as a document says."""

    def decide(current: Topology, state: State) -> Topology:
        return _judged(current, state, dict(document))

    return decide


def patch_topology(patch: Mapping[str, Any]) -> Callable[[Topology, State], Topology]:
    """Decide that the domain is as it is, but for what a merge patch says."""

    def decide(current: Topology, state: State) -> Topology:
        return _judged(current, state, patched(document_of(current), patch))

    return decide


def _judged(current: Topology, state: State, document: dict[str, Any]) -> Topology:
    wanted, faults = read(document)
    if wanted is not None:
        faults = update_faults(current, wanted, state, state.links_down)
    if wanted is None or faults:
        _refuse(faults)
    assert wanted is not None
    _refuse(orphaned_policies(current, wanted, state))
    return wanted


def known(otherwise: str, name: str, records: Mapping[str, object]) -> None:
    """Raise a Refusal of type `otherwise` (`unknown-KIND`) unless a record has that name."""
    if name not in records:
        kind = otherwise.removeprefix("unknown-")
        raise Refusal(otherwise, f"there is no {kind} {name!r}", 404)


def _untaken(kind: str, name: str, records: Mapping[str, object], new: bool) -> None:
    if new and name in records:
        raise Refusal("name-taken", f"there is a {kind} {name!r} already; PUT replaces it")


def _unused(kind: str, name: str, users: list[str]) -> None:
    if users:
        raise Refusal(
            "in-use",
            f"{kind} {name!r} is named by {', '.join(users)}; change or delete those first",
            extra={"users": users},
        )


def _refuse(faults: Iterable[Fault]) -> None:
    """Raise Refusal `validation` with every fault and its place, if there are any."""
    faults = list(faults)
    if not faults:
        return
    shown = [
        {"pointer": _pointer(key), "in": "body", "message": message}
        for key, message in faults[:FAULTS_SHOWN]
    ]
    detail = "; ".join(f"{key}: {message}" for key, message in faults[:FAULTS_SHOWN])
    if len(faults) > FAULTS_SHOWN:
        detail += f"; and {len(faults) - FAULTS_SHOWN} more"
    raise Refusal("validation", detail, 422, extra={"errors": shown})


def _pointer(key: str) -> str:
    """Return the JSON pointer (RFC 6901) of a key such as candidates[0].paths[1].weight."""
    return "".join("/" + part for part in re.split(r"[.\[\]]+", key) if part)
