"""What every verb prints with: one console, JSON, and one way to fail."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import msgspec
import typer
from rich.console import Console

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

ERROR, USAGE, DRIFT = 1, 2, 3
"""Exit codes besides 0."""


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def words(error: Exception) -> str:
    """Return an error for people: of a file, its name and what is wrong with it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def fail(message: str, code: int = ERROR) -> NoReturn:
    """Print one error and leave with its exit code."""
    errors.print(f"srv6dmm: {message}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)
