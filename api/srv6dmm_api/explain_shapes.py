"""What explanations look like, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from srv6dmm_api import schemas

_EXAMPLE: dict[str, Any] = {
    "packet": {
        "source": "2001:db8:cafe::2",
        "destination": "2001:db8:a1::1",
        "protocol": 17,
        "source_port": 5004,
        "destination_port": 40000,
        "dscp": 0,
    },
    "mobile_node": "mn1",
    "interface": "0",
    "serving": "ar1",
    "head_end": "br1",
    "rules": [
        {
            "name": "voice",
            "priority": 200,
            "policy": "low-delay",
            "matches": True,
            "decides": True,
            "reason": "it decides",
        }
    ],
    "policy": "low-delay",
    "fell_back": False,
    "candidates": [
        {
            "preference": 100,
            "active": True,
            "reason": None,
            "paths": [
                {
                    "weight": 1,
                    "routers": ["br1", "tr3", "ar1"],
                    "segments": ["fc00:0:c3:f01::", "fc00:0:a1:d06::"],
                    "igp_metric": 50,
                    "te_metric": 50,
                    "delay_us": 0,
                    "mtu": 1536,
                    "reason": None,
                }
            ],
        }
    ],
    "mode": "encap.red",
    "lists": [
        {
            "weight": 1,
            "backup": False,
            "segments": [
                {
                    "sid": "fc00:0:c3:f01::",
                    "router": "tr3",
                    "behavior": "End.X",
                    "detail": "out of ar1 to ar1",
                    "slots": [],
                },
                {
                    "sid": "fc00:0:a1:d06::",
                    "router": "ar1",
                    "behavior": "End.DT6",
                    "detail": None,
                    "slots": [],
                },
            ],
            "inner_mtu": 1536,
            "header": {
                "source": "fc00:0:b1::1",
                "destination": "fc00:0:c3:f01::",
                "next_header": 43,
                "srh": "2902040100000000fc00000000a10d060000000000000000",
                "octets": 64,
            },
        }
    ],
    "walks": [
        {
            "outcome": "delivered",
            "detail": "mn1 gets it from ar1",
            "hops": [
                {
                    "router": "br1",
                    "arrives_by": None,
                    "leaves_by": "tr3",
                    "applied": True,
                    "in_sync": True,
                    "reason": None,
                    "steps": [
                        {
                            "action": "flow rule voice: encap.red, fc00:0:c3:f01::, "
                            "fc00:0:a1:d06::",
                            "key": "flow voice 2001:db8:cafe::/64 2001:db8:a1::/64",
                            "state": "present",
                            "found": [],
                            "packets": None,
                            "bytes": None,
                            "errors": None,
                        }
                    ],
                    "headers": [["fc00:0:c3:f01::", "fc00:0:a1:d06::"]],
                    "prefix_packets": 1200,
                    "prefix_bytes": 960000,
                }
            ],
        }
    ],
}
_LIVE: dict[str, Any] = {
    "router": "br1",
    "interface": "cn",
    "token": "5f0c2a9b7d1e4436",
    "sent": True,
    "reason": None,
    "agrees": True,
    "difference": None,
    "ending": "it left ar1 by acc0",
    "routers": ["br1", "tr3", "ar1"],
    "hops": [
        {
            "router": "br1",
            "seen": True,
            "arrives_by": "cn",
            "leaves_by": "tr3",
            "at_us": 210,
            "headers": [["fc00:0:c3:f01::", "fc00:0:a1:d06::"]],
        }
    ],
    "observations": [
        {
            "router": "br1",
            "interface": "cn",
            "direction": "in",
            "at_us": 210,
            "hop_limit": 64,
            "headers": [],
        }
    ],
    "answered_by": [],
    "unwatched": [],
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PacketShape(_Part):
    """The packet that is explained."""

    source: str
    destination: str
    protocol: int
    source_port: int | None
    destination_port: int | None
    dscp: int


class RuleVerdictShape(_Part):
    """A rule that concerns the node, and what it says of the packet."""

    name: str
    priority: int
    policy: str
    matches: bool
    decides: bool
    reason: str


class PathChoiceShape(_Part):
    """A path of a candidate: where it leads, or the reason why there is none."""

    weight: int
    routers: list[str] | None
    segments: list[str] | None
    igp_metric: int | None
    te_metric: int | None
    delay_us: int | None
    mtu: int | None
    reason: str | None


class CandidateShape(_Part):
    """A candidate path, and the reason why it is not the active one."""

    preference: int
    active: bool
    reason: str | None
    paths: list[PathChoiceShape]


class SlotShape(_Part):
    """A SID, whose it is and what it does there; in a container, as its router sees it."""

    sid: str
    router: str | None
    behavior: str
    detail: str | None


class MeaningShape(SlotShape):
    """A SID of a list. A `container` (RFC 9800) is of the router it ends at."""

    slots: list[SlotShape] = Field(description="Of a container: its SIDs in travel order.")


class HeaderShape(_Part):
    """The outer header as it will be on the wire; `srh` in hexadecimal."""

    source: str
    destination: str
    next_header: int
    srh: str
    octets: int


class ListMeaningShape(_Part):
    """A segment list that packets may get."""

    weight: int
    backup: bool
    segments: list[MeaningShape]
    inner_mtu: int = Field(description="The largest packet in bytes that fits.")
    header: HeaderShape | None


class StepShape(_Part):
    """One thing a router does, and the plan entry that makes it, as its kernel has it."""

    action: str
    key: str | None
    state: Literal["present", "different", "missing", "unread"] | None = Field(
        description="As read back for this answer; null: the router was not heard."
    )
    found: list[str] = Field(description="What is not as planned, a sentence each.")
    packets: int | None = Field(description="Counted by kernel and fast path; null: not counted.")
    bytes: int | None
    errors: int | None


class HopShape(_Part):
    """What one router does. `headers`: segments left in each, the outermost last."""

    router: str
    arrives_by: str | None
    leaves_by: str | None
    applied: bool = Field(description="Whether the router acknowledged all it was told.")
    in_sync: bool | None = Field(
        description="Whether applied plan, kernel and fast path are as the plan; null: not known."
    )
    reason: str | None = Field(description="Why it is not in sync, or not known.")
    steps: list[StepShape]
    headers: list[list[str]]
    prefix_packets: int | None = Field(description="Its fast path's count for the prefix.")
    prefix_bytes: int | None


class WalkShape(_Part):
    """A packet's way."""

    outcome: Literal["delivered", "left", "local", "dropped", "unreachable", "loop"]
    detail: str
    hops: list[HopShape]


class _Explanation(BaseModel):
    packet: PacketShape
    mobile_node: str
    interface: str
    serving: str
    head_end: str
    rules: list[RuleVerdictShape]
    policy: str | None
    fell_back: bool = Field(description="No candidate path is valid.")
    candidates: list[CandidateShape]
    mode: Literal["encap", "encap.red", "inline"]
    lists: list[ListMeaningShape]
    walks: list[WalkShape]


class ExplanationShape(_Explanation):
    """Why a packet goes where it goes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})


class LiveHopShape(_Part):
    """A router that the probe came by."""

    router: str
    seen: bool = Field(description="False: nobody looked there; its neighbours saw it.")
    arrives_by: str
    leaves_by: str | None
    at_us: int | None = Field(description="Since it was sent, by the router's clock.")
    headers: list[list[str]] = Field(description="As it left, or else as it came.")


class ObservationShape(_Part):
    """The probe crossed an interface."""

    router: str
    interface: str
    direction: Literal["in", "out"]
    at_us: int
    hop_limit: int
    headers: list[list[str]]


class UnwatchedShape(_Part):
    """A router at which nobody looked out for the probe."""

    router: str
    reason: str


class LiveShape(_Part):
    """Where a probe really went."""

    router: str = Field(description="Where it was sent.")
    interface: str | None = Field(description="By which it came in there.")
    token: str = Field(description="The packet's last eight octets, in hexadecimal.")
    sent: bool
    reason: str | None = Field(description="Why it was not sent.")
    agrees: bool | None = Field(
        description="Whether it went as simulated, header by header; null: too little was seen."
    )
    difference: str | None = Field(description="The first one.")
    ending: str
    routers: list[str]
    hops: list[LiveHopShape]
    observations: list[ObservationShape] = Field(description="By the routers' clocks.")
    answered_by: list[str] = Field(description="Who sent an ICMPv6 error back.")
    unwatched: list[UnwatchedShape]


class LiveExplanationShape(_Explanation):
    """Why a packet goes where it goes, and where it went."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{**_EXAMPLE, "live": _LIVE}]}
    )
    live: LiveShape


Port = Annotated[int, Field(ge=0, le=65535, strict=True)]
Address = Annotated[str, Field(max_length=45)]


class ProbeQuestion(BaseModel):
    """A packet to explain and to send: the members that GET has as its query."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "mn": "mn1",
                    "dst": "2001:db8:cafe::2",
                    "direction": "downlink",
                    "proto": 17,
                    "sport": 5004,
                    "dport": 40000,
                }
            ]
        },
    )
    mn: schemas.Identifier
    dst: Address = Field(description="The other end's; with downlink, the sender's.")
    direction: Literal["uplink", "downlink"] = "uplink"
    proto: int = Field(default=59, ge=0, le=255, strict=True, description="59: no next header.")
    sport: Port | None = None
    dport: Port | None = None
    dscp: int = Field(default=0, ge=0, le=63, strict=True)
    interface: schemas.Identifier | None = None
    address: Address | None = Field(default=None, description="The node's own.")
    head_end: schemas.Identifier | None = None
