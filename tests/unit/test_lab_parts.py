"""Parts of the lab that need neither root nor namespaces."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from srv6dmm.core.topology import parse_topology
from srv6dmm.lab import capture, tap, transfer
from srv6dmm.lab.demo import HARD_ROUNDS, SOFT_ROUNDS, Demo
from srv6dmm.lab.names import LabError, cell_ports, check_lab_name, mobile_ports, namespaces
from srv6dmm.lab.network import Lab
from srv6dmm.lab.probe import Session
from srv6dmm.lab.processes import Processes, end, running, start_time
from srv6dmm.lab.record import Directory, LabRecord, ProcessRecord, lab_names
from srv6dmm.lab.recordings import MAGIC, PROBE
from srv6dmm.lab.scenario import parse_if_inet6
from srv6dmm.model.topology import Node, Role, Topology

CAMPUS = Path(__file__).parents[2] / "deploy/topologies/campus.yaml"


@pytest.fixture
def topology() -> Topology:
    return parse_topology(CAMPUS.read_text(), str(CAMPUS))


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    made = Directory("one", tmp_path / "run", tmp_path / "state")
    made.create(LabRecord("one", "x.yaml", "", {"a": "s6-one-a"}))
    return made


def test_every_node_has_a_namespace_and_every_radio_end_a_port(topology: Topology) -> None:
    assert namespaces("x", topology)["ar1"] == "s6-x-ar1"
    assert list(namespaces("x", topology))[-1] == "air"
    assert cell_ports(topology)["ar4"] == "cell-ar4"
    assert mobile_ports(topology) == {"mn1": "air-mn1", "mn2": "air-mn2", "mn3": "air-mn3"}


def test_long_names_still_make_different_interface_names(topology: Topology) -> None:
    nodes = dict(topology.nodes)
    for number in range(3):
        name = f"library-floor-{number}"
        nodes[name] = Node(name, Role.ACCESS, 100 + number)
    ports = cell_ports(replace(topology, nodes=nodes))
    assert len(set(ports.values())) == 7
    assert all(len(port) <= 15 for port in ports.values())


def test_a_node_cannot_take_the_name_of_the_radio_segment(topology: Topology) -> None:
    nodes = topology.nodes | {"air": Node("air", Role.TRANSIT, 99)}
    with pytest.raises(LabError, match="rename it"):
        namespaces("x", replace(topology, nodes=nodes))


@pytest.mark.parametrize("name", ["", "-x", "A", "a/b", "..", "x" * 16, "a b"])
def test_bad_lab_names(name: str) -> None:
    with pytest.raises(LabError, match="no name for a lab"):
        check_lab_name(name)


def test_a_name_is_taken_once(directory: Directory, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="lab down --name one"):
        directory.create(LabRecord("one", "", "", {}))
    assert lab_names(tmp_path / "run") == ["one"]
    directory.remove()
    assert lab_names(tmp_path / "run") == []
    with pytest.raises(LabError, match="no lab 'one'"):
        directory.load()


def test_a_damaged_record_is_named(directory: Directory) -> None:
    directory.file.write_text('{"name": 1}')
    with pytest.raises(LabError, match=r"one\.json cannot be read"):
        directory.load()


def test_processes_live_and_end_by_name(directory: Directory) -> None:
    processes = Processes(directory)
    process = processes.start("sleeper", ["sleep", "60"])
    try:
        assert processes.alive("sleeper")
        assert directory.load().processes["sleeper"] == process
        with pytest.raises(LabError, match="runs already"):
            processes.start("sleeper", ["sleep", "60"])
    finally:
        assert processes.stop_all() == []
    assert not running(process)
    assert processes.names() == []


def test_a_process_that_ignores_sigterm_is_killed(directory: Directory) -> None:
    processes = Processes(directory)
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready')\n"
    processes.start("stubborn", [sys.executable, "-c", code + "time.sleep(60)"])
    processes.wait_for_word("stubborn", "ready", 10)
    assert processes.stop("stubborn", term_s=0.1) == ["stubborn"]


def test_a_process_that_ends_early_says_why(directory: Directory) -> None:
    processes = Processes(directory)
    processes.start("brief", ["sh", "-c", "echo no such thing; exit 3"])
    with pytest.raises(LabError, match="no such thing"):
        processes.wait_for_word("brief", "ready", 10)
    processes.stop("brief")


def test_words_of_an_earlier_life_do_not_count(directory: Directory) -> None:
    processes = Processes(directory)
    processes.start("twice", ["sh", "-c", "echo ready; exec sleep 60"])
    processes.wait_for_word("twice", "ready", 10)
    processes.kill("twice")
    processes.start("twice", ["sh", "-c", "echo gone; exit 1"])
    with pytest.raises(LabError, match="ended before 'ready'"):
        processes.wait_for_word("twice", "ready", 10)
    processes.stop("twice")


def test_a_reused_pid_is_nobody_of_ours() -> None:
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        started = start_time(innocent.pid)
        assert started is not None
        impostor = ProcessRecord("agent-ar1", innocent.pid, started - 1, [], "")
        assert not running(impostor)
        assert end([impostor]) == []
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()
    assert start_time(innocent.pid) is None


def test_nothing_runs_that_is_not_on_record(directory: Directory, tmp_path: Path) -> None:
    """Whoever starts a process dies before it is on record: the process must not come to life."""
    mark = tmp_path / "alive"
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from srv6dmm.lab.processes import Processes\n"
        "from srv6dmm.lab.record import Directory\n"
        "Directory.add_process = lambda self, process: os._exit(7)\n"
        f"directory = Directory('one', Path({str(tmp_path / 'run')!r}), Path('/nonexistent'))\n"
        f"Processes(directory).start('orphan', ['touch', {str(mark)!r}])\n"
    )
    died = subprocess.run([sys.executable, "-c", code], check=False)
    assert died.returncode == 7
    # The same command, on record, does come to life; it was started later.
    other = tmp_path / "other"
    processes = Processes(directory)
    processes.start("witness", ["touch", str(other)])
    assert processes.wait("witness", 10)
    assert other.exists()
    assert not mark.exists()


def ipv6(next_header: int, payload: bytes) -> bytes:
    return (
        bytes((0x60, 0, 0, 0))
        + len(payload).to_bytes(2, "big")
        + bytes((next_header, 61))
        + bytes(32)
        + payload
    )


def udp(payload: bytes) -> bytes:
    return bytes(8) + payload


def routing_header(next_header: int, segments: int, payload: bytes) -> bytes:
    return (
        bytes((next_header, 2 * segments, 4, 0, segments - 1, 0, 0, 0))
        + bytes(16 * segments)
        + payload
    )


PLAIN = ipv6(17, udp(PROBE.pack(MAGIC, 7, 42, 1)))
OTHER = ipv6(17, udp(PROBE.pack(MAGIC ^ 1, 7, 42, 1)))


def ethernet(packet: bytes, kind: int = 0x86DD) -> bytes:
    return bytes(12) + kind.to_bytes(2, "big") + packet


PASSING = {
    "plain": (ethernet(PLAIN), 14),
    "ipv6-in-ipv6": (ethernet(ipv6(41, PLAIN)), 54),
    **{
        f"{count} segments": (ethernet(ipv6(43, routing_header(41, count, PLAIN))), 62 + 16 * count)
        for count in (1, 2, 3)
    },
}
STOPPED = {
    "other payload": ethernet(OTHER),
    "other payload in a tunnel": ethernet(ipv6(41, OTHER)),
    "tcp": ethernet(ipv6(6, udp(PROBE.pack(MAGIC, 7, 42, 1)))),
    "ipv4": ethernet(PLAIN, 0x0800),
    "routing header before udp": ethernet(ipv6(43, routing_header(17, 1, PLAIN[40:]))),
    "icmp error with a probe in it": ethernet(ipv6(58, bytes(8) + PLAIN)),
    "short": ethernet(PLAIN)[:60],
    "empty": b"",
}


def passes(frame: bytes) -> bool:
    """Ask the kernel's own filter machine, through a pair of sockets."""
    import ctypes
    import struct

    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        code = ctypes.create_string_buffer(tap.probe_filter())
        length = len(tap.probe_filter()) // 8
        right.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", length, ctypes.addressof(code)))
        left.send(frame)
        try:
            return right.recv(2048, socket.MSG_DONTWAIT) == frame
        except BlockingIOError:
            return False


@pytest.mark.parametrize("case", PASSING)
def test_the_tap_finds_probes_however_they_are_wrapped(case: str) -> None:
    frame, offset = PASSING[case]
    assert passes(frame)
    assert tap.probe_header(memoryview(frame)) == offset
    assert PROBE.unpack_from(frame, offset + 48)[:3] == (MAGIC, 7, 42)


@pytest.mark.parametrize("case", STOPPED)
def test_the_tap_sleeps_through_everything_else(case: str) -> None:
    assert not passes(STOPPED[case])


def test_a_capture_can_be_read_by_others() -> None:
    from scapy.utils import PcapNgReader

    frames = [ethernet(PLAIN), b"x" * 61, ethernet(ipv6(41, PLAIN))]
    file = io.BytesIO(capture.file_header("acc0"))
    file.seek(0, os.SEEK_END)
    for number, frame in enumerate(frames):
        time_ns = 1_700_000_000_123_456_789 + number
        file.write(capture.packet(time_ns, frame, outgoing=number == 1))
    file.seek(0)
    found = list(PcapNgReader(file))
    assert [bytes(packet) for packet in found] == frames
    assert found[0].time == pytest.approx(1_700_000_000.123456789)


def test_a_probe_session_survives_the_command_line() -> None:
    session = Session(1, 2, ("2001:db8:a1::5", 7000), ("2001:db8:cafe::2", 7001))
    assert Session.parse(session.argument()) == session
    with pytest.raises(ValueError, match="unpack"):
        Session.parse("1,2,::1")


def pump(left: transfer.Transfer, right: transfer.Transfer, seconds: float) -> None:
    import threading

    threads = [threading.Thread(target=end.run) for end in (left, right)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    left.sending = right.sending = False
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    return near, far


def test_a_transfer_verifies_every_byte_both_ways() -> None:
    near, far = (transfer.Transfer(end, 20e6) for end in tcp_pair())
    pump(near, far, 0.3)
    assert near.error is None
    assert far.error is None
    assert near.sent == far.received > 1_000_000
    assert far.sent == near.received > 1_000_000
    assert near.samples[-1][1:] == (near.sent, near.received)


def test_a_transfer_notices_one_wrong_byte() -> None:
    near, far = tcp_pair()
    with near:
        subject = transfer.Transfer(far, 0)
        data = bytearray(transfer.block(0) + transfer.block(1))
        data[transfer.BLOCK + 20_000] ^= 1
        near.sendall(data)
        subject.run()
    assert subject.error is not None
    assert "wrong content" in subject.error


def test_a_transfer_notices_a_missing_block() -> None:
    near, far = tcp_pair()
    with near:
        subject = transfer.Transfer(far, 0)
        near.sendall(transfer.block(0) + transfer.block(2))
        subject.run()
    assert subject.error == f"wrong content after {transfer.BLOCK} bytes"


def test_a_transfer_notices_a_broken_connection() -> None:
    near, far = tcp_pair()
    subject = transfer.Transfer(far, 0)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
    near.close()
    subject.run()
    assert subject.error is not None
    assert "connection broke" in subject.error


def test_addresses_as_the_kernel_lists_them() -> None:
    text = (
        "20010db800a100000000000000000101 02 40 00 00 radio0\n"
        "20010db800a200000000000000000101 02 40 00 20 radio0\n"
        "20010db800a300000000000000000101 02 40 00 40 radio0\n"
        "20010db800a400000000000000000101 02 40 00 48 radio0\n"
        "20010db800a500000000000000000101 02 40 00 44 radio0\n"
        "20010db800a600000000000000000101 03 40 00 80  eth0\n"
        "fe80000000000000000000fffe000101 02 40 20 80 radio0\n"
    )
    found = {str(entry.address): entry for entry in parse_if_inet6(text, "radio0")}
    assert [entry.usable for entry in found.values()] == [True, False, False, True]
    assert found["2001:db8:a2::101"].deprecated
    assert found["2001:db8:a3::101"].tentative


def test_the_demonstration_names_its_own_head_end_and_comes_home() -> None:
    for file, nodes in (("campus", 3), ("minimal", 1)):
        lab = Lab.from_file(CAMPUS.with_name(f"{file}.yaml"), "x")
        demo = Demo(lab, lambda _: None)
        assert (demo.peer, demo.entry) == ("cn", "br1")
        assert demo.progress.total == nodes * (SOFT_ROUNDS + HARD_ROUNDS)
