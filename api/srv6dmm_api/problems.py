"""RFC 9457 problem documents: the one way this API says no."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from srv6dmm.model.errors import Refusal

PREFIX = "urn:srv6dmm:problem:"
MEDIA_TYPE = "application/problem+json"

TITLES = {
    "body-too-large": "The body is too large",
    "event-id-reused": "The event id was used for another event",
    "forbidden": "The token does not allow this",
    "handover-aborted": "The roll-out was aborted; the old path is untouched",
    "in-use": "Something else names it",
    "internal-error": "The controller made a mistake",
    "link-layer-address-in-use": "Another mobile node has the link-layer address there",
    "malformed-json": "The body is not JSON",
    "malformed-request": "The request is not HTTP as it should be",
    "method-not-allowed": "The method is not allowed here",
    "mode-unavailable": "The router cannot forward in this mode",
    "name-taken": "There is one of that name already",
    "not-applied": "The change is kept, and a router has not applied it",
    "not-found": "There is nothing here",
    "order-missing": "The event lacks what orders the events of its session",
    "prefix-pool-exhausted": "The access router has no free prefix",
    "protocol-mismatch": "Agent and controller speak different protocols",
    "router-not-connected": "The router's agent is not connected",
    "sequence-out-of-window": "The sequence number does not follow the last one",
    "session-ended": "The session ended before the event was applied",
    "store-unavailable": "The change could not be made durable",
    "superseded": "A newer event overtook this one",
    "timestamp-lower-than-previous": "The timestamp is not after the last one",
    "timestamp-mismatch": "The timestamp is too far from the controller's clock",
    "too-many-probes": "Another live probe is under way",
    "topology-mismatch": "Store and topology do not belong together",
    "unauthorized": "A valid token is needed",
    "unknown-flow": "There is no such flow rule",
    "unknown-group": "There is no such group",
    "unknown-mobile-node": "The mobile node is not known",
    "unknown-policy": "There is no such policy",
    "unknown-router": "The router is not known",
    "unsupported-media-type": "The body must be application/json",
    "validation": "The request is not as described",
}
"""Every problem type there is; docs/api.md lists the same ones."""

_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    413: {"Connection": "close"},  # the rest of the body is not waited for
    429: {"Retry-After": "1"},
}

FAULTS_SHOWN = 20
"""Validation faults listed in one answer: an answer must not outgrow its question."""
_POINTER_SHOWN = 200


def problem(refusal: Refusal, path: str) -> Response:
    """Return the problem document of a refusal to a request of `path`."""
    body: dict[str, Any] = {
        **refusal.extra,
        "type": PREFIX + refusal.type,
        "title": TITLES.get(refusal.type, refusal.type),
        "status": refusal.status,
        "detail": _encodable(refusal.detail),
        "instance": quote(path, safe="/:@!$&'()*+,;=-._~"),
    }
    if refusal.binding_status is not None:
        body["binding_status"] = int(refusal.binding_status)
    headers = _HEADERS.get(refusal.status)
    return Response(
        msgspec.json.encode(body), refusal.status, headers=headers, media_type=MEDIA_TYPE
    )


async def on_refusal(request: Request, error: Exception) -> Response:
    """Render a Refusal."""
    assert isinstance(error, Refusal)
    return problem(error, request.scope["path"])


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Render what the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    kinds = {404: "not-found", 405: "method-not-allowed"}
    kind = kinds.get(error.status_code, "malformed-request")
    path = request.scope["path"]
    detail = f"{request.method} {path}: {error.detail}; see /openapi.json"
    response = problem(Refusal(kind, detail, error.status_code), path)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def on_validation(request: Request, error: Exception) -> Response:
    """Render a request that does not fit its schema: the faults with their JSON pointers."""
    assert isinstance(error, RequestValidationError)
    faults = []
    found = error.errors()
    for fault in found[:FAULTS_SHOWN]:
        if fault["type"] == "json_invalid":
            reason = fault.get("ctx", {}).get("error", "broken")
            refusal = Refusal("malformed-json", f"the body is not JSON: {reason}", 400)
            return problem(refusal, request.scope["path"])
        place, *parts = (str(part) for part in fault["loc"])
        faults.append({"pointer": _pointer(parts), "in": place, "message": fault["msg"]})
    detail = "; ".join(
        f"{fault['in']} {fault['pointer']}".strip() + f": {fault['message']}" for fault in faults
    )
    if len(found) > FAULTS_SHOWN:
        detail += f"; and {len(found) - FAULTS_SHOWN} more"
    refusal = Refusal("validation", detail, 422, extra={"errors": faults})
    return problem(refusal, request.scope["path"])


async def on_mistake(request: Request, error: Exception) -> Response:
    """Render a fault of ours; the framework logs the error itself."""
    detail = f"{type(error).__name__}; the controller's log says more, please report it"
    return problem(Refusal("internal-error", detail, 500), request.scope["path"])


def _pointer(parts: list[str]) -> str:
    """Return a JSON pointer (RFC 6901), which may be cut short."""
    whole = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
    cut = whole if len(whole) <= _POINTER_SHOWN else whole[:_POINTER_SHOWN] + "..."
    return _encodable(cut)


def _encodable(text: str) -> str:
    """Return text with lone surrogates, which JSON can carry in and UTF-8 cannot out, escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
