"""Options that every verb talking to a controller has."""

from __future__ import annotations

from typing import Annotated

import typer

Controller = Annotated[
    str | None,
    typer.Option(
        envvar="SRV6DMM_CONTROLLER", help="Controller: http://, https://, http+unix:///path."
    ),
]
Json = Annotated[bool, typer.Option("--json", "-j", help="Print JSON.")]
