"""Which local SIDs the fast path takes from a plan; the kernel has all of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from srv6dmm.agent.fast_entries import fast_objects
from srv6dmm.agent.host import Host
from srv6dmm.dataplane.fastpath.objects import FastSid
from srv6dmm.model.plan import LocalSid
from srv6dmm.model.sid import Behavior, Flavor

HOST = Host(encap_red=True, sid_interfaces=("core0",), fast=True)
SID = IPv6Address("fc00:1:0:e00::")
HOP, HOP4 = IPv6Address("fe80::2"), IPv4Address("192.0.2.1")


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        (LocalSid(SID, Behavior.END), FastSid(SID, Behavior.END)),
        (LocalSid(SID, Behavior.END_DT6, table=254), FastSid(SID, Behavior.END_DT6)),
        (
            LocalSid(SID, Behavior.END_X, "core0", HOP),
            FastSid(SID, Behavior.END_X, "core0", HOP),
        ),
        (
            LocalSid(SID, Behavior.END_DX4, next_hop4=HOP4),
            FastSid(SID, Behavior.END_DX4, None, HOP4),
        ),
    ],
    ids=lambda value: value.behavior.value if isinstance(value, LocalSid) else "",
)
def test_a_short_cut(entry: LocalSid, wanted: FastSid) -> None:
    assert fast_objects(entry, HOST) == (wanted,)


@pytest.mark.parametrize(
    "entry",
    [
        LocalSid(SID, Behavior.END, flavors=(Flavor.PSP,)),
        LocalSid(SID, Behavior.END_B6_ENCAPS, segments=(SID,)),
        LocalSid(SID, Behavior.END_X, next_hop=HOP),
        LocalSid(SID, Behavior.END_DX4),
    ],
    ids=["flavor", "b6", "end.x without interface", "dx4 without next hop"],
)
def test_the_kernels_alone(entry: LocalSid) -> None:
    assert fast_objects(entry, HOST) == ()
