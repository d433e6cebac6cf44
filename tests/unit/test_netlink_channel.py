"""Batches, acknowledgements, retries and dumps, against a socket that plays the kernel."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import attribute, message, messages
from srv6dmm.dataplane.netlink.channel import BATCH, Channel, Rejection

Request = tuple[int, int, bytes]
"""Flags, sequence, body."""
Answer = Callable[[int, list[Request]], list[bytes]]


def error(sequence: int, code: int, text: str = "") -> bytes:
    body = struct.pack("=i", -code) + struct.pack("=IHHII", 20, 24, 0, sequence, 0)
    flags = n.NLM_F_CAPPED
    if text:
        flags |= n.NLM_F_ACK_TLVS
        body += attribute(n.NLMSGERR_ATTR_MSG, text.encode() + b"\0")
    return struct.pack("=IHHII", 16 + len(body), n.NLMSG_ERROR, flags, sequence, 0) + body


class Peer:
    """The other end: every datagram goes to `answer`, which gives the datagrams to send back."""

    def __init__(self, answer: Answer) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(n.NETLINK_ROUTE, ours)
        self.batches: list[list[Request]] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while data := self._theirs.recv(1 << 20):
            batch = [
                (flags, sequence, data[start:end])
                for _, flags, sequence, _, start, end in messages(data)
            ]
            self.batches.append(batch)
            for datagram in self._answer(len(self.batches), batch):
                self._theirs.send(datagram)

    def close(self) -> None:
        self.channel.close()
        self._thread.join()
        self._theirs.close()


@pytest.fixture
def play() -> Iterator[Callable[[Answer], Peer]]:
    peers: list[Peer] = []

    def start(answer: Answer) -> Peer:
        peers.append(Peer(answer))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def requests(count: int) -> list[bytes]:
    return [
        message(n.RTM_NEWROUTE, n.NLM_F_REQUEST, index.to_bytes(4, "little"))
        for index in range(count)
    ]


def numbers_of(batch: list[Request]) -> list[int]:
    return [int.from_bytes(body, "little") for _, _, body in batch]


def refusing(codes: dict[int, list[int]]) -> Answer:
    """Refuse message NUMBER with these codes, one per time it comes; 0 and then: accept."""

    def answer(_: int, batch: list[Request]) -> list[bytes]:
        out = []
        for flags, sequence, body in batch:
            left = codes.get(int.from_bytes(body, "little"), [])
            code = left.pop(0) if left else 0
            if code or flags & n.NLM_F_ACK:
                out.append(error(sequence, code, "because" if code else ""))
        return out

    return answer


def test_only_the_last_of_a_batch_is_acknowledged(play: Callable[[Answer], Peer]) -> None:
    peer = play(refusing({}))
    assert peer.channel.execute(requests(2 * BATCH + 3)) == {}
    assert [len(batch) for batch in peer.batches] == [BATCH, BATCH, 3]
    for batch in peer.batches:
        assert [bool(flags & n.NLM_F_ACK) for flags, _, _ in batch] == [False] * (
            len(batch) - 1
        ) + [True]
    assert [number for batch in peer.batches for number in numbers_of(batch)] == list(
        range(2 * BATCH + 3)
    )
    assert peer.channel.execute([]) == {}


def test_refusals_are_matched_by_sequence(play: Callable[[Answer], Peer]) -> None:
    wrong = {3: [errno.EINVAL], BATCH + 1: [errno.EEXIST], BATCH + 2: [errno.ENODEV]}
    peer = play(refusing({number: list(codes) for number, codes in wrong.items()}))
    answers = peer.channel.execute(requests(BATCH + 3))
    assert answers == {number: Rejection(codes[0], "because") for number, codes in wrong.items()}
    assert len(peer.batches) == 2  # nothing of it passes by waiting


def test_a_shortage_is_waited_for_and_what_followed_is_repeated(
    play: Callable[[Answer], Peer],
) -> None:
    peer = play(refusing({1: [errno.EINVAL], 4: [errno.ENOMEM, errno.ENOMEM], 6: [errno.ENOENT]}))
    answers = peer.channel.execute(requests(9))
    assert answers == {1: Rejection(errno.EINVAL, "because")}
    # 6 may have failed because 4 was missing; 1 came before and cannot.
    assert [numbers_of(batch) for batch in peer.batches[1:]] == [[4, 6], [4]]


def test_a_shortage_that_stays_is_a_failure(play: Callable[[Answer], Peer]) -> None:
    peer = play(refusing({0: [errno.ENOMEM] * 100}))
    assert peer.channel.execute(requests(2)) == {0: Rejection(errno.ENOMEM, "because")}
    assert len(peer.batches) == 10


def test_answers_of_an_earlier_request_are_passed_over(play: Callable[[Answer], Peer]) -> None:
    def answer(_: int, batch: list[Request]) -> list[bytes]:
        last = batch[-1][1]
        return [error(1, errno.EINVAL), error(last, 0)]

    channel = play(answer).channel
    assert channel.execute(requests(2)) == {0: Rejection(errno.EINVAL, "Invalid argument")}
    assert channel.execute(requests(2)) == {}


def test_without_a_text_the_errno_is_explained(play: Callable[[Answer], Peer]) -> None:
    peer = play(lambda _, batch: [error(batch[-1][1], errno.EPERM)])
    assert peer.channel.execute(requests(1)) == {
        0: Rejection(errno.EPERM, "Operation not permitted")
    }


def done(sequence: int, code: int = 0) -> bytes:
    return struct.pack("=IHHIIi", 20, n.NLMSG_DONE, 2, sequence, 0, -code)


def entry(sequence: int, body: bytes, flags: int = 2) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), n.RTM_NEWROUTE, flags, sequence, 0) + body


def test_a_dump_is_read_to_its_end(play: Callable[[Answer], Peer]) -> None:
    def answer(_: int, batch: list[Request]) -> list[bytes]:
        ((_, sequence, _),) = batch
        two = entry(sequence, b"one!") + entry(sequence, b"two!")
        return [two, entry(sequence, b"3333") + done(sequence)]

    found = play(answer).channel.dump(requests(1)[0])
    assert [datagram[start:end] for _, datagram, start, end in found] == [b"one!", b"two!", b"3333"]


def test_an_interrupted_dump_is_taken_again(play: Callable[[Answer], Peer]) -> None:
    def answer(turn: int, batch: list[Request]) -> list[bytes]:
        ((_, sequence, _),) = batch
        flags = 2 | (n.NLM_F_DUMP_INTR if turn < 3 else 0)
        return [entry(sequence, f"no {turn}".encode(), flags), done(sequence)]

    found = play(answer).channel.dump(requests(1)[0])
    assert [datagram[start:end] for _, datagram, start, end in found] == [b"no 3"]


def test_a_dump_that_is_always_interrupted_fails(play: Callable[[Answer], Peer]) -> None:
    def answer(_: int, batch: list[Request]) -> list[bytes]:
        ((_, sequence, _),) = batch
        return [entry(sequence, b"x", n.NLM_F_DUMP_INTR), done(sequence)]

    with pytest.raises(OSError, match="interrupted by changes"):
        play(answer).channel.dump(requests(1)[0])


@pytest.mark.parametrize("how", ["error", "done"])
def test_a_refused_dump_raises(play: Callable[[Answer], Peer], how: str) -> None:
    def answer(_: int, batch: list[Request]) -> list[bytes]:
        ((_, sequence, _),) = batch
        return [(error if how == "error" else done)(sequence, errno.EPERM)]

    with pytest.raises(PermissionError):
        play(answer).channel.dump(requests(1)[0])
