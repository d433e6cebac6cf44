"""What a guest told, as a table and a verdict."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = "tests/kernels/"
"""Tests whose every line is shown; of the others (run elsewhere as well) one line for each file."""


@dataclass
class Results:
    """Tests of one guest, in the order in which they ran."""

    planned: list[str] = field(default_factory=list)
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what the guest has written until its end."""
        results = cls()
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            record = json.loads(line)
            if "planned" in record:
                results.planned = record["planned"]
            elif results.tests.get(record["test"], {}).get("outcome") != "failed":
                results.tests[record["test"]] = record
        return results

    @property
    def unheard(self) -> list[str]:
        """Tests that were to run and did not come to an end."""
        return [test for test in self.planned if test not in self.tests]

    def of(self, outcome: str) -> list[str]:
        """Return the tests of an outcome."""
        return [test for test, record in self.tests.items() if record["outcome"] == outcome]

    @property
    def passed(self) -> bool:
        """Whether something ran, all of it came to an end, and none failed."""
        return bool(self.planned) and not self.unheard and not self.of("failed")


def table(results: Results) -> list[str]:
    """Return the lines of a table: outcome, seconds, test, and why not."""
    lines = []
    files: dict[str, list[dict[str, Any]]] = {}
    for test, record in results.tests.items():
        if test.startswith(SHOWN) or record["outcome"] != "passed":
            name = test.removeprefix(SHOWN)
            lines.append(_line(record["outcome"], record["seconds"], name, record["detail"]))
        else:
            files.setdefault(test.split("::", maxsplit=1)[0], []).append(record)
    for file, records in files.items():
        seconds = sum(record["seconds"] for record in records)
        lines.append(_line("passed", seconds, f"{file}: {len(records)} tests", ""))
    unheard = Counter(_row(test) for test in results.unheard)
    for row, count in unheard.items():
        lines.append(_line("NOT RUN", 0.0, row if count == 1 else f"{row}: {count} tests", ""))
    return lines


def _row(test: str) -> str:
    return test.removeprefix(SHOWN) if test.startswith(SHOWN) else test.split("::", maxsplit=1)[0]


def _line(outcome: str, seconds: float, name: str, detail: str) -> str:
    outcome = outcome.upper() if outcome == "failed" else outcome
    line = f"  {outcome:8}{seconds:6.1f} s  {name}"
    return f"{line}\n{'':20}{detail}" if detail else line


def summary(results: Results) -> str:
    """Return one line of figures."""
    counts = {outcome: len(results.of(outcome)) for outcome in ("passed", "absent", "failed")}
    parts = [f"{count} {outcome}" for outcome, count in counts.items()]
    return ", ".join([*parts, f"{len(results.unheard)} not run"])
