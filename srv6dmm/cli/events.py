"""`srv6dmm events`: what happens, as it happens."""

from __future__ import annotations

from typing import Annotated

import typer

from srv6dmm.cli.client_options import Controller, Json


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("events")(_events)


def _events(
    since: Annotated[int | None, typer.Option(help="Resume after this event id.")] = None,
    count: Annotated[int | None, typer.Option(help="Stop after this many.")] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Follow the event feed; Ctrl-C ends it."""
    import sys

    import msgspec

    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console

    query = {} if since is None else {"since": since}
    seen = 0
    event: dict[str, str] = {}
    with Client(controller).stream("/v1/events", **query) as lines:
        for line in lines:
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
                continue
            if "data" in event:
                data = msgspec.json.decode(event["data"])
                if json:
                    whole = {"id": int(event["id"]), "kind": event["event"], **data}
                    sys.stdout.write(msgspec.json.encode(whole).decode() + "\n")
                    sys.stdout.flush()
                else:
                    data.pop("at_ms", None)
                    text = " ".join(f"{key}={value}" for key, value in data.items())
                    console.print(f"{event['id']:>6} {event['event']:16} {text}", markup=False)
                seen += 1
                if count is not None and seen >= count:
                    return
            event = {}
