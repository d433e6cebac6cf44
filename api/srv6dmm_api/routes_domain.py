"""Routes of the domain: routers, their plans, paths, the topology."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from srv6dmm import codec
from srv6dmm.controller.service import Controller
from srv6dmm.model.errors import Refusal
from srv6dmm_api import auth, schemas, shapes, views
from srv6dmm_api.callers import Caller
from srv6dmm_api.documents import Json, Responses, answers, problems

Name = Annotated[str, Path(pattern=schemas.IDENTIFIER, max_length=128, examples=["ar1"])]
OptionalName = Annotated[str | None, Query(pattern=schemas.IDENTIFIER, max_length=128)]


def domain_routes(controller: Controller) -> APIRouter:
    """Return the routes of routers, paths and the topology."""
    router = APIRouter()

    @router.get(
        "/v1/routers",
        tags=["routers"],
        responses={
            **answers(shapes.RoutersShape, "Every router in name order."),
            **problems(401, 403, path="/v1/routers"),
        },
        response_class=Json,
    )
    async def routers(caller: Caller) -> Response:
        """Every router: connected or not, what it applied, what it could not. Scope read."""
        caller.require(auth.READ)
        return Json({"routers": views.routers_view(controller)})

    @router.get(
        "/v1/routers/{router}",
        tags=["routers"],
        responses={
            **answers(shapes.RouterShape, "The router."),
            **problems(401, 403, 404, 422, path="/v1/routers/ar9"),
        },
        response_class=Json,
    )
    async def router_status(router: Name, caller: Caller) -> Response:
        """One router. Scope read."""
        caller.require(auth.READ)
        return Json(views.router_view(controller, router))

    @router.get(
        "/v1/routers/{router}/plan",
        tags=["routers"],
        responses={
            **answers(shapes.PlanShape, "The plan."),
            **problems(401, 403, 404, 422, path="/v1/routers/ar9/plan"),
        },
        response_class=Json,
    )
    async def router_plan(router: Name, caller: Caller) -> Response:
        """All that a router must hold, at the durable revision. Scope read."""
        caller.require(auth.READ)
        return Json(views.plan_view(controller, router))

    @router.post(
        "/v1/routers/{router}/resync",
        tags=["routers"],
        responses={
            **answers(shapes.ReportShape, "What was found, and repaired."),
            **problems(400, 401, 403, 404, 409, 413, 415, 422, path="/v1/routers/ar9/resync"),
        },
        response_class=Json,
    )
    async def router_resync(router: Name, caller: Caller) -> Response:
        """Have a router read its kernel back and repair. Scope admin; takes no body."""
        caller.require(auth.ADMIN)
        report = await controller.resync(router)
        return Json({"router": router, **codec.to_builtins(report)})

    @router.put(
        "/v1/routers/{router}/mode",
        tags=["routers"],
        responses={
            **answers(shapes.ModeShape, "The mode in effect."),
            **problems(400, 401, 403, 404, 409, 413, 415, 422, path="/v1/routers/ar9/mode"),
        },
        response_class=Json,
    )
    async def router_mode(router: Name, body: schemas.ModeBody, caller: Caller) -> Response:
        """Have a running agent forward in another mode; no packet is lost by it. Scope admin.

        Holds until that agent is started again.
        """
        caller.require(auth.ADMIN)
        await controller.set_mode(router, body.mode)
        return Json({"router": router, "mode": body.mode})

    one: Responses = answers(shapes.PathShape, "The path, or those of a mobile node.")
    one[200]["model"] = shapes.PathShape | shapes.NodePathsShape

    @router.get(
        "/v1/paths",
        tags=["paths"],
        responses={**one, **problems(401, 403, 404, 422, path="/v1/paths")},
        response_class=Json,
    )
    async def paths(
        caller: Caller,
        source: Annotated[
            OptionalName, Query(alias="from", description="The head-end.", examples=["br1"])
        ] = None,
        target: Annotated[
            OptionalName, Query(alias="to", description="The serving router.", examples=["ar1"])
        ] = None,
        mobile_node: Annotated[
            OptionalName,
            Query(description="Instead of `to`: its steered prefixes.", examples=["mn1"]),
        ] = None,
    ) -> Response:
        """Path and segment list between two routers, or of a mobile node's prefixes.

        Give `from` and `to`, or `mobile_node` (and `from` for one head-end only). Scope read.
        """
        caller.require(auth.READ)
        if mobile_node is not None and target is None:
            return Json(views.node_paths_view(controller, mobile_node, source))
        if source is not None and target is not None and mobile_node is None:
            return Json(views.path_view(controller, source, target))
        raise Refusal(
            "validation", "give the query parameters from and to, or mobile_node (and from)", 422
        )

    return router
