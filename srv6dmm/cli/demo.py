"""`srv6dmm demo`: the demonstration, live in the terminal and as a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srv6dmm.cli.client_options import RouterMode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from srv6dmm.lab.demo import Demo, Progress

LAB = "demo"
REACH_MS = 10
"""What half of all events are to be applied within, the whole way over HTTP."""


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("demo")(_demo)


def _demo(
    topology: Annotated[Path, typer.Option(help="Topology file.")] = Path(
        "deploy/topologies/campus.yaml"
    ),
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write it here.")] = None,
    name: Annotated[str, typer.Option(help="Name of the lab.")] = LAB,
    mode: Annotated[RouterMode, typer.Option(help="How the routers forward.")] = RouterMode.NETLINK,
) -> None:
    """Show mobile nodes keeping their flows while they move, on real kernels.

    Exit code 1 when a soft hand-over lost or reordered a packet, a TCP connection broke, a packet
    crossed the old anchor, or one took more hops than the shortest path has.
    """
    from rich.live import Live

    from srv6dmm.bench import report as reports
    from srv6dmm.cli.output import ERROR, USAGE, console, fail
    from srv6dmm.lab.demo import Demo
    from srv6dmm.lab.network import Lab, take_down

    if json_file is not None:
        # A place that cannot be written should not take a whole run to be found.
        json_file.parent.mkdir(parents=True, exist_ok=True)
        if json_file.is_dir():
            fail(f"{json_file} is a directory", USAGE)
    take_down(name)
    lab = Lab.from_file(topology, name)
    live = Live(console=console, refresh_per_second=8, transient=True)
    stage = ""

    def watch(progress: Progress) -> None:
        nonlocal stage
        if console.is_terminal:
            live.update(_picture(demo, progress))
        elif progress.stage != stage:
            stage = progress.stage
            console.print(f"  {stage}")

    demo = Demo(lab, watch, mode.value)
    with live:
        report = demo.run()
    report["environment"] = reports.environment(mode.value)
    _table(report)
    if json_file is not None:
        reports.write(json_file, report)
        console.print(f"report: {json_file}")
    if _faults(report):
        for fault in _faults(report):
            console.print(f"[red]{fault}[/]")
        raise typer.Exit(ERROR)


def _picture(demo: Demo, progress: Progress) -> RenderableType:
    """The domain as it is now: who is where, the newest segment lists, how far we are."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    routers = Table(box=None, pad_edge=False, show_header=True)
    for router in demo.topology.access_routers():
        routers.add_column(router.name, width=14)
    routers.add_row(
        *(
            " ".join(node for node, at in sorted(progress.where.items()) if at == router.name)
            or "-"
            for router in demo.topology.access_routers()
        )
    )
    lines = [
        Text(
            f"{demo.peer} - {demo.entry} = core ("
            + " ".join(
                node.name for node in demo.topology.routers() if node.role.value == "transit"
            )
            + ") = access routers",
            style="dim",
        )
    ]
    moves = Table(box=None, pad_edge=False)
    for heading in ("node", "move", "radio", "segment list before", "after", "applied"):
        moves.add_column(heading, no_wrap=True)
    for move in progress.moves[-6:]:
        before = demo.planner.segments(demo.entry, move.source)[0] if move.source else ""
        after = demo.planner.segments(demo.entry, move.target)[0]
        took = move.answer["timings"]["event_to_applied_ms"] or 0.0
        moves.add_row(
            move.mobile_node,
            f"{move.source}>{move.target}",
            move.radio,
            str(before),
            str(after),
            f"{took:.1f} ms",
        )
    bar = ProgressBar(total=progress.total, completed=progress.done, width=60)
    return Group(Text(progress.stage, style="bold"), *lines, routers, moves, bar)


def _table(report: dict[str, Any]) -> None:
    """Two lines a hand-over: the figures, and the paths. Fits 80 columns."""
    from srv6dmm.cli.output import console

    console.print(
        " #  node from>to  radio lost dup ord   gap   dec   dur   app first  +B anchor\n"
        "                         packets       ms    ms    ms    ms    ms       packets",
        style="bold",
    )
    for number, record in enumerate(report["handovers"], 1):
        console.print(
            f"{number:>2}  {record['mobile_node']:<4} {record['from']}>{record['to']:<4} "
            f"{record['radio']:<5} {record['lost']:>4} {record['duplicated']:>3} "
            f"{record['reordered']:>3} {record['longest_gap_ms']:>5.1f} "
            f"{record['event_to_decided_ms']:>5.1f} {record['event_to_durable_ms']:>5.1f} "
            f"{_ms(record['event_to_applied_ms'])} {_ms(record['event_to_first_packet_ms'])} "
            f"{record['overhead_bytes']:>3} {record['old_anchor_packets']:>6}",
        )
        console.print(
            f"       {' '.join(record['path_before'])} -> {' '.join(record['path_after'])}",
            style="dim",
        )
    summary, tcp = report["summary"], report["tcp"]
    applied, first = summary["event_to_applied_ms"], summary["event_to_first_packet_ms"]
    console.print(
        f"\n{summary['handovers']} hand-overs ({summary['handovers_soft']} soft, "
        f"{summary['handovers_hard']} hard), {summary['sent']:,} probes\n"
        f"soft: {summary['lost_soft']} lost, {summary['duplicated_soft']} duplicated, "
        f"{summary['reordered_soft']} reordered;  hard: {summary['lost_hard']} lost\n"
        f"old anchor: {summary['old_anchor_packets']} packets after the switch;  "
        f"off the shortest path: {summary['off_shortest_path']}\n"
        f"event to applied: p50 {_ms(applied['p50'])} ms, p99 {_ms(applied['p99'])} ms "
        f"({_reach(applied['p50'])})\n"
        f"event to first packet: p50 {_ms(first['p50'])} ms, p99 {_ms(first['p99'])} ms\n"
        f"TCP: {'survived everything' if tcp['survived'] else 'BROKE'}, "
        f"{tcp['bytes'] / 1e6:.1f} MB verified, {tcp['retransmits']} retransmits"
    )


def _ms(value: float | None) -> str:
    return "    -" if value is None else f"{value:>5.1f}"


def _reach(p50_ms: float | None) -> str:
    """Return how the middle event compares with what is aimed at: a busy host is no fault."""
    within = p50_ms is not None and p50_ms < REACH_MS
    return f"reach: p50 < {REACH_MS} ms {'met' if within else 'missed'}"


def _faults(report: dict[str, Any]) -> list[str]:
    """What the demonstration promised and did not keep."""
    summary = report["summary"]
    faults = []
    if summary["lost_soft"] or summary["reordered_soft"]:
        faults.append(
            f"soft hand-overs lost {summary['lost_soft']} and reordered "
            f"{summary['reordered_soft']} packets"
        )
    if not report["tcp"]["survived"]:
        faults.append(f"the TCP connection broke: {report['tcp']['error']}")
    if summary["old_anchor_packets"]:
        faults.append(f"{summary['old_anchor_packets']} packets crossed an old anchor")
    if summary["off_shortest_path"]:
        faults.append(f"{summary['off_shortest_path']} hand-overs left the shortest path")
    return faults
