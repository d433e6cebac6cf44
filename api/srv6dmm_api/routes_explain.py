"""The routes that explain where a packet goes, and why; one of them sends one."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from srv6dmm.controller.service import Controller
from srv6dmm.core.explain import Question
from srv6dmm.model.errors import Refusal
from srv6dmm.model.flows import Direction
from srv6dmm_api import auth, explain_shapes, schemas
from srv6dmm_api.callers import Caller
from srv6dmm_api.documents import Json, answers, problems
from srv6dmm_api.explain_views import explanation

Port = Annotated[int | None, Query(ge=0, le=65535, examples=[443])]
OptionalName = Annotated[str | None, Query(pattern=schemas.IDENTIFIER, max_length=128)]
NO_NEXT_HEADER = 59


def explain_routes(controller: Controller) -> APIRouter:
    """Return the routes of explanations."""
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

        Every router on the way reads back what it holds of that, and counts. Ports are those of the
        packet: with direction=downlink, `sport` is the other end's.
        """
        caller.require(auth.READ)
        question = _question(
            mobile_node,
            _address("query dst", peer),
            direction,
            protocol,
            (source_port, destination_port),
            dscp,
            interface,
            _address("query address", address) if address is not None else None,
            head_end,
        )
        return Json(explanation(controller, await controller.explaining.answer(question)))

    @router.post(
        "/v1/paths/explain",
        responses={
            **answers(explain_shapes.LiveExplanationShape, "Why, where, and where it really went."),
            **problems(400, 401, 403, 404, 409, 413, 415, 422, 429, path="/v1/paths/explain"),
        },
        response_class=Json,
    )
    async def probe(caller: Caller, asked: explain_shapes.ProbeQuestion) -> Response:
        """Explain as GET does, send one such packet through the domain and tell where it went.

        Scope admin. The packet carries a mark that routers look out for, and a wrong checksum:
        the host at the end discards it. One at a time, ten a second; takes two seconds at most.
        """
        caller.require(auth.ADMIN)
        question = _question(
            asked.mn,
            _address("body /dst", asked.dst),
            asked.direction,
            asked.proto,
            (asked.sport, asked.dport),
            asked.dscp,
            asked.interface,
            _address("body /address", asked.address) if asked.address is not None else None,
            asked.head_end,
        )
        return Json(explanation(controller, await controller.explaining.probe(question)))

    return router


def _question(
    mobile_node: str,
    peer: IPv6Address,
    direction: Literal["uplink", "downlink"],
    protocol: int,
    ports: tuple[int | None, int | None],
    dscp: int,
    interface: str | None,
    address: IPv6Address | None,
    head_end: str | None,
) -> Question:
    """`ports`: source and destination of the packet."""
    way = Direction(direction)
    own_port, peer_port = ports if way is Direction.UPLINK else ports[::-1]
    return Question(
        mobile_node, peer, way, interface, address, protocol, own_port, peer_port, dscp, head_end
    )


def _address(place: str, text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except ValueError as error:
        raise Refusal("validation", f"{place}: {error}", 422) from None
