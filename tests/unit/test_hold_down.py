"""Hold-down: a link that fails again and again is trusted later and later."""

from __future__ import annotations

from srv6dmm.core import hold_down
from srv6dmm.core.hold_down import History


def _flap(history: History, now_ms: int) -> tuple[History, int]:
    """Fail and recover at once, be used when that may be; return when."""
    history = hold_down.recovered(hold_down.failed(history, now_ms), now_ms)
    at_ms = hold_down.usable_at(history)
    assert at_ms is not None
    return hold_down.used(history, at_ms), at_ms


def test_a_link_waits_twice_as_long_after_each_failure() -> None:
    history, now = History(), 0
    waits = []
    for _ in range(9):
        history, at = _flap(history, now)
        waits.append(at - now)
        now = at + 10
    assert waits == [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_a_link_that_behaved_is_as_good_as_any() -> None:
    history, at = _flap(_flap(History(), 0)[0], 2000)
    _, soon = _flap(history, at + hold_down.FORGOTTEN_MS - 1)
    _, late = _flap(history, at + hold_down.FORGOTTEN_MS)
    assert soon - (at + hold_down.FORGOTTEN_MS - 1) == 4000
    assert late - (at + hold_down.FORGOTTEN_MS) == 1000


def test_what_does_not_work_is_not_usable() -> None:
    assert hold_down.usable_at(hold_down.failed(History(), 5)) is None


def test_a_second_word_of_recovery_changes_nothing() -> None:
    once = hold_down.recovered(hold_down.failed(History(), 0), 10)
    assert hold_down.recovered(once, 500) == once
