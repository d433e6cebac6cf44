"""`srv6dmm controller`: the control service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("controller")(_controller)


def _controller(
    config: Annotated[Path | None, typer.Option(help="TOML settings.")] = None,
    topology: Annotated[Path | None, typer.Option(help="Topology file.")] = None,
    store: Annotated[Path | None, typer.Option(help="SQLite file.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0: any free one.")
    ] = None,
    unix_socket: Annotated[Path | None, typer.Option(help="Also listen here.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written once ready.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning.")] = None,
) -> None:
    """Run the control service until SIGTERM."""
    import uvloop
    from pydantic import ValidationError
    from srv6dmm_api.server import serve

    from srv6dmm.cli import logs
    from srv6dmm.cli.output import fail
    from srv6dmm.config import ControllerSettings, read_toml

    try:
        settings = ControllerSettings(**read_toml(config))
    except ValidationError as error:
        fail(
            f"{config or 'environment'}: "
            + "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
            )
        )
    changes: dict[str, Any] = {}
    if topology is not None:
        changes["topology"] = topology
    if log_level is not None:
        changes["log_level"] = log_level
    if store is not None:
        changes["store"] = settings.store.model_copy(update={"path": store})
    http = {"host": host, "port": port, "unix_socket": unix_socket}
    given = {name: value for name, value in http.items() if value is not None}
    if given:
        changes["http"] = settings.http.model_copy(update=given)
    settings = settings.model_copy(update=changes)
    certificate, key = settings.http.tls_certificate, settings.http.tls_key
    if certificate is not None and key is not None:
        for file in (certificate, key):
            file.open("rb").close()  # names the file it cannot read; the TLS library does not
    logs.configure(settings.log_level)
    uvloop.run(serve(settings, ready_file))
