"""The gate in front of every route: body size, media type, well-formed JSON."""

from __future__ import annotations

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from srv6dmm.model.errors import Refusal
from srv6dmm_api.problems import problem


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the member {name[:80]!r} is given twice")
        members[name] = value
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


class BodyGuard:
    """ASGI middleware: refuses a bad body before anything else sees it."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the whole body, check it, and hand it on."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
            if body is None:
                return
            self._check(scope, body)
        except Refusal as refusal:
            await problem(refusal, scope["path"])(scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body; None when the client went away. Never holds more than the limit
        and one chunk, whatever the length is said to be."""
        refusal = Refusal("body-too-large", f"at most {self._limit} bytes are taken", 413)
        for name, value in scope["headers"]:
            if name == b"content-length" and self._exceeds(value):
                raise refusal
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise refusal
            more = message.get("more_body", False)
        return bytes(body)

    def _exceeds(self, length: bytes) -> bool:
        if not length.isdigit():
            raise Refusal("malformed-request", f"Content-Length {length[:40]!r} is no number", 400)
        digits = length.lstrip(b"0")  # counted first: int() of thousands of digits is slow
        return len(digits) > 18 or int(digits or b"0") > self._limit

    def _check(self, scope: Scope, body: bytes) -> None:
        if not body:
            return
        headers = dict(scope["headers"])
        media = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if media != b"application/json":
            raise Refusal(
                "unsupported-media-type",
                f"the body is {media.decode('latin-1') or 'of no stated type'}; "
                "send Content-Type: application/json",
                415,
            )
        try:
            text = body.decode("utf-8")
            json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise Refusal("malformed-json", f"the body is not JSON: {reason}", 400) from error
