"""`bench forwarding`: what it says was sent has arrived, and it says it in the agreed shape."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from srv6dmm.bench import forwarding, inject, kernel_cases, plot, switching
from srv6dmm.bench.fast_router import FastRouter
from srv6dmm.bench.forwarding import Effort
from srv6dmm.bench.frames import ETHERNET, IPV6, UDP
from srv6dmm.bench.inject import Draws, LiveGenerator, PacketGenerator
from srv6dmm.bench.kernel_cases import Case
from srv6dmm.bench.rig import ACCESS, Rig
from srv6dmm.bench.rounds import MeasureError, Meter
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath.reasons import Reason

pytestmark = pytest.mark.root

LITTLE = Effort(
    rounds=2,
    runs=1,
    packets=1_000,
    switched=0,
    transfers=0,
    transfer_runs=0,
    synced=0,
    large=("1k",),
)
FEW = (
    "kernel_encap_2",
    "kernel_encap_2_many",
    "steer_prefix_2",
    "deliver",
    "redirect",
    "steer_prefix_2_1k_zipf",
)


@pytest.fixture
def rig() -> Iterator[Rig]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    with Rig(f"s6tb{os.getpid()}") as made:
        yield made


def test_few_cases_have_the_shape_and_exact_counts(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    before = namespace.names("s6b")
    report: dict[str, Any] = forwarding.run(LITTLE, only=FEW)
    assert [(case["name"], case["bytes"]) for case in report["cases"]] == [
        (name, size) for size in (100, 1400) for name in ("plain", "plain_many", *FEW)
    ]
    for case in report["cases"]:
        assert case["packets"] == case["received"] > 0
        assert case["ratio_min"] <= case["ratio"] <= case["ratio_max"]
        assert case["mpps"] == pytest.approx(1e3 / case["ns"], abs=0.001)
        if case["name"] in FEW:
            assert case["packets"] == LITTLE.rounds * LITTLE.runs * LITTLE.packets
    assert report["environment"]["kernel"] == os.uname().release
    assert report["tcp"] == []
    drawn = ElementTree.fromstring(plot.chart(report, 100))
    texts = [node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert set(FEW) <= set(texts)
    assert set(namespace.names("s6b")) <= set(before)  # nothing of ours is left


def test_a_lost_packet_is_an_error_not_a_figure(rig: Rig) -> None:
    hole = Case("hole", rig, ACCESS, kernel_cases.plain(rig).frame)
    rig.ip("-6", "route", "add", "blackhole", f"{kernel_cases.PLAIN}/128")
    with pytest.raises(MeasureError, match=r"case hole at 100 B: 10 packets .* has 0 of them"):
        Meter(10, 1, inject.has_live_frames()).rounds(
            lambda _: hole, [hole], 100, 1, lambda _: None
        )


def test_a_packet_that_is_not_encapsulated_is_not_counted(rig: Rig) -> None:
    bare = Case("bare", rig, ACCESS, kernel_cases.plain(rig).frame, grows=80)
    with pytest.raises(MeasureError, match="0 of them and 10 others"):
        Meter(10, 1, inject.has_live_frames()).rounds(
            lambda _: bare, [bare], 100, 1, lambda _: None
        )


@pytest.mark.parametrize("live", [True, False])
def test_either_generator_sends_exactly_what_is_asked(rig: Rig, live: bool) -> None:
    if live and not inject.has_live_frames():
        pytest.skip("no live frames before Linux 5.18")
    frame = kernel_cases.plain(rig).frame(100)
    draws = Draws([0x20010DB8_00000000 + number for number in range(128)])
    made = (LiveGenerator if live else PacketGenerator)(frame, rig.way(ACCESS), draws)
    try:
        for count in (1, 63, 64, 65, 1_000):
            rig.sink.reset(100)
            run = inject.result(count, made.start(count, 0).wait())
            received = rig.sink.wait(count)
            assert (received.packets, received.others) == (count, 0)
            assert run.packets == count
    finally:
        made.close()
        draws.close()


def test_destinations_are_as_drawn(rig: Rig) -> None:
    """Every draw's route drops its packets: what arrives is what was drawn elsewhere."""
    if not inject.has_live_frames():
        pytest.skip("no live frames before Linux 5.18")
    draws = Draws([0x20010DB8_00000000 + number % 4 for number in range(16)])
    rig.ip("-6", "route", "add", "blackhole", "2001:db8:0:3::/64")
    made = LiveGenerator(kernel_cases.plain(rig).frame(100), rig.way(ACCESS), draws)
    try:
        rig.sink.reset(100)
        made.start(1_600, 0).wait()
        assert rig.sink.wait(1_200).packets == 1_200
    finally:
        made.close()
        draws.close()


def test_numbers_that_come_again_are_counted_as_overtaken() -> None:
    if os.geteuid() != 0 or not inject.has_live_frames():
        pytest.skip("needs root and live frames (Linux 5.18)")
    numbered_at = ETHERNET + IPV6 + UDP
    with Rig(f"s6tn{os.getpid()}", numbered_at) as rig:
        frame = kernel_cases.plain(rig).frame(100)
        rig.sink.reset(100)
        for count, total, reordered in ((20, 20, 0), (10, 30, 10)):
            made = LiveGenerator(frame, rig.way(ACCESS), None, numbered=True)  # from 1 on
            made.start(count, 0).wait()
            made.close()
            received = rig.sink.wait(total)
            assert (received.packets, received.reordered) == (total, reordered)


def test_a_flow_is_switched_under_load_without_loss() -> None:
    if not inject.has_live_frames():
        pytest.skip("no live frames before Linux 5.18")
    cores = sorted(os.sched_getaffinity(0))
    with switching.make_rig(f"s6tw{os.getpid()}") as rig, FastRouter(rig) as router:
        packets = 100_000
        result = switching.switch_under_load(router, packets, (cores[0], cores[-1]))
        reasons = router.reasons()
    assert (result["lost"], result["reordered"]) == (0, 0)
    assert result["switches"] > 10
    assert sum(result["paths"]) == packets
    assert min(result["paths"]) > 0
    assert reasons[Reason.STEERED] == packets
