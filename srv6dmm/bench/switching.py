"""A flow is switched from path to path while it runs: what is lost, what is overtaken."""

from __future__ import annotations

import time
from ipaddress import IPv6Address
from typing import Any

from srv6dmm.bench import inject
from srv6dmm.bench.fast_router import FastRouter
from srv6dmm.bench.frames import ETHERNET, IPV6, UDP
from srv6dmm.bench.inject import LiveGenerator
from srv6dmm.bench.kernel_cases import SIDS, towards
from srv6dmm.bench.rig import ACCESS, OUT, SECOND_OUT, Rig
from srv6dmm.dataplane.fastpath.rule_layout import Ruleset
from srv6dmm.model.sid import EncapMode

_BYTES = 100
_OVERHEAD = EncapMode.ENCAP.overhead(2)
NUMBERED_AT = ETHERNET + IPV6 + UDP + _OVERHEAD
"""Where the sink finds the sequence number: behind the outer header of two segments."""
_FLOW = IPv6Address("2001:db8:d::2")


def switch_under_load(router: FastRouter, packets: int, cores: tuple[int, int]) -> dict[str, Any]:
    """Return {switches, packets, lost, reordered, kpps, median_us, paths} of one run.

    The generator has the first core, the switching (one map update each) the second. The two
    paths leave by different devices; `paths` counts what took each, by our own counters. `lost`
    counts what is not at the sink with the whole outer header: a packet that slipped through
    bare is lost, too.
    """
    rig = router.rig
    values: list[bytes] = []
    counters: list[int] = []
    key = b""
    for number, (device, segments) in enumerate(
        ((OUT, SIDS[:2]), (SECOND_OUT, SIDS[2:4])), start=1
    ):
        router.path(number, EncapMode.ENCAP, segments, device)
        key, value = router.steer_flow(_FLOW, number)
        values.append(value)
        counters.append(Ruleset.unpack(value).rules[0].counter)
    router.configure(flows=True)
    frame = towards(rig, ACCESS, _FLOW)(_BYTES)
    generator = LiveGenerator(frame, rig.way(ACCESS), None, numbered=True)
    rig.sink.reset(_BYTES + _OVERHEAD)
    took: list[int] = []
    try:
        child = generator.start(packets, cores[0])
        while child.running:
            before = time.perf_counter_ns()
            router.put("ruled", key, values[len(took) % 2])
            took.append(time.perf_counter_ns() - before)
            time.sleep(0.001)
        run = inject.result(packets, child.wait())
    finally:
        generator.close()
    received = rig.sink.wait(packets)
    counted = router.maps.counters(counters)
    return {
        "switches": len(took),
        "packets": packets,
        "lost": packets - received.packets,
        "reordered": received.reordered,
        "kpps": round(1e6 * run.packets / run.own_ns, 1),
        "median_us": round(sorted(took)[len(took) // 2] / 1e3, 1),
        "paths": [counted[number].packets for number in counters],
    }


def make_rig(name: str) -> Rig:
    """Return a rig whose sink reads the numbers."""
    return Rig(name, NUMBERED_AT)
