"""The route that explains where a packet goes, and why."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from srv6dmm import codec
from srv6dmm.controller.service import Controller
from srv6dmm.core.explain import Explanation, ListMeaning, Question
from srv6dmm.core.fib_walk import Walk
from srv6dmm.core.policy_paths import CandidateChoice
from srv6dmm.model.errors import Refusal
from srv6dmm.model.flows import Direction
from srv6dmm_api import auth, explain_shapes, schemas
from srv6dmm_api.callers import Caller
from srv6dmm_api.documents import Json, answers, problems

Port = Annotated[int | None, Query(ge=0, le=65535, examples=[443])]
OptionalName = Annotated[str | None, Query(pattern=schemas.IDENTIFIER, max_length=128)]
NO_NEXT_HEADER = 59


def explain_routes(controller: Controller) -> APIRouter:
    """Return the route of explanations."""
    router = APIRouter(tags=["paths"])

    @router.get(
        "/v1/paths/explain",
        responses={
            **answers(explain_shapes.ExplanationShape, "Why, and where."),
            **problems(401, 403, 404, 422, path="/v1/paths/explain"),
        },
        response_class=Json,
    )
    async def explain(
        caller: Caller,
        mobile_node: Annotated[
            str,
            Query(alias="mn", pattern=schemas.IDENTIFIER, max_length=128, examples=["mn1"]),
        ],
        peer: Annotated[
            str,
            Query(
                alias="dst",
                max_length=45,
                description="The other end's address; with direction=downlink, the sender's.",
                examples=["2001:db8:cafe::2"],
            ),
        ],
        direction: Annotated[Literal["uplink", "downlink"], Query(examples=["uplink"])] = "uplink",
        protocol: Annotated[int, Query(alias="proto", ge=0, le=255, examples=[6])] = NO_NEXT_HEADER,
        source_port: Annotated[Port, Query(alias="sport")] = None,
        destination_port: Annotated[Port, Query(alias="dport")] = None,
        dscp: Annotated[int, Query(ge=0, le=63, examples=[46])] = 0,
        interface: Annotated[OptionalName, Query(examples=["0"])] = None,
        address: Annotated[
            str | None,
            Query(
                max_length=45,
                description="The node's own; default: preferred.",
                examples=["2001:db8:a1::7"],
            ),
        ] = None,
        head_end: Annotated[OptionalName, Query(examples=["br1"])] = None,
    ) -> Response:
        """Explain where a packet of a mobile node goes: rules, policy, header, hops. Scope read.

        Ports are those of the packet: with direction=downlink, `sport` is the other end's.
        """
        caller.require(auth.READ)
        way = Direction(direction)
        ports = (source_port, destination_port)
        own_port, peer_port = ports if way is Direction.UPLINK else ports[::-1]
        question = Question(
            mobile_node,
            _address("dst", peer),
            way,
            interface,
            _address("address", address) if address is not None else None,
            protocol,
            own_port,
            peer_port,
            dscp,
            head_end,
        )
        return Json(_view(controller, controller.explain(question)))

    return router


def _address(name: str, text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except ValueError as error:
        raise Refusal("validation", f"query {name}: {error}", 422) from None


def _view(controller: Controller, found: Explanation) -> dict[str, Any]:
    choice = found.choice
    return {
        "packet": codec.to_builtins(found.packet),
        "mobile_node": found.session.mobile_node,
        "interface": found.session.interface,
        "serving": found.session.serving,
        "head_end": found.head_end,
        "rules": [
            {
                "name": verdict.rule.name,
                "priority": verdict.rule.priority,
                "policy": verdict.rule.policy,
                "matches": verdict.matches,
                "decides": verdict.decides,
                "reason": verdict.reason,
            }
            for verdict in found.rules
        ],
        "policy": found.policy,
        "fell_back": choice.fell_back if choice is not None else False,
        "candidates": [_candidate(one) for one in choice.candidates] if choice else [],
        "mode": found.mode.value,
        "lists": [_list(one) for one in found.lists],
        "walks": [_walk(controller, walk, found) for walk in found.walks],
    }


def _candidate(choice: CandidateChoice) -> dict[str, Any]:
    return {
        "preference": choice.preference,
        "active": choice.active,
        "reason": choice.reason,
        "paths": [
            {
                "weight": one.weight,
                "routers": list(one.solution.path.routers) if one.solution else None,
                "segments": [str(sid) for sid in one.solution.segments] if one.solution else None,
                "igp_metric": one.solution.measures.igp_metric if one.solution else None,
                "te_metric": one.solution.measures.te_metric if one.solution else None,
                "delay_us": one.solution.measures.delay_us if one.solution else None,
                "mtu": one.solution.mtu if one.solution else None,
                "reason": one.reason,
            }
            for one in choice.lists
        ],
    }


def _list(one: ListMeaning) -> dict[str, Any]:
    header = one.header
    return {
        "weight": one.way.weight,
        "backup": one.backup,
        "segments": [codec.to_builtins(meaning) for meaning in one.segments],
        "inner_mtu": one.inner_mtu,
        "header": None
        if header is None
        else {
            "source": str(header.source),
            "destination": str(header.destination),
            "next_header": header.next_header,
            "srh": header.srh.hex(),
            "octets": header.octets,
        },
    }


def _walk(controller: Controller, walk: Walk, found: Explanation) -> dict[str, Any]:
    counted = {
        traffic.router: (traffic.packets, traffic.octets)
        for binding in found.session.bindings
        if found.packet.destination in binding.prefix or found.packet.source in binding.prefix
        for traffic in controller.traffic(binding.prefix)
    }
    return {
        "outcome": walk.outcome.value,
        "detail": walk.detail,
        "hops": [
            {
                "router": hop.router,
                "arrives_by": hop.arrives_by,
                "leaves_by": hop.leaves_by,
                "applied": controller.applied(hop.router),
                "steps": [{"action": step.action, "key": step.key} for step in hop.steps],
                "headers": [[str(sid) for sid in outer.segments] for outer in hop.headers],
                "prefix_packets": counted.get(hop.router, (None, None))[0],
                "prefix_bytes": counted.get(hop.router, (None, None))[1],
            }
            for hop in walk.hops
        ],
    }
