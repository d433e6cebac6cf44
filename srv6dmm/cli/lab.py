"""`srv6dmm lab`: a whole domain of real kernels on this host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srv6dmm.cli.client_options import Json, RouterMode

if TYPE_CHECKING:
    from srv6dmm.lab.network import Lab
    from srv6dmm.lab.scenario import Scenario

Name = Annotated[str | None, typer.Option("--name", "-n", help="The lab; default: the only one.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    lab = typer.Typer(help="A whole domain of real kernels on this host.", no_args_is_help=True)
    lab.command("up")(_up)
    lab.command("down")(_down)
    lab.command("status")(_status)
    lab.command(
        "exec",
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "allow_interspersed_args": False,
        },
    )(_exec)
    lab.command("capture")(_capture)
    lab.command("move")(_move)
    app.add_typer(lab, name="lab")


def _up(
    file: Annotated[Path, typer.Argument(help="Topology, e.g. deploy/topologies/campus.yaml.")],
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Name of the lab; default: the topology's.")
    ] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Network only: no controller, no agents.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds until everything is ready.")] = 40.0,
    mode: Annotated[RouterMode, typer.Option(help="How the routers forward.")] = RouterMode.NETLINK,
    json: Json = False,
) -> None:
    """Make namespaces, links and radio; start the controller and one agent per router."""
    import time

    from srv6dmm.cli.output import console, print_json
    from srv6dmm.lab.domain import LabDomain
    from srv6dmm.lab.network import Lab

    begin = time.monotonic()
    lab = Lab.from_file(file, name)
    lab.up()
    wired = time.monotonic() - begin
    if not bare:
        domain = LabDomain(lab, mode=mode.value)
        try:
            domain.start(timeout)
        except BaseException:
            domain.close()
            lab.down()
            raise
        domain.close()
    took = time.monotonic() - begin
    record = lab.directory.load()
    if json:
        print_json(
            {
                "name": lab.name,
                "namespaces": lab.namespaces,
                "processes": sorted(record.processes),
                "socket": str(lab.directory.socket),
                "port": record.port,
                "wired_s": wired,
                "ready_s": took,
            }
        )
        return
    console.print(f"lab {lab.name}: {len(lab.namespaces)} namespaces, wired in {wired:.2f} s")
    if not bare:
        console.print(f"{len(record.processes)} processes ready after {took:.1f} s")
        console.print(
            f"API: http://127.0.0.1:{record.port}, or {lab.directory.socket}", soft_wrap=True
        )
        console.print(
            f"for the other verbs: export SRV6DMM_CONTROLLER=http+unix://{lab.directory.socket}",
            soft_wrap=True,
        )


def _down(
    name: Name = None,
    everything: Annotated[bool, typer.Option("--all", help="All labs on this host.")] = False,
    json: Json = False,
) -> None:
    """End a lab's processes and remove all it made; also after a crash."""
    from srv6dmm.cli.output import USAGE, console, fail, print_json
    from srv6dmm.lab.network import take_down
    from srv6dmm.lab.record import lab_names

    if everything and name is not None:
        fail("--name and --all exclude each other", USAGE)
    if everything:
        chosen = lab_names()
    elif name is not None:
        chosen = [name]
    else:
        chosen = [_only()]
    removed: dict[str, list[str]] = {}
    for lab in chosen:
        removed[lab] = []
        take_down(lab, report=removed[lab].append)
    if json:
        print_json({"removed": removed})
        return
    if not removed:
        console.print("no lab is up")
    for lab, things in removed.items():
        console.print(
            f"lab {lab}: {len(things)} things removed"
            if things
            else f"lab {lab}: there was nothing"
        )


def _status(name: Name = None, json: Json = False) -> None:
    """Show the labs of this host, their processes, and where the mobile nodes are."""
    from rich.table import Table

    from srv6dmm.cli.output import console, print_json
    from srv6dmm.lab.record import lab_names

    labs = [_describe(lab) for lab in ([name] if name else lab_names())]
    if json:
        print_json({"labs": labs})
        return
    if not labs:
        console.print("no lab is up; `srv6dmm lab up deploy/topologies/campus.yaml` makes one")
    for lab in labs:
        state = "up" if lab["complete"] else "only half there: take it down"
        console.print(f"[bold]{lab['name']}[/bold] {state}, {len(lab['namespaces'])} namespaces")
        console.print(f"  {lab['socket'] if lab['processes'] else 'bare'}", soft_wrap=True)
        table = Table(box=None, pad_edge=False)
        for heading in ("  process", "pid", "state"):
            table.add_column(heading)
        for process in lab["processes"]:
            table.add_row(
                f"  {process['name']}",
                str(process["pid"]),
                "runs" if process["running"] else "[red]ended[/red]",
            )
        if lab["processes"]:
            console.print(table)
        for node, where in lab["radio"].items():
            heard = ", ".join(where["downlink"]) or "nobody"
            console.print(f"  {node} sends to {where['uplink'] or 'nobody'}, hears {heard}")


def _describe(name: str) -> dict[str, Any]:
    from srv6dmm.lab.network import Lab
    from srv6dmm.lab.processes import running
    from srv6dmm.lab.record import Directory

    directory = Directory(name)
    record = directory.load()
    radio: dict[str, Any] = {}
    if record.complete:
        from srv6dmm.lab.names import mobile_ports

        lab = Lab.open(name)
        for node in mobile_ports(lab.topology):
            where = lab.radio.where(node)
            radio[node] = {"uplink": where.uplink, "downlink": sorted(where.downlink)}
        lab.radio.close()
    return {
        "name": name,
        "complete": record.complete,
        "topology": record.topology_source,
        "namespaces": record.namespaces,
        "socket": str(directory.socket),
        "port": record.port,
        "logs": str(directory.logs),
        "processes": [
            {"name": process.name, "pid": process.pid, "running": running(process)}
            for _, process in sorted(record.processes.items())
        ],
        "radio": radio,
    }


def _exec(
    context: typer.Context,
    node: Annotated[str, typer.Argument(help="A node, or `air` for the radio segment.")],
    name: Name = None,
) -> None:
    """Run a command in a node: `srv6dmm lab exec mn1 -- ping -c1 2001:db8:cafe::2`.

    What follows NODE is the command; --name may stand between the two when -- follows it.
    """
    import os

    from srv6dmm.cli.output import USAGE, fail
    from srv6dmm.dataplane import namespace

    match context.args:
        case ["--name" | "-n", named, "--", *command]:
            name = named
        case ["--", *command]:
            pass
        case command:
            pass
    if not command:
        fail("no command; e.g. `srv6dmm lab exec mn1 -- ip -6 address`", USAGE)
    namespace.enter(_open(name).namespace(node))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        hint = "; options of `lab exec` go before the node" if command[0].startswith("-") else ""
        fail(f"{command[0]}: {error.strerror}{hint}")


def _capture(
    place: Annotated[str, typer.Argument(metavar="NODE:INTERFACE", help="E.g. ar1:acc0.")],
    write: Annotated[
        str | None, typer.Option("--write", "-w", help="pcapng file; -: standard output.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-c", help="Frames.", min=1)] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds.", min=0.0)] = None,
    name: Name = None,
) -> None:
    """Capture what passes an interface; without -w, tcpdump shows it."""
    import signal
    import sys

    from srv6dmm.cli.output import USAGE, errors, fail
    from srv6dmm.lab.capture import capture

    node, colon, interface = place.partition(":")
    if not colon or not interface:
        fail(f"{place!r} is not NODE:INTERFACE, e.g. ar1:acc0", USAGE)
    target = _open(name).namespace(node)
    if write is None:
        _tcpdump(target, interface, count, duration)
    going = [True]

    def stop(*_: object) -> None:
        going.clear()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    assert write is not None
    with sys.stdout.buffer if write == "-" else Path(write).open("wb") as output:
        seen = capture(
            target, interface, output, count=count, duration_s=duration, running=lambda: bool(going)
        )
    errors.print(f"{seen} frames")


def _tcpdump(
    network_namespace: str, interface: str, count: int | None, duration: float | None
) -> None:
    import os

    from srv6dmm.cli.output import fail
    from srv6dmm.dataplane import namespace

    command = ["tcpdump", "-n", "-l", "-i", interface]
    command += ["-c", str(count)] if count is not None else []
    if duration is not None:
        command = ["timeout", "--preserve-status", "-s", "INT", str(duration), *command]
    namespace.enter(network_namespace)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        fail(f"{command[0]}: {error.strerror}; install it, or write a file with -w")


def _move(
    mobile_node: Annotated[str, typer.Argument(help="The mobile node.")],
    access_router: Annotated[str, typer.Argument(help="Where it goes.")],
    *,
    hard: Annotated[
        bool, typer.Option("--hard/--soft", help="Old cell gone before the new one is there.")
    ] = False,
    gap: Annotated[
        float, typer.Option("--gap-ms", min=0, help="With --hard: no radio for as long.")
    ] = 0,
    name: Name = None,
    json: Json = False,
) -> None:
    """Move a mobile node to an access router, on the radio and in the network."""
    from srv6dmm.cli.output import USAGE, console, fail, print_json
    from srv6dmm.lab.domain import LabDomain
    from srv6dmm.lab.scenario import Scenario

    if gap and not hard:
        fail("--gap-ms needs --hard: a soft hand-over has no gap", USAGE)
    lab = _open(name)
    if not lab.directory.load().processes:
        fail(f"lab {lab.name} is bare: there is no controller that could be told of a move")
    domain = LabDomain(lab)
    try:
        move = _moved(Scenario(domain), mobile_node, access_router, gap if hard else None)
    finally:
        domain.close()
        domain.lab.radio.close()
    if json:
        print_json(
            {
                "mobile_node": move.mobile_node,
                "from": move.source,
                "to": move.target,
                "radio": move.radio,
                "answer": move.answer,
            }
        )
        return
    timings = move.answer["timings"]
    console.print(
        f"{move.mobile_node}: {move.source or 'nowhere'} -> {move.target} "
        f"({move.radio}), {move.answer['outcome']}, applied after "
        f"{timings['event_to_applied_ms']:.1f} ms",
        soft_wrap=True,
    )
    for entry in move.answer["prefixes"]:
        console.print(
            f"  {entry['prefix']} of {entry['anchor']}"
            f"{', for new flows' if entry['preferred'] else ''}"
        )


def _moved(scenario: Scenario, mobile_node: str, access_router: str, gap: float | None) -> Any:
    if scenario.radio.where(mobile_node).uplink is None:
        return scenario.first_attach(mobile_node, access_router)
    if gap is None:
        return scenario.soft_handover(mobile_node, access_router)
    return scenario.hard_handover(mobile_node, access_router, gap)


def _only() -> str:
    """Return the name of the only lab there is."""
    from srv6dmm.lab.names import LabError
    from srv6dmm.lab.record import lab_names

    names = lab_names()
    if not names:
        raise LabError(
            "no lab is up; `srv6dmm lab up deploy/topologies/campus.yaml` makes one "
            "(`lab down --name NAME` clears what a crash left without a record)"
        )
    if len(names) > 1:
        raise LabError(f"there are the labs {', '.join(names)}: choose one with --name")
    return names[0]


def _open(name: str | None) -> Lab:
    from srv6dmm.lab.network import Lab

    return Lab.open(name or _only())
