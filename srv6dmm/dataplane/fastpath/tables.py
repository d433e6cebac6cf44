"""The maps there are: how each is made, how much it holds, and the name of a set of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from srv6dmm.dataplane.fastpath.layout import MAX_HOPS, MAX_UNTAGGED, STRUCTURES, assertions

HASH, ARRAY, PERCPU_ARRAY, LRU_HASH, LPM_TRIE, RINGBUF = 1, 2, 6, 9, 11, 27
NO_PREALLOC = 1
EVENTS_SIZE = 262_144


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the maps hold at most."""

    prefixes: int = 262_144
    flows: int = 65_536
    rulesets: int = 8_192
    foreign: int = 16_384
    paths: int = 16_384
    counters: int = 65_536
    bindings: int = 262_144
    sids: int = 4_096
    routes: int = 4_096


@dataclass(frozen=True, slots=True)
class MapSpec:
    """How a map is made: type and flags as in <linux/bpf.h>, sizes in bytes."""

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0


def _size(structure: str) -> int:
    return STRUCTURES[structure].size


def maps(limits: Limits) -> tuple[MapSpec, ...]:
    """Return every map the programs use."""
    steer = _size("steer")
    return (
        MapSpec("config", ARRAY, 4, _size("config"), 1),
        MapSpec("ports", HASH, _size("port_key"), _size("port"), 256),
        MapSpec("untagged", ARRAY, 4, _size("port"), MAX_UNTAGGED),
        MapSpec("prefixes", HASH, 8, steer, limits.prefixes, NO_PREALLOC),
        MapSpec("prefixes4", HASH, 4, steer, limits.prefixes, NO_PREALLOC),
        MapSpec("flows", HASH, _size("flow_key"), _size("flow"), limits.flows, NO_PREALLOC),
        MapSpec("ruled", HASH, _size("ruled_key"), _size("ruleset"), limits.rulesets, NO_PREALLOC),
        MapSpec("foreign", LPM_TRIE, _size("foreign_key"), steer, limits.foreign, NO_PREALLOC),
        MapSpec("paths", ARRAY, 4, _size("path"), limits.paths),
        MapSpec("hops", ARRAY, 4, _size("hop"), MAX_HOPS),
        MapSpec("routes", HASH, 8, 4, limits.routes, NO_PREALLOC),
        MapSpec("deliveries", HASH, 8, _size("delivery"), limits.prefixes, NO_PREALLOC),
        MapSpec("bindings", HASH, _size("binding_key"), 4, limits.bindings, NO_PREALLOC),
        MapSpec("sids", HASH, 16, _size("sid"), limits.sids, NO_PREALLOC),
        MapSpec("counters", PERCPU_ARRAY, 4, _size("counter"), limits.counters),
        MapSpec("reasons", PERCPU_ARRAY, 4, 8, 64),
        MapSpec("quiet", LRU_HASH, 8, 8, 4_096),
        MapSpec("events", RINGBUF, 0, 0, EVENTS_SIZE),
    )


def version(limits: Limits) -> str:
    """Return what names the pins: another layout or another limit is another directory."""
    told = assertions() + repr(maps(limits))
    return hashlib.sha256(told.encode()).hexdigest()[:16]
