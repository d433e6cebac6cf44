"""/openapi.json is complete, and schemathesis finds no answer that it does not describe."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from srv6dmm_api import shapes
from srv6dmm_api.auth import TokenTable
from srv6dmm_api.problems import PREFIX, TITLES
from srv6dmm_api.server import make_server, tcp_socket

from srv6dmm.config import HttpSettings, RolloutSettings
from tests.api.support import PATIENT_S, running

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
OPERATIONS = (
    "POST /v1/attach",
    "POST /v1/detach",
    "GET /v1/mobile-nodes",
    "GET /v1/mobile-nodes/{mobile_node}",
    "GET /v1/routers",
    "GET /v1/routers/{router}",
    "GET /v1/routers/{router}/plan",
    "POST /v1/routers/{router}/resync",
    "PUT /v1/routers/{router}/mode",
    "GET /v1/paths",
    "GET /v1/paths/alternatives",
    "GET /v1/paths/explain",
    "POST /v1/paths/explain",
    "GET /v1/topology",
    "PUT /v1/topology",
    "PATCH /v1/topology",
    "GET /v1/topology/document",
    *(
        f"{method} /v1/{kind}{name}"
        for kind in ("policies", "flows", "groups")
        for method, name in (
            ("GET", ""),
            ("POST", ""),
            ("GET", "/{name}"),
            ("PUT", "/{name}"),
            ("DELETE", "/{name}"),
        )
    ),
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
)
BOUNDED = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
TAKES_NOTHING = {
    "GET /v1/routers",
    "GET /v1/topology",
    "GET /v1/topology/document",
    "GET /v1/policies",
    "GET /v1/flows",
    "GET /v1/groups",
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
}
ENDLESS = "GET /v1/events"


async def _document(tokens: TokenTable | None = None) -> dict[str, Any]:
    async with running(agents=False, tokens=tokens) as site:
        response = await site.client.get("/openapi.json")
        assert response.status_code == 200
        document: dict[str, Any] = response.json()
        return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


async def test_every_route_is_described() -> None:
    document = await _document()
    assert {name for name, _ in _operations(document)} == {*OPERATIONS, ENDLESS}


async def test_without_tokens_none_is_asked_for() -> None:
    document = await _document()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for name, operation in _operations(document):
        open_to_all = name in ("GET /healthz", "GET /readyz")
        assert operation["security"] == ([] if open_to_all else [{"token": []}, {}]), name


async def test_every_parameter_has_an_example_that_fits() -> None:
    document = await _document()
    checked = 0
    for name, operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            schema = {**parameter["schema"], "components": document["components"]}
            place = (name, parameter["name"])
            assert schema.get("examples"), place
            for example in schema["examples"]:
                validator = jsonschema_rs.Draft202012Validator(schema)
                assert validator.is_valid(example), (place, example)
                checked += 1
    assert checked > 30


async def test_every_operation_has_examples_and_problems() -> None:
    document = await _document(TokenTable({}))
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    schemas = document["components"]["schemas"]
    for name, operation in _operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        if "requestBody" in operation:
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            schema = schemas[reference.rpartition("/")[2]]
            assert schema["examples"], name
        open_to_all = name in ("GET /healthz", "GET /readyz")
        assert operation["security"] == ([] if open_to_all else [{"token": []}]), name
        assert open_to_all or {"401", "403"} <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            [(media, content)] = response["content"].items()
            assert content["schema"], (name, status)
            assert content["example"] is not None, (name, status)
            if int(status) >= 400 and name != "GET /readyz":
                assert media == "application/problem+json", (name, status)
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                example = content["example"]
                assert example["status"] == int(status)
                assert example["type"].removeprefix(PREFIX) in TITLES
                assert example["title"] == TITLES[example["type"].removeprefix(PREFIX)]
    assert "HTTPValidationError" not in schemas


async def test_every_example_fits_its_schema() -> None:
    document = await _document()
    checked = 0
    for name, operation in _operations(document):
        for status, response in operation["responses"].items():
            for media, content in response["content"].items():
                schema = {**content["schema"], "components": document["components"]}
                validator = jsonschema_rs.Draft202012Validator(schema)
                errors = [error.message for error in validator.iter_errors(content["example"])]
                assert not errors, (name, status, media, errors)
                checked += 1
    assert checked > 60
    for model in (shapes.PathShape, shapes.NodePathsShape, shapes.NodesShape):
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The schema of a server in a thread of its own, with a mobile node on the move."""
    started = threading.Event()
    found: dict[str, Any] = {}

    async def run() -> None:
        impatient = RolloutSettings(
            prepare_timeout_s=0.02, switch_timeout_s=0.02, heartbeat_s=PATIENT_S
        )
        async with running(rollout=impatient) as site:
            await site.attach("ar1", node="mn1", wait="applied")
            await site.attach("ar2", node="mn1", wait="applied")
            site.agents["ar3"].mute = True
            listener = tcp_socket("127.0.0.1", 0)
            server = make_server(site.app, HttpSettings(), None)
            found.update(server=server, port=listener.getsockname()[1])
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await server.up.wait()
            started.set()
            await serving

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(20)
    try:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{found['port']}/openapi.json")
    finally:
        found["server"].should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def _name_what_exists(case: Any) -> None:
    """Have a generated request speak of what there is, so that it gets beyond the look-ups."""
    if isinstance(case.body, dict) and "event_id" in case.body:
        case.body["access_router"] = "ar1"
    if isinstance(case.body, dict) and "mn" in case.body:
        case.body |= {"mn": "mn1", "dst": "2001:db8::1"}
    for parameters in (case.path_parameters, case.query):
        for name, value in (
            ("router", "br1"),
            ("mobile_node", "mn1"),
            ("from", "br1"),
            ("to", "ar1"),
            ("mn", "mn1"),
            ("dst", "2001:db8::1"),
        ):
            if name in (parameters or {}):
                parameters[name] = value


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda name: name.replace("/", " "))
def test_no_answer_is_undescribed(operation: str, api: Any) -> None:
    """Requests that fit the schema and requests that do not, the same ones in every run."""
    method, path = operation.split()

    @BOUNDED
    @given(
        case=api[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE),
        known=strategies.booleans(),
    )
    def fits(case: Any, known: bool) -> None:
        if known:
            _name_what_exists(case)
        case.call_and_validate(checks=[*CHECKS], timeout=20)

    @BOUNDED
    @given(case=api[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def does_not_fit(case: Any) -> None:
        case.call_and_validate(checks=[*CHECKS, negative_data_rejection], timeout=20)

    fits()
    if operation not in TAKES_NOTHING:
        does_not_fit()
