"""Release of drained prefixes: when no router has counted a packet for long enough.

A prefix is released only on evidence: every router that holds an entry for it has a fast path, has
acknowledged the newest change, and has gone on telling what it counts. Time that nobody counted in
(a router in mode `netlink`, an agent away, a controller that was down) is no idle time: it begins
anew after it. All of this is in memory only; forgetting it makes a release late, never early.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv6Network

from srv6dmm.controller.clock import Clock
from srv6dmm.controller.feed import Feed
from srv6dmm.controller.hub import Hub
from srv6dmm.controller.timers import Timers
from srv6dmm.controller.turns import Turns
from srv6dmm.core.planner import Planner
from srv6dmm.core.release import idle_release_ms, releasable, release
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import FlowSteering, PlanEntry, SteeringEntry, mobile_key
from srv6dmm.model.sid import EncapMode
from srv6dmm.model.state import Change, Session, SessionKey, State

MOST_PREFIXES = 32_768
"""Beyond so many in the domain nothing is released: a router has 65,536 counters, for paths and
SIDs too, and what has none would seem idle."""
LOOK_AGAIN_MS = 1000
"""At least so long between two looks at a session."""

IDLE = "idle"
"""Kind of the timers that `look` is called for."""


@dataclass(frozen=True, slots=True)
class _Changed:
    """When the routes of a session changed last, by the monotonic clock and as a revision."""

    at: float
    revision: int


class Releases:
    """Follows the sessions that have prefixes to give back."""

    def __init__(
        self,
        planner: Planner,
        hub: Hub,
        timers: Timers,
        turns: Turns,
        clock: Clock,
        feed: Feed,
        parameters: MobilityParameters,
        newest: Callable[[], State],
        commit: Callable[[Change], Awaitable[bool]],
    ) -> None:
        """`newest` is what decisions build on; `commit` tells whether the store took a change."""
        self._planner = planner
        self._hub = hub
        self._timers = timers
        self._turns = turns
        self._clock = clock
        self._feed = feed
        self._parameters = parameters
        self._newest = newest
        self._commit = commit
        self._wait_ms = idle_release_ms(parameters)
        self._changed: dict[SessionKey, _Changed] = {}

    def begin(self, state: State) -> None:
        """Follow what was loaded; its idle time begins now."""
        for session in state.sessions.values():
            self.follow(None, session, state.revision)

    def follow(self, before: Session | None, session: Session, revision: int) -> None:
        """Take in a session as it is since `revision`; idle time begins when its routes change."""
        if self._wait_ms is None or not releasable(session):
            self._changed.pop(session.key, None)
            return
        if (
            session.key not in self._changed
            or before is None
            or (before.epoch, before.rollout, before.phase)
            != (session.epoch, session.rollout, session.phase)
        ):
            self._changed[session.key] = _Changed(self._clock.monotonic(), revision)
        self._again(session.key, self._wait_ms)

    def gone(self, key: SessionKey) -> None:
        """Forget a session that exists no more."""
        self._changed.pop(key, None)

    async def look(self, key: SessionKey) -> None:
        """Release what of a session is idle for long enough, and look at the rest in time."""
        if self._wait_ms is None or key not in self._changed:
            return
        async with self._turns.of(key[0]):
            session = self._newest().sessions.get(key)
            if session is None or key not in self._changed:
                return
            left_ms: list[int] = []
            for binding in releasable(session):
                idle_ms = self._idle_ms(session, binding.prefix)
                if idle_ms is None:
                    left_ms.append(self._wait_ms)
                elif idle_ms < self._wait_ms or not await self._release(key, binding.prefix):
                    left_ms.append(self._wait_ms - idle_ms)
            if left_ms:
                self._again(key, min(left_ms))

    async def _release(self, key: SessionKey, prefix: IPv6Network) -> bool:
        state = self._newest()
        now_ms = self._clock.now_ms()
        session = state.sessions[key]
        change = release(state, session, prefix, now_ms, self._parameters)
        if not change or not await self._commit(change):
            return False
        self._feed.add(
            "prefix-released",
            self._clock.now_ms(),
            mobile_node=session.mobile_node,
            interface=session.interface,
            prefix=str(prefix),
        )
        return True

    def _idle_ms(self, session: Session, prefix: IPv6Network) -> int | None:
        """Return for how long nobody had a packet of a prefix; None when that is not known."""
        if len(self._newest().leases) > MOST_PREFIXES:
            return None
        changed = self._changed[session.key]
        idle_s = self._clock.monotonic() - changed.at
        for router, entries in self._planner.session_entries(session).items():
            for entry in entries:
                if isinstance(entry, FlowSteering) and entry.own_prefix.subnet_of(prefix):
                    # Its packets, also those from the prefix, are counted as the flow's.
                    quiet_s = self._quiet_s(router, entry, entry.number, changed.revision)
                elif entry.key == mobile_key(prefix):
                    quiet_s = self._quiet_s(router, entry, prefix, changed.revision)
                else:
                    continue
                if quiet_s is None:
                    return None
                idle_s = min(idle_s, quiet_s)
        return int(idle_s * 1e3)

    def _quiet_s(
        self, router: str, entry: PlanEntry, whose: IPv6Network | int, revision: int
    ) -> float | None:
        if isinstance(entry, SteeringEntry) and entry.mode is EncapMode.INLINE:
            return None  # the kernel's routes alone do that, and do not count
        hub = self._hub
        if (
            hub.mode(router) != "ebpf"
            or not hub.settled(router, revision)
            or hub.failure(router, frozenset({entry.key})) is not None
        ):
            return None
        return hub.traffic.quiet_s(router, whose)

    def _again(self, key: SessionKey, in_ms: int) -> None:
        self._timers.add([(self._clock.now_ms() + max(LOOK_AGAIN_MS, in_ms), (IDLE, key))])
