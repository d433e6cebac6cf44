"""Interleaved rounds: every case beside plain forwarding of the same moment, counted exactly.

In a round, short runs of plain forwarding and of the case alternate, and the fastest of each make
the round's ratio: whatever disturbs a run (other processes, other guests of the host) only ever
makes it slower. Ratios of single runs spread three times as wide on a shared machine.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from srv6dmm.bench import inject
from srv6dmm.bench.inject import Generator, LiveGenerator, PacketGenerator
from srv6dmm.bench.kernel_cases import Case
from srv6dmm.bench.report import Case as Row
from srv6dmm.model.errors import Srv6dmmError

_DISTURBED_NS = 100_000_000
"""From so much on between a run's own time and the clock's, others had the core: setting a run up
and ending it takes the kernel 20 to 40 ms, which are not the packets'."""


class MeasureError(Srv6dmmError):
    """Packets that the generator sent are not all at the sink, or not as they should be."""


@dataclass(slots=True)
class Measured:
    """All runs of one case at one size."""

    case: Case
    size: int
    generator: Generator
    ns: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    packets: int = 0

    def row(self) -> Row:
        """Return the report's line; ns is the middle one of the rounds."""
        ns = statistics.median(self.ns)
        ratios = self.ratios or [1.0]
        return {
            "name": self.case.name,
            "bytes": self.size,
            "ratio": round(statistics.median(ratios), 3),
            "ratio_min": round(min(ratios), 3),
            "ratio_max": round(max(ratios), 3),
            "ns": round(ns, 1),
            "mpps": round(1e3 / ns, 3),
            "packets": self.packets,
            "received": self.packets,
        }


class Meter:
    """Measures cases on one core: rounds of `runs` runs of so many packets each.

    `live`: False sends by AF_PACKET.
    """

    def __init__(self, packets: int, runs: int, live: bool) -> None:
        self._packets = packets
        self._runs = runs
        self._live = live
        cores = sorted(os.sched_getaffinity(0))
        self._core = cores[0]
        self.disturbed = 0
        """Runs during which other processes had the core for a while."""

    def generator(self, case: Case, size: int) -> Generator:
        """Return the generator of a case."""
        way = case.rig.way(case.device)
        frame = case.frame(size)
        if self._live:
            return LiveGenerator(frame, way, case.draws)
        return PacketGenerator(frame, way, case.draws)

    def run(self, measured: Measured) -> float:
        """Return ns per packet of one run. Raises MeasureError unless every packet arrived."""
        run = self._once(measured, self._packets)
        if run.wall_ns > run.own_ns + _DISTURBED_NS:
            self.disturbed += 1
        return run.own_ns / run.packets

    def _once(self, measured: Measured, packets: int) -> inject.Run:
        case = measured.case
        if case.prepare is not None:
            case.prepare()
        sink = case.rig.sink
        length = measured.size + case.grows
        sink.reset(length)
        child = measured.generator.start(packets, self._core)
        run = inject.result(packets, child.wait())
        received = sink.wait(packets)
        if received.packets != packets:
            raise MeasureError(
                f"case {case.name} at {measured.size} B: {packets} packets were to leave with "
                f"{length} B, the sink has {received.packets} of them and {received.others} others"
            )
        measured.packets += packets
        return run

    def rounds(
        self,
        plain: Callable[[bool], Case],
        cases: Sequence[Case],
        size: int,
        rounds: int,
        progress: Callable[[str], None],
    ) -> list[Row]:
        """Return the rows of plain forwarding and of all cases at one size."""
        bases: dict[bool, Measured] = {}
        measured: list[tuple[Measured, Measured]] = []
        try:
            for case in cases or [plain(False)]:
                many = case.draws is not None
                if many not in bases:
                    base_case = plain(many)
                    bases[many] = Measured(base_case, size, self.generator(base_case, size))
                mine = Measured(case, size, self.generator(case, size))
                measured.append((bases[many], mine))
            for number in range(rounds):
                for base, mine in measured:
                    progress(f"{size} B, round {number + 1} of {rounds}: {mine.case.name}")
                    self._beside(base, mine)
        finally:
            for every in [*bases.values(), *(mine for _, mine in measured)]:
                every.generator.close()
            for base in bases.values():
                if base.case.draws is not None:
                    base.case.draws.close()
        rows = [base.row() for base in bases.values()]
        return rows + [mine.row() for _, mine in measured if cases]

    def _beside(self, base: Measured, mine: Measured) -> None:
        """Measure one round of a case."""
        pairs = [(self.run(base), self.run(mine)) for _ in range(self._runs)]
        plain, ns = (min(column) for column in zip(*pairs, strict=True))
        base.ns.append(plain)
        mine.ns.append(ns)
        mine.ratios.append(ns / plain)
