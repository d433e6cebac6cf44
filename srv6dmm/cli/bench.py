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
    bench.command("protection")(_protection)
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
    for case in result["cases"]:
        if "profile_ms" in case:
            console.print(
                "reroute_10k_flows: {flows:,} flows crossed the link; told: {flow_entries:,} flow "
                "entries,".format(**case)
            )
            console.print(
                "{steering_entries:,} steering entries, {routes:,} routes in {rounds} rounds; "
                "{cpu_p50_ms:.0f} ms of CPU".format(**case)
            )
            steps = (f"{step} {took:.0f}" for step, took in case["profile_ms"].items())
            console.print(f"profile, ms: {', '.join(steps)}")
            console.print(
                f"memory: plans {case['planner_bytes'] / 1e6:.0f} MB, the whole process "
                f"{case['process_bytes'] / 1e6:.0f} MB"
            )
        if "all_trees_bytes" in case:
            console.print(
                f"memory: graph {case['graph_bytes'] / 1e6:.1f} MB, all trees "
                f"{case['all_trees_bytes'] / 1e6:.1f} MB"
            )
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


def _protection(
    topology: Annotated[Path, typer.Option(help="The campus, or one with its names.")] = Path(
        "deploy/topologies/campus.yaml"
    ),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the report here.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also write every cut's loss as a chart (SVG) here.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="5 cuts of each kind instead of 50.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--case", help="Only this case (repeatable).")
    ] = None,
    modes: Annotated[
        list[str] | None, typer.Option("--mode", help="Only this mode: netlink or ebpf.")
    ] = None,
) -> None:
    """What cut links, drained links and dead routers cost steered traffic of 120 kpps."""
    import os
    import subprocess

    from rich.progress import Progress, SpinnerColumn, TextColumn

    from srv6dmm.bench import protection, protection_plot, report
    from srv6dmm.cli.output import console, fail, words
    from srv6dmm.model.errors import Srv6dmmError

    if os.geteuid() != 0:
        fail("bench protection needs root: it makes network namespaces and loads programs")
    for given, known in ((only, protection.CASES), (modes, protection.MODES)):
        for name in given or ():
            if name not in known:
                fail(f"{name!r} is none of {', '.join(known)}")
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        auto_refresh=False,  # senders are forked from this process
    ) as progress:
        task = progress.add_task("starting")
        chosen = tuple(mode for mode in protection.MODES if mode in (modes or protection.MODES))
        try:
            result = protection.run(
                topology,
                5 if quick else 50,
                tuple(only or ()),
                chosen,
                lambda what: progress.update(task, description=what, refresh=True),
            )
        except (Srv6dmmError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
            fail(words(error))
    _print_protection(console, result)
    if json_file is not None:
        report.write(json_file, result)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot.write_text(protection_plot.chart(result))


def _print_protection(console: Console, result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("mode", "case", "cuts", "kpps", "lost", "lost, ms", "gap, ms", "sender's"):
        left = heading in ("mode", "case")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for case in result["cases"]:
        lost, gap, own = case["lost_ms"], case["gap_ms"], case["sender_gap_ms"]
        table.add_row(
            case["mode"],
            case["name"],
            f"{case['cuts']}",
            f"{case['kpps']:.0f}",
            f"{case['lost']:,}",
            f"{lost['p50']:.1f} {lost['p95']:.1f} {lost['max']:.1f}",
            f"{gap['p50']:.1f} {gap['p95']:.1f} {gap['max']:.1f}",
            f"{own['p50']:.1f} {own['max']:.1f}",
        )
    console.print(table)
    console.print("Milliseconds: median, 95 of 100, the longest. Lost: packets lost by the pace;")
    console.print("gap: nothing came; sender's: the sender itself sent nothing (median, longest).")
