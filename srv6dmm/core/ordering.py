"""Order of events: sequence numbers and timestamps (RFC 5213 section 5.5, RFC 6275 9.5.1).

What orders a session's events is what its accepted ones carried: timestamps, else sequence numbers,
else nothing, which is the order of arrival. From then on every event that would move it has to
carry that. An event with both counts by its timestamp.
"""

from __future__ import annotations

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import BindingStatus, Event
from srv6dmm.model.state import Session

_SEQUENCE_SPACE = 1 << 16
_HALF = _SEQUENCE_SPACE // 2


def sequence_is_newer(sequence: int, last: int) -> bool:
    """Tell whether a sequence number follows `last`, modulo 2**16."""
    return 1 <= (sequence - last) % _SEQUENCE_SPACE < _HALF


def check_order(
    event: Event, session: Session | None, newest_ms: int | None, now_ms: int, window_ms: int
) -> None:
    """Raise Refusal unless the event is newer than all accepted ones.

    `newest_ms` is the greatest timestamp accepted for the mobile node, on whatever interface. A
    timestamp must be greater (else status 157) and within the window around our clock (else 156);
    both refusals carry our clock. A sequence number must be newer modulo 2**16 (else 135, with the
    last accepted one). An event without what orders the session is refused as `order-missing`.
    """
    by_time = session is not None and session.timestamp_ms is not None
    last = session.sequence if session is not None and not by_time else None
    if event.timestamp_ms is not None:
        _check_timestamp(event.timestamp_ms, newest_ms, now_ms, window_ms)
    elif by_time:
        raise Refusal(
            "order-missing",
            f"the events of {event.mobile_node} are ordered by timestamps, and this one has none; "
            "send it with one",
            binding_status=BindingStatus.TIMESTAMP_MISMATCH,
            extra={"order": "timestamp", "server_time_ms": now_ms},
        )
    if last is None:
        return
    if event.sequence is None:
        raise Refusal(
            "order-missing",
            f"the events of {event.mobile_node} are ordered by sequence numbers, and this one has "
            f"none; send it with one after {last}",
            binding_status=BindingStatus.SEQUENCE_OUT_OF_WINDOW,
            extra={"order": "sequence", "last_sequence": last},
        )
    if not sequence_is_newer(event.sequence, last):
        raise Refusal(
            "sequence-out-of-window",
            f"sequence {event.sequence} does not follow {last}, the last one accepted for this "
            "mobile node",
            binding_status=BindingStatus.SEQUENCE_OUT_OF_WINDOW,
            extra={"last_sequence": last},
        )


def _check_timestamp(timestamp_ms: int, newest_ms: int | None, now_ms: int, window_ms: int) -> None:
    clock: dict[str, object] = {"server_time_ms": now_ms}
    if newest_ms is not None and timestamp_ms <= newest_ms:
        raise Refusal(
            "timestamp-lower-than-previous",
            f"timestamp {timestamp_ms} is not after {newest_ms}, the last one accepted for this "
            "mobile node; a newer event overtook this one",
            binding_status=BindingStatus.TIMESTAMP_LOWER_THAN_PREVIOUS,
            extra=clock,
        )
    if abs(timestamp_ms - now_ms) > window_ms:
        raise Refusal(
            "timestamp-mismatch",
            f"timestamp {timestamp_ms} is {timestamp_ms - now_ms:+} ms from the controller's "
            f"clock, allowed are {window_ms} ms; synchronise the clocks",
            binding_status=BindingStatus.TIMESTAMP_MISMATCH,
            extra=clock,
        )


def order_of(event: Event) -> tuple[int | None, int | None]:
    """Return (timestamp, sequence) that a new session is ordered by after the event."""
    if event.timestamp_ms is not None:
        return event.timestamp_ms, None
    return None, event.sequence
