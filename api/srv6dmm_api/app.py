"""The FastAPI application over one Controller: the parts put together."""

from __future__ import annotations

import asyncio
import time

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from srv6dmm import __version__
from srv6dmm.config import ControllerSettings
from srv6dmm.controller.service import Controller
from srv6dmm.model.errors import Refusal
from srv6dmm_api import auth, documents, problems
from srv6dmm_api.guard import BodyGuard
from srv6dmm_api.metrics import Metrics
from srv6dmm_api.routes_alternatives import alternatives_routes
from srv6dmm_api.routes_domain import domain_routes
from srv6dmm_api.routes_explain import explain_routes
from srv6dmm_api.routes_mobility import mobility_routes
from srv6dmm_api.routes_operations import operations_routes
from srv6dmm_api.routes_rules import rules_routes
from srv6dmm_api.routes_topology import topology_routes
from srv6dmm_api.sse import EventStream
from srv6dmm_api.stream import stream_routes

DESCRIPTION = """Attach and detach events in, decisions out.

Errors are RFC 9457 problem documents; docs/api.md lists their types. Segment lists are in
travel order. Agents connect to the WebSocket `/v1/routers/{router}/stream`."""


def create_app(
    controller: Controller,
    settings: ControllerSettings,
    tokens: auth.TokenTable | None,
    stopping: asyncio.Event | None = None,
) -> FastAPI:
    """Return the application. Without tokens every caller is the local principal.

    `state.stopping` is an asyncio.Event: set, it ends long answers and whoever waits.
    """
    app = FastAPI(
        title="srv6dmm",
        version=__version__,
        summary="Distributed Mobility Management on Segment Routing over IPv6",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(Refusal, problems.on_refusal)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_validation)
    app.add_exception_handler(Exception, problems.on_mistake)
    app.add_middleware(BodyGuard, limit=settings.http.max_body_bytes)
    stopping = stopping or asyncio.Event()
    app.state.stopping = stopping
    app.state.tokens = tokens
    metrics = Metrics(controller)
    events = EventStream(controller, time.time_ns() // 1_000_000)
    routers = (
        mobility_routes(controller, metrics, stopping),
        domain_routes(controller),
        rules_routes(controller, stopping),
        topology_routes(controller, stopping),
        alternatives_routes(controller),
        explain_routes(controller),
        operations_routes(controller, metrics, events, stopping),
        stream_routes(controller),
    )
    for router in routers:
        app.include_router(router)
    documents.complete(app, routers)
    return app
