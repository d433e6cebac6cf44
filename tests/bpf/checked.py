"""A router whose every answer is held against the model, too, while a test looks at one thing."""

from __future__ import annotations

import struct

from scapy.packet import Packet

from tests.bpf.model import Model
from tests.bpf.running import DEVICES, OK, REDIRECT, SHOT, Event, Fastpath, Outcome
from tests.bpf.tables import Tables, mac

LABEL = 0xFFFFF


def label_of(frame: bytes) -> int:
    """The flow label of an untagged frame's IPv6 header."""
    (first,) = struct.unpack_from("!I", frame, 14)
    return int(first) & LABEL


def unlabelled(frame: bytes) -> bytes:
    """An untagged IPv6 frame with flow label 0."""
    (first,) = struct.unpack_from("!I", frame, 14)
    return frame[:14] + struct.pack("!I", first & ~LABEL) + frame[18:]


class Router:
    """The programs with one set of tables; `fill` after a change of `tables`."""

    def __init__(self, fastpath: Fastpath, tables: Tables) -> None:
        self.fastpath = fastpath
        self.tables = tables
        self.devices = fastpath.devices
        self.fill()

    def fill(self) -> None:
        """Write the tables into the maps; counters and events begin anew."""
        self.fastpath.fill(self.tables)
        addresses = {self.devices[name]: mac(at) for name, at in DEVICES.items()}
        self.model = Model(self.tables, addresses)

    def send(
        self, program: str, device: str, frame: bytes, gso: tuple[int, int] = (0, 0)
    ) -> Outcome:
        """Run a frame; without GSO the model must have foreseen all of what happened."""
        outcome = self.fastpath.send(program, device, frame, gso)
        assert len(outcome.reasons) == 1, outcome.reasons
        if not gso[0]:
            expect = self.model.steer if program == "steer" else self.model.sid
            wanted = expect(frame, self.devices[device])
            if wanted.choices:
                wanted = wanted.of(label_of(outcome.frame))
            assert (outcome.verdict, outcome.reasons[0]) == (wanted.verdict, wanted.reason)
            left = outcome.frame if wanted.flow is None else unlabelled(outcome.frame)
            assert left == (wanted.frame or frame)
            assert outcome.counted == {index: (1, size) for index, size in wanted.counted}
        return outcome

    def steer(self, frame: bytes, device: str = "access0") -> Outcome:
        """Run a frame at an access port."""
        return self.send("steer", device, frame)

    def sid(self, frame: bytes, device: str = "core0") -> Outcome:
        """Run a frame at a port to the domain's routers."""
        return self.send("sid", device, frame)

    def events(self) -> list[Event]:
        """Take the events since the last time."""
        return self.fastpath.events()


def redirected(outcome: Outcome, reason: str, frame: Packet | bytes) -> None:
    """Assert that a frame went out as `frame`, but for the flow label when that is 0 there."""
    assert (outcome.verdict, outcome.reasons) == (REDIRECT, (reason,))
    wanted = bytes(frame)
    left = outcome.frame if label_of(wanted) else unlabelled(outcome.frame)
    assert left == wanted, f"\n{left.hex()}\n{wanted.hex()}"


def to_kernel(outcome: Outcome, reason: str, frame: bytes) -> None:
    """Assert that a frame was left to the kernel, for this reason, as it came."""
    assert (outcome.verdict, outcome.reasons) == (OK, (reason,))
    assert outcome.frame == frame
    assert outcome.counted == {}


def dropped(outcome: Outcome, reason: str, frame: bytes) -> None:
    """Assert that a frame was dropped, for this reason, unchanged and uncounted otherwise."""
    assert (outcome.verdict, outcome.reasons) == (SHOT, (reason,))
    assert outcome.frame == frame
    assert outcome.counted == {}
