"""What is measured of every event, and the counts behind /metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timings:
    """Milliseconds since the event was received; None: not yet."""

    decided_ms: float
    durable_ms: float
    applied_ms: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    """Roll-out phase -> when its routers had acknowledged."""


class Histogram:
    """Counts by upper bound in seconds, as Prometheus wants them."""

    BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        place = next((i for i, b in enumerate(self.BOUNDS) if seconds <= b), len(self.BOUNDS))
        self.counts[place] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by bound, "+Inf" last."""
        running, found = 0, []
        for bound, count in zip([*map(str, self.BOUNDS), "+Inf"], self.counts, strict=True):
            running += count
            found.append((bound, float(running)))
        return found


@dataclass(slots=True)
class Measurements:
    """Totals since the controller started."""

    events: Counter[str] = field(default_factory=Counter)
    """By outcome."""
    refusals: Counter[str] = field(default_factory=Counter)
    """By problem type."""
    aborts: int = 0
    degraded: int = 0
    repaired: Counter[str] = field(default_factory=Counter)
    """Drift objects repaired, by router."""
    detections: Counter[str] = field(default_factory=Counter)
    """Of arrivals that routers told of, by outcome."""
    durations: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    """"decided", "durable", "applied" -> histogram since the event was received."""
