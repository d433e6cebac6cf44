"""Containers, slot by slot, and what they cost a list."""

from __future__ import annotations

from ipaddress import IPv6Address
from itertools import pairwise, product

import pytest

from srv6dmm.core.compression import ALONE, Compression, after, containers, shifted
from srv6dmm.model.topology import RouterSids

A = IPv6Address
NUMBERS = range(0xC1, 0xCA)


def router(number: int) -> RouterSids:
    base = int(A("fc00::")) | number << 80

    def sid(function: int, rest: int = 0) -> IPv6Address:
        return A(base | function << 64 | rest)

    return RouterSids(
        f"r{number:x}",
        sid(0xE00),
        sid(0xD06),
        adjacencies={"e0": sid(0xF01)},
        services={"nat": sid(0x5E01), "wide": sid(0x5E02, 7)},
    )


ROUTERS = {f"r{number:x}": router(number) for number in NUMBERS}
ALL = Compression(ROUTERS, ROUTERS)


def end(*numbers: int) -> tuple[IPv6Address, ...]:
    return tuple(ROUTERS[f"r{number:x}"].end for number in numbers)


def final(number: int) -> IPv6Address:
    return ROUTERS[f"r{number:x}"].end_dt6


@pytest.mark.parametrize(
    ("segments", "sent"),
    [
        ((final(0xC9),), ["fc00:0:c9:d06::"]),
        (end(0xC1), ["fc00:0:c1:e00::"]),  # nothing to share a container with
        ((*end(0xC1), final(0xC9)), ["fc00:0:c1:c9:d06::"]),
        ((*end(0xC1, 0xC2, 0xC3, 0xC4), final(0xC9)), ["fc00:0:c1:c2:c3:c4:c9:d06"]),
        (
            (*end(0xC1, 0xC2, 0xC3, 0xC4, 0xC5), final(0xC9)),
            ["fc00:0:c1:c2:c3:c4:c5:0", "fc00:0:c9:d06::"],
        ),
        (
            (*end(0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6), final(0xC9)),
            ["fc00:0:c1:c2:c3:c4:c5:c6", "fc00:0:c9:d06::"],
        ),
        (
            (*end(0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7), final(0xC9)),
            ["fc00:0:c1:c2:c3:c4:c5:c6", "fc00:0:c7:c9:d06::"],
        ),
        (
            (*end(0xC1), ROUTERS["rc2"].adjacencies["e0"], *end(0xC3), final(0xC9)),
            ["fc00:0:c1:c2:f01::", "fc00:0:c3:c9:d06::"],
        ),
        (
            (*end(0xC1), ROUTERS["rc2"].services["nat"], final(0xC9)),
            ["fc00:0:c1:c2:5e01::", "fc00:0:c9:d06::"],
        ),
        (  # bits behind its function: a SID of its own
            (*end(0xC1), ROUTERS["rc2"].services["wide"], final(0xC9)),
            ["fc00:0:c1:e00::", "fc00:0:c2:5e02::7", "fc00:0:c9:d06::"],
        ),
        ((), []),
    ],
)
def test_as_few_sids_as_the_order_allows(
    segments: tuple[IPv6Address, ...], sent: list[str]
) -> None:
    compressed = ALL.compress(segments)
    assert [str(sid) for sid in compressed] == [str(A(sid)) for sid in sent]
    assert containers(ALL.used(segments)) == len(sent)
    assert tuple(sid for one in compressed for sid in ALL.expand(one)) == segments


def test_a_router_that_cannot_stays_out_of_containers() -> None:
    some = Compression(ROUTERS, ROUTERS.keys() - {"rc2", "rc9"})
    segments = (*end(0xC1, 0xC2, 0xC3, 0xC4), final(0xC9))
    sent = ["fc00:0:c1:e00::", "fc00:0:c2:e00::", "fc00:0:c3:c4::", "fc00:0:c9:d06::"]
    assert [str(sid) for sid in some.compress(segments)] == sent
    nobody = Compression(ROUTERS)
    assert not nobody
    assert nobody.compress(segments) == segments


def test_a_router_without_sids_is_no_matter() -> None:
    assert Compression(ROUTERS, {"nobody"}).compress(end(0xC1, 0xC2)) == end(0xC1, 0xC2)


def test_the_destination_moves_up_slot_by_slot() -> None:
    seen = [A("fc00:0:c1:c2:c3:c4:c9:d06")]
    while (following := shifted(seen[-1])) is not None:
        seen.append(following)
    assert [str(address) for address in seen[:5]] == [
        "fc00:0:c1:c2:c3:c4:c9:d06",
        "fc00:0:c2:c3:c4:c9:d06:0",
        "fc00:0:c3:c4:c9:d06::",
        "fc00:0:c4:c9:d06::",
        "fc00:0:c9:d06::",
    ]
    assert shifted(A("fc00:0:c1::")) is None
    assert shifted(A("fc00:0:c1::1")) == A("fc00::1:0")


def test_what_is_no_container_stands_for_itself() -> None:
    for sid in ("2001:db8::1", "fc00:0:dd:c1::", "fc00:0:c9:d06::", "fc00:0:c1:dd:c2::"):
        assert ALL.expand(A(sid)) == (A(sid),)


def test_less_used_is_never_worse() -> None:
    """What the search and the laying of lists rest on: every SID keeps the order."""
    for slots in (ALONE, 1, 2):
        for less, more in pairwise(range(30)):
            assert after(less, slots) <= after(more, slots)
            assert after(less, slots) > less
    for less, first, second in product(range(12), (ALONE, 1, 2), (ALONE, 1, 2)):
        assert after(after(less, first), second) >= after(less, second)
