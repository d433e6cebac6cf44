"""What runs in a guest: `python -m tests.kernels.guest DIRECTORY`, the directory for results.

One pytest for all of it: starting one takes ten seconds and more on an emulated processor. Programs
are compiled by the first that wants them, `doctor`, and kept for the others.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TESTS = (
    "tests/kernels/test_doctor.py",
    "tests/kernels/test_hook.py",
    "tests/kernels/test_vrf.py",
    "tests/kernels/test_link_delay.py",
    "tests/kernels/test_handover.py",
    # Of the programs on frames: every behavior, and every kind of encapsulation.
    "tests/bpf/test_hops.py",
    "tests/bpf/test_sid.py::TestLatePackets",
    "tests/bpf/test_steer.py::TestDelivery",
    "tests/bpf/test_steer.py::TestTag",
    "tests/bpf/test_rules.py::TestMatch",
    "tests/bpf/test_rules.py::TestOrder",
)
# Only what the configuration names: every other plug-in takes seconds to import.
PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout", "tests.kernels.recording")


def main() -> None:
    """Become pytest."""
    os.environ["SRV6DMM_GUEST"] = sys.argv[1]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=150"]
    for plugin in PLUGINS:
        command += ["-p", plugin]
    os.chdir(Path(__file__).parents[2])
    os.execv(command[0], [*command, "--durations=15", *TESTS])


if __name__ == "__main__":
    main()
