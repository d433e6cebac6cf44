"""The programs loaded once, and what one frame does to them.

`Fastpath.send` runs a frame through a program by BPF_PROG_TEST_RUN. A redirect is a verdict there:
nothing is transmitted, and the frame is what the program left.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import loader
from srv6dmm.dataplane.fastpath.tables import Limits
from tests.bpf.calls import Map, Program, Ring
from tests.bpf.tables import Tables, mac

OK, SHOT, REDIRECT = 0, 2, 7
COUNTERS = 64  # as many of the counters' indexes are used by tests
REASONS_HEADER = Path(__file__).parents[2] / "ebpf" / "lib" / "reasons.h"
HASHES = (
    *("ports", "prefixes", "prefixes4", "flows", "ruled", "foreign"),
    *("deliveries", "bindings", "sids", "routes", "quiet"),
)
# The size of an element, and how many of them tests use.
ARRAYS = {
    "config": (48, 1),
    "untagged": (8, 64),
    "paths": (192, 64),
    "hops": (40, 16),
    "reasons": (8, 64),
    "counters": (24, COUNTERS),
}
# The devices of the router under test: their ifindex and link-layer address are the namespace's.
DEVICES = {
    "access0": "02:00:00:00:a0:01",
    "access1": "02:00:00:00:a1:01",
    "outside0": "02:00:00:00:b0:01",
    "core0": "02:00:00:00:c0:01",
    "core1": "02:00:00:00:c1:01",
    "other0": "02:00:00:00:d0:01",
}


@dataclass(frozen=True)
class Neighbour4:
    """An IPv4 neighbour that the kernel knows; the MTU is that of the device."""

    device: str
    mac: str
    mtu: int = 1500


NEIGHBOURS_4 = {"10.1.0.5": Neighbour4("access0", "02:00:00:00:01:01")}
"""What the namespace's own routes and neighbour table say."""
LIMITS = Limits(
    prefixes=1024,
    flows=1024,
    rulesets=64,
    foreign=256,
    paths=256,
    counters=256,
    bindings=1024,
    sids=256,
)


def reasons_of(header: Path = REASONS_HEADER) -> dict[int, str]:
    """Return the names of the reasons by their numbers, out of the C header."""
    found = re.findall(r"REASON_(\w+) = (\d+)", header.read_text())
    return {int(number): name for name, number in found}


REASONS = reasons_of()


@dataclass(frozen=True)
class Event:
    """What the ring buffer says of an arrival."""

    kind: int
    ifindex: int
    vlan: int
    mac: bytes
    address: bytes

    @classmethod
    def unpack(cls, data: bytes) -> Event:
        """Read a struct event of layout.h."""
        kind, ifindex, vlan, link_layer, address, rest = struct.unpack("=III6s2x16sI", data)
        assert rest == 0
        return cls(kind, ifindex, vlan, link_layer, address)


@dataclass(frozen=True)
class Outcome:
    """What became of a frame: the verdict, the names of the reasons counted, and the frame."""

    verdict: int
    reasons: tuple[str, ...]
    frame: bytes
    counted: dict[int, tuple[int, int]]  # packets and octets by counter


class Fastpath:
    """Both programs and their maps, in a network namespace of their own."""

    def __init__(self, pins: Path, space: str, devices: dict[str, int]) -> None:
        self.space = space
        self.devices = devices
        self.pins = pins
        self.programs = {name: Program(pins / f"prog_{name}") for name in ("steer", "sid")}
        self.maps = {name: Map(pins / name) for name in (*HASHES, *ARRAYS)}
        self.ring = Ring(pins / "events")

    def close(self) -> None:
        """Give every descriptor back."""
        for program in self.programs.values():
            os.close(program.fd)
        for table in self.maps.values():
            table.close()
        self.ring.close()

    def clear(self) -> None:
        """Bring every map back to how a router starts."""
        for name in HASHES:
            self.maps[name].clear()
        for name, (width, count) in ARRAYS.items():
            for index in range(count):
                self.maps[name].put(struct.pack("=I", index), bytes(width))
        self.ring.read()

    def fill(self, tables: Tables) -> None:
        """Make the maps hold what `tables` says, and nothing else."""
        self.clear()
        for name, elements in tables.packed().items():
            for key, value in elements.items():
                self.maps[name].put(key, value)

    def reasons(self) -> dict[str, int]:
        """Return the reason counters that are not 0, summed over the CPUs."""
        totals = enumerate(self._sums("reasons", 64, 1))
        return {REASONS.get(n, f"unknown {n}"): total for n, (total,) in totals if total}

    def counters(self) -> dict[int, tuple[int, int]]:
        """Return packets and octets of the counters that are not 0, summed over the CPUs."""
        totals = enumerate(self._sums("counters", COUNTERS, 3))
        return {n: (packets, octets) for n, (packets, octets, _) in totals if packets or octets}

    def last(self, index: int) -> int:
        """Return a counter's jiffies of the newest packet, 0 for none."""
        values = self.maps["counters"].get(struct.pack("=I", index))
        return max(int(struct.unpack("=3Q", value)[2]) for value in values)

    def _sums(self, name: str, count: int, words: int) -> list[list[int]]:
        layout, table = struct.Struct(f"={words}Q"), self.maps[name]
        found = []
        for index in range(count):
            values = [layout.unpack(value) for value in table.get(struct.pack("=I", index))]
            found.append([sum(column) for column in zip(*values, strict=True)])
        return found

    def events(self) -> list[Event]:
        """Take the events since the last time."""
        return [Event.unpack(data) for data in self.ring.read()]

    def send(
        self, program: str, device: str, frame: bytes, gso: tuple[int, int] = (0, 0)
    ) -> Outcome:
        """Run one frame that comes in at a device."""
        reasons, counters = self.reasons(), self.counters()
        with namespace.inside(self.space):
            verdict, left = self.programs[program].run(frame, self.devices[device], gso)
        counted = {}
        for index, (packets, octets) in self.counters().items():
            before = counters.get(index, (0, 0))
            if (packets, octets) != before:
                counted[index] = (packets - before[0], octets - before[1])
        grown = []
        for name, total in self.reasons().items():
            grown += [name] * (total - reasons.get(name, 0))
        return Outcome(verdict, tuple(grown), left, counted)


@contextmanager
def devices(space: str) -> Iterator[dict[str, int]]:
    """Make a namespace with the devices of the router; yield their ifindex by name."""
    namespace.create(space)
    try:
        found = {}
        for number, (name, address) in enumerate(DEVICES.items()):
            _run("ip", "-n", space, "link", "add", name, "address", address,
                 "type", "veth", "peer", "name", f"peer{number}")  # fmt: skip
            shown = _run("ip", "-n", space, "-o", "link", "show", name)
            found[name] = int(shown.split(":", maxsplit=1)[0])
        assert len({mac(address) for address in DEVICES.values()}) == len(DEVICES)
        _know_neighbours(space)
        yield found
    finally:
        namespace.remove(space)


def _know_neighbours(space: str) -> None:
    with namespace.inside(space):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for address, neighbour in NEIGHBOURS_4.items():
        device = neighbour.device
        for end in (device, f"peer{list(DEVICES).index(device)}"):
            _run("ip", "-n", space, "link", "set", end, "up")
        _run("ip", "-n", space, "route", "add", f"{address}/32", "dev", device)
        _run("ip", "-n", space, "neigh", "add", address, "lladdr", neighbour.mac, "dev", device)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@contextmanager
def loaded() -> Iterator[Fastpath]:
    """Load the programs into a bpf file system of their own; take everything away afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="srv6dmm-bpf-"))
    _run("mount", "-t", "bpf", "bpf", str(directory))
    try:
        pins = directory / "pins"
        pins.mkdir()
        loader.load(pins, LIMITS)
        space = f"s6bpf-{os.getpid()}"
        with devices(space) as numbers:
            fastpath = Fastpath(pins, space, numbers)
            try:
                yield fastpath
            finally:
                fastpath.close()
    finally:
        _run("umount", str(directory))
        with suppress(FileNotFoundError):
            directory.rmdir()
