"""One load of the programs for all tests here; every test begins with empty maps."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.bpf import scene
from tests.bpf.checked import Router
from tests.bpf.running import Fastpath, loaded


@pytest.fixture(scope="session")
def programs() -> Iterator[Fastpath]:
    """The programs, loaded into a private pin directory."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it loads eBPF programs")
    with loaded() as fastpath:
        yield fastpath


@pytest.fixture
def fastpath(programs: Fastpath) -> Fastpath:
    """The programs with empty maps."""
    programs.clear()
    return programs


@pytest.fixture
def router(fastpath: Fastpath) -> Router:
    """The router of scene.py."""
    return Router(fastpath, scene.router(fastpath.devices))
