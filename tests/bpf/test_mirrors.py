"""What C and Python say of the same things must be the same, and stay what it was.

The numbers of reasons are names of metrics and columns of recorded reports: append-only.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from srv6dmm.dataplane.fastpath import layout, loader
from srv6dmm.dataplane.fastpath.loader import LoadError
from srv6dmm.dataplane.fastpath.reasons import DROPPED_FROM, LEFT_FROM, MAX_REASONS, Reason
from tests.bpf.running import REASONS, REASONS_HEADER

HANDLED = "STEERED DELIVERED ENDPOINT REDIRECTED"
LEFT = (
    "NOT_IP NOT_OUR_PORT NO_ENTRY LOCAL_SCOPE HOP_LIMIT OVERSIZE TRUNCATED JUMBO EXTENSIONS"
    " FRAGMENT BAD_SRH SRH_TLV SRH_FLAGS SEGMENTS_LEFT INNER UNKNOWN_BEHAVIOR NO_PATH NOT_HERE"
    " ADJUST_FAILED REDIRECT_FAILED IP_OPTIONS NOT_IN_PLACE OTHER_HOST FLOW_RULES HOP_DOWN"
    " BAD_CHECKSUM"
)
DROPPED = (
    "TO_SID_BLOCK SOURCE_UNBOUND NODE_LEFT OUTER_SOURCE ECN STORE_FAILED FLOW_DROP STACKED_TAGS"
    " SOURCE_INVALID"
)
FOREVER = {
    number: name
    for first, names in ((0, HANDLED), (4, LEFT), (32, DROPPED))
    for number, name in enumerate(names.split(), first)
}
"""Every reason there ever was. New ones come last in their group; a number is one's for ever."""


def test_the_numbers_of_reasons_never_change() -> None:
    names = {reason.value: reason.name for reason in Reason}
    assert {number: names.get(number) for number in FOREVER} == FOREVER
    assert names.keys() == FOREVER.keys(), "a new reason belongs into FOREVER"


def test_the_header_has_the_same_reasons() -> None:
    assert {reason.value: reason.name for reason in Reason} == REASONS
    [most] = re.findall(r"#define MAX_REASONS (\d+)", REASONS_HEADER.read_text())
    assert int(most) == MAX_REASONS
    assert max(REASONS) < MAX_REASONS


def test_the_header_sorts_them_by_what_becomes_of_a_packet() -> None:
    """The comments between the groups are what readers go by."""
    text = REASONS_HEADER.read_text()
    groups = re.split(r"// (?:Handled|Left to the kernel|Dropped)", text)[1:]
    handled, left, dropped = ({int(n) for n in re.findall(r"= (\d+)", one)} for one in groups)
    assert max(handled) < LEFT_FROM <= min(left)
    assert max(left) < DROPPED_FROM <= min(dropped)
    outcomes = {"handled": handled, "kernel": left, "dropped": dropped}
    for outcome, numbers in outcomes.items():
        assert {Reason(number).outcome for number in numbers} == {outcome}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    copied = tmp_path / "ebpf"
    shutil.copytree(loader.sources(), copied)
    return copied


@pytest.mark.root
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("__u32 ifindex;\n    __u32 vlan; // 0: untagged", "__u32 vlan;\n    __u32 ifindex;",
         "port_key.ifindex"),
        ("__u16 flags;\n    __u16 hop;\n    struct in6 next_hop;",
         "__u16 hop;\n    __u16 flags;\n    struct in6 next_hop;", "path.flags"),
        ("struct in6 mapped; ", "struct in6 mapped; __u32 more; ", "sid"),
        ("__u64 last;  //", "__u32 last;  //", "counter"),
        ("#define MAX_HEADER 144", "#define MAX_HEADER 160", "path"),
    ],
    ids=["exchanged", "exchanged-16", "grown", "narrower", "longer-array"],
)  # fmt: skip
def test_the_loader_refuses_another_layout(
    sources: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    header = sources / "lib" / "layout.h"
    text = header.read_text()
    assert text.count(old) == 1, "the text to change is not in layout.h any more"
    header.write_text(text.replace(old, new))
    with pytest.raises(LoadError, match=re.escape(said)):
        loader.load(tmp_path / "pins", source=sources, cache=tmp_path / "cache")


def test_every_structure_is_held_against_its_mirror() -> None:
    """One that is not in STRUCTURES would be checked by nobody."""
    text = (loader.sources() / "lib" / "layout.h").read_text()
    declared = set(re.findall(r"^struct (\w+) \{", text, re.MULTILINE))
    assert declared - {"in6"} == layout.STRUCTURES.keys()
