"""Programs that use a store in a process of their own, so that they may be killed or starved.

`python -m tests.contract.store_process write|full|limited|read-only FOLDER`; all but `write`
print one JSON document of what was seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from srv6dmm.model.errors import StoreError, StoreUnavailable
from srv6dmm.store.sqlite import SqliteStore
from tests.contract.changes import numbered, replayed

PADDING = 60_000
"""Bytes of a commit that shall fill a disk."""


async def write(folder: Path) -> None:
    """Commit without end, several at a time, printing each revision when it is acknowledged."""
    store = SqliteStore(folder / "s.db")
    base = store.load().revision

    async def one(number: int) -> None:
        print(await store.commit(numbered(number), number), flush=True)

    while True:
        await asyncio.gather(*(one(base + ahead) for ahead in range(8)))
        base += 8


async def recovered(store: SqliteStore) -> bool:
    """Wait until the store finds out by itself that it can write again."""

    async def wait() -> None:
        while store.health() is not None:  # noqa: ASYNC110 - all that a store offers
            await asyncio.sleep(0.01)

    with suppress(TimeoutError):
        await asyncio.wait_for(wait(), 20)
    return store.health() is None


async def starved(
    folder: Path, starve: Callable[[], object], relieve: Callable[[], object]
) -> dict[str, Any]:
    """Take the room away, commit until it is used up, give it back."""
    store = SqliteStore(folder / "s.db", probe_s=0.05)
    for number in range(3):
        await store.commit(numbered(number, PADDING), number)
    starve()
    answers: list[int | BaseException] = []
    for first in range(3, 203, 8):  # all at once could be one transaction, which writes little
        answers += await asyncio.gather(
            *(store.commit(numbered(n, PADDING), n) for n in range(first, first + 8)),
            return_exceptions=True,
        )
    kept = [answer for answer in answers if isinstance(answer, int)]
    revision = 3 + len(kept)
    refusals = [await refusal(store, revision) for _ in range(3)]
    seen = {
        "kept": kept,
        "in_order": kept == list(range(4, revision + 1)),
        "others": sorted({type(a).__name__ for a in answers if not isinstance(a, int)}),
        "unavailable": [str(a) for a in answers if isinstance(a, StoreUnavailable)][:1],
        "refusals": refusals,
        "health": store.health(),
        "unchanged": store.load() == replayed(revision, PADDING),
    }
    relieve()
    seen["recovered"] = await recovered(store)
    seen["next"] = await store.commit(numbered(revision, PADDING), revision) - revision
    seen["health_after"] = store.health()
    store.close()
    again = SqliteStore(folder / "s.db")
    seen["after_all"] = again.load() == replayed(revision + 1, PADDING)
    again.close()
    return seen


async def refusal(store: SqliteStore, base: int) -> str:
    """Return the kind and the words of a refused commit, "" when it was not refused.

    The commit is larger than any room that small ones may have left.
    """
    try:
        await store.commit(numbered(base, 4_000_000), base)
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def full(folder: Path) -> dict[str, Any]:
    """FOLDER is a small file system of its own: fill it up, then make room."""
    ballast = folder / "ballast"

    def starve() -> None:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        # What is left is less than a page; let a few commits fit before it is used up.
        os.truncate(ballast, ballast.stat().st_size - 10 * PADDING)

    return asyncio.run(starved(folder, starve, ballast.unlink))


def limited(folder: Path) -> dict[str, Any]:
    """Files may not grow beyond a limit: what a full disk is to a process without rights."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def starve() -> None:
        # The log is longer than that already: it counts where in it one writes.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 * PADDING, hard))

    def relieve() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return asyncio.run(starved(folder, starve, relieve))


def opening(path: Path) -> str:
    """Return why the store cannot be opened and read, "" when it can."""
    try:
        store = SqliteStore(path)
    except StoreUnavailable as error:
        return str(error)
    store.close()
    return ""


def read_only(folder: Path) -> dict[str, Any]:
    """Take the right to write away from the file, then from the directory."""
    path = folder / "s.db"
    asyncio.run(one_commit(path))
    path.chmod(0o400)
    seen = asyncio.run(refused_then_allowed(path, lambda: path.chmod(0o600)))
    folder.chmod(0o500)
    seen["directory"] = opening(path)
    folder.chmod(0o700)
    seen["directory_after"] = opening(path)
    return seen


async def one_commit(path: Path) -> None:
    store = SqliteStore(path)
    await store.commit(numbered(0), 0)
    store.close()


async def refused_then_allowed(path: Path, allow: Callable[[], object]) -> dict[str, Any]:
    store = SqliteStore(path, probe_s=0.05)
    seen: dict[str, Any] = {
        "health": store.health(),
        "loaded": store.load() == replayed(1),
        "refusal": await refusal(store, 1),
    }
    allow()
    seen["recovered"] = await recovered(store)
    seen["next"] = await store.commit(numbered(1), 1)
    store.close()
    return seen


def mounted_read_only(folder: Path) -> dict[str, Any]:
    """FOLDER is a file system of its own: mount it read-only, then writable again."""
    path = folder / "s.db"
    asyncio.run(one_commit(path))
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    seen = {"mounted": opening(path)}
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    seen["mounted_after"] = opening(path)
    return seen


def contend(folder: Path) -> dict[str, Any]:
    """Try to open a store that another process has."""
    return {"refused": opening(folder / "s.db")}


PROGRAMS = {
    "full": full,
    "limited": limited,
    "read-only": read_only,
    "mounted-read-only": mounted_read_only,
    "contend": contend,
}


def main() -> None:
    """Run the program that the first argument names, in the folder of the second."""
    program, folder = sys.argv[1], Path(sys.argv[2])
    if program == "write":
        asyncio.run(write(folder))
    print(json.dumps(PROGRAMS[program](folder)))


if __name__ == "__main__":
    main()
