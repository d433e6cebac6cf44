"""What the verbs of policies, flow rules and groups have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from srv6dmm.cli.client import Client, segment
from srv6dmm.cli.output import USAGE, console, fail, print_json, words


def read_file(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    try:
        body = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        fail(words(error) if isinstance(error, OSError) else f"{file}: {error}", USAGE)
    if not isinstance(body, dict):
        fail(f"{file}: want a JSON object", USAGE)
    body.pop("used_by", None)
    body.pop("name", None)
    return body


def put(
    controller: str | None, collection: str, name: str, body: dict[str, Any], json: bool
) -> None:
    """Have a record be as given, and say when routers have applied it."""
    answer = Client(controller).put(f"{collection}/{segment(name)}", body, wait="applied")
    _say(answer, json)


def delete(controller: str | None, collection: str, name: str, json: bool) -> None:
    """Delete a record, and say when routers have applied it."""
    answer = Client(controller).delete(f"{collection}/{segment(name)}", wait="applied")
    _say(answer, json)


def found(
    controller: str | None, collection: str, members: str, name: str | None, json: bool
) -> list[dict[str, Any]]:
    """Return all records or one; none to print where JSON was asked for and is printed here."""
    client = Client(controller)
    answer = client.get(collection if name is None else f"{collection}/{segment(name)}")
    if json:
        print_json(answer)
        return []
    records: list[dict[str, Any]] = answer[members] if name is None else [answer]
    if not records:
        console.print(f"there are no {members}")
    return records


def _say(answer: dict[str, Any], json: bool) -> None:
    if json:
        print_json(answer)
    elif answer["applied"]:
        took = f"{answer['took_ms']:.1f} ms"
        console.print(f"revision {answer['revision']}, applied in {took}", markup=False)
    else:
        console.print(f"revision {answer['revision']}, durable; a router has not applied it yet")
