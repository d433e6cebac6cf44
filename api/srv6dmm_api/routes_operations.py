"""Routes for whoever operates the controller: the event feed, metrics, health."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST

from srv6dmm.controller.service import Controller
from srv6dmm_api import auth, shapes
from srv6dmm_api.callers import Caller
from srv6dmm_api.documents import Json, answers, problems, text
from srv6dmm_api.metrics import Metrics
from srv6dmm_api.sse import LARGEST_ID, EventStream

_ID = 1_800_000_000_000_001
_FRAMES = """: connected

id: 1800000000000001
event: handover
data: {"at_ms":1800000000123,"mobile_node":"mn1","access_router":"ar3","epoch":2,"revision":17}

"""
_METRICS = """# HELP srv6dmm_revision Durable revision
# TYPE srv6dmm_revision gauge
srv6dmm_revision 17.0
"""


def operations_routes(
    controller: Controller, metrics: Metrics, stream: EventStream, stopping: asyncio.Event
) -> APIRouter:
    """Return the routes of the event feed, metrics and health."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/v1/events",
        responses={
            **text("text/event-stream", "Server-sent events, for ever.", _FRAMES),
            **problems(401, 403, 422, path="/v1/events"),
        },
        response_class=StreamingResponse,
    )
    async def events(
        caller: Caller,
        last_event_id: Annotated[int | None, Header(ge=0, le=LARGEST_ID, examples=[_ID])] = None,
        since: Annotated[
            int | None,
            Query(ge=0, le=LARGEST_ID, description="Like Last-Event-ID.", examples=[_ID]),
        ] = None,
    ) -> Response:
        """Everything that happens. Scope read.

        Starts after Last-Event-ID, without it with what happens next. The newest 10,000 events
        of this life of the controller are kept for those who resume.
        """
        caller.require(auth.READ)
        resume = last_event_id if last_event_id is not None else since
        return StreamingResponse(
            stream.follow(resume, stopping),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    @router.get(
        "/metrics",
        responses={
            **text("text/plain", "Prometheus text format.", _METRICS),
            **problems(401, 403, path="/metrics"),
        },
        response_class=Response,
    )
    async def prometheus(caller: Caller) -> Response:
        """Prometheus metrics; no mobile node is ever a label. Scope read."""
        caller.require(auth.READ)
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/healthz", responses=answers(shapes.HealthShape, "It does."), response_class=Json)
    async def healthz() -> Response:
        """Tell that the process runs."""
        return Json({"status": "ok"})

    @router.get(
        "/readyz",
        responses={
            **answers(shapes.ReadyShape, "Events are accepted."),
            **answers(shapes.ReadyShape, "Events would be refused, for the reasons given.", 503),
        },
        response_class=Json,
    )
    async def readyz() -> Response:
        """Tell whether events would be accepted now, and if not why not."""
        reasons = controller.not_ready()
        return Json(
            {"status": "not-ready" if reasons else "ready", "reasons": reasons},
            status_code=503 if reasons else 200,
        )

    return router
