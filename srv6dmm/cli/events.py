"""`srv6dmm events`: what happens, as it happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from srv6dmm.cli.client_options import Controller, Json


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("events")(_events)


def _events(
    since: Annotated[
        int | None, typer.Option(help="Resume after this event id; 0: all kept.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Stop after this many.", min=1)] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Follow the event feed; Ctrl-C ends it."""
    import contextlib
    import sys
    from datetime import datetime

    import msgspec

    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console

    query = {} if since is None else {"since": since}
    with (
        contextlib.suppress(KeyboardInterrupt),
        Client(controller).stream("/v1/events", **query) as lines,
    ):
        for seen, event in enumerate(_frames(lines), start=1):
            data = msgspec.json.decode(event["data"])
            if json:
                whole = {"id": int(event["id"]), "kind": event["event"], **data}
                sys.stdout.write(msgspec.json.encode(whole).decode() + "\n")
                sys.stdout.flush()
            else:
                at = datetime.fromtimestamp(data.pop("at_ms") / 1e3)
                text = " ".join(f"{key}={value}" for key, value in data.items())
                console.print(
                    f"{at:%H:%M:%S.%f} {event['event']:16} {text}", markup=False, soft_wrap=True
                )
            if count is not None and seen >= count:
                return


def _frames(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield the fields of every event; comments are left out."""
    event: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value
