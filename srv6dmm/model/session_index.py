"""Where sessions are found by other things than their key: derived from them, never kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srv6dmm.model.state import Session, SessionKey

_Places = dict[str, dict["SessionKey", None]]


class SessionIndex:
    """Keys of sessions by mobile node and by link-layer address, oldest first."""

    def __init__(self, sessions: Iterable[Session]) -> None:
        self._of_node: _Places = {}
        self._of_mac: _Places = {}
        for session in sessions:
            self.change(None, session)

    def change(self, before: Session | None, after: Session | None) -> None:
        """Take in that a session is new, has changed, or is gone."""
        if before is None or after is None:
            session = after or before
            if session is not None:
                _note(self._of_node, session.mobile_node, session.key, after is not None)
        old = before.link_layer_address if before is not None else None
        new = after.link_layer_address if after is not None else None
        if old == new:
            return
        if before is not None:
            _note(self._of_mac, before.link_layer_address, before.key, False)
        if after is not None:
            _note(self._of_mac, after.link_layer_address, after.key, True)

    def of_node(self, mobile_node: str) -> tuple[SessionKey, ...]:
        """Return the keys of a mobile node's sessions."""
        return tuple(self._of_node.get(mobile_node, ()))

    def of_mac(self, link_layer_address: str) -> tuple[SessionKey, ...]:
        """Return the keys of the sessions that have a link-layer address."""
        return tuple(self._of_mac.get(link_layer_address, ()))


def _note(places: _Places, place: str, key: SessionKey, there: bool) -> None:
    if there:
        places.setdefault(place, {})[key] = None
        return
    keys = places.get(place, {})
    keys.pop(key, None)
    if not keys:
        places.pop(place, None)
