"""The fast path on the benchmark's router, its maps written directly."""

from __future__ import annotations

import shutil
import socket
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Self

from srv6dmm.bench import frames
from srv6dmm.bench.rig import (
    ACCESS,
    CORE,
    MTU,
    NEXT_HOP,
    OUT,
    SID_BLOCK,
    SOURCE,
    TUNNEL_SOURCE,
    Rig,
)
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import layout, loader, pins
from srv6dmm.dataplane.fastpath.hooks import Hooks
from srv6dmm.dataplane.fastpath.layout import HopState, PortRole, SteerAction
from srv6dmm.dataplane.fastpath.maps import Maps
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.dataplane.fastpath.rule_layout import Rule, RuledKey
from srv6dmm.dataplane.fastpath.rulesets import elements
from srv6dmm.dataplane.fastpath.tables import Limits
from srv6dmm.model.sid import EncapMode, SegmentList

_BOUND = (1).to_bytes(4, "little")
_PATH_REDIRECT = 1
LOCATOR_LENGTH = 48
DELIVER_PEER, DELIVER_DIRECT = 1, 2


class FastRouter:
    """Loads the shipped programs for a rig's router and attaches them: `steer` where mobile nodes
    are (with the check of sources), `sid` where the domain is. `source`: where another version of
    the C lies.

    Raises LoadError, OSError.
    """

    def __init__(self, rig: Rig, limits: Limits | None = None, source: Path | None = None) -> None:
        self.rig = rig
        self.limits = limits or Limits()
        with namespace.inside(rig.router):
            self.index = {device: number for number, device in socket.if_nameindex()}
        pins.mount()
        self.pins = pins.directory(rig.router, self.limits)
        loader.load(self.pins, self.limits, source=source)
        self.maps = Maps(self.pins)
        hooks = Hooks(rig.router, self.pins)
        try:
            for device, role, program in (
                (ACCESS, PortRole.ACCESS, "steer"),
                (CORE, PortRole.CORE, "sid"),
            ):
                index = self.index[device]
                port = layout.Port(role).pack()
                self.put("ports", layout.PortKey(index).pack(), port)
                self.put("untagged", index.to_bytes(4, "little"), port)
                hooks.attach(device, index, program)
        finally:
            hooks.close()
        self.configure()
        sender, _ = rig.macs(ACCESS)
        bound = layout.BindingKey(
            SOURCE.packed[:8], self.index[ACCESS], 0, frames.mac_octets(sender)
        )
        self.put("bindings", bound.pack(), _BOUND)
        self._next_counter = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the maps and unpin everything."""
        self.maps.close()
        shutil.rmtree(self.pins.parent, ignore_errors=True)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        """Write one element."""
        self.maps.put(name, {key: value})

    def configure(self, *, flows: bool = False, foreign: bool = False) -> None:
        """Write the settings."""
        settings = layout.Config(
            *(SID_BLOCK.network_address, SID_BLOCK.netmask, int(flows), int(foreign)),
            locator_length=LOCATOR_LENGTH,
        )
        self.put("config", bytes(4), settings.pack())

    def counter(self) -> int:
        """Return the number of a counter nobody has."""
        self._next_counter += 1
        return self._next_counter - 1

    def path(self, number: int, mode: EncapMode, segments: SegmentList, device: str = OUT) -> None:
        """Write a path to the sink, with a counter of its own."""
        header = layout.outer_header(mode, segments, TUNNEL_SOURCE)
        path = layout.Path(
            ifindex=self.index[device],
            header_length=len(header),
            mtu=MTU,
            counter=self.counter(),
            flags=_PATH_REDIRECT,
            next_hop=NEXT_HOP,
            last=segments[-1],
            header=header,
            hop=self.hop(device),
        )
        self.put("paths", number.to_bytes(4, "little"), path.pack())

    def hop(self, device: str = OUT) -> int:
        """Resolve the sink at a device, as the agent does for neighbours; return its number."""
        index = self.index[device]
        source, target = map(frames.mac_octets, self.rig.sink_macs(device))
        hop = layout.Hop(index, NEXT_HOP, HopState.RESOLVED, MTU, target, source)
        self.put("hops", index.to_bytes(4, "little"), hop.pack())
        return index

    def encapsulating(self, path: int) -> bytes:
        """Return the value of an entry that leads along a path, with a counter of its own."""
        return layout.Steer(SteerAction.ENCAP, path, self.counter()).pack()

    def steer(self, destination: IPv6Address, path: int) -> None:
        """Lead a destination's /64 along a path."""
        self.put("prefixes", destination.packed[:8], self.encapsulating(path))

    def steer_flow(self, destination: IPv6Address, path: int) -> tuple[bytes, bytes]:
        """Lead one 5-tuple along a path, by a rule of its destination's; return the element."""
        rule = Rule(
            IPv6Network((SOURCE, 128)),
            IPv6Network((destination, 128)),
            *(0, path, SteerAction.ENCAP, self.counter()),
            (frames.SOURCE_PORT, frames.SOURCE_PORT),
            (frames.DESTINATION_PORT, frames.DESTINATION_PORT),
            socket.IPPROTO_UDP,
            paths=(path,),
            weights=(1,),
        )
        _, written = elements(RuledKey(destination.packed[:8], False), [rule])
        [(key, value)] = written.items()
        self.put("ruled", key, value)
        return key, value

    def steer_foreign(self, prefix: IPv6Network, path: int) -> None:
        """Lead a prefix of any length along a path."""
        key = layout.ForeignKey(prefix.prefixlen, prefix.network_address).pack()
        self.put("foreign", key, self.encapsulating(path))

    def deliver(self, destination: IPv6Address, *, peer: bool) -> None:
        """Deliver a destination's /64 to the sink as a mobile node's.

        As the agent does, out of the port with known addresses; or, with `peer`, straight into the
        other end of a veth, which no agent sets: it passes the port's egress by, and the port
        would have to be the node's own and not a bridge's or a radio's.
        """
        source, target = map(frames.mac_octets, self.rig.sink_macs(OUT))
        delivery = layout.Delivery(
            *(self.index[OUT], self.counter(), target, source),
            *(DELIVER_PEER if peer else DELIVER_DIRECT, NEXT_HOP),
            mtu=MTU,
        )
        self.put("deliveries", destination.packed[:8], delivery.pack())
        entry = layout.Steer(SteerAction.DELIVER, 0, self.counter())
        self.put("prefixes", destination.packed[:8], entry.pack())

    def sid(self, address: IPv6Address, behavior: int, device: str | None = None) -> None:
        """Write a local SID, with a counter of its own."""
        sid = layout.Sid(
            behavior,
            ifindex=self.index[device] if device else 0,
            counter=self.counter(),
            next_hop=NEXT_HOP if device else IPv6Address(0),
            hop=self.hop(device) if device else 0,
        )
        self.put("sids", address.packed, sid.pack())

    def route(self, locator: IPv6Network, device: str = OUT) -> None:
        """Lead what an End sends on to a locator."""
        key = (int(locator.network_address) >> 128 - LOCATOR_LENGTH).to_bytes(8, "little")
        self.put("routes", key, self.hop(device).to_bytes(4, "little"))

    def reasons(self) -> dict[Reason, int]:
        """Return the counts of reasons."""
        return self.maps.reasons()
