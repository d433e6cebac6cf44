"""The route of alternative paths: the best few between two routers, and a disjoint pair."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from srv6dmm.controller.service import Controller
from srv6dmm.core.graph import NoPath
from srv6dmm.core.segments import NoSegmentList
from srv6dmm.model.errors import Refusal
from srv6dmm.model.path import Solution
from srv6dmm.model.policy import DynamicPath, Objective
from srv6dmm_api import alternative_shapes, auth, schemas
from srv6dmm_api.callers import Caller
from srv6dmm_api.documents import Json, answers, problems
from srv6dmm_api.views import unknown_router

MAXIMUM_COUNT = 16


def alternatives_routes(controller: Controller) -> APIRouter:
    """Return the route of alternative paths."""
    router = APIRouter(tags=["paths"])

    def end(name: str, endpoint: bool) -> str:
        node = controller.topology.nodes.get(name)
        if node is None or not node.is_router:
            raise unknown_router(name)
        if endpoint and name not in controller.planner.sids:
            raise Refusal("unknown-router", f"{name} has no SIDs: it is a plain router", 422)
        return name

    @router.get(
        "/v1/paths/alternatives",
        responses={
            **answers(alternative_shapes.AlternativesShape, "The best paths, and a pair."),
            **problems(401, 403, 404, 422, path="/v1/paths/alternatives"),
        },
        response_class=Json,
    )
    async def alternatives(
        caller: Caller,
        source: Annotated[
            str,
            Query(alias="from", pattern=schemas.IDENTIFIER, max_length=128, examples=["br1"]),
        ],
        target: Annotated[
            str, Query(alias="to", pattern=schemas.IDENTIFIER, max_length=128, examples=["ar4"])
        ],
        objective: Annotated[
            Literal["igp", "te", "delay"],
            Query(description="What is to be small.", examples=["delay"]),
        ] = "igp",
        count: Annotated[
            int, Query(ge=1, le=MAXIMUM_COUNT, description="Paths at most.", examples=[3])
        ] = 3,
    ) -> Response:
        """The best paths between two routers, and the best two that have nothing in common.

        What a policy could ask for there: each path with its segment list. Scope read.
        """
        caller.require(auth.READ)
        head_end, endpoint = end(source, False), end(target, True)
        if head_end == endpoint:
            raise Refusal("validation", "from and to are the same router: it delivers itself", 422)
        wanted = DynamicPath(Objective(objective))
        computation = controller.planner.computation
        try:
            found = computation.candidates(head_end, endpoint, wanted, count)
        except (NoPath, NoSegmentList) as error:
            raise Refusal("not-found", str(error), 404) from error
        reason = None
        try:
            pair = computation.disjoint_pair(head_end, endpoint, wanted)
        except NoSegmentList as error:
            pair, reason = None, str(error)
        if pair is None and reason is None:
            reason = "every two paths share a link"
        return Json(
            {
                "from": head_end,
                "to": endpoint,
                "objective": objective,
                "paths": [_path(solution) for solution in found],
                "disjoint": None if pair is None else str(pair.disjoint),
                "pair": [] if pair is None else [_path(pair.first), _path(pair.second)],
                "reason": reason,
            }
        )

    return router


def _path(solution: Solution) -> dict[str, Any]:
    measures = solution.measures
    return {
        "path": list(solution.path.routers),
        "links": [str(crossing) for crossing in solution.path.crossings()],
        "segments": [str(segment) for segment in solution.segments],
        "igp_metric": measures.igp_metric,
        "te_metric": measures.te_metric,
        "delay_us": measures.delay_us,
        "hops": measures.hops,
        "inner_mtu": solution.mtu,
    }
