"""What routers' fast paths counted, as they told last. In memory only: routers tell it again."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Network

from srv6dmm.controller.clock import Clock
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.model.wire import SidTraffic, Telemetry

_LABELS = {reason.label: reason.outcome for reason in Reason}


@dataclass(frozen=True, slots=True)
class Traffic:
    """A prefix or a flow entry at one router, since the router has an entry for it."""

    router: str
    packets: int
    octets: int
    idle_ms: int
    """Since the newest packet."""


@dataclass(frozen=True, slots=True)
class _Counted:
    packets: int
    octets: int
    newest: float
    """When the newest packet came, by the controller's clock."""


SILENCE_S = 30.0
"""A fast path whose counters were not told of for so long is taken for one that does not count:
agents say every ten seconds that there is no news (agent.meter)."""


class TrafficBook:
    """The newest of every router."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted: dict[str, dict[IPv6Network | int, _Counted]] = {}
        """By router; what a prefix or (by its number) a flow entry counted."""
        self._reasons: dict[str, dict[str, int]] = {}
        self._sids: dict[str, tuple[SidTraffic, ...]] = {}
        self._told: dict[str, tuple[float, float]] = {}
        """When each router told first and last, by the controller's clock."""

    def open(self, router: str) -> None:
        """Forget what an earlier connection told: all of it will be told again."""
        self._counted.pop(router, None)
        self._reasons.pop(router, None)
        self._sids.pop(router, None)
        self._told.pop(router, None)

    def take(self, router: str, told: Telemetry) -> None:
        """Take in a router's news. Reasons this release does not know are left out."""
        now = self._clock.monotonic()
        self._told[router] = (self._told.get(router, (now, now))[0], now)
        self._reasons[router] = {
            label: count for label, count in told.reasons.items() if label in _LABELS
        }
        if told.sids is not None:
            self._sids[router] = told.sids
        counted = self._counted.setdefault(router, {})
        for prefix in told.gone:
            counted.pop(prefix, None)
        for number in told.flows_gone:
            counted.pop(number, None)
        for one in told.prefixes:
            newest = now - one.idle_ms / 1e3
            counted[one.prefix] = _Counted(one.packets, one.octets, newest)
        for flow in told.flows:
            newest = now - flow.idle_ms / 1e3
            counted[flow.number] = _Counted(flow.packets, flow.octets, newest)

    def of(self, prefix: IPv6Network) -> list[Traffic]:
        """Return what each router counted for a prefix, by name of router."""
        each = (self._at(router, prefix) for router in sorted(self._counted))
        return [found for found in each if found is not None]

    def of_flow(self, router: str, number: int) -> Traffic | None:
        """Return what a router counted for a flow entry; None: nothing, or it does not count."""
        return self._at(router, number)

    def _at(self, router: str, whose: IPv6Network | int) -> Traffic | None:
        one = self._counted.get(router, {}).get(whose)
        if one is None:
            return None
        idle_ms = max(0, round((self._clock.monotonic() - one.newest) * 1e3))
        return Traffic(router, one.packets, one.octets, idle_ms)

    def quiet_s(self, router: str, whose: IPv6Network | int) -> float | None:
        """Return for how long a router is known to have had no packet of a prefix, in seconds.

        Or of a flow entry, by its number.

        At most since its first word after it connected or changed its mode; None when it does not
        tell of its counters.
        """
        now = self._clock.monotonic()
        first, last = self._told.get(router, (now, now - SILENCE_S))
        if now - last >= SILENCE_S:
            return None
        counted = self._counted.get(router, {}).get(whose)
        return now - (first if counted is None else max(first, counted.newest))

    def reasons(self, router: str) -> dict[str, int]:
        """Return the packets of a router by reason; empty when it told of none."""
        return self._reasons.get(router, {})

    def sids(self, router: str) -> tuple[SidTraffic, ...]:
        """Return what a router's fast path counted at its SIDs; empty when it told of none."""
        return self._sids.get(router, ())


def outcome_of(reason: str) -> str:
    """Return what became of packets under a reason: `handled`, `kernel` or `dropped`."""
    return _LABELS[reason]
