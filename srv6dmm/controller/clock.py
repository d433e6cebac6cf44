"""Time, passed in: the controller never asks the system itself."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the controller asks for the time."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never steps."""


class SystemClock:
    """The host's clocks."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds of CLOCK_MONOTONIC."""
        return time.monotonic()
