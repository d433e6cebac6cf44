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
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Explain where a packet goes and why: rules, policy, header, hop by hop."""
    from srv6dmm.cli.client import Client
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
    told = Client(controller).get("/v1/paths/explain", **given)
    if json:
        print_json(told)
        return
    _print_explanation(told)


def _print_explanation(told: dict[str, Any]) -> None:
    from srv6dmm.cli.output import console

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    packet = told["packet"]
    say(f"packet   {packet['source']} -> {packet['destination']}, protocol {packet['protocol']}")
    say(f"enters   at {told['head_end']}; {told['mobile_node']} is at {told['serving']}")
    for rule in told["rules"]:
        mark = "*" if rule["decides"] else "-"
        say(f"rule   {mark} {rule['name']} (priority {rule['priority']}): {rule['reason']}")
    if told["policy"]:
        fell = "; no candidate path is valid" if told["fell_back"] else ""
        say(f"policy   {told['policy']}{fell}")
    for candidate in told["candidates"]:
        state = "active" if candidate["active"] else candidate["reason"]
        say(f"         preference {candidate['preference']}: {state}")
        for path in candidate["paths"]:
            way = " ".join(path["routers"]) if path["routers"] else path["reason"]
            say(f"           {path['weight']} x {way}")
    for number, one in enumerate(told["lists"], 1):
        kind = "backup" if one["backup"] else f"weight {one['weight']}"
        say(f"list {number}   {kind}, {told['mode']}, packets of up to {one['inner_mtu']} bytes")
        for segment in one["segments"]:
            if segment["slots"]:
                say(f"         {segment['sid']}  container of")
                for slot in segment["slots"]:
                    more = f", {slot['detail']}" if slot["detail"] else ""
                    say(f"           {slot['behavior']} of {slot['router']}{more}")
                continue
            more = f", {segment['detail']}" if segment["detail"] else ""
            say(f"         {segment['sid']}  {segment['behavior']} of {segment['router']}{more}")
        header = one["header"]
        if header is not None:
            say(f"header   {header['octets']} bytes, to {header['destination']}")
            if header["srh"]:
                say(f"         SRH {header['srh']}")
    for walk in told["walks"]:
        for hop in walk["hops"]:
            known = "" if hop["applied"] else "  (not yet acknowledged)"
            say(f"at {hop['router']}{known}")
            for step in hop["steps"]:
                say(f"         {step['action']}")
            if hop["prefix_packets"] is not None:
                say(f"         {hop['prefix_packets']} packets counted for the prefix")
        say(f"end      {walk['outcome']}: {walk['detail']}")
