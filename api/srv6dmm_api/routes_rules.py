"""Routes of policies, flow rules and groups: what flows ask for."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel

from srv6dmm import codec
from srv6dmm.controller import rules
from srv6dmm.controller.service import Controller
from srv6dmm.model.errors import Refusal
from srv6dmm.model.flows import FlowRule, Group
from srv6dmm.model.policy import Policy
from srv6dmm.policy_codec import read_policy
from srv6dmm_api import auth, rule_schemas, rule_shapes, rule_views, schemas
from srv6dmm_api.callers import Caller
from srv6dmm_api.documents import Json, Responses, answers, problems
from srv6dmm_api.waiting import Patience, Wait, applied_within


def _name(example: str) -> Any:
    return Path(pattern=schemas.IDENTIFIER, max_length=128, examples=[example])


PolicyName = Annotated[str, _name("low-delay")]
FlowName = Annotated[str, _name("voice")]
GroupName = Annotated[str, _name("cameras")]


def rules_routes(controller: Controller, stopping: asyncio.Event) -> APIRouter:
    """Return the routes of policies, flow rules and groups."""
    router = APIRouter(tags=["policies"])

    async def change(
        decide: rules.Decide,
        name: str,
        caller: auth.Principal,
        wait: str,
        patience: float,
        status: int = 200,
    ) -> Response:
        caller.require(auth.ADMIN)
        changed = await controller.change_rules(decide)
        answer: dict[str, Any] = {"name": name, "revision": changed.revision}
        if wait == "durable":
            return Json({**answer, "applied": None, "took_ms": None}, status_code=status)
        if await applied_within(changed.applied, patience, stopping):
            took_ms = changed.applied.result()
            return Json({**answer, "applied": True, "took_ms": took_ms}, status_code=status)
        return Json({**answer, "applied": False, "took_ms": None}, status_code=202)

    def changes(path: str, status: int = 200, *more: int) -> Responses:
        shape = rule_shapes.ChangedShape
        return {
            **answers(shape, "Durable; with wait=applied, applied by every router.", status),
            **answers(shape, "Durable, not yet applied by every router.", 202),
            **problems(400, 401, 403, *more, 409, 413, 415, 422, 503, 504, path=path),
        }

    # --- policies ----------------------------------------------------------------------------

    @router.get(
        "/v1/policies",
        responses={
            **answers(rule_shapes.PoliciesShape, "Every policy in name order."),
            **problems(401, 403, path="/v1/policies"),
        },
        response_class=Json,
    )
    async def policies(caller: Caller) -> Response:
        """Every policy. Scope read."""
        caller.require(auth.READ)
        found = sorted(controller.state.policies.items())
        views = [rule_views.policy_view(controller, policy) for _, policy in found]
        return Json({"policies": views})

    @router.get(
        "/v1/policies/{name}",
        responses={
            **answers(rule_shapes.PolicyShape, "The policy."),
            **problems(401, 403, 404, 422, path="/v1/policies/low-delay"),
        },
        response_class=Json,
    )
    async def policy(name: PolicyName, caller: Caller) -> Response:
        """One policy, and who names it. Scope read."""
        caller.require(auth.READ)
        rules.known("unknown-policy", name, controller.state.policies)
        return Json(rule_views.policy_view(controller, controller.state.policies[name]))

    @router.post(
        "/v1/policies",
        status_code=201,
        responses=changes("/v1/policies", 201),
        response_class=Json,
    )
    async def new_policy(
        body: rule_schemas.NewPolicyBody,
        caller: Caller,
        wait: Wait = "durable",
        patience: Patience = 10.0,
    ) -> Response:
        """Add a policy. Scope admin."""
        caller.require(auth.ADMIN)
        decide = rules.put_policy(controller.planner, _policy(body.name, body), new=True)
        return await change(decide, body.name, caller, wait, patience, 201)

    @router.put(
        "/v1/policies/{name}", responses=changes("/v1/policies/low-delay"), response_class=Json
    )
    async def put_policy(
        name: PolicyName,
        body: rule_schemas.PolicyBody,
        caller: Caller,
        wait: Wait = "durable",
        patience: Patience = 10.0,
    ) -> Response:
        """Have a policy be as given: flows move to its paths without a gap. Scope admin."""
        caller.require(auth.ADMIN)
        decide = rules.put_policy(controller.planner, _policy(name, body), new=False)
        return await change(decide, name, caller, wait, patience)

    @router.delete(
        "/v1/policies/{name}",
        responses=changes("/v1/policies/low-delay", 200, 404),
        response_class=Json,
    )
    async def delete_policy(
        name: PolicyName, caller: Caller, wait: Wait = "durable", patience: Patience = 10.0
    ) -> Response:
        """Delete a policy that nothing names. Scope admin."""
        decide = rules.delete_policy(controller.planner, name)
        return await change(decide, name, caller, wait, patience)

    # --- flow rules --------------------------------------------------------------------------

    @router.get(
        "/v1/flows",
        responses={
            **answers(rule_shapes.FlowsShape, "Every flow rule in name order."),
            **problems(401, 403, path="/v1/flows"),
        },
        response_class=Json,
    )
    async def flows(caller: Caller) -> Response:
        """Every flow rule. Scope read."""
        caller.require(auth.READ)
        found = sorted(controller.state.flows.items())
        return Json({"flows": [rule_views.rule_view(rule) for _, rule in found]})

    @router.get(
        "/v1/flows/{name}",
        responses={
            **answers(rule_shapes.FlowShape, "The flow rule."),
            **problems(401, 403, 404, 422, path="/v1/flows/voice"),
        },
        response_class=Json,
    )
    async def flow(name: FlowName, caller: Caller) -> Response:
        """One flow rule, and what it comes to at every head-end now. Scope read."""
        caller.require(auth.READ)
        rules.known("unknown-flow", name, controller.state.flows)
        return Json(rule_views.flow_view(controller, controller.state.flows[name]))

    @router.post(
        "/v1/flows", status_code=201, responses=changes("/v1/flows", 201), response_class=Json
    )
    async def new_flow(
        body: rule_schemas.NewFlowBody,
        caller: Caller,
        wait: Wait = "durable",
        patience: Patience = 10.0,
    ) -> Response:
        """Add a flow rule. Scope admin."""
        decide = rules.put_flow(controller.planner, _rule(body.name, body), new=True)
        return await change(decide, body.name, caller, wait, patience, 201)

    @router.put("/v1/flows/{name}", responses=changes("/v1/flows/voice"), response_class=Json)
    async def put_flow(
        name: FlowName,
        body: rule_schemas.FlowBody,
        caller: Caller,
        wait: Wait = "durable",
        patience: Patience = 10.0,
    ) -> Response:
        """Have a flow rule be as given. Scope admin."""
        decide = rules.put_flow(controller.planner, _rule(name, body), new=False)
        return await change(decide, name, caller, wait, patience)

    @router.delete(
        "/v1/flows/{name}", responses=changes("/v1/flows/voice", 200, 404), response_class=Json
    )
    async def delete_flow(
        name: FlowName, caller: Caller, wait: Wait = "durable", patience: Patience = 10.0
    ) -> Response:
        """Delete a flow rule: its packets go the way of their prefix again. Scope admin."""
        return await change(rules.delete_flow(name), name, caller, wait, patience)

    # --- groups ------------------------------------------------------------------------------

    @router.get(
        "/v1/groups",
        responses={
            **answers(rule_shapes.GroupsShape, "Every group in name order."),
            **problems(401, 403, path="/v1/groups"),
        },
        response_class=Json,
    )
    async def groups(caller: Caller) -> Response:
        """Every group. Scope read."""
        caller.require(auth.READ)
        found = sorted(controller.state.groups.items())
        return Json({"groups": [rule_views.group_view(controller, group) for _, group in found]})

    @router.get(
        "/v1/groups/{name}",
        responses={
            **answers(rule_shapes.GroupShape, "The group."),
            **problems(401, 403, 404, 422, path="/v1/groups/cameras"),
        },
        response_class=Json,
    )
    async def group(name: GroupName, caller: Caller) -> Response:
        """One group, and who names it. Scope read."""
        caller.require(auth.READ)
        rules.known("unknown-group", name, controller.state.groups)
        return Json(rule_views.group_view(controller, controller.state.groups[name]))

    @router.post(
        "/v1/groups", status_code=201, responses=changes("/v1/groups", 201), response_class=Json
    )
    async def new_group(
        body: rule_schemas.NewGroupBody,
        caller: Caller,
        wait: Wait = "durable",
        patience: Patience = 10.0,
    ) -> Response:
        """Add a group. Scope admin."""
        made = Group(body.name, frozenset(body.members))
        decide = rules.put_group(controller.planner, made, new=True)
        return await change(decide, body.name, caller, wait, patience, 201)

    @router.put("/v1/groups/{name}", responses=changes("/v1/groups/cameras"), response_class=Json)
    async def put_group(
        name: GroupName,
        body: rule_schemas.GroupBody,
        caller: Caller,
        wait: Wait = "durable",
        patience: Patience = 10.0,
    ) -> Response:
        """Have a group be as given. Scope admin."""
        made = Group(name, frozenset(body.members))
        decide = rules.put_group(controller.planner, made, new=False)
        return await change(decide, name, caller, wait, patience)

    @router.delete(
        "/v1/groups/{name}", responses=changes("/v1/groups/cameras", 200, 404), response_class=Json
    )
    async def delete_group(
        name: GroupName, caller: Caller, wait: Wait = "durable", patience: Patience = 10.0
    ) -> Response:
        """Delete a group that no rule names. Scope admin."""
        decide = rules.delete_group(controller.planner, name)
        return await change(decide, name, caller, wait, patience)

    return router


def _given(body: BaseModel) -> dict[str, Any]:
    return body.model_dump(exclude_unset=True)


def _policy(name: str, body: rule_schemas.PolicyBody) -> Policy:
    try:
        return read_policy({**_given(body), "name": name})
    except ValueError as error:
        raise Refusal("validation", f"body: {error}", 422) from None


def _rule(name: str, body: rule_schemas.FlowBody) -> FlowRule:
    return codec.from_builtins({**_given(body), "name": name}, FlowRule)
