"""What an agent tells of plan entries: as they are in the kernel, and nothing is repaired."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv6Address

from srv6dmm.agent.host import Host
from srv6dmm.agent.inspection import inspect
from srv6dmm.agent.reconcile import Reconciler
from srv6dmm.dataplane.fake import FakeKernel
from srv6dmm.dataplane.objects import BACKUP_METRIC, Identity, KernelObject, NextHop, Route
from srv6dmm.model.plan import PlanEntry
from srv6dmm.model.wire import EntryState
from tests.agents import AWAY, HOME, SETTINGS, delivery, static_entries, steering

ENTRIES: tuple[PlanEntry, ...] = (*static_entries(), delivery(), steering())
SID = "fc00:0:1::d06"


def applied(kernel: FakeKernel) -> Reconciler:
    reconciler = Reconciler(kernel, encap_red=True)
    assert reconciler.apply_full(ENTRIES) == []
    return reconciler


def told(kernel: FakeKernel, reconciler: Reconciler, *entries: PlanEntry) -> dict[str, EntryState]:
    before = list(kernel.operations)
    states = inspect(kernel, reconciler.host, reconciler.entries, entries or ENTRIES)
    assert kernel.operations == before, "nothing is written"
    return {state.key: state for state in states}


def test_all_that_is_applied_is_present() -> None:
    kernel = FakeKernel()
    states = told(kernel, applied(kernel))
    assert states.keys() == {entry.key for entry in ENTRIES}
    for state in states.values():
        assert (state.planned, state.state, state.found) == (True, "present", ())


def test_what_is_gone_is_named() -> None:
    kernel = FakeKernel()
    reconciler = applied(kernel)
    kernel.lose(Route(HOME).identity)
    state = told(kernel, reconciler)[delivery().key]
    assert state.state == "missing"
    assert state.found == (f"route {HOME} 254 201 is not there",)


def test_what_differs_is_told_field_by_field() -> None:
    kernel = FakeKernel()
    reconciler = applied(kernel)
    there = kernel.objects[Route(AWAY).identity]
    assert isinstance(there, Route)
    kernel.meddle(replace(there, next_hops=(NextHop("core1"),)), tell=False)
    state = told(kernel, reconciler)[steering().key]
    assert state.state == "different"
    assert state.found == (f"route {AWAY} 254 201 has next hops core1 1, not core0 1",)
    kernel.meddle(replace(there, encap=None), tell=False)
    state = told(kernel, reconciler)[steering().key]
    assert state.found == (f"route {AWAY} 254 201 has encap none, not encap.red fc00:0:2::d06",)


def test_missing_is_worse_than_different() -> None:
    kernel = FakeKernel()
    reconciler = applied(kernel)
    sid = IPv6Address(SID)
    routes = [i for i in kernel.objects if i[0] == "route" and i[1] == f"{sid}/128"]
    assert len(routes) == 2
    there = kernel.objects[routes[0]]
    assert isinstance(there, Route)
    kernel.meddle(replace(there, encap=None), tell=False)
    kernel.lose(routes[1])
    state = told(kernel, reconciler)[f"sid {sid}"]
    assert state.state == "missing"
    assert len(state.found) == 2
    assert routes[1][3] == BACKUP_METRIC


def test_an_entry_that_the_router_was_not_told_is_not_planned() -> None:
    """It may be in the kernel all the same: of an older plan, or by somebody's hand."""
    kernel = FakeKernel()
    reconciler = applied(kernel)
    changed = steering(AWAY, "fc00:0:9::d06")
    state = told(kernel, reconciler, changed)[changed.key]
    assert (state.planned, state.state) == (False, "different")
    other = delivery(epoch=9)
    assert told(kernel, reconciler, other)[other.key].planned, "an epoch is for people"


def test_local_sids_count() -> None:
    kernel = FakeKernel()
    reconciler = applied(kernel)
    kernel.counters[SID] = (3, 400, 1)
    states = told(kernel, reconciler)
    counted = states[f"sid {SID}"]
    assert (counted.packets, counted.octets, counted.errors) == (3, 400, 1)
    assert states[delivery().key].packets is None


def test_a_kernel_that_does_not_answer_is_said_to() -> None:
    class Deaf(FakeKernel):
        def read(self, wanted: Iterable[Identity] | None = None) -> dict[Identity, KernelObject]:
            raise OSError(errno.ENOBUFS, "no buffer space")

    host = Host.of(SETTINGS, True)
    (state,) = inspect(Deaf(), host, {delivery().key: delivery()}, (delivery(),))
    assert (state.planned, state.state) == (True, "unread")
    assert "no buffer space" in state.found[0]


def test_a_sentence_has_an_end() -> None:
    kernel = FakeKernel()
    reconciler = applied(kernel)
    there = kernel.objects[Route(AWAY).identity]
    assert isinstance(there, Route)
    many = tuple(NextHop(f"interface{number}") for number in range(200))
    kernel.meddle(replace(there, next_hops=many), tell=False)
    state = told(kernel, reconciler)[steering().key]
    assert max(map(len, state.found)) <= 400
