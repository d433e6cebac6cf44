"""Desired and actual: what is written, in which order, and what is left alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srv6dmm.agent import kernel_entries
from srv6dmm.agent.reconcile import Reconciler
from srv6dmm.dataplane.fake import FakeKernel
from srv6dmm.dataplane.objects import (
    Identity,
    InterfaceAddress,
    KernelFailure,
    KernelObject,
    LinkAddress,
    Neighbour,
    NextHop,
    Route,
    RouteKind,
    Seg6Encap,
    Seg6Local,
    Sysctl,
    TunnelSource,
)
from srv6dmm.model.addresses import link_local_from_mac
from srv6dmm.model.plan import DropEntry, FlowSelector, FlowSteering, PlanEntry
from srv6dmm.model.sid import EncapMode
from tests.agents import AWAY, HOME, NODE, NODE_MAC, SETTINGS, delivery, static_entries, steering

STATIC = static_entries()
WHOLE: list[PlanEntry] = [*STATIC, delivery(), steering()]
HOME_ROUTE = Route(HOME, next_hops=(NextHop("access", NODE),)).identity
AWAY_ROUTE = Route(AWAY).identity
NEIGHBOUR = Neighbour("access", NODE, NODE_MAC).identity


def _router(kernel: FakeKernel, entries: Iterable[PlanEntry] = WHOLE) -> Reconciler:
    made = Reconciler(kernel, encap_red=True)
    assert made.apply_full(entries) == []
    return made


def _verbs(kernel: FakeKernel) -> list[str]:
    return [operation.verb for operation in kernel.operations]


# --- writing --------------------------------------------------------------------------------


def test_the_same_full_plan_again_writes_nothing() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    held = dict(kernel.objects)
    kernel.operations.clear()
    assert router.apply_full(WHOLE) == []
    assert router.apply_full(reversed(WHOLE)) == []
    assert kernel.operations == []
    assert kernel.objects == held


def test_a_fresh_process_adopts_what_it_finds_and_writes_nothing() -> None:
    kernel = FakeKernel()
    _router(kernel)
    # What the kernel tells of a link has always an address, whatever was asked for.
    for identity, item in list(kernel.objects.items()):
        if isinstance(item, LinkAddress) and item.link_layer_address is None:
            kernel.objects[identity] = replace(item, link_layer_address="02:00:00:00:00:99")
    kernel.operations.clear()
    _router(kernel)
    assert kernel.operations == []


def test_a_fresh_process_deletes_nothing_before_it_has_a_plan() -> None:
    kernel = FakeKernel()
    _router(kernel)
    held = dict(kernel.objects)
    kernel.operations.clear()
    fresh = Reconciler(kernel, encap_red=True)
    assert not fresh.repair()
    assert fresh.retry() == []
    assert kernel.operations == []
    assert kernel.objects == held


def test_what_is_ours_and_not_in_the_plan_goes_with_the_full_plan() -> None:
    kernel = FakeKernel()
    _router(kernel)
    fresh = _router(kernel, STATIC)
    assert kernel.objects.keys() & {HOME_ROUTE, AWAY_ROUTE, NEIGHBOUR} == set()
    assert fresh.failures() == []


def test_what_others_need_is_written_first_and_deletes_come_last() -> None:
    kernel = FakeKernel()
    kernel.meddle(Route(IPv6Network("2001:db8:9::/64"), RouteKind.BLACKHOLE))
    _router(kernel, [*reversed(WHOLE)])
    ranks: list[int] = []
    for operation in kernel.operations:
        match operation.verb, operation.item:
            case "delete", _:
                ranks.append(9)
            case _, Sysctl():
                ranks.append(0)
            case _, LinkAddress():
                ranks.append(1)
            case _, InterfaceAddress() | TunnelSource():
                ranks.append(2)
            case _, Route(encap=Seg6Local()):
                ranks.append(4)
            case _, Neighbour():
                ranks.append(5)
            case _, Route(encap=Seg6Encap()):
                ranks.append(7)
            case _, Route(prefix=prefix):
                ranks.append(6 if prefix == HOME else 3)
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2, 3, 4, 5, 6, 7, 9}


def test_a_handover_replaces_the_route_and_then_deletes_the_neighbour() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    kernel.operations.clear()
    assert router.apply_delta([steering(HOME)], []) == []
    assert [(o.verb, o.item.identity) for o in kernel.operations] == [
        ("put", HOME_ROUTE),
        ("delete", NEIGHBOUR),
    ]


def test_a_neighbour_that_two_prefixes_share_stays_until_both_are_gone() -> None:
    kernel = FakeKernel()
    router = _router(kernel, [*STATIC, delivery(HOME), delivery(AWAY)])
    kernel.operations.clear()
    router.apply_delta([], [f"mobile {HOME}"])
    assert NEIGHBOUR in kernel.objects
    assert HOME_ROUTE not in kernel.objects
    assert _verbs(kernel) == ["delete"]
    router.apply_delta([], [f"mobile {AWAY}"])
    assert NEIGHBOUR not in kernel.objects


def test_an_entry_that_differs_for_people_only_writes_nothing() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    kernel.operations.clear()
    assert router.apply_delta([delivery(epoch=9)], ["mobile 2001:db8:77::/64"]) == []
    assert kernel.operations == []


def test_another_core_interface_moves_every_sid() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    settings = replace(SETTINGS, core_interfaces=("core1",))
    assert router.apply_delta([settings], []) == []
    devices = {
        hop.interface
        for item in kernel.objects.values()
        if isinstance(item, Route) and isinstance(item.encap, Seg6Local) and item.encap.table
        for hop in item.next_hops
    }
    assert devices == {"core1"}
    assert InterfaceAddress("core0", SETTINGS.link_local, 64).identity not in kernel.objects


# --- failures --------------------------------------------------------------------------------


def _refuses(*identities: Identity) -> FakeKernel:
    kernel = FakeKernel()
    kernel.refuse(lambda identity: identity in identities, errno.EINVAL)
    return kernel


def test_what_is_refused_is_named_and_the_rest_is_applied() -> None:
    kernel = _refuses(AWAY_ROUTE)
    router = Reconciler(kernel, encap_red=True)
    (failure,) = router.apply_full(WHOLE)
    assert (failure.key, failure.errno) == (f"mobile {AWAY}", errno.EINVAL)
    assert str(AWAY) in failure.reason
    assert HOME_ROUTE in kernel.objects
    assert AWAY_ROUTE not in kernel.objects
    kernel.relent()
    kernel.operations.clear()
    assert router.retry() == []
    assert [(o.verb, o.item.identity) for o in kernel.operations] == [("put", AWAY_ROUTE)]
    assert AWAY_ROUTE in kernel.objects


def test_a_plan_that_says_it_again_tries_it_again() -> None:
    kernel = _refuses(AWAY_ROUTE)
    router = Reconciler(kernel, encap_red=True)
    assert router.apply_full(WHOLE) != []
    kernel.relent()
    assert router.apply_delta([steering()], []) == []
    assert AWAY_ROUTE in kernel.objects


def test_a_newer_plan_ends_the_retries_of_what_it_replaces() -> None:
    kernel = _refuses(AWAY_ROUTE)
    router = Reconciler(kernel, encap_red=True)
    assert router.apply_full(WHOLE) != []
    assert router.apply_delta([], [f"mobile {AWAY}"]) == []
    kernel.operations.clear()
    assert router.retry() == []
    assert kernel.operations == []


def test_a_refused_object_that_two_entries_need_is_a_failure_of_both() -> None:
    kernel = _refuses(NEIGHBOUR)
    router = Reconciler(kernel, encap_red=True)
    failures = router.apply_full([*STATIC, delivery(HOME), delivery(AWAY)])
    assert {failure.key for failure in failures} == {f"mobile {HOME}", f"mobile {AWAY}"}


def test_what_cannot_be_deleted_is_a_failure_and_tried_again() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    kernel.refuse(lambda identity: identity == AWAY_ROUTE, errno.EBUSY)
    (failure,) = router.apply_delta([], [f"mobile {AWAY}"])
    assert (failure.key, failure.errno) == ("kernel", errno.EBUSY)
    kernel.relent()
    assert router.retry() == []
    assert AWAY_ROUTE not in kernel.objects


class _Forgetful(FakeKernel):
    """Accepts a route and does not keep it, as Linux does with seg6local on lo."""

    def put(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        failures = super().put(objects)
        self.objects.pop(AWAY_ROUTE, None)
        return failures


def test_what_does_not_read_back_is_a_failure() -> None:
    router = Reconciler(_Forgetful(), encap_red=True)
    (failure,) = router.apply_full(WHOLE)
    assert (failure.key, failure.errno) == (f"mobile {AWAY}", 0)
    assert "accepted, but is not there" in failure.reason


class _Mute(FakeKernel):
    """Does not answer while `mute`."""

    mute = False

    def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, KernelObject]:
        if self.mute:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return super().read(wanted)

    def delete(self, objects: Sequence[KernelObject]) -> list[KernelFailure]:
        if self.mute:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return super().delete(objects)


def test_a_delete_without_an_answer_is_tried_again() -> None:
    kernel = _Mute()
    router = _router(kernel)
    kernel.mute = True
    (failure,) = router.apply_delta([], [f"mobile {AWAY}"])
    assert (failure.key, failure.errno) == ("kernel", errno.ENOBUFS)
    kernel.mute = False
    assert router.retry() == []
    assert AWAY_ROUTE not in kernel.objects


def test_a_kernel_that_does_not_answer_is_a_failure_until_it_does() -> None:
    kernel = _Mute()
    router = Reconciler(kernel, encap_red=True)
    kernel.mute = True
    failures = router.apply_full(WHOLE)
    assert {failure.key for failure in failures} == {entry.key for entry in WHOLE}
    assert {failure.errno for failure in failures} == {errno.ENOBUFS}
    kernel.mute = False
    assert router.retry() == []
    reference = FakeKernel()
    _router(reference)
    assert kernel.objects == reference.objects
    kernel.mute = True
    failures = router.apply_delta([steering(HOME)], [])
    assert sorted(f.key for f in failures) == ["kernel", f"mobile {HOME}"]
    kernel.mute = False
    assert router.retry() == []
    assert NEIGHBOUR not in kernel.objects


# --- drift -----------------------------------------------------------------------------------


def test_drift_is_repaired_and_told() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    before = dict(kernel.objects)
    kernel.lose(HOME_ROUTE)
    kernel.meddle(Route(AWAY, RouteKind.BLACKHOLE))
    kernel.meddle(Sysctl("net/ipv6/conf/all/forwarding", "0"))
    kernel.meddle(Route(IPv6Network("2001:db8:9::/64"), RouteKind.BLACKHOLE))
    repair = router.repair()
    assert repair.missing == (f"mobile {HOME}",)
    assert repair.different == (f"mobile {AWAY}", "settings")
    assert repair.superfluous == ("route 2001:db8:9::/64 254 201",)
    assert kernel.objects == before
    assert not router.repair()


def test_what_the_kernel_refuses_is_no_drift() -> None:
    kernel = _refuses(AWAY_ROUTE)
    router = Reconciler(kernel, encap_red=True)
    router.apply_full(WHOLE)
    assert not router.repair()
    kernel.relent()
    assert not router.repair(), "it was a failure, and it ended: nobody changed anything"
    assert router.failures() == []
    assert AWAY_ROUTE in kernel.objects


def test_drift_that_cannot_be_repaired_is_a_failure_and_no_repair() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    kernel.lose(AWAY_ROUTE)
    kernel.meddle(Route(IPv6Network("2001:db8:9::/64"), RouteKind.BLACKHOLE))
    kernel.refuse(lambda identity: identity[0] == "route", errno.ENETDOWN)
    assert not router.repair()
    assert sorted(failure.key for failure in router.failures()) == ["kernel", f"mobile {AWAY}"]


def test_a_link_that_somebody_sets_down_is_left_down() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    kernel.lose(LinkAddress("core0", None).identity)
    kernel.operations.clear()
    assert not router.repair()
    assert kernel.operations == []
    assert router.apply_full(WHOLE) == []
    assert kernel.operations == []


def test_a_link_with_another_link_layer_address_is_repaired() -> None:
    kernel = FakeKernel()
    router = _router(kernel)
    kernel.meddle(LinkAddress("access", "02:00:00:00:00:99"))
    assert router.repair().different == ("settings",)
    assert LinkAddress("access", SETTINGS.access_mac) in kernel.objects.values()


# --- any order -------------------------------------------------------------------------------

_PREFIXES = [IPv6Network(f"2001:db8:1:{number}::/64") for number in range(4)]
_MACS = [f"02:00:00:00:00:{number:02x}" for number in range(1, 3)]


@st.composite
def _mobile(draw: st.DrawFn) -> PlanEntry:
    prefix = draw(st.sampled_from(_PREFIXES))
    match draw(st.integers(0, 2)):
        case 0:
            return delivery(prefix, draw(st.sampled_from(_MACS)), draw(st.integers(1, 3)))
        case 1:
            segments = draw(st.lists(st.sampled_from(["fc00:0:2::e00", "fc00:0:3::e00"])))
            return steering(prefix, *segments, "fc00:0:4::d06")
        case _:
            return DropEntry(prefix, "mn", 1)


_deltas = st.lists(
    st.tuples(
        st.lists(_mobile(), max_size=3, unique_by=lambda entry: entry.key),
        st.lists(st.sampled_from(_PREFIXES), max_size=2, unique=True),
        st.sets(st.integers(0, 7)),
    ),
    max_size=6,
)


@given(_deltas)
def test_any_deltas_with_any_faults_end_where_the_full_plan_does(
    deltas: list[tuple[list[PlanEntry], list[IPv6Network], set[int]]],
) -> None:
    kernel = FakeKernel()
    router = _router(kernel, STATIC)
    plan = {entry.key: entry for entry in STATIC}
    watched: list[Identity] = [Route(prefix).identity for prefix in _PREFIXES]
    watched += [Neighbour("access", link_local_from_mac(mac), mac).identity for mac in _MACS]
    for put, going, faults in deltas:
        gone = [f"mobile {p}" for p in going if f"mobile {p}" not in {e.key for e in put}]
        refused = {watched[number] for number in faults if number < len(watched)}
        kernel.relent()
        kernel.refuse(refused.__contains__, errno.ENOMEM)
        router.apply_delta(put, gone)
        for key in gone:
            plan.pop(key, None)
        plan.update((entry.key, entry) for entry in put)
    kernel.relent()
    assert router.retry() == []
    reference = FakeKernel()
    _router(reference, plan.values())
    assert kernel.objects == reference.objects
    kernel.operations.clear()
    assert router.apply_full(plan.values()) == []
    assert kernel.operations == []


@pytest.mark.parametrize("encap_red", [True, False])
def test_the_mode_is_what_the_kernel_has(encap_red: bool) -> None:
    kernel = FakeKernel()
    assert Reconciler(kernel, encap_red).apply_full(WHOLE) == []
    route = kernel.objects[AWAY_ROUTE]
    assert isinstance(route, Route)
    wanted = EncapMode.ENCAP_RED if encap_red else EncapMode.ENCAP
    assert route.encap == Seg6Encap(wanted, (IPv6Address("fc00:0:2::d06"),))


def test_two_flows_that_would_share_a_table_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_entries, "flow_table", lambda entry: 0x4000_0001)
    selector = FlowSelector(IPv6Network("2001:db8:2::/64"), IPv6Network("2001:db8:1::/64"))
    one = FlowSteering("one", selector, 5, (), EncapMode.ENCAP, "mn1")
    other = replace(one, rule="other")
    reconciler = Reconciler(FakeKernel(), encap_red=True)
    assert reconciler.apply_full([one]) == []
    failures = reconciler.apply_delta([other], [])
    assert {failure.key for failure in failures} == {one.key, other.key}
    assert "rename one" in failures[0].reason
    assert reconciler.apply_delta([], [other.key]) == []
