"""`srv6dmm token`: bearer tokens of the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Table = Annotated[Path, typer.Option("--file", help="The table of hashed tokens.")]
DEFAULT = Path("/etc/srv6dmm/tokens.toml")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    token = typer.Typer(help="Tokens: create, list, revoke.", no_args_is_help=True)
    token.command("create")(_create)
    token.command("list")(_list)
    token.command("revoke")(_revoke)
    app.add_typer(token, name="token")


def _create(
    name: Annotated[str, typer.Argument(help="Names the token.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, mobility:write, router:stream or admin; repeatable."),
    ] = None,
    router: Annotated[str | None, typer.Option(help="May speak for this router only.")] = None,
    file: Table = DEFAULT,
) -> None:
    """Create a token, print it once, keep its hash."""
    import secrets

    from srv6dmm_api.auth import MOBILITY_WRITE, ROUTER_STREAM, SCOPES, token_digest

    from srv6dmm.cli.output import USAGE, fail

    chosen = scope or ([MOBILITY_WRITE, ROUTER_STREAM] if router else ["read"])
    if set(chosen) - SCOPES:
        fail(f"scopes are {', '.join(sorted(SCOPES))}", USAGE)
    entries = _read(file)
    if any(entry["id"] == name for entry in entries):
        fail(f"{file} has a token {name!r} already; revoke it first")
    token = secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"id": name, "hash": token_digest(token), "scopes": chosen}
    if router is not None:
        entry["router"] = router
    _write(file, [*entries, entry])
    typer.echo(token)


def _list(file: Table = DEFAULT) -> None:
    """List tokens; never the tokens themselves."""
    from srv6dmm.cli.output import console

    for entry in _read(file):
        scopes = ",".join(entry["scopes"])
        console.print(f"{entry['id']:20} {scopes:36} {entry.get('router', '')}")


def _revoke(name: Annotated[str, typer.Argument(help="The token.")], file: Table = DEFAULT) -> None:
    """Revoke a token; restart the controller to make it count."""
    from srv6dmm.cli.output import fail

    entries = _read(file)
    left = [entry for entry in entries if entry["id"] != name]
    if len(left) == len(entries):
        fail(f"{file} has no token {name!r}")
    _write(file, left)


def _read(file: Path) -> list[dict[str, Any]]:
    import tomllib

    from srv6dmm_api.auth import TokenTable

    if not file.exists():
        return []
    TokenTable.load(file)
    return list(tomllib.loads(file.read_text()).get("token", []))


def _write(file: Path, entries: list[dict[str, Any]]) -> None:
    """Write the table whole and swap it in, readable by its owner only."""
    import json
    import os

    text = "# Written by `srv6dmm token`; hashes only.\n"
    for entry in entries:
        text += "\n[[token]]\n"
        text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(file.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    fresh.replace(file)
