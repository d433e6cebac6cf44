"""What a run of moves came to: one record per hand-over, and the summary. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from srv6dmm.core.planner import Planner
from srv6dmm.lab.analysis import Crossings, Flow
from srv6dmm.lab.names import AIR
from srv6dmm.lab.scenario import Move
from srv6dmm.lab.traffic import Conversation


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation with what the judgement needs to know of it."""

    conversation: Conversation
    anchor: str
    """Whose pool the mobile node's address is from."""
    entry: str
    """The head-end where the correspondent's traffic enters."""


def percentile(values: Sequence[float], fraction: float) -> float | None:
    """Return the nearest-rank percentile, None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def assess(
    move: Move,
    until_ns: int,
    talk: Talk,
    flows: dict[int, Flow],
    crossings: Crossings,
    planner: Planner,
    cells: dict[str, str],
) -> dict[str, Any]:
    """Return the record of one hand-over, judged until the node's next one starts.

    `cells` maps access routers to their ports on the radio segment. Packets that cross the old
    anchor are counted from when every router had acknowledged (downlink) and from when the radio
    had moved (uplink): those sent before took the path that was right then.
    """
    down, up = talk.conversation.downlink_flow, talk.conversation.uplink_flow
    window = (move.start_ns, until_ns)
    reports = [flows[number].report(window) for number in (down, up)]
    # A gap belongs to the move that tore it: the next one's begins before that move does.
    gaps = [
        flows[number].longest_gap_ms((move.start_ns, move.end_ns), until_ns)
        for number in (down, up)
    ]
    settled = (move.answered_ns, until_ns)
    first = crossings.first_through(AIR, down, move.event_ns, cells[move.target])
    old_anchor = None
    if talk.anchor not in (move.target, talk.entry):
        old_anchor = crossings.packets_through(
            talk.anchor, down, settled
        ) + crossings.packets_through(talk.anchor, up, (move.end_ns, until_ns))
    hops = crossings.hops(move.target, down, settled)
    overheads = crossings.overheads(move.target, down, settled)
    after = planner.path(talk.entry, move.target)
    timings = move.answer["timings"]
    return {
        "mobile_node": move.mobile_node,
        "from": move.source,
        "to": move.target,
        "radio": move.radio,
        "correspondent": talk.conversation.correspondent,
        "anchor": talk.anchor,
        "sent": sum(report.sent for report in reports),
        "lost": sum(report.lost for report in reports),
        "duplicated": sum(report.duplicated for report in reports),
        "reordered": sum(report.reordered for report in reports),
        "longest_gap_ms": max(gaps),
        "event_to_decided_ms": timings["event_to_decided_ms"],
        "event_to_durable_ms": timings["event_to_durable_ms"],
        "event_to_applied_ms": timings["event_to_applied_ms"],
        "stages_ms": timings["stages"],
        "event_to_first_packet_ms": (first[0] - move.event_ns) / 1e6 if first else None,
        "path_before": list(planner.path(talk.entry, move.source)) if move.source else [],
        "path_after": list(after),
        "hops_shortest": len(after) - 1,
        "hops_measured": sorted(hops),
        "overhead_bytes": max(overheads, default=0),
        "old_anchor_packets": old_anchor or 0,
        "old_anchor_counted": old_anchor is not None,
        "epoch": move.answer["epoch"],
    }


def summarise(records: Sequence[dict[str, Any]], mode: str) -> dict[str, Any]:
    """Return the summary of all hand-overs."""
    soft = [record for record in records if record["radio"] == "soft"]
    hard = [record for record in records if record["radio"] == "hard"]
    applied = [r["event_to_applied_ms"] for r in records if r["event_to_applied_ms"] is not None]
    first = [
        r["event_to_first_packet_ms"] for r in records if r["event_to_first_packet_ms"] is not None
    ]

    def total(chosen: Sequence[dict[str, Any]], key: str) -> int:
        return sum(int(record[key]) for record in chosen)

    return {
        "handovers": len(records),
        "handovers_soft": len(soft),
        "handovers_hard": len(hard),
        "sent": total(records, "sent"),
        "lost_soft": total(soft, "lost"),
        "duplicated_soft": total(soft, "duplicated"),
        "reordered_soft": total(soft, "reordered"),
        "lost_hard": total(hard, "lost"),
        "old_anchor_packets": total(records, "old_anchor_packets"),
        "off_shortest_path": sum(
            any(hops != record["hops_shortest"] for hops in record["hops_measured"])
            for record in records
        ),
        "event_to_applied_ms": {"p50": percentile(applied, 0.5), "p99": percentile(applied, 0.99)},
        "event_to_first_packet_ms": {"p50": percentile(first, 0.5), "p99": percentile(first, 0.99)},
        "mode": mode,
    }
