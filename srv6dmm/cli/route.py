"""`srv6dmm route`: what routers must hold, and whether they do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from srv6dmm.cli.client_options import Controller, Json

Router = Annotated[str | None, typer.Argument(help="A router; default: every one.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    route = typer.Typer(help="Planned routes, and drift.", no_args_is_help=True)
    route.command("show")(_show)
    route.command("diff")(_diff)
    app.add_typer(route, name="route")


def _names(client: Any, router: str | None) -> list[str]:
    return [router] if router else [r["name"] for r in client.get("/v1/routers")["routers"]]


def _show(
    router: Router = None,
    everything: Annotated[bool, typer.Option("--all", help="Underlay and SIDs too.")] = False,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show planned routes: of mobile prefixes, or all."""
    from srv6dmm.cli.client import Client, segment
    from srv6dmm.cli.output import console, print_json

    client = Client(controller)
    plans = [client.get(f"/v1/routers/{segment(name)}/plan") for name in _names(client, router)]
    if json:
        print_json({"plans": plans})
        return
    for plan in plans:
        console.print(f"{plan['router']} revision {plan['revision']}")
        for entry in plan["entries"]:
            text = _line(entry, everything)
            if text:
                console.print(f"  {text}", markup=False, soft_wrap=True)


def _line(entry: dict[str, Any], everything: bool) -> str | None:
    match entry["kind"]:
        case "SteeringEntry":
            segments = " ".join(entry["segments"])
            return f"{entry['prefix']:24} {entry['mode']} [{segments}] dev {entry['interface']}"
        case "Delivery":
            return f"{entry['prefix']:24} to {entry['mobile_node']} dev {entry['interface']}"
        case "DropEntry":
            return f"{entry['prefix']:24} drop: {entry['mobile_node']} left"
        case "UnderlayRoute" if everything:
            hops = ", ".join(f"via {via} dev {dev}" for dev, via in entry["next_hops"])
            return f"{entry['prefix']:24} {hops}"
        case "UnreachableRoute" if everything:
            return f"{entry['prefix']:24} unreachable"
        case "LocalSid" if everything:
            whole = entry["prefix_length"] == 128
            sid = entry["sid"] if whole else f"{entry['sid']}/{entry['prefix_length']}"
            return f"{sid:24} {' '.join([entry['behavior'], *entry['flavors']])}"
        case _:
            return None


def _diff(router: Router = None, controller: Controller = None, json: Json = False) -> None:
    """Have routers read their kernels back; exit 3 if anything had drifted (it is repaired)."""
    from srv6dmm.cli.client import Client, segment
    from srv6dmm.cli.output import DRIFT, console, print_json

    client = Client(controller)
    reports = [
        client.post(f"/v1/routers/{segment(name)}/resync") for name in _names(client, router)
    ]
    kinds = ("missing", "different", "superfluous")
    drift = sum(len(report[kind]) for report in reports for kind in kinds)
    if json:
        print_json({"drift": drift, "routers": reports})
    else:
        for report in reports:
            found = [f"{kind} {key}" for kind in kinds for key in report[kind]]
            console.print(f"{report['router']:12} {'no drift' if not found else ''}")
            for line in found:
                console.print(f"  {line}", markup=False, soft_wrap=True)
    if drift:
        raise typer.Exit(DRIFT)
