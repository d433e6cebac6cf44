"""RFC 9457 problem documents: the one way this API says no."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from srv6dmm.model.errors import Refusal

PREFIX = "urn:srv6dmm:problem:"
MEDIA_TYPE = "application/problem+json"

TITLES = {
    "detach-without-session": "The mobile node has no session",
    "event-id-reused": "The event id was used for another event",
    "forbidden": "The token does not allow this",
    "handover-aborted": "The roll-out was aborted; the old path is untouched",
    "body-too-large": "The body is too large",
    "malformed-json": "The body is not JSON",
    "method-not-allowed": "The method is not allowed here",
    "not-found": "There is nothing here",
    "prefix-pool-exhausted": "The access router has no free prefix",
    "protocol-mismatch": "Agent and controller speak different protocols",
    "router-not-connected": "The router's agent is not connected",
    "sequence-out-of-window": "The sequence number does not follow the last one",
    "store-unavailable": "The event could not be made durable",
    "superseded": "A newer event overtook this one",
    "timestamp-lower-than-previous": "The timestamp is not after the last one",
    "timestamp-mismatch": "The timestamp is too far from the controller's clock",
    "topology-mismatch": "Store and topology do not belong together",
    "unauthorized": "A valid token is needed",
    "unknown-mobile-node": "The mobile node is not known",
    "unknown-router": "The router is not known",
    "unsupported-media-type": "The body must be application/json",
    "validation": "The request is not as described",
}
"""Every problem type there is; docs/api.md lists the same ones."""


def problem(refusal: Refusal, instance: str) -> Response:
    """Return the problem document of a refusal."""
    body: dict[str, Any] = {
        **refusal.extra,
        "type": PREFIX + refusal.type,
        "title": TITLES[refusal.type],
        "status": refusal.status,
        "detail": refusal.detail,
        "instance": instance,
    }
    if refusal.binding_status is not None:
        body["binding_status"] = int(refusal.binding_status)
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
    return Response(
        msgspec.json.encode(body), refusal.status, headers=headers, media_type=MEDIA_TYPE
    )


async def on_refusal(request: Request, error: Exception) -> Response:
    """Render a Refusal."""
    assert isinstance(error, Refusal)
    return problem(error, request.url.path)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Render what the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    kinds = {404: "not-found", 405: "method-not-allowed", 400: "malformed-json"}
    kind = kinds.get(error.status_code, "validation")
    detail = f"{request.method} {request.url.path}: {error.detail}; see /openapi.json"
    response = problem(Refusal(kind, detail, error.status_code), request.url.path)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def on_validation(request: Request, error: Exception) -> Response:
    """Render a request that does not fit its schema: every fault with its JSON pointer."""
    assert isinstance(error, RequestValidationError)
    faults = []
    for fault in error.errors():
        if fault["type"] == "json_invalid":
            reason = fault.get("ctx", {}).get("error", "broken")
            refusal = Refusal("malformed-json", f"the body is not JSON: {reason}", 400)
            return problem(refusal, request.url.path)
        place = [str(part) for part in fault["loc"]]
        pointer = "/" + "/".join(place[1:] if place[0] == "body" else place)
        faults.append({"pointer": pointer, "in": place[0], "message": fault["msg"]})
    detail = "; ".join(f"{fault['pointer']}: {fault['message']}" for fault in faults)
    refusal = Refusal("validation", detail, 422, extra={"errors": faults})
    return problem(refusal, request.url.path)
