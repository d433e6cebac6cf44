"""`srv6dmm token`: bearer tokens of the HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from srv6dmm.cli.client_options import Json

DEFAULT = Path("/etc/srv6dmm/tokens.toml")
Table = Annotated[
    Path, typer.Option("--file", envvar="SRV6DMM_HTTP__TOKENS", help="The table of hashed tokens.")
]
Name = Annotated[str, typer.Argument(help="Names the token.")]

Entry = dict[str, Any]
"""id, hash, scopes and perhaps router, as in the file."""


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    token = typer.Typer(help="Tokens: create, list, revoke.", no_args_is_help=True)
    token.command("create")(_create)
    token.command("list")(_list)
    token.command("revoke")(_revoke)
    app.add_typer(token, name="token")


def _create(
    name: Name,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, mobility:write, router:stream or admin; repeatable."),
    ] = None,
    router: Annotated[str | None, typer.Option(help="May speak for this router only.")] = None,
    file: Table = DEFAULT,
    json: Json = False,
) -> None:
    """Create a token, print it once, keep its hash."""
    import secrets

    from srv6dmm_api.auth import MOBILITY_WRITE, NAME, READ, ROUTER_STREAM, SCOPES, token_digest

    from srv6dmm.cli.output import USAGE, errors, fail, print_json

    chosen = sorted(set(scope or ([MOBILITY_WRITE, ROUTER_STREAM] if router else [READ])))
    if set(chosen) - SCOPES:
        fail(f"scopes are {', '.join(sorted(SCOPES))}", USAGE)
    for given in (name, router):
        if given is not None and not NAME.fullmatch(given):
            fail(f"{given!r} is no name: use letters, digits and . _ : @ -", USAGE)
    token = secrets.token_urlsafe(32)
    entry: Entry = {"id": name, "hash": token_digest(token), "scopes": chosen}
    if router is not None:
        entry["router"] = router
    with _changing(file) as entries:
        if any(other["id"] == name for other in entries):
            fail(f"{file} has a token {name!r} already; revoke it first")
        entries.append(entry)
    if json:
        del entry["hash"]
        print_json(entry | {"token": token})
    else:
        typer.echo(token)
    errors.print(
        f"Kept as a hash in {file}, this is the only time the token is shown. It counts when the "
        "controller, which must be able to read the file, is restarted.",
        markup=False,
    )


def _list(file: Table = DEFAULT, json: Json = False) -> None:
    """List tokens; never the tokens themselves."""
    from srv6dmm.cli.output import console, print_json

    entries = _read(file)
    if json:
        shown: list[Entry] = [{"router": None, **entry} for entry in entries]
        for entry in shown:
            del entry["hash"]
        print_json({"tokens": shown})
        return
    for entry in entries:
        line = f"{entry['id']:20} {entry.get('router', '-'):10} {','.join(entry['scopes'])}"
        console.print(line, markup=False, soft_wrap=True)


def _revoke(name: Name, file: Table = DEFAULT) -> None:
    """Revoke a token; it counts when the controller is restarted."""
    from srv6dmm.cli.output import errors, fail

    with _changing(file) as entries:
        left = [entry for entry in entries if entry["id"] != name]
        if len(left) == len(entries):
            fail(f"{file} has no token {name!r}")
        entries[:] = left
    errors.print(
        f"{name} is gone from {file}; the controller takes it until it is restarted.", markup=False
    )


def _read(file: Path) -> list[Entry]:
    """Return the entries of a valid table; none when there is no file. Raises ValueError."""
    from srv6dmm_api.auth import TokenTable, read_entries

    if not file.exists():
        return []
    TokenTable.load(file)
    return read_entries(file)


@contextmanager
def _changing(file: Path) -> Iterator[list[Entry]]:
    """Give the table's entries to change, and write them when no error came up.

    One process at a time: the directory is locked, which leaves no file behind.
    """
    import fcntl
    import os

    file = Path(os.path.realpath(file))
    file.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        entries = _read(file)
        yield entries
        _write(file, entries)
        os.fsync(directory)
    finally:
        os.close(directory)


def _write(file: Path, entries: list[Entry]) -> None:
    """Write the table whole and swap it in, readable by its owner only.

    The owner stays who it was: the controller need not run as who creates its tokens.
    """
    import json
    import os
    import tempfile

    text = "# Written by `srv6dmm token`, which keeps no other comments. Hashes only.\n"
    for entry in entries:
        text += "\n[[token]]\n"
        # Every value is checked: such text and lists of it are written alike in JSON and TOML.
        text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
    descriptor, fresh = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            with suppress(FileNotFoundError):
                before = file.stat()
                os.fchown(output.fileno(), before.st_uid, before.st_gid)
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
        os.replace(fresh, file)
    except BaseException:
        os.unlink(fresh)
        raise
