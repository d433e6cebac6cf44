"""Order of events: sequence numbers and timestamps (RFC 5213 section 5.5, RFC 6275 9.5.1)."""

from __future__ import annotations

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import BindingStatus, Event
from srv6dmm.model.state import Session

_SEQUENCE_SPACE = 1 << 16
_HALF = _SEQUENCE_SPACE // 2


def sequence_is_newer(sequence: int, last: int) -> bool:
    """Tell whether a sequence number follows `last`, modulo 2**16."""
    return 1 <= (sequence - last) % _SEQUENCE_SPACE < _HALF


def check_order(event: Event, session: Session | None, now_ms: int, window_ms: int) -> None:
    """Raise Refusal unless the event is newer than all accepted for the session.

    A timestamp must be greater than every accepted one (else status 157) and within the window
    around our clock (else 156); both refusals carry our clock. A sequence number must be newer
    modulo 2**16 (else 135, with the last accepted one). An event with neither is ordered by its
    arrival.
    """
    if event.timestamp_ms is not None:
        clock: dict[str, object] = {"server_time_ms": now_ms}
        last = session.timestamp_ms if session else None
        if last is not None and event.timestamp_ms <= last:
            raise Refusal(
                "timestamp-lower-than-previous",
                f"timestamp {event.timestamp_ms} is not after {last}, the last one accepted for "
                "this mobile node; a newer event overtook this one",
                binding_status=BindingStatus.TIMESTAMP_LOWER_THAN_PREVIOUS,
                extra=clock,
            )
        if abs(event.timestamp_ms - now_ms) > window_ms:
            raise Refusal(
                "timestamp-mismatch",
                f"timestamp {event.timestamp_ms} is {event.timestamp_ms - now_ms:+} ms from the "
                f"controller's clock, allowed are {window_ms} ms; synchronise the clocks",
                binding_status=BindingStatus.TIMESTAMP_MISMATCH,
                extra=clock,
            )
    if event.sequence is not None and session is not None and session.sequence is not None:
        if sequence_is_newer(event.sequence, session.sequence):
            return
        raise Refusal(
            "sequence-out-of-window",
            f"sequence {event.sequence} does not follow {session.sequence}, the last one "
            "accepted for this mobile node",
            binding_status=BindingStatus.SEQUENCE_OUT_OF_WINDOW,
            extra={"last_sequence": session.sequence},
        )
