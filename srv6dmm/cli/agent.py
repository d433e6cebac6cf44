"""`srv6dmm agent`: one router's agent, and what to do without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Netns = Annotated[str | None, typer.Option("--netns", help="Network namespace.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    agent = typer.Typer(
        help="One router's agent: run it, or look at and flush its kernel.",
        invoke_without_command=True,
    )
    agent.callback()(_agent)
    agent.command("status")(_status)
    agent.command("resync")(_resync)
    agent.command("flush")(_flush)
    app.add_typer(agent, name="agent")


def _agent(
    context: typer.Context,
    router: Annotated[str | None, typer.Option(help="The router's name.")] = None,
    controller: Annotated[
        str | None, typer.Option(help="ws://, wss:// or ws+unix:///path.")
    ] = None,
    netns: Netns = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML settings.")] = None,
    resync: Annotated[float | None, typer.Option(help="Seconds between read-backs.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning.")] = None,
) -> None:
    """Run the agent until SIGTERM; the kernel keeps everything."""
    if context.invoked_subcommand is not None:
        return
    import asyncio

    from srv6dmm.agent.main import run
    from srv6dmm.cli import logs
    from srv6dmm.cli.output import USAGE, fail
    from srv6dmm.config import AgentSettings, read_toml

    given: dict[str, Any] = {
        "router": router,
        "controller": controller,
        "network_namespace": netns,
        "token": token_file.read_text().strip() if token_file else None,
        "resync_s": resync,
        "log_level": log_level,
    }
    values = read_toml(config) | {k: v for k, v in given.items() if v is not None}
    try:
        settings = AgentSettings(**values)
    except ValueError as error:
        fail(f"{error}; name the router with --router or in --config", USAGE)
    logs.configure(settings.log_level)
    asyncio.run(run(settings))


def _status(netns: Netns = None, json: Json = False) -> None:
    """Show what of ours is in the kernel, with or without an agent running."""
    from collections import Counter

    from srv6dmm.cli.output import console, print_json
    from srv6dmm.dataplane.linux import LinuxKernel

    kernel = LinuxKernel(netns)
    found = kernel.read()
    counters = kernel.sid_counters()
    kernel.close()
    counts = Counter(type(item).__name__ for item in found.values())
    if json:
        print_json(
            {
                "objects": dict(counts),
                "identities": sorted(" ".join(map(str, identity)) for identity in found),
                "sids": {
                    sid: {"packets": p, "bytes": b, "errors": e}
                    for sid, (p, b, e) in counters.items()
                },
            }
        )
        return
    for kind, count in sorted(counts.items()):
        console.print(f"{kind:20} {count:>8}")
    for sid, (packets, octets, wrong) in sorted(counters.items()):
        console.print(f"{sid:28} {packets:>10} packets {octets:>12} bytes {wrong:>6} errors")


def _resync(
    router: Annotated[str, typer.Argument(help="The router's name.")],
    json: Json = False,
) -> None:
    """Have a running agent read its kernel back and repair."""
    from srv6dmm.cli.client import Client
    from srv6dmm.cli.output import console, print_json

    report = Client().post(f"/v1/routers/{router}/resync")
    if json:
        print_json(report)
        return
    for kind in ("missing", "different", "superfluous"):
        console.print(f"{kind:12} {len(report[kind])}")


def _flush(netns: Netns = None) -> None:
    """Take everything of ours out of the kernel: routes, SIDs, neighbours, addresses."""
    from srv6dmm.cli.output import console, fail
    from srv6dmm.dataplane.linux import LinuxKernel

    kernel = LinuxKernel(netns)
    found = list(kernel.read().values())
    failures = kernel.delete(found)
    kernel.close()
    if failures:
        fail("; ".join(f"{failure.identity}: {failure.reason}" for failure in failures))
    console.print(f"{len(found)} objects removed")
