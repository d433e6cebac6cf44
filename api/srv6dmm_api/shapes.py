"""What GET routes answer, for the OpenAPI document; tests hold the answers to these shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


def _shape(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


_BINDINGS = [
    {
        "prefix": "2001:db8:a1::/64",
        "anchor": "ar1",
        "state": "steered",
        "type": "session-lasting",
        "preferred": False,
    },
    {
        "prefix": "2001:db8:a3::/64",
        "anchor": "ar3",
        "state": "home",
        "type": "session-lasting",
        "preferred": True,
    },
]
_TRAFFIC = {"router": "br1", "packets": 1200, "bytes": 960_000, "idle_ms": 340}
_STEERING = {
    "head_end": "br1",
    "prefix": "2001:db8:a1::/64",
    "mode": "encap.red",
    "segments": ["fc00:0:a3:d06::"],
    "path": ["br1", "tr1", "ar3"],
}
_SESSION = {
    "mobile_node": "mn1",
    "interface": "0",
    "link_layer_address": "02:00:00:00:01:01",
    "serving": "ar3",
    "epoch": 2,
    "phase": "active",
    "rollout": "stable",
    "pending": [],
    "expires_ms": 1_800_000_000_000,
    "bindings": _BINDINGS,
    "steering": [_STEERING],
}
_NODE = {"mobile_node": "mn1", "sessions": [_SESSION]}
_COUNTED_BINDINGS = [{**_BINDINGS[0], "traffic": [_TRAFFIC]}, {**_BINDINGS[1], "traffic": []}]
_COUNTED_NODE = {
    "mobile_node": "mn1",
    "sessions": [{**_SESSION, "bindings": _COUNTED_BINDINGS}],
}
_ROUTER = {
    "name": "ar1",
    "role": "access",
    "connected": True,
    "boot_id": "5f0c",
    "version": "0.1.0",
    "applied": 17,
    "target": 17,
    "capabilities": {"encap_red": True},
    "failures": [],
    "last_seen_ms": 1_800_000_000_000,
    "drift": 0,
    "mode": "ebpf",
    "fast_path": {"steered": 1200, "delivered": 1180, "no-entry": 31},
    "silent_lists": [["fc00:0:c3:e00::", "fc00:0:a2:d06::"]],
    "sids": [{"sid": "fc00:0:1:d06::", "behavior": "End.DT6", "packets": 1180, "bytes": 212400}],
}
_PATH = {
    "from": "br1",
    "to": "ar3",
    "path": ["br1", "tr1", "ar3"],
    "metric": 20,
    "mode": "encap.red",
    "overhead_bytes": 40,
    "segments": [{"sid": "fc00:0:a3:d06::", "router": "ar3", "behavior": "End.DT6"}],
}


class TrafficShape(BaseModel):
    """What one router's fast path handled for a prefix since it has an entry for it."""

    model_config = ConfigDict(extra="forbid")
    router: str
    packets: int
    bytes: int
    idle_ms: int = Field(description="Milliseconds since the newest packet.")


class BindingShape(BaseModel):
    """A prefix of a session: `home` where its anchor serves it, else `steered`."""

    model_config = ConfigDict(extra="forbid")
    prefix: str
    anchor: str
    state: Literal["home", "steered"]
    type: Literal["fixed", "session-lasting", "non-persistent", "graceful-replacement"]
    preferred: bool
    traffic: list[TrafficShape] | None = Field(
        default=None, description="By router, where one node is asked for."
    )


class SteeringShape(BaseModel):
    """What one head-end does with one prefix now: segments in travel order."""

    model_config = ConfigDict(extra="forbid")
    head_end: str
    prefix: str
    mode: Literal["encap", "encap.red", "inline"]
    segments: list[str]
    path: list[str]


class SessionShape(BaseModel):
    """One interface of a mobile node."""

    model_config = ConfigDict(extra="forbid")
    mobile_node: str
    interface: str
    link_layer_address: str
    serving: str
    epoch: int
    phase: Literal["active", "detach-wait"]
    rollout: Literal["prepare", "switch", "redirect", "stable"]
    pending: list[str] = Field(description="Routers the present stage still waits for.")
    expires_ms: int
    bindings: list[BindingShape]
    steering: list[SteeringShape]


class NodeShape(BaseModel):
    """A mobile node with its sessions."""

    model_config = _shape(_COUNTED_NODE)
    mobile_node: str
    sessions: list[SessionShape]


class NodesShape(BaseModel):
    """Mobile nodes in name order."""

    model_config = _shape({"mobile_nodes": [_NODE]})
    mobile_nodes: list[NodeShape]
    next: str | None = Field(
        default=None, description="Only where there are more: give it as `after`."
    )


class FailureShape(BaseModel):
    """A plan entry that the router's kernel refused."""

    model_config = ConfigDict(extra="forbid")
    key: str
    errno: int
    reason: str


class SidTrafficShape(BaseModel):
    """Packets at one SID, since it has an entry in the fast path."""

    model_config = ConfigDict(extra="forbid")
    sid: str
    behavior: str
    packets: int
    bytes: int = Field(description="With outer headers, as they came.")


class RouterShape(BaseModel):
    """A router, and how far its agent has come."""

    model_config = _shape(_ROUTER)
    name: str
    role: Literal["access", "border", "transit"]
    connected: bool
    boot_id: str | None
    version: str | None
    applied: int | None = Field(description="Newest revision acknowledged.")
    target: int = Field(description="Newest revision that concerns it.")
    capabilities: dict[str, bool]
    failures: list[FailureShape]
    last_seen_ms: int | None
    drift: int = Field(description="Objects repaired since it connected.")
    mode: Literal["ebpf", "netlink"] | None = Field(
        description="In effect, as its agent said last; null when it never connected."
    )
    fast_path: dict[str, int] = Field(
        description="Packets by reason, newest telling; empty without a fast path."
    )
    silent_lists: list[list[str]] = Field(
        description="Segment lists that do not answer this head-end's probes: not in use."
    )
    sids: list[SidTrafficShape] = Field(
        description="What the fast path counted at the router's own SIDs, those without left out."
    )


class RoutersShape(BaseModel):
    """Every router in name order."""

    model_config = _shape({"routers": [_ROUTER]})
    routers: list[RouterShape]


class EntryShape(BaseModel):
    """A plan entry: further members depend on its kind."""

    model_config = ConfigDict(extra="allow")
    kind: Literal[
        "RouterSettings",
        "UnderlayRoute",
        "UnreachableRoute",
        "LocalSid",
        "Delivery",
        "SteeringEntry",
        "DropEntry",
        "UplinkBinding",
        "Advertisement",
        "WatchedList",
    ]
    key: str


class PlanShape(BaseModel):
    """All that a router must hold, entries sorted by key."""

    model_config = _shape(
        {
            "router": "br1",
            "revision": 17,
            "entries": [
                {
                    "kind": "SteeringEntry",
                    "key": "mobile 2001:db8:a1::/64",
                    "prefix": "2001:db8:a1::/64",
                    "segments": ["fc00:0:a3:d06::"],
                    "mode": "encap.red",
                    "interface": "core0",
                    "mobile_node": "mn1",
                    "epoch": 2,
                }
            ],
        }
    )
    router: str
    revision: int
    entries: list[EntryShape]


class ReportShape(BaseModel):
    """What a read-back found, by plan key or kernel identity; it has been repaired."""

    model_config = _shape(
        {
            "router": "br1",
            "revision": 17,
            "missing": ["mobile 2001:db8:a1::/64"],
            "different": [],
            "superfluous": [],
            "sid_packets": {"fc00:0:b1:e00::": [1200, 96000, 0]},
        }
    )
    router: str
    revision: int
    missing: list[str]
    different: list[str]
    superfluous: list[str]
    sid_packets: dict[str, Annotated[list[int], Field(min_length=3, max_length=3)]] = Field(
        description="SID to packets, bytes and errors, where the kernel counts."
    )


class ModeShape(BaseModel):
    """The mode that a router's agent forwards in now."""

    model_config = _shape({"router": "ar1", "mode": "ebpf"})
    router: str
    mode: Literal["ebpf", "netlink"]


class SegmentShape(BaseModel):
    """A SID, whose it is and what it does there (RFC 8986)."""

    model_config = ConfigDict(extra="forbid")
    sid: str
    router: str
    behavior: Literal["End", "End.X", "End.DT6", "End.DX4"]


class PathShape(BaseModel):
    """How a head-end reaches a router: segments in travel order."""

    model_config = _shape(_PATH)
    source: str = Field(alias="from")
    to: str
    path: list[str]
    metric: int
    mode: Literal["encap", "encap.red", "inline"]
    overhead_bytes: int
    segments: list[SegmentShape]


class FlowPathShape(PathShape):
    """How one head-end reaches one steered prefix of a mobile node."""

    model_config = ConfigDict(extra="forbid")
    interface: str
    prefix: str


class NodePathsShape(BaseModel):
    """Every steered path of a mobile node; empty when all its prefixes are at home."""

    model_config = _shape(
        {
            "mobile_node": "mn1",
            "paths": [{**_PATH, "interface": "0", "prefix": "2001:db8:a1::/64"}],
        }
    )
    mobile_node: str
    paths: list[FlowPathShape]


class SidsShape(BaseModel):
    """The SIDs of one router; `adjacencies` by core interface, `services` by function.

    `anycast`: by group, whose other routers have the same.
    """

    model_config = ConfigDict(extra="forbid")
    router: str
    end: str
    end_dt6: str
    end_dx4: str | None
    adjacencies: dict[str, str]
    services: dict[str, str]
    anycast: dict[str, str]


class TopologyShape(BaseModel):
    """The topology in use. `inner_mtu`: what mobile nodes are told."""

    model_config = _shape(
        {
            "domain": {
                "name": "campus",
                "sid_block": "fc00::/32",
                "encap_mode": "encap.red",
                "max_segments": 1,
                "router_link_local": "fe80::1",
                "router_mac": "02:00:5e:00:64:01",
                "usid": False,
            },
            "nodes": {
                "tr1": {
                    "name": "tr1",
                    "role": "transit",
                    "index": 1,
                    "locator": {"prefix": "fc00:0:1::/48", "function_bits": 16},
                    "pools": [],
                    "announces": [],
                    "access_interface": None,
                    "mac": None,
                    "next_hop4": None,
                    "explicit_sids": [],
                }
            },
            "links": [
                {
                    "a": {"node": "tr1", "interface": "port0"},
                    "b": {"node": "ar1", "interface": "core0"},
                    "metric": 10,
                    "delay_us": 0,
                    "mtu": 1600,
                    "measured_delay_us": 4980,
                    "delay_in_use_us": 5000,
                }
            ],
            "revision": 1,
            "sids": {
                "tr1": {
                    "router": "tr1",
                    "end": "fc00:0:1:e00::",
                    "end_dt6": "fc00:0:1:d06::",
                    "end_dx4": None,
                    "adjacencies": {"port0": "fc00:0:1:f01::"},
                    "services": {},
                    "anycast": {},
                }
            },
            "inner_mtu": 1500,
            "down": ["ar1:core0"],
            "compressing": [],
        }
    )
    domain: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    links: list[dict[str, Any]] = Field(
        description="`delay_us` as declared, 0: not at all. `measured_delay_us` as routers told "
        "last, null: they did not. `delay_in_use_us`: what paths count."
    )
    revision: int
    sids: dict[str, SidsShape]
    inner_mtu: int
    down: list[str] = Field(description="Ends of links that routers report not to work.")
    compressing: list[str] = Field(description="Routers that containers may name (RFC 9800).")


class DocumentShape(BaseModel):
    """The topology as a document: what PUT takes, and a topology file holds."""

    model_config = _shape(
        {
            "name": "campus",
            "domain": {"sid-block": "fc00::/32", "encap-mode": "encap.red"},
            "topology": {
                "nodes": {"tr1": {"role": "transit", "index": 1, "locator": "fc00:0:1::/48"}},
                "links": [
                    {"endpoints": ["tr1:port0", "ar1:core0"], "metric": 10, "delay": "0us"},
                ],
            },
        }
    )
    name: str
    domain: dict[str, Any]
    topology: dict[str, Any]


class HealthShape(BaseModel):
    """The process runs."""

    model_config = _shape({"status": "ok"})
    status: Literal["ok"]


class ReadyShape(BaseModel):
    """Whether events would be accepted now, and if not why not."""

    model_config = _shape({"status": "ready", "reasons": []})
    status: Literal["ready", "not-ready"]
    reasons: list[str]
