"""Policies as documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from srv6dmm.model.policy import DynamicPath, Invalid, Objective, Policy
from srv6dmm.policy_codec import policy_document, read_policy
from tests.contract.changes import POLICIES


@given(POLICIES)
def test_a_document_reads_as_what_it_was_made_of(policy: Policy) -> None:
    assert read_policy(policy_document(policy)) == policy


def test_a_short_document_means_the_defaults() -> None:
    policy = read_policy({"name": "p", "candidates": [{"paths": [{"objective": "delay"}]}]})
    assert policy.invalid is Invalid.SHORTEST
    assert policy.candidates[0].preference == 100
    assert policy.candidates[0].paths[0].weight == 1
    assert policy.candidates[0].paths[0].path == DynamicPath(Objective.DELAY)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ({"objective": "speed"}, "objective"),
        ({"constraints": {"avoid_link": ["a:b"]}}, "constraints.avoid_link: there is no such"),
        ({"constraints": {"avoid_links": ["ar1"]}}, "'ar1' is no end of a link; write"),
        ({"constraints": {"avoid_links": [7]}}, "7 is no end of a link"),
        ({"constraints": {"avoid_routers": "ar1"}}, "constraints"),
        ({"constraints": {"maximum_hops": "many"}}, "constraints"),
        ({"segments": ["fc00::1"], "waypoints": [{"router": "tr1"}]}, "given, and not computed"),
        ({"segments": ["fc00::g"]}, "segments"),
        ({"colour": 7}, "colour"),
        ({"waypoints": [{"node": "tr1"}]}, "waypoints"),
    ],
)
def test_what_is_no_document_is_refused_by_place(path: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="candidates") as refused:
        read_policy({"name": "p", "candidates": [{"paths": [path]}]})
    assert words in str(refused.value)
