"""`srv6dmm bench`: measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    bench = typer.Typer(help="Measurements; figures are ratios in one run.", no_args_is_help=True)
    bench.command("control")(_control)
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
