"""Flow rules as map elements, and back. Pure.

All rules of one prefix and direction are a set: one element of `ruled`, replaced as a whole, holds
them by order as far as there is room. Of a set of more than a few, those that take exactly one
5-tuple are elements of `flows`, found at once however many there are. Rules there is no room for
are kept in further parts that programs do not look at, so that they can be read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv6Network

from srv6dmm.dataplane.fastpath.layout import SteerAction
from srv6dmm.dataplane.fastpath.objects import FastFlow, FastList
from srv6dmm.dataplane.fastpath.rule_layout import (
    MAX_LISTS,
    MAX_RULES,
    NO_ORDER,
    Flow,
    FlowKey,
    Rule,
    RuledKey,
    Ruleset,
)
from srv6dmm.dataplane.fastpath.values import Way
from srv6dmm.model.flows import PORTS_PROTOCOLS
from srv6dmm.model.plan import FlowSelector

FEW_RULES = 8
"""To try so many in turn costs what it costs to find a 5-tuple: a look into one more hash."""
MAX_WEIGHTS = 0xFFFF_FFFF
"""The greatest sum of the weights of a rule's lists."""


def key_of(item: FastFlow) -> RuledKey:
    """Return the key of the set a rule is in. Raises ValueError for one of no mobile prefix."""
    own = item.selector.source if item.uplink else item.selector.destination
    if own.prefixlen < 64:
        raise ValueError(f"{own}: flow rules speak of a /64, or of a part of one")
    return RuledKey(item.prefix.network_address.packed[:8], item.uplink)


def set_of(key: FlowKey) -> RuledKey:
    """Return the key of the set that an element of `flows` is of."""
    own = key.source if key.uplink else key.destination
    return RuledKey(own.packed[:8], key.uplink)


def rule_of(item: FastFlow, counter: int, paths: tuple[int, ...]) -> Rule:
    """Return a rule with the paths of its lists. Raises ValueError for lists that do not fit."""
    weights = tuple(way.weight for way in item.lists)
    if len(weights) > MAX_LISTS or sum(weights) > MAX_WEIGHTS or 0 in weights:
        raise ValueError(f"weights {weights}: the fast path takes up to {MAX_LISTS} lists")
    action = SteerAction.ENCAP if paths else SteerAction.DROP
    selector = item.selector
    return Rule(
        selector.source,
        selector.destination,
        item.order,
        item.number,
        SteerAction.KERNEL if item.to_kernel else action,
        counter,
        selector.source_ports,
        selector.destination_ports,
        selector.protocol,
        selector.dscp,
        paths,
        weights,
    )


def item_of(rule: Rule, uplink: bool, ways: Mapping[int, Way]) -> FastFlow | None:
    """Return the entry that a rule is; None when a path of it is not there."""
    if any(path not in ways for path in rule.paths):
        return None
    return FastFlow(
        rule.id,
        FlowSelector(
            rule.source,
            rule.destination,
            rule.protocol,
            rule.source_ports,
            rule.destination_ports,
            rule.dscp,
        ),
        uplink,
        rule.order,
        tuple(
            FastList(*ways[path], weight)
            for path, weight in zip(rule.paths, rule.weights, strict=True)
        ),
        rule.action == SteerAction.KERNEL,
    )


def exact_key(rule: Rule, uplink: bool) -> FlowKey | None:
    """Return the key in `flows` of a rule that takes one 5-tuple and leads along one list."""
    if rule.source.prefixlen != 128 or rule.destination.prefixlen != 128:
        return None
    if rule.protocol is None or rule.dscp is not None or rule.weights not in ((), (1,)):
        return None
    ports = rule.source_ports, rule.destination_ports
    if rule.protocol not in PORTS_PROTOCOLS:
        known = (0, 0) if ports == (None, None) else None
    elif ports[0] is None or ports[1] is None:
        known = None
    else:
        alone = ports[0][0] == ports[0][1] and ports[1][0] == ports[1][1]
        known = (ports[0][0], ports[1][0]) if alone else None
    if known is None:
        return None
    ends = rule.source.network_address, rule.destination.network_address
    return FlowKey(*ends, *known, rule.protocol, uplink)


def exact_rule(key: FlowKey, flow: Flow) -> Rule:
    """Return the rule that an element of `flows` is."""
    with_ports = key.protocol in PORTS_PROTOCOLS
    return Rule(
        IPv6Network((key.source, 128)),
        IPv6Network((key.destination, 128)),
        flow.order,
        flow.id,
        flow.action,
        flow.counter,
        (key.source_port, key.source_port) if with_ports else None,
        (key.destination_port, key.destination_port) if with_ports else None,
        key.protocol,
        None,
        (flow.path,) if flow.path else (),
        (1,) if flow.path else (),
    )


def elements(key: RuledKey, rules: Iterable[Rule]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Return a set's elements of `flows` and of `ruled`, of these the one programs see first."""
    exact: dict[bytes, bytes] = {}
    listed: list[Rule] = []
    ordered = sorted(rules, key=lambda one: (one.order, one.id))
    for rule in ordered:
        flow_key = exact_key(rule, key.uplink) if len(ordered) > FEW_RULES else None
        packed = flow_key.pack() if flow_key is not None else None
        if packed is None or packed in exact:
            listed.append(rule)
        else:
            path = rule.paths[0] if rule.paths else 0
            exact[packed] = Flow(rule.action, path, rule.counter, rule.order, rule.id).pack()
    known = listed[MAX_RULES].order if len(listed) > MAX_RULES else NO_ORDER
    parts = {key.pack(): Ruleset(tuple(listed[:MAX_RULES]), bool(exact), known).pack()}
    for number, at in enumerate(range(MAX_RULES, len(listed), MAX_RULES), start=1):
        rest = tuple(listed[at : at + MAX_RULES])
        parts[replace(key, part=number).pack()] = Ruleset(rest).pack()
    return exact, parts
