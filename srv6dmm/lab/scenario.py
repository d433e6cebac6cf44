"""Moves of mobile nodes: what the radio does, and when the network is told."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from srv6dmm.dataplane import namespace
from srv6dmm.lab.domain import LabDomain
from srv6dmm.lab.names import RADIO, LabError
from srv6dmm.model.events import HandoffIndicator

if TYPE_CHECKING:
    import httpx

ADDRESS_S = 10.0
HOLD_S = 0.3
"""How long a soft hand-over keeps the old cell's downlink after all routers have switched."""
_LOOK_S = 0.02
_TENTATIVE, _DEPRECATED, _FAILED, _OPTIMISTIC = 0x40, 0x20, 0x08, 0x04
_GLOBAL_SCOPE = 0x00


class Refused(LabError):
    """The controller answered no: the node is served where it was."""


@dataclass(frozen=True, slots=True)
class HostAddress:
    """An address of a host, as its kernel has it."""

    address: IPv6Address
    prefix_length: int
    tentative: bool
    deprecated: bool
    """Its preferred lifetime is over: valid for old flows, not taken for new ones."""

    @property
    def usable(self) -> bool:
        """Whether new flows may take it (RFC 4862 section 5.5.4)."""
        return not self.tentative and not self.deprecated


@dataclass(frozen=True, slots=True)
class Move:
    """One hand-over (or first attach). Times are CLOCK_MONOTONIC nanoseconds."""

    mobile_node: str
    source: str | None
    target: str
    radio: str
    """"soft", "hard" or "first"."""
    start_ns: int
    """Before the radio changed anything."""
    event_ns: int
    """The attach event was sent."""
    answered_ns: int
    """The answer was there."""
    end_ns: int
    """After the radio's last change."""
    answer: Mapping[str, Any]
    """The API's answer: outcome, epoch, prefixes, timings ..."""


class Scenario:
    """Moves the mobile nodes of a running lab. Different nodes may move in parallel threads."""

    def __init__(self, domain: LabDomain) -> None:
        self.domain = domain
        self.lab = domain.lab
        self.radio = domain.lab.radio
        # The library is imported here, so that the first event's time is not that of the import.
        self._client = domain.client

    def attach(
        self,
        mobile_node: str,
        access_router: str,
        wait: str = "applied",
        *,
        handoff: HandoffIndicator = HandoffIndicator.UNKNOWN,
        event_id: str | None = None,
    ) -> dict[str, Any]:
        """Tell the controller that a node appeared at a router; return the answer.

        Raises Refused, or LabError when it is not applied in time with wait="applied".
        """
        body = {
            "event_id": event_id or uuid.uuid4().hex,
            "mobile_node": mobile_node,
            "access_router": access_router,
            "link_layer_address": self._mac(mobile_node),
            "handoff_indicator": int(handoff),
        }
        answer = self._post("/v1/attach", body, wait)
        if wait == "applied" and answer.get("applied") is not True:
            raise LabError(
                f"{mobile_node} at {access_router}: not applied in time; "
                f"still waited for: {answer.get('pending')}"
            )
        return answer

    def detach(self, mobile_node: str, access_router: str, wait: str = "durable") -> dict[str, Any]:
        """Tell the controller that a node left a router; the radio is not touched."""
        body = {
            "event_id": uuid.uuid4().hex,
            "mobile_node": mobile_node,
            "access_router": access_router,
        }
        return self._post("/v1/detach", body, wait)

    def first_attach(self, mobile_node: str, access_router: str) -> Move:
        """Bring a node that is nowhere onto the air at a router, and attach it."""
        start = time.monotonic_ns()
        self.radio.associate(mobile_node, access_router)
        event = time.monotonic_ns()
        answer = self.attach(mobile_node, access_router)
        now = time.monotonic_ns()
        return Move(mobile_node, None, access_router, "first", start, event, now, now, answer)

    def soft_handover(self, mobile_node: str, access_router: str, hold_s: float = HOLD_S) -> Move:
        """Move a node that can hear two cells at once.

        It hears the new cell too; the network is told; when every router has acknowledged, its
        uplink goes to the new cell; the old cell is let go after `hold_s`. When it is refused,
        the new cell is let go. Raises as `attach` does.
        """
        source = self._source(mobile_node)
        before = self.radio.where(mobile_node).downlink
        start = time.monotonic_ns()
        self.radio.listen(mobile_node, before | {access_router})
        event = time.monotonic_ns()
        try:
            answer = self.attach(
                mobile_node, access_router, handoff=HandoffIndicator.BETWEEN_ROUTERS
            )
        except Refused:
            self.radio.listen(mobile_node, before)
            raise
        answered = time.monotonic_ns()
        self.radio.uplink(mobile_node, access_router)
        time.sleep(hold_s)
        self.radio.listen(mobile_node, {access_router})
        return Move(
            mobile_node,
            source,
            access_router,
            "soft",
            start,
            event,
            answered,
            time.monotonic_ns(),
            answer,
        )

    def hard_handover(self, mobile_node: str, access_router: str, gap_ms: float = 0) -> Move:
        """Move a node that loses its old cell before it has the new one.

        For `gap_ms` it has no radio at all. Then it is in the new cell, both ways, and the
        network is told.
        """
        source = self._source(mobile_node)
        start = time.monotonic_ns()
        self.radio.detach(mobile_node)
        time.sleep(gap_ms / 1000)
        self.radio.associate(mobile_node, access_router)
        event = time.monotonic_ns()
        answer = self.attach(mobile_node, access_router, handoff=HandoffIndicator.BETWEEN_ROUTERS)
        answered = time.monotonic_ns()
        return Move(
            mobile_node,
            source,
            access_router,
            "hard",
            start,
            event,
            answered,
            time.monotonic_ns(),
            answer,
        )

    def addresses(self, mobile_node: str) -> list[HostAddress]:
        """Return the global addresses a mobile node has now."""
        return host_addresses(self.lab.namespace(mobile_node), RADIO)

    def wait_address(
        self,
        mobile_node: str,
        timeout_s: float = ADDRESS_S,
        *,
        prefix: str | None = None,
    ) -> IPv6Address:
        """Wait until a mobile node can open flows: an address from an RA, past its check.

        With `prefix` (a /64 in text, as the API's answer has it) one of that prefix.
        """
        from ipaddress import IPv6Network

        wanted = IPv6Network(prefix) if prefix else None
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.addresses(mobile_node)
            for candidate in found:
                if candidate.usable and (wanted is None or candidate.address in wanted):
                    return candidate.address
            if time.monotonic() > deadline:
                raise LabError(
                    f"{mobile_node} has no usable address{f' of {prefix}' if prefix else ''} after "
                    f"{timeout_s:g} s; it has {[str(entry.address) for entry in found]}"
                )
            time.sleep(_LOOK_S)

    def _post(self, path: str, body: Mapping[str, object], wait: str) -> dict[str, Any]:
        import httpx

        try:
            answer = self._client.post(path, json=body, params={"wait": wait})
        except httpx.TransportError as error:
            raise LabError(
                f"controller: no answer to POST {path}: {error}; "
                "`srv6dmm lab status` tells whether it runs"
            ) from error
        if not answer.is_success:
            raise Refused(f"controller: POST {path}: {answer.status_code} {_problem(answer)}")
        found: dict[str, Any] = answer.json()
        return found

    def _mac(self, mobile_node: str) -> str:
        node = self.lab.topology.nodes.get(mobile_node)
        if node is None or node.mac is None:
            raise LabError(f"no mobile node {mobile_node!r} in this lab")
        return node.mac

    def _source(self, mobile_node: str) -> str:
        uplink = self.radio.where(mobile_node).uplink
        if uplink is None:
            raise LabError(f"{mobile_node} is in no cell; attach it first")
        return uplink


def _problem(answer: httpx.Response) -> str:
    """Return what an error says to people; all of it when it is no problem document."""
    try:
        problem = answer.json()
        return f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return answer.text


def host_addresses(network_namespace: str, interface: str) -> list[HostAddress]:
    """Return the global addresses of one interface in a namespace."""
    with namespace.inside(network_namespace), open("/proc/thread-self/net/if_inet6") as file:
        text = file.read()
    return parse_if_inet6(text, interface)


def parse_if_inet6(text: str, interface: str) -> list[HostAddress]:
    """Return the global addresses of one interface in the text of /proc/net/if_inet6.

    Addresses whose check found a duplicate are left out.
    """
    found = []
    for line in text.splitlines():
        address, _, length, scope, flags, name = line.split()
        bits = int(flags, 16)
        if name != interface or int(scope, 16) != _GLOBAL_SCOPE or bits & _FAILED:
            continue
        found.append(
            HostAddress(
                IPv6Address(bytes.fromhex(address)),
                int(length, 16),
                tentative=bool(bits & _TENTATIVE) and not bits & _OPTIMISTIC,
                deprecated=bool(bits & _DEPRECATED),
            )
        )
    return found
