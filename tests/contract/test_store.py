"""One contract for every store, and what a file must survive."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from srv6dmm.core import mobility
from srv6dmm.model.errors import StoreConflict, StoreUnavailable
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import Change, Lease, LeaseState, State
from srv6dmm.store.interface import Store
from srv6dmm.store.memory import MemoryStore
from srv6dmm.store.sqlite import SCHEMA_VERSION, SqliteStore
from tests.domains import small_domain

Make = Callable[[], Store]


def lease(number: int) -> Change:
    prefix = IPv6Network(((0x20010DB8 << 96) + (number << 64), 64))
    return Change(leases=(Lease(prefix, "ar1", LeaseState.LEASED, (f"mn{number}", "0")),))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "s.db")
    yield made
    made.close()


async def test_a_new_store_is_empty(store: Store) -> None:
    assert store.load() == State()
    assert store.health() is None


async def test_commits_number_revisions_and_load_gives_them_back(store: Store) -> None:
    state = State()
    for number in range(5):
        revision = await store.commit(lease(number), state.revision)
        state.apply(lease(number), revision)
    revision = await store.commit(Change(leases_gone=(next(iter(state.leases)),)), state.revision)
    state.apply(Change(leases_gone=(next(iter(state.leases)),)), revision)
    assert store.load() == state
    assert revision == 6


async def test_a_wrong_base_is_a_conflict_and_changes_nothing(store: Store) -> None:
    await store.commit(lease(1), 0)
    before = store.load()
    for base in (0, 2, -1):
        with pytest.raises(StoreConflict):
            await store.commit(lease(2), base)
    assert store.load() == before


async def test_pipelined_commits_keep_their_order(store: Store) -> None:
    results = await asyncio.gather(*(store.commit(lease(n), n) for n in range(300)))
    assert results == list(range(1, 301))
    assert len(store.load().leases) == 300


async def test_whole_lives_of_nodes_come_back_equal(store: Store) -> None:
    topology, parameters, state = small_domain(), MobilityParameters(), State()
    chance = random.Random(7)
    for number in range(60):
        event = AttachEvent(
            f"e{number}",
            f"mn{chance.randrange(4)}",
            f"ar{chance.randrange(1, 4)}",
            "02:00:00:00:00:01",
            timestamp_ms=1000 + number,
        )
        decision = mobility.decide(state, event, 1000 + number, topology, parameters)
        state.apply(decision.change, await store.commit(decision.change, state.revision))
    assert store.load() == state
    assert list(store.load().events) == list(state.events), "events load oldest first"


async def test_commits_that_wait_share_a_transaction(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await asyncio.gather(*(store.commit(lease(n), n) for n in range(500)))
    assert store.transactions < 250
    store.close()


async def test_a_file_can_be_opened_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.commit(lease(1), 0)
    state = store.load()
    store.close()
    again = SqliteStore(tmp_path / "s.db")
    assert again.load() == state
    again.close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    with pytest.raises(StoreUnavailable, match="in use by another process"):
        SqliteStore(tmp_path / "s.db")
    store.close()
    SqliteStore(tmp_path / "s.db").close()


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.contract.test_store import lease
from srv6dmm.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(Path(sys.argv[1]))
    base = store.load().revision
    async def one(n):
        print(await store.commit(lease(n), n), flush=True)
    while True:
        await asyncio.gather(*(one(base + n) for n in range(8)))
        base += 8
asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 5, 17, 40])
def test_every_answered_commit_survives_kill_9(tmp_path: Path, after: int) -> None:
    path = tmp_path / "s.db"
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    answered = [int(child.stdout.readline()) for _ in range(after)]
    child.send_signal(signal.SIGKILL)
    answered += [int(line) for line in child.stdout.read().splitlines() if line.isdigit()]
    child.wait()
    child.stdout.close()
    store = SqliteStore(path)
    state = store.load()
    assert state.revision >= max(answered)
    assert len(state.leases) == state.revision, "a commit was kept by half"
    store.close()


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE precious (x)")
    with pytest.raises(StoreUnavailable, match="another program"):
        SqliteStore(path)


def test_a_newer_schema_is_refused_with_a_clear_word(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreUnavailable, match=f"schema version {SCHEMA_VERSION + 1}.*newer"):
        SqliteStore(path)


async def test_an_older_schema_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    topology, parameters = small_domain(), MobilityParameters()
    event = AttachEvent("e1", "mn1", "ar1", "02:00:00:00:00:01")
    await store.commit(mobility.decide(State(), event, 5000, topology, parameters).change, 0)
    wanted = store.load()
    store.close()
    with sqlite3.connect(path) as database:
        database.executescript(
            "CREATE TABLE old (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
            "INSERT INTO old SELECT key, value FROM events; DROP TABLE events;"
            "ALTER TABLE old RENAME TO events; PRAGMA user_version = 1;"
        )
    migrated = SqliteStore(path)
    assert migrated.load() == wanted
    migrated.close()


@pytest.mark.parametrize("damage", ["header", "page", "text"])
def test_a_corrupt_file_is_refused_with_its_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    asyncio.run(_fill(store, 200))
    store.close()
    if damage == "text":
        path.write_text("not a database at all\n" * 100)
    else:
        with path.open("r+b") as file:
            file.seek(0 if damage == "header" else 4096)
            file.write(os.urandom(4096 if damage == "page" else 64))
    with pytest.raises(StoreUnavailable, match=r"s\.db"):
        SqliteStore(path).load()


async def _fill(store: Store, count: int) -> None:
    for number in range(count):
        await store.commit(lease(number), number)


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the disk: writes beyond it fail as on a full one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await _fill(store, 3)
    before = store.load()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.with_name("s.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"s\.db"):
                await store.commit(lease(9), 3)
        assert store.health() is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.load() == before
    assert await store.commit(lease(9), 3) == 4
    assert store.health() is None
    store.close()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        SqliteStore(file / "s.db")
