"""What acts on the plan that is applied, besides the kernel: probes, so far."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.wire import FromAgent

Say = Callable[[FromAgent], None]


class Follower(Protocol):
    """Called by the worker in the event loop; must not raise."""

    def start(self, say: Say) -> None:
        """Begin in the running event loop; `say` tells the controller, if it listens."""

    def close(self) -> None:
        """Stop, also before `start`."""

    def start_over(self) -> None:
        """Say all again: whoever listens now knows nothing."""

    def full(self, entries: Collection[PlanEntry]) -> None:
        """Follow another plan, which is applied."""

    def changed(self, put: tuple[PlanEntry, ...], gone: tuple[str, ...]) -> None:
        """Follow a change of the plan, which is applied."""

    def links_changed(self) -> None:
        """Note that a core interface lost its carrier, or has one again."""
