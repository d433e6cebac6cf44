"""What recordings of probes and taps say: loss, duplicates, reordering, gaps, paths. Pure.

Times are CLOCK_MONOTONIC nanoseconds, which all network namespaces of a host share. Windows are
half open: from <= time < to.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from srv6dmm.lab.recordings import HOP_LIMIT, ProbeRecording, Received, TapRecording

Window = tuple[int, int]
FOREVER: Window = (-(1 << 62), 1 << 62)


@dataclass(frozen=True, slots=True)
class FlowReport:
    """One flow in one window. Packets belong to a window by the time they were sent."""

    sent: int
    received: int
    """Different packets that arrived, whenever that was."""
    lost: int
    duplicated: int
    """Arrivals beyond the first of each packet."""
    reordered: int
    """Arrivals with a lower number than one before (RFC 4737 section 3.3); no duplicates."""
    longest_gap_ms: float
    """Longest time between two arrivals that touches the window of time; 0 with none."""
    longest_pause_ms: float
    """The same between two packets sent: a gap no longer than this is the sender's own."""


@dataclass(slots=True)
class Flow:
    """One flow: what its sender sent and its receiver received."""

    number: int
    sent_ns: list[int]
    received: Received
    _arrivals: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._arrivals = sorted(self.received.time_ns)

    def report(self, window: Window = FOREVER) -> FlowReport:
        """Return loss, duplicates, reordering and the longest gap of a window."""
        first, last = bisect_left(self.sent_ns, window[0]), bisect_left(self.sent_ns, window[1])
        seen: set[int] = set()
        highest = -1
        duplicated = reordered = 0
        for sequence in self.received.sequence:
            # Order is judged against all earlier arrivals, also those of before the window.
            late = sequence < highest
            highest = max(highest, sequence)
            if not first <= sequence < last:
                continue
            if sequence in seen:
                duplicated += 1
                continue
            seen.add(sequence)
            reordered += late
        return FlowReport(
            sent=last - first,
            received=len(seen),
            lost=last - first - len(seen),
            duplicated=duplicated,
            reordered=reordered,
            longest_gap_ms=_longest_gap_ns(self._arrivals, window) / 1e6,
            longest_pause_ms=_longest_gap_ns(self.sent_ns, window) / 1e6,
        )

    def first_received_after(self, time_ns: int) -> int | None:
        """Return when the first packet after a time arrived; None when none did."""
        place = bisect_right(self._arrivals, time_ns)
        return self._arrivals[place] if place < len(self._arrivals) else None

    def longest_gap_ms(self, window: Window, until_ns: int) -> float:
        """Return the longest gap from a window until something else may tear the flow.

        The gap open at `until_ns` is that other thing's, unless it reaches back into the window.
        """
        place = bisect_left(self._arrivals, until_ns)
        end = max(window[1], self._arrivals[place - 1] if place else window[1])
        return _longest_gap_ns(self._arrivals, (window[0], end)) / 1e6

    def hop_limits(self, window: Window = FOREVER) -> Counter[int]:
        """Return how often each hop limit arrived in a window of arrival time."""
        return Counter(
            limit
            for limit, at in zip(self.received.hop_limit, self.received.time_ns, strict=True)
            if window[0] <= at < window[1]
        )


def _longest_gap_ns(times: Sequence[int], window: Window) -> int:
    """Gaps count whole when any part of them is in the window."""
    first = max(0, bisect_right(times, window[0]) - 1)
    last = min(len(times), bisect_left(times, window[1]) + 1)
    return max((times[place + 1] - times[place] for place in range(first, last - 1)), default=0)


def flows(recordings: Iterable[ProbeRecording]) -> dict[int, Flow]:
    """Join what senders sent with what receivers received, by flow number.

    A flow nobody recorded as receiver has no arrivals. Raises ValueError when two processes
    claim to have sent the same flow.
    """
    sent: dict[int, list[int]] = {}
    received: dict[int, Received] = {}
    for recording in recordings:
        for number, times in recording.sent.items():
            if number in sent:
                raise ValueError(f"flow {number} has two senders")
            sent[number] = list(times)
        received.update(recording.received)
    return {
        number: Flow(number, times, received.get(number, Received()))
        for number, times in sorted(sent.items())
    }


class Crossings:
    """Where probes were seen: packets that came in at the interfaces of nodes, by time.

    A tap that had to drop packets proves nothing: check `drops` first.
    """

    def __init__(self, recording: TapRecording) -> None:
        self.drops = recording.drops
        self._seen: dict[tuple[str, int], list[tuple[int, int, str, int, int]]] = {}
        points = [point.partition(":")[::2] for point in recording.points]
        for point, at, flow, sequence, limit, overhead in zip(
            recording.point,
            recording.time_ns,
            recording.flow,
            recording.sequence,
            recording.hop_limit,
            recording.overhead,
            strict=True,
        ):
            node, interface = points[point]
            self._seen.setdefault((node, flow), []).append(
                (at, sequence, interface, limit, overhead)
            )
        for entries in self._seen.values():
            entries.sort()

    def packets_through(
        self, node: str, flow: int, window: Window = FOREVER, interface: str | None = None
    ) -> int:
        """Return how many packets of a flow came in at a node, or at one interface of it."""
        return len(self._select(node, flow, window, interface))

    def first_through(
        self, node: str, flow: int, after_ns: int, interface: str | None = None
    ) -> tuple[int, int] | None:
        """Return (time, sequence) of the first packet that came in after a time, or None."""
        for at, sequence, _, _, _ in self._select(
            node, flow, (after_ns + 1, FOREVER[1]), interface
        ):
            return at, sequence
        return None

    def last_through(
        self, node: str, flow: int, before_ns: int = FOREVER[1], interface: str | None = None
    ) -> tuple[int, int] | None:
        """Return (time, sequence) of the last packet that came in before a time, or None."""
        found = self._select(node, flow, (FOREVER[0], before_ns), interface)
        return (found[-1][0], found[-1][1]) if found else None

    def hops(self, node: str, flow: int, window: Window = FOREVER) -> Counter[int]:
        """Return how many routers packets had passed before they came in at a node."""
        return Counter(HOP_LIMIT - entry[3] for entry in self._select(node, flow, window, None))

    def overheads(self, node: str, flow: int, window: Window = FOREVER) -> Counter[int]:
        """Return the bytes of encapsulation packets came in with at a node."""
        return Counter(entry[4] for entry in self._select(node, flow, window, None))

    def sequences(self, node: str, flow: int, window: Window = FOREVER) -> list[int]:
        """Return the sequence numbers that came in at a node, by time."""
        return [entry[1] for entry in self._select(node, flow, window, None)]

    def _select(
        self, node: str, flow: int, window: Window, interface: str | None
    ) -> list[tuple[int, int, str, int, int]]:
        entries = self._seen.get((node, flow), [])
        first = bisect_left(entries, window[0], key=lambda entry: entry[0])
        last = bisect_left(entries, window[1], key=lambda entry: entry[0])
        return [
            entry for entry in entries[first:last] if interface is None or entry[2] == interface
        ]
