"""One agent process: settings, signals, and the parts put together."""

from __future__ import annotations

import asyncio
import random
import signal
import uuid

import structlog

from srv6dmm.agent.advertise import Advertiser
from srv6dmm.agent.stream import Stream
from srv6dmm.agent.too_big import TooBigRelay
from srv6dmm.agent.worker import Worker
from srv6dmm.config import AgentSettings
from srv6dmm.dataplane.linux import LinuxKernel
from srv6dmm.dataplane.probe import capabilities

log = structlog.get_logger()


async def run(settings: AgentSettings) -> None:
    """Run until SIGTERM or SIGINT; the kernel keeps everything and forwards on."""
    namespace = settings.network_namespace
    able = capabilities()
    worker = Worker(
        LinuxKernel(namespace),
        able.get("encap_red", False),
        Advertiser(namespace),
        TooBigRelay(namespace),
        settings.resync_s,
    )
    stream = Stream(settings, worker, uuid.uuid4().hex, able, random.random)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker.start()
    running = asyncio.create_task(stream.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    stopping.cancel()
    results = await asyncio.gather(running, stopping, return_exceptions=True)
    worker.close()
    for result in results:
        if isinstance(result, Exception):
            raise result
