"""Responses: JSON out of the codec, and how the OpenAPI document describes each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from srv6dmm_api.problems import MEDIA_TYPE, PREFIX, TITLES
from srv6dmm_api.schemas import Problem

Responses = dict[int | str, dict[str, Any]]

_PROBLEM = {
    400: ("malformed-json", "the body is not JSON: Expecting value: line 1 column 1 (char 0)"),
    401: ("unauthorized", "send Authorization: Bearer <token>"),
    403: ("forbidden", "token 'ar1' speaks for ar1, not for 'ar2'"),
    404: ("unknown-mobile-node", "mobile node 'mn9' has no session"),
    409: ("event-id-reused", "event id '7f3c' was used for an event with other content"),
    413: ("body-too-large", "at most 65536 bytes are taken"),
    415: ("unsupported-media-type", "the body is text/plain; send Content-Type: application/json"),
    422: ("validation", "body /lifetime: Input should be greater than or equal to 1"),
    429: ("too-many-probes", "one live probe at a time, and 10 a second; try again in a second"),
    503: ("store-unavailable", "the change could not be made durable: the disk is full"),
    504: ("not-applied", "br1 did not acknowledge within 5 s; the change is kept"),
}
_OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token."""


class Json(JSONResponse):
    """JSON by msgspec: several times quicker than the standard library."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return msgspec.json.encode(content)


def answers(model: type[BaseModel], description: str, status: int = 200) -> Responses:
    """Return the description of a JSON answer, with the example of its shape."""
    example = cast(dict[str, Any], model.model_config["json_schema_extra"])["examples"][0]
    content = {"application/json": {"example": example}}
    return {status: {"model": model, "description": description, "content": content}}


def text(media_type: str, description: str, example: str) -> Responses:
    """Return the description of an answer that is not JSON."""
    content = {media_type: {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": description, "content": content}}


def problems(*statuses: int, path: str) -> Responses:
    """Return the descriptions of the statuses an operation may refuse with, an example each."""
    described: Responses = {}
    for status in statuses:
        kind, detail = _PROBLEM[status]
        example = {
            "type": PREFIX + kind,
            "title": TITLES[kind],
            "status": status,
            "detail": detail,
            "instance": path,
        }
        content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
        described[status] = {
            "description": "Refused; nothing was changed.",
            "content": {MEDIA_TYPE: content},
        }
    return described


def complete(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Have the application's OpenAPI document say what the framework cannot know.

    That is the shape of problems, bearer tokens, and examples with members that are null.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        components["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "From `srv6dmm token create`; not asked for on a controller that "
                "was started without `http.tokens`.",
            }
        }
        wanted: list[dict[str, list[str]]] = [{"token": []}]
        if app.state.tokens is None:
            wanted.append({})  # or none at all
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in _OPEN else wanted
        _restore_examples(routers, document)
        app.openapi_schema = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _restore_examples(routers: Sequence[APIRouter], document: dict[str, Any]) -> None:
    """Put the examples in as they are: the framework drops every member that is null."""
    for router in routers:
        for route in router.routes:
            if not isinstance(route, APIRoute):
                continue
            for method in route.methods or ():
                described = document["paths"][route.path][method.lower()]["responses"]
                for status, response in route.responses.items():
                    for media, content in response["content"].items():
                        described[str(status)]["content"][media]["example"] = content["example"]
