"""`srv6dmm topo`: topology files and the topology in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from srv6dmm.cli.client_options import Controller, Json


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    topo = typer.Typer(help="Topology: check a file, show the one in use.", no_args_is_help=True)
    topo.command("check")(_check)
    topo.command("show")(_show)
    topo.command("drain")(_drain)
    topo.command("undrain")(_undrain)
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
            f"mtu {link['mtu']}{_delay(link)}{_state(link, topology['down'])}"
        )


def _delay(link: dict[str, Any]) -> str:
    """Return what the link takes: what paths count, and what was measured if that is not it."""
    used, measured = link["delay_in_use_us"], link["measured_delay_us"]
    shown = f" delay {used} us" if used else ""
    return shown if measured in (None, used) else f"{shown} measured {measured} us"


def _state(link: dict[str, Any], down: list[str]) -> str:
    ends = [f"{end['node']}:{end['interface']}" for end in (link["a"], link["b"])]
    if any(end in down for end in ends):
        return "  down"
    return "  drained" if link["drained"] else ""


End = Annotated[str, typer.Argument(help="Either end of the link, as router:interface.")]


def _drain(end: End, controller: Controller = None, json: Json = False) -> None:
    """Take a link out of use: traffic moves away from it without loss."""
    _set_drained(end, True, controller, json)


def _undrain(end: End, controller: Controller = None, json: Json = False) -> None:
    """Take a drained link into use again."""
    _set_drained(end, False, controller, json)


def _set_drained(end: str, drained: bool, controller: str | None, json: bool) -> None:
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import USAGE, console, fail, print_json

    client = Client(controller)
    links = client.get("/v1/topology/document")["topology"]["links"]
    found = [link["endpoints"] for link in links if end in link["endpoints"]]
    if not found:
        fail(f"{end!r} is no end of a link; `srv6dmm topo show` lists them", USAGE)
    patch = {"topology": {"links": [{"endpoints": found[0], "drained": drained}]}}
    answer = client.patch("/v1/topology", patch, wait="applied")
    if json:
        print_json(answer)
    else:
        console.print(f"revision {answer['revision']}, told to every router")
