"""What an agent weighs: a process of its own that holds a plan, in the kernel and in the maps.

The agent's own parts, put together as `agent.main` does, take a plan as they would from the wire.
Only the connection to a controller is left out.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from srv6dmm import codec
from srv6dmm.agent.advertise import Advertiser
from srv6dmm.agent.fastpath import open_fast_path
from srv6dmm.agent.meter import Meter
from srv6dmm.agent.too_big_relay import TooBigRelay
from srv6dmm.agent.worker import Worker
from srv6dmm.dataplane.combined import CombinedKernel
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.wire import Ack, FullPlan


class Weight(TypedDict):
    """Resident memory in MB: after the programs are loaded, and with the plan held."""

    loaded_mb: float
    holding_mb: float
    took_s: float
    """From the plan to its acknowledgement: kernel routes, map entries, and both read back."""


def weigh(network_namespace: str, entries: tuple[PlanEntry, ...]) -> Weight:
    """Return the weight of an agent of a namespace that holds a plan of these entries.

    What it wrote stays in the namespace. Raises RuntimeError with what it said.
    """
    command = [sys.executable, "-m", "srv6dmm.bench.agent_weight", network_namespace]
    plan = codec.encode_message(FullPlan(1, entries))
    done = subprocess.run(command, input=plan, check=False, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"agent: {done.stderr.decode()[-1000:]}")
    found: Weight = json.loads(done.stdout.splitlines()[-1])
    return found


async def _hold(network_namespace: str, frame: bytes) -> Weight:
    linux = LinuxKernel(network_namespace)
    fast = open_fast_path("ebpf", network_namespace)
    if fast is None:
        raise RuntimeError("no fast path in mode ebpf")
    kernel, advertiser = CombinedKernel(linux, fast), Advertiser(network_namespace)
    relay = TooBigRelay(network_namespace)
    worker = Worker(kernel, True, advertiser, relay, 600.0, fast=True, meter=Meter(fast))
    said: list[object] = []
    worker.listen(said.append)
    worker.start()
    gc.collect()
    gc.freeze()
    loaded = _resident_mb() - len(frame) / 1e6
    message = codec.decode_message(frame)
    assert isinstance(message, FullPlan)
    del frame
    started = asyncio.get_running_loop().time()
    await worker.take(message)
    took = asyncio.get_running_loop().time() - started
    del message
    if not isinstance(said[-1], Ack):
        raise RuntimeError(f"the plan was refused: {said[-1]!s:.500}")
    gc.collect()
    held = _resident_mb()
    await worker.close()
    return Weight(loaded_mb=round(loaded, 1), holding_mb=held, took_s=round(took, 2))


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(resident.split()[1]) / 1024, 1)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_hold(sys.argv[1], sys.stdin.buffer.read()))))
