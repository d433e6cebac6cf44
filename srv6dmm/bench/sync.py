"""The whole of a large plan into the maps, and what an agent with the fast path weighs."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from srv6dmm.bench.kernel_cases import SIDS
from srv6dmm.bench.rig import MTU, NEXT_HOP, OUT, TUNNEL_SOURCE, Rig
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.objects import FastSteering
from srv6dmm.model.sid import EncapMode

_FIRST = int(IPv6Address("2001:db8::"))
_WAYS = 256
"""Different paths among the entries."""


def full_sync(rig: Rig, entries: int) -> dict[str, Any]:
    """Return {entries, seconds, agent_mb}: steering entries put into fresh maps at one go.

    `seconds` is the time of `FastPath.put`, from the values of a plan to the last map update;
    `agent_mb` the resident memory of a process that has the agent's modules and the fast path
    open on those maps. Raises RuntimeError when an entry is refused.
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
        held = resident_mb(rig.router, directory)
    finally:
        fast.close()
        pins.remove(rig.router)
    return {"entries": entries, "seconds": round(seconds, 3), "agent_mb": held}


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


_HOLD = """
import sys
from pathlib import Path
import srv6dmm.agent.main
from srv6dmm.dataplane.fastpath.kernel import FastPath
fast = FastPath(sys.argv[1], Path(sys.argv[2]))
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
"""


def resident_mb(network_namespace: str, directory: Path) -> float:
    """Return the resident memory (MB) of an agent's process that has opened the fast path."""
    done = subprocess.run(
        [sys.executable, "-c", _HOLD, network_namespace, str(directory)],
        check=True,
        capture_output=True,
        text=True,
    )
    return round(int(done.stdout) / 1024, 1)
