"""The store in a SQLite file: WAL, synchronous=FULL, one writer thread, group commit."""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from srv6dmm import codec
from srv6dmm.model.errors import StoreConflict, StoreError, StoreUnavailable
from srv6dmm.model.state import Change, EventRecord, Lease, Session, SessionKey, State

APPLICATION_ID = 0x5236444D
""""R6DM", in the file's header: a file of another program is refused."""
SCHEMA_VERSION = 2
GROUP_LIMIT = 256
"""Commits that share one transaction at most: bounds how long the first one waits."""

_SCHEMA = (
    "CREATE TABLE sessions (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE leases (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE events (key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, value BLOB NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('revision', 0)",
)
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    # Version 1 kept the events without their time, so they could not be loaded in order.
    1: (
        "ALTER TABLE events RENAME TO events_1",
        _SCHEMA[2],
        "INSERT INTO events SELECT key, json_extract(value, '$.at_ms'), value FROM events_1",
        "DROP TABLE events_1",
    ),
}


@dataclass(slots=True)
class _Commit:
    change: Change
    base: int
    done: asyncio.Future[int]
    loop: asyncio.AbstractEventLoop


class SqliteStore:
    """Records in one file, owned by one process at a time (a lock file beside it)."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises StoreUnavailable with the path and what to do."""
        self._path = path
        self._fault: str | None = None
        self._queue: queue.SimpleQueue[_Commit | None] = queue.SimpleQueue()
        self.transactions = 0
        """Transactions written: fewer than commits when commits shared one."""
        self._lock = _own(path)
        try:
            self._database = self._open()
        except BaseException:
            os.close(self._lock)
            raise
        self._thread = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._thread.start()

    def load(self) -> State:
        """Return every record at the newest durable revision. Raises StoreUnavailable."""
        try:
            reader = sqlite3.connect(self._path)
            try:
                reader.execute("BEGIN")
                (revision,) = reader.execute(
                    "SELECT value FROM meta WHERE key = 'revision'"
                ).fetchone()
                sessions = [
                    codec.decode(value, Session)
                    for (value,) in reader.execute("SELECT value FROM sessions")
                ]
                leases = [
                    codec.decode(value, Lease)
                    for (value,) in reader.execute("SELECT value FROM leases")
                ]
                events = [
                    codec.decode(value, EventRecord)
                    for (value,) in reader.execute("SELECT value FROM events ORDER BY at_ms")
                ]
            finally:
                reader.close()
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise StoreUnavailable(
                f"{self._path} cannot be read: {error}; restore it from a copy or move it away"
            ) from error
        return State(
            revision=revision,
            sessions={session.key: session for session in sessions},
            leases={lease.prefix: lease for lease in leases},
            events={record.event_id: record for record in events},
        )

    async def commit(self, change: Change, base: int) -> int:
        """Make a change durable; see store.interface. The thread does the work."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        self._queue.put(_Commit(change, base, done, loop))
        return await done

    def health(self) -> str | None:
        """Return None when the last write succeeded, else why it did not and what to do."""
        return self._fault

    def close(self) -> None:
        """Write what was submitted, stop the thread, let go of the file."""
        self._queue.put(None)
        self._thread.join()
        self._database.close()
        os.close(self._lock)

    def _open(self) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=5
            )
        except sqlite3.Error as error:
            raise StoreUnavailable(
                f"{self._path} cannot be opened: {error}; check that the directory exists and "
                "may be written"
            ) from error
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            self._adopt(database)
        except sqlite3.DatabaseError as error:
            database.close()
            raise StoreUnavailable(
                f"{self._path} cannot be used: {error}; restore it from a copy, move it away, or "
                "make it writable"
            ) from error
        except BaseException:
            database.close()
            raise
        return database

    def _adopt(self, database: sqlite3.Connection) -> None:
        """Create, migrate or refuse what is in the file."""
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and tables:
            raise StoreUnavailable(f"{self._path} belongs to another program; name another file")
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"{self._path} has schema version {version}, this program knows up to "
                f"{SCHEMA_VERSION}: run the newer srv6dmm that wrote it"
            )
        steps: list[str] = []
        if not tables:
            steps += _SCHEMA
        else:
            if version < min(_MIGRATIONS):
                raise StoreUnavailable(
                    f"{self._path} has schema version {version}, older than any known; move it away"
                )
            for old in range(version, SCHEMA_VERSION):
                steps += _MIGRATIONS[old]
        if steps:
            database.execute("BEGIN IMMEDIATE")
            for step in steps:
                database.execute(step)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            database.execute("COMMIT")
        else:
            (check,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if check != "ok":
                raise StoreUnavailable(
                    f"{self._path} is corrupt: {check}; restore it from a copy or move it away"
                )

    def _write(self) -> None:
        """The writer thread: everything that waits goes into one transaction, one fsync."""
        while True:
            first = self._queue.get()
            if first is None:
                return
            group, last = [first], False
            while len(group) < GROUP_LIMIT:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                group.append(more)
            self._write_group(group)
            if last:
                return

    def _write_group(self, group: list[_Commit]) -> None:
        results: list[tuple[_Commit, int | StoreError]] = []
        try:
            self._database.execute("BEGIN IMMEDIATE")
            (revision,) = self._database.execute(
                "SELECT value FROM meta WHERE key = 'revision'"
            ).fetchone()
            for commit in group:
                if commit.base != revision:
                    fault = f"revision {commit.base} is not the newest, {revision} is"
                    results.append((commit, StoreConflict(fault)))
                    continue
                _put(self._database, commit.change)
                revision += 1
                results.append((commit, revision))
            self._database.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (revision,))
            self._database.execute("COMMIT")
            self.transactions += 1
            self._fault = None
        except (sqlite3.Error, OSError) as error:
            if self._database.in_transaction:
                self._database.rollback()
            self._fault = f"{self._path}: {error}; {_remedy(error)}"
            results = [(commit, StoreUnavailable(self._fault)) for commit in group]
        for commit, result in results:
            _resolve(commit, result)


def _resolve(commit: _Commit, result: int | StoreError) -> None:
    def set_result() -> None:
        if commit.done.done():
            return
        if isinstance(result, StoreError):
            commit.done.set_exception(result)
        else:
            commit.done.set_result(result)

    try:
        commit.loop.call_soon_threadsafe(set_result)
    except RuntimeError:
        return  # the loop is closed: nobody waits any more, and the change is durable


def _remedy(error: Exception) -> str:
    text = str(error)
    if "full" in text:
        return "make room on the file system; the service goes on by itself"
    if "readonly" in text:
        return "make the file and its directory writable"
    return "check the file system"


def _own(path: Path) -> int:
    """Take the lock that goes away with the process, however it ends."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be opened: {error.strerror}: {lock_path}; check that its directory "
            "exists and may be written"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreUnavailable(
            f"{path} is in use by another process; one controller at a time may write it"
        ) from error
    return lock


def _key(key: SessionKey | IPv6Network | str) -> str:
    return "\n".join(key) if isinstance(key, tuple) else str(key)


def _put(database: sqlite3.Connection, change: Change) -> None:
    def put(table: str, rows: Iterable[tuple[Any, ...]], columns: str) -> None:
        database.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({columns})", rows)

    def drop(table: str, keys: Iterable[Any], name: Callable[[Any], str] = _key) -> None:
        database.executemany(f"DELETE FROM {table} WHERE key = ?", ((name(k),) for k in keys))

    put("sessions", ((_key(s.key), codec.encode(s)) for s in change.sessions), "?, ?")
    put("leases", ((_key(le.prefix), codec.encode(le)) for le in change.leases), "?, ?")
    put("events", ((e.event_id, e.at_ms, codec.encode(e)) for e in change.events), "?, ?, ?")
    drop("sessions", change.sessions_gone)
    drop("leases", change.leases_gone)
    drop("events", change.events_gone)
