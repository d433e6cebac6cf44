"""Files that probes and taps leave: one line of JSON about the columns, then the columns."""

from __future__ import annotations

import json
import struct
from array import array
from dataclasses import dataclass, field
from typing import TypeAlias

MAGIC = 0x73366D70
"""The first four bytes of every probe, "s6mp": taps know probes by it."""
PROBE = struct.Struct("!IHxxIQ")
"""A probe's payload: magic, flow, sequence number, send time (CLOCK_MONOTONIC, ns)."""
HOP_LIMIT = 64
"""What every probe is sent with."""

Column: TypeAlias = "array[int]"
_ITEM_SIZES = {code: array(code).itemsize for code in "BHIq"}


class RecordingError(ValueError):
    """A file that is not a whole recording."""


@dataclass(slots=True)
class Received:
    """Probes of one flow as they arrived: columns of one length, in order of arrival."""

    sequence: Column = field(default_factory=lambda: array("I"))
    time_ns: Column = field(default_factory=lambda: array("q"))
    """CLOCK_MONOTONIC when the kernel had the packet."""
    hop_limit: Column = field(default_factory=lambda: array("B"))


@dataclass(slots=True)
class ProbeRecording:
    """What one probe process sent and received, by flow."""

    sent: dict[int, Column] = field(default_factory=dict)
    """Flow -> send times (CLOCK_MONOTONIC, ns); the index is the sequence number."""
    received: dict[int, Received] = field(default_factory=dict)
    overruns: int = 0
    """Packets the receiver's own socket had no room for: neither the network's loss nor ours."""
    unsent: int = 0
    """Probes the sender's own kernel refused (no route, no address); they count as lost."""


@dataclass(slots=True)
class TapRecording:
    """Probes seen at interfaces of several nodes: columns of one length, in order of reading."""

    points: list[str] = field(default_factory=list)
    """"NODE:INTERFACE" by number."""
    point: Column = field(default_factory=lambda: array("H"))
    time_ns: Column = field(default_factory=lambda: array("q"))
    """CLOCK_MONOTONIC when the packet came in at the interface."""
    flow: Column = field(default_factory=lambda: array("H"))
    sequence: Column = field(default_factory=lambda: array("I"))
    hop_limit: Column = field(default_factory=lambda: array("B"))
    """Of the outermost header."""
    overhead: Column = field(default_factory=lambda: array("H"))
    """Bytes in front of the probe's own IPv6 header: 0 for a plain packet."""
    drops: int = 0
    """Packets the tap had no room for: with any, counts of the tap prove nothing."""


def _write(head: dict[str, object], columns: list[Column]) -> bytes:
    head["columns"] = [[column.typecode, len(column)] for column in columns]
    return json.dumps(head).encode() + b"\n" + b"".join(column.tobytes() for column in columns)


def _read(data: bytes, kind: str) -> tuple[dict[str, object], list[Column]]:
    line, newline, rest = data.partition(b"\n")
    try:
        head = json.loads(line)
        specification = [(str(code), int(count)) for code, count in head["columns"]]
        wanted = sum(_ITEM_SIZES[code] * count for code, count in specification)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordingError(f"not a recording: {error}") from error
    if not newline or head.get("kind") != kind:
        raise RecordingError(f"not a {kind} recording")
    if len(rest) != wanted:
        raise RecordingError(f"{kind} recording of {len(rest)} bytes where {wanted} were announced")
    columns: list[Column] = []
    offset = 0
    for code, count in specification:
        column = array(code)
        size = column.itemsize * count
        column.frombytes(rest[offset : offset + size])
        offset += size
        columns.append(column)
    return head, columns


def encode_probe(recording: ProbeRecording) -> bytes:
    """Return the file of a probe process."""
    columns: list[Column] = [recording.sent[flow] for flow in sorted(recording.sent)]
    for flow in sorted(recording.received):
        part = recording.received[flow]
        columns += [part.sequence, part.time_ns, part.hop_limit]
    return _write(
        {
            "kind": "probe",
            "sent": sorted(recording.sent),
            "received": sorted(recording.received),
            "overruns": recording.overruns,
            "unsent": recording.unsent,
        },
        columns,
    )


def decode_probe(data: bytes) -> ProbeRecording:
    """Return what a probe process wrote. Raises RecordingError."""
    head, columns = _read(data, "probe")
    sent, received = _integers(head, "sent"), _integers(head, "received")
    if len(columns) != len(sent) + 3 * len(received):
        raise RecordingError("columns of a probe recording are missing")
    rest = columns[len(sent) :]
    return ProbeRecording(
        sent=dict(zip(sent, columns, strict=False)),
        received={
            flow: Received(*rest[3 * number : 3 * number + 3])
            for number, flow in enumerate(received)
        },
        overruns=_integer(head, "overruns"),
        unsent=_integer(head, "unsent"),
    )


def encode_tap(recording: TapRecording) -> bytes:
    """Return the file of a tap."""
    return _write(
        {"kind": "tap", "points": recording.points, "drops": recording.drops},
        [
            recording.point,
            recording.time_ns,
            recording.flow,
            recording.sequence,
            recording.hop_limit,
            recording.overhead,
        ],
    )


def decode_tap(data: bytes) -> TapRecording:
    """Return what a tap wrote. Raises RecordingError."""
    head, columns = _read(data, "tap")
    points = head.get("points")
    if not isinstance(points, list) or len(columns) != 6:
        raise RecordingError("columns of a tap recording are missing")
    point, time_ns, flow, sequence, hop_limit, overhead = columns
    return TapRecording(
        points=[str(name) for name in points],
        point=point,
        time_ns=time_ns,
        flow=flow,
        sequence=sequence,
        hop_limit=hop_limit,
        overhead=overhead,
        drops=_integer(head, "drops"),
    )


def _integer(head: dict[str, object], key: str) -> int:
    value = head.get(key)
    if not isinstance(value, int):
        raise RecordingError(f"{key} is missing")
    return value


def _integers(head: dict[str, object], key: str) -> list[int]:
    value = head.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, int) for entry in value):
        raise RecordingError(f"{key} is missing")
    return value
