"""A lab comes up as described and goes down without a trace, whatever happened in between."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srv6dmm.core.topology import parse_topology
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.wiring import WiringError
from srv6dmm.lab.names import LabError
from srv6dmm.lab.network import Lab, take_down
from srv6dmm.lab.processes import Processes, running
from srv6dmm.lab.record import RUN, STATE, Directory
from srv6dmm.model.addresses import link_local_from_mac
from srv6dmm.model.topology import LinkEnd

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
CAMPUS = ROOT / "deploy/topologies/campus.yaml"
MINIMAL = ROOT / "deploy/topologies/minimal.yaml"
NAME = f"t{os.getpid() % 100_000}"
"""Of this test run: labs of others, also of other test runs, are left alone."""
LAB_INTERFACES = {"radio0", "acc0", "tr1", "br1", "cn", "air-mn1", "cell-ar1"}
"""None of these may turn up in the host's own namespace."""


def traces(name: str, run: Path, state: Path) -> list[str]:
    """All that a lab of this name may leave on the host."""
    return [
        *namespace.names(f"s6-{name}"),
        *(str(path) for path in run.glob(f"{name}*")),
        *(str(path) for path in run.glob(f".{name}*")),
        *(str(path) for path in state.glob(f"{name}*")),
        *(name for _, name in socket.if_nameindex() if name in LAB_INTERFACES),
    ]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, Path]]:
    where = {"run": tmp_path / "run", "state": tmp_path / "state"}
    yield where
    for name in (NAME, f"{NAME}-b"):
        take_down(name, **where)


def show(lab: Lab, node: str, *command: str) -> list[dict[str, Any]]:
    """Ask iproute2, which knows nothing of our own encoders."""
    done = subprocess.run(
        ["ip", "-n", lab.namespace(node), "-j", "-d", *command],
        capture_output=True,
        check=True,
        text=True,
    )
    return [entry for entry in json.loads(done.stdout) if entry]


def addresses(lab: Lab, node: str, interface: str, *selector: str) -> list[dict[str, Any]]:
    return [
        information
        for entry in show(lab, node, "-6", "address", "show", "dev", interface, *selector)
        for information in entry["addr_info"]
        if information
    ]


def test_up_is_quick_and_as_described(places: dict[str, Path]) -> None:
    begin = time.monotonic()
    lab = Lab.from_file(CAMPUS, NAME, **places)
    lab.up()
    assert time.monotonic() - begin < 2.0
    for link in lab.topology.links:
        for end in link.ends():
            (found,) = show(lab, end.node, "link", "show", end.interface)
            assert found["mtu"] == link.mtu
            assert found["operstate"] == "UP"
    assert {entry["ifname"] for entry in show(lab, "ar1", "link")} == {
        "lo",
        "acc0",
        "tr1",
        "tr3",
    }
    # Routers have nothing: their addresses and routes are the agents' work.
    for router in lab.topology.routers():
        for entry in show(lab, router.name, "link"):
            assert not addresses(lab, router.name, entry["ifname"], "scope", "global")
        assert "UP" in show(lab, router.name, "link", "show", "lo")[0]["flags"]


def test_fixed_hosts_are_configured(places: dict[str, Path]) -> None:
    lab = Lab.from_file(MINIMAL, NAME, **places)
    lab.up()
    (address,) = addresses(lab, "cn", "eth0", "scope", "global")
    assert (address["local"], address["prefixlen"]) == ("2001:db8:cafe::2", 64)
    assert "tentative" not in address
    (default,) = show(lab, "cn", "-6", "route", "show", "default")
    assert (default["gateway"], default["dev"]) == ("2001:db8:cafe::1", "eth0")


def test_a_mobile_node_is_a_stock_host(places: dict[str, Path]) -> None:
    lab = Lab.from_file(MINIMAL, NAME, **places)
    lab.up()
    (link,) = show(lab, "mn1", "link", "show", "radio0")
    assert link["address"] == "02:00:00:00:01:01"
    assert {entry["ifname"] for entry in show(lab, "mn1", "link")} == {"lo", "radio0"}
    assert [address["local"] for address in addresses(lab, "mn1", "radio0")] == [
        str(link_local_from_mac("02:00:00:00:01:01"))
    ]
    assert not show(lab, "mn1", "-6", "route", "show", "default")
    with namespace.inside(lab.namespace("mn1")):
        configuration = Path("/proc/sys/net/ipv6/conf/radio0")
        assert (configuration / "accept_ra").read_text() == "1\n"
        assert (configuration / "forwarding").read_text() == "0\n"


def test_down_leaves_nothing_and_can_be_repeated(places: dict[str, Path]) -> None:
    before = traces(NAME, **places)
    lab = Lab.from_file(CAMPUS, NAME, **places)
    lab.up()
    processes = Processes(lab.directory)
    records = [
        processes.start(f"p{number}", ["ip", "netns", "exec", lab.namespace("mn1"), "sleep", "60"])
        for number in range(3)
    ]
    for suffix in ("", "-wal", "-shm", ".lock"):
        lab.directory.store.with_name(lab.directory.store.name + suffix).write_bytes(b"x")
    assert traces(NAME, **places) != before
    lab.down()
    assert traces(NAME, **places) == before
    assert not any(running(record) for record in records)
    lab.down()
    assert traces(NAME, **places) == before


def test_a_second_lab_of_the_name_is_refused_and_harms_nothing(places: dict[str, Path]) -> None:
    lab = Lab.from_file(MINIMAL, NAME, **places)
    lab.up()
    with pytest.raises(LabError, match=f"lab down --name {NAME}"):
        Lab.from_file(MINIMAL, NAME, **places).up()
    assert show(lab, "mn1", "link", "show", "radio0")
    assert Lab.open(NAME, **places).radio.where("mn1").uplink is None


def test_up_that_fails_removes_what_it_made(places: dict[str, Path]) -> None:
    whole = parse_topology(MINIMAL.read_text(), "minimal.yaml")
    # The last link's far end gets a name the kernel does not take.
    last = replace(whole.links[-1], b=LinkEnd("cn", "a/b"))
    lab = Lab(replace(whole, links=(*whole.links[:-1], last)), NAME, **places)
    with pytest.raises(WiringError, match=f"s6-{NAME}-br1:cn and s6-{NAME}-cn:a/b"):
        lab.up()
    assert traces(NAME, **places) == []


def test_a_namespace_of_somebody_else_is_not_taken(places: dict[str, Path]) -> None:
    namespace.create(f"s6-{NAME}-mn1")
    with pytest.raises(LabError, match=f"s6-{NAME}-mn1.*lab down --name {NAME}"):
        Lab.from_file(MINIMAL, NAME, **places).up()
    assert namespace.exists(f"s6-{NAME}-mn1")
    take_down(NAME, **places)
    assert traces(NAME, **places) == []


STAGES = ["namespace.create", "wiring.set_up", "wiring.lay", "wiring.configure_host"]
CRASH = """
import os, signal, sys
from pathlib import Path
from srv6dmm.dataplane import namespace, wiring
from srv6dmm.lab.network import Lab

module, function = sys.argv[1].split(".")
module = globals()[module]
left = [int(sys.argv[2])]
whole = getattr(module, function)

def crash(*arguments):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return whole(*arguments)

setattr(module, function, crash)
Lab.from_file(Path(sys.argv[3]), sys.argv[4], run=Path(sys.argv[5]), state=Path(sys.argv[6])).up()
"""


@pytest.mark.parametrize(
    ("stage", "after"), [(stage, 0) for stage in STAGES] + [("namespace.create", 5)]
)
def test_down_after_a_crash_in_the_middle_of_up(
    places: dict[str, Path], stage: str, after: int
) -> None:
    died = subprocess.run(
        [
            sys.executable,
            "-c",
            CRASH,
            stage,
            str(after),
            str(MINIMAL),
            NAME,
            str(places["run"]),
            str(places["state"]),
        ],
        check=False,
        cwd=ROOT,
    )
    assert died.returncode == -signal.SIGKILL
    with pytest.raises(LabError, match="did not come up whole"):
        Lab.open(NAME, **places)
    take_down(NAME, **places)
    assert traces(NAME, **places) == []
    Lab.from_file(MINIMAL, NAME, **places).up()
    assert Lab.open(NAME, **places).radio.where("mn1").uplink is None


def test_two_labs_side_by_side(places: dict[str, Path]) -> None:
    one = Lab.from_file(MINIMAL, NAME, **places)
    # Its name begins with that of the first: what is whose must still be told apart.
    two = Lab.from_file(CAMPUS, f"{NAME}-b", **places)
    one.up()
    two.up()
    one.radio.associate("mn1", "ar2")
    assert two.radio.where("mn1").uplink is None
    sleeper = Processes(two.directory).start("sleeper", ["sleep", "60"])
    one.down()
    assert running(sleeper)
    two.radio.associate("mn1", "ar1")
    assert two.radio.where("mn1").uplink == "ar1"
    one.up()
    one.directory.file.unlink()  # the record is lost: the name must do
    one.down()
    assert namespace.names(f"s6-{NAME}-") == sorted(two.namespaces.values())
    two.down()
    assert not running(sleeper)
    assert traces(NAME, **places) == []


def test_kill_of_the_command_in_the_middle_of_up() -> None:
    """The whole of `lab up` with controller and agents, killed when some of them run."""
    directory = Directory(NAME)
    command = subprocess.Popen(
        [sys.executable, "-m", "srv6dmm.cli.main", "lab", "up", str(CAMPUS), "--name", NAME],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while not directory.file.exists() or len(directory.load().processes) < 4:
            assert command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        command.kill()
        command.wait()
        records = list(directory.load().processes.values())
        assert len(records) >= 4
        done = subprocess.run(
            [sys.executable, "-m", "srv6dmm.cli.main", "lab", "down", "--name", NAME],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert f"lab {NAME}:" in done.stdout
        assert not any(running(record) for record in records)
        assert traces(NAME, RUN, STATE) == []
        assert _processes_in(f"s6-{NAME}") == []
    finally:
        command.kill()
        command.wait()
        take_down(NAME)


def test_a_command_runs_in_a_node_wherever_the_name_stands() -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "srv6dmm.cli.main", "lab", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert command("up", str(CAMPUS), "--name", NAME, "--bare").returncode == 0
    try:
        for place in (
            ["--name", NAME, "ar1", "--"],
            ["ar1", "--name", NAME, "--"],
            ["ar1", "-n", NAME, "--"],
            ["--name", NAME, "ar1"],
        ):
            done = command("exec", *place, "ip", "link", "show", "acc0")
            assert "acc0" in done.stdout, done.stderr
        # What follows a command is the command's, whatever it looks like.
        done = command("exec", "--name", NAME, "ar1", "echo", "-n", "x", "--", "y")
        assert done.stdout == "x -- y"
        done = command("exec", "--name", NAME, "ar1", "--json")
        assert done.returncode == 1
        assert "before the node" in done.stderr
        done = command("move", "mn1", "ar1", "--name", NAME)
        assert done.returncode == 1
        assert "is bare" in done.stderr
    finally:
        take_down(NAME)


def _processes_in(prefix: str) -> list[str]:
    """Command lines of processes that name a namespace of the lab."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{prefix}-" in line:
            found.append(line)
    return found
