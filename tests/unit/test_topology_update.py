"""Changes of a topology in operation: documents, patches, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srv6dmm.core.topology import parse_topology
from srv6dmm.core.topology_document import digest, document_of
from srv6dmm.core.topology_update import Fault, patched, read, update_faults
from srv6dmm.model.state import State
from srv6dmm.model.topology import Link, LinkEnd, Topology

CAMPUS = Path("deploy/topologies/campus.yaml")


@pytest.fixture(scope="module")
def campus() -> Topology:
    return parse_topology(CAMPUS.read_text(), str(CAMPUS))


@pytest.mark.parametrize("file", sorted(Path("deploy/topologies").glob("*.yaml")), ids=str)
def test_a_document_reads_as_what_it_was_made_of(file: Path) -> None:
    topology = parse_topology(file.read_text(), str(file))
    again, faults = read(document_of(topology))
    assert not faults
    assert again == topology
    assert again is not None
    assert digest(again) == digest(topology)


def test_a_document_holds_every_attribute_of_a_link(campus: Topology) -> None:
    link = replace(
        campus.links[0],
        metric=7,
        delay_us=1234,
        mtu=1700,
        te_metric=9,
        capacity_bps=2_500_000_000,
        affinities=frozenset({"gold"}),
        srlgs=frozenset({4, 17}),
        drained=True,
    )
    domain = replace(campus.domain, affinities=(("gold", 3),))
    changed = replace(campus, domain=domain, links=(link, *campus.links[1:]))
    assert read(document_of(changed)) == (changed, [])


@pytest.mark.parametrize("bps", [1, 999, 1000, 1234, 10**6, 2_500_000_000, 10**15, 1_234_567])
def test_capacities_are_told_exactly(campus: Topology, bps: int) -> None:
    link = replace(campus.links[0], capacity_bps=bps)
    changed = replace(campus, links=(link, *campus.links[1:]))
    assert read(document_of(changed)) == (changed, [])


def _update(campus: Topology, patch: dict[str, Any], state: State | None = None) -> list[Fault]:
    new, faults = read(patched(document_of(campus), {"topology": patch}))
    if new is None:
        return faults
    return update_faults(campus, new, state or State(), ())


def _linked(campus: Topology, patch: dict[str, Any]) -> Topology:
    new, faults = read(patched(document_of(campus), {"topology": patch}))
    assert new is not None, faults
    return new


def test_a_patch_changes_what_it_names_and_nothing_else(campus: Topology) -> None:
    patch = {"links": [{"endpoints": ["tr2:tr1", "tr1:tr2"], "drained": True, "srlg": [3]}]}
    new = _linked(campus, patch)
    changed = [(a, b) for a, b in zip(campus.links, new.links, strict=True) if a != b]
    assert changed == [
        (old, replace(old, drained=True, srlgs=frozenset({3}))) for old, _ in changed
    ]
    assert [str(old.a) for old, _ in changed] == ["tr1:tr2"]
    assert not update_faults(campus, new, State(), ())


def test_null_takes_a_key_away(campus: Topology) -> None:
    ends = ["tr1:tr2", "tr2:tr1"]
    drained = _linked(campus, {"links": [{"endpoints": ends, "drained": True}]})
    again = _linked(drained, {"links": [{"endpoints": ends, "drained": None}]})
    assert again == campus


@pytest.mark.parametrize(
    ("patch", "key", "word"),
    [
        ({"links": [{"endpoints": ["br1:tr1", "tr1:br1"], "metric": 0}]}, "metric", "1"),
        ({"links": [{"endpoints": ["br1:tr1", "tr1:br1"], "colour": 1}]}, "colour", "unknown"),
        ({"links": [{"endpoints": ["br1:tr9", "tr9:br1"]}]}, "endpoints", "unknown node 'tr9'"),
        ({"links": [{"endpoints": ["br1:tr1", "tr1:br1"], "affinity": ["x"]}]}, "affinity", "x"),
        ({"links": [7]}, "links", "must be a link"),
        ({"nodes": {"ar1": {"pool": "2001:db8:ffff::/48"}}}, "nodes.ar1", "only max-sid-depth"),
        ({"nodes": {"ar1": None}}, "links", "unknown node 'ar1'"),
        (
            {"links": [{"endpoints": ["br1:tr1", "tr1:br1"], "mtu": 1500}]},
            "links",
            "were told an MTU of 1500",
        ),
        (
            {
                "links": [
                    {"endpoints": ["ar1:tr1", "tr1:ar1"], "remove": True},
                    {"endpoints": ["ar1:tr3", "tr3:ar1"], "remove": True},
                ]
            },
            "nodes.ar1",
            "cannot be reached from",
        ),
        (
            {"links": [{"endpoints": ["tr1:aaa", "tr3:zzz"]}]},
            "links",
            "the adjacency of tr1:ar1 would become",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    campus: Topology, patch: dict[str, Any], key: str, word: str
) -> None:
    faults = _update(campus, patch)
    assert any(key in place and word in message for place, message in faults), faults


def test_a_router_in_use_is_not_cut_off(campus: Topology) -> None:
    """Its last working link may not be removed, whatever else is declared."""
    spare = {"endpoints": ["ar1:z9", "ar2:z9"], "mtu": 1700}
    old = _linked(campus, {"links": [spare]})
    new = _linked(old, {"links": [spare | {"remove": True}]})
    assert not update_faults(old, new, State(), ())
    down = {LinkEnd("ar1", "tr1"), LinkEnd("tr3", "ar1")}
    key, message = update_faults(old, new, State(), down)[0]
    assert key == "topology.links"
    assert message == "ar1 is in use and would be cut off from ar2, ar3, ar4, br1"


def test_a_new_link_that_sorts_last_moves_no_sid(campus: Topology) -> None:
    new = _linked(campus, {"links": [{"endpoints": ["ar1:z9", "ar2:z9"], "mtu": 1700}]})
    assert new.links[-1] == Link(LinkEnd("ar1", "z9"), LinkEnd("ar2", "z9"), mtu=1700)
    assert not update_faults(campus, new, State(), ())
