"""A controller with its application, and agents that are as quick or as stubborn as asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from srv6dmm_api.app import create_app
from srv6dmm_api.auth import Principal, TokenTable, token_digest
from srv6dmm_api.server import Server, make_server, unix_socket

from srv6dmm.config import ControllerSettings, HttpSettings, RolloutSettings
from srv6dmm.controller.clock import SystemClock
from srv6dmm.controller.hub import RouterConnection
from srv6dmm.controller.service import Controller
from srv6dmm.model.parameters import MobilityParameters
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.topology import Topology
from srv6dmm.model.wire import (
    PROTOCOL,
    Ack,
    DeltaPlan,
    EntryFailure,
    EntryState,
    Failed,
    FromAgent,
    FromController,
    FullPlan,
    Hello,
    Inspect,
    Inspection,
    ModeReport,
    Probe,
    Probed,
    Report,
    Resync,
    SetMode,
    Sighting,
    Unwatch,
    Watch,
    Watching,
)
from srv6dmm.store.interface import Store
from srv6dmm.store.memory import MemoryStore
from tests.domains import small_domain

MAC = "02:00:00:00:01:01"
PROBLEM = "application/problem+json"
PATIENT_S = 60.0
"""Between heartbeats: these agents send none, and tests take longer on a busy host."""


def mac(node: str) -> str:
    """Return a link-layer address of a node's own; MAC for mn1."""
    number = 0x100 + int("".join(filter(str.isdecimal, node)) or 0)
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


class Agent:
    """A router's agent without a kernel: acknowledges every plan, unless told otherwise."""

    def __init__(self, controller: Controller, router: str) -> None:
        self.router = router
        self.holds: dict[str, Any] = {}
        self.probes: list[Probe] = []
        """What it was asked to send."""
        self.refuses: Callable[[str], bool] = lambda key: False
        self.mute = False
        self.drifted: tuple[str, ...] = ()
        self.unable: str | None = None
        """Why it cannot have a fast path."""
        self.blind: str | None = None
        """Why it cannot look out for probes."""
        self.unsent: str | None = None
        """Why it cannot send one."""
        self.sees: list[Sighting] = []
        """What it tells of a probe, whichever it is."""
        self.lost: dict[str, str] = {}
        """Keys of entries that are not in its kernel, and what is said of them."""
        self.deaf = False
        """Does not answer questions."""
        self.gone = False
        self._connection: RouterConnection = controller.connect(
            hello(router), self._hear, self._closed
        )

    def _closed(self) -> None:
        self.gone = True

    async def _hear(self, message: FromController) -> None:
        match message:
            case FullPlan():
                self.holds = {entry.key: entry for entry in message.entries}
                await self._answer(message.revision, tuple(self.holds))
            case DeltaPlan():
                for key in message.gone:
                    del self.holds[key]
                self.holds |= {entry.key: entry for entry in message.put}
                await self._answer(message.revision, tuple(e.key for e in message.put))
            case Resync():
                report = Report(0, self.drifted, (), (), {"fc00::1": (1, 2, 3)})
                await self._connection.receive(report)
            case SetMode(mode="ebpf") if self.unable is not None:
                await self._connection.receive(ModeReport("ebpf", "netlink", self.unable))
            case SetMode(mode=mode) if not self.mute:
                await self._connection.receive(ModeReport(mode, mode, None))

            case Inspect() | Watch() | Unwatch() | Probe() if not self.deaf:
                await self._asked(message)

    async def _asked(self, message: Inspect | Watch | Unwatch | Probe) -> None:
        match message:
            case Inspect(number=number, entries=entries):
                states = tuple(map(self._state, entries))
                await self._connection.receive(Inspection(number, 0, states))
            case Watch(token=token):
                await self._connection.receive(Watching(token, self.blind))
            case Unwatch(token=token):
                for sighting in self.sees:
                    await self._connection.receive(replace(sighting, token=token))
                await self._connection.receive(Watching(token, "it has ended"))
            case Probe(token=token):
                self.probes.append(message)
                await self._connection.receive(Probed(token, 1_000_000, self.unsent))

    def _state(self, entry: PlanEntry) -> EntryState:
        planned = self.holds.get(entry.key) == entry
        if entry.key in self.lost:
            return EntryState(entry.key, planned, "missing", (self.lost[entry.key],))
        return EntryState(entry.key, planned, "present", (), 7, 700, 1)

    async def _answer(self, revision: int, keys: tuple[str, ...]) -> None:
        refused = [key for key in keys if self.refuses(key)]
        if self.mute:
            return
        if refused:
            failures = tuple(EntryFailure(key, 22, "Invalid argument") for key in refused)
            await self._connection.receive(Failed(revision, failures))
        else:
            await self._connection.receive(Ack(revision, 0.0, 0.1))

    async def tell(self, message: FromAgent) -> None:
        """Say something unasked."""
        await self._connection.receive(message)

    def disconnect(self) -> None:
        """Go away as a broken connection does."""
        self._connection.closed()


def hello(router: str, protocol: int = PROTOCOL) -> Hello:
    """Return an agent's first word."""
    return Hello(router, f"boot-{router}", "0.1.0", protocol, None, {"encap_red": True})


@dataclass
class Site:
    """A running controller, its application, and a client of it."""

    controller: Controller
    app: FastAPI
    client: httpx.AsyncClient
    agents: dict[str, Agent] = field(default_factory=dict)

    def connect_agents(self) -> None:
        """Bring up an agent for every router."""
        for node in self.controller.topology.routers():
            self.agents[node.name] = Agent(self.controller, node.name)

    async def attach(self, router: str = "ar1", node: str = "mn1", **more: Any) -> httpx.Response:
        """Send an attach event; `wait` goes to the query, the rest to the body."""
        return await self._event("attach", router, node, {"link_layer_address": mac(node)} | more)

    async def detach(self, router: str = "ar1", node: str = "mn1", **more: Any) -> httpx.Response:
        """Send a detach event."""
        return await self._event("detach", router, node, more)

    async def _event(
        self, verb: str, router: str, node: str, more: dict[str, Any]
    ) -> httpx.Response:
        query = {name: more.pop(name) for name in ("wait", "timeout") if name in more}
        body = {
            "event_id": f"{verb}-{node}-{router}-{self.controller.state.revision}",
            "mobile_node": node,
            "access_router": router,
        }
        return await self.client.post(f"/v1/{verb}", json=body | more, params=query)


@asynccontextmanager
async def running(
    topology: Topology | None = None,
    store: Store | None = None,
    tokens: TokenTable | None = None,
    rollout: RolloutSettings | None = None,
    parameters: MobilityParameters | None = None,
    max_body_bytes: int = 65_536,
    agents: bool = True,
) -> AsyncIterator[Site]:
    """Run a controller and its application in this event loop."""
    controller = Controller(
        topology or small_domain(),
        parameters or MobilityParameters(late_packets_ms=50),
        rollout or RolloutSettings(heartbeat_s=PATIENT_S),
        store or MemoryStore(),
        SystemClock(),
        "boot",
    )
    settings = ControllerSettings(http=HttpSettings(max_body_bytes=max_body_bytes))
    app = create_app(controller, settings, tokens)
    await controller.start()
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://srv6dmm") as client:
        site = Site(controller, app, client)
        if agents:
            site.connect_agents()
        try:
            yield site
        finally:
            await controller.stop()


def token_table(**principals: Principal) -> TokenTable:
    """Return a table in which a token's text is its name."""
    return TokenTable({token_digest(name): who for name, who in principals.items()})


def refused(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Assert that a response is that problem; return the document."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    document: dict[str, Any] = response.json()
    assert document["type"] == f"urn:srv6dmm:problem:{kind}", document
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    return document


@asynccontextmanager
async def listening(site: Site, path: Path) -> AsyncIterator[Server]:
    """Serve a site's application on a Unix socket, as the controller does."""
    server = make_server(site.app, HttpSettings(), unix_socket(path))
    running = asyncio.create_task(server.serve(sockets=[]))
    try:
        await server.up.wait()
        yield server
    finally:
        server.should_exit = True
        await running


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition; fail when it does not come about in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nobody tells when it comes about
            await asyncio.sleep(0.002)
