"""`srv6dmm topo`: topology files and the topology in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srv6dmm.cli.client_options import Controller, Json


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    topo = typer.Typer(help="Topology: check a file, show the one in use.", no_args_is_help=True)
    topo.command("check")(_check)
    topo.command("show")(_show)
    app.add_typer(topo, name="topo")


def _check(
    file: Annotated[Path, typer.Argument(help="Topology file.")], json: Json = False
) -> None:
    """Check a topology file; every fault with file, line and key."""
    from srv6dmm.cli.output import console, fail, print_json
    from srv6dmm.core.topology import TopologyErrors, parse_topology

    try:
        topology = parse_topology(file.read_text("utf-8", "replace"), str(file))
    except TopologyErrors as errors:
        if json:
            print_json(
                {
                    "errors": [
                        {"source": e.source, "line": e.line, "key": e.key, "message": e.message}
                        for e in errors.errors
                    ]
                }
            )
            raise typer.Exit(1) from None
        fail(str(errors))
    summary = {
        "name": topology.domain.name,
        "routers": len(topology.routers()),
        "access_routers": len(topology.access_routers()),
        "links": len(topology.links),
        "inner_mtu": topology.inner_mtu(),
    }
    if json:
        print_json(summary)
        return
    for key, value in summary.items():
        console.print(f"{key.replace('_', ' '):16} {value}")


def _show(controller: Controller = None, json: Json = False) -> None:
    """Show the routers and links in use."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    client = Client(controller)
    topology = client.get("/v1/topology")
    if json:
        print_json(topology)
        return
    status = {router["name"]: router for router in client.get("/v1/routers")["routers"]}
    for name, router in status.items():
        locator = topology["nodes"][name]["locator"]
        state = "connected" if router["connected"] else "not connected"
        console.print(
            f"{name:10} {router['role']:8} {locator['prefix'] if locator else '-':20} {state}"
        )
    for link in topology["links"]:
        console.print(
            f"{link['a']['node']}:{link['a']['interface']} - "
            f"{link['b']['node']}:{link['b']['interface']}  metric {link['metric']} "
            f"mtu {link['mtu']}"
        )
