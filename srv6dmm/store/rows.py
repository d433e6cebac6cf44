"""Records as rows of the tables and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from srv6dmm import codec
from srv6dmm.model.errors import StoreError
from srv6dmm.model.flows import FlowRule, Group
from srv6dmm.model.state import (
    Change,
    CsidSupport,
    Declared,
    EventRecord,
    Lease,
    LinkDelay,
    Session,
    SessionKey,
    SilentList,
    State,
)
from srv6dmm.model.topology import LinkEnd
from srv6dmm.policy_codec import policy_document, read_policy

T = TypeVar("T")

Statement = tuple[str, list[tuple[str | int | bytes, ...]]]
"""SQL text, and the parameters of each of its executions."""

_INT64 = 1 << 63


def session_key(key: SessionKey) -> str:
    """Return a session's key as text: different for different sessions, whatever their names."""
    return codec.encode(key).decode()


def statements(change: Change) -> list[Statement]:
    """Return what writes a change. Raises StoreError for a record that cannot be kept.

    Everything that may fail because of the record fails here, for this change alone: the
    changes that share its transaction must not suffer.
    """
    try:
        made: list[Statement] = [
            (
                "INSERT OR REPLACE INTO sessions VALUES (?, ?)",
                [(session_key(s.key), codec.encode(s)) for s in change.sessions],
            ),
            (
                "INSERT OR REPLACE INTO leases VALUES (?, ?)",
                [(_text(str(le.prefix)), codec.encode(le)) for le in change.leases],
            ),
            (
                "INSERT OR REPLACE INTO events VALUES (?, ?, ?)",
                [(_text(e.event_id), _int64(e.at_ms), codec.encode(e)) for e in change.events],
            ),
            (
                "DELETE FROM sessions WHERE key = ?",
                [(session_key(key),) for key in change.sessions_gone],
            ),
            ("DELETE FROM leases WHERE key = ?", [(str(p),) for p in change.leases_gone]),
            ("DELETE FROM events WHERE key = ?", [(_text(e),) for e in change.events_gone]),
            ("INSERT OR REPLACE INTO domain VALUES (?, ?, ?)", list(_domain_rows(change))),
            ("DELETE FROM domain WHERE kind = ? AND key = ?", list(_domain_keys_gone(change))),
        ]
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise StoreError(f"a record cannot be kept: {error}") from error
    return [statement for statement in made if statement[1]]


def read_state(database: sqlite3.Connection) -> State:
    """Return every record, events oldest first, as of one instant.

    Raises sqlite3.Error, or ValueError naming table and key of a record that cannot be read.
    """
    database.execute("BEGIN")
    found = database.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()
    if found is None:
        raise ValueError("table meta has no revision")
    sessions = _all(database, "SELECT key, value FROM sessions", Session)
    leases = _all(database, "SELECT key, value FROM leases", Lease)
    events = _all(database, "SELECT key, value FROM events ORDER BY at_ms", EventRecord)
    return State(
        revision=found[0],
        sessions={session.key: session for session in sessions},
        leases={lease.prefix: lease for lease in leases},
        events={record.event_id: record for record in events},
        **_domain(database),
    )


def _domain_rows(change: Change) -> Iterator[tuple[str, str, bytes]]:
    """Yield (kind, key, value) of what is kept besides mobile nodes: little, and all kinds."""
    for policy in change.policies:
        yield ("policy", _text(policy.name), codec.encode(policy_document(policy)))
    for rule in change.flows:
        yield ("flow", _text(rule.name), codec.encode(rule))
    for group in change.groups:
        yield ("group", _text(group.name), codec.encode(group))
    for end in change.links_down:
        yield ("link-down", _text(str(end)), codec.encode(end))
    for support in change.csid:
        yield ("csid", _text(support.router), codec.encode(support))
    if change.declared is not None:
        yield ("declared", "", codec.encode(change.declared))
    for measured in change.delays:
        yield ("link-delay", _text(str(measured.end)), codec.encode(measured))
    for silent in change.lists_silent:
        yield ("list-silent", _list_key(silent), codec.encode(silent))


def _domain_keys_gone(change: Change) -> Iterator[tuple[str, str]]:
    for kind, names in (
        ("policy", change.policies_gone),
        ("flow", change.flows_gone),
        ("group", change.groups_gone),
        ("link-down", map(str, change.links_up)),
        ("csid", change.csid_gone),
        ("link-delay", map(str, change.delays_gone)),
        ("list-silent", map(_list_key, change.lists_usable)),
    ):
        yield from ((kind, _text(name)) for name in names)


def _domain(database: sqlite3.Connection) -> dict[str, Any]:
    """Return the parts of a state that table `domain` holds."""
    found: dict[str, list[Any]] = {kind: [] for kind in _READERS}
    for kind, key, value in database.execute("SELECT kind, key, value FROM domain"):
        try:
            found[kind].append(_READERS[kind](value))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"the {kind} {key!r} is no record: {error}") from error
    return {
        "policies": {policy.name: policy for policy in found["policy"]},
        "flows": {rule.name: rule for rule in found["flow"]},
        "groups": {group.name: group for group in found["group"]},
        "links_down": set(found["link-down"]),
        "csid": {support.router: support for support in found["csid"]},
        "declared": found["declared"][0] if found["declared"] else None,
        "lists_silent": set(found["list-silent"]),
        "delays": {measured.end: measured.delay_us for measured in found["link-delay"]},
    }


_READERS: dict[str, Callable[[bytes], Any]] = {
    "policy": lambda value: read_policy(codec.decode(value, dict[str, Any])),
    "flow": lambda value: codec.decode(value, FlowRule),
    "group": lambda value: codec.decode(value, Group),
    "link-down": lambda value: codec.decode(value, LinkEnd),
    "csid": lambda value: codec.decode(value, CsidSupport),
    "declared": lambda value: codec.decode(value, Declared),
    "list-silent": lambda value: codec.decode(value, SilentList),
    "link-delay": lambda value: codec.decode(value, LinkDelay),
}


def _list_key(silent: SilentList) -> str:
    """Return a list's key as text: a router's name has no space, and no address has."""
    return " ".join((silent.head_end, *map(str, silent.segments)))


def _all(database: sqlite3.Connection, query: str, kind: type[T]) -> list[T]:
    records: list[T] = []
    for key, value in database.execute(query):
        try:
            records.append(codec.decode(value, kind))
        except (ValueError, TypeError) as error:
            raise ValueError(f"the {kind.__name__} {key!r} is no record: {error}") from error
    return records


def _text(value: str) -> str:
    value.encode()
    return value


def _int64(value: int) -> int:
    if not -_INT64 <= value < _INT64:
        raise ValueError(f"{value} needs more than 64 bits")
    return value
