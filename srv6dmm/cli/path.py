"""`srv6dmm path`: paths and segment lists."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from srv6dmm.cli.client_options import Controller, Json


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    path = typer.Typer(help="Paths and segment lists.", no_args_is_help=True)
    path.callback()(lambda: None)
    path.command("show")(_show)
    path.command("alternatives")(_alternatives)
    path.command("explain")(_explain)
    app.add_typer(path, name="path")


def _show(
    source: Annotated[str, typer.Argument(help="A head-end; alone: a mobile node.")],
    target: Annotated[str | None, typer.Argument(help="The serving router.")] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show how a head-end reaches a serving router, or every path of a mobile node."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    query = {"mobile_node": source} if target is None else {"from": source, "to": target}
    found = Client(controller).get("/v1/paths", **query)
    if json:
        print_json(found)
        return
    if target is not None:
        _print(found)
        return
    if not found["paths"]:
        console.print(f"{source}: every prefix is at home; plain routing leads there")
    for path in found["paths"]:
        console.print(f"{path['prefix']} at {path['from']}", markup=False)
        _print(path)


def _alternatives(
    source: Annotated[str, typer.Argument(help="The head-end.")],
    target: Annotated[str, typer.Argument(help="The router where paths end.")],
    objective: Annotated[str, typer.Option(help="igp, te or delay.")] = "igp",
    count: Annotated[int, typer.Option(help="Paths at most.")] = 3,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show the best paths between two routers, and two that have nothing in common."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    query = {"from": source, "to": target, "objective": objective, "count": count}
    found = Client(controller).get("/v1/paths/alternatives", **query)
    if json:
        print_json(found)
        return
    for number, path in enumerate(found["paths"], start=1):
        _print_alternative(f"{number}", path)
    if found["pair"]:
        console.print(f"two that share no {found['disjoint'].removesuffix('s')}:")
    else:
        console.print(f"no disjoint pair: {found['reason']}", markup=False)
    for name, path in zip("ab", found["pair"], strict=False):
        _print_alternative(name, path)


def _print_alternative(name: str, path: dict[str, Any]) -> None:
    from srv6dmm.cli.output import console

    console.print(
        f"{name:>3}  {' '.join(path['path'])}  metric {path['igp_metric']}, te "
        f"{path['te_metric']}, {path['delay_us']} us",
        soft_wrap=True,
    )
    console.print(f"     {', '.join(path['segments'])}", soft_wrap=True, markup=False)


def _print(found: dict[str, Any]) -> None:
    from srv6dmm.cli.output import console

    console.print(f"path     {' '.join(found['path'])}  metric {found['metric']}", soft_wrap=True)
    console.print(f"mode     {found['mode']}, {found['overhead_bytes']} bytes more")
    for segment in found["segments"]:
        console.print(f"segment  {segment['sid']}  {segment['behavior']} of {segment['router']}")


def _explain(
    mn: Annotated[str, typer.Option(help="The mobile node.")],
    dst: Annotated[str, typer.Option(help="The other end's address.")],
    downlink: Annotated[bool, typer.Option("--downlink", help="From there to the node.")] = False,
    proto: Annotated[str | None, typer.Option(help="tcp, udp, ... or a number.")] = None,
    sport: Annotated[int | None, typer.Option(help="Source port.")] = None,
    dport: Annotated[int | None, typer.Option(help="Destination port.")] = None,
    dscp: Annotated[int | None, typer.Option(help="0 to 63.")] = None,
    address: Annotated[str | None, typer.Option(help="The node's own address.")] = None,
    head_end: Annotated[str | None, typer.Option(help="Where it enters the domain.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Send one, and see where it goes.")] = False,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Explain where a packet goes and why: rules, policy, header, hop by hop."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.explanation import print_explanation
    from srv6dmm.cli.flow import protocol
    from srv6dmm.cli.output import print_json

    query: dict[str, Any] = {
        "mn": mn,
        "dst": dst,
        "direction": "downlink" if downlink else "uplink",
        "proto": protocol(proto),
        "sport": sport,
        "dport": dport,
        "dscp": dscp,
        "address": address,
        "head_end": head_end,
    }
    given = {key: value for key, value in query.items() if value is not None}
    client, path = Client(controller), "/v1/paths/explain"
    told = client.post(path, given) if live else client.get(path, **given)
    if json:
        print_json(told)
        return
    print_explanation(told)
