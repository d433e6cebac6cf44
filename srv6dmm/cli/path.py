"""`srv6dmm path`: paths and segment lists."""

from __future__ import annotations

from typing import Annotated

import typer

from srv6dmm.cli.client_options import Controller, Json


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    path = typer.Typer(help="Paths and segment lists.", no_args_is_help=True)
    path.callback()(lambda: None)
    path.command("show")(_show)
    app.add_typer(path, name="path")


def _show(
    source: Annotated[str, typer.Argument(help="The head-end.")],
    target: Annotated[str, typer.Argument(help="The serving router.")],
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show how a head-end reaches a serving router."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    found = Client(controller).get("/v1/paths", **{"from": source, "to": target})
    if json:
        print_json(found)
        return
    console.print(f"path     {' '.join(found['path'])}  metric {found['metric']}")
    console.print(f"mode     {found['mode']}, {found['overhead_bytes']} bytes more")
    for segment in found["segments"]:
        console.print(f"segment  {segment['sid']}  {segment['behavior']} of {segment['router']}")
