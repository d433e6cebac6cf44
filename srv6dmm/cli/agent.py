"""`srv6dmm agent`: one router's agent, and what to do without one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from srv6dmm.cli.client_options import Controller, Json

Netns = Annotated[str | None, typer.Option("--netns", help="Network namespace: a name or a path.")]


class _ModeChoice(StrEnum):
    """How a router may be told to forward."""

    EBPF = "ebpf"
    NETLINK = "netlink"


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    agent = typer.Typer(
        help="One router's agent: run it, or look at and flush its kernel.",
        invoke_without_command=True,
    )
    agent.callback()(_agent)
    agent.command("status")(_status)
    agent.command("resync")(_resync)
    agent.command("mode")(_mode)
    agent.command("flush")(_flush)
    app.add_typer(agent, name="agent")


def _agent(
    context: typer.Context,
    *,
    router: Annotated[str | None, typer.Option(help="The router's name.")] = None,
    controller: Annotated[
        str | None, typer.Option(help="ws://, wss:// or ws+unix:///path.")
    ] = None,
    netns: Netns = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML settings.")] = None,
    resync: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds between read-backs.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="auto, ebpf or netlink.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning.")] = None,
) -> None:
    """Run the agent until SIGTERM; the kernel keeps everything."""
    if context.invoked_subcommand is not None:
        return
    import uvloop
    from pydantic import ValidationError

    from srv6dmm.agent.main import run
    from srv6dmm.agent.stream import check_address
    from srv6dmm.cli import logs
    from srv6dmm.cli.output import USAGE, fail, words
    from srv6dmm.config import AgentSettings, read_toml
    from srv6dmm.model.errors import Srv6dmmError

    try:
        flags: dict[str, Any] = {
            "router": router,
            "controller": controller,
            "network_namespace": netns,
            "token": token_file.read_text().strip() if token_file else None,
            "resync_s": resync,
            "mode": mode,
            "log_level": log_level,
        }
        flags = {name: value for name, value in flags.items() if value is not None}
        # The environment goes before the file; the command line before both.
        settings = AgentSettings(**(read_toml(config) | flags)).model_copy(update=flags)
        check_address(settings.controller)
        logs.configure(settings.log_level)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        fail(f"{faults} (--router and the other options, SRV6DMM_AGENT_*, --config)", USAGE)
    except (OSError, ValueError) as error:
        fail(words(error), USAGE)
    try:
        uvloop.run(run(settings))
    except (Srv6dmmError, OSError) as error:
        fail(f"{settings.router}: {error}")


def _status(netns: Netns = None, json: Json = False) -> None:
    """Show what of ours is in the kernel, with or without an agent running."""
    from srv6dmm.agent.fastpath import present
    from srv6dmm.cli.output import console, fail, print_json
    from srv6dmm.dataplane.combined import CombinedKernel
    from srv6dmm.dataplane.fastpath.objects import (
        FastBinding,
        FastDelivery,
        FastDrop,
        FastPort,
        FastSid,
        FastSteering,
    )
    from srv6dmm.dataplane.linux import LinuxKernel
    from srv6dmm.dataplane.objects import (
        InterfaceAddress,
        Neighbour,
        Route,
        Seg6Encap,
        Seg6Local,
        TunnelSource,
    )
    from srv6dmm.model.errors import Srv6dmmError

    reasons: dict[str, int] = {}
    try:
        kernel = CombinedKernel(LinuxKernel(netns), next(iter(present(netns)), None))
        try:
            found = kernel.read()
            found |= kernel.read([("tunsrc",)])
            counters = kernel.sid_counters()
            if kernel.fast is not None:
                reasons = {reason.label: n for reason, n in kernel.fast.reasons().items() if n}
        finally:
            kernel.close()
    except (Srv6dmmError, OSError) as error:
        fail(str(error))
    counts = dict.fromkeys(
        (
            *("routes", "steering", "sids", "neighbours", "addresses", "tunnel source"),
            *("fast ports", "fast entries"),
        ),
        0,
    )
    sids = {
        item.prefix
        for item in found.values()
        if isinstance(item, Route) and isinstance(item.encap, Seg6Local)
    }
    counts["sids"] = len(sids)  # each has a route for every core interface
    for item in found.values():
        match item:
            case Route(encap=Seg6Encap()):
                counts["steering"] += 1
            case Route(encap=Seg6Local()):
                pass
            case Route():
                counts["routes"] += 1
            case Neighbour():
                counts["neighbours"] += 1
            case InterfaceAddress():
                counts["addresses"] += 1
            case TunnelSource():
                counts["tunnel source"] += 1
            case FastPort():
                counts["fast ports"] += 1
            case FastSteering() | FastDelivery() | FastDrop() | FastSid() | FastBinding():
                counts["fast entries"] += 1
    if json:
        print_json(
            {
                "objects": counts,
                "identities": sorted(" ".join(map(str, identity)) for identity in found),
                "sids": {
                    sid: {"packets": p, "bytes": b, "errors": e}
                    for sid, (p, b, e) in counters.items()
                },
                "reasons": reasons,
            }
        )
        return
    for kind, count in counts.items():
        console.print(f"{kind:20} {count:>8}")
    for sid, (packets, octets, wrong) in sorted(counters.items()):
        console.print(f"{sid:24} {packets:>10} packets {octets:>12} bytes {wrong:>6} errors")
    for reason, packets in sorted(reasons.items(), key=lambda item: -item[1]):
        console.print(f"{reason:24} {packets:>10} packets")


def _resync(
    router: Annotated[str, typer.Argument(help="The router's name.")],
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Have a running agent read its kernel back and repair."""
    from srv6dmm.cli.client import Client, segment
    from srv6dmm.cli.output import console, print_json

    report = Client(controller).post(f"/v1/routers/{segment(router)}/resync")
    if json:
        print_json(report)
        return
    for kind in ("missing", "different", "superfluous"):
        console.print(f"{kind:12} {len(report[kind]):>8}")
        for key in report[kind]:
            console.print(f"  {key}")


def _mode(
    router: Annotated[str, typer.Argument(help="The router's name.")],
    mode: Annotated[
        _ModeChoice | None,
        typer.Argument(help="To change over to; default: show the one in effect."),
    ] = None,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Show how a router forwards, or have its running agent change over; no packet is lost.

    Holds until the agent is started again.
    """
    from srv6dmm.cli.client import Client, segment
    from srv6dmm.cli.output import console, print_json

    client = Client(controller)
    path = f"/v1/routers/{segment(router)}"
    if mode is None:
        answer = {"router": router, "mode": client.get(path)["mode"]}
    else:
        answer = client.put(f"{path}/mode", {"mode": mode.value})
    if json:
        print_json(answer)
        return
    console.print(f"{answer['router']}: {answer['mode'] or 'never connected'}")


def _flush(netns: Netns = None, json: Json = False) -> None:
    """Take everything of ours out of the kernel: programs, routes, SIDs, neighbours, addresses.

    Stop the agent first: a running one puts it back.
    """
    from srv6dmm.agent.fastpath import retire
    from srv6dmm.cli.output import console, fail, print_json
    from srv6dmm.dataplane.linux import LinuxKernel
    from srv6dmm.model.errors import Srv6dmmError

    try:
        retire(netns)
        kernel = LinuxKernel(netns)
        try:
            found = list(kernel.read().values())
            failures = kernel.delete(found)
        finally:
            kernel.close()
    except (Srv6dmmError, OSError) as error:
        fail(str(error))
    if failures:
        fail("; ".join(f"{failure.identity}: {failure.reason}" for failure in failures))
    if json:
        print_json({"removed": len(found)})
        return
    console.print(f"{len(found)} objects removed")
