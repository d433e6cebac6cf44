"""`srv6dmm policy`: what flows can ask for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from srv6dmm.cli.client_options import Controller, Json

COLLECTION = "/v1/policies"


class Objective(StrEnum):
    """What a path is to have least of."""

    IGP = "igp"
    TE = "te"
    DELAY = "delay"


class Invalid(StrEnum):
    """What becomes of flows when no path fits."""

    SHORTEST = "shortest"
    DROP = "drop"


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    policy = typer.Typer(help="Policies: what flows ask for.", no_args_is_help=True)
    policy.command("add")(_add)
    policy.command("show")(_show)
    policy.command("del")(_delete)
    app.add_typer(policy, name="policy")


Name = Annotated[str, typer.Argument(help="The policy.")]
Many = list[str] | None


def _add(
    name: Name,
    objective: Annotated[Objective, typer.Option(help="Least of what.")] = Objective.IGP,
    include_any: Annotated[Many, typer.Option(help="Affinity; every link has one.")] = None,
    include_all: Annotated[Many, typer.Option(help="Affinity that every link has.")] = None,
    exclude: Annotated[Many, typer.Option(help="Affinity that no link has.")] = None,
    avoid_node: Annotated[Many, typer.Option(help="Router not to be passed.")] = None,
    avoid_link: Annotated[Many, typer.Option(help="Link, as router:interface.")] = None,
    avoid_srlg: Annotated[list[int] | None, typer.Option(help="Shared risk.")] = None,
    require_node: Annotated[Many, typer.Option(help="Router to be passed.")] = None,
    require_link: Annotated[Many, typer.Option(help="Link, as router:interface.")] = None,
    waypoint: Annotated[Many, typer.Option(help="router or router/service, in order.")] = None,
    max_delay_ms: Annotated[float | None, typer.Option(help="Of the path, one way.")] = None,
    max_hops: Annotated[int | None, typer.Option(help="Links.")] = None,
    min_mtu: Annotated[int | None, typer.Option(help="Bytes of packet that must fit.")] = None,
    max_segments: Annotated[int | None, typer.Option(help="SIDs of the list.")] = None,
    segments: Annotated[str | None, typer.Option(help="SIDs, with commas: a given list.")] = None,
    disjoint_from: Annotated[str | None, typer.Option(help="Another policy.")] = None,
    invalid: Annotated[Invalid, typer.Option(help="When no path fits.")] = Invalid.SHORTEST,
    file: Annotated[
        Path | None, typer.Option(help="JSON of the whole policy, instead of all these.")
    ] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Add a policy, or have one be as given; flows move to its paths without a gap."""
    from srv6dmm.cli.rules import put, read_file

    if file is not None:
        body = read_file(file)
    else:
        constraints: dict[str, Any] = {
            "include_any": include_any,
            "include_all": include_all,
            "exclude_any": exclude,
            "avoid_routers": avoid_node,
            "avoid_links": avoid_link,
            "avoid_srlgs": avoid_srlg,
            "require_routers": require_node,
            "require_links": require_link,
            "maximum_delay_us": None if max_delay_ms is None else round(max_delay_ms * 1000),
            "maximum_hops": max_hops,
            "minimum_mtu": min_mtu,
            "maximum_segments": max_segments,
        }
        path: dict[str, Any]
        if segments is not None:
            path = {"segments": segments.split(",")}
        else:
            path = {
                "objective": objective.value,
                "constraints": {
                    key: value for key, value in constraints.items() if value not in (None, [])
                },
                "waypoints": [_waypoint(text) for text in waypoint or ()],
            }
        body = {
            "candidates": [{"paths": [path]}],
            "disjoint_from": disjoint_from,
            "invalid": invalid.value,
        }
    put(controller, COLLECTION, name, body, json)


def _waypoint(text: str) -> dict[str, str | None]:
    router, _, service = text.partition("/")
    return {"router": router, "service": service or None}


def _show(
    name: Annotated[str | None, typer.Argument(help="One of them.")] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show policies."""
    from srv6dmm.cli.output import console
    from srv6dmm.cli.rules import found

    for policy in found(controller, COLLECTION, "policies", name, json):
        users = ", ".join(policy["used_by"]) or "nobody"
        console.print(f"{policy['name']}: named by {users}", markup=False)
        for candidate in policy["candidates"]:
            for path in candidate["paths"]:
                words = _words(path)
                console.print(
                    f"  preference {candidate['preference']} weight {path['weight']}: {words}",
                    markup=False,
                )
        if policy["disjoint_from"]:
            console.print(f"  disjoint from {policy['disjoint_from']}", markup=False)
        console.print(f"  when no path fits: {policy['invalid']}")


def _words(path: dict[str, Any]) -> str:
    if "segments" in path and path["segments"] is not None:
        return "segments " + " ".join(path["segments"])
    words = [f"least {path['objective']}"]
    for key, value in path["constraints"].items():
        shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"{key.replace('_', '-')} {shown}")
    for waypoint in path["waypoints"]:
        service = f"/{waypoint['service']}" if waypoint["service"] else ""
        words.append(f"by {waypoint['router']}{service}")
    return ", ".join(words)


def _delete(name: Name, controller: Controller = None, json: Json = False) -> None:
    """Delete a policy that nothing names."""
    from srv6dmm.cli.rules import delete

    delete(controller, COLLECTION, name, json)
