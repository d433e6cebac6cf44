"""`domain.usid`: read, written, and refused where a container could be misread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from srv6dmm.core.topology import TopologyErrors, parse_topology
from srv6dmm.core.topology_document import digest, document_of
from srv6dmm.core.topology_update import read, update_faults
from srv6dmm.model.state import State

FILE = Path(__file__).parents[1] / "netns" / "usid.yaml"
GOOD = FILE.read_text()


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize(
    ("before", "after", "key", "words"),
    [
        ("fc00:0:c3::/48", "fc00:0:e00::/48", "t3.locator", "e00 is a function of ar1 (end) too"),
        ("fc00:0:c3::/48", "fc00:0:d06::/48", "t3.locator", "d06 is a function of ar1 (end-dt6)"),
        (
            "fc00:0:c3::/48",
            "fc00:0:f09::/48",
            "t3.locator",
            "f09 is a function of hub (end-x t6) too",
        ),
        ("fc00:0:c3::/48", "fc00:0:0::/48", "t3.locator", "zeros behind its block"),
        ('"fc00:0:c3::/48"}', '"fc00:1:c3::/48"}', "t3.locator", "differs from that of ar1"),
        (
            'locator: "fc00:0:c3::/48"',
            'locator: "fc00:0:c3::/48", services: {nat: "fc00:0:c3:c5::"}',
            "t5.locator",
            "c5 is a function of t3 (service nat) too",
        ),
        (
            'locator: "fc00:0:c3::/48"',
            'locator: "fc00:0:c3::/48", sids: {end: "fc00:0:c3:c5::7"}',
            "t5.locator",
            "c5 is a function of t3 (end) too",
        ),
        ("usid: true", "usid: perhaps", "domain.usid", "must be true or false"),
        ("usid: true", "uSID: true", "domain.uSID", "known here: sid-block"),
    ],
)
def test_what_a_container_cannot_name_is_refused(
    before: str, after: str, key: str, words: str
) -> None:
    assert GOOD.count(before) == 1
    text = GOOD.replace("sid-block: fc00::/32", "sid-block: fc00::/16").replace(before, after)
    with pytest.raises(TopologyErrors) as caught:
        parse_topology(text, "lab.yaml")
    key = key if key.startswith("domain") else f"topology.nodes.{key}"
    (fault,) = [error for error in caught.value.errors if error.key == key]
    assert words in fault.message
    place = key.removeprefix("topology.nodes.").removeprefix("domain.").partition(".")[0]
    assert fault.line == line_of(text, f" {place}:")


def test_without_it_all_of_that_is_allowed() -> None:
    text = GOOD.replace("usid: true", "usid: false").replace(
        "sid-block: fc00::/32", "sid-block: fc00::/16"
    )
    for locator in ("fc00:0:e00::/48", "fc00:0:0::/48", "fc00:1:c3::/48"):
        assert not parse_topology(text.replace("fc00:0:c3::/48", locator), "x").domain.usid


def test_it_is_part_of_the_document_and_of_the_digest() -> None:
    on = parse_topology(GOOD, "x")
    off = replace(on, domain=replace(on.domain, usid=False))
    assert on.domain.usid
    assert read(document_of(on)) == (on, [])
    assert read(document_of(off)) == (off, [])
    assert digest(on) != digest(off)
    assert "usid" not in str(document_of(off)["domain"]), (
        "a digest of before there was the key stays good"
    )


def test_it_changes_with_the_file_only() -> None:
    on = parse_topology(GOOD, "x")
    off = replace(on, domain=replace(on.domain, usid=False))
    ((key, message),) = update_faults(on, off, State(), ())
    assert key == "domain"
    assert "only the affinities" in message
