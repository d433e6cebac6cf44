"""What the route of alternative paths answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_PATH = {
    "path": ["br1", "tr1", "ar1"],
    "links": ["br1:core0", "tr1:core1"],
    "segments": ["fc00:0:1:d06::"],
    "igp_metric": 20,
    "te_metric": 20,
    "delay_us": 4000,
    "hops": 2,
    "inner_mtu": 1500,
}
_ANSWER: dict[str, Any] = {
    "from": "br1",
    "to": "ar1",
    "objective": "igp",
    "paths": [_PATH],
    "disjoint": None,
    "pair": [],
    "reason": "every two paths share a link",
}


class AlternativeShape(BaseModel):
    """One path: routers and sending ends of links, and the list that leads along it."""

    model_config = ConfigDict(extra="forbid")
    path: list[str]
    links: list[str]
    segments: list[str] = Field(description="In travel order.")
    igp_metric: int
    te_metric: int
    delay_us: int
    hops: int
    inner_mtu: int = Field(description="The largest packet in octets that fits, encapsulated.")


class AlternativesShape(BaseModel):
    """The best paths between two routers, best first, and a pair that shares nothing."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_ANSWER]})
    source: str = Field(alias="from")
    to: str
    objective: Literal["igp", "te", "delay"]
    paths: list[AlternativeShape]
    disjoint: Literal["routers", "links"] | None = Field(
        description="What the two of `pair` do not share: routers (and links), or links only."
    )
    pair: list[AlternativeShape]
    reason: str | None = Field(description="Why there is no pair.")
