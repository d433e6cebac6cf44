"""The agents' WebSocket over a real server: what is taken, and how the rest is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from srv6dmm_api import stream
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed

from srv6dmm import codec
from srv6dmm.model.wire import (
    PROTOCOL,
    Ack,
    DeltaPlan,
    FromAgent,
    FullPlan,
    Heartbeat,
    Report,
    Resync,
    Welcome,
)
from tests.api.support import Site, hello, listening, running, until


@asynccontextmanager
async def _streaming(path: Path) -> AsyncIterator[tuple[Site, Any]]:
    """Yield a site and how to connect to it as a router."""
    async with running(agents=False) as site, listening(site, path):

        def connect(router: str = "ar1") -> unix_connect:
            uri = f"ws://srv6dmm/v1/routers/{router}/stream"
            return unix_connect(str(path), uri=uri, max_size=None, compression=None)

        yield site, connect


async def _say(socket: ClientConnection, message: FromAgent) -> None:
    await socket.send(codec.encode_message(message).decode())


async def _hear(socket: ClientConnection) -> Any:
    return codec.decode_message(await asyncio.wait_for(socket.recv(), 5))


async def _closed(socket: ClientConnection) -> tuple[int, str]:
    """Read to the end; return how the controller closed."""

    async def drain() -> None:
        while True:
            await socket.recv()

    with pytest.raises(ConnectionClosed) as error:
        await asyncio.wait_for(drain(), 5)
    close = error.value.rcvd
    assert close is not None
    return close.code, close.reason


async def test_an_agent_gets_its_plan_and_then_changes(tmp_path: Path) -> None:
    async with _streaming(tmp_path / "s") as (site, connect), connect() as socket:
        await _say(socket, hello("ar1"))
        welcome = await _hear(socket)
        assert isinstance(welcome, Welcome)
        assert welcome.controller_boot_id == "boot"
        plan = await _hear(socket)
        assert isinstance(plan, FullPlan)
        assert {e.key for e in plan.entries} == set(site.controller.plan("ar1").entries)
        await _say(socket, Ack(plan.revision, 0.0, 0.1))
        attaching = asyncio.create_task(site.attach("ar1", wait="applied"))
        for _ in range(2):  # delivery in PREPARE, advertisement in STABLE
            delta = await _hear(socket)
            assert isinstance(delta, DeltaPlan)
            await _say(socket, Ack(delta.revision, 0.0, 0.1))
        response = await attaching
        assert response.json()["applied"] is True
        [status] = [r for r in site.controller.routers() if r.name == "ar1"]
        assert status.connected
        assert status.applied == delta.revision


async def test_resync_goes_to_the_agent_and_back(tmp_path: Path) -> None:
    async with _streaming(tmp_path / "s") as (site, connect), connect("br1") as socket:
        await _say(socket, hello("br1"))
        await _hear(socket)
        plan = await _hear(socket)
        asking = asyncio.create_task(site.client.post("/v1/routers/br1/resync"))
        assert isinstance(await _hear(socket), Resync)
        await _say(socket, Report(plan.revision, (), ("x",), (), {}))
        assert (await asking).json()["different"] == ["x"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", 1007),
        ("{", 1007),
        ("{}", 1007),
        ("[]", 1007),
        ('["Hello"]', 1007),
        ('["Hello", {}]', 1007),
        ('["Nonsense", {}]', 1007),
        ('["Ack", {"revision": "one", "applied_at_ms": 0, "took_ms": 0}]', 1007),
        ("[" * 100_000, 1007),
        ('["Hello", ' + '{"a":' * 5000 + "1" + "}" * 5000 + "]", 1007),
        (b"\x00\x01", 1007),
        (codec.encode_message(hello("ar1")), 1007),
        (codec.encode_message(hello("ar2")).decode(), 1008),
        (codec.encode_message(hello("ar1", PROTOCOL + 1)).decode(), 1008),
        (codec.encode_message(Heartbeat(None)).decode(), 1008),
        (codec.encode_message(Resync()).decode(), 1008),
        (codec.encode_message(Welcome(1.0, "x")).decode(), 1008),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_wrong_first_word_closes_with_a_reason(
    frame: str | bytes, code: int, tmp_path: Path
) -> None:
    async with _streaming(tmp_path / "s") as (site, connect), connect() as socket:
        await socket.send(frame)
        closed, reason = await _closed(socket)
        assert closed == code
        assert reason
        assert not any(r.connected for r in site.controller.routers())


@pytest.mark.parametrize("frame", ["nonsense", b"binary", '["Resync", {}]'])
async def test_a_wrong_later_word_closes_and_disconnects(
    frame: str | bytes, tmp_path: Path
) -> None:
    async with _streaming(tmp_path / "s") as (site, connect), connect() as socket:
        await _say(socket, hello("ar1"))
        await _hear(socket)
        await socket.send(frame)
        code, _ = await _closed(socket)
        assert code in (1007, 1008)
        await until(lambda: not any(r.connected for r in site.controller.routers()))


async def test_silence_instead_of_a_hello(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HELLO_TIMEOUT_S", 0.05)
    async with _streaming(tmp_path / "s") as (_, connect), connect() as socket:
        assert await _closed(socket) == (1008, "no Hello in time")


async def test_a_frame_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srv6dmm_api.server.MAX_FRAME", 4096)
    async with _streaming(tmp_path / "s") as (_, connect), connect() as socket:
        await socket.send("x" * 5000)
        code, _ = await _closed(socket)
        assert code == 1009


async def test_a_new_connection_replaces_the_old_one(tmp_path: Path) -> None:
    async with (
        _streaming(tmp_path / "s") as (site, connect),
        connect() as old,
        connect() as new,
    ):
        await _say(old, hello("ar1"))
        await _hear(old)
        await _say(new, hello("ar1"))
        assert isinstance(await _hear(new), Welcome)
        code, reason = await _closed(old)
        assert (code, reason) == (1012, "closed by the controller")
        plan = await _hear(new)
        await _say(new, Ack(plan.revision, 0.0, 0.1))
        [status] = [r for r in site.controller.routers() if r.name == "ar1"]
        assert status.connected


async def test_a_lost_connection_is_noticed(tmp_path: Path) -> None:
    async with _streaming(tmp_path / "s") as (site, connect):
        async with connect() as socket:
            await _say(socket, hello("ar1"))
            await _hear(socket)
            socket.transport.abort()
        await until(lambda: not any(r.connected for r in site.controller.routers()))
