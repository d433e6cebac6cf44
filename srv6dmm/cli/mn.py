"""`srv6dmm mn`: mobile nodes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from srv6dmm.cli.client_options import Controller, Json


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    mn = typer.Typer(help="Mobile nodes: attach, detach, list, show.", no_args_is_help=True)
    mn.command("attach")(_attach)
    mn.command("detach")(_detach)
    mn.command("list")(_list)
    mn.command("show")(_show)
    app.add_typer(mn, name="mn")


Name = Annotated[str, typer.Argument(help="The mobile node.")]
Router = Annotated[str, typer.Argument(help="The access router.")]
Timestamp = Annotated[
    int | None, typer.Option(help="When it happened, milliseconds since the epoch.")
]
Sequence = Annotated[int | None, typer.Option(help="Sequence number, 0 to 65535.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for applied.")]


class Wait(StrEnum):
    """How long a verb waits for its event."""

    DURABLE = "durable"
    APPLIED = "applied"


WaitFor = Annotated[Wait, typer.Option(help="Wait until durable, or applied everywhere.")]
EventId = Annotated[str | None, typer.Option(help="Names the event; default: random.")]
Interface = Annotated[str, typer.Option(help="Interface of the mobile node.")]


def _attach(
    mobile_node: Name,
    access_router: Router,
    mac: Annotated[str, typer.Argument(help="Its link-layer address.")],
    wait: WaitFor = Wait.APPLIED,
    timeout: Timeout = 10.0,
    event_id: EventId = None,
    interface: Interface = "0",
    lifetime: Annotated[int | None, typer.Option(help="Seconds.")] = None,
    handoff: Annotated[int | None, typer.Option(help="Handoff indicator, 1 to 5.")] = None,
    timestamp: Timestamp = None,
    sequence: Sequence = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Tell the controller that a node appeared at an access router."""
    body = _event(mobile_node, access_router, event_id, interface, timestamp, sequence)
    body |= {"link_layer_address": mac, "lifetime": lifetime, "handoff_indicator": handoff}
    _submit("attach", body, wait, timeout, controller, json)


def _detach(
    mobile_node: Name,
    access_router: Router,
    wait: WaitFor = Wait.APPLIED,
    timeout: Timeout = 10.0,
    event_id: EventId = None,
    interface: Interface = "0",
    timestamp: Timestamp = None,
    sequence: Sequence = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Tell the controller that a node left its access router."""
    body = _event(mobile_node, access_router, event_id, interface, timestamp, sequence)
    _submit("detach", body, wait, timeout, controller, json)


def _event(
    node: str,
    router: str,
    event_id: str | None,
    interface: str,
    timestamp: int | None,
    sequence: int | None,
) -> dict[str, Any]:
    import uuid

    return {
        "event_id": event_id or uuid.uuid4().hex,
        "mobile_node": node,
        "access_router": router,
        "interface": interface,
        "timestamp": timestamp,
        "sequence": sequence,
    }


def _submit(
    verb: str,
    body: dict[str, Any],
    wait: Wait,
    timeout: float,
    controller: str | None,
    json: bool,
) -> None:
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    given = {name: value for name, value in body.items() if value is not None}
    answer = Client(controller).post(f"/v1/{verb}", given, wait=wait.value, timeout=timeout)
    if json:
        print_json(answer)
        return
    at = f" at {answer['serving']}" if answer["serving"] else ""
    console.print(f"{answer['mobile_node']}: {answer['outcome']}{at}, epoch {answer['epoch']}")
    for prefix in answer["prefixes"]:
        note = "preferred" if prefix["preferred"] else ""
        console.print(f"  {prefix['prefix']:26} anchor {prefix['anchor']:10} {note}")
    took = answer["timings"]["event_to_applied_ms"]
    if took is not None:
        console.print(f"  applied everywhere after {took:.1f} ms")
    elif answer["pending"]:
        console.print(f"  still waiting for {', '.join(answer['pending'])}")
    for failure in answer["failures"]:
        console.print(f"  {failure['router']} could not apply it: {failure['reason']}")


def _list(controller: Controller = None, json: Json = False) -> None:
    """Every mobile node: where it is and what it has."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    client = Client(controller)
    nodes: list[dict[str, Any]] = []
    page = client.get("/v1/mobile-nodes")
    nodes += page["mobile_nodes"]
    while "next" in page:
        page = client.get("/v1/mobile-nodes", after=page["next"])
        nodes += page["mobile_nodes"]
    if json:
        print_json({"mobile_nodes": nodes})
        return
    for node in nodes:
        for session in node["sessions"]:
            prefixes = ", ".join(
                f"{b['prefix']}{'' if b['state'] == 'home' else '*'}" for b in session["bindings"]
            )
            leaving = "" if session["phase"] == "active" else f"  {session['phase']}"
            console.print(
                f"{node['mobile_node']:12} {session['serving']:10} epoch {session['epoch']:<5}"
                f"{prefixes}{leaving}",
                soft_wrap=True,
            )


def _show(mobile_node: Name, controller: Controller = None, json: Json = False) -> None:
    """One mobile node, with the segment list at every head-end."""
    from srv6dmm.cli.client import Client, segment
    from srv6dmm.cli.output import console, print_json

    found = Client(controller).get(f"/v1/mobile-nodes/{segment(mobile_node)}")
    if json:
        print_json(found)
        return
    for session in found["sessions"]:
        console.print(
            f"{mobile_node} interface {session['interface']}: at {session['serving']}, epoch "
            f"{session['epoch']}, {session['phase']}, roll-out {session['rollout']}"
        )
        for binding in session["bindings"]:
            console.print(
                f"  {binding['prefix']:26} anchor {binding['anchor']:8} {binding['state']}"
                f"{', preferred' if binding['preferred'] else ''}"
            )
            for entry in session["steering"]:
                if entry["prefix"] == binding["prefix"]:
                    console.print(
                        f"    {entry['head_end']:8} {entry['mode']} "
                        f"[{' '.join(entry['segments'])}]  {' '.join(entry['path'])}",
                        soft_wrap=True,
                        markup=False,
                    )
