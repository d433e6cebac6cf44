"""`bench protection`, a few cuts of each kind: what is to be reached is reached in both modes."""

from __future__ import annotations

import pytest

from srv6dmm.bench import protection, protection_plot
from srv6dmm.config import Mode
from tests.netns.running import MODES, TOPOLOGIES

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(400)]

CUTS = 4


@pytest.mark.parametrize("mode", MODES)
def test_cuts_and_drains_under_100_kpps(mode: Mode) -> None:
    report = protection.run(
        TOPOLOGIES / "campus.yaml", CUTS, ("drain", "head_end", "middle", "node"), (mode,)
    )
    cases = {case["name"]: case for case in report["cases"]}
    assert cases.keys() == {"drain", "head_end", "middle", "node"}
    for case in report["cases"]:
        print(case)
        assert case["cuts"] == CUTS
        assert case["kpps"] > 100
    assert cases["drain"]["lost_per_cut"] == [0] * CUTS
    # On a shared machine one reaction in some may wait for its turn: the median is held.
    for name, reach_ms in (
        ("head_end", protection.LOCAL_MS),
        ("middle", protection.REMOTE_MS),
        ("node", protection.REMOTE_MS),
    ):
        case = cases[name]
        assert case["lost"] > 0, f"{name}: a cut that costs nothing was none"
        assert case["lost_ms"]["p50"] <= reach_ms, name
        assert case["gap_ms"]["p50"] <= reach_ms + case["sender_gap_ms"]["max"], name
    assert protection_plot.chart(report).count("<circle") == 4 * CUTS
