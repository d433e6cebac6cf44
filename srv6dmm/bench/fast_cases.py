"""What the fast path does: steering by prefix, flow and longest prefix, delivery, endpoints."""

from __future__ import annotations

import random
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from itertools import accumulate

from srv6dmm.bench.fast_router import LOCATOR_LENGTH, FastRouter
from srv6dmm.bench.inject import Draws
from srv6dmm.bench.kernel_cases import DELIVER, DRAWS, END, SIDS, Case, towards, tunnelled
from srv6dmm.bench.rig import ACCESS, CORE, OUT
from srv6dmm.dataplane.fastpath import layout
from srv6dmm.dataplane.fastpath.layout import SidCode, SteerAction
from srv6dmm.dataplane.fastpath.tables import Limits
from srv6dmm.model.sid import EncapMode

SIZES = {"1k": 1_000, "100k": 100_000, "1m": 1_000_000}
"""Entries in `prefixes`."""
_FIRST_PREFIX = 0x20010DB8_10000000
_SPREAD = 7_368_787
"""A prime: entries that are drawn often do not lie side by side."""
_END_X = IPv6Address("fc00:0:1::f")
_PATH = 2
_RED_PATH = 4


def _destination(number: int) -> IPv6Address:
    return IPv6Address(f"2001:db8:f:{number:x}::2")


def cases(router: FastRouter) -> list[Case]:
    """Fill the maps and return what is measured with few entries."""
    rig = router.rig
    alone = router.configure
    two = EncapMode.ENCAP.overhead(2)
    for number in (1, 2, 3):
        router.path(number, EncapMode.ENCAP, SIDS[:number])
    router.path(_RED_PATH, EncapMode.ENCAP_RED, SIDS[:1])
    for path in (1, 2, 3, _RED_PATH):
        router.steer(_destination(path), path)
    router.steer_flow(_destination(5), _PATH)
    router.steer_foreign(IPv6Network("2001:db8:e::/48"), _PATH)
    foreign = IPv6Address("2001:db8:e::2")

    def steer(name: str, path: int, grows: int) -> Case:
        frame = towards(rig, ACCESS, _destination(path))
        return Case(name, rig, ACCESS, frame, grows, prepare=alone)

    made = [
        steer(f"steer_prefix_{number}", number, EncapMode.ENCAP.overhead(number))
        for number in (1, 2, 3)
    ]
    made.append(steer("steer_red_1", _RED_PATH, EncapMode.ENCAP_RED.overhead(1)))
    made += [
        Case(
            "steer_flow_2",
            rig,
            ACCESS,
            towards(rig, ACCESS, _destination(5)),
            two,
            prepare=partial(router.configure, flows=True),
        ),
        Case(
            "steer_lpm_2",
            rig,
            ACCESS,
            towards(rig, ACCESS, foreign),
            two,
            prepare=partial(router.configure, foreign=True),
        ),
    ]
    return made + _sid_cases(router)


def _sid_cases(router: FastRouter) -> list[Case]:
    rig = router.rig
    router.sid(DELIVER, SidCode.END_DT6)
    for segment in SIDS:
        router.route(IPv6Network((segment, LOCATOR_LENGTH), strict=False))
    router.sid(END, SidCode.END)
    router.sid(_END_X, SidCode.END_X, OUT)
    router.deliver(_destination(6), peer=True)
    router.deliver(_destination(7), peer=False)
    router.steer(_destination(8), 1)
    outer = EncapMode.ENCAP.overhead(2)
    here = (SIDS[0], DELIVER)

    def arriving(name: str, number: int, grows: int) -> Case:
        frame = tunnelled(rig, here, 0, _destination(number))
        return Case(name, rig, CORE, frame, grows, prepare=router.configure)

    def passing(name: str, sid: IPv6Address) -> Case:
        frame = tunnelled(rig, (sid, SIDS[0]), 1, _destination(1))
        return Case(name, rig, CORE, frame, outer, prepare=router.configure)

    return [
        arriving("deliver", 7, 0),
        arriving("deliver_peer", 6, 0),
        passing("end", END),
        passing("end_x", _END_X),
        arriving("redirect", 8, outer),
    ]


def limits_for(entries: int) -> Limits:
    """Return limits that hold that many prefixes: the default ones if they do."""
    return Limits(prefixes=max(Limits().prefixes, entries))


def fill(router: FastRouter, entries: int) -> None:
    """Put that many /64s into `prefixes`, along one path; counters are shared when they run out."""
    router.path(_PATH, EncapMode.ENCAP, SIDS[:2])
    counters = router.limits.counters - 1
    elements = {
        (_FIRST_PREFIX + number).to_bytes(8, "big"): layout.Steer(
            SteerAction.ENCAP, _PATH, 1 + number % counters
        ).pack()
        for number in range(entries)
    }
    router.maps.put("prefixes", elements)


def large_cases(router: FastRouter, name: str, entries: int) -> list[Case]:
    """Return steering with so many entries, drawn uniformly and by Zipf's law (exponent 1)."""
    rig = router.rig
    frame = towards(rig, ACCESS, IPv6Address(_FIRST_PREFIX << 64 | 2))
    two = EncapMode.ENCAP.overhead(2)
    chance = random.Random(1)
    uniform = chance.choices(range(entries), k=DRAWS)
    weights = list(accumulate(1 / rank for rank in range(1, entries + 1)))
    ranks = chance.choices(range(entries), cum_weights=weights, k=DRAWS)
    zipf = [rank * _SPREAD % entries for rank in ranks]
    return [
        Case(
            f"steer_prefix_2_{name}{suffix}",
            rig,
            ACCESS,
            frame,
            two,
            Draws([_FIRST_PREFIX + number for number in drawn]),
            router.configure,
        )
        for suffix, drawn in (("", uniform), ("_zipf", zipf))
    ]
