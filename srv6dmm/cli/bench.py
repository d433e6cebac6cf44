"""`srv6dmm bench`: measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    bench = typer.Typer(help="Measurements; figures are ratios in one run.", no_args_is_help=True)
    bench.command("control")(_control)
    bench.command("forwarding")(_forwarding)
    app.add_typer(bench, name="bench")


def _control(
    topology: Annotated[Path, typer.Option(help="Topology that plans are made for.")] = Path(
        "deploy/topologies/campus.yaml"
    ),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the report here.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="A tenth of the work.")] = False,
) -> None:
    """Decisions, plans, durable commits, and kernel routes beside `ip -batch`."""
    from rich.progress import Progress, SpinnerColumn, TextColumn
    from rich.table import Table

    from srv6dmm.bench import control, report
    from srv6dmm.cli.output import console
    from srv6dmm.core.topology import parse_topology

    domain = parse_topology(topology.read_text(), str(topology))
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True
    ) as progress:
        task = progress.add_task("starting")
        result = control.run(domain, quick, lambda what: progress.update(task, description=what))
    table = Table(box=None, pad_edge=False)
    for heading in ("case", "per second", "p50 ms", "p99 ms", "count"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for case in result["cases"]:
        table.add_row(
            case["name"],
            f"{case['per_second']:,.0f}",
            f"{case['p50_ms']:.3f}",
            f"{case['p99_ms']:.3f}",
            f"{case['count']:,}",
        )
    console.print(table)
    if json_file is not None:
        report.write(json_file, result)


def _forwarding(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the report here.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also write a bar chart (SVG) of 100 B frames here.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Fewer and shorter rounds.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--case", help="Only this case (repeatable); also `tcp`, `switch` and `sync`."
        ),
    ] = None,
    packet_socket: Annotated[
        bool, typer.Option("--packet-socket", help="Send by AF_PACKET even with live frames.")
    ] = False,
) -> None:
    """What a packet costs: plain, kernel seg6, VXLAN and the fast path, on one core."""
    import os
    import subprocess

    from rich.progress import Progress, SpinnerColumn, TextColumn

    from srv6dmm.bench import forwarding, report
    from srv6dmm.bench import plot as drawing
    from srv6dmm.cli.output import console, fail, words
    from srv6dmm.model.errors import Srv6dmmError

    if os.geteuid() != 0:
        fail("bench forwarding needs root: it makes network namespaces and loads programs")
    effort = forwarding.QUICK if quick else forwarding.FULL
    live = False if packet_socket else None
    # No thread of its own for the progress: generators are forked from this process.
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        auto_refresh=False,
    ) as progress:
        task = progress.add_task("starting")

        def tell(what: str) -> None:
            progress.update(task, description=what, refresh=True)

        try:
            result = forwarding.run(effort, tell, only or (), live)
        except (Srv6dmmError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
            fail(words(error))
    _print_forwarding(console, result)
    if json_file is not None:
        report.write(json_file, result)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot.write_text(drawing.chart(result, forwarding.SIZES[0]))


def _print_forwarding(console: Console, result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("case", "bytes", "ratio", "spread", "ns", "Mpps"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for case in result["cases"]:
        table.add_row(
            case["name"],
            f"{case['bytes']}",
            f"{case['ratio']:.2f}",
            f"{case['ratio_min']:.2f}-{case['ratio_max']:.2f}",
            f"{case['ns']:,.0f}",
            f"{case['mpps']:.2f}",
        )
    console.print(table)
    for case in result["tcp"]:
        console.print(
            f"TCP {case['name']:<8}{case['gbps']:6.2f} Gb/s, {case['ratio']:.2f} of plain "
            f"({case['ratio_min']:.2f}-{case['ratio_max']:.2f})"
        )
    if "switch" in result:
        console.print(
            "switch: {switches:,} at {kpps:,.0f} kpps, {lost} of {packets:,} lost, {reordered} "
            "reordered".format(**result["switch"])
        )
    if "sync" in result:
        console.print(
            "sync: {entries:,} entries in {seconds:.2f} s; agent after load {agent_mb} MB, with "
            "them {agent_holding_mb} MB, in {agent_took_s} s with routes and read-back".format(
                **result["sync"]
            )
        )
    host = result["environment"]
    console.print(
        f"{host['cpu']}, {host['cpus']} CPUs, Linux {host['kernel']}; {host['generator']}; load "
        f"{host['load'][0]} to {host['load'][1]}, {host['disturbed_runs']} runs disturbed"
    )
    for note in host["notes"]:
        console.print(f"note: {note}")
