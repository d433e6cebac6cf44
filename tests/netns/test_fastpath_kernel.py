"""The fast path as a store of entries: put, read back, adopted, and gone without a trace."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.filters import Filters
from srv6dmm.dataplane.fastpath.hooks import Hooks
from srv6dmm.dataplane.fastpath.kernel import FastPath
from srv6dmm.dataplane.fastpath.layout import Path, Steer
from srv6dmm.dataplane.fastpath.objects import (
    Facing,
    FastBinding,
    FastDelivery,
    FastDrop,
    FastObject,
    FastPort,
    FastRoute,
    FastSettings,
    FastSid,
    FastSteering,
)
from srv6dmm.dataplane.fastpath.tables import Limits
from srv6dmm.dataplane.fastpath.tcx import Tcx
from srv6dmm.model.sid import Behavior, EncapMode

pytestmark = pytest.mark.root

SOURCE, HOP = IPv6Address("fc00:0:1::1"), IPv6Address("fe80::2")
SEGMENTS = tuple(IPv6Address(f"fc00:0:{number}::d06") for number in range(2, 8))
HOME = IPv6Network("2001:db8:a1:1::/64")
MAC = "02:00:00:00:01:01"


def steering(prefix: IPv6Network = HOME, count: int = 1, **members: object) -> FastSteering:
    entry = FastSteering(
        prefix, EncapMode.ENCAP_RED, SEGMENTS[:count], SOURCE, "core0", HOP, mtu=1600
    )
    return replace(entry, **members)  # type: ignore[arg-type]


WHOLE: list[FastObject] = [
    FastSettings(IPv6Network("fc00::/32"), 48),
    FastRoute(IPv6Network("fc00:0:2::/48"), "core0", HOP),
    FastRoute(IPv6Network("fc00:0:3::/48"), "core0", IPv6Address("fe80::3")),
    FastSid(IPv6Address("fc00:0:1::e00"), Behavior.END),
    FastSid(IPv6Address("fc00:0:1::d06"), Behavior.END_DT6),
    FastSid(IPv6Address("fc00:0:1::d04"), Behavior.END_DX4, None, IPv4Address("192.0.2.1")),
    FastSid(IPv6Address("fc00:0:1::f01"), Behavior.END_X, "core0", HOP),
    FastDelivery(HOME, "access0", MAC, IPv6Address("fe80::99"), 1500, "02:00:5e:00:64:01"),
    FastBinding(HOME, "access0", MAC),
    FastDrop(IPv6Network("2001:db8:a1:2::/64")),
    *(
        steering(IPv6Network((0x20010DB8000B0000 + n << 64, 64)), n, mode=mode)
        for mode in (EncapMode.ENCAP, EncapMode.ENCAP_RED)
        for n in range(1, 7)
        if mode is EncapMode.ENCAP_RED or n > 3
    ),
    steering(IPv6Network("2001:db8:c::/48"), 2),
    FastPort("core0", Facing.CORE),
    FastPort("access0", Facing.ACCESS),
]
WANTED = {item.identity: item for item in WHOLE}


@pytest.fixture
def router() -> Iterator[str]:
    """A namespace with two interfaces; the loaded pins go with it."""
    name = f"s6-fast-{os.getpid()}"
    namespace.create(name)
    try:
        for interface in ("core0", "access0"):
            ip(name, "link", "add", interface, "type", "veth", "peer", "name", f"{interface}x")
        loader.load(pins.directory(name))
        yield name
    finally:
        pins.remove(name)
        namespace.remove(name)


def ip(name: str, *words: str) -> None:
    subprocess.run(["ip", "-n", name, *words], check=True)


def tc(name: str, interface: str) -> str:
    command = ["tc", "-n", name, "filter", "show", "dev", interface, "ingress"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def opened(name: str) -> FastPath:
    return FastPath(name, pins.directory(name))


def test_what_is_put_is_read_back_by_itself_and_by_the_next_process(router: str) -> None:
    first = opened(router)
    assert first.put(WHOLE) == []
    assert first.read() == WANTED
    assert first.read(WANTED) == WANTED
    first.close()
    second = opened(router)
    assert second.read() == WANTED
    assert second.put(WHOLE) == []
    assert second.read() == WANTED
    second.close()


def paths_of(fast: FastPath) -> dict[int, Path]:
    """Return the paths that entries name, as the map has them."""
    entries = fast._maps.read_all("prefixes").values()
    used = {entry.path for entry in map(Steer.unpack, entries) if entry.path}
    assert used == fast._ways.known.keys()
    return {
        number: Path.unpack(fast._maps.get("paths", number.to_bytes(4, "little")) or b"")
        for number in used
    }


def add_foreign_filter(name: str, interface: str) -> None:
    ip_tc = ["tc", "-n", name]
    subprocess.run([*ip_tc, "qdisc", "add", "dev", interface, "clsact"], check=True)
    command = [*ip_tc, "filter", "add", "dev", interface, "ingress", "prio", "7", "protocol", "ip"]
    subprocess.run([*command, "u32", "match", "u32", "0", "0", "flowid", "1:1"], check=True)


def clsact(name: str, interface: str) -> bool:
    command = ["tc", "-n", name, "qdisc", "show", "dev", interface]
    return "clsact" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_everything_goes_and_other_filters_stay(router: str) -> None:
    """Where others filter, our program is one of the filters."""
    add_foreign_filter(router, "access0")
    fast = opened(router)
    fast.put(WHOLE)
    assert "srv6dmm_steer" in tc(router, "access0")
    assert fast.read() == WANTED
    assert fast.delete(WHOLE) == []
    assert fast.read() == {}
    assert "srv6dmm" not in tc(router, "access0")
    assert "u32" in tc(router, "access0")
    assert not clsact(router, "core0"), "the hook goes with the last filter"
    fast.close()


def test_a_program_moves_between_the_hooks(router: str) -> None:
    """From the filter that a kernel without tcx had to the hook of a newer one, and back."""
    place = pins.directory(router)
    with namespace.inside(router):
        index = socket.if_nametoindex("core0")
    filters, tcx, hooks = Filters(router, place), Tcx(router, place), Hooks(router, place)
    assert filters.program_at(index) is None
    filters.attach("core0", index, "sid")
    first = filters.program_at(index)
    assert first is not None
    assert hooks.program_at("core0", index) == first
    hooks.attach("core0", index, "sid")
    assert hooks.attached("core0", index, "sid")
    if tcx.present("core0", index):
        assert (tcx.program_at("core0", index), filters.program_at(index)) == (first, None)
        assert not clsact(router, "core0")
        add_foreign_filter(router, "core0")
        hooks.attach("core0", index, "sid")
        assert (tcx.program_at("core0", index), filters.program_at(index)) == (None, first)
        assert hooks.attached("core0", index, "sid")
    hooks.detach("core0", index)
    assert hooks.program_at("core0", index) is None
    hooks.detach("core0", index)
    filters.close()
    hooks.close()


def test_a_prefix_changes_what_is_done_with_it_and_keeps_its_counter(router: str) -> None:
    fast = opened(router)
    delivery = FastDelivery(HOME, "access0", MAC, IPv6Address("fe80::99"), 1500)
    for item in (steering(), delivery, FastDrop(HOME), steering(count=3), delivery, steering()):
        assert fast.put([item]) == []
        assert fast.read() == {item.identity: item}
    fast.close()


def test_paths_are_shared_and_go_with_their_last_entry(router: str) -> None:
    fast = opened(router)
    many = [steering(IPv6Network((0x20010DB800FF0000 + n << 64, 64))) for n in range(200)]
    fast.put(many)
    assert len(paths_of(fast)) == 1
    fast.delete(many[1:])
    assert len(paths_of(fast)) == 1
    before = paths_of(fast)
    fast.put([replace(many[0], segments=SEGMENTS[:2])])
    assert len(paths_of(fast)) == 1
    assert paths_of(fast).keys().isdisjoint(before), "packets may be reading it"
    fast.delete(many[:1])
    assert paths_of(fast) == {}
    fast.close()


def test_an_interface_that_is_not_there_is_named_and_harms_no_other(router: str) -> None:
    fast = opened(router)
    (failure,) = fast.put([steering(interface="core9"), FastDrop(HOME)])
    assert failure.errno == 19
    assert "core9" in failure.reason
    assert [type(item) for item in fast.read().values()] == [FastDrop]
    fast.close()


def test_what_an_interface_leaves_behind_can_be_deleted(router: str) -> None:
    """Its index comes back never, and what names it must not stay for ever."""
    fast = opened(router)
    fast.put(WHOLE)
    ip(router, "link", "delete", "access0")
    found = fast.read()
    left = [item for identity, item in found.items() if identity not in WANTED]
    assert {type(item) for item in left} == {FastBinding}
    assert fast.delete(left) == []
    assert all(identity in WANTED for identity in fast.read())
    fast.close()


def test_a_full_map_is_named_and_the_rest_is_written(router: str) -> None:
    few = Limits(prefixes=8)
    place = pins.directory(router, few)
    loader.load(place, few)
    fast = FastPath(router, place)
    many = [steering(IPv6Network((0x20010DB800FF0000 + n << 64, 64))) for n in range(12)]
    failures = fast.put(many)
    assert 1 <= len(failures) <= 4
    assert all("prefixes" in failure.reason for failure in failures)
    assert len(fast.read()) == 12 - len(failures)
    fast.close()


def test_loading_leaves_no_descriptor_open(router: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    loader.load(pins.directory(router))
    assert len(os.listdir("/proc/self/fd")) == before


def test_new_programs_are_put_in_the_place_of_old_ones(router: str) -> None:
    fast = opened(router)
    fast.put(WHOLE)
    loader.load(pins.directory(router))
    port = ("fast-port", "access0")
    assert port not in fast.read(), "it runs the old program still: to be replaced"
    assert fast.put([FastPort("access0", Facing.ACCESS)]) == []
    assert port in fast.read()
    fast.close()


def test_refused_entries_leave_no_counter_behind(router: str) -> None:
    """However often they are tried again."""
    few = Limits(prefixes=8, counters=32)
    place = pins.directory(router, few)
    loader.load(place, few)
    fast = FastPath(router, place)
    many = [steering(IPv6Network((0x20010DB800FF0000 + n << 64, 64))) for n in range(12)]
    refused = {failure.identity for failure in fast.put(many)}
    again = [item for item in many if item.identity in refused]
    for _ in range(20):
        assert {failure.identity for failure in fast.put(again)} == refused
    kept = [item for item in many if item.identity not in refused]
    assert fast.delete(kept) == []
    assert fast.put(again) == []
    counters = [Steer.unpack(value).counter for _, value in fast._maps.each("prefixes")]
    assert all(counters)
    assert len(set(counters)) == len(counters)
    fast.close()


def test_a_foreign_prefix_is_not_taken_for_the_one_that_covers_it(router: str) -> None:
    fast = opened(router)
    covering = steering(IPv6Network("2001:db8::/32"))
    assert fast.put([covering]) == []
    inner = steering(IPv6Network("2001:db8:c::/48"), 2)
    assert fast.read([inner.identity, covering.identity]) == {covering.identity: covering}
    assert fast.put([inner]) == []
    assert fast.read() == {covering.identity: covering, inner.identity: inner}
    fast.close()
