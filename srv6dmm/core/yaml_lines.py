"""YAML with line numbers: plain trees of mappings, lists and scalars that know their place."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from srv6dmm.model.errors import TopologyError

MAX_TEXT = 4_000_000
"""Characters; a file of 1,000 nodes and 4,000 links has some 500,000."""
MAX_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Item:
    """A value and the line it stands in (from 1)."""

    value: str | int | float | bool | None | list[Item] | dict[str, Item]
    line: int


class _Loader(yaml.SafeLoader):
    """SafeLoader, for its resolver and constructors of scalars."""


def _fail(source: str, line: int, key: str, message: str) -> TopologyError:
    return TopologyError(source, line, key, message)


def read_yaml(text: str, source: str, faults: list[TopologyError]) -> Item | None:
    """Return the document as items, or None when it is no YAML at all.

    Faults go to `faults`: broken syntax, duplicate keys, aliases (they allow inputs that grow
    without bound), too deep nesting, too long text.
    """
    if len(text) > MAX_TEXT:
        faults.append(_fail(source, 1, "file", f"longer than {MAX_TEXT} characters"))
        return None
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            faults.append(_fail(source, 1, "file", "is empty; see docs/topology.md"))
            return None
        return _item(loader, root, source, faults, "file", 0, set())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        faults.append(_fail(source, line, "file", f"is not YAML: {error.problem}"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        faults.append(_fail(source, 1, "file", f"is not YAML: {error}"))
    finally:
        if loader is not None:
            loader.dispose()
    return None


def _item(
    loader: _Loader,
    node: yaml.Node,
    source: str,
    faults: list[TopologyError],
    key: str,
    depth: int,
    seen: set[int],
) -> Item:
    line = node.start_mark.line + 1
    if id(node) in seen:
        faults.append(_fail(source, line, key, "uses a YAML alias; write the value out"))
        return Item(None, line)
    seen.add(id(node))
    if depth > MAX_DEPTH:
        faults.append(_fail(source, line, key, "is nested too deeply"))
        return Item(None, line)
    if isinstance(node, yaml.MappingNode):
        members: dict[str, Item] = {}
        for name_node, value_node in node.value:
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else ""
            place = name_node.start_mark.line + 1
            if not name:
                faults.append(_fail(source, place, key, "has a key that is not plain text"))
                continue
            if name in members:
                first = members[name].line
                faults.append(_fail(source, place, name, f"given twice, first in line {first}"))
                continue
            member = _item(loader, value_node, source, faults, name, depth + 1, seen)
            members[name] = Item(member.value, place)
        return Item(members, line)
    if isinstance(node, yaml.SequenceNode):
        entries = [_item(loader, n, source, faults, key, depth + 1, seen) for n in node.value]
        return Item(entries, line)
    value = loader.construct_object(node)
    if not isinstance(value, str | int | float | bool | None):
        value = str(node.value)
    return Item(value, line)
