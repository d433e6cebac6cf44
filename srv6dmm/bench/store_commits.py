"""Durable commits per second: how much a shared fsync is worth."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv6Network
from pathlib import Path

from srv6dmm.bench.report import Case, percentile
from srv6dmm.model.state import Change, Lease, LeaseState
from srv6dmm.store.sqlite import SqliteStore

_BASE = 0x2001_0DB8 << 96


def _change(number: int) -> Change:
    prefix = IPv6Network((_BASE + (number << 64), 64))
    return Change(leases=(Lease(prefix, "ar1", LeaseState.LEASED, (f"mn{number}", "0")),))


async def store_commits(count: int, concurrency: int, path: Path) -> list[Case]:
    """Return the case of `count` commits with `concurrency` of them under way at once.

    `transactions` in it is the number of fsyncs that made them durable. Raises StoreUnavailable.
    """
    store = SqliteStore(path)
    took: list[float] = []
    newest = store.load().revision
    following = iter(range(newest, newest + count))

    async def worker() -> None:
        for number in following:
            before = time.perf_counter()
            await store.commit(_change(number), number)
            took.append((time.perf_counter() - before) * 1e3)

    started = time.perf_counter()
    try:
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        total = time.perf_counter() - started
    finally:
        store.close()
    return [
        {
            "name": f"durable_commits_{concurrency}_at_once",
            "per_second": count / total,
            "p50_ms": percentile(took, 0.5),
            "p99_ms": percentile(took, 0.99),
            "count": count,
            "transactions": store.transactions,
        }
    ]
