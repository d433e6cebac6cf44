"""Damage of a store's files, seen on disk and not through SQLite's cache."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path

from srv6dmm.model.errors import StoreUnavailable
from srv6dmm.store.schema import APPLICATION_ID

_MAGIC = b"SQLite format 3\0"
_LOG_MAGIC = 0x377F0682
"""Of a write-ahead log with checksums of little-endian words; with the last bit set, big-endian."""
_LOG_HEADER = 32
CHECKED_BYTES = 4 << 20
"""Files up to that are checked whole: in milliseconds, which a commit may have to wait."""


class FileCheck:
    """Looks at what is on disk where a store has its file and its log."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises OSError.

        The descriptor stays open as long as the store does: to close any would end the locks that
        SQLite has on the file (POSIX locks are the process's).
        """
        self._path = path
        self._log = path.with_name(path.name + "-wal")
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def headers(self) -> None:
        """Read both headers. Raises StoreUnavailable for damage, OSError."""
        header = os.pread(self._descriptor, 100, 0)
        (application,) = struct.unpack_from(">I", header.ljust(100, b"\0"), 68)
        if not header.startswith(_MAGIC) or application != APPLICATION_ID:
            raise corrupt(self._path, "its first page is no longer that of a store")
        with suppress(FileNotFoundError), self._log.open("rb", buffering=0) as log:
            header = log.read(_LOG_HEADER)
            if header and not _is_log(header):
                raise corrupt(self._log, "its header is no longer that of a write-ahead log")

    def pages(self) -> None:
        """Have every page read and checked on a connection of its own, where that is quick.

        Raises StoreUnavailable for damage, sqlite3.Error, OSError.
        """
        if os.fstat(self._descriptor).st_size > CHECKED_BYTES:
            return
        uri = self._path.as_uri() + "?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=0.1)) as reader:
            (found,) = reader.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise corrupt(self._path, " ".join(str(found).split()))

    def close(self) -> None:
        """Let go of the file. Call it after SQLite's connections are closed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def corrupt(path: Path, what: str) -> StoreUnavailable:
    """Return what says that a file is damaged, and what to do."""
    return StoreUnavailable(
        f"{path} is corrupt: {what}; stop the controller and restore it from a copy, or move it "
        "away"
    )


def _is_log(header: bytes) -> bool:
    """Tell whether a log's header is whole: magic number and checksum (SQLite's file format)."""
    if len(header) < _LOG_HEADER:
        return False
    (magic,) = struct.unpack_from(">I", header)
    if magic & ~1 != _LOG_MAGIC:
        return False
    words = struct.unpack_from(">6I" if magic & 1 else "<6I", header)
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.unpack_from(">2I", header, 24) == (first, second)
