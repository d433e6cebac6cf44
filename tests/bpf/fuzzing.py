"""Many frames through the programs and the model, on one CPU, compared frame by frame."""

from __future__ import annotations

import os
import struct
from collections import Counter
from dataclasses import dataclass, field

from tests.bpf.calls import Map
from tests.bpf.model import Expected, Model
from tests.bpf.mutation import Mutator, Target, corpus
from tests.bpf.running import COUNTERS, REASONS, Fastpath

BATCH = 1000
LABEL = 0xFFFFF
MOST_FLOWS = 20_000  # whose labels are kept, to be met again


class Different(AssertionError):
    """A program did something else than the model."""


@dataclass
class Tally:
    """What a worker saw: frames by reason, labels by flow."""

    frames: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    labels: dict[tuple[object, ...], int] = field(default_factory=dict)
    met_again: int = 0


class Comparison:
    """One CPU's share. The per-CPU counters of that CPU are its own: it is pinned there."""

    def __init__(self, fastpath: Fastpath, model: Model, processor: int) -> None:
        self.fastpath, self.model, self.processor = fastpath, model, processor
        os.sched_setaffinity(0, {processor})
        self.tally = Tally()
        self.counted: dict[int, list[int]] = {}

    def run(self, seed: str, count: int) -> Tally:
        """Compare `count` frames for each target; raise Different at the first difference."""
        good = corpus()
        self._check_counters()
        for target in good:
            frames = Mutator(f"{seed} {target}", good[target])
            for start in range(0, count, BATCH):
                self._batch(target, list(frames.frames(min(BATCH, count - start))))
        self._check_counters()
        return self.tally

    def _batch(self, target: Target, frames: list[bytes]) -> None:
        program, device = target
        ifindex = self.fastpath.devices[device]
        run = self.fastpath.programs[program].runner(ifindex)
        expect = self.model.steer if program == "steer" else self.model.sid
        before = self._read("reasons")
        expected: Counter[str] = Counter()
        for frame in frames:
            verdict, left = run(frame)
            wanted = expect(frame, ifindex)
            if wanted.choices and len(left) >= 18:
                wanted = wanted.of(int.from_bytes(left[15:18], "big") & LABEL)
            expected[wanted.reason] += 1
            if wanted.flow is not None:
                left = self._unlabelled(frame, left, wanted)
            if verdict != wanted.verdict or left != (wanted.frame or frame):
                raise Different(describe(target, frame, wanted, verdict, bytes(left)))
            for index, size in wanted.counted:
                entry = self.counted.setdefault(index, [0, 0])
                entry[0] += 1
                entry[1] += size
        after = self._read("reasons")
        found = {
            REASONS.get(n, f"unknown {n}"): after[n][0] - before[n][0]
            for n in range(64)
            if after[n] != before[n]
        }
        if found != dict(expected):
            self._culprit(target, frames)
            raise Different(f"{target}: reasons {found}, expected {dict(expected)}")
        self.tally.frames += len(frames)
        self.tally.reasons.update(expected)

    def _unlabelled(self, frame: bytes, left: bytearray, wanted: Expected) -> bytearray:
        """Check the outer flow label, and take it out of the frame."""
        if len(left) < 18 or wanted.flow is None:
            return left
        (first,) = struct.unpack_from("!I", left, 14)
        label = first & LABEL
        if not label:
            raise Different(f"flow label 0 for {frame.hex()}")
        known = self.tally.labels.get(wanted.flow)
        if known is None:
            if len(self.tally.labels) < MOST_FLOWS:
                self.tally.labels[wanted.flow] = label
        else:
            self.tally.met_again += 1
            if known != label:
                raise Different(f"labels {known:#x} and {label:#x} in one flow: {frame.hex()}")
        struct.pack_into("!I", left, 14, first & ~LABEL)
        return left

    def _culprit(self, target: Target, frames: list[bytes]) -> None:
        """Find the frame whose reason differs, once a batch's sums do."""
        program, device = target
        ifindex = self.fastpath.devices[device]
        run = self.fastpath.programs[program].runner(ifindex)
        expect = self.model.steer if program == "steer" else self.model.sid
        for frame in frames:
            before = self._read("reasons")
            verdict, left = run(frame)
            after = self._read("reasons")
            names = [REASONS.get(n, str(n)) for n in range(64) if after[n] != before[n]]
            wanted = expect(frame, ifindex)
            if names != [wanted.reason]:
                raise Different(describe(target, frame, wanted, verdict, bytes(left), names))

    def _read(self, name: str) -> list[tuple[int, ...]]:
        table: Map = self.fastpath.maps[name]
        words, count = (1, 64) if name == "reasons" else (3, COUNTERS)
        layout = struct.Struct(f"={words}Q")
        return [
            layout.unpack(table.get(struct.pack("=I", index))[self.processor])
            for index in range(count)
        ]

    def _check_counters(self) -> None:
        for index, (packets, size, last) in enumerate(self._read("counters")):
            wanted = tuple(self.counted.get(index, (0, 0)))
            if (packets, size) != wanted or bool(packets) != bool(last):
                raise Different(f"counter {index}: {packets}, {size}, {last}; expected {wanted}")


def describe(
    target: Target,
    frame: bytes,
    wanted: Expected,
    verdict: int,
    left: bytes,
    reasons: list[str] | None = None,
) -> str:
    """Say all that is needed to run a frame again by hand."""
    return "\n".join(
        (
            f"{target[0]} at {target[1]}: verdict {verdict}, {reasons or ''}",
            f"expected {wanted.verdict} {wanted.reason}",
            f"in   {frame.hex()}",
            f"out  {left.hex() if left != frame else 'as it came'}",
            f"want {wanted.frame.hex() if wanted.frame else 'as it came'}",
        )
    )
