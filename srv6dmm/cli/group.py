"""`srv6dmm group`: mobile nodes by a common name."""

from __future__ import annotations

from typing import Annotated

import typer

from srv6dmm.cli.client_options import Controller, Json

COLLECTION = "/v1/groups"


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    group = typer.Typer(help="Groups of mobile nodes, for flow rules.", no_args_is_help=True)
    group.command("add")(_add)
    group.command("show")(_show)
    group.command("del")(_delete)
    app.add_typer(group, name="group")


Name = Annotated[str, typer.Argument(help="The group.")]


def _add(
    name: Name,
    members: Annotated[list[str] | None, typer.Argument(help="Its mobile nodes.")] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Add a group, or have one be as given."""
    from srv6dmm.cli.rules import put

    put(controller, COLLECTION, name, {"members": members or []}, json)


def _show(
    name: Annotated[str | None, typer.Argument(help="One of them.")] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show groups."""
    from srv6dmm.cli.output import console
    from srv6dmm.cli.rules import found

    for group in found(controller, COLLECTION, "groups", name, json):
        members = " ".join(group["members"]) or "nobody"
        console.print(f"{group['name']}: {members}", markup=False, soft_wrap=True)


def _delete(name: Name, controller: Controller = None, json: Json = False) -> None:
    """Delete a group that no rule names."""
    from srv6dmm.cli.rules import delete

    delete(controller, COLLECTION, name, json)
