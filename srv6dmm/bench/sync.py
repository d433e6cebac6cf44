"""The whole of a large plan into the maps, and what an agent with the fast path weighs."""

from __future__ import annotations

import gc
import time
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from srv6dmm.bench.agent_weight import weigh
from srv6dmm.bench.kernel_cases import SIDS
from srv6dmm.bench.rig import MTU, NEXT_HOP, OUT, SID_BLOCK, TUNNEL_SOURCE, Rig
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.objects import FastSteering
from srv6dmm.model.plan import RouterSettings, SteeringEntry
from srv6dmm.model.sid import EncapMode

_FIRST = int(IPv6Address("2001:db8::"))
LINK_LOCAL = IPv6Address("fe80::1")
_WAYS = 256
"""Different paths among the entries."""


def full_sync(rig: Rig, entries: int) -> dict[str, Any]:
    """Return what a full sync takes: steering entries put into fresh maps at one go, and the agent.

    `seconds` is the time of `FastPath.put`, from the values of a plan to the last map update;
    `agent_mb` the resident memory of an agent that has loaded the programs, `agent_holding_mb` of
    the same process when it holds a plan of the entries (see agent_weight) and `agent_took_s` the
    time it took for that, kernel routes and reading back included. Raises RuntimeError when an
    entry is refused.
    """
    pins.mount()
    directory = pins.directory(rig.router)
    loader.load(directory)
    fast = FastPath(rig.router, directory)
    try:
        values = [_entry(number) for number in range(entries)]
        gc.collect()
        gc.freeze()  # as the agent does with what it has loaded
        started = time.perf_counter()
        failures = fast.put(values)
        seconds = time.perf_counter() - started
        gc.unfreeze()
        if failures:
            raise RuntimeError(f"{len(failures)} entries were refused: {failures[0]}")
    finally:
        fast.close()
        pins.remove(rig.router)
    del values
    settings = RouterSettings(TUNNEL_SOURCE, LINK_LOCAL, (OUT,), (), None, None, None, SID_BLOCK)
    try:
        weight = weigh(rig.router, (settings, *map(_planned, range(entries))))
    finally:
        pins.remove(rig.router)
    return {
        "entries": entries,
        "seconds": round(seconds, 3),
        "agent_mb": weight["loaded_mb"],
        "agent_holding_mb": weight["holding_mb"],
        "agent_took_s": weight["took_s"],
    }


def _planned(number: int) -> SteeringEntry:
    """Return the plan's entry of which the fast path's is made."""
    item = _entry(number)
    return SteeringEntry(
        *(item.prefix, item.segments, item.mode, item.interface, item.next_hop, item.mtu),
        mobile_node=f"mn{number}",
        epoch=1,
    )


def _entry(number: int) -> FastSteering:
    first, last = SIDS[number % 2], IPv6Address(int(SIDS[2]) + (number % _WAYS << 64))
    return FastSteering(
        prefix=IPv6Network((_FIRST + (number << 64), 64)),
        mode=EncapMode.ENCAP,
        segments=(first, last),
        source=TUNNEL_SOURCE,
        interface=OUT,
        next_hop=NEXT_HOP,
        mtu=MTU,
    )
