"""Arrivals that routers detect: which node it is, whether that is news, and the attach event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from srv6dmm.config import DetectionSettings
from srv6dmm.controller.clock import Clock
from srv6dmm.controller.feed import Feed
from srv6dmm.model.addresses import as_text, parse_mac
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent
from srv6dmm.model.state import RolloutPhase, SessionKey, SessionPhase, State
from srv6dmm.model.wire import Detected

log = structlog.get_logger()

OUTCOMES = ("attached", "served", "late", "unknown", "refused")
"""Became an event; the node is served there; sent before it moved on; nobody knows; was refused."""
DEFAULT_INTERFACE = "0"


class Arrivals:
    """Turns detections into attach events. A node that is served where it was seen is no news."""

    def __init__(
        self,
        settings: DetectionSettings,
        clock: Clock,
        renew_ms: int,
        state: Callable[[], State],
        submit: Callable[[AttachEvent], Awaitable[object]],
        counts: Counter[str],
        feed: Feed,
    ) -> None:
        """`renew_ms`: a served node is registered anew when it has no more time left than that.

        Every detection counts under one of OUTCOMES; what is unknown or refused is on the feed.
        """
        self._settings = settings
        self._clock = clock
        self._renew_ms = renew_ms
        self._state = state
        self._submit = submit
        self._counts = counts
        self._feed = feed
        self._under_way: set[tuple[str, SessionKey]] = set()

    async def take(self, router: str, seen: Detected) -> None:
        """Do what a detection calls for."""
        key = self._node(seen.link_layer_address)
        if key is None:
            self._note("unknown", router, seen, "unknown-mobile-node")
        elif (router, key) in self._under_way:
            self._counts["served"] += 1  # RS, NS and data come within milliseconds of each other
        elif (known := self._known(router, key, seen)) is not None:
            self._counts[known] += 1
        else:
            self._under_way.add((router, key))
            try:
                await self._submit(self._event(router, key, seen))
            except Refusal as refusal:
                log.warning("arrival.refused", mobile_node=key[0], reason=str(refusal))
                self._note("refused", router, seen, refusal.type)
            else:
                self._counts["attached"] += 1
            finally:
                self._under_way.discard((router, key))

    def _note(self, outcome: str, router: str, seen: Detected, reason: str) -> None:
        self._counts[outcome] += 1
        self._feed.add(
            "detected",
            self._clock.now_ms(),
            router=router,
            sent=seen.kind,
            link_layer_address=seen.link_layer_address,
            address=as_text(seen.address),
            reason=reason,
        )

    def _node(self, mac: str) -> SessionKey | None:
        try:
            mac = parse_mac(mac)
        except ValueError:
            return None
        name = self._settings.nodes.get(mac)
        if name is None and self._settings.enrol is not None:
            name = self._settings.enrol.replace("{mac}", mac.replace(":", ""))
        if name is None:
            return None
        node, _, interface = name.partition("/")
        return node, interface or DEFAULT_INTERFACE

    def _known(self, router: str, key: SessionKey, seen: Detected) -> str | None:
        """Return why a detection is no news; None when it is."""
        session = self._state().sessions.get(key)
        if session is None:
            return None
        if session.serving == router:
            lasting = session.expires_ms - self._clock.now_ms() > self._renew_ms
            active = session.phase is SessionPhase.ACTIVE
            same = session.link_layer_address == parse_mac(seen.link_layer_address)
            return "served" if lasting and active and same else None
        # While it moves, a node may still send by way of the router it leaves: data, and the check
        # of an address that the new router gave it. A solicitation is that of a new link.
        moving = session.rollout is not RolloutPhase.STABLE
        left = router in session.previous and seen.kind != "solicitation"
        return "late" if moving and left else None

    def _event(self, router: str, key: SessionKey, seen: Detected) -> AttachEvent:
        """Return the attach event. It has a timestamp, ours, where the session's events have."""
        node, interface = key
        mac = parse_mac(seen.link_layer_address)
        session = self._state().sessions.get(key)
        stamped = session is not None and session.timestamp_ms is not None
        # Router, node and time name the event: the same word twice is one event.
        return AttachEvent(
            event_id=f"nd-{router[:80]}-{mac.replace(':', '')}-{seen.at_ms}",
            mobile_node=node,
            access_router=router,
            link_layer_address=mac,
            interface=interface,
            timestamp_ms=self._clock.now_ms() if stamped else None,
        )
