"""The FastAPI application: routes of DESIGN section 8 over one Controller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from srv6dmm import __version__, codec
from srv6dmm.config import ControllerSettings
from srv6dmm.controller.service import Controller, Submitted
from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import AttachEvent, DetachEvent, Event, HandoffIndicator
from srv6dmm_api import auth, problems, schemas, views
from srv6dmm_api.guard import BodyGuard
from srv6dmm_api.metrics import registry
from srv6dmm_api.stream import serve_stream

Wait = Annotated[
    Literal["durable", "applied"],
    Query(description="Answer when durable, or when every router has acknowledged."),
]
Patience = Annotated[
    float, Query(alias="timeout", gt=0, le=60, description="Seconds to wait for applied.")
]
Name = Annotated[str, Path(pattern=schemas.IDENTIFIER, max_length=128)]
SSE_HEARTBEAT_S = 10.0


def _principal(
    request: Request, authorization: Annotated[str | None, Header()] = None
) -> auth.Principal:
    return _authenticate(request.app.state.tokens, authorization)


def _authenticate(tokens: auth.TokenTable | None, header: str | None) -> auth.Principal:
    if tokens is None:
        return auth.LOCAL
    return tokens.authenticate(auth.bearer_of(header))


Caller = Annotated[auth.Principal, Depends(_principal)]


class _Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


def create_app(
    controller: Controller, settings: ControllerSettings, tokens: auth.TokenTable | None
) -> FastAPI:
    """Return the application. Without tokens every caller is the local principal."""
    app = FastAPI(
        title="srv6dmm",
        version=__version__,
        summary="Distributed Mobility Management on Segment Routing over IPv6",
        docs_url=None,
        redoc_url=None,
        default_response_class=_Json,
    )
    app.add_exception_handler(Refusal, problems.on_refusal)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_validation)
    app.add_middleware(BodyGuard, limit=settings.http.max_body_bytes)
    app.state.stopping = asyncio.Event()

    app.state.tokens = tokens

    async def submit(event: Event, caller: auth.Principal, wait: str, patience: float) -> Response:
        caller.require(auth.MOBILITY_WRITE)
        caller.speaks_for(event.access_router)
        submitted = await controller.submit(event)
        applied: bool | None = None
        if wait == "applied":
            try:
                await asyncio.wait_for(asyncio.shield(submitted.applied), patience)
                applied = True
            except TimeoutError:
                applied = False
        body = _answer(submitted, applied)
        if applied is False:
            body["pending"] = controller.pending_routers((event.mobile_node, event.interface))
        return _Json(body, status_code=202 if applied is False else 200)

    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": schemas.EventAnswer},
        202: {"model": schemas.EventAnswer, "description": "Durable, not yet applied everywhere."},
        **schemas.problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
    }

    @app.post("/v1/attach", responses=answers, response_model=None, tags=["mobility"])
    async def attach(
        body: schemas.AttachBody, caller: Caller, wait: Wait = "durable", patience: Patience = 10.0
    ) -> Response:
        """A mobile node appeared at an access router (first attach, refresh or hand-over)."""
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
        _one_order(body)
        return await submit(event, caller, wait, patience)

    @app.post("/v1/detach", responses=answers, response_model=None, tags=["mobility"])
    async def detach(
        body: schemas.DetachBody, caller: Caller, wait: Wait = "durable", patience: Patience = 10.0
    ) -> Response:
        """A mobile node left an access router; ignored unless that router serves it."""
        event = DetachEvent(
            event_id=body.event_id,
            mobile_node=body.mobile_node,
            access_router=body.access_router,
            interface=body.interface,
            timestamp_ms=body.timestamp,
            sequence=body.sequence,
        )
        _one_order(body)
        return await submit(event, caller, wait, patience)

    reading = schemas.problems(401, 403, 404, 422)

    @app.get("/v1/mobile-nodes", responses=reading, tags=["mobility"])
    async def mobile_nodes(caller: Caller) -> Response:
        """Every mobile node: where it is, its prefixes, and who steers them how."""
        caller.require(auth.READ)
        names = sorted({key[0] for key in controller.state.sessions})
        return _Json({"mobile_nodes": [views.node_view(controller, name) for name in names]})

    @app.get("/v1/mobile-nodes/{mobile_node}", responses=reading, tags=["mobility"])
    async def mobile_node(mobile_node: Name, caller: Caller) -> Response:
        """One mobile node."""
        caller.require(auth.READ)
        return _Json(views.node_view(controller, mobile_node))

    @app.get("/v1/routers", responses=reading, tags=["routers"])
    async def routers(caller: Caller) -> Response:
        """Every router: connected or not, what it applied, what it could not."""
        caller.require(auth.READ)
        return _Json({"routers": codec.to_builtins(controller.routers())})

    @app.get("/v1/routers/{router}", responses=reading, tags=["routers"])
    async def router_status(router: Name, caller: Caller) -> Response:
        """One router."""
        caller.require(auth.READ)
        for status in controller.routers():
            if status.name == router:
                return _Json(codec.to_builtins(status))
        raise Refusal("unknown-router", f"{router!r} is no router of this domain", 404)

    @app.get("/v1/routers/{router}/plan", responses=reading, tags=["routers"])
    async def router_plan(router: Name, caller: Caller) -> Response:
        """All that a router must hold, at the durable revision."""
        caller.require(auth.READ)
        return _Json(views.plan_view(controller, router))

    @app.post(
        "/v1/routers/{router}/resync",
        responses=schemas.problems(400, 401, 403, 404, 409, 413, 415, 422),
        tags=["routers"],
    )
    async def router_resync(router: Name, caller: Caller) -> Response:
        """Have a router read its kernel back and repair; returns what had drifted."""
        caller.require(auth.ADMIN)
        report = await controller.resync(router)
        return _Json({"router": router, **codec.to_builtins(report)})

    @app.get("/v1/paths", responses=reading, tags=["paths"])
    async def paths(
        caller: Caller,
        source: Annotated[str, Query(alias="from", pattern=schemas.IDENTIFIER)],
        target: Annotated[str, Query(alias="to", pattern=schemas.IDENTIFIER)],
    ) -> Response:
        """The path and the segment list from a head-end to a serving router."""
        caller.require(auth.READ)
        return _Json(views.path_view(controller, source, target))

    @app.get("/v1/topology", responses=reading, tags=["topology"])
    async def topology(caller: Caller) -> Response:
        """The topology and every router's SIDs."""
        caller.require(auth.READ)
        return _Json(views.topology_view(controller))

    @app.get(
        "/v1/events",
        responses={200: {"content": {"text/event-stream": {}}}, **schemas.problems(401, 403, 422)},
        tags=["events"],
    )
    async def events(
        caller: Caller,
        last_event_id: Annotated[int | None, Header(ge=0, le=1 << 53)] = None,
        since: Annotated[int | None, Query(ge=0, le=1 << 53)] = None,
    ) -> Response:
        """Server-sent events: everything that happens, resumable by Last-Event-ID."""
        caller.require(auth.READ)
        resume = last_event_id if last_event_id is not None else since
        return StreamingResponse(
            _sse(controller, resume, app.state.stopping),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    @app.websocket("/v1/routers/{router}/stream")
    async def stream(socket: WebSocket, router: str) -> None:
        try:
            who = _authenticate(tokens, socket.headers.get("authorization"))
            who.require(auth.ROUTER_STREAM)
            who.speaks_for(router)
        except Refusal as refusal:
            await socket.close(1008, str(refusal)[:120])
            return
        await serve_stream(controller, socket, router)

    @app.get("/metrics", tags=["operations"], responses=schemas.problems(401, 403))
    async def metrics(caller: Caller) -> Response:
        """Prometheus metrics."""
        caller.require(auth.READ)
        return Response(generate_latest(registry(controller)), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> Response:
        """The process runs."""
        return _Json({"status": "ok"})

    @app.get("/readyz", tags=["operations"], responses={503: {"description": "Not ready."}})
    async def readyz() -> Response:
        """Whether events would be accepted now, and if not why not."""
        reasons = controller.not_ready()
        return _Json(
            {"status": "not-ready" if reasons else "ready", "reasons": reasons},
            status_code=503 if reasons else 200,
        )

    return app


def _one_order(body: schemas.AttachBody | schemas.DetachBody) -> None:
    if body.timestamp is not None and body.sequence is not None:
        raise Refusal("validation", "/sequence: give a timestamp or a sequence, not both", 422)


def _answer(submitted: Submitted, applied: bool | None) -> dict[str, Any]:
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
        "revision": submitted.revision,
        "replayed": submitted.replayed,
        "applied": applied,
        "pending": [],
        "timings": {
            "event_to_decided_ms": timings.decided_ms,
            "event_to_durable_ms": timings.durable_ms,
            "event_to_applied_ms": timings.applied_ms,
            "stages": timings.stages,
        },
    }


async def _sse(
    controller: Controller, since: int | None, stopping: asyncio.Event
) -> AsyncIterator[bytes]:
    reader = controller.subscribe(since)
    following = asyncio.ensure_future(anext(reader))
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        yield b": connected\n\n"
        while not stopping.is_set():
            await asyncio.wait(
                (following, stopped),
                timeout=SSE_HEARTBEAT_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if following.done():
                event = following.result()
                data = json.dumps({"at_ms": event.at_ms, **event.data})
                yield f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode()
                following = asyncio.ensure_future(anext(reader))
            else:
                yield b": alive\n\n"
    finally:
        following.cancel()
        stopped.cancel()
