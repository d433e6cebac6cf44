"""Policies, flow rules and groups as they come in over HTTP, with limits and examples."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from srv6dmm.model.addresses import as_text
from srv6dmm_api.schemas import Identifier

_MAX_UINT32 = (1 << 32) - 1


def _prefix(text: str) -> str:
    try:
        return as_text(IPv6Network(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no IPv6 prefix: {error}") from None


def _sid(text: str) -> str:
    try:
        return as_text(IPv6Address(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no IPv6 address: {error}") from None


Sid = Annotated[str, Field(max_length=45), AfterValidator(_sid)]
Prefix = Annotated[str, Field(max_length=49), AfterValidator(_prefix)]
Port = Annotated[int, Field(ge=0, le=65535, strict=True)]
Ports = Annotated[
    list[Port], Field(min_length=2, max_length=2, description="First and last, both included.")
]
LinkEnd = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._@-]{1,64}:[^:/\s]{1,15}$", examples=["tr1:tr2"])
]
Names = Annotated[list[Identifier], Field(max_length=256)]
Links = Annotated[list[LinkEnd], Field(max_length=256)]
Srlgs = Annotated[
    list[Annotated[int, Field(ge=1, le=_MAX_UINT32, strict=True)]], Field(max_length=256)
]


POLICY = {
    "candidates": [
        {
            "preference": 200,
            "paths": [
                {
                    "objective": "delay",
                    "constraints": {"avoid_routers": ["tr2"]},
                    "waypoints": [{"router": "tr3"}],
                }
            ],
        }
    ],
    "invalid": "shortest",
}
FLOW = {
    "policy": "low-delay",
    "mobile_node": "mn1",
    "match": {"peer": "2001:db8:cafe::/64", "protocol": 17, "peer_ports": [5000, 5010]},
    "priority": 200,
    "direction": "both",
}
GROUP = {"members": ["mn1", "mn2"]}


def _example(example: dict[str, Any], name: str | None = None) -> ConfigDict:
    named = {"name": name, **example} if name is not None else example
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [named]})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConstraintsBody(_Part):
    """What a path must satisfy; what is left out demands nothing."""

    include_any: Names = Field(default=[], description="Affinities: every link has one of these.")
    include_all: Names = Field(default=[], description="Every link has all of these.")
    exclude_any: Names = Field(default=[], description="No link has any of these.")
    avoid_routers: Names = []
    avoid_links: Links = []
    avoid_srlgs: Srlgs = []
    require_routers: Names = Field(default=[], description="Passed in any order.")
    require_links: Links = []
    require_srlgs: Srlgs = []
    maximum_delay_us: Annotated[int, Field(ge=0, le=_MAX_UINT32, strict=True)] | None = None
    maximum_hops: Annotated[int, Field(ge=1, le=4095, strict=True)] | None = None
    minimum_mtu: Annotated[int, Field(ge=1280, le=65535, strict=True)] | None = Field(
        default=None, description="Bytes of inner packet that must fit, encapsulated."
    )
    maximum_segments: Annotated[int, Field(ge=1, le=16, strict=True)] | None = None


class WaypointBody(_Part):
    """A router that the path passes, or the nearest of an anycast group; a service there."""

    router: Identifier
    service: Identifier | None = None


class PathBody(_Part):
    """Either `segments`, in travel order, or what a computed path is asked for."""

    weight: int = Field(default=1, ge=1, le=_MAX_UINT32, strict=True)
    segments: Annotated[list[Sid], Field(min_length=1, max_length=16)] | None = None
    objective: Literal["igp", "te", "delay"] = "igp"
    constraints: ConstraintsBody = ConstraintsBody()
    waypoints: Annotated[list[WaypointBody], Field(max_length=16)] = []


class CandidateBody(_Part):
    """Paths that flows are spread over by weight; the greatest valid preference is active."""

    preference: int = Field(default=100, ge=0, le=_MAX_UINT32, strict=True)
    paths: Annotated[list[PathBody], Field(min_length=1, max_length=16)]


class BindingSidBody(_Part):
    """A SID that stands for the policy at one head-end (End.B6.Encaps)."""

    head_end: Identifier
    endpoint: Identifier
    sid: Sid


class PolicyBody(BaseModel):
    """What flows ask for by name (RFC 9256)."""

    model_config = _example(POLICY)
    candidates: Annotated[list[CandidateBody], Field(min_length=1, max_length=16)]
    disjoint_from: Identifier | None = Field(
        default=None, description="A policy that this one shares as little with as it can."
    )
    invalid: Literal["shortest", "drop"] = Field(
        default="shortest", description="What becomes of flows when no candidate is valid."
    )
    binding_sids: Annotated[list[BindingSidBody], Field(max_length=64)] = []


class NewPolicyBody(PolicyBody):
    """A policy that is not there yet."""

    model_config = _example(POLICY, "low-delay")
    name: Identifier


class MatchBody(_Part):
    """What a packet must be like; "own" is the mobile node's side. Left out: anything will do."""

    own_prefix: Prefix | None = None
    peer: Prefix | None = None
    protocol: Annotated[int, Field(ge=0, le=255, strict=True)] | None = None
    own_ports: Ports | None = None
    peer_ports: Ports | None = None
    dscp: Annotated[int, Field(ge=0, le=63, strict=True)] | None = None


class FlowBody(BaseModel):
    """Which packets of a mobile node, or of a group, take which policy."""

    model_config = _example(FLOW)
    policy: Identifier
    mobile_node: Identifier | None = None
    group: Identifier | None = None
    match: MatchBody = MatchBody()
    priority: int = Field(default=100, ge=0, le=999, strict=True, description="The greatest wins.")
    direction: Literal["both", "uplink", "downlink"] = "both"


class NewFlowBody(FlowBody):
    """A flow rule that is not there yet."""

    model_config = _example(FLOW, "voice")
    name: Identifier


class GroupBody(BaseModel):
    """Mobile nodes by a common name."""

    model_config = _example(GROUP)
    members: Annotated[list[Identifier], Field(max_length=1000)]


class NewGroupBody(GroupBody):
    """A group that is not there yet."""

    model_config = _example(GROUP, "cameras")
    name: Identifier


class TopologyBody(BaseModel):
    """A whole topology, in the form of a topology file."""

    model_config = _example(
        {
            "name": "campus",
            "domain": {"sid-block": "fc00::/32"},
            "topology": {
                "nodes": {"tr1": {"role": "transit", "locator": "fc00:0:1::/48"}},
                "links": [{"endpoints": ["tr1:port0", "ar1:core0"], "metric": 10}],
            },
        }
    )
    name: Identifier
    domain: dict[str, Any]
    topology: dict[str, Any]


class TopologyPatchBody(BaseModel):
    """A merge patch of a topology."""

    model_config = _example(
        {
            "topology": {
                "links": [{"endpoints": ["tr1:port0", "ar1:core0"], "drained": True}],
            },
        }
    )
    domain: dict[str, Any] = {}
    topology: dict[str, Any] = {}
