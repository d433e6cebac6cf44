"""One process at a time: a lock that goes away with its holder, however it ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from srv6dmm.model.errors import StoreInUse, StoreUnavailable


class FileLock:
    """An exclusive lock of PATH, held on PATH.lock, which is never deleted.

    Held by the kernel for the open file (flock): nothing is left after SIGKILL, and the number
    in the file only tells people who holds it.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises StoreInUse when another holds it, StoreUnavailable when it cannot
        be made."""
        lock_path = path.with_name(path.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(
                f"{path} cannot be opened: {error.strerror}: {lock_path}; check that its "
                "directory exists and may be written"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            if isinstance(error, BlockingIOError):
                raise StoreInUse(
                    f"{path} is in use by another process ({holder or 'number unknown'}); "
                    "one controller at a time may write it: stop that one or name another file"
                ) from error
            raise StoreUnavailable(
                f"{lock_path} cannot be locked: {error.strerror}; keep the store on a local file "
                "system"
            ) from error
        with suppress(OSError):  # on a full disk the lock still holds, it only has no name
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
