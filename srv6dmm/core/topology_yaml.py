"""YAML with places: plain trees of mappings, lists and scalars that know key and line.

Only what a topology needs: text, whole numbers, null. Everything that can make a small file
large, a number slow or a type surprising (aliases, tags, sexagesimal and octal numbers, `no`
as a boolean) is a fault or plain text. The tree is built from events without recursion, so no
input exhausts the stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from srv6dmm.model.errors import TopologyError

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml: the same events, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_TEXT = 4_000_000
"""Characters; a file of 1,000 nodes and 4,000 links has some 500,000."""
MAX_DEPTH = 12
MAX_SCALAR = 256
"""Characters of one key or value."""
MAX_FAULTS = 1000
"""Reading stops there: nobody reads on, and a hostile file could have millions."""
ROOT = "file"
"""Key of the document itself in messages."""

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Item:
    """A value, the line it stands in (from 1) and its key, e.g. `topology.nodes.ar1.pool`."""

    value: str | int | list[Item] | dict[str, Item] | None
    line: int
    key: str


class _Stop(Exception):
    """The rest of the file is not worth reading."""


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read; neither when it is to be skipped."""

    key: str
    members: dict[str, Item] | None = None
    entries: list[Item] | None = None
    waiting: tuple[str, int] | None = None
    """In a mapping: the name just read and its line."""
    skip_value: bool = False
    """In a mapping: the name just read was faulty, its value is to be skipped."""

    def within(self, name: str) -> str:
        """Return the key of a member."""
        return name if self.key == ROOT else f"{self.key}.{name}"


class _Builder:
    def __init__(self, source: str, faults: list[TopologyError]) -> None:
        self.source = source
        self.faults = faults
        self.root: Item | None = None
        self.open: list[_Open] = []
        self.documents = 0

    def fault(self, line: int, key: str, message: str) -> None:
        self.faults.append(TopologyError(self.source, line, key, message))
        if len(self.faults) >= MAX_FAULTS:
            raise _Stop

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.fault(line, ROOT, "holds more than one document; keep the first only")
                raise _Stop
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.open.pop()
        elif isinstance(event, yaml.NodeEvent):
            outer = self.open[-1] if self.open else None
            named = outer is None or outer.waiting is not None or outer.skip_value
            if outer is not None and outer.members is not None and not named:
                self.name(event, line, outer, outer.members)
            else:
                self.content(event, line, outer)

    def name(
        self, event: yaml.NodeEvent, line: int, outer: _Open, members: dict[str, Item]
    ) -> None:
        """Take the name of a mapping's next member."""
        if not isinstance(event, yaml.ScalarEvent) or not 0 < len(event.value) <= MAX_SCALAR:
            self.fault(line, outer.key, "has a key that is not plain text; write a name")
            if isinstance(event, yaml.CollectionStartEvent):
                raise _Stop
            outer.skip_value = True
        elif event.value in members:
            first = members[event.value].line
            key = outer.within(event.value)
            self.fault(line, key, f"is given twice, first in line {first}; keep one")
            outer.skip_value = True
        else:
            outer.waiting = (event.value, line)

    def content(self, event: yaml.NodeEvent, line: int, outer: _Open | None) -> None:
        """Take a value: the document's, a list's next or that of the name just read."""
        if len(self.open) > MAX_DEPTH:
            self.fault(line, outer.key if outer else ROOT, "is nested too deeply")
            raise _Stop
        item = None
        key = outer.key if outer is not None else ROOT
        if outer is None:
            item = self.root = self.value(event, line, ROOT)
        elif outer.entries is not None:
            key = f"{outer.key}[{len(outer.entries)}]"
            item = self.value(event, line, key)
            outer.entries.append(item)
        elif outer.members is not None and outer.waiting is not None:
            name, line = outer.waiting  # a member is where its name is
            key = outer.within(name)
            item = outer.members[name] = self.value(event, line, key)
            outer.waiting = None
        else:
            outer.skip_value = False
        if isinstance(event, yaml.CollectionStartEvent):
            value = item.value if item is not None else None
            self.open.append(
                _Open(
                    key,
                    members=value if isinstance(value, dict) else None,
                    entries=value if isinstance(value, list) else None,
                )
            )

    def value(self, event: yaml.NodeEvent, line: int, key: str) -> Item:
        if isinstance(event, yaml.AliasEvent):
            self.fault(line, key, f"is the YAML alias *{event.anchor}; write the value out")
            return Item(None, line, key)
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.fault(line, key, f"has the YAML tag {tag[:40]}; write the plain value")
        if isinstance(event, yaml.MappingStartEvent):
            return Item({}, line, key)
        if isinstance(event, yaml.SequenceStartEvent):
            return Item([], line, key)
        text = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if len(text) > MAX_SCALAR:
            self.fault(line, key, f"is longer than {MAX_SCALAR} characters")
            return Item(None, line, key)
        if getattr(event, "style", None) in (None, ""):  # plain, not quoted
            if text in _NULL:
                return Item(None, line, key)
            if _NUMBER.fullmatch(text):
                return Item(int(text), line, key)
        return Item(text, line, key)


def read_yaml(text: str, source: str, faults: list[TopologyError]) -> Item | None:
    """Return the document, or None when it cannot be read at all.

    Faults go to `faults`: broken syntax, duplicate keys, aliases, tags, too deep nesting, too
    long text. Of a duplicate key the first value is kept.
    """
    if len(text) > MAX_TEXT:
        faults.append(
            TopologyError(
                source, 1, ROOT, f"is longer than {MAX_TEXT} characters; split the domain"
            )
        )
        return None
    builder = _Builder(source, faults)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except _Stop:
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        faults.append(TopologyError(source, line, ROOT, f"is not YAML: {error.reason}"))
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        faults.append(TopologyError(source, line, ROOT, f"is not YAML: {error.problem}"))
        return None
    if builder.root is None:
        faults.append(TopologyError(source, 1, ROOT, "is empty; see docs/topology.md"))
    return builder.root
