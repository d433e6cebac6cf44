"""What explanations look like, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
                    "steps": [
                        {
                            "action": "flow rule voice: encap.red, fc00:0:c3:f01::, "
                            "fc00:0:a1:d06::",
                            "key": "flow voice 2001:db8:cafe::/64 2001:db8:a1::/64",
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
    """One thing a router does, and the key of the plan entry that makes it."""

    action: str
    key: str | None


class HopShape(_Part):
    """What one router does. `headers`: segments left in each, the outermost last."""

    router: str
    arrives_by: str | None
    leaves_by: str | None
    applied: bool = Field(description="Whether the router acknowledged all it was told.")
    steps: list[StepShape]
    headers: list[list[str]]
    prefix_packets: int | None = Field(description="Its fast path's count for the prefix.")
    prefix_bytes: int | None


class WalkShape(_Part):
    """A packet's way."""

    outcome: Literal["delivered", "left", "local", "dropped", "unreachable", "loop"]
    detail: str
    hops: list[HopShape]


class ExplanationShape(BaseModel):
    """Why a packet goes where it goes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})
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
