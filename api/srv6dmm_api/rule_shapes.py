"""What routes of policies, flow rules and groups answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from srv6dmm_api.rule_schemas import (
    FLOW,
    GROUP,
    BindingSidBody,
    CandidateBody,
    MatchBody,
)


def _shape(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


_POLICY = {
    "name": "low-delay",
    "candidates": [
        {
            "preference": 200,
            "paths": [
                {
                    "weight": 1,
                    "objective": "delay",
                    "constraints": {"avoid_routers": ["tr2"]},
                    "waypoints": [{"router": "tr3", "service": None}],
                }
            ],
        }
    ],
    "disjoint_from": None,
    "invalid": "shortest",
    "binding_sids": [],
    "used_by": ["flow voice"],
}
_LIST = {
    "segments": ["fc00:0:c3:e00::", "fc00:0:a1:d06::"],
    "interface": "tr3",
    "next_hop": "fe80::7",
    "mtu": 1600,
    "weight": 1,
    "return_segments": [],
}
_FLOW = {
    "name": "voice",
    **FLOW,
    "group": None,
    "match": {**FLOW["match"], "own_prefix": None, "own_ports": None, "dscp": None},  # type: ignore[dict-item]
    "entries": [
        {
            "router": "br1",
            "source": "2001:db8:cafe::/64",
            "destination": "2001:db8:a1::/64",
            "order": 6392,
            "lists": [_LIST],
            "backup": None,
            "traffic": {"packets": 9120, "bytes": 1276800, "idle_ms": 40},
        }
    ],
}
_GROUP = {"name": "cameras", **GROUP, "used_by": []}


class PolicyShape(BaseModel):
    """A policy, and who names it."""

    model_config = _shape(_POLICY)
    name: str
    candidates: list[CandidateBody]
    disjoint_from: str | None
    invalid: Literal["shortest", "drop"]
    binding_sids: list[BindingSidBody]
    used_by: list[str]


class PoliciesShape(BaseModel):
    """Every policy in name order."""

    model_config = _shape({"policies": [_POLICY]})
    policies: list[PolicyShape]


class ListShape(BaseModel):
    """A segment list in travel order; `mtu` is that of its links, outer header included."""

    model_config = ConfigDict(extra="forbid")
    segments: list[str]
    interface: str
    next_hop: str
    mtu: int
    weight: int
    return_segments: list[str] = Field(
        description="What leads probes of the list back along it; empty: plain routing does."
    )


class FlowTrafficShape(BaseModel):
    """Packets that a router's fast path took for the entry, and since when there were none."""

    model_config = ConfigDict(extra="forbid")
    packets: int
    bytes: int
    idle_ms: int


class FlowEntryShape(BaseModel):
    """What a head-end does with the rule's packets now; without lists it drops them."""

    model_config = ConfigDict(extra="forbid")
    router: str
    source: str
    destination: str
    order: int
    lists: list[ListShape]
    backup: ListShape | None
    traffic: FlowTrafficShape | None = Field(
        description="null: none since the entry was made, or a router in mode netlink."
    )


class FlowShape(BaseModel):
    """A flow rule, and what it comes to now."""

    model_config = _shape(_FLOW)
    name: str
    policy: str
    mobile_node: str | None
    group: str | None
    match: MatchBody
    priority: int
    direction: Literal["both", "uplink", "downlink"]
    entries: list[FlowEntryShape]


class FlowsShape(BaseModel):
    """Every flow rule in name order, without entries."""

    model_config = _shape({"flows": [{k: v for k, v in _FLOW.items() if k != "entries"}]})
    flows: list[FlowRuleShape]


class FlowRuleShape(BaseModel):
    """A flow rule."""

    model_config = ConfigDict(extra="forbid")
    name: str
    policy: str
    mobile_node: str | None
    group: str | None
    match: MatchBody
    priority: int
    direction: Literal["both", "uplink", "downlink"]


class GroupShape(BaseModel):
    """A group, and who names it."""

    model_config = _shape(_GROUP)
    name: str
    members: list[str]
    used_by: list[str]


class GroupsShape(BaseModel):
    """Every group in name order."""

    model_config = _shape({"groups": [_GROUP]})
    groups: list[GroupShape]


class ChangedShape(BaseModel):
    """A change that is durable."""

    model_config = _shape({"name": "voice", "revision": 42, "applied": True, "took_ms": 7.9})
    name: str
    revision: int
    applied: bool | None = Field(
        default=None, description="With wait=applied: whether every router acknowledged."
    )
    took_ms: float | None = Field(default=None, description="Until the last of them did.")
