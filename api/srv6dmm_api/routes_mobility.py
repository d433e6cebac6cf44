"""Routes of mobile nodes: events in, and where everybody is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from srv6dmm.controller.service import Controller, Submitted
from srv6dmm.model.events import AttachEvent, DetachEvent, Event, HandoffIndicator
from srv6dmm.model.wire import EntryFailure
from srv6dmm_api import auth, schemas, shapes, views
from srv6dmm_api.callers import Caller
from srv6dmm_api.documents import Json, Responses, answers, problems
from srv6dmm_api.metrics import Metrics
from srv6dmm_api.waiting import Patience, Wait, applied_within

Name = Annotated[str, Path(pattern=schemas.IDENTIFIER, max_length=128, examples=["mn1"])]


def mobility_routes(controller: Controller, metrics: Metrics, stopping: asyncio.Event) -> APIRouter:
    """Return the routes of events and mobile nodes."""
    router = APIRouter(tags=["mobility"])

    async def submit(event: Event, caller: auth.Principal, wait: str, patience: float) -> Response:
        caller.require(auth.MOBILITY_WRITE)
        caller.speaks_for(event.access_router)
        submitted = await controller.submit(event)
        if not submitted.replayed:
            metrics.committed(submitted.timings)
        if wait == "durable":
            return Json(_answer(submitted, None))
        if await applied_within(submitted.applied, patience, stopping):
            return Json(_answer(submitted, True))
        key = (event.mobile_node, event.interface)
        pending, failures = controller.pending_routers(key), controller.failures(key)
        return Json(_answer(submitted, False, pending, failures), status_code=202)

    def event_answers(path: str) -> Responses:
        return {
            **answers(schemas.EventAnswer, "Durable; with wait=applied, applied everywhere."),
            **answers(schemas.EventAnswer, "Durable, not yet applied everywhere.", 202),
            **problems(400, 401, 403, 404, 409, 413, 415, 422, 503, path=path),
        }

    @router.post("/v1/attach", responses=event_answers("/v1/attach"), response_class=Json)
    async def attach(
        body: schemas.AttachBody, caller: Caller, wait: Wait = "durable", patience: Patience = 10.0
    ) -> Response:
        """A mobile node appeared at an access router (first attach, refresh or hand-over).

        Scope mobility:write; a token bound to a router speaks for that router only.
        """
        event = AttachEvent(
            event_id=body.event_id,
            mobile_node=body.mobile_node,
            access_router=body.access_router,
            link_layer_address=body.link_layer_address,
            interface=body.interface,
            timestamp_ms=body.timestamp,
            sequence=body.sequence,
            handoff=HandoffIndicator(body.handoff_indicator),
            lifetime_s=body.lifetime,
        )
        return await submit(event, caller, wait, patience)

    @router.post("/v1/detach", responses=event_answers("/v1/detach"), response_class=Json)
    async def detach(
        body: schemas.DetachBody, caller: Caller, wait: Wait = "durable", patience: Patience = 10.0
    ) -> Response:
        """A mobile node left an access router; ignored unless that router serves it.

        Scope mobility:write; a token bound to a router speaks for that router only.
        """
        event = DetachEvent(
            event_id=body.event_id,
            mobile_node=body.mobile_node,
            access_router=body.access_router,
            interface=body.interface,
            timestamp_ms=body.timestamp,
            sequence=body.sequence,
        )
        return await submit(event, caller, wait, patience)

    @router.get(
        "/v1/mobile-nodes",
        responses={
            **answers(shapes.NodesShape, "Mobile nodes in name order."),
            **problems(401, 403, 422, path="/v1/mobile-nodes"),
        },
        response_class=Json,
    )
    async def mobile_nodes(
        caller: Caller,
        after: Annotated[
            str,
            Query(
                pattern=schemas.IDENTIFIER_OR_NOTHING,
                description="The `next` of the last page.",
                examples=["mn500"],
            ),
        ] = "",
        limit: Annotated[int, Query(ge=1, le=1000, examples=[100])] = 500,
    ) -> Response:
        """Every mobile node, by pages: where it is, its prefixes, who steers them how.

        Scope read.
        """
        caller.require(auth.READ)
        return Json(views.nodes_view(controller, after, limit))

    @router.get(
        "/v1/mobile-nodes/{mobile_node}",
        responses={
            **answers(shapes.NodeShape, "The mobile node."),
            **problems(401, 403, 404, 422, path="/v1/mobile-nodes/mn9"),
        },
        response_class=Json,
    )
    async def mobile_node(mobile_node: Name, caller: Caller) -> Response:
        """One mobile node. Scope read."""
        caller.require(auth.READ)
        return Json(views.node_view(controller, mobile_node))

    return router


def _answer(
    submitted: Submitted,
    applied: bool | None,
    pending: Sequence[str] = (),
    failures: Sequence[tuple[str, EntryFailure]] = (),
) -> dict[str, Any]:
    answer, timings = submitted.answer, submitted.timings
    return {
        "event_id": answer.event_id,
        "outcome": answer.outcome.name.lower(),
        "mobile_node": answer.mobile_node,
        "interface": answer.interface,
        "epoch": answer.epoch,
        "serving": answer.serving,
        "prefixes": [
            {"prefix": str(p.prefix), "anchor": p.anchor, "preferred": p.preferred}
            for p in answer.prefixes
        ],
        "lifetime": answer.lifetime_s,
        "timestamp": answer.timestamp_ms,
        "sequence": answer.sequence,
        "revision": submitted.revision,
        "replayed": submitted.replayed,
        "applied": applied,
        "pending": list(pending),
        "failures": [
            {"router": router, "key": fault.key, "errno": fault.errno, "reason": fault.reason}
            for router, fault in failures
        ],
        "timings": {
            "event_to_decided_ms": timings.decided_ms,
            "event_to_durable_ms": timings.durable_ms,
            "event_to_applied_ms": timings.applied_ms,
            "stages": timings.stages,
        },
    }
