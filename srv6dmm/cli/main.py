"""The command `srv6dmm`: puts the nouns together and turns errors into one clear line."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated

import typer

from srv6dmm import __version__

NOUNS = (
    "doctor",
    "controller",
    "agent",
    "demo",
    "lab",
    "mn",
    "path",
    "policy",
    "flow",
    "group",
    "route",
    "sid",
    "topo",
    "bench",
    "events",
    "token",
)
"""Modules of this package; each has `register(app)`."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"srv6dmm {__version__}")
        raise typer.Exit


def application() -> typer.Typer:
    """Return the whole command."""
    app = typer.Typer(
        name="srv6dmm",
        help="Mobility without an anchor: segment lists instead of tunnels.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _root(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
        ] = False,
    ) -> None:
        """Root options."""

    for noun in NOUNS:
        importlib.import_module(f"srv6dmm.cli.{noun}").register(app)
    return app


def main() -> None:
    """Run the command. Expected errors are one line on stderr and exit code 1."""
    from srv6dmm.cli.output import words
    from srv6dmm.model.errors import Srv6dmmError

    try:
        application()()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (Srv6dmmError, OSError, ValueError) as error:
        sys.stderr.write(f"srv6dmm: {words(error)}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
