"""The radio segment: every frame exactly once where it belongs, also at the moment of a switch."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path

import pytest

from srv6dmm.core.topology import parse_topology
from srv6dmm.dataplane import namespace, wiring
from srv6dmm.lab.names import LabError
from srv6dmm.lab.network import Lab

pytestmark = pytest.mark.root

KIND = 0x88B5
"""The ethertype for experiments: nothing but the test speaks it."""
ROUTER = "02:00:5e:00:64:01"
MACS = {"mn1": "02:00:00:00:01:01", "mn2": "02:00:00:00:01:02"}
GROUP = "33:33:00:00:00:01"
TOPOLOGY = """
name: radio
domain: {sid-block: "fc00::/32"}
topology:
  nodes:
    ar1: {role: access, locator: "fc00:0:a1::/48", pool: "2001:db8:a1::/48"}
    ar2: {role: access, locator: "fc00:0:a2::/48", pool: "2001:db8:a2::/48"}
    ar3: {role: access, locator: "fc00:0:a3::/48", pool: "2001:db8:a3::/48"}
    mn1: {role: mobile, mac: "02:00:00:00:01:01"}
    mn2: {role: mobile, mac: "02:00:00:00:01:02"}
  links:
    - {endpoints: ["ar1:ar2", "ar2:ar1"]}
    - {endpoints: ["ar2:ar3", "ar3:ar2"]}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    topology = parse_topology(TOPOLOGY, "radio.yaml")
    name = f"r{os.getpid() % 100_000}"
    made = Lab(topology, name, text=TOPOLOGY, run=tmp_path / "run", state=tmp_path / "state")
    made.up()
    yield made
    made.down()


class Port:
    """A raw socket at one end of the air: an access router's or a mobile node's."""

    def __init__(self, lab: Lab, node: str) -> None:
        self.interface = "radio0" if node in MACS else "acc0"
        with namespace.inside(lab.namespace(node)):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(KIND))
            self.socket.bind((self.interface, KIND))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE

    def send(self, destination: str, number: int) -> None:
        header = bytes.fromhex(destination.replace(":", "")) + bytes(6) + KIND.to_bytes(2, "big")
        self.socket.send(header + struct.pack("!I", number) + bytes(60))

    def heard(self) -> list[int]:
        """Numbers of all frames that came in and were not read yet. veth delivers at once."""
        found = []
        while True:
            try:
                frame, address = self.socket.recvfrom(2048, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            if address[2] != 4:  # PACKET_OUTGOING
                found.append(struct.unpack_from("!I", frame, 14)[0])


@pytest.fixture
def ports(lab: Lab) -> Iterator[dict[str, Port]]:
    made = {node: Port(lab, node) for node in ("ar1", "ar2", "ar3", "mn1", "mn2")}
    yield made
    for port in made.values():
        port.socket.close()


def heard(ports: dict[str, Port]) -> dict[str, list[int]]:
    return {node: numbers for node, port in ports.items() if (numbers := port.heard())}


def test_nobody_hears_anybody_before_association(lab: Lab, ports: dict[str, Port]) -> None:
    for node, port in ports.items():
        port.send(ROUTER if node in MACS else MACS["mn1"], 1)
        port.send(GROUP, 2)
    assert heard(ports) == {}


def test_uplink_goes_to_one_cell_whatever_the_destination(lab: Lab, ports: dict[str, Port]) -> None:
    lab.radio.associate("mn1", "ar1")
    lab.radio.associate("mn2", "ar2")
    for number, destination in enumerate((ROUTER, GROUP, MACS["mn2"], "ff:ff:ff:ff:ff:ff")):
        ports["mn1"].send(destination, number)
    ports["mn2"].send(ROUTER, 9)
    assert heard(ports) == {"ar1": [0, 1, 2, 3], "ar2": [9]}


def test_downlink_reaches_exactly_who_listens(lab: Lab, ports: dict[str, Port]) -> None:
    lab.radio.listen("mn1", {"ar1", "ar2"})
    lab.radio.listen("mn2", {"ar2"})
    for number, router in enumerate(("ar1", "ar2", "ar3")):
        ports[router].send(MACS["mn1"], 10 + number)
        ports[router].send(MACS["mn2"], 20 + number)
        ports[router].send(GROUP, 30 + number)
        ports[router].send("02:00:00:00:99:99", 40 + number)
    assert heard(ports) == {"mn1": [10, 30, 11, 31], "mn2": [21, 31]}


def test_detach_is_silence_both_ways(lab: Lab, ports: dict[str, Port]) -> None:
    lab.radio.associate("mn1", "ar1")
    lab.radio.associate("mn2", "ar1")
    lab.radio.detach("mn1")
    ports["mn1"].send(ROUTER, 1)
    ports["ar1"].send(MACS["mn1"], 2)
    ports["ar1"].send(GROUP, 3)
    assert heard(ports) == {"mn2": [3]}
    lab.radio.detach("mn1")


def test_where_is_what_the_kernel_does(lab: Lab) -> None:
    radio = lab.radio
    assert radio.where("mn1").uplink is None
    radio.associate("mn1", "ar1")
    radio.associate("mn2", "ar3")
    radio.listen("mn1", {"ar1", "ar2"})
    radio.uplink("mn1", "ar2")
    assert (radio.where("mn1").uplink, radio.where("mn1").downlink) == ("ar2", {"ar1", "ar2"})
    radio.associate("mn1", "ar3")
    assert (radio.where("mn1").uplink, radio.where("mn1").downlink) == ("ar3", {"ar3"})
    assert (radio.where("mn2").uplink, radio.where("mn2").downlink) == ("ar3", {"ar3"})
    radio.detach("mn1")
    assert (radio.where("mn1").uplink, radio.where("mn1").downlink) == (None, set())


def test_unknown_names_are_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="no mobile node 'mn9' in this lab; it has mn1, mn2"):
        lab.radio.associate("mn9", "ar1")
    with pytest.raises(LabError, match="no access router 'ar9'"):
        lab.radio.associate("mn1", "ar9")
    assert lab.radio.where("mn1").uplink is None


def stream(port: Port, destination: str, seconds: float, rate: int) -> int:
    """Send numbered frames at a rate from one CPU; return how many."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    begin = time.monotonic()
    total = int(seconds * rate)
    for number in range(total):
        while time.monotonic() < begin + number / rate:
            time.sleep(0)
        port.send(destination, number)
    return total


def background(port: Port, destination: str) -> tuple[threading.Thread, list[int]]:
    total: list[int] = []
    thread = threading.Thread(
        target=lambda: total.append(stream(port, destination, seconds=2.5, rate=2000))
    )
    thread.start()
    return thread, total


def test_uplink_switches_between_two_frames(lab: Lab, ports: dict[str, Port]) -> None:
    lab.radio.associate("mn1", "ar1")
    thread, total = background(ports["mn1"], ROUTER)
    switches = 0
    while thread.is_alive():
        lab.radio.uplink("mn1", ("ar2", "ar3", "ar1")[switches % 3])
        switches += 1
        time.sleep(0.005)
    thread.join()
    assert switches >= 200
    found = heard(ports)
    assert set(found) == {"ar1", "ar2", "ar3"}
    counts = Counter(number for numbers in found.values() for number in numbers)
    assert counts == Counter(range(total[0]))
    assert all(numbers == sorted(numbers) for numbers in found.values())


def test_cells_come_and_go_without_touching_the_one_that_stays(
    lab: Lab, ports: dict[str, Port]
) -> None:
    lab.radio.associate("mn1", "ar1")
    lab.radio.associate("mn2", "ar1")
    unicast, sent = background(ports["ar1"], MACS["mn1"])
    changes = 0
    while unicast.is_alive():
        lab.radio.listen("mn1", {"ar1", "ar2"})
        lab.radio.uplink("mn1", "ar2")
        lab.radio.listen("mn2", {"ar3"})
        lab.radio.listen("mn1", {"ar1"})
        lab.radio.uplink("mn1", "ar1")
        lab.radio.listen("mn2", {"ar1"})
        changes += 1
        time.sleep(0.005)
    unicast.join()
    assert changes >= 100
    assert heard(ports) == {"mn1": list(range(sent[0]))}


def test_group_frames_under_change_reach_who_stays_exactly_once(
    lab: Lab, ports: dict[str, Port]
) -> None:
    lab.radio.associate("mn1", "ar1")
    thread, total = background(ports["ar1"], GROUP)
    changes = 0
    while thread.is_alive():
        lab.radio.associate("mn2", ("ar1", "ar2")[changes % 2])
        changes += 1
        time.sleep(0.005)
    thread.join()
    found = heard(ports)
    assert changes >= 200
    assert found["mn1"] == list(range(total[0]))
    assert found["mn2"] == sorted(set(found["mn2"]))
    assert 0 < len(found["mn2"]) < total[0]


def test_super_packets_pass(lab: Lab) -> None:
    """TCP with segmentation offload: frames larger than the MTU cross the air whole."""
    lab.radio.associate("mn1", "ar1")
    address, router = IPv6Address("2001:db8:9::2"), IPv6Address("2001:db8:9::1")
    wiring.configure_host(lab.namespace("mn1"), "radio0", IPv6Interface((address, 64)), router)
    wiring.configure_host(lab.namespace("ar1"), "acc0", IPv6Interface((router, 64)), address)
    with namespace.inside(lab.namespace("ar1")):
        server = socket.create_server((str(router), 5000), family=socket.AF_INET6)
        watch = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
        watch.bind(("acc0", 0x86DD))
    server.settimeout(10)
    watch.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    with namespace.inside(lab.namespace("mn1")):
        client = socket.create_connection((str(router), 5000), timeout=10)
    connection, _ = server.accept()
    data = os.urandom(8 << 20)
    thread = threading.Thread(target=lambda: (client.sendall(data), client.close()))
    thread.start()
    connection.settimeout(10)
    received = bytearray()
    while part := connection.recv(1 << 20):
        received += part
    thread.join(10)
    assert received == data
    largest = 0
    while True:
        try:
            largest = max(largest, len(watch.recv(1 << 17, socket.MSG_DONTWAIT)))
        except BlockingIOError:
            break
    for opened in (connection, server, watch):
        opened.close()
    assert largest > 10_000
