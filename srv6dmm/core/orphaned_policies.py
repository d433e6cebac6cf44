"""Policies that would lose what they name, or a path in use, when the topology changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.flow_checks import FlowChecker
from srv6dmm.core.planner import Planner
from srv6dmm.core.policy_checks import Fault
from srv6dmm.core.search import Budget, TooHard
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.policy import Policy
from srv6dmm.model.state import State
from srv6dmm.model.topology import Topology

_PAIRS = 2000
"""Pairs of routers whose paths are looked at, of one policy."""
_PLACES = {
    "include_any": "domain.affinities",
    "include_all": "domain.affinities",
    "exclude_any": "domain.affinities",
    "waypoints": "topology.nodes",
    "binding_sids": "topology.nodes",
    "segments": "topology",
}
"""Part of a policy -> where in the document is what it names; links, of all others."""


def orphaned_policies(current: Topology, wanted: Topology, state: State) -> list[Fault]:
    """Return (place in the document, which policy loses what) for a change of topology.

    As declared: links that do not work at the moment are there. What is wrong with a policy
    already does not stand in the way of a change.
    """
    if not state.policies:
        return []
    old = Planner(current, MobilityParameters(), FlowBook.of(state))
    new = Planner(wanted, MobilityParameters(), FlowBook.of(state))
    faults: list[Fault] = []
    budget = Budget()
    for name, policy in sorted(state.policies.items()):
        found = FlowChecker(new, state).policy_faults(policy)
        known = {key for key, _ in FlowChecker(old, state).policy_faults(policy)} if found else ()
        lost = [
            (_place(key), f"policy {name} would be left with a fault, {key}: {message}")
            for key, message in found
            if key not in known
        ]
        faults += lost
        if not lost:
            # What is too hard to find is not known to be lost.
            with suppress(TooHard), old.choices.allowing(budget), new.choices.allowing(budget):
                faults += _without_path(old, new, policy, state)
    return faults


def _place(key: str) -> str:
    return next((place for part, place in _PLACES.items() if part in key), "topology.links")


def _without_path(old: Planner, new: Planner, policy: Policy, state: State) -> Iterator[Fault]:
    """Yield the first pair of routers between which the policy has paths, and would have none."""
    for head_end, endpoint in dict.fromkeys(islice(_pairs(old, new, policy, state), _PAIRS)):
        if not old.choices.choose(policy, state.policies, head_end, endpoint).possible:
            continue
        after = new.choices.choose(policy, state.policies, head_end, endpoint)
        if not after.possible:
            depth = f"topology.nodes.{head_end}.max-sid-depth"
            place = depth if head_end in _shallower(old, new) else "topology.links"
            reasons = "; ".join(candidate.reason or "" for candidate in after.candidates)
            yield (
                place,
                f"policy {policy.name} would have no path from {head_end} to {endpoint}: {reasons}",
            )
            return


def _pairs(old: Planner, new: Planner, policy: Policy, state: State) -> Iterator[tuple[str, str]]:
    """Yield (head-end, endpoint) of what is in use, and of head-ends that could impose less."""
    for binding in policy.binding_sids:
        yield (binding.head_end, binding.endpoint)
    for _, session in sorted(state.sessions.items()):
        for rule in old.book.rules(session.mobile_node):
            if rule.policy != policy.name:
                continue
            here = session.serving
            entrances = old.flows.entrances(rule.match.peer)
            yield from ((name, here) for name in sorted(entrances) if name != here)
            exits = old.flows.exits(here, rule.match.peer)
            yield from ((here, way.egress) for way in exits if way.egress != here)
    if any(rule.policy == policy.name for rule in state.flows.values()):
        for head_end in _shallower(old, new):
            others = (node.name for node in new.topology.head_ends())
            yield from ((head_end, name) for name in others if name != head_end)


def _shallower(old: Planner, new: Planner) -> list[str]:
    """Return the head-ends that can impose fewer SIDs than before."""
    return [
        node.name
        for node in new.topology.head_ends()
        if node.maximum_sid_depth < old.topology.nodes[node.name].maximum_sid_depth
    ]
