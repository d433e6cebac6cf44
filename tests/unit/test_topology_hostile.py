"""Input that is no topology at all, or is meant to hurt: an error with a place, quickly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srv6dmm.core.topology import TopologyErrors, parse_topology
from srv6dmm.core.topology_yaml import MAX_FAULTS, MAX_TEXT
from srv6dmm.model.errors import TopologyError
from tests.unit.test_topology import GOOD

BOMB = 'a: &a ["x","x","x","x","x","x","x","x","x"]\n' + "".join(
    f"{new}: &{new} [*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)

HOSTILE = {
    # case: (text, line, words)
    "empty": ("", 1, "is empty"),
    "comment only": ("# nothing\n", 1, "is empty"),
    "a list": ("- a\n- b\n", 1, "must be a mapping"),
    "a word": ("topology", 1, "must be a mapping"),
    "no YAML": ("name: lab\nlinks: [\n", 3, "is not YAML"),
    "tab": ("name: lab\n\tlinks: 1\n", 2, "is not YAML"),
    "unclosed quote": ('name: lab\nx: "abc\n', 3, "is not YAML"),
    "control character": ("name: lab\nx: \x00\n", 2, "is not YAML"),
    "billion laughs": (BOMB, 2, "alias"),
    "merge key": ("x: &x {role: transit}\ny: {<<: *x}\n", 2, "alias"),
    "self reference": ("x: &x [*x]\n", 1, "alias"),
    "python object": ("name: !!python/object/apply:os.system ['true']\n", 1, "YAML tag"),
    "number by tag": ("name: !!int abc\n", 1, "YAML tag"),
    "second document": (GOOD + "---\nname: other\n", 38, "more than one document"),
    "list as key": ("name: lab\n? [a, b]\n: c\n", 2, "not plain text"),
    "empty key": ("name: lab\n'': c\n", 2, "not plain text"),
    "deep list": ("[" * 100_000, 1, "nested too deeply"),
    "deep mapping": ("{a: " * 100_000, 1, "nested too deeply"),
    "long value": (f"name: {'x' * 100_000}\n", 1, "longer than 256"),
    "long number": (f"name: {'9' * 100_000}\n", 1, "longer than 256"),
    "sexagesimal": (f"name: 1{':59' * 50_000}\n", 1, "longer than 256"),
    "too long": ("#" * (MAX_TEXT + 1), 1, "split the domain"),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_is_an_error_with_its_line(case: str) -> None:
    text, line, words = HOSTILE[case]
    with pytest.raises(TopologyErrors) as caught:
        parse_topology(text, "bad.yaml")
    assert any(e.line == line and words in e.message for e in caught.value.errors), str(
        caught.value
    )


def test_reading_stops_after_many_faults() -> None:
    text = "name: lab\n" + "x: 1\n" * (MAX_FAULTS * 3)
    with pytest.raises(TopologyErrors) as caught:
        parse_topology(text, "bad.yaml")
    assert len(caught.value.errors) == MAX_FAULTS


def test_more_routers_than_numbers_is_an_error() -> None:
    nodes = "".join(f"    r{number}: {{role: transit}}\n" for number in range(4097))
    text = f"name: lab\ndomain: {{sid-block: 'fc00::/32'}}\ntopology:\n  nodes:\n{nodes}"
    with pytest.raises(TopologyErrors) as caught:
        parse_topology(text, "big.yaml")
    many = [e for e in caught.value.errors if "one router too many" in e.message]
    assert [e.key for e in many] == ["topology.nodes.r4095", "topology.nodes.r4096"]


@pytest.mark.parametrize("word", ["no", "on", "y", "null0", "1e5", "0x10", "2026-11-23"])
def test_words_that_yaml_takes_for_something_else_stay_words(word: str) -> None:
    """A node called `no` is a node, not the boolean false."""
    if word[0].isdigit():
        with pytest.raises(TopologyErrors, match="lower case"):
            parse_topology(GOOD.replace("name: lab", f"name: {word}"), "lab.yaml")
    else:
        text = GOOD.replace("name: lab", f"name: {word}").replace("tr1", word)
        topology = parse_topology(text, "lab.yaml")
        assert topology.domain.name == word
        assert word in topology.nodes


def attempt(text: str) -> None:
    """Either a topology or TopologyErrors with places; anything else fails the test."""
    lines = sum(text.count(end) for end in "\n\r\x85\u2028\u2029") + 2
    errors: tuple[TopologyError, ...] = ()
    try:
        parse_topology(text, "any.yaml")
    except TopologyErrors as caught:
        errors = caught.errors
        if not errors:
            raise
    assert all(1 <= error.line <= lines and error.key for error in errors)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_a_topology_or_faults(text: str) -> None:
    attempt(text)


PIECES = ["{", "}", "[", "]", ":", "-", "&a ", "*a", "!!x ", "null", "ar1", "-1", "::/0", '"',
          "'", "\n", "  ", "role: mobile", "fc00::/32", "1e999s", "ar1:eth0", "endpoints:", "\x85",
          "sids: {end: 'fc00::'}", "index: 2", "pool:"]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)), st.integers(0, 30), st.sampled_from(PIECES) | st.text()
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_file_gives_a_topology_or_faults(damage: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for start, length, piece in damage:
        text = text[:start] + piece + text[start + length :]
    attempt(text)
