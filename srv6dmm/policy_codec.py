"""Policies as documents: in the store and in the API, one form.

A path of a candidate is either `segments`, a list given as it is, or what a computed one is asked
for: `objective`, `constraints`, `waypoints`. Links are named by either end, "router:interface".
"""

from __future__ import annotations

from typing import Any

import msgspec

from srv6dmm import codec
from srv6dmm.model.policy import (
    DEFAULT_PREFERENCE,
    DEFAULT_WEIGHT,
    BindingSid,
    CandidatePath,
    Constraints,
    DynamicPath,
    ExplicitPath,
    Invalid,
    Objective,
    Policy,
    Waypoint,
    WeightedPath,
)
from srv6dmm.model.sid import SegmentList

_LINKS = ("avoid_links", "require_links")


class _Path(msgspec.Struct, forbid_unknown_fields=True):
    weight: int = DEFAULT_WEIGHT
    segments: SegmentList | None = None
    objective: Objective = Objective.IGP
    constraints: dict[str, Any] = {}
    waypoints: tuple[Waypoint, ...] = ()


class _Candidate(msgspec.Struct, forbid_unknown_fields=True):
    paths: tuple[_Path, ...]
    preference: int = DEFAULT_PREFERENCE


class _Policy(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    candidates: tuple[_Candidate, ...]
    disjoint_from: str | None = None
    invalid: Invalid = Invalid.SHORTEST
    binding_sids: tuple[BindingSid, ...] = ()


def policy_document(policy: Policy) -> dict[str, Any]:
    """Return a policy as dicts, lists, text and numbers, everything said and in one order."""
    return {
        "name": policy.name,
        "candidates": [_candidate_document(candidate) for candidate in policy.candidates],
        "disjoint_from": policy.disjoint_from,
        "invalid": policy.invalid.value,
        "binding_sids": codec.to_builtins(policy.binding_sids),
    }


def read_policy(document: dict[str, Any]) -> Policy:
    """Return the policy of a document. Raises ValueError naming the place of a fault.

    Whether the policy makes sense in a domain is for core.policy_checks to say.
    """
    given = codec.from_builtins(document, _Policy)
    candidates = []
    for number, candidate in enumerate(given.candidates):
        paths = []
        for place, path in enumerate(candidate.paths):
            key = f"candidates[{number}].paths[{place}]"
            paths.append(WeightedPath(_read_path(path, key), path.weight))
        candidates.append(CandidatePath(tuple(paths), candidate.preference))
    return Policy(
        given.name, tuple(candidates), given.disjoint_from, given.invalid, given.binding_sids
    )


def _candidate_document(candidate: CandidatePath) -> dict[str, Any]:
    paths = [_path_document(weighted) for weighted in candidate.paths]
    return {"preference": candidate.preference, "paths": paths}


def _path_document(weighted: WeightedPath) -> dict[str, Any]:
    path = weighted.path
    if isinstance(path, ExplicitPath):
        return {"weight": weighted.weight, "segments": codec.to_builtins(path.segments)}
    constraints: dict[str, Any] = {}
    unset = Constraints()
    for key in Constraints.__dataclass_fields__:
        value = getattr(path.constraints, key)
        if value == getattr(unset, key):
            continue
        if key in _LINKS:
            value = map(str, value)
        constraints[key] = value if isinstance(value, int) else sorted(value)
    return {
        "weight": weighted.weight,
        "objective": path.objective.value,
        "constraints": constraints,
        "waypoints": codec.to_builtins(path.waypoints),
    }


def _read_path(path: _Path, key: str) -> DynamicPath | ExplicitPath:
    if path.segments is not None:
        if path.constraints or path.waypoints or path.objective is not Objective.IGP:
            raise ValueError(f"{key}: a path with segments is given, and not computed as well")
        return ExplicitPath(path.segments)
    given = dict(path.constraints)
    for name in _LINKS:
        if isinstance(given.get(name), list | tuple):
            given[name] = [_link_end(text, f"{key}.constraints.{name}") for text in given[name]]
    try:
        constraints = codec.from_builtins(given, Constraints)
    except ValueError as error:
        raise ValueError(f"{key}.constraints: {error}") from None
    unknown = sorted(given.keys() - Constraints.__dataclass_fields__.keys())
    if unknown:
        raise ValueError(f"{key}.constraints.{unknown[0]}: there is no such constraint")
    return DynamicPath(path.objective, constraints, path.waypoints)


def _link_end(text: object, key: str) -> dict[str, str]:
    node, colon, interface = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not (node and colon and interface):
        raise ValueError(f"{key}: {text!r} is no end of a link; write router:interface")
    return {"node": node, "interface": interface}
