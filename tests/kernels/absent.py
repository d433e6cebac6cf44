"""A thing that a kernel lacks: told under its name when that is as it should be, else a failure."""

from __future__ import annotations

import pytest

from tests.kernels.expected import lacks


def judge(name: str, fault: str) -> None:
    """Judge what trying `name` came to: "" when it works, else why not."""
    if lacks(name):
        assert fault, f"{name} works on a kernel that should not have it: correct expected.py"
        pytest.skip(f"absent: {fault}")
    assert fault == "", f"{name}: {fault}"
