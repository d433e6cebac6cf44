"""The writer thread: groups, and waits that end before it does."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from srv6dmm.bench.store_commits import store_commits
from srv6dmm.model.errors import StoreConflict, StoreUnavailable
from srv6dmm.store import sqlite
from srv6dmm.store.sqlite import GROUP_LIMIT, SqliteStore
from tests.contract.changes import lease, numbered, replayed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "s.db", probe_s=3600)
    yield made
    made.close()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Make the writer wait: another program has a transaction open."""
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        shell.execute("ROLLBACK")
        shell.close()


async def submitted(store: SqliteStore, bases: range) -> list[asyncio.Task[int]]:
    """Return commits that have all reached the writer's queue."""
    tasks = [asyncio.ensure_future(store.commit(numbered(n), n)) for n in bases]
    await asyncio.sleep(0)
    return tasks


async def test_commits_that_wait_share_a_transaction_up_to_a_limit(
    store: SqliteStore, tmp_path: Path
) -> None:
    count = 2 * GROUP_LIMIT + 100
    with held(tmp_path / "s.db"):
        tasks = await submitted(store, range(count))
    assert await asyncio.gather(*tasks) == list(range(1, count + 1))
    # The writer may have begun with fewer than all; from then on every group is as large as
    # it may be. Each transaction is one fsync.
    assert 3 <= store.transactions <= 4
    assert store.load() == replayed(count)


async def test_a_commit_alone_is_written_at_once(store: SqliteStore) -> None:
    """No timer is involved: the only one there is would come in an hour."""
    for number in range(20):
        await asyncio.wait_for(store.commit(lease(number), number), 10)
    assert store.transactions == 20


async def test_a_group_of_conflicts_writes_nothing(store: SqliteStore) -> None:
    for base in (1, 7):
        with pytest.raises(StoreConflict):
            await store.commit(lease(1), base)
    assert store.transactions == 0


async def test_a_cancelled_wait_leaves_the_writer_alive(store: SqliteStore, tmp_path: Path) -> None:
    with held(tmp_path / "s.db"):
        first, second, third = await submitted(store, range(3))
        second.cancel()
    assert await first == 1
    assert await third == 3, "what was submitted is written, whoever waits"
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await store.commit(numbered(3), 3) == 4
    assert store.load() == replayed(4)


def test_a_closed_loop_leaves_the_writer_alive(store: SqliteStore, tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    with held(tmp_path / "s.db"):
        abandoned = loop.run_until_complete(submitted(store, range(3)))
        for task in abandoned:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*abandoned, return_exceptions=True))
        loop.close()

    async def go_on() -> int:
        return await store.commit(numbered(3), 3)

    assert asyncio.run(go_on()) == 4
    assert store.load() == replayed(4)


async def test_a_closed_store_refuses_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.close()
    with pytest.raises(StoreUnavailable, match=r"s\.db: the store is closed"):
        await store.commit(lease(0), 0)
    assert store.load().revision == 0


async def test_close_in_a_fault_answers_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_S", 0.05)
    store = SqliteStore(tmp_path / "s.db")
    with held(tmp_path / "s.db"):
        tasks = await submitted(store, range(5))
        store.close()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    # All in one group, or the later ones in a group of their own: no answer is a success.
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    SqliteStore(tmp_path / "s.db").close()


async def test_a_file_that_others_hold_is_a_fault_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_S", 0.05)
    store = SqliteStore(tmp_path / "s.db", probe_s=3600)
    with held(tmp_path / "s.db"):
        with pytest.raises(StoreUnavailable, match=r"s\.db: database is locked.*end it"):
            await store.commit(lease(0), 0)
        assert store.health() is not None
    assert await store.commit(lease(0), 0) == 1, "it does not wait for a probe to try again"
    assert store.health() is None
    store.close()


@pytest.mark.parametrize(
    ("spoil", "mend", "words"),
    [
        (
            "ALTER TABLE leases RENAME TO other",
            "ALTER TABLE other RENAME TO leases",
            "no such table: leases",
        ),
        (
            "UPDATE meta SET key = 'was' WHERE key = 'revision'",
            "UPDATE meta SET key = 'revision' WHERE key = 'was'",
            "meta has no revision",
        ),
    ],
)
async def test_what_a_shell_spoils_it_can_mend(
    tmp_path: Path, spoil: str, mend: str, words: str
) -> None:
    """The writer outlives a file with something missing, and leaves no transaction open."""
    store = SqliteStore(tmp_path / "s.db", probe_s=3600)
    await store.commit(numbered(0), 0)
    with closing(sqlite3.connect(tmp_path / "s.db", timeout=1)) as shell:
        with shell:
            shell.execute(spoil)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=words):
                await store.commit(numbered(1), 1)
        health = store.health()
        assert health is not None
        assert words in health
        with shell:
            shell.execute(mend)
    assert store.load() == replayed(1), "nothing of the session before the failure was kept"
    assert await store.commit(numbered(1), 1) == 2
    store.close()


async def test_the_benchmark_counts_what_it_did(tmp_path: Path) -> None:
    alone, together = [
        (await store_commits(200, concurrency, tmp_path / "s.db"))[0] for concurrency in (1, 32)
    ]
    for case in (alone, together):
        assert case["count"] == 200
        assert case["per_second"] > 0
        assert 0 < case["p50_ms"] <= case["p99_ms"]
    assert alone["transactions"] == 200, "one after the other, nothing to share"
    assert together["transactions"] < 100
    store = SqliteStore(tmp_path / "s.db")
    assert store.load().revision == 400
    store.close()
