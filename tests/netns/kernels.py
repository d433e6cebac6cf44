"""Network namespaces for the kernel tests: one router with two cables, removed afterwards."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from srv6dmm.dataplane import namespace

_numbers = itertools.count()


class Space:
    """One namespace of a test; `ip` runs iproute2 in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ip(self, *arguments: str) -> str:
        """Run `ip -n NAME ...`; its standard error is in the exception when it fails."""
        done = subprocess.run(
            ["ip", "-n", self.name, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def routes(self, *selector: str) -> list[dict[str, Any]]:
        """Return what `ip -j -d -6 route show` says."""
        shown: list[dict[str, Any]] = json.loads(
            self.ip("-j", "-d", "-6", "route", "show", *selector)
        )
        return shown


@contextmanager
def spaces(count: int = 1) -> Iterator[list[Space]]:
    """Make namespaces of unique names, lo up; remove them whatever happens."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    made: list[Space] = []
    try:
        for _ in range(count):
            name = f"s6t-{os.getpid()}-{next(_numbers)}"
            namespace.create(name)
            made.append(Space(name))
            made[-1].ip("link", "set", "lo", "up")
        yield made
    finally:
        for space in made:
            namespace.remove(space.name)


def cable(one: Space, name: str, other: Space, peer: str) -> None:
    """Lay a veth pair between two spaces (or within one), both ends up."""
    one.ip("link", "add", name, "type", "veth", "peer", "name", peer, "netns", other.name)
    one.ip("link", "set", name, "up")
    other.ip("link", "set", peer, "up")


@contextmanager
def router() -> Iterator[Space]:
    """Make one space with the interfaces v0 and v1, which are cabled to each other."""
    with spaces() as (space,):
        cable(space, "v0", space, "v1")
        yield space
