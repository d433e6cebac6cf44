"""The agents' WebSocket: frames of srv6dmm.codec in and out."""

from __future__ import annotations

import asyncio

import structlog
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from srv6dmm import codec
from srv6dmm.controller.hub import RouterConnection
from srv6dmm.controller.service import Controller
from srv6dmm.model.errors import Refusal
from srv6dmm.model.wire import FromAgent, FromController, Hello
from srv6dmm_api import auth
from srv6dmm_api.callers import principal
from srv6dmm_api.problems import problem
from srv6dmm_api.views import router_view

log = structlog.get_logger()

HELLO_TIMEOUT_S = 5.0
MAX_FRAME = 64 * 1024 * 1024
"""Bytes in a frame: a read-back of a million entries fits."""
INVALID_DATA, POLICY, RESTART = 1007, 1008, 1012
"""Close codes (RFC 6455 section 7.4.1): not a message, not allowed, come back soon."""


class _Violation(Exception):
    """What the other side sent is not of the protocol."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def stream_routes(controller: Controller) -> APIRouter:
    """Return the route of the agents' WebSocket."""
    router = APIRouter()

    @router.websocket("/v1/routers/{router}/stream")
    async def stream(socket: WebSocket, router: str) -> None:
        try:
            caller = await principal(socket)
            caller.require(auth.ROUTER_STREAM)
            caller.speaks_for(router)
            router_view(controller, router)
        except Refusal as refusal:
            await _deny(socket, refusal)
            return
        await _serve(controller, socket, router)

    return router


async def _deny(socket: WebSocket, refusal: Refusal) -> None:
    """Refuse the handshake, with a problem document where the server can send one."""
    log.warning("agent.refused", path=socket.scope["path"], reason=str(refusal))
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(problem(refusal, socket.scope["path"]))
    else:
        await _close(socket, POLICY, str(refusal))


async def _next(socket: WebSocket) -> FromAgent:
    frame = await socket.receive()
    if frame["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(frame.get("code", 1006))
    text = frame.get("text")
    if text is None:
        raise _Violation(INVALID_DATA, "frames are text, this one is binary")
    try:
        message = codec.decode_message(text)
    except (ValueError, RecursionError) as error:
        raise _Violation(INVALID_DATA, f"not a message: {error}") from error
    if not isinstance(message, FromAgent):
        raise _Violation(POLICY, f"{type(message).__name__} is the controller's to say")
    return message


async def _serve(controller: Controller, socket: WebSocket, router: str) -> None:
    """Serve one agent's connection until either side ends it."""
    await socket.accept()
    over = asyncio.Event()

    async def send(message: FromController) -> None:
        await socket.send_text(codec.encode_message(message).decode())

    connection = None
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            hello = await _next(socket)
        if not isinstance(hello, Hello) or hello.router != router:
            raise _Violation(POLICY, f"the first word must be a Hello of {router}")
        connection = controller.connect(hello, send, over.set)
        # Two tasks for the life of the connection: one for each message would cost more than the
        # message.
        listening = asyncio.ensure_future(_listen(socket, connection))
        ended = asyncio.ensure_future(over.wait())
        try:
            await asyncio.wait((listening, ended), return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
            else:
                await _close(socket, RESTART, "closed by the controller")
        finally:
            listening.cancel()
            ended.cancel()
    except WebSocketDisconnect:
        return
    except TimeoutError:
        await _close(socket, POLICY, "no Hello in time")
    except _Violation as violation:
        log.warning("agent.violation", router=router, reason=str(violation))
        await _close(socket, violation.code, str(violation))
    except Refusal as refusal:
        log.warning("agent.refused", router=router, reason=str(refusal))
        await _close(socket, POLICY, str(refusal))
    finally:
        if connection is not None:
            connection.closed()


async def _listen(socket: WebSocket, connection: RouterConnection) -> None:
    """Take in what the agent says until it says no more."""
    while True:
        await connection.receive(await _next(socket))


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Close with a reason, which a control frame limits to 123 bytes."""
    try:
        await socket.close(code, reason.encode(errors="replace")[:120].decode(errors="ignore"))
    except (RuntimeError, WebSocketDisconnect):
        return  # the other side was quicker
