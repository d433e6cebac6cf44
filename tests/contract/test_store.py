"""One contract for every store: what may be relied on, whatever keeps the records."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srv6dmm.core import mobility
from srv6dmm.model.errors import StoreConflict, StoreError
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.state import Change, State
from srv6dmm.store.interface import Store
from srv6dmm.store.memory import MemoryStore
from srv6dmm.store.sqlite import SqliteStore
from tests.contract.changes import changes, lease, numbered, replayed
from tests.domains import small_domain

KINDS = ["memory", "sqlite"]


def make(kind: str, folder: Path) -> Store:
    return MemoryStore() if kind == "memory" else SqliteStore(folder / "s.db")


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = make(request.param, tmp_path)
    yield made
    made.close()


async def test_a_new_store_is_empty(store: Store) -> None:
    assert store.load() == State()
    assert store.health() is None


async def test_commits_number_revisions_and_load_gives_them_back(store: Store) -> None:
    assert [await store.commit(numbered(n), n) for n in range(12)] == list(range(1, 13))
    assert store.load() == replayed(12)


async def test_what_is_done_to_a_loaded_state_stays_with_the_caller(store: Store) -> None:
    await store.commit(numbered(0), 0)
    loaded = store.load()
    loaded.apply(numbered(1), 2)
    assert store.load() == replayed(1)
    assert await store.commit(numbered(1), 1) == 2
    assert store.load() == loaded


async def test_an_empty_change_is_a_revision_too(store: Store) -> None:
    assert await store.commit(Change(), 0) == 1
    assert store.load() == State(revision=1)


async def test_a_wrong_base_is_a_conflict_and_changes_nothing(store: Store) -> None:
    await store.commit(lease(1), 0)
    before = store.load()
    for base in (0, 2, -1):
        with pytest.raises(StoreConflict, match=f"{base} is not the newest, 1 is"):
            await store.commit(lease(2), base)
    assert store.load() == before
    assert await store.commit(lease(2), 1) == 2


async def test_pipelined_commits_keep_their_order(store: Store) -> None:
    results = await asyncio.gather(*(store.commit(numbered(n), n) for n in range(300)))
    assert results == list(range(1, 301))
    assert store.load() == replayed(300)


async def test_a_failure_in_a_pipeline_fails_all_that_build_on_it(store: Store) -> None:
    bases = [0, 1, 3, 4, 5, 2]
    results = await asyncio.gather(
        *(store.commit(lease(n), base) for n, base in enumerate(bases)), return_exceptions=True
    )
    assert [r if isinstance(r, int) else type(r) for r in results] == [
        1,
        2,
        StoreConflict,
        StoreConflict,
        StoreConflict,
        3,
    ]
    wanted = {next(iter(lease(n).leases)).prefix for n in (0, 1, 5)}
    assert set(store.load().leases) == wanted


async def test_of_two_rivals_exactly_one_wins_every_revision(store: Store) -> None:
    async def rival(name: int) -> int:
        won = 0
        for base in range(30):
            with suppress(StoreConflict):
                await store.commit(lease(base * 2 + name), base)
                won += 1
        return won

    assert sum(await asyncio.gather(rival(0), rival(1))) == 30
    loaded = store.load()
    assert loaded.revision == 30
    assert len(loaded.leases) == 30


async def test_whole_lives_of_nodes_come_back_equal(store: Store) -> None:
    topology, parameters, state = small_domain(), MobilityParameters(), State()
    chance = random.Random(7)
    for number in range(60):
        node = chance.randrange(4)
        event = AttachEvent(
            f"e{number}",
            f"mn{node}",
            f"ar{chance.randrange(1, 4)}",
            f"02:00:00:00:00:0{node}",
            timestamp_ms=1000 + number,
        )
        decision = mobility.decide(state, event, 1000 + number, topology, parameters)
        state.apply(decision.change, await store.commit(decision.change, state.revision))
    assert store.load() == state
    assert list(store.load().events) == list(state.events), "events load oldest first"


async def test_close_writes_what_was_submitted_and_may_be_repeated(store: Store) -> None:
    waiting = [asyncio.ensure_future(store.commit(lease(n), n)) for n in range(50)]
    await asyncio.sleep(0)  # lets each task reach its commit
    store.close()
    store.close()
    assert await asyncio.gather(*waiting) == list(range(1, 51))


Step = list[tuple[Change, int]]
"""Commits submitted together; each with how far its base is from the right one."""

_STEPS = st.lists(
    st.tuples(changes(), st.sampled_from([0, 0, 0, 0, 1, -1, 7])), min_size=1, max_size=4
)


@pytest.mark.parametrize("kind", KINDS)
@given(steps=st.lists(_STEPS, max_size=4), reopened=st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_a_load_equals_the_changes_applied(kind: str, steps: list[Step], reopened: int) -> None:
    """Random changes with right and wrong bases, pipelined; the file is opened again midway."""

    async def run(folder: Path) -> None:
        store, wanted = make(kind, folder), State()
        for number, step in enumerate(steps):
            if number == reopened and kind == "sqlite":
                store.close()
                store = make(kind, folder)
            calls, expected = [], []
            for change, off in step:
                calls.append(store.commit(change, wanted.revision + off))
                if off == 0:
                    wanted.apply(change, wanted.revision + 1)
                expected.append(wanted.revision if off == 0 else None)
            results = await asyncio.gather(*calls, return_exceptions=True)
            for result, revision in zip(results, expected, strict=True):
                if revision is None:
                    assert isinstance(result, StoreConflict)
                else:
                    assert result == revision
            assert store.load() == wanted
        store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def test_a_record_that_cannot_be_kept_harms_no_other(tmp_path: Path) -> None:
    """Memory keeps anything; a file keeps Unicode text and 64-bit numbers."""
    store = SqliteStore(tmp_path / "s.db")
    record = numbered(0).events[0]
    odd: list[Change] = [
        Change(events_gone=("\ud800",)),
        Change(sessions_gone=(("\udfff", "0"),)),
        Change(events=(type(record)("e", "d", record.answer, 1 << 63),)),
        Change(events=(type(record)("e", "\ud800", record.answer, 1),)),
    ]
    for number, change in enumerate(odd):
        results = await asyncio.gather(
            store.commit(lease(number), number),
            store.commit(change, number + 1),
            store.commit(lease(90 + number), number + 2),
            return_exceptions=True,
        )
        assert results[0] == number + 1
        assert type(results[1]) is StoreError, results[1]
        assert isinstance(results[2], StoreConflict)
    assert store.load().revision == len(odd)
    assert store.health() is None
    store.close()
