"""The agents' WebSocket: frames of srv6dmm.codec in and out."""

from __future__ import annotations

import asyncio

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from srv6dmm import codec
from srv6dmm.controller.service import Controller
from srv6dmm.model.errors import Refusal
from srv6dmm.model.wire import Ack, Failed, FromController, Heartbeat, Hello, Report

log = structlog.get_logger()

HELLO_TIMEOUT_S = 5.0
_FROM_AGENT = (Hello, Ack, Failed, Heartbeat, Report)


class _Violation(Exception):
    """What the other side sent is not of the protocol."""


async def _next(socket: WebSocket) -> Hello | Ack | Failed | Heartbeat | Report:
    try:
        text = await socket.receive_text()
        message = codec.decode_message(text)
    except (ValueError, KeyError, TypeError) as error:
        raise _Violation(str(error)) from error
    if not isinstance(message, _FROM_AGENT):
        raise _Violation(f"{type(message).__name__} is the controller's to say")
    return message


async def serve_stream(controller: Controller, socket: WebSocket, router: str) -> None:
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
            raise _Violation(f"the first word must be a Hello of {router}")
        connection = controller.connect(hello, send, over.set)
        ended = asyncio.ensure_future(over.wait())
        try:
            while True:
                heard = asyncio.ensure_future(_next(socket))
                await asyncio.wait((heard, ended), return_when=asyncio.FIRST_COMPLETED)
                if not heard.done():
                    heard.cancel()
                    await _close(socket, 1012, "closed by the controller")
                    return
                await connection.receive(heard.result())
        finally:
            ended.cancel()
    except WebSocketDisconnect:
        return
    except TimeoutError:
        await _close(socket, 1008, "no Hello in time")
    except (_Violation, Refusal) as error:
        log.warning("agent.refused", router=router, reason=str(error))
        await _close(socket, 1008, str(error))
    finally:
        if connection is not None:
            connection.closed()


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    try:
        await socket.close(code, reason.encode()[:120].decode(errors="ignore"))
    except RuntimeError:
        return  # the other side was quicker
