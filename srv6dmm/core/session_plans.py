"""What one session puts on each head-end, in every phase of its roll-out."""

from __future__ import annotations

from collections.abc import Iterator

from srv6dmm.core.flow_book import FlowBook
from srv6dmm.core.flow_plans import FlowPlans
from srv6dmm.core.mobility import preferred_binding
from srv6dmm.core.paths import NoPath, ShortestPaths
from srv6dmm.core.policy_paths import Choice, PolicyPaths
from srv6dmm.model.addresses import link_local_from_mac
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import (
    AdvertisedPrefix,
    Advertisement,
    Delivery,
    DropEntry,
    FlowSteering,
    PlanEntry,
    SteeringEntry,
    UplinkBinding,
)
from srv6dmm.model.state import Binding, RolloutPhase, Session, SessionPhase
from srv6dmm.model.topology import Node, Topology

DEFAULT_MTU = 1500

_BEFORE_REDIRECT = (RolloutPhase.PREPARE, RolloutPhase.SWITCH)


def steering_target(session: Session) -> str:
    """Return the router that head-ends are told in the session's present phase."""
    if session.rollout is RolloutPhase.PREPARE and session.via is not None:
        return session.via
    return session.serving


class SessionPlans:
    """Entries of sessions on one topology, as its links are now."""

    def __init__(
        self,
        topology: Topology,
        parameters: MobilityParameters,
        paths: ShortestPaths,
        choices: PolicyPaths,
    ) -> None:
        self._topology = topology
        self._parameters = parameters
        self.choices = choices
        self.flows = FlowPlans(topology, paths, choices)
        self._link_mtu = {
            (end.node, end.interface): link.mtu for link in topology.links for end in link.ends()
        }
        self._inner_mtu = topology.inner_mtu()

    def entries(self, router: str, session: Session, book: FlowBook) -> Iterator[PlanEntry]:
        """Yield what a session puts on a router, its flow entries by the rules of a book."""
        node = self._topology.nodes.get(router)
        if node is None or not node.is_head_end:
            return
        for binding in session.bindings:
            entry = self._mobile_entry(node, session, binding)
            if entry is not None:
                yield entry
            if node.name == session.via and session.rollout is RolloutPhase.REDIRECT:
                yield self._uplink(node, session, binding)
        yield from self.flow_entries(router, session, book)
        yield from self._advertisements(node, session)

    def _advertisements(self, node: Node, session: Session) -> Iterator[Advertisement]:
        """Yield the RA of the serving router once head-ends have switched.

        Until then the router used before goes on with the RA it sends: it is told of the change
        when it is told to redirect, and not twice.
        """
        if session.rollout not in _BEFORE_REDIRECT:
            if node.name == session.serving and session.phase is SessionPhase.ACTIVE:
                yield self._advertisement(node, session)
        elif session.fallback is not None and node.name == session.via:
            yield from self._advertisements(node, session.fallback)

    def _mobile_entry(
        self, node: Node, session: Session, binding: Binding
    ) -> Delivery | SteeringEntry | DropEntry | None:
        """Return what a head-end does with a mobile prefix in the present phase.

        The serving router delivers. Until head-ends have switched, so does the router they used
        before; everybody else, routers of still earlier epochs too, steers to where the phase
        says. Whoever steers to the anchor needs no entry: plain routing leads there.
        """
        if node.name == session.serving:
            if session.phase is SessionPhase.DETACH_WAIT:
                return DropEntry(binding.prefix, session.mobile_node, session.epoch)
            return self._delivery(node, session, binding)
        target = steering_target(session)
        if node.name == session.via and session.rollout in _BEFORE_REDIRECT:
            return self._delivery(node, session, binding)
        if target == binding.anchor:
            return None
        return self.steering(node.name, session, binding, target)

    def steering(
        self, head_end: str, session: Session, binding: Binding, target: str
    ) -> SteeringEntry | None:
        """Return the entry of a head-end that sends a mobile prefix on; None: nowhere."""
        try:
            way = self.way(head_end, target)
        except NoPath:
            return None  # plain routing has none either, and says so
        first = way.lists[0]
        return SteeringEntry(
            prefix=binding.prefix,
            segments=first.segments,
            mode=self._topology.domain.encap_mode,
            interface=first.interface,
            next_hop=first.next_hop,
            mtu=first.mtu,
            mobile_node=session.mobile_node,
            epoch=session.epoch,
            backup=way.backup,
            return_segments=first.return_segments,
        )

    def way(self, head_end: str, target: str) -> Choice:
        """Return how packets are steered that no rule says anything else of. Raises NoPath."""
        way = self.choices.shortest(head_end, target)
        if not way.lists:
            raise NoPath(f"no path from {head_end!r} to {target!r}")
        return way

    def flow_entries(self, router: str, session: Session, book: FlowBook) -> Iterator[FlowSteering]:
        """Yield what a session's rules put on a head-end in the present phase.

        Who delivers takes in uplink packets, in the phases before a hand-over's end both routers
        do, and the one that is left until its late packets are through.
        """
        node = self._topology.nodes[router]
        if session.phase is SessionPhase.DETACH_WAIT or session.unruled:
            return
        if not book.rules(session.mobile_node):
            return
        target = steering_target(session)
        delivers = router == session.serving or (
            router == session.via and session.rollout in _BEFORE_REDIRECT
        )
        for binding in session.bindings:
            if router in (session.serving, session.via):
                yield from self.flows.uplink(node, session, binding, book)
            if not delivers and router != target:
                yield from self.flows.downlink(node, session, binding, target, book)

    def _uplink(self, node: Node, session: Session, binding: Binding) -> UplinkBinding:
        """Return the entry by which what the node sent just before it left is let in."""
        return UplinkBinding(
            prefix=binding.prefix,
            interface=node.access_interface or "",
            link_layer_address=session.link_layer_address,
            mobile_node=session.mobile_node,
        )

    def _delivery(self, node: Node, session: Session, binding: Binding) -> Delivery:
        if node.access_interface is None:
            raise ValueError(f"{node.name} has no access interface to deliver on")
        return Delivery(
            prefix=binding.prefix,
            interface=node.access_interface,
            link_layer_address=session.link_layer_address,
            link_local=link_local_from_mac(session.link_layer_address),
            mtu=self._link_mtu.get((node.name, node.access_interface), DEFAULT_MTU),
            mobile_node=session.mobile_node,
            epoch=session.epoch,
        )

    def _advertisement(self, node: Node, session: Session) -> Advertisement:
        preferred = preferred_binding(session)
        valid_s = self._parameters.valid_lifetime_s
        return Advertisement(
            mobile_node=session.mobile_node,
            node_interface=session.interface,
            interface=node.access_interface or "",
            link_layer_address=session.link_layer_address,
            link_local=link_local_from_mac(session.link_layer_address),
            prefixes=tuple(
                AdvertisedPrefix(
                    binding.prefix,
                    valid_s,
                    min(self._parameters.preferred_lifetime_s, valid_s)
                    if binding is preferred
                    else 0,
                )
                for binding in session.bindings
            ),
            mtu=self._inner_mtu,
            router_lifetime_s=self._parameters.router_lifetime_s,
            epoch=session.epoch,
        )
