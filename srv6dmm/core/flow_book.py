"""The flow rules in force: which of them concern a mobile node, and in what order."""

from __future__ import annotations

from collections.abc import Mapping

from srv6dmm.model.flows import MAX_PRIORITY, FlowRule, Group
from srv6dmm.model.policy import Policy
from srv6dmm.model.state import State

DEPTHS = 8
"""Orders of one priority: prefixes of one rule come after those that lie in them. Fixed prefixes of
a domain lie in each other two deep at most: the outside, and what is known in it."""


class FlowBook:
    """Policies, rules and groups of one state. Never changed."""

    def __init__(
        self,
        policies: Mapping[str, Policy],
        flows: Mapping[str, FlowRule],
        groups: Mapping[str, Group],
    ) -> None:
        self.policies = dict(policies)
        self._by_node: dict[str, list[FlowRule]] = {}
        for _, rule in sorted(flows.items()):
            group = groups.get(rule.group) if rule.group is not None else None
            nodes = group.members if group is not None else {rule.mobile_node}
            for node in nodes:
                if node is not None:
                    self._by_node.setdefault(node, []).append(rule)

    @classmethod
    def of(cls, state: State) -> FlowBook:
        """Return the book of a state."""
        return cls(state.policies, state.flows, state.groups)

    def rules(self, mobile_node: str) -> tuple[FlowRule, ...]:
        """Return the rules of a mobile node, by name."""
        return tuple(self._by_node.get(mobile_node, ()))

    def nodes(self) -> frozenset[str]:
        """Return the mobile nodes that have rules."""
        return frozenset(self._by_node)

    def asks(self, mobile_node: str) -> tuple[object, ...]:
        """Return all that a node's flow entries depend on here: equal, and they are equal."""
        rules = self.rules(mobile_node)
        wanted: dict[str, Policy] = {}
        names = [rule.policy for rule in rules]
        while names:
            name = names.pop()
            policy = self.policies.get(name)
            if policy is not None and name not in wanted:
                wanted[name] = policy
                if policy.disjoint_from is not None:
                    names.append(policy.disjoint_from)
        return (rules, tuple(sorted(wanted.items())))


EMPTY = FlowBook({}, {}, {})


def order_of(rule: FlowRule, depth: int) -> int:
    """Return where an entry stands among all of a router: the smaller is looked at first."""
    return (MAX_PRIORITY - rule.priority) * DEPTHS + min(depth, DEPTHS - 1)
