"""Tickets: what callers of events wait on, and how they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from srv6dmm.controller.clock import Clock
from srv6dmm.controller.measure import Timings
from srv6dmm.model.errors import Refusal, Srv6dmmError


@dataclass(eq=False)
class Incomplete(Srv6dmmError):
    """What a caller is told when routers refused, or were silent for too long: the roll-out went
    on without them, and waits for them."""

    pending: tuple[str, ...]

    def __str__(self) -> str:
        return f"not applied at {', '.join(self.pending)}"


@dataclass(slots=True)
class Ticket:
    """What the caller of an event waits on, through all stages of its epoch.

    `applied` has the Refusal that ended the roll-out, or Incomplete, where it has no result.
    """

    event_id: str
    epoch: int
    clock: Clock
    started: float
    """By the monotonic clock, seconds."""
    timings: Timings
    applied: asyncio.Future[Timings]

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the event came, to the microsecond."""
        return round((self.clock.monotonic() - self.started) * 1e3, 3)


def finish(ticket: Ticket) -> None:
    """Tell whoever waits that every stage was acknowledged."""
    if not ticket.applied.done():
        ticket.timings.applied_ms = ticket.elapsed_ms()
        ticket.applied.set_result(ticket.timings)


def tell(ticket: Ticket, error: Refusal | Incomplete) -> None:
    """Tell whoever waits why that is not so."""
    if not ticket.applied.done():
        ticket.applied.set_exception(error)
        ticket.applied.exception()  # a caller that does not wait is no error


def copy_result(
    target: asyncio.Future[Timings],
) -> Callable[[asyncio.Future[Timings]], None]:
    """Return a callback that hands what one future comes to on to another."""

    def copy(source: asyncio.Future[Timings]) -> None:
        if target.done():
            return
        if source.cancelled():
            target.cancel()
            return
        error = source.exception()
        if error is not None:
            target.set_exception(error)
            target.exception()
        else:
            target.set_result(source.result())

    return copy
