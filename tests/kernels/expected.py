"""What the kernels of the guests are known to lack. Found to be otherwise, a test fails.

So nothing is skipped because somebody thinks that it does not work: it is tried, and its absence
is a result as well.
"""

from __future__ import annotations

import os
import re

# The first version that has it; a guest older than that lacks it.
SINCE = {
    "H.Encaps.Red (seg6 mode encap.red)": (6, 0),
    "End with flavor PSP": (6, 3),
    "End with flavor NEXT-C-SID": (6, 1),
    "SID counters": (5, 13),
    "End.DT4 (vrftable)": (5, 11),
    "End.DT46 (vrftable)": (5, 14),
    "tcx": (6, 6),
}


def version() -> tuple[int, int]:
    """Return the running kernel's version."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert found, os.uname().release
    return int(found[1]), int(found[2])


def lacks(name: str) -> bool:
    """Tell whether the running kernel is known to lack something."""
    return name in SINCE and version() < SINCE[name]
