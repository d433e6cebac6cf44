"""Who may do what: every route against every kind of caller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from srv6dmm_api import auth
from srv6dmm_api.auth import Principal
from websockets.asyncio.client import unix_connect
from websockets.exceptions import InvalidStatus

from srv6dmm import codec
from srv6dmm.model.wire import Welcome
from tests.api.support import MAC, hello, listening, refused, running, token_table

TOKENS = token_table(
    reader=Principal("reader", frozenset({auth.READ})),
    writer=Principal("writer", frozenset({auth.MOBILITY_WRITE})),
    streamer=Principal("streamer", frozenset({auth.ROUTER_STREAM})),
    ar1=Principal("ar1", frozenset({auth.MOBILITY_WRITE, auth.ROUTER_STREAM}), "ar1"),
    admin=Principal("admin", frozenset({auth.ADMIN})),
)
EVENT = {
    "event_id": "e1",
    "mobile_node": "mn1",
    "access_router": "ar2",
    "link_layer_address": MAC,
}
LEFT = {name: value for name, value in EVENT.items() if name != "link_layer_address"}

READING = {"reader", "admin"}
DOCUMENT: dict[str, Any] = {"name": "small", "domain": {}, "topology": {}}
RULES: list[tuple[str, str, dict[str, Any]]] = [
    ("policies", "plain", {"candidates": [{"paths": [{}]}]}),
    ("flows", "voice", {"policy": "plain", "mobile_node": "mn1"}),
    ("groups", "cameras", {"members": ["mn1"]}),
]
ROUTES: list[tuple[str, str, dict[str, Any] | None, set[str]]] = [
    ("POST", "/v1/attach", EVENT, {"writer", "admin"}),
    ("POST", "/v1/detach", LEFT, {"writer", "admin"}),
    ("GET", "/v1/mobile-nodes", None, READING),
    ("GET", "/v1/mobile-nodes/mn1", None, READING),
    ("GET", "/v1/routers", None, READING),
    ("GET", "/v1/routers/ar1", None, READING),
    ("GET", "/v1/routers/ar1/plan", None, READING),
    ("POST", "/v1/routers/ar1/resync", None, {"admin"}),
    ("PUT", "/v1/routers/ar1/mode", {"mode": "netlink"}, {"admin"}),
    ("GET", "/v1/paths?from=br1&to=ar1", None, READING),
    ("GET", "/v1/paths/alternatives?from=br1&to=ar1", None, READING),
    ("GET", "/v1/topology", None, READING),
    ("GET", "/metrics", None, READING),
    ("GET", "/v1/paths/explain?mn=mn1&dst=2001:db8:cafe::2", None, READING),
    ("POST", "/v1/paths/explain", {"mn": "mn1", "dst": "2001:db8:cafe::2"}, {"admin"}),
    ("GET", "/v1/topology/document", None, READING),
    ("PUT", "/v1/topology", DOCUMENT, {"admin"}),
    ("PATCH", "/v1/topology", {}, {"admin"}),
    *(
        (method, f"/v1/{noun}{place}", body, allowed)
        for noun, name, made in RULES
        for method, place, body, allowed in (
            ("GET", "", None, READING),
            ("GET", f"/{name}", None, READING),
            ("POST", "", {"name": name, **made}, {"admin"}),
            ("PUT", f"/{name}", made, {"admin"}),
            ("DELETE", f"/{name}", None, {"admin"}),
        )
    ),
]
CALLERS = ("reader", "writer", "streamer", "ar1", "admin")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
async def test_every_route_against_every_caller(
    route: tuple[str, str, dict[str, Any] | None, set[str]],
) -> None:
    method, path, body, allowed = route
    async with running(tokens=TOKENS) as site:
        for header in (None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic admin", "admin"):
            response = await site.client.request(
                method, path, json=body, headers={} if header is None else {"authorization": header}
            )
            refused(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
        for caller in CALLERS:
            before = site.controller.state.revision
            response = await site.client.request(
                method, path, json=body, headers={"authorization": f"Bearer {caller}"}
            )
            if caller in allowed:
                # Not of this test: whether there is such a name, or the body makes sense.
                assert response.status_code in (200, 201, 404, 422), (caller, response.text)
            else:
                refused(response, 403, "forbidden")
                assert site.controller.state.revision == before


async def test_every_documented_route_is_in_the_matrix() -> None:
    """A route that is added has to say who may use it."""
    async with running(tokens=TOKENS) as site:
        documented = {
            (method.upper(), path)
            for path, operations in site.app.openapi()["paths"].items()
            for method in operations
        }
    tested = {(method, path.partition("?")[0]) for method, path, _, _ in ROUTES}
    placeholders = {"/ar1": "/{router}", "/mn1": "/{mobile_node}"}
    placeholders |= {f"/{name}": "/{name}" for _, name, _ in RULES}
    for given, placeholder in placeholders.items():
        tested = {(method, path.replace(given, placeholder)) for method, path in tested}
    apart = {("GET", "/v1/events"), ("GET", "/healthz"), ("GET", "/readyz")}
    assert documented == tested | apart


async def test_events_need_a_token_and_the_scope() -> None:
    """Not in the matrix because an accepted answer never ends."""
    async with running(tokens=TOKENS) as site:
        refused(await site.client.get("/v1/events"), 401, "unauthorized")
        response = await site.client.get("/v1/events", headers={"authorization": "Bearer writer"})
        refused(response, 403, "forbidden")


async def test_health_needs_no_token() -> None:
    async with running(tokens=TOKENS) as site:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert (await site.client.get(path)).status_code == 200


async def test_a_router_speaks_for_itself_only() -> None:
    async with running(tokens=TOKENS) as site:
        headers = {"authorization": "Bearer ar1"}
        response = await site.client.post("/v1/attach", json=EVENT, headers=headers)
        document = refused(response, 403, "forbidden")
        assert document["binding_status"] == 154
        assert "speaks for ar1" in document["detail"]
        assert site.controller.state.revision == 0
        own = EVENT | {"access_router": "ar1"}
        response = await site.client.post("/v1/attach", json=own, headers=headers)
        assert response.status_code == 200
        foreign = LEFT | {"event_id": "e2"}
        response = await site.client.post("/v1/detach", json=foreign, headers=headers)
        refused(response, 403, "forbidden")


async def test_the_scheme_is_case_insensitive() -> None:
    async with running(tokens=TOKENS) as site:
        response = await site.client.get("/v1/routers", headers={"authorization": "bearer reader"})
        assert response.status_code == 200


@pytest.mark.parametrize("odd", [b"Bearer \xff\xfe", b"Bearer " + b"x" * 8000, b"Bearer a b"])
async def test_odd_tokens_are_no_fault_of_ours(odd: bytes) -> None:
    async with running(tokens=TOKENS) as site:
        response = await site.client.get("/v1/routers", headers={b"authorization": odd})
        refused(response, 401, "unauthorized")


@pytest.mark.parametrize(
    ("token", "router", "status"),
    [
        (None, "ar1", 401),
        ("wrong", "ar1", 401),
        ("reader", "ar1", 403),
        ("writer", "ar1", 403),
        ("ar1", "ar2", 403),
        ("streamer", "ar9", 404),
        ("streamer", "ar1", None),
        ("ar1", "ar1", None),
        ("admin", "br1", None),
    ],
)
async def test_the_stream_against_every_caller(
    token: str | None, router: str, status: int | None, tmp_path: Path
) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    path = tmp_path / "socket"
    async with running(tokens=TOKENS, agents=False) as site, listening(site, path):
        opening = unix_connect(
            str(path), uri=f"ws://x/v1/routers/{router}/stream", additional_headers=headers
        )
        if status is None:
            async with opening as socket:
                await socket.send(codec.encode_message(hello(router)).decode())
                assert isinstance(codec.decode_message(await socket.recv()), Welcome)
            return
        with pytest.raises(InvalidStatus) as denied:
            async with opening:
                pass
        response = denied.value.response
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert json.loads(response.body)["status"] == status
        assert not any(r.connected for r in site.controller.routers())
