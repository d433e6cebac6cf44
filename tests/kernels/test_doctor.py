"""`srv6dmm doctor` on this kernel: what is known to be there is there, and the rest has a name."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.kernels.absent import judge
from tests.kernels.expected import SINCE

pytestmark = pytest.mark.root

NAMES = (
    "H.Encaps (seg6 mode encap)",
    "H.Encaps.Red (seg6 mode encap.red)",
    "End",
    "End.X",
    "End.DT6 (table)",
    "End.DX4",
    "End.DX6",
    "End with flavor PSP",
    "End with flavor NEXT-C-SID",
    "SID counters",
    "tunnel source",
    "IPv6 forwarding",
    "End.DT4 (vrftable)",
    "End.DT46 (vrftable)",
    "tc clsact + bpf",
    "BPF ring buffer",
    "bpffs",
    "kernel headers",
    "fast path compiles and loads",
    "tools",
    "route protocol name",
)
SETTINGS = ("host forwarding", "rp_filter (IPv4)", "seg6_flowlabel", "seg6_enabled")
"""What somebody has set, or has not yet."""


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    command = [sys.executable, "-m", "srv6dmm.cli.main", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_is_usable_and_nothing_is_left_out(report: dict[str, Any]) -> None:
    assert report["usable"] is True
    assert tuple(finding["name"] for finding in report["findings"]) == NAMES + SETTINGS


def test_a_setting_that_is_in_the_way_comes_with_what_to_do(report: dict[str, Any]) -> None:
    for finding in report["findings"]:
        if finding["name"] in SETTINGS:
            assert finding["detail"]
            assert (finding["status"] == "ok") == (finding["remedy"] == "")


@pytest.mark.parametrize("name", NAMES)
def test_finding(report: dict[str, Any], name: str) -> None:
    [finding] = [finding for finding in report["findings"] if finding["name"] == name]
    judge(name, "" if finding["status"] == "ok" else finding["detail"])
    assert name in SINCE or finding["remedy"] == ""
