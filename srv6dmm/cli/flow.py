"""`srv6dmm flow`: which packets take which policy."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from srv6dmm.cli.client_options import Controller, Json

COLLECTION = "/v1/flows"
PROTOCOLS = {"tcp": 6, "udp": 17, "dccp": 33, "icmp6": 58, "sctp": 132, "udplite": 136}


class Direction(StrEnum):
    """Seen from the mobile node."""

    BOTH = "both"
    UPLINK = "uplink"
    DOWNLINK = "downlink"


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    flow = typer.Typer(help="Flow rules: which packets take which policy.", no_args_is_help=True)
    flow.command("add")(_add)
    flow.command("show")(_show)
    flow.command("del")(_delete)
    app.add_typer(flow, name="flow")


Name = Annotated[str, typer.Argument(help="The rule.")]


def _add(
    name: Name,
    policy: Annotated[str, typer.Option(help="What its packets take.")],
    mn: Annotated[str | None, typer.Option(help="Packets of this mobile node.")] = None,
    group: Annotated[str | None, typer.Option(help="Packets of this group's nodes.")] = None,
    peer: Annotated[str | None, typer.Option(help="Prefix of the other end.")] = None,
    own_prefix: Annotated[str | None, typer.Option(help="Prefix on the node's side.")] = None,
    proto: Annotated[str | None, typer.Option(help="tcp, udp, ... or a number.")] = None,
    own_port: Annotated[str | None, typer.Option(help="Port or first-last.")] = None,
    peer_port: Annotated[str | None, typer.Option(help="Port or first-last.")] = None,
    dscp: Annotated[int | None, typer.Option(help="0 to 63.")] = None,
    priority: Annotated[int, typer.Option(help="0 to 999; the greatest decides.")] = 100,
    direction: Annotated[Direction, typer.Option(help="Seen from the node.")] = Direction.BOTH,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Add a flow rule, or have one be as given."""
    from srv6dmm.cli.rules import put

    match: dict[str, Any] = {
        "own_prefix": own_prefix,
        "peer": peer,
        "protocol": protocol(proto),
        "own_ports": _ports("own-port", own_port),
        "peer_ports": _ports("peer-port", peer_port),
        "dscp": dscp,
    }
    body = {
        "policy": policy,
        "mobile_node": mn,
        "group": group,
        "match": match,
        "priority": priority,
        "direction": direction.value,
    }
    put(controller, COLLECTION, name, body, json)


def protocol(text: str | None) -> int | None:
    """Return the number of a protocol; ends the command for a name that is none."""
    from srv6dmm.cli.output import USAGE, fail

    if text is None:
        return None
    if text.isdigit():
        return int(text)
    if text.lower() not in PROTOCOLS:
        fail(f"protocol {text!r} is none of {', '.join(PROTOCOLS)}; give its number", USAGE)
    return PROTOCOLS[text.lower()]


def _ports(option: str, text: str | None) -> list[int] | None:
    from srv6dmm.cli.output import USAGE, fail

    if text is None:
        return None
    first, _, last = text.partition("-")
    if not first.isdigit() or (last and not last.isdigit()):
        fail(f"--{option} {text!r}: want a port such as 5000, or 5000-5010", USAGE)
    return [int(first), int(last or first)]


def _show(
    name: Annotated[str | None, typer.Argument(help="One of them, with what it comes to.")] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show flow rules; of one, the segment lists it comes to at every head-end."""
    from srv6dmm.cli.output import console
    from srv6dmm.cli.rules import found

    for rule in found(controller, COLLECTION, "flows", name, json):
        whose = rule["mobile_node"] or f"group {rule['group']}"
        console.print(
            f"{rule['name']}: {whose}, {_match(rule['match'])} -> {rule['policy']}  "
            f"(priority {rule['priority']}, {rule['direction']})",
            markup=False,
            soft_wrap=True,
        )
        for entry in rule.get("entries", ()):
            console.print(
                f"  {entry['router']}: {entry['source']} to {entry['destination']}"
                f"{_traffic(entry.get('traffic'))}",
                markup=False,
                soft_wrap=True,
            )
            for way in entry["lists"]:
                console.print(f"    {way['weight']} x {' '.join(way['segments'])}", markup=False)
            if not entry["lists"]:
                console.print("    dropped: no path fits")


def _traffic(counted: dict[str, int] | None) -> str:
    if counted is None:
        return ""
    packets, octets, idle_s = counted["packets"], counted["bytes"], counted["idle_ms"] / 1e3
    return f"  ({packets} packets, {octets} bytes, the last {idle_s:.1f} s ago)"


def _match(match: dict[str, Any]) -> str:
    words = [
        f"{key.replace('_', ' ')} {'-'.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in match.items()
        if value is not None
    ]
    return ", ".join(words) or "every packet"


def _delete(name: Name, controller: Controller = None, json: Json = False) -> None:
    """Delete a flow rule: its packets go the way of their prefix again."""
    from srv6dmm.cli.rules import delete

    delete(controller, COLLECTION, name, json)
