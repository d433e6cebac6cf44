"""The file's tables: what version they have, and how an older one becomes the present one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from srv6dmm import codec
from srv6dmm.model.errors import StoreUnavailable
from srv6dmm.model.state import Session
from srv6dmm.store.rows import session_key

APPLICATION_ID = 0x5236444D
""""R6DM", in the file's header: a file of another program is refused."""
SCHEMA_VERSION = 5

_TABLES = (
    "CREATE TABLE sessions (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE leases (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE events (key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, value BLOB NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE domain (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY (kind, key)) WITHOUT ROWID",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('revision', 0)",
)


def _times_of_events(database: sqlite3.Connection) -> None:
    """1 -> 2: events were kept without their time, so they could not be loaded in order."""
    database.execute("ALTER TABLE events RENAME TO events_1")
    database.execute(
        "CREATE TABLE events (key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, value BLOB NOT NULL)"
        " WITHOUT ROWID"
    )
    database.execute(
        "INSERT INTO events SELECT key, json_extract(CAST(value AS TEXT), '$.at_ms'), value"
        " FROM events_1"
    )
    database.execute("DROP TABLE events_1")


def _unambiguous_session_keys(database: sqlite3.Connection) -> None:
    """2 -> 3: keys were joined by a line feed, so two sessions could share one."""
    values = [value for (value,) in database.execute("SELECT value FROM sessions")]
    database.execute("DELETE FROM sessions")
    database.executemany(
        "INSERT INTO sessions VALUES (?, ?)",
        [(session_key(codec.decode(value, Session).key), value) for value in values],
    )


def _domain_records(database: sqlite3.Connection) -> None:
    """3 -> 4: policies, flow rules, groups and the domain's links had no place."""
    database.execute(
        "CREATE TABLE domain (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,"
        " PRIMARY KEY (kind, key)) WITHOUT ROWID"
    )


def _reported_records(_: sqlite3.Connection) -> None:
    """4 -> 5: table `domain` has kinds of what routers report, which older programs cannot read.

    Nothing moves; they are to say so.
    """


_MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {
    1: _times_of_events,
    2: _unambiguous_session_keys,
    3: _domain_records,
    4: _reported_records,
}
"""Version -> the step to the next one. A step never uses the present tables' text: that changes."""


def adopt(database: sqlite3.Connection, path: Path) -> None:
    """Create, check or migrate what is in the file, all or nothing.

    Raises StoreUnavailable for another program's file, a newer or unknown version, and damage;
    such a file is not touched.
    """
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreUnavailable(f"{path} belongs to another program; name another file")
    if version > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"{path} has schema version {version}, this program knows up to {SCHEMA_VERSION}: "
            "run the newer srv6dmm that wrote it"
        )
    if not tables:
        _transaction(database, _create)
        return
    if version < min(_MIGRATIONS):
        raise StoreUnavailable(
            f"{path} has schema version {version}, older than any known; move it away"
        )
    (check,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if check != "ok":
        raise StoreUnavailable(
            f"{path} is corrupt: {' '.join(check.split())}; restore it from a copy or move it away"
        )
    if version < SCHEMA_VERSION:
        try:
            _transaction(database, lambda file: _migrate(file, version))
        except ValueError as error:
            raise StoreUnavailable(
                f"{path} has schema version {version} and a record that cannot be read: {error}; "
                "it was left as it is; restore it from a copy or move it away"
            ) from error


def _create(database: sqlite3.Connection) -> None:
    for table in _TABLES:
        database.execute(table)


def _migrate(database: sqlite3.Connection, version: int) -> None:
    for old in range(version, SCHEMA_VERSION):
        _MIGRATIONS[old](database)


def _transaction(
    database: sqlite3.Connection, change: Callable[[sqlite3.Connection], None]
) -> None:
    """Run a change of the tables, stamped with program and version, as one transaction."""
    database.execute("BEGIN IMMEDIATE")
    try:
        change(database)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.rollback()
