"""Problem types: what the code raises, what the API titles and what the page lists agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from srv6dmm_api.problems import PREFIX, TITLES

from srv6dmm.model.errors import Refusal
from tests.api.support import refused, running

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/api.md").read_text()


def _raised() -> Iterator[tuple[str, str | None]]:
    """Yield (place, type) of every Refusal made in the code; type None: not a literal.

    `known` makes one of the type that it is given.
    """
    for room in ("srv6dmm", "api"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or ast.unparse(node.func) not in (
                    "Refusal",
                    "errors.Refusal",
                    "known",
                    "rules.known",
                ):
                    continue
                given = [k.value for k in node.keywords if k.arg == "type"] or node.args[:1]
                kind = given[0].value if isinstance(given[0], ast.Constant) else None
                yield f"{path.relative_to(ROOT)}:{node.lineno}", kind


def test_every_type_that_is_raised_has_a_title_and_a_row() -> None:
    raised = list(_raised())
    assert len(raised) > 20
    computed = [place for place, kind in raised if kind is None]
    # In `known`, of what it is given; what was refused before; and what the framework refuses.
    assert [place.rpartition(":")[0] for place in computed] == [
        "srv6dmm/controller/rules.py",
        "srv6dmm/core/outcomes.py",
        "api/srv6dmm_api/problems.py",
    ]
    for place, kind in raised:
        if kind is not None:
            assert kind in TITLES, f"{place}: add {kind!r} to TITLES and docs/api.md"


def test_the_page_lists_exactly_the_types_with_their_titles() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([0-9, ]+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert [kind for kind, _, _ in rows] == sorted(TITLES)
    for kind, _, title in rows:
        assert title.strip() == TITLES[kind]


def test_no_title_is_of_a_type_that_nobody_raises() -> None:
    raised = {kind for _, kind in _raised()} | {"not-found", "method-not-allowed"}
    assert set(TITLES) - raised == set()


def test_every_route_is_on_the_page() -> None:
    for source in sorted((ROOT / "api/srv6dmm_api").glob("*.py")):
        for route in re.findall(r'@router\.\w+\(\s*"([^"]+)"', source.read_text()):
            assert route in PAGE, f"docs/api.md does not mention {route} of {source.name}"


async def test_a_mistake_of_ours_is_a_problem_document_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> list[str]:
        raise ZeroDivisionError

    async with running(agents=False) as site:
        monkeypatch.setattr(site.controller, "not_ready", broken)
        monkeypatch.setattr(site.client._transport, "raise_app_exceptions", False)
        document = refused(await site.client.get("/readyz"), 500, "internal-error")
        assert "ZeroDivisionError" in document["detail"]


async def test_extra_members_do_not_hide_the_standard_ones() -> None:
    from srv6dmm_api.problems import problem

    refusal = Refusal("forbidden", "no", 403, binding_status=154, extra={"type": "x", "more": 1})
    body = problem(refusal, "/v1/a b?").body
    assert b'"type":"' + PREFIX.encode() + b'forbidden"' in body
    assert b'"more":1' in body
    assert b'"instance":"/v1/a%20b%3F"' in body
    assert b'"binding_status":154' in body
