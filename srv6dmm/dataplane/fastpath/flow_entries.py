"""Flow rules in the maps: each set is written as a whole, by one element that programs see.

Before it everything is written that it leads to: paths, 5-tuples, the parts programs do not look
at. After it goes what it does not lead to any more. So a packet meets all of the old set or all of
the new one, but for a 5-tuple, which changes by itself.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv6Network

from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.objects import FastFlow
from srv6dmm.dataplane.fastpath.paths import Numbers
from srv6dmm.dataplane.fastpath.rule_layout import (
    NO_ORDER,
    Flow,
    FlowKey,
    FlowSets,
    Rule,
    RuledKey,
    Ruleset,
)
from srv6dmm.dataplane.fastpath.rulesets import (
    elements,
    exact_key,
    exact_rule,
    item_of,
    key_of,
    rule_of,
    set_of,
)
from srv6dmm.dataplane.fastpath.ways import Ways
from srv6dmm.dataplane.netlink.interfaces import NoSuchInterface
from srv6dmm.dataplane.objects import Identity, KernelFailure

_Rules = dict[int, Rule]
"""By the number of the plan entry."""


class FlowEntries:
    """The flow rules of one namespace's maps. Not thread-safe."""

    def __init__(self, maps: Maps, counters: Numbers, ways: Ways) -> None:
        self._maps = maps
        self._counters = counters
        self._ways = ways
        self._sets: dict[RuledKey, _Rules] = {}
        self._owners: dict[int, int] = {}
        self._orphans: dict[str, list[bytes]] = {}
        """What a predecessor that was killed wrote, and nothing leads to."""

    @property
    def sets(self) -> FlowSets:
        """Which kinds of sets there are."""
        found = FlowSets(0)
        for key in self._sets:
            found |= FlowSets.UPLINK if key.uplink else FlowSets.DOWNLINK
        return found

    def owner(self, counter: int) -> int | None:
        """Return the number of the plan entry that a counter counts for."""
        return self._owners.get(counter)

    def counter(self, number: int) -> int:
        """Return the counter of a plan entry; 0 where it has none."""
        return next((counter for counter, owner in self._owners.items() if owner == number), 0)

    def adopt(self, used: Counter[int]) -> set[int]:
        """Take over what the maps hold; return the counters that are taken.

        How often rules name which path is added to `used`.
        """
        self._sets, self._orphans = {}, {"ruled": [], "flows": []}
        found = self._maps.read_all("ruled")
        firsts = {
            key: Ruleset.unpack(value)
            for key, value in ((RuledKey.unpack(key), value) for key, value in found.items())
            if not key.part
        }
        for key, first in firsts.items():
            self._sets[key] = {rule.id: rule for rule in first.rules}
        for packed, value in found.items():
            key = RuledKey.unpack(packed)
            if not key.part:
                continue
            whole = replace(key, part=0)
            if whole in firsts and firsts[whole].known != NO_ORDER:
                self._sets[whole].update((r.id, r) for r in Ruleset.unpack(value).rules)
            else:
                self._orphans["ruled"].append(packed)
        for packed, value in self._maps.read_all("flows").items():
            flow_key = FlowKey.unpack(packed)
            whole = set_of(flow_key)
            if whole in firsts and firsts[whole].exact:
                rule = exact_rule(flow_key, Flow.unpack(value))
                self._sets[whole][rule.id] = rule
            else:
                self._orphans["flows"].append(packed)
        for rules in self._sets.values():
            used.update(_paths(rules.values()))
        self._note_owners()
        return set(self._owners)

    def _note_owners(self) -> None:
        self._owners = {
            rule.counter: rule.id
            for rules in self._sets.values()
            for rule in rules.values()
            if rule.counter
        }

    def tidy(self) -> None:
        """Delete what nothing leads to. For the one that writes only."""
        for table, keys in self._orphans.items():
            self._maps.delete(table, keys)
        self._orphans = {}

    # --- writing -----------------------------------------------------------------------------

    def put(self, items: Sequence[FastFlow]) -> list[KernelFailure]:
        """Create or replace rules: all of one set by one element. Goes on after a failure.

        Packets of a rule that cannot be had here are left to the kernel's.
        """
        failures: list[KernelFailure] = []
        changed: dict[RuledKey, _Rules] = {}
        asked: dict[RuledKey, list[Identity]] = {}
        paths: dict[bytes, bytes] = {}
        for item in items:
            try:
                key = key_of(item)
            except ValueError as error:
                failures.append(KernelFailure(item.identity, errno.EINVAL, str(error)))
                continue
            rules = changed.setdefault(key, dict(self._sets.get(key, {})))
            before = rules.get(item.number)
            counter = before.counter if before is not None else self._counters.take()
            try:
                rule = rule_of(item, counter, self._numbered(item, paths))
            except NoSuchInterface as error:
                failures.append(KernelFailure(item.identity, errno.ENODEV, str(error.args[0])))
                rule = rule_of(replace(item, lists=(), to_kernel=True), counter, ())
            except ValueError as error:
                failures.append(KernelFailure(item.identity, errno.EINVAL, str(error)))
                rule = rule_of(replace(item, lists=(), to_kernel=True), counter, ())
            rules[item.number] = rule
            asked.setdefault(key, []).append(item.identity)
        if paths:
            self._maps.put("paths", paths)
        for key, rules in changed.items():
            failures += self._replace(key, rules, asked[key])
        self._note_owners()
        self._ways.sweep()
        return failures

    def _numbered(self, item: FastFlow, paths: dict[bytes, bytes]) -> tuple[int, ...]:
        """Return the paths of a rule's lists; those to be written first are added to `paths`."""
        numbers = []
        for way in item.lists:
            number, element = self._ways.number(way)
            if element is not None:
                paths[number.to_bytes(4, "little")] = element
            numbers.append(number)
        return tuple(numbers)

    def _replace(
        self, key: RuledKey, rules: _Rules, asked: Iterable[Identity]
    ) -> list[KernelFailure]:
        before = self._sets.get(key, {})
        for path in _paths(rules.values()):
            self._ways.use(path)
        exact, parts = elements(key, rules.values())
        old_exact, old_parts = elements(key, before.values())
        first = key.pack()
        rest = {packed: value for packed, value in parts.items() if packed != first}
        try:
            for table, these in (
                ("flows", exact),
                ("ruled", rest),
                ("ruled", {first: parts[first]}),
            ):
                if these:
                    self._maps.put(table, these)
        except OSError as error:
            # Of a set that was there some 5-tuples may be new already: their paths and counters
            # stay taken until everything is read back.
            if not before:
                self._maps.delete("flows", list(exact))
                self._maps.delete("ruled", list(rest))
                for path in _paths(rules.values()):
                    self._ways.drop(path)
                for rule in rules.values():
                    self._counters.give_back(rule.counter)
            return [KernelFailure(one, error.errno or 0, str(error)) for one in asked]
        self._sets[key] = rules
        self._maps.delete("flows", list(old_exact.keys() - exact.keys()))
        self._maps.delete("ruled", list(old_parts.keys() - parts.keys()))
        for path in _paths(before.values()):
            self._ways.drop(path)
        return []

    # --- deleting ----------------------------------------------------------------------------

    def delete(self, items: Sequence[FastFlow]) -> tuple[list[KernelFailure], list[int]]:
        """Delete rules; return what is refused, and the counters that are free now."""
        failures: list[KernelFailure] = []
        free: list[int] = []
        gone: dict[RuledKey, list[FastFlow]] = {}
        for item in items:
            key = key_of(item)
            if item.number in self._sets.get(key, {}):
                gone.setdefault(key, []).append(item)
        for key, these in gone.items():
            before = self._sets[key]
            numbers = {item.number for item in these}
            rules = {number: rule for number, rule in before.items() if number not in numbers}
            if rules:
                refused = self._replace(key, rules, [item.identity for item in these])
                failures += refused
                if refused:
                    continue
            else:
                self._remove(key)
            free += [before[number].counter for number in numbers]
        self._note_owners()
        self._ways.sweep()
        return failures, free

    def _remove(self, key: RuledKey) -> None:
        before = self._sets.pop(key)
        exact, parts = elements(key, before.values())
        self._maps.delete("ruled", list(parts))
        self._maps.delete("flows", list(exact))
        for path in _paths(before.values()):
            self._ways.drop(path)

    # --- reading back ------------------------------------------------------------------------

    def read_all(self) -> list[FastFlow | None]:
        """Return every rule, as adopted."""
        ways = self._ways.told()
        return [
            item_of(rule, key.uplink, ways)
            for key, rules in self._sets.items()
            for rule in rules.values()
        ]

    def read(self, prefix: IPv6Network, uplink: bool, number: int) -> FastFlow | None:
        """Return what the maps say of a rule now."""
        rule = self._rule(RuledKey(prefix.network_address.packed[:8], uplink), number)
        if rule is None:
            return None
        ways = {path: way for path in rule.paths if (way := self._ways.read(path)) is not None}
        return item_of(rule, uplink, ways)

    def _rule(self, key: RuledKey, number: int) -> Rule | None:
        value = self._maps.get("ruled", key.pack())
        if value is None:
            return None
        first = part = Ruleset.unpack(value)
        while True:
            for rule in part.rules:
                if rule.id == number:
                    return rule
            key = replace(key, part=key.part + 1)
            value = self._maps.get("ruled", key.pack()) if first.known != NO_ORDER else None
            if value is None:
                break
            part = Ruleset.unpack(value)
        known = self._sets.get(replace(key, part=0), {}).get(number)
        flow_key = exact_key(known, key.uplink) if known is not None and first.exact else None
        value = self._maps.get("flows", flow_key.pack()) if flow_key is not None else None
        if flow_key is None or value is None:
            return None
        flow = Flow.unpack(value)
        return exact_rule(flow_key, flow) if flow.id == number else None


def _paths(rules: Iterable[Rule]) -> list[int]:
    return [path for rule in rules for path in rule.paths]
