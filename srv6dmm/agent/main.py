"""One agent process: settings, signals, and the parts put together."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import uuid

import structlog

from srv6dmm.agent import capabilities
from srv6dmm.agent.advertise import Advertiser
from srv6dmm.agent.delay_probes import DelayProbes
from srv6dmm.agent.fastpath import open_fast_path
from srv6dmm.agent.followers import Follower
from srv6dmm.agent.liveness import Liveness
from srv6dmm.agent.meter import Meter
from srv6dmm.agent.modes import ModeSwitch
from srv6dmm.agent.stream import Stream, check_address
from srv6dmm.agent.too_big_relay import TooBigRelay
from srv6dmm.agent.worker import Worker
from srv6dmm.config import AgentSettings
from srv6dmm.core.list_probe import NONCE_OCTETS
from srv6dmm.dataplane.carrier import CarrierWatch
from srv6dmm.dataplane.combined import CombinedKernel
from srv6dmm.dataplane.link_probe import LinkProbeSocket
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.list_probe import ListProbeSocket

log = structlog.get_logger()


def _probes(settings: AgentSettings, encap_red: bool) -> list[Follower]:
    """Return what measures; a port that is taken costs that and nothing else."""
    namespace = settings.network_namespace
    followers: list[Follower] = [
        Liveness(
            lambda home: ListProbeSocket(namespace, home),
            lambda: os.urandom(NONCE_OCTETS),
            settings.list_probe_s,
            settings.list_grace_s,
            encap_red,
        )
    ]
    try:
        links = LinkProbeSocket(namespace, settings.delay_probe_port)
    except OSError as error:
        log.warning("link-probe.no-socket", port=settings.delay_probe_port, error=str(error))
    else:
        followers.append(DelayProbes(links, settings.delay_probe_s))
    return followers


async def run(settings: AgentSettings) -> None:
    """Run until SIGTERM or SIGINT; the kernel keeps everything and forwards on.

    Raises ValueError for an address that is none, NamespaceError and OSError when the kernel
    cannot be reached at all.
    """
    check_address(settings.controller)
    namespace = settings.network_namespace
    linux = LinuxKernel(namespace)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    able = await asyncio.to_thread(capabilities.known)
    fast = await asyncio.to_thread(open_fast_path, settings.mode, namespace)
    detect = settings.detect == "nd"
    kernel = CombinedKernel(linux, fast)
    worker = Worker(
        kernel,
        able.get("encap_red", False),
        Advertiser(namespace),
        TooBigRelay(namespace),
        settings.resync_s,
        fast=fast is not None,
        meter=Meter(fast) if fast is not None else None,
        detect=detect,
        carrier=CarrierWatch(namespace),
        followers=_probes(settings, able.get("encap_red", False)),
    )
    modes = ModeSwitch(kernel, worker, namespace, detect)
    stream = Stream(settings, worker, modes, uuid.uuid4().hex, able, random.random)
    worker.start()
    modes.start()
    gc.collect()
    gc.freeze()  # modules live as long as we; walking them would take milliseconds
    running = asyncio.create_task(stream.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    stopping.cancel()
    results = await asyncio.gather(running, stopping, return_exceptions=True)
    await modes.close()
    await worker.close()
    log.info("agent.stopped", router=settings.router, applied=worker.revision)
    for result in results:
        if isinstance(result, Exception):
            raise result
