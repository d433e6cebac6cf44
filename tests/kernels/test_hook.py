"""The hook of the fast path on this kernel: tcx, or a filter at clsact in its place."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.hooks import Hooks
from srv6dmm.dataplane.fastpath.tables import Limits
from srv6dmm.dataplane.fastpath.tcx import Tcx
from tests.kernels.absent import judge
from tests.netns.kernels import Space, router

pytestmark = pytest.mark.root


@pytest.fixture
def space() -> Iterator[Space]:
    with router() as made:
        yield made


def _index(space: Space) -> int:
    return int(space.ip("-o", "link", "show", "v0").split(":", maxsplit=1)[0])


def test_tcx(space: Space) -> None:
    there = Tcx(space.name, Path("/nonexistent")).present("v0", _index(space))
    judge("tcx", "" if there else "BPF_PROG_QUERY refuses the hook; clsact is used instead")


def test_programs_are_attached_replaced_and_taken_away(space: Space) -> None:
    """By whatever hook there is, and seen by tc where that is clsact."""
    index, place = _index(space), pins.directory(space.name)
    limits = Limits(prefixes=64, flows=64, foreign=64, paths=64, counters=64, bindings=64, sids=64)
    loader.load(place, limits)
    hooks = Hooks(space.name, place)
    try:
        numbers = set()
        for program in ("steer", "sid"):
            hooks.attach("v0", index, program)
            assert hooks.attached("v0", index, program)
            numbers.add(hooks.program_at("v0", index))
        assert len(numbers - {None}) == 2
        if not Tcx(space.name, place).present("v0", index):
            assert "srv6dmm_sid" in _filters(space)
        hooks.detach("v0", index)
        assert hooks.program_at("v0", index) is None
        assert "clsact" not in _tc(space, "qdisc", "show", "dev", "v0")
    finally:
        hooks.close()
        pins.remove(space.name)


def _tc(space: Space, *arguments: str) -> str:
    done = subprocess.run(
        ["tc", "-n", space.name, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"tc {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _filters(space: Space) -> str:
    """Return what tc shows of the filters at the ingress."""
    return _tc(space, "filter", "show", "dev", "v0", "ingress")
