"""What is wrong with policies, flow rules and groups, judged with all the others there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Network
from itertools import islice

from srv6dmm.core.compression import function, slot_of
from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.planner import Planner
from srv6dmm.core.policy_checks import Fault, PolicyChecker
from srv6dmm.core.search import Budget, TooHard
from srv6dmm.core.sids import named_sids
from srv6dmm.core.topology_fields import did_you_mean
from srv6dmm.model.flows import (
    MAX_PRIORITY,
    MAXIMUM_FLOW_ENTRIES,
    MAXIMUM_RULES,
    PORTS_PROTOCOLS,
    Direction,
    FlowMatch,
    FlowRule,
    Group,
    PortRange,
)
from srv6dmm.model.policy import ExplicitPath, Policy
from srv6dmm.model.state import State

_PAIRS = 400
"""Pairs of routers that a policy is tried between before it is called impossible."""


class FlowChecker:
    """Judges changes of the rules against one domain and one state."""

    def __init__(self, planner: Planner, state: State) -> None:
        self._planner = planner
        self._topology = planner.topology
        self._state = state
        self._sids = {
            sid: f"{name} of {router}"
            for router, own in planner.sids.items()
            for name, sid in named_sids(own)
        }
        self._numbers = {slot_of(own.end): router for router, own in planner.sids.items()}
        """Slot of a container -> the router it names."""

    # --- policies ----------------------------------------------------------------------------

    def policy_faults(self, policy: Policy) -> list[Fault]:
        """Return what is wrong with a policy, in place of the one of its name."""
        faults = [
            *PolicyChecker(self._topology, sids=self._planner.sids).candidate_faults(
                policy.candidates
            ),
            *self._disjointness(policy),
            *self._binding_sids(policy),
        ]
        return faults or [*self._possible(policy)]

    def _disjointness(self, policy: Policy) -> Iterator[Fault]:
        policies = {**self._state.policies, policy.name: policy}
        name, seen = policy.disjoint_from, [policy.name]
        while name is not None:
            if name not in policies:
                hint = did_you_mean(name, sorted(policies))
                yield ("disjoint_from", f"unknown policy {name!r}{hint}")
                return
            if name in seen:
                way = " -> ".join([*seen, name])
                yield ("disjoint_from", f"policies would wait for each other: {way}")
                return
            seen.append(name)
            name = policies[name].disjoint_from

    def _binding_sids(self, policy: Policy) -> Iterator[Fault]:
        taken = {
            binding.sid: f"the binding SID of policy {other.name}"
            for other in self._state.policies.values()
            if other.name != policy.name
            for binding in other.binding_sids
        }
        head_ends = {node.name: node for node in self._topology.head_ends()}
        for number, binding in enumerate(policy.binding_sids):
            key = f"binding_sids[{number}]"
            node = head_ends.get(binding.head_end)
            if node is None:
                hint = did_you_mean(binding.head_end, sorted(head_ends))
                yield (f"{key}.head_end", f"unknown head-end {binding.head_end!r}{hint}")
            elif node.locator is None or binding.sid not in node.locator:
                yield (f"{key}.sid", f"{binding.sid} is not in the locator of {node.name}")
            elif binding.sid == node.loopback or int(binding.sid) == int(
                node.locator.prefix.network_address
            ):
                yield (f"{key}.sid", f"{binding.sid} is {node.name}'s own address")
            elif self._topology.domain.usid and function(binding.sid) in self._numbers:
                yield (
                    f"{key}.sid",
                    f"{function(binding.sid):x} is the number of "
                    f"{self._numbers[function(binding.sid)]}; with domain.usid a function is no "
                    "router's number",
                )
            if binding.endpoint not in self._planner.sids:
                hint = did_you_mean(binding.endpoint, sorted(self._planner.sids))
                yield (f"{key}.endpoint", f"{binding.endpoint!r} is no router with SIDs{hint}")
            elif binding.endpoint == binding.head_end:
                yield (f"{key}.endpoint", "is the head-end itself")
            owner = self._sids.get(binding.sid) or taken.get(binding.sid)
            if owner is not None:
                yield (f"{key}.sid", f"{binding.sid} is {owner}")
            taken[binding.sid] = f"binding_sids[{number}] as well"

    def _possible(self, policy: Policy) -> Iterator[Fault]:
        """Yield why no two routers have a path that the policy allows."""
        policies = {**self._state.policies, policy.name: policy}
        try:
            with self._planner.choices.allowing(Budget()):
                yield from self._impossible(policy, policies)
        except TooHard:
            hard = ", ".join(_hard(policy)) or "the domain"
            yield ("candidates", f"too hard to find a path for, ask for less: {hard}")

    def _impossible(self, policy: Policy, policies: dict[str, Policy]) -> Iterator[Fault]:
        first: tuple[str, str] | None = None
        reasons: list[str] = []
        for head_end, endpoint in islice(self._pairs(policy), _PAIRS):
            choice = self._planner.choices.choose(policy, policies, head_end, endpoint)
            if choice.possible:
                return
            if first is None:
                first = (head_end, endpoint)
                reasons = [candidate.reason or "" for candidate in choice.candidates]
        if first is None:
            yield ("candidates", "no two routers have a path that it allows; there are no two")
            return
        reasons += self._planner.choices.why_not(policy, *first)
        told = f"from {first[0]} to {first[1]}: {'; '.join(reasons)}"
        yield ("candidates", f"no two routers have a path that it allows; {told}")

    def _pairs(self, policy: Policy) -> Iterator[tuple[str, str]]:
        """Yield (head-end, endpoint), those first that the policy names."""
        for binding in policy.binding_sids:
            yield (binding.head_end, binding.endpoint)
        owners = {own.end_dt6: router for router, own in self._planner.sids.items()}
        ends = [
            owners[path.path.segments[-1]]
            for candidate in policy.candidates
            for path in candidate.paths
            if isinstance(path.path, ExplicitPath) and path.path.segments[-1] in owners
        ]
        head_ends = [node.name for node in self._topology.head_ends()]
        others = [name for name in head_ends if name in self._planner.sids]
        for endpoint in (*dict.fromkeys(ends), *others):
            yield from ((head_end, endpoint) for head_end in head_ends if head_end != endpoint)

    def users(self, policy: str) -> list[str]:
        """Return who names a policy, as "flow NAME" and "policy NAME"."""
        return [
            *(f"flow {rule.name}" for rule in self._rules() if rule.policy == policy),
            *(
                f"policy {other.name}"
                for _, other in sorted(self._state.policies.items())
                if other.disjoint_from == policy
            ),
        ]

    # --- rules and groups --------------------------------------------------------------------

    def rule_faults(self, rule: FlowRule) -> list[Fault]:
        """Return what is wrong with a flow rule, in place of the one of its name."""
        others = [other for other in self._rules() if other.name != rule.name]
        faults = [*self._names(rule), *self._match(rule.match)]
        if not 0 <= rule.priority <= MAX_PRIORITY:
            faults.append(("priority", f"{rule.priority} is not in 0..{MAX_PRIORITY}"))
        if len(others) >= MAXIMUM_RULES:
            faults.append(("name", f"there are {len(others)} rules; {MAXIMUM_RULES} are possible"))
        if faults:
            return faults
        faults += self._overlaps(rule, others, self._state.groups)
        rules = {other.name: other for other in (*others, rule)}
        return faults or [*self._too_many(rules, self._state.groups)]

    def group_faults(self, group: Group) -> list[Fault]:
        """Return what is wrong with a group, in place of the one of its name."""
        groups = {**self._state.groups, group.name: group}
        rules = self._rules()
        faults: list[Fault] = []
        for number, rule in enumerate(rules):
            if rule.group == group.name:
                faults += self._overlaps(rule, rules[:number] + rules[number + 1 :], groups)
        named = {rule.name: rule for rule in rules}
        return [("members", f"flow {message}") for _, message in faults] or [
            *self._too_many(named, groups)
        ]

    def group_users(self, group: str) -> list[str]:
        """Return the rules that name a group, as "flow NAME"."""
        return [f"flow {rule.name}" for rule in self._rules() if rule.group == group]

    def _rules(self) -> list[FlowRule]:
        return [rule for _, rule in sorted(self._state.flows.items())]

    def _names(self, rule: FlowRule) -> Iterator[Fault]:
        if rule.policy not in self._state.policies:
            hint = did_you_mean(rule.policy, sorted(self._state.policies))
            yield ("policy", f"unknown policy {rule.policy!r}{hint}")
        if (rule.mobile_node is None) == (rule.group is None):
            yield ("mobile_node", "give either a mobile node or a group")
        if rule.group is not None and rule.group not in self._state.groups:
            hint = did_you_mean(rule.group, sorted(self._state.groups))
            yield ("group", f"unknown group {rule.group!r}{hint}")

    def _match(self, match: FlowMatch) -> Iterator[Fault]:
        if match.protocol is not None and not 0 <= match.protocol <= 255:
            yield ("match.protocol", f"{match.protocol} is not in 0..255")
        if match.dscp is not None and not 0 <= match.dscp <= 63:
            yield ("match.dscp", f"{match.dscp} is not in 0..63")
        for key in ("own_ports", "peer_ports"):
            ports: PortRange | None = getattr(match, key)
            if ports is None:
                continue
            if match.protocol not in PORTS_PROTOCOLS:
                names = "TCP (6), UDP (17), DCCP (33), SCTP (132) or UDP-Lite (136)"
                yield (f"match.{key}", f"ports mean nothing without protocol {names}")
            if not 0 <= ports[0] <= ports[1] <= 65_535:
                yield (f"match.{key}", f"{ports[0]}-{ports[1]} is no range in 0..65535")
            elif ports in ((0, 0), (65_535, 65_535)):
                yield (f"match.{key}", f"Linux's rules cannot match port {ports[0]} alone")
        pools = [pool for node in self._topology.access_routers() for pool in node.pools]
        own = match.own_prefix
        if own is not None and not any(own.overlaps(pool) for pool in pools):
            yield ("match.own_prefix", f"{own} is in no pool: no mobile node has such a prefix")

    def _overlaps(
        self, rule: FlowRule, others: list[FlowRule], groups: dict[str, Group]
    ) -> Iterator[Fault]:
        nodes = _nodes(rule, groups)
        for other in others:
            if other.priority != rule.priority or not _directions(rule, other):
                continue
            common = sorted(nodes & _nodes(other, groups))
            if common and _both(rule.match, other.match):
                whose = common[0] if len(common) == 1 else f"{common[0]} and {len(common) - 1} more"
                yield (
                    "priority",
                    f"{rule.name} and {other.name} have priority {rule.priority} and can both "
                    f"match a packet of {whose}: which one decides would be chance",
                )

    def _too_many(self, rules: dict[str, FlowRule], groups: dict[str, Group]) -> Iterator[Fault]:
        book = FlowBook(self._state.policies, rules, groups)
        counts: Counter[str] = Counter()
        for session in self._state.sessions.values():
            counts.update(self._planner.flow_counts(session, book))
        attached = {session.mobile_node for session in self._state.sessions.values()}
        for node in book.nodes() - attached:
            counts.update(self._planner.flows.expected(node, book))
        for router, count in sorted(counts.items()):
            if count > MAXIMUM_FLOW_ENTRIES:
                yield (
                    "match",
                    f"{router} would hold {count} flow entries with all nodes attached; "
                    f"{MAXIMUM_FLOW_ENTRIES} are possible: name fewer nodes, or policies by prefix",
                )


def _hard(policy: Policy) -> Iterator[str]:
    """Say what a policy asks for that makes a search long, the worst first."""
    for number, candidate in enumerate(policy.candidates):
        for place, weighted in enumerate(candidate.paths):
            path, here = weighted.path, f"of candidates[{number}].paths[{place}]"
            if isinstance(path, ExplicitPath):
                continue
            asked = path.constraints
            required = [
                *sorted(asked.require_routers),
                *map(str, sorted(asked.require_links, key=str)),
                *(f"SRLG {srlg}" for srlg in sorted(asked.require_srlgs)),
            ]
            if len(required) > 1:
                yield f"{len(required)} elements in any order ({', '.join(required)}) {here}"
            limits = ("maximum_delay_us", "maximum_hops", "maximum_segments", "minimum_mtu")
            given = [key for key in limits if getattr(asked, key) is not None]
            if given:
                yield f"{' and '.join(given)} {here}"


def _nodes(rule: FlowRule, groups: dict[str, Group]) -> frozenset[str]:
    if rule.group is not None:
        group = groups.get(rule.group)
        return group.members if group is not None else frozenset()
    return frozenset() if rule.mobile_node is None else frozenset({rule.mobile_node})


def _directions(one: FlowRule, other: FlowRule) -> bool:
    return Direction.BOTH in (one.direction, other.direction) or one.direction is other.direction


def _both(one: FlowMatch, other: FlowMatch) -> bool:
    """Tell whether one packet can match both."""
    return (
        _prefixes(one.own_prefix, other.own_prefix)
        and _prefixes(one.peer, other.peer)
        and (None in (one.protocol, other.protocol) or one.protocol == other.protocol)
        and _ranges(one.own_ports, other.own_ports)
        and _ranges(one.peer_ports, other.peer_ports)
        and (None in (one.dscp, other.dscp) or one.dscp == other.dscp)
    )


def _prefixes(one: IPv6Network | None, other: IPv6Network | None) -> bool:
    return one is None or other is None or one.overlaps(other)


def _ranges(one: PortRange | None, other: PortRange | None) -> bool:
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])
