"""/metrics: the controller's values in Prometheus form. No mobile node is ever a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from srv6dmm.controller import measure
from srv6dmm.controller.arrivals import OUTCOMES
from srv6dmm.controller.hub import RouterStatus
from srv6dmm.controller.service import Controller
from srv6dmm.controller.traffic import outcome_of
from srv6dmm.model.plan import SteeringEntry
from srv6dmm.model.state import LeaseState, RolloutPhase


class ControllerCollector(Collector):
    """Reads the controller when scraped."""

    def __init__(self, controller: Controller, commits: measure.Histogram) -> None:
        self._controller = controller
        self._commits = commits

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; docs/metrics.md describes each."""
        yield from self._mobility()
        yield from self._routers()

    def _mobility(self) -> Iterator[Metric]:
        measured = self._controller.measurements
        events = CounterMetricFamily(
            "srv6dmm_events", "Accepted events by outcome", labels=["outcome"]
        )
        for outcome, count in sorted(measured.events.items()):
            events.add_metric([outcome], count)
        yield events
        refusals = CounterMetricFamily(
            "srv6dmm_refusals", "Refused events by problem type", labels=["type"]
        )
        for kind, count in sorted(measured.refusals.items()):
            refusals.add_metric([kind], count)
        yield refusals
        yield CounterMetricFamily(
            "srv6dmm_handovers_aborted", "Roll-outs aborted", value=measured.aborts
        )
        yield CounterMetricFamily(
            "srv6dmm_rollouts_degraded",
            "Roll-outs that left a router behind for a while",
            value=measured.degraded,
        )
        detections = CounterMetricFamily(
            "srv6dmm_detections", "Arrivals told by routers, by outcome", labels=["outcome"]
        )
        for outcome in OUTCOMES:
            detections.add_metric([outcome], measured.detections[outcome])
        yield detections
        durations = HistogramMetricFamily(
            "srv6dmm_handover_duration_seconds",
            "From the event's arrival to decided, durable and applied",
            labels=["until"],
        )
        for until, histogram in sorted(measured.durations.items()):
            durations.add_metric([until], histogram.buckets(), histogram.total)
        yield durations
        yield HistogramMetricFamily(
            "srv6dmm_store_commit_seconds",
            "From an event's decision until it was durable",
            buckets=self._commits.buckets(),
            sum_value=self._commits.total,
        )
        state = self._controller.state
        sessions = GaugeMetricFamily("srv6dmm_sessions", "Sessions by phase", labels=["phase"])
        phases: dict[str, int] = {}
        steered = 0
        for session in state.sessions.values():
            phases[session.phase.value] = phases.get(session.phase.value, 0) + 1
            steered += sum(b.anchor != session.serving for b in session.bindings)
        for phase, count in sorted(phases.items()):
            sessions.add_metric([phase], count)
        yield sessions
        yield GaugeMetricFamily(
            "srv6dmm_steered_prefixes", "Prefixes served away from their anchor", value=steered
        )
        leases = GaugeMetricFamily("srv6dmm_prefixes", "Prefixes by state", labels=["state"])
        for lease_state in LeaseState:
            leases.add_metric(
                [lease_state.value],
                sum(lease.state is lease_state for lease in state.leases.values()),
            )
        yield leases
        yield GaugeMetricFamily("srv6dmm_revision", "Durable revision", value=state.revision)

    def _routers(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "srv6dmm_router_connected", "1 while the agent is connected", labels=["router"]
        )
        applied = GaugeMetricFamily(
            "srv6dmm_agent_applied_revision", "Revision acknowledged", labels=["router"]
        )
        failed = GaugeMetricFamily(
            "srv6dmm_agent_failed_entries", "Entries the kernel refuses", labels=["router"]
        )
        drift = CounterMetricFamily(
            "srv6dmm_drift_objects", "Kernel objects repaired", labels=["router"]
        )
        steering = GaugeMetricFamily(
            "srv6dmm_steering_entries", "Steering entries planned", labels=["router"]
        )
        silent = GaugeMetricFamily(
            "srv6dmm_silent_lists", "Segment lists that do not answer", labels=["router"]
        )
        lists = Counter(known.head_end for known in self._controller.state.lists_silent)
        packets = CounterMetricFamily(
            "srv6dmm_fastpath_packets",
            "Packets at the ports of the fast path, each under one reason",
            labels=["router", "reason", "outcome"],
        )
        sid_packets = CounterMetricFamily(
            "srv6dmm_sid_packets",
            "Packets that the fast path handled at a router's SIDs",
            labels=["router", "behavior"],
        )
        sid_octets = CounterMetricFamily(
            "srv6dmm_sid_bytes",
            "Bytes of these packets, outer headers included",
            labels=["router", "behavior"],
        )
        for status in self._controller.routers():
            for behavior, counted in _by_behavior(status).items():
                sid_packets.add_metric([status.name, behavior], counted[0])
                sid_octets.add_metric([status.name, behavior], counted[1])
            for reason, count in sorted(status.fast_path.items()):
                packets.add_metric([status.name, reason, outcome_of(reason)], count)
            connected.add_metric([status.name], float(status.connected))
            if status.applied is not None:
                applied.add_metric([status.name], status.applied)
            failed.add_metric([status.name], len(status.failures))
            drift.add_metric([status.name], status.drift)
            silent.add_metric([status.name], lists[status.name])
        for router, count in sorted(self._steering_entries().items()):
            steering.add_metric([router], count)
        yield from (connected, applied, failed, drift, steering, silent)
        yield from (packets, sid_packets, sid_octets)

    def _steering_entries(self) -> dict[str, int]:
        """Return the planned steering entries of every head-end.

        Planning every session would stop the controller for seconds in a large domain. Of a
        stable session each prefix away from its anchor is steered by every head-end but the
        serving one, so counting is enough; sessions on the move are few and are planned.
        """
        head_ends = [node.name for node in self._controller.topology.head_ends()]
        planner = self._controller.planner
        away: dict[str, int] = {}
        moving: dict[str, int] = {}
        for session in self._controller.state.sessions.values():
            if session.rollout is RolloutPhase.STABLE:
                steered = sum(b.anchor != session.serving for b in session.bindings)
                away[session.serving] = away.get(session.serving, 0) + steered
                continue
            for router, entries in planner.session_entries(session).items():
                found = sum(isinstance(entry, SteeringEntry) for entry in entries)
                moving[router] = moving.get(router, 0) + found
        total = sum(away.values())
        return {name: total - away.get(name, 0) + moving.get(name, 0) for name in head_ends}


def _by_behavior(status: RouterStatus) -> dict[str, tuple[int, int]]:
    """Return (packets, bytes) by behavior: a label for each SID would be one for each link."""
    found: dict[str, tuple[int, int]] = {}
    for one in status.sids:
        packets, octets = found.get(one.behavior.value, (0, 0))
        found[one.behavior.value] = packets + one.packets, octets + one.octets
    return found


class Metrics:
    """One controller's metrics, in a registry of their own."""

    def __init__(self, controller: Controller) -> None:
        self._commits = measure.Histogram()
        self._registry = CollectorRegistry()
        self._registry.register(ControllerCollector(controller, self._commits))

    def committed(self, timings: measure.Timings) -> None:
        """Note how long a new event took to become durable."""
        self._commits.observe((timings.durable_ms - timings.decided_ms) / 1e3)

    def text(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self._registry)
