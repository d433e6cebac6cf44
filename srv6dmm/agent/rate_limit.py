"""Token buckets, one for each of many destinations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class RateLimit:
    """At most `rate` a second to each destination, and `burst` at once. Time is passed in.

    Remembers the `remembered` destinations last heard of; a forgotten one begins anew.
    """

    def __init__(self, rate: float, burst: float, remembered: int = 4096) -> None:
        self._rate = rate
        self._burst = burst
        self._remembered = remembered
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allow(self, destination: Hashable, now: float) -> bool:
        """Tell whether one more may go to a destination now (seconds, never going back)."""
        tokens, at = self._buckets.pop(destination, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        allowed = tokens >= 1
        self._buckets[destination] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return allowed
