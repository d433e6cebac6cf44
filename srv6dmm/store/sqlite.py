"""The store in a SQLite file: WAL, synchronous=FULL, one writer thread, group commit."""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from srv6dmm.model.errors import StoreConflict, StoreError, StoreUnavailable
from srv6dmm.model.state import Change, State
from srv6dmm.store.damage import FileCheck
from srv6dmm.store.lock import FileLock
from srv6dmm.store.rows import Statement, read_state, statements
from srv6dmm.store.schema import adopt

__all__ = ["GROUP_LIMIT", "SqliteStore"]

GROUP_LIMIT = 256
"""Commits that share one transaction at most: bounds how long the first one waits."""

PAGES_S = 10.0
"""How often all pages are looked at, where that is quick, while nothing is to be written."""

_BUSY_S = 5.0
"""How long to wait for another program, say a shell with an open transaction."""

_FAULTS = (sqlite3.Error, OSError, MemoryError, StoreUnavailable)
_STALE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(slots=True, eq=False)
class _Commit:
    statements: list[Statement]
    base: int
    done: asyncio.Future[int]
    loop: asyncio.AbstractEventLoop


class SqliteStore:
    """Records in one file, owned by one process at a time (a lock file beside it).

    A commit is written at once when the writer is idle; commits that arrive while it writes
    share the next transaction, and its fsync. What is on disk is looked at before every transaction
    and every `probe_s` seconds, past SQLite's cache. After a failure the writer tries again by
    itself as often, so that `health` tells when the cause is gone.
    """

    def __init__(self, path: Path, probe_s: float = 1.0) -> None:
        """Open or create the file. Raises StoreUnavailable with the path and what to do.

        A file that can be read but not written is opened: `health` says why commits will fail.
        """
        self._path = Path(os.path.realpath(path))
        self._probe_s = probe_s
        self._fault: str | None = None
        self._stale = False
        """The connection would go on failing when the cause is gone: open another one."""
        self._queue: queue.SimpleQueue[_Commit | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self.transactions = 0
        """Transactions of commits: fewer than commits when some shared one."""
        self._looked_s = time.monotonic()
        self._lock = FileLock(self._path)
        try:
            self._database = _open(self._path)
            self._check = FileCheck(self._path)
        except BaseException:
            self._lock.release()
            raise
        status = self._path.stat()
        self._file = (status.st_dev, status.st_ino)
        self._probe()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def load(self) -> State:
        """Return every record at the newest durable revision. Raises StoreUnavailable."""
        try:
            # Only reads: would create an empty file in the place of one that was moved away.
            uri = self._path.as_uri() + "?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as reader:
                return read_state(reader)
        except (sqlite3.Error, ValueError) as error:
            raise StoreUnavailable(
                f"{self._path} cannot be read: {error}; restore it from a copy or move it away"
            ) from error

    async def commit(self, change: Change, base: int) -> int:
        """Make a change durable; see store.interface. Cancelling the wait takes nothing back."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        commit = _Commit(statements(change), base, done, loop)
        with self._gate:
            if self._closed:
                raise StoreUnavailable(f"{self._path}: the store is closed; open it again")
            self._queue.put(commit)
        return await done

    def health(self) -> str | None:
        """Return None when the last write succeeded, else why it did not and what to do."""
        return self._fault

    def close(self) -> None:
        """Write what was submitted, stop the thread, let go of the file. May be repeated."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()
        self._database.close()
        self._check.close()
        self._lock.release()

    # The writer thread. It alone uses the connection between __init__ and close.

    def _run(self) -> None:
        more = True
        while more:
            group, more = self._gather()
            if group:
                self._write(group)
            elif more and self._fault:
                self._probe()
            elif more:
                self._look()

    def _gather(self) -> tuple[list[_Commit], bool]:
        """Return what waits, and whether there may be more later.

        Blocks while nothing waits, until it is time for a look at the file.
        """
        group: list[_Commit] = []
        try:
            item = self._queue.get(timeout=self._probe_s)
            while item is not None:
                group.append(item)
                if len(group) == GROUP_LIMIT:
                    return group, True
                item = self._queue.get_nowait()
        except queue.Empty:
            return group, True
        return group, False

    def _write(self, group: list[_Commit]) -> None:
        results: list[tuple[_Commit, int | StoreError]] = []
        try:
            self._begin()
            revision = before = self._newest()
            for commit in group:
                if commit.base != revision:
                    fault = f"revision {commit.base} is not the newest, {revision} is"
                    results.append((commit, StoreConflict(fault)))
                    continue
                for text, parameters in commit.statements:
                    self._database.executemany(text, parameters)
                revision += 1
                results.append((commit, revision))
            if revision == before:
                self._database.rollback()
            else:
                self._database.execute(
                    "UPDATE meta SET value = ? WHERE key = 'revision'", (revision,)
                )
                self._database.execute("COMMIT")
                self.transactions += 1
                self._fault = None
        except _FAULTS as error:
            reason = self._failed(error)
            results = [(commit, StoreUnavailable(reason)) for commit in group]
        _settle(results)

    def _probe(self) -> None:
        """Write something of no meaning, to learn whether commits would succeed."""
        try:
            self._begin()
            # The value must differ: SQLite writes no page whose content stays the same.
            self._database.execute(
                "INSERT INTO meta VALUES ('probes', 1)"
                " ON CONFLICT (key) DO UPDATE SET value = value + 1"
            )
            self._database.execute("COMMIT")
            self._fault = None
        except _FAULTS as error:
            self._failed(error)

    def _look(self) -> None:
        """Learn of damage that nothing has met yet."""
        try:
            self._check_place()
            if time.monotonic() - self._looked_s >= PAGES_S:
                self._looked_s = time.monotonic()
                self._check.pages()
        except _FAULTS as error:
            self._failed(error)

    def _check_place(self) -> None:
        """Raise unless the file that has our name is ours, and is whole as far as headers tell."""
        status = self._path.stat()
        if (status.st_dev, status.st_ino) != self._file:
            raise FileNotFoundError("another file has taken its place")
        self._check.headers()

    def _begin(self) -> None:
        """Begin a transaction in the file that has our name, not in one moved away or damaged."""
        self._check_place()
        if self._stale:
            self._database.close()
            self._database = _open(self._path)
            self._stale = False
        self._database.execute("BEGIN IMMEDIATE")

    def _newest(self) -> int:
        """Return the newest revision. Raises StoreUnavailable when somebody took it away."""
        found = self._database.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()
        if found is None or not isinstance(found[0], int):
            raise StoreUnavailable(
                f"{self._path}: table meta has no revision; stop the controller and restore the "
                "file from a copy"
            )
        return found[0]

    def _failed(self, error: Exception) -> str:
        """Undo the transaction, keep the reason for `health`, and return it."""
        with suppress(sqlite3.Error):  # the rollback's error would say the same
            self._database.rollback()
        if isinstance(error, StoreUnavailable):
            self._stale = True  # what the cache holds may not be what is on disk
            self._fault = str(error)
        else:
            self._stale = self._stale or _code(error) in _STALE
            self._fault = f"{self._path}: {_reason(error)}; {_remedy(error)}"
        return self._fault


def _open(path: Path) -> sqlite3.Connection:
    """Return a connection to a file of ours, made, migrated and in WAL mode.

    Raises StoreUnavailable.
    """
    try:
        # The records tell where people are: only the controller's user may read them.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _share_rights(path)
        database = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S
        )
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(
            f"{path} cannot be opened: {_reason(error)}; check that its directory may be written"
        ) from error
    try:
        adopt(database, path)
        (mode,) = database.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailable(
                f"{path} cannot use a write-ahead log; keep the store on a local file system"
            )
        database.execute("PRAGMA synchronous=FULL")
        _lengthen_log(database)
    except sqlite3.Error as error:
        database.close()
        raise StoreUnavailable(
            f"{path} cannot be used: {_reason(error)}; {_remedy(error)}"
        ) from error
    except BaseException:
        database.close()
        raise
    return database


def _lengthen_log(database: sqlite3.Connection) -> None:
    """Make the log as long as it gets between checkpoints.

    A commit that writes over what is there waits a third less for the disk than one that makes the
    file longer. What is rolled back was in the log for as much of it as the cache does not hold.
    """
    (pages,) = database.execute("PRAGMA wal_autocheckpoint").fetchone()
    (page_size,) = database.execute("PRAGMA page_size").fetchone()
    (cache,) = database.execute("PRAGMA cache_size").fetchone()
    try:
        database.execute("PRAGMA cache_size = 10")
        database.execute("BEGIN IMMEDIATE")
        database.execute("CREATE TABLE ballast (octets BLOB)")
        database.execute("INSERT INTO ballast VALUES (zeroblob(?))", (pages * page_size,))
    except sqlite3.OperationalError:
        # No room, or a file that may only be read: the log grows as it goes.
        if database.in_transaction:
            database.rollback()
        with suppress(sqlite3.OperationalError):
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        database.rollback()
    finally:
        database.execute(f"PRAGMA cache_size = {cache}")


def _share_rights(path: Path) -> None:
    """Give the log and its index the rights of the file.

    SQLite does so when it makes them; they would stay read-only when the file no longer is.
    """
    mode = path.stat().st_mode & 0o777
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError, PermissionError):
            path.with_name(path.name + suffix).chmod(mode)


def _settle(results: list[tuple[_Commit, int | StoreError]]) -> None:
    """Give every commit its result, on the event loop that waits for it."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int | StoreError]]] = {}
    for commit, result in results:
        loops.setdefault(commit.loop, []).append((commit.done, result))
    for loop, settled in loops.items():
        # A closed loop: nobody waits any more, and what was written stays written.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, settled)


def _resolve(settled: list[tuple[asyncio.Future[int], int | StoreError]]) -> None:
    for done, result in settled:
        if done.done():
            continue  # its wait was cancelled
        if isinstance(result, StoreError):
            done.set_exception(result)
        else:
            done.set_result(result)


def _code(error: Exception) -> int:
    """Return SQLite's primary result code of an error; SQLITE_ERROR when it has none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _reason(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{error} ({name})" if name else str(error) or type(error).__name__


def _remedy(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return (
            "the file was moved or deleted while in use: put it back, or restart the controller "
            "to go on with what is there now"
        )
    if isinstance(error, OSError):
        return "make the file and its directory readable and writable"
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return "make room on the file system; the store goes on by itself"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return "make the file and its directory writable; the store goes on by itself"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "stop the controller and restore the file from a copy, or move it away"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "another program holds the file, say a shell in a transaction: end it"
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            return "check free space, limits of file size, and the disk"
    return "check the file and its file system"
