"""`srv6dmm sid`: every router's SIDs."""

from __future__ import annotations

from typing import Annotated

import typer

from srv6dmm.cli.client_options import Controller, Json


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    sid = typer.Typer(help="SIDs of the domain.", no_args_is_help=True)
    sid.callback()(lambda: None)
    sid.command("show")(_show)
    app.add_typer(sid, name="sid")


def _show(
    router: Annotated[str | None, typer.Argument(help="A router; default: all.")] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show SIDs and their behaviors."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, fail, print_json

    table = Client(controller).get("/v1/topology")["sids"]
    if router is not None:
        if router not in table:
            fail(f"{router!r} has no SIDs; there are {', '.join(sorted(table))}")
        table = {router: table[router]}
    if json:
        print_json({"sids": table})
        return
    for name, sids in sorted(table.items()):
        console.print(f"{name:10} {sids['end']:26} End")
        console.print(f"{'':10} {sids['end_dt6']:26} End.DT6")
        if sids["end_dx4"]:
            console.print(f"{'':10} {sids['end_dx4']:26} End.DX4")
        for interface, address in sorted(sids["adjacencies"].items()):
            console.print(f"{'':10} {address:26} End.X dev {interface}")
        for group, address in sorted(sids["anycast"].items()):
            console.print(f"{'':10} {address:26} End, anycast group {group}")
