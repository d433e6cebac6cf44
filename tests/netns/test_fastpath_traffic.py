"""The fast path under traffic of every shape, and changed under traffic: nothing is lost."""

from __future__ import annotations

import hashlib
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from srv6dmm.core.planner import Planner
from srv6dmm.dataplane import namespace
from srv6dmm.dataplane.fastpath import loader, pins
from srv6dmm.dataplane.fastpath.reasons import Reason
from srv6dmm.lab.domain import agent_name
from srv6dmm.model.parameters import MobilityParameters
from tests.netns.kernels import spaces
from tests.netns.moved import AT, CORRESPONDENT, address, moved, programs, steered_traffic, traces
from tests.netns.running import Running, forwarding, running, wait_for

pytestmark = pytest.mark.root

UDP_SEGMENT, IPV6_RECVERR, SOL_UDP = 103, 25, 17
TIME_EXCEEDED = 3
SEGMENT = 1200
LEFT_OUT = (
    Reason.OVERSIZE,
    Reason.TRUNCATED,
    Reason.ADJUST_FAILED,
    Reason.REDIRECT_FAILED,
    Reason.STORE_FAILED,
    Reason.SOURCE_UNBOUND,
)
"""What must not be counted when all is well."""


@pytest.fixture(scope="module")
def campus() -> Iterator[Running]:
    with moved("trf", "ebpf") as up:
        yield up


def opened(campus: Running, node: str, kind: socket.SocketKind, port: int = 0) -> socket.socket:
    """Open a socket of a node, bound to its steered address."""
    with namespace.inside(campus.lab.namespace(node)):
        made = socket.socket(socket.AF_INET6, kind)
    made.settimeout(10)
    made.bind((address(campus, node), port))
    return made


@contextmanager
def counting(campus: Running) -> Iterator[dict[str, Counter[Reason]]]:
    """Give what each router counts within the block, once the block is over."""
    names = [router.name for router in campus.lab.topology.routers()]
    before = {name: campus.reasons(name) for name in names}
    counted: dict[str, Counter[Reason]] = {}
    yield counted
    for name in names:
        counted[name] = campus.reasons(name) - before[name]


def nothing_left_out(counted: dict[str, Counter[Reason]]) -> None:
    """Assert that no packet was left to the kernel for a reason that there was none for."""
    for router, reasons in counted.items():
        assert not [reason for reason in LEFT_OUT if reasons[reason]], f"{router}: {reasons}"


# --- TCP, large packets, segmentation --------------------------------------------------------

PATTERN = hashlib.shake_128(b"what is sent").digest(1 << 20)
MEGABYTES = 16


def transfer(campus: Running, sender: str, receiver: str) -> None:
    """Send by TCP; assert that every octet arrives."""
    failures: list[BaseException] = []
    with opened(campus, receiver, socket.SOCK_STREAM) as listening:
        listening.listen(1)

        def send() -> None:
            try:
                with opened(campus, sender, socket.SOCK_STREAM) as out:
                    out.connect(listening.getsockname())
                    for _ in range(MEGABYTES):
                        out.sendall(PATTERN)
            except OSError as error:
                failures.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                received = hashlib.sha256()
                while data := connection.recv(1 << 20):
                    received.update(data)
        finally:
            thread.join()
    assert not failures, failures
    assert received.digest() == hashlib.sha256(PATTERN * MEGABYTES).digest()


def offload(campus: Running, node: str, interfaces: tuple[str, ...], state: str) -> None:
    """Let interfaces of a node segment for their senders, or not."""
    for interface in interfaces:
        done = campus.run(
            node,
            *("ethtool", "-K", interface, "tso", state, "gso", state),
            *("tx-udp-segmentation", state),
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def segmenting(campus: Running, where: str) -> Iterator[None]:
    """Have packets cut up nowhere before the receiver, by the sender, or behind the head-end."""
    places: dict[str, tuple[str, ...]] = {}
    if where == "sender":
        places = {"mn1": ("radio0",), "mn2": ("radio0",), "cn": ("eth0",)}
    elif where == "head-end":
        places = {"ar3": ("tr2", "tr3"), "ar4": ("tr2", "tr3"), "br1": ("tr1", "tr3")}
    for node, interfaces in places.items():
        offload(campus, node, interfaces, "off")
    try:
        yield
    finally:
        for node, interfaces in places.items():
            offload(campus, node, interfaces, "on")


WHERE = ["receiver", "sender", "head-end"]
WAYS = [("cn", "mn1", "br1", "ar3"), ("mn1", "mn2", "ar3", "ar4"), ("mn2", "mn1", "ar4", "ar3")]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("sender", "receiver", "head_end", "end"), WAYS)
def test_tcp(
    campus: Running, where: str, sender: str, receiver: str, head_end: str, end: str
) -> None:
    """TSO all the way, none at all, or only up to the head-end, which then cuts what it wraps."""
    with segmenting(campus, where), counting(campus) as counted:
        transfer(campus, sender, receiver)
    nothing_left_out(counted)
    least = MEGABYTES * len(PATTERN) // 1440
    steered, delivered = counted[head_end][Reason.STEERED], counted[end][Reason.DELIVERED]
    assert (steered >= least) if where == "sender" else (0 < steered < least // 2)
    assert (0 < delivered < least // 2) if where == "receiver" else (delivered >= least)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("sender", "receiver", "head_end", "end"), WAYS)
def test_many_datagrams_in_one_call(
    campus: Running, where: str, sender: str, receiver: str, head_end: str, end: str
) -> None:
    """UDP_SEGMENT: ten and a half datagrams pass as one packet, wherever they are cut."""
    whole = [bytes([number]) * SEGMENT for number in range(10)] + [b"rest" * 100]
    with (
        segmenting(campus, where),
        opened(campus, receiver, socket.SOCK_DGRAM) as into,
        opened(campus, sender, socket.SOCK_DGRAM) as out,
        counting(campus) as counted,
    ):
        out.setsockopt(SOL_UDP, UDP_SEGMENT, SEGMENT)
        for _ in range(5):
            assert out.sendto(b"".join(whole), into.getsockname()) == 10 * SEGMENT + 400
            assert [into.recv(65_536) for _ in whole] == whole
    nothing_left_out(counted)
    assert counted[head_end][Reason.STEERED] == (55 if where == "sender" else 5)
    assert counted[end][Reason.DELIVERED] == (5 if where == "receiver" else 55)


@pytest.mark.parametrize(("sender", "receiver", "head_end", "end"), WAYS)
def test_fragments(campus: Running, sender: str, receiver: str, head_end: str, end: str) -> None:
    """Only the first fragment has ports; all go the same way."""
    payload = PATTERN[:4000]
    with (
        opened(campus, receiver, socket.SOCK_DGRAM) as into,
        opened(campus, sender, socket.SOCK_DGRAM) as out,
        counting(campus) as counted,
    ):
        for _ in range(5):
            out.sendto(payload, into.getsockname())
            assert into.recv(65_536) == payload
    nothing_left_out(counted)
    assert counted[head_end][Reason.STEERED] == 15
    assert counted[end][Reason.DELIVERED] == 15


# --- what is not forwarded -------------------------------------------------------------------


def arrives(campus: Running, sender: str, receiver: str) -> None:
    """Assert that a good packet gets through: whatever was sent before it would have too."""
    with (
        opened(campus, receiver, socket.SOCK_DGRAM) as into,
        opened(campus, sender, socket.SOCK_DGRAM) as out,
    ):
        out.sendto(b"follows", into.getsockname())
        assert into.recv(100) == b"follows"


def told(out: socket.socket, patience_s: float) -> int | None:
    """Return the type of the next ICMPv6 error on a socket, None when there is none in time."""
    poll = select.poll()
    poll.register(out, 0)
    if not poll.poll(1000 * patience_s):
        return None
    _, ancillary, _, _ = out.recvmsg(2000, 2000, socket.MSG_ERRQUEUE)
    return next(
        data[5]
        for level, kind, data in ancillary
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_RECVERR)
    )


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_hop_limits(campus: Running, hops: int) -> None:
    """1 is left to the kernel at the head-end, 2 where it is delivered, 3 suffices.

    Either way Time Exceeded goes to the sender. At the head-end the kernel has encapsulated by the
    time it finds that the hop limit is spent: it tells the outer source, which it is itself, and
    the agent tells the sender.
    """
    with (
        opened(campus, "mn1", socket.SOCK_DGRAM) as into,
        opened(campus, "cn", socket.SOCK_DGRAM) as out,
        counting(campus) as counted,
    ):
        out.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        out.sendto(b"far", into.getsockname())
        kind = told(out, 0.5 if hops == 3 else 5)
        arrives(campus, "cn", "mn1")
        into.setblocking(False)
        if hops == 3:
            assert into.recv(100) == b"far"
        else:
            with pytest.raises(BlockingIOError):
                into.recv(100)
    assert kind == (None if hops == 3 else TIME_EXCEEDED)
    assert counted["br1"][Reason.HOP_LIMIT] == (hops == 1)
    assert counted["ar3"][Reason.HOP_LIMIT] == (hops == 2)


def inject(campus: Running, node: str, router: str, port: str, packet: Packet, mac: str) -> None:
    """Send a packet from a node to its router as it is."""
    interface = "radio0" if node in AT else "eth0"
    target = campus.run(router, "cat", f"/sys/class/net/{port}/address").stdout.strip()
    with namespace.inside(campus.lab.namespace(node)):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with raw:
        raw.bind((interface, 0))
        raw.send(bytes(Ether(src=mac, dst=target, type=0x86DD) / packet))


@pytest.mark.parametrize("whose", ["nobody's", "another's", "its own"])
def test_a_source_that_is_not_the_senders(campus: Running, whose: str) -> None:
    """The one of its own comes from a strange link-layer address."""
    mac = campus.lab.topology.nodes["mn1"].mac or ""
    source = {
        "nobody's": "2001:db8:bad::1",
        "another's": address(campus, "mn2"),
        "its own": address(campus, "mn1"),
    }[whose]
    with opened(campus, "cn", socket.SOCK_DGRAM) as into, counting(campus) as counted:
        packet = IPv6(src=source, dst=CORRESPONDENT) / UDP(dport=into.getsockname()[1]) / b"false"
        inject(
            campus, "mn1", "ar3", "acc0", packet, "02:00:00:00:66:66" if whose == "its own" else mac
        )
        arrives(campus, "mn1", "cn")
        into.setblocking(False)
        with pytest.raises(BlockingIOError):
            into.recv(100)
    assert counted["ar3"][Reason.SOURCE_UNBOUND] == 1


@pytest.mark.parametrize(
    ("sender", "router", "port"), [("mn1", "ar3", "acc0"), ("cn", "br1", "cn")]
)
def test_nobody_outside_may_speak_to_a_sid(
    campus: Running, sender: str, router: str, port: str
) -> None:
    """A packet for mn2, wrapped by the sender for the very SID that would deliver it."""
    sid = Planner(campus.lab.topology, MobilityParameters()).sids["ar4"].end_dt6
    mac = campus.lab.topology.nodes[sender].mac or "02:00:00:00:66:66"
    with opened(campus, "mn2", socket.SOCK_DGRAM) as into, counting(campus) as counted:
        host, number = into.getsockname()[:2]
        outer = IPv6(src=address(campus, sender), dst=str(sid))
        inner = IPv6(src="2001:db8:bad::1", dst=host) / UDP(dport=number) / b"smuggled"
        inject(campus, sender, router, port, outer / inner, mac)
        arrives(campus, sender, "mn2")
        into.setblocking(False)
        with pytest.raises(BlockingIOError):
            into.recv(100)
    assert counted[router][Reason.TO_SID_BLOCK] == 1


# --- changed under traffic -------------------------------------------------------------------


def replaced(campus: Running, router: str, before: dict[str, int]) -> bool:
    """Tell whether every interface has a program, and another one than before."""
    now = programs(campus, router)
    return now.keys() == before.keys() and not set(now.values()) & set(before.values())


@pytest.mark.parametrize("router", ["br1", "ar3"])
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_new_programs_under_traffic(campus: Running, router: str, end: str) -> None:
    """The loader puts new programs there, and the agent that comes back attaches them."""
    name = agent_name(router)
    with forwarding(campus, at_least=200), steered_traffic(campus):
        before = programs(campus, router)
        assert len(before) >= 3
        if end == "kill":
            campus.domain.kill(name)
        else:
            assert campus.domain.processes.stop(name) == []
        loader.load(pins.directory(campus.lab.namespace(router)))
        assert programs(campus, router) == before
        campus.domain.restart(name)
        wait_for("new programs attached", lambda: replaced(campus, router, before))
        campus.domain.wait_ready()
    assert campus.drift() == []


def test_an_agent_killed_while_it_replaces_programs(campus: Running) -> None:
    """At several instants between the start and the end of it."""
    router, name = "br1", agent_name("br1")
    with forwarding(campus, at_least=200), steered_traffic(campus):
        before = programs(campus, router)
        pinned = pins.directory(campus.lab.namespace(router)) / "prog_steer"
        campus.domain.kill(name)
        for attached in (False, True):
            old = programs(campus, router)
            inode = pinned.stat().st_ino
            campus.domain.restart(name)
            if attached:
                wait_for("one attached", lambda old=old: programs(campus, router) != old)
            else:
                wait_for("pinned anew", lambda inode=inode: pinned.stat().st_ino != inode)
            campus.domain.kill(name)
        campus.domain.restart(name)
        wait_for("new programs attached", lambda: replaced(campus, router, before))
        campus.domain.wait_ready()
    assert campus.drift() == []
    assert not [path.name for path in pinned.parent.iterdir() if path.name.startswith("fresh")]


def start_all(campus: Running, *, kill: bool) -> None:
    """End all agents and start them in the domain's mode."""
    for router in campus.lab.topology.routers():
        name = agent_name(router.name)
        if kill:
            campus.domain.kill(name)
        else:
            assert campus.domain.processes.stop(name) == []
        campus.domain.restart(name)
    campus.domain.wait_ready()


@pytest.mark.parametrize("kill", [False, True])
def test_another_mode_under_traffic(campus: Running, kill: bool) -> None:
    """To `netlink` and back: nothing is lost on the way, and nothing left behind."""
    with steered_traffic(campus):
        assert len(traces(campus)) > 16
        campus.domain.mode = "netlink"
        try:
            start_all(campus, kill=kill)
            assert traces(campus) == []
            assert campus.drift() == []
        finally:
            campus.domain.mode = "ebpf"
        start_all(campus, kill=kill)
        with forwarding(campus):
            arrived = campus.handled()
            wait_for("packets on the fast path again", lambda: campus.handled() > arrived + 100)
    assert campus.drift() == []


# --- nothing left ----------------------------------------------------------------------------


def test_pins_go_with_the_lab() -> None:
    with running("minimal.yaml", "dwn", "ebpf") as up:
        names = [up.lab.namespace(router.name) for router in up.lab.topology.routers()]
        homes = [pins.home(name) for name in names]
        assert all((home / pins.directory(names[0]).name).is_dir() for home in homes)
    assert [home for home in homes if home.exists()] == []


def test_pins_of_namespaces_that_are_gone_are_swept() -> None:
    with spaces(2) as (gone, living):
        places = [pins.directory(space.name) for space in (gone, living)]
        for place in places:
            loader.load(place)
        assert places[0].parent.name not in pins.sweep()
        namespace.remove(gone.name)
        assert places[0].parent.name in pins.sweep()
        assert [place.exists() for place in places] == [False, True]
        pins.remove(living.name)
        assert not places[1].parent.exists()
