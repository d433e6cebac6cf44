"""Live probes at one router: sends the marked packet, and tells where it is seen.

All it holds is a socket, for as long as a watch lasts; whenever the agent ends nothing is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from srv6dmm.core.fib_walk import Packet
from srv6dmm.core.marked_packet import TOKEN_OCTETS, marked_packet, read_packet
from srv6dmm.dataplane import live_frames
from srv6dmm.dataplane.marked_frames import MarkedFrame, MarkedFrames, link_layer_address
from srv6dmm.model.errors import Srv6dmmError
from srv6dmm.model.wire import FromAgent, Probe, Probed, Sighting, Unwatch, Watch, Watching

log = structlog.get_logger()

LONGEST_S = 5.0
"""Of a watch, whatever was asked for."""
MOST_SIGHTINGS = 256
"""Told of one watch: a packet in a circle must not keep the controller busy."""
_NEIGHBOUR = bytes.fromhex("020000000001")
"""Link-layer address of a sender that does not matter."""
_ETHERTYPE = b"\x86\xdd"


class LiveProbe:
    """One router's part in live probes. Lives in the event loop."""

    def __init__(self, network_namespace: str | None, say: Callable[[FromAgent], None]) -> None:
        self._namespace = network_namespace
        self._say = say
        self._token = ""
        self._frames: MarkedFrames | None = None
        self._end: asyncio.TimerHandle | None = None
        self._told = 0

    def take(self, message: Watch | Unwatch | Probe) -> None:
        """Do what is asked and answer."""
        match message:
            case Watch():
                self._say(Watching(message.token, self._watch(message)))
            case Unwatch(token=token):
                if token == self._token:
                    self._read()  # what came in before
                    self.close()
                self._say(Watching(token, "it has ended"))
            case Probe():
                self._say(self._probe(message))

    def close(self) -> None:
        """End the watch, if there is one."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._frames is not None:
            asyncio.get_running_loop().remove_reader(self._frames)
            self._frames.close()
            self._frames = None
        self._token = ""

    def _watch(self, watch: Watch) -> str | None:
        """Begin to watch; return why not."""
        self.close()
        try:
            token = _octets(watch.token)
            frames = MarkedFrames(self._namespace, token)
        except (OSError, Srv6dmmError, ValueError) as error:
            log.warning("probe.no-watch", error=str(error))
            return str(error)
        loop = asyncio.get_running_loop()
        self._token, self._frames, self._told = watch.token, frames, 0
        loop.add_reader(frames, self._read)
        self._end = loop.call_later(min(max(watch.seconds, 0.0), LONGEST_S), self.close)
        return None

    def _read(self) -> None:
        frames = self._frames.read() if self._frames is not None else ()
        for frame in frames:
            sighting = _sighting(self._token, frame)
            if sighting is not None:
                self._told += 1
                self._say(sighting)
            if self._told >= MOST_SIGHTINGS:
                self.close()
                return

    def _probe(self, probe: Probe) -> Probed:
        """Have the interface receive the packet; between two events, in less than a millisecond."""
        at_ns = time.time_ns()
        try:
            own = link_layer_address(self._namespace, probe.interface)
            sender = probe.link_layer_address
            other = bytes.fromhex(sender.replace(":", "")) if sender else _NEIGHBOUR
            packet = Packet(
                probe.source,
                probe.destination,
                probe.protocol,
                probe.source_port,
                probe.destination_port,
                probe.dscp,
            )
            frame = own + other + _ETHERTYPE + marked_packet(packet, _octets(probe.token))
            at_ns = time.time_ns()
            live_frames.receive(self._namespace, probe.interface, frame)
        except (OSError, Srv6dmmError, ValueError) as error:
            log.warning("probe.not-sent", interface=probe.interface, error=str(error))
            return Probed(probe.token, at_ns, f"{probe.interface}: {error}")
        log.info(
            "probe.sent",
            interface=probe.interface,
            source=str(probe.source),
            destination=str(probe.destination),
            token=probe.token,
        )
        return Probed(probe.token, at_ns, None)


def _octets(token: str) -> bytes:
    octets = bytes.fromhex(token)
    if len(octets) != TOKEN_OCTETS:
        raise ValueError(f"token {token!r} is not {2 * TOKEN_OCTETS} hexadecimal digits")
    return octets


def _sighting(token: str, frame: MarkedFrame) -> Sighting | None:
    seen = read_packet(frame.packet)
    if seen is None:
        return None
    return Sighting(
        token,
        frame.interface,
        frame.outgoing,
        frame.at_ns,
        seen.source,
        seen.destination,
        seen.protocol,
        seen.hop_limit,
        seen.headers,
    )
