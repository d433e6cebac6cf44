"""What comes in and goes out over HTTP, with its limits and examples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from srv6dmm.model.addresses import parse_mac

IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
"""Names of mobile nodes, routers, interfaces and events: nothing that needs quoting anywhere."""
IDENTIFIER_OR_NOTHING = r"^([A-Za-z0-9][A-Za-z0-9._:@-]{0,127})?$"
Identifier = Annotated[str, Field(pattern=IDENTIFIER, max_length=128)]
Mac = Annotated[
    str,
    Field(max_length=17),
    AfterValidator(parse_mac),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[0-9A-Fa-f][02468ACEace]([:-][0-9A-Fa-f]{2}){5}$",
            "description": "Unicast link-layer address; the node's link-local follows from it.",
        }
    ),
]

_TIMESTAMP = Field(
    default=None,
    ge=0,
    le=1 << 53,
    strict=True,
    description="When the event happened, milliseconds since the epoch (RFC 5213 section 5.5).",
)
_SEQUENCE = Field(
    default=None,
    ge=0,
    le=65535,
    strict=True,
    description="Sequence number modulo 65536 (RFC 6275 section 9.5.1); ignored with a timestamp.",
)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event_id: Identifier = Field(description="Names the event: a repetition has no effect.")
    mobile_node: Identifier
    access_router: Identifier
    interface: Identifier = "0"
    timestamp: int | None = _TIMESTAMP
    sequence: int | None = _SEQUENCE


class AttachBody(_Body):
    """A mobile node appeared at an access router."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "event_id": "7f3c",
                    "mobile_node": "mn1",
                    "access_router": "ar1",
                    "link_layer_address": "02:00:00:00:01:01",
                    "handoff_indicator": 3,
                    "lifetime": 3600,
                }
            ]
        },
    )

    link_layer_address: Mac
    handoff_indicator: int = Field(
        default=4,
        ge=1,
        le=5,
        strict=True,
        description="RFC 5213 section 8.4. For information: nothing is decided by it.",
    )
    lifetime: int | None = Field(
        default=None, ge=1, le=262_140, strict=True, description="Seconds."
    )


class DetachBody(_Body):
    """A mobile node left an access router."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "event_id": "7f3d",
                    "mobile_node": "mn1",
                    "access_router": "ar1",
                }
            ]
        },
    )


class ModeBody(BaseModel):
    """How a router is to forward."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"mode": "netlink"}]})

    mode: Literal["ebpf", "netlink"] = Field(
        description="By the fast path and the kernel's routes, or by the routes alone."
    )


class PrefixView(BaseModel):
    """A prefix of a session. `preferred`: the one for new flows."""

    prefix: str
    anchor: str
    preferred: bool


class RouterFailure(BaseModel):
    """A plan entry that a router's kernel refused, and why."""

    router: str
    key: str
    errno: int
    reason: str


class TimingsView(BaseModel):
    """Milliseconds since the event was received."""

    event_to_decided_ms: float
    event_to_durable_ms: float
    event_to_applied_ms: float | None = None
    stages: dict[str, float] = Field(default_factory=dict)


class EventAnswer(BaseModel):
    """What an event came to."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_id": "7f3c",
                    "outcome": "handover",
                    "mobile_node": "mn1",
                    "interface": "0",
                    "epoch": 2,
                    "serving": "ar3",
                    "lifetime": 3600,
                    "timestamp": None,
                    "sequence": None,
                    "revision": 17,
                    "replayed": False,
                    "applied": True,
                    "pending": [],
                    "failures": [],
                    "prefixes": [
                        {"prefix": "2001:db8:a1::/64", "anchor": "ar1", "preferred": False},
                        {"prefix": "2001:db8:a3::/64", "anchor": "ar3", "preferred": True},
                    ],
                    "timings": {
                        "event_to_decided_ms": 0.2,
                        "event_to_durable_ms": 1.1,
                        "event_to_applied_ms": 6.4,
                        "stages": {"prepare": 2.6, "switch": 4.9, "redirect": 6.4},
                    },
                }
            ]
        }
    )

    event_id: str
    outcome: Literal["registered", "refreshed", "handover", "detaching", "ignored"]
    mobile_node: str
    interface: str
    epoch: int
    serving: str | None
    prefixes: list[PrefixView]
    lifetime: int
    timestamp: int | None = Field(default=None, description="As in the event.")
    sequence: int | None = Field(default=None, description="As in the event.")
    revision: int
    replayed: bool
    applied: bool | None = Field(
        default=None, description="With wait=applied: whether every router acknowledged."
    )
    pending: list[str] = Field(default_factory=list, description="Routers still waited for.")
    failures: list[RouterFailure] = Field(
        default_factory=list, description="What the kernels of those routers refused."
    )
    timings: TimingsView


class Problem(BaseModel):
    """RFC 9457 problem document."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:srv6dmm:problem:unknown-router",
                    "title": "The router is not known",
                    "status": 422,
                    "detail": "'ar9' is no access router of this domain; there are ar1, ar2",
                    "instance": "/v1/attach",
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    binding_status: int | None = None
