"""What is answered while the store cannot be opened: the process runs, and why it is not ready.

The controller's state is in the store. Without it no event can be decided and no router may be told
a plan: an empty one would take away all that it forwards. So agents are sent away, and forward on.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from types import SimpleNamespace

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from srv6dmm.model.errors import Refusal
from srv6dmm_api.documents import Json
from srv6dmm_api.problems import problem


class Doorway:
    """An ASGI application that says no until there is one to go through to."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self.state = SimpleNamespace(stopping=stopping)
        self.reason = "the controller is not running"
        self.within: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if self.within is not None:
            await self.within(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope["path"])(scope, receive, send)
        elif scope["type"] == "websocket":
            socket = WebSocket(scope, receive, send)
            await socket.receive()
            if "websocket.http.response" in scope.get("extensions", {}):
                await socket.send_denial_response(self._refuse(scope["path"]))
            else:
                await socket.close()

    def _answer(self, path: str) -> ASGIApp:
        if path == "/healthz":
            return Json({"status": "ok"})
        if path == "/readyz":
            content = {"status": "not-ready", "reasons": [self.reason]}
            return Json(content, HTTPStatus.SERVICE_UNAVAILABLE)
        return self._refuse(path)

    def _refuse(self, path: str) -> Response:
        refusal = Refusal("store-unavailable", f"the store cannot be used: {self.reason}", 503)
        return problem(refusal, path)
