"""What a store file must survive: SIGKILL, lost power, no room, no rights, damage."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from srv6dmm.model.errors import StoreUnavailable
from srv6dmm.model.state import Change, State
from srv6dmm.store.sqlite import SqliteStore
from tests.contract.changes import lease, numbered, replayed
from tests.contract.store_process import recovered

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


def program(name: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "tests.contract.store_process", name, str(folder)]


def seen_by(command: list[str]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def on_a_small_file_system(name: str, folder: Path) -> Any:
    """Run a program on one MiB of its own, that vanishes with the program."""
    script = 'mount -t tmpfs -o size=16m none "$0" && exec "$@"'
    return seen_by(["unshare", "--mount", "sh", "-c", script, str(folder), *program(name, folder)])


# Killed, and without power.


def test_every_acknowledged_revision_survives_kill_9_at_any_instant(tmp_path: Path) -> None:
    """Round after round on one file; the lock is free at once, nothing is kept by half."""
    chance = random.Random()
    revision = 0
    for _ in range(6):
        child = subprocess.Popen(program("write", tmp_path), stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline())]
        time.sleep(chance.uniform(0, 0.05))  # the instant is what is random here
        child.kill()
        acknowledged += [int(line) for line in child.stdout]
        child.wait()
        child.stdout.close()
        assert acknowledged == list(range(revision + 1, revision + 1 + len(acknowledged)))
        store = SqliteStore(tmp_path / "s.db")
        state = store.load()
        store.close()
        revision = state.revision
        assert revision >= acknowledged[-1]
        assert revision <= acknowledged[-1] + 8, "only what was submitted may be there"
        assert state == replayed(revision)


def frame_ends(log: bytes) -> list[int]:
    """Return the ends of the frames of a write-ahead log, its header's end first.

    Up to the last frame that ends a transaction: behind it is what was rolled back.
    """
    frame = 24 + int.from_bytes(log[8:12])
    starts = range(32, len(log) - frame + 1, frame)
    last = max(start for start in starts if any(log[start + 4 : start + 8]))
    return list(range(32, last + frame + 1, frame))


async def test_lost_power_loses_whole_changes_from_the_end_only(tmp_path: Path) -> None:
    """The log cut anywhere, or damaged anywhere: some revision's state, exactly."""
    store = SqliteStore(tmp_path / "s.db")
    for number in range(12):
        await store.commit(numbered(number), number)
    await asyncio.gather(*(store.commit(numbered(n), n) for n in range(12, 40)))
    database, log = (tmp_path / "s.db").read_bytes(), (tmp_path / "s.db-wal").read_bytes()
    store.close()

    def after(what_is_left: bytes) -> State:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        (folder / "s.db").write_bytes(database)
        (folder / "s.db-wal").write_bytes(what_is_left)
        opened = SqliteStore(folder / "s.db")
        state = opened.load()
        opened.close()
        shutil.rmtree(folder)
        return state

    assert after(log) == replayed(40)
    chance = random.Random(3)
    ends = frame_ends(log)
    log = log[: ends[-1]]
    assert after(log) == replayed(40)
    cuts = sorted([*chance.sample(ends, 25), *(chance.randrange(len(log)) for _ in range(25))])
    revisions = []
    for cut in cuts:
        # A log cut before the tables were made leaves a file without any.
        state = after(log[:cut])
        assert state == replayed(state.revision)
        revisions.append(state.revision)
    assert revisions == sorted(revisions)
    assert len(set(revisions)) > 5
    for _ in range(25):
        place = chance.randrange(32, len(log))
        flipped = log[:place] + bytes([log[place] ^ 0x40]) + log[place + 1 :]
        state = after(flipped)
        assert state == replayed(state.revision)


# No room.


def starved(seen: dict[str, Any], folder: Path) -> None:
    """Check what a starved store did: nothing by half, clear words, on its feet again."""
    path = str(folder / "s.db")
    assert seen["kept"], "some commits fitted"
    assert seen["in_order"]
    assert len(seen["kept"]) < 200
    assert set(seen["others"]) <= {"StoreUnavailable", "StoreConflict"}
    assert all(refusal.startswith("StoreUnavailable: ") for refusal in seen["refusals"])
    for words in [*seen["unavailable"], *seen["refusals"], seen["health"]]:
        assert path in words
    assert seen["unavailable"]
    assert seen["unchanged"], "what was refused left a trace"
    assert seen["recovered"]
    assert seen["next"] == 1
    assert seen["health_after"] is None
    assert seen["after_all"]


@root_only
def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    seen = on_a_small_file_system("full", tmp_path)
    starved(seen, tmp_path)
    assert "make room on the file system" in seen["health"]


def test_a_limit_of_file_size_refuses_and_recovers(tmp_path: Path) -> None:
    seen = seen_by(program("limited", tmp_path))
    starved(seen, tmp_path)
    assert "limits of file size" in seen["health"]


# No rights.


def test_a_read_only_file_is_read_and_refuses_until_it_may_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    command = program("read-only", folder)
    if os.geteuid() == 0:  # for root too the file's mode shall count
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    seen = seen_by(command)
    assert seen["loaded"]
    for words in (seen["health"], seen["refusal"]):
        assert f"{folder}/s.db" in words
        assert "make the file and its directory writable" in words
    assert seen["refusal"].startswith("StoreUnavailable: ")
    assert seen["recovered"]
    assert seen["next"] == 2
    assert f"{folder}/s.db" in seen["directory"]
    assert "writ" in seen["directory"]
    assert seen["directory_after"] == ""


@root_only
def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    seen = on_a_small_file_system("mounted-read-only", tmp_path)
    assert "Read-only file system" in seen["mounted"]
    assert str(tmp_path / "s.db") in seen["mounted"]
    assert seen["mounted_after"] == ""


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreUnavailable, match=r"file/s\.db"):
        SqliteStore(file / "s.db")
    (tmp_path / "s.db").mkdir()
    with pytest.raises(StoreUnavailable, match=r"s\.db"):
        SqliteStore(tmp_path / "s.db")


def test_a_second_process_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    refused = seen_by(program("contend", tmp_path))["refused"]
    assert f"in use by another process ({os.getpid()})" in refused
    assert str(tmp_path / "s.db") in refused
    with pytest.raises(StoreUnavailable, match="in use"):
        SqliteStore(tmp_path / "s.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "s.db")
    with pytest.raises(StoreUnavailable, match="in use"):
        SqliteStore(tmp_path / "link.db")
    store.close()
    assert seen_by(program("contend", tmp_path))["refused"] == ""


# Damage.


@pytest.mark.parametrize("damage", ["header", "page", "text", "cut"])
async def test_a_corrupt_file_is_refused_with_its_name_and_left_alone(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.commit(Change(leases=tuple(lease(n).leases[0] for n in range(500))), 0)
    store.close()
    whole = path.read_bytes()
    damaged = {
        "header": b"\xa5" * 64 + whole[64:],
        "page": whole[:4096] + b"\xa5" * 4096 + whole[8192:],
        "text": b"not a database at all\n" * 100,
        "cut": whole[: len(whole) // 2],
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(StoreUnavailable, match=r"s\.db.*restore"):
        SqliteStore(path)
    assert path.read_bytes() == damaged
    path.write_bytes(whole)
    restored = SqliteStore(path)
    assert len(restored.load().leases) == 500
    restored.close()


async def test_a_record_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.commit(numbered(0), 0)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("""UPDATE sessions SET value = '{"mobile_node": 5}'""")
    database.close()
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable, match=r"s\.db.*Session.*mn0"):
        store.load()
    store.close()


async def test_damage_in_service_refuses_until_it_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    many = Change(leases=tuple(lease(n).leases[0] for n in range(20_000)))
    await store.commit(many, 0)  # more than SQLite's cache holds
    store.close()
    store = SqliteStore(path, probe_s=0.05)
    before = store.load()
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(whole) // 2)
        file.write(b"\xa5" * (len(whole) // 2))
    assert await refused(store, many, 1)
    health = store.health()
    assert health is not None
    assert str(path) in health
    assert "restore" in health
    with path.open("r+b") as file:
        file.write(whole)
    assert await recovered(store)
    assert store.load() == before
    assert await store.commit(lease(20_001), 1) == 2
    store.close()


def overwritten(path: Path, *suffixes: str, start: int = 0, size: int = 12 << 10) -> None:
    for suffix in suffixes:
        with path.with_name(path.name + suffix).open("r+b") as file:
            file.seek(start)
            file.write(b"\xa5" * size)


async def unwell(store: SqliteStore) -> str:
    """Wait until the store says by itself that it is not well."""
    async with asyncio.timeout(10):
        while (health := store.health()) is None:  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0.01)
    return health


@pytest.mark.parametrize("what", ["both", "file", "log"])
@pytest.mark.parametrize("first", ["commit", "look"])
async def test_headers_overwritten_in_service_are_noticed(
    tmp_path: Path, what: str, first: str
) -> None:
    """By the next commit and by nobody's asking; SQLite itself goes on from its cache."""
    path = tmp_path / "s.db"
    store = SqliteStore(path, probe_s=0.05 if first == "look" else 3600)
    await store.commit(lease(0), 0)
    suffixes = {"both": ("", "-wal"), "file": ("",), "log": ("-wal",)}[what]
    whole = {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("", "-wal")}
    overwritten(path, *suffixes)
    if first == "look":
        assert "is corrupt" in await unwell(store)
    assert await refused(store, lease(1), 1)
    health = store.health()
    assert health is not None
    assert "restore" in health
    if first == "look":
        for suffix, content in whole.items():
            with path.with_name(path.name + suffix).open("r+b") as file:
                file.write(content)
        assert await recovered(store)
        assert await store.commit(lease(1), 1) == 2
        assert len(store.load().leases) == 2
    store.close()


async def test_pages_overwritten_in_service_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srv6dmm.store.sqlite.PAGES_S", 0.2)
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.commit(Change(leases=tuple(lease(n).leases[0] for n in range(500))), 0)
    store.close()
    store = SqliteStore(path, probe_s=0.05)
    assert len(store.load().leases) == 500
    overwritten(path, "", start=4096, size=8192)
    assert "is corrupt" in await unwell(store)
    assert await refused(store, lease(1), 1)
    store.close()


async def refused(store: SqliteStore, change: Change, base: int) -> bool:
    with pytest.raises(StoreUnavailable, match=r"s\.db"):
        await store.commit(change, base)
    return True


async def test_a_file_moved_away_takes_no_more_commits(tmp_path: Path) -> None:
    """They would go where no restart finds them."""
    path, away = tmp_path / "s.db", tmp_path / "away.db"
    store = SqliteStore(path, probe_s=0.05)
    await store.commit(lease(0), 0)
    path.rename(away)
    with pytest.raises(StoreUnavailable, match=r"moved or deleted.*put it back"):
        await store.commit(lease(1), 1)
    with pytest.raises(StoreUnavailable, match=r"s\.db"):
        store.load()
    assert not path.exists()
    path.write_text("")
    with pytest.raises(StoreUnavailable, match="another file has taken its place"):
        await store.commit(lease(1), 1)
    path.unlink()
    away.rename(path)
    assert await recovered(store)
    assert await store.commit(lease(1), 1) == 2
    store.close()
