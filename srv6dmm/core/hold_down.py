"""When a link that works again may be used again: the later, the oftener it failed.

A link that fails is out of use at once. One that works again must go on working for a while,
which doubles with every failure (as back-off does in RFC 8405), and is forgotten when the link
has been in use for long enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_MS = 1_000
LONGEST_MS = 60_000
FORGOTTEN_MS = 120_000
"""In use for so long without a failure, a link is as good as any."""


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of one link."""

    failures: int = 0
    """In short succession."""
    up_ms: int | None = None
    """Since when it works; None: it does not."""
    used_ms: int | None = None
    """Since when it is in use again; None: it is not."""


def failed(history: History, now_ms: int) -> History:
    """Return the history of a link that fails now."""
    rested = history.used_ms is not None and now_ms - history.used_ms >= FORGOTTEN_MS
    return History(1 if rested else history.failures + 1)


def recovered(history: History, now_ms: int) -> History:
    """Return the history of a link that works from now on."""
    return history if history.up_ms is not None else replace(history, up_ms=now_ms)


def usable_at(history: History) -> int | None:
    """Return when the link may be used, in milliseconds; None while it does not work."""
    if history.up_ms is None:
        return None
    return history.up_ms + min(LONGEST_MS, FIRST_MS << min(max(history.failures - 1, 0), 16))


def used(history: History, now_ms: int) -> History:
    """Return the history of a link that is in use from now on."""
    return replace(history, used_ms=now_ms)
