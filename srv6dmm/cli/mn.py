"""`srv6dmm mn`: mobile nodes."""

from __future__ import annotations

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
Wait = Annotated[str, typer.Option(help="durable or applied.")]
EventId = Annotated[str | None, typer.Option(help="Names the event; default: random.")]
Interface = Annotated[str, typer.Option(help="Interface of the mobile node.")]


def _attach(
    mobile_node: Name,
    access_router: Router,
    mac: Annotated[str, typer.Argument(help="Its link-layer address.")],
    wait: Wait = "applied",
    event_id: EventId = None,
    interface: Interface = "0",
    lifetime: Annotated[int | None, typer.Option(help="Seconds.")] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Tell the controller that a node appeared at an access router."""
    body: dict[str, Any] = _event(mobile_node, access_router, event_id, interface)
    body["link_layer_address"] = mac
    if lifetime is not None:
        body["lifetime"] = lifetime
    _submit("attach", body, wait, controller, json)


def _detach(
    mobile_node: Name,
    access_router: Router,
    wait: Wait = "applied",
    event_id: EventId = None,
    interface: Interface = "0",
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Tell the controller that a node left its access router."""
    body = _event(mobile_node, access_router, event_id, interface)
    _submit("detach", body, wait, controller, json)


def _event(node: str, router: str, event_id: str | None, interface: str) -> dict[str, Any]:
    import uuid

    return {
        "event_id": event_id or uuid.uuid4().hex,
        "mobile_node": node,
        "access_router": router,
        "interface": interface,
    }


def _submit(verb: str, body: dict[str, Any], wait: str, controller: str | None, json: bool) -> None:
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    answer = Client(controller).post(f"/v1/{verb}", body, wait=wait)
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


def _list(controller: Controller = None, json: Json = False) -> None:
    """Every mobile node: where it is and what it has."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    found = Client(controller).get("/v1/mobile-nodes")
    if json:
        print_json(found)
        return
    for node in found["mobile_nodes"]:
        for session in node["sessions"]:
            prefixes = ", ".join(
                f"{b['prefix']}{'' if b['state'] == 'home' else '*'}" for b in session["bindings"]
            )
            console.print(
                f"{node['mobile_node']:12} {session['serving']:10} epoch {session['epoch']:<5}"
                f"{prefixes}",
                soft_wrap=True,
            )


def _show(mobile_node: Name, controller: Controller = None, json: Json = False) -> None:
    """One mobile node, with the segment list at every head-end."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    found = Client(controller).get(f"/v1/mobile-nodes/{mobile_node}")
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
