"""Routes of the topology: as declared, as it is, and changes of it in operation."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from srv6dmm.controller import rules
from srv6dmm.controller.changes import Changed
from srv6dmm.controller.service import Controller
from srv6dmm.core.topology_document import document_of
from srv6dmm_api import auth, rule_schemas, rule_shapes, shapes, views
from srv6dmm_api.callers import Caller
from srv6dmm_api.documents import Json, Responses, answers, problems
from srv6dmm_api.waiting import Patience, Wait, applied_within


def topology_routes(controller: Controller, stopping: asyncio.Event) -> APIRouter:
    """Return the routes of the topology."""
    router = APIRouter(tags=["topology"])

    async def answer(changed: Changed, wait: str, patience: float) -> Response:
        body: dict[str, Any] = {
            "name": controller.topology.domain.name,
            "revision": changed.revision,
        }
        if wait == "durable":
            return Json({**body, "applied": None, "took_ms": None})
        if await applied_within(changed.applied, patience, stopping):
            return Json({**body, "applied": True, "took_ms": changed.applied.result()})
        return Json({**body, "applied": False, "took_ms": None}, status_code=202)

    changes: Responses = {
        **answers(rule_shapes.ChangedShape, "Durable; with wait=applied, told to every router."),
        **answers(rule_shapes.ChangedShape, "Durable, not yet told to every router.", 202),
        **problems(400, 401, 403, 413, 415, 422, 503, path="/v1/topology"),
    }

    @router.get(
        "/v1/topology",
        responses={
            **answers(shapes.TopologyShape, "The topology in use."),
            **problems(401, 403, path="/v1/topology"),
        },
        response_class=Json,
    )
    async def topology(caller: Caller) -> Response:
        """The topology and every router's SIDs. Scope read."""
        caller.require(auth.READ)
        return Json(views.topology_view(controller))

    @router.get(
        "/v1/topology/document",
        responses={
            **answers(shapes.DocumentShape, "The document."),
            **problems(401, 403, path="/v1/topology/document"),
        },
        response_class=Json,
    )
    async def document(caller: Caller) -> Response:
        """The topology as declared, in the form of a topology file. Scope read."""
        caller.require(auth.READ)
        return Json(document_of(controller.topology))

    @router.put("/v1/topology", responses=changes, response_class=Json)
    async def put_topology(
        body: rule_schemas.TopologyBody,
        caller: Caller,
        wait: Wait = "durable",
        patience: Patience = 10.0,
    ) -> Response:
        """Have the topology be as a document says, without losing a packet. Scope admin.

        Attributes of links may change, affinities, max-sid-depth and services; links may come,
        and go where they cut nobody off. Nodes come and go with the file.
        """
        caller.require(auth.ADMIN)
        decide = rules.put_topology(body.model_dump(exclude_unset=True))
        return await answer(await controller.change_topology(decide), wait, patience)

    @router.patch("/v1/topology", responses=changes, response_class=Json)
    async def patch_topology(
        body: rule_schemas.TopologyPatchBody,
        caller: Caller,
        wait: Wait = "durable",
        patience: Patience = 10.0,
    ) -> Response:
        """Change the topology by a merge patch (RFC 7396); drain a link, say. Scope admin.

        Links are named by their endpoints: one that is there is merged, another is added, and one
        with `"remove": true` goes.
        """
        caller.require(auth.ADMIN)
        decide = rules.patch_topology(body.model_dump(exclude_unset=True))
        return await answer(await controller.change_topology(decide), wait, patience)

    return router
