"""Whatever a client sends: a clear 4xx with its place, and nothing changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Message

from tests.api.support import MAC, PROBLEM, Site, refused, running

GOOD: dict[str, Any] = {
    "event_id": "e1",
    "mobile_node": "mn1",
    "access_router": "ar1",
    "link_layer_address": MAC,
}
JSON = {"content-type": "application/json"}


async def _post(site: Site, content: bytes, **headers: str) -> Any:
    return await site.client.post("/v1/attach", content=content, headers=JSON | headers)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"nonsense",
        b"\xff\xfe{}",
        b'{"event_id": "e1", "event_id": "e2"}',
        b'{"timestamp": NaN}',
        b'{"timestamp": -Infinity}',
        b'{"timestamp": ' + b"9" * 5000 + b"}",
        b"[" * 30_000 + b"]" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"{}{}",
        b'{"a": "\x00"}',
        "{}".encode("utf-16"),
        b'\xef\xbb\xbf{"a": 1}',
        b" ",
    ],
    ids=lambda content: repr(content[:24]),
)
async def test_what_is_not_json(content: bytes) -> None:
    async with running(agents=False) as site:
        document = refused(await _post(site, content), 400, "malformed-json")
        assert document["instance"] == "/v1/attach"
        assert site.controller.state.revision == 0


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("event_id", ""),
        ("event_id", None),
        ("event_id", 5),
        ("event_id", "a" * 129),
        ("event_id", "a b"),
        ("event_id", "a\u0000"),
        ("event_id", "a\n"),
        ("event_id", "\ud800"),
        ("event_id", "-a"),
        ("mobile_node", "../../etc"),
        ("mobile_node", "mn1/0"),
        ("mobile_node", {"a": 1}),
        ("mobile_node", "ｍｎ１"),
        ("access_router", ["ar1"]),
        ("access_router", True),
        ("interface", ""),
        ("interface", 0),
        ("link_layer_address", "01:00:00:00:00:01"),
        ("link_layer_address", "02:00:00:00:01"),
        ("link_layer_address", "02:00:00:00:01:0g"),
        ("link_layer_address", "02:00:00:00:01:01\u0000"),
        ("link_layer_address", 2),
        ("timestamp", -1),
        ("timestamp", (1 << 53) + 1),
        ("timestamp", 10**400),
        ("timestamp", 1.5),
        ("timestamp", 1e300),
        ("timestamp", "1"),
        ("timestamp", True),
        ("sequence", 65536),
        ("sequence", -1),
        ("handoff_indicator", 0),
        ("handoff_indicator", 6),
        ("handoff_indicator", "3"),
        ("handoff_indicator", None),
        ("lifetime", 0),
        ("lifetime", 262_141),
        ("lifetime", []),
        ("unheard_of", 1),
        ("\ud800", 1),
        ("a/b~c", 1),
        ("x" * 50_000, 1),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_what_is_not_an_event_names_the_member(member: str, value: Any) -> None:
    async with running(agents=False) as site:
        response = await _post(site, json.dumps(GOOD | {member: value}).encode())
        document = refused(response, 422, "validation")
        [fault] = document["errors"]
        name = member.replace("~", "~0").replace("/", "~1")
        name = name.encode("utf-8", "backslashreplace").decode()
        assert fault["in"] == "body"
        assert fault["pointer"].rstrip(".") == f"/{name}"[: len(fault["pointer"].rstrip("."))]
        assert len(fault["pointer"]) <= 203
        assert fault["message"] in document["detail"]
        assert len(response.content) < 2000
        assert site.controller.state.revision == 0


@pytest.mark.parametrize("body", ["[]", "5", "null", '"text"', "{}"])
async def test_what_is_json_but_no_event(body: str) -> None:
    async with running(agents=False) as site:
        refused(await _post(site, body.encode()), 422, "validation")


async def test_no_body_at_all() -> None:
    async with running(agents=False) as site:
        refused(await site.client.post("/v1/attach"), 422, "validation")


async def test_an_infinite_float_is_not_a_timestamp() -> None:
    async with running(agents=False) as site:
        content = json.dumps(GOOD)[:-1] + ', "timestamp": 1e999}'
        refused(await _post(site, content.encode()), 422, "validation")


async def test_many_faults_are_counted_not_listed() -> None:
    async with running(agents=False) as site:
        body = GOOD | {f"m{number}": 1 for number in range(4000)}
        response = await _post(site, json.dumps(body).encode())
        document = refused(response, 422, "validation")
        assert len(document["errors"]) == 20
        assert document["detail"].endswith("and 3980 more")
        assert len(response.content) < 8000


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "", "multipart/form-data"])
async def test_other_media_types(media: str) -> None:
    async with running(agents=False) as site:
        response = await site.client.post(
            "/v1/attach", content=json.dumps(GOOD), headers={"content-type": media}
        )
        refused(response, 415, "unsupported-media-type")


async def test_a_charset_parameter_is_fine() -> None:
    async with running(agents=False) as site:
        response = await site.client.post(
            "/v1/attach",
            content=json.dumps(GOOD),
            headers={"content-type": "Application/JSON; charset=utf-8"},
        )
        assert response.status_code == 200


async def test_body_limit_to_the_byte() -> None:
    whole = json.dumps(GOOD).encode()
    async with running(agents=False, max_body_bytes=len(whole) + 10) as site:
        refused(await _post(site, whole + b" " * 11), 413, "body-too-large")
        assert site.controller.state.revision == 0
        assert (await _post(site, whole + b" " * 10)).status_code == 200


@pytest.mark.parametrize("length", ["99999999999", "9" * 5000, "00065537"])
async def test_content_lengths_beyond_the_limit(length: str) -> None:
    async with running(agents=False) as site:
        response = await _post(site, b"{}", **{"content-length": length})
        refused(response, 413, "body-too-large")


@pytest.mark.parametrize("length", ["-1", "1e3", "", "x", "+5", " 1_0"])
async def test_content_lengths_that_are_no_numbers(length: str) -> None:
    async with running(agents=False) as site:
        response = await _post(site, b"{}", **{"content-length": length})
        refused(response, 400, "malformed-request")


async def test_an_endless_chunked_body_is_cut_off_at_the_limit() -> None:
    """The application must not read on: 40 chunks of 1 KiB are offered, 5 may be taken."""
    taken = 0
    sent: list[Message] = []

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 1024, "more_body": taken < 40}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/attach",
        "raw_path": b"/v1/attach",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")],
    }
    async with running(agents=False, max_body_bytes=4096) as site:
        await site.app(scope, receive, send)
    assert sent[0]["status"] == 413
    assert taken == 5


async def test_a_client_that_goes_away_in_the_middle_of_a_body() -> None:
    sent: list[Message] = []
    messages = iter(
        [
            {"type": "http.request", "body": b'{"event_id"', "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/attach",
        "raw_path": b"/v1/attach",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    async with running(agents=False) as site:
        await site.app(scope, receive, send)
        assert site.controller.state.revision == 0
    assert sent == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/mobile-nodes/"),
        ("GET", "/v1/mobile-nodes/a/b"),
        ("GET", "/v2/attach"),
        ("POST", "/v1/nothing"),
        ("GET", "/docs"),
        ("GET", "/%00"),
        ("GET", "/%ff%fe"),
        ("GET", "/%ED%A0%80"),
    ],
)
async def test_unknown_routes(method: str, path: str) -> None:
    async with running(agents=False) as site:
        document = refused(await site.client.request(method, path), 404, "not-found")
        assert document["instance"].isascii()


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/attach", "POST"),
        ("DELETE", "/v1/attach", "POST"),
        ("POST", "/v1/routers", "GET"),
        ("PUT", "/v1/mobile-nodes/mn1", "GET"),
        ("GET", "/v1/routers/ar1/resync", "POST"),
        ("POST", "/v1/routers/ar1/mode", "PUT"),
        ("TRACE", "/metrics", "GET"),
    ],
)
async def test_wrong_methods_say_which_are_right(method: str, path: str, allow: str) -> None:
    async with running(agents=False) as site:
        response = await site.client.request(method, path)
        refused(response, 405, "method-not-allowed")
        assert response.headers["allow"] == allow


@pytest.mark.parametrize(
    "query",
    [
        "wait=forever",
        "wait=",
        "wait=applied&timeout=0",
        "timeout=61",
        "timeout=nan",
        "timeout=inf",
        "timeout=-1",
        "timeout=%00",
        "timeout=x",
    ],
)
async def test_bad_queries(query: str) -> None:
    async with running(agents=False) as site:
        response = await site.client.post(f"/v1/attach?{query}", json=GOOD)
        document = refused(response, 422, "validation")
        assert document["errors"][0]["in"] == "query"
        assert site.controller.state.revision == 0


@pytest.mark.parametrize(
    "path",
    [
        "/v1/mobile-nodes/%00",
        "/v1/mobile-nodes/..%5C",
        "/v1/mobile-nodes/" + "a" * 200,
        "/v1/routers/%F0%9F%98%80",
        "/v1/routers/%20/plan",
        "/v1/mobile-nodes?limit=0",
        "/v1/mobile-nodes?limit=1001",
        "/v1/mobile-nodes?after=%2F",
        "/v1/events?since=-1",
        "/v1/events?since=99999999999999999999",
        "/v1/paths",
        "/v1/paths?from=br1",
        "/v1/paths?to=ar1",
        "/v1/paths?from=br1&to=ar1&mobile_node=mn1",
        "/v1/paths?to=ar1&mobile_node=mn1",
        "/v1/paths?from=br1&to=%00",
    ],
)
async def test_bad_names_and_numbers_in_urls(path: str) -> None:
    async with running(agents=False) as site:
        refused(await site.client.get(path), 422, "validation")


async def test_a_path_from_a_router_to_itself_and_between_all_others() -> None:
    async with running() as site:
        names = [*site.controller.topology.nodes, "ar9"]
        for source in names:
            for target in names:
                query = {"from": source, "to": target}
                response = await site.client.get("/v1/paths", params=query)
                assert response.status_code < 500, (query, response.text)
                if source == target != "ar9":
                    answer = response.json()
                    assert answer["path"] == [source]
                    assert (answer["metric"], answer["overhead_bytes"]) == (0, 0)
                    assert answer["segments"] == []


async def test_explanations_of_odd_packets_are_no_fault_of_ours() -> None:
    async with running() as site:
        await site.attach("ar1")
        answer = (await site.attach("ar2", wait="applied")).json()
        own = [p["prefix"].replace("::/64", "::5") for p in answer["prefixes"]]
        odd = ["2001:db8:cafe::1", "fe80::1", "::", "ff02::1", "fc00:0:3::", "192.0.2.1", "x"]
        for head_end in (*site.controller.topology.nodes, "ar9"):
            for target in (*own, *odd):
                for direction in ("uplink", "downlink", "sideways"):
                    query = {
                        "mn": "mn1",
                        "dst": target,
                        "direction": direction,
                        "head_end": head_end,
                    }
                    response = await site.client.get("/v1/paths/explain", params=query)
                    assert response.status_code < 500, (query, response.text)


@pytest.mark.parametrize("host", ["[::1", "a b", "x" * 3000, "\x7f", "http://[", "a/../b"])
async def test_an_odd_host_header_is_no_fault_of_ours(host: str) -> None:
    async with running(agents=False) as site:
        for path in ("/v1/nowhere", "/v1/mobile-nodes/mn9", "/v1/mobile-nodes?limit=0"):
            response = await site.client.get(path, headers={"host": host})
            assert 400 <= response.status_code < 500
            assert response.headers["content-type"] == PROBLEM
