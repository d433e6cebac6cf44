"""A pytest plugin: a line of JSON for every test as soon as it is over, for who waits outside.

A guest that hangs or dies has told by then what it came to.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

_FILE = Path(os.environ["SRV6DMM_GUEST"]) / "tests.jsonl"
_LONGEST = 160


def _told(record: dict[str, object]) -> None:
    with _FILE.open("a") as file:
        file.write(f"{json.dumps(record)}\n")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell what is going to run: what is not heard of again did not come to its end."""
    _told({"planned": [item.nodeid for item in session.items]})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell the outcome: of the test itself, or of a set-up or clean-up that did not pass."""
    if report.when != "call" and report.outcome == "passed":
        return
    detail = ""
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        detail = str(report.longrepr[2]).removeprefix("Skipped: ")[:_LONGEST]
    elif report.outcome == "failed":
        crash = getattr(report.longrepr, "reprcrash", None)
        detail = str(crash.message if crash else report.longrepr).strip().splitlines()[0][:_LONGEST]
    outcome = {"skipped": "absent"}.get(report.outcome, report.outcome)
    _told(
        {
            "test": report.nodeid,
            "outcome": outcome,
            "seconds": round(report.duration, 1),
            "at": round(time.monotonic(), 1),
            "detail": detail,
        }
    )


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Tell of a file that could not be read."""
    if report.failed:
        detail = str(report.longreprtext).strip().splitlines()[-1]
        _told({"test": report.nodeid, "outcome": "failed", "seconds": 0.0, "detail": detail})
