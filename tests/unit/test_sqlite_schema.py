"""Store files of other versions and other programs: migrated whole, or refused untouched."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from srv6dmm import codec
from srv6dmm.model.errors import StoreUnavailable
from srv6dmm.model.state import State
from srv6dmm.store.schema import SCHEMA_VERSION
from srv6dmm.store.sqlite import SqliteStore
from tests.contract.changes import numbered, replayed, session

# What versions 1 to 4 wrote, word for word: this text never changes.
OLD_TABLES = """
    CREATE TABLE sessions (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE leases (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA application_id = 1379288141;
"""
OLD_EVENTS = {
    1: "CREATE TABLE events (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    2: "CREATE TABLE events (key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, value BLOB NOT NULL)"
    " WITHOUT ROWID",
}
OLD_EVENTS[3] = OLD_EVENTS[4] = OLD_EVENTS[2]
OLD_DOMAIN = (
    "CREATE TABLE domain (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY (kind, key)) WITHOUT ROWID;"
)
"""Since version 4."""


def old_key(version: int, key: tuple[str, str]) -> str:
    """Return a session's key as an older program wrote it."""
    return "\n".join(key) if version < 3 else codec.encode(key).decode()


def old_file(path: Path, version: int, state: State) -> None:
    """Write a state as an older program did."""
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript(OLD_TABLES + OLD_EVENTS[version])
        if version >= 4:
            file.executescript(OLD_DOMAIN)
        file.execute(f"PRAGMA user_version = {version}")
        file.execute("INSERT INTO meta VALUES ('revision', ?)", (state.revision,))
        for key, kept in state.sessions.items():
            file.execute(
                "INSERT INTO sessions VALUES (?, ?)", (old_key(version, key), codec.encode(kept))
            )
        for prefix, lease in state.leases.items():
            file.execute("INSERT INTO leases VALUES (?, ?)", (str(prefix), codec.encode(lease)))
        for event_id, record in state.events.items():
            row = [event_id, record.at_ms, codec.encode(record)]
            if version == 1:
                del row[1]
            file.execute(f"INSERT INTO events VALUES ({', '.join('?' * len(row))})", row)


def stamped(path: Path) -> tuple[int, str]:
    with closing(sqlite3.connect(path)) as file:
        (version,) = file.execute("PRAGMA user_version").fetchone()
        (tables,) = file.execute(
            "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_master ORDER BY name)"
        ).fetchone()
    return version, tables


@pytest.mark.parametrize("version", sorted(OLD_EVENTS))
async def test_an_older_file_is_migrated_and_goes_on(tmp_path: Path, version: int) -> None:
    path = tmp_path / "s.db"
    old_file(path, version, replayed(20))
    store = SqliteStore(path)
    assert store.load() == replayed(20)
    assert list(store.load().events) == [f"e{n}" for n in range(13, 20)], "oldest first"
    # Replaces and deletes records by the migrated keys.
    for number in range(20, 30):
        await store.commit(numbered(number), number)
    assert store.load() == replayed(30)
    store.close()
    SqliteStore(tmp_path / "new.db").close()
    assert stamped(path) == stamped(tmp_path / "new.db"), "as if made by the present version"
    assert stamped(path)[0] == SCHEMA_VERSION


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    old_file(path, 1, replayed(5))
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO sessions VALUES ('bad', '{}')")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"s\.db has schema version 1 .* left as it is"):
        SqliteStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (SCHEMA_VERSION + 1, f"version {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}.*newer"),
        (0, "schema version 0, older than any known"),
        (-1, "schema version -1, older than any known"),
    ],
)
def test_versions_out_of_reach_are_refused_untouched(
    tmp_path: Path, version: int, words: str
) -> None:
    path = tmp_path / "s.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=words):
        SqliteStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "made_by",
    [
        "CREATE TABLE precious (x)",
        "PRAGMA application_id = 77",
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 77; PRAGMA user_version = 3; CREATE TABLE sessions (x)",
    ],
)
def test_another_programs_file_is_refused_untouched(tmp_path: Path, made_by: str) -> None:
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.executescript(made_by)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"s\.db belongs to another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


async def test_a_copy_made_while_in_service_is_a_store(tmp_path: Path) -> None:
    """`sqlite3 FILE "VACUUM INTO 'COPY'"` is the way to back up; its journal mode differs."""
    store = SqliteStore(tmp_path / "s.db")
    await store.commit(numbered(0), 0)
    with closing(sqlite3.connect(tmp_path / "s.db")) as shell:
        shell.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    store.close()
    copy = SqliteStore(tmp_path / "copy.db")
    assert copy.load() == replayed(1)
    assert await copy.commit(numbered(1), 1) == 2
    copy.close()


async def test_names_with_line_feeds_do_not_share_a_key(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    change = type(numbered(0))(sessions=(session("a\nb", "c"), session("a", "b\nc")))
    await store.commit(change, 0)
    assert len(store.load().sessions) == 2
    store.close()


async def test_only_the_owner_may_read_where_people_are(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.commit(numbered(0), 0)
    modes = {name: os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)}
    store.close()
    assert modes == dict.fromkeys(["s.db", "s.db-wal", "s.db-shm", "s.db.lock"], 0o600)
