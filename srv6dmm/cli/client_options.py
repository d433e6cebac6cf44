"""Options that every verb talking to a controller has."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

Controller = Annotated[
    str | None,
    typer.Option(
        envvar="SRV6DMM_CONTROLLER", help="Controller: http://, https://, http+unix:///path."
    ),
]
Json = Annotated[bool, typer.Option("--json", "-j", help="Print JSON.")]


class RouterMode(StrEnum):
    """Ways in which the routers of a lab can forward."""

    EBPF = "ebpf"
    NETLINK = "netlink"
