"""A netlink socket for requests: batches, acknowledgements, dumps, retries."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from srv6dmm.dataplane.netlink import numbers as n
from srv6dmm.dataplane.netlink.attributes import (
    HEADER,
    S32,
    U16,
    U32,
    MalformedMessage,
    attributes,
    messages,
)

BATCH = 64
"""Messages per send. The kernel works through them inside the send call, and meanwhile nobody
refills the per-CPU memory that seg6 routes take: from about 256 on most are refused (ENOMEM)."""
TRANSIENT = frozenset({errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.EINTR})
"""What passes by itself: seg6 routes take per-CPU memory that is refilled within milliseconds."""
_PAUSES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256)
"""Seconds between tries; half a second in all, then the failure is reported."""
_DUMP_TRIES = 10
_RECEIVE = 1 << 16
_TIMEOUT = struct.pack("ll", 5, 0)

Message = tuple[int, bytes, int, int]
"""Type, datagram, start and end of the body in it."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The kernel's answer to a message it did not carry out."""

    errno: int
    reason: str


class Channel:
    """A netlink request socket.

    The kernel answers within the send call, so nothing here waits but for the pauses between
    retries. Not thread-safe.
    """

    def __init__(self, protocol: int, endpoint: socket.socket | None = None) -> None:
        """Open a socket in the network namespace of the calling thread.

        `endpoint`: take over this one instead; its other end has to speak netlink.
        """
        if endpoint is None:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            endpoint = socket.socket(socket.AF_NETLINK, kind, protocol)
            endpoint.bind((0, 0))
        self._socket = endpoint
        self._sequence = 0
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        # Answers come within the send call; the limit only turns a lost one into an error.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        self._option(n.NETLINK_CAP_ACK)
        self._option(n.NETLINK_EXT_ACK)
        self._option(n.NETLINK_GET_STRICT_CHK)  # the kernel filters dumps (Linux 4.20)

    @property
    def port(self) -> int:
        """The number that marks notifications of what this socket caused."""
        return int(self._socket.getsockname()[0])

    def _option(self, number: int) -> None:
        # An older kernel does not know all of them: its answers are longer, or not filtered.
        with suppress(OSError):
            self._socket.setsockopt(n.SOL_NETLINK, number, 1)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def execute(self, requests: Sequence[bytes]) -> dict[int, Rejection]:
        """Carry requests out in order, in batches; return index -> rejection of those refused.

        What fails for a passing reason is sent again with growing pauses, and with it what
        failed after it in the same batch (it may have depended on it). All requests must be
        ones that may be repeated (replace, delete).
        """
        rejected: dict[int, Rejection] = {}
        for start in range(0, len(requests), BATCH):
            failed = self._batch(requests[start : start + BATCH])
            if failed:
                failed = self._persist(requests[start : start + BATCH], failed)
                rejected.update((start + index, answer) for index, answer in failed.items())
        return rejected

    def _persist(
        self, requests: Sequence[bytes], failed: dict[int, Rejection]
    ) -> dict[int, Rejection]:
        for pause in _PAUSES:
            passing = [index for index, answer in failed.items() if answer.errno in TRANSIENT]
            if not passing:
                break
            time.sleep(pause)
            again = sorted(index for index in failed if index >= min(passing))
            answers = self._batch([requests[index] for index in again])
            failed = {index: answer for index, answer in failed.items() if index < again[0]}
            failed.update((again[position], answer) for position, answer in answers.items())
        return failed

    def _batch(self, requests: Sequence[bytes]) -> dict[int, Rejection]:
        """Send requests at once with one acknowledgement, on the last; errors by sequence."""
        buffer = bytearray().join(requests)
        first = self._sequence + 1
        offset = last = 0
        pack = U32.pack_into
        for sequence, request in enumerate(requests, first):
            pack(buffer, offset + 8, sequence & 0xFFFFFFFF)
            last = offset
            offset += len(request)
        self._sequence = first + len(requests) - 1
        flags = U16.unpack_from(buffer, last + 6)[0]
        U16.pack_into(buffer, last + 6, flags | n.NLM_F_ACK)
        try:
            self._socket.send(buffer)
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            reason = f"send: {os.strerror(error.errno)}"
            return {index: Rejection(error.errno, reason) for index in range(len(requests))}
        try:
            return self._answers(first, len(requests))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        # Answers were lost for want of buffer: nothing is known, and everything may be repeated.
        if len(requests) == 1:
            return {0: Rejection(errno.ENOBUFS, "the answer was lost")}
        rejected: dict[int, Rejection] = {}
        for index, request in enumerate(requests):
            rejected.update((index, answer) for answer in self._batch([request]).values())
        return rejected

    def _answers(self, first: int, count: int) -> dict[int, Rejection]:
        rejected: dict[int, Rejection] = {}
        while True:
            datagram = self._receive()
            for kind, flags, sequence, _, start, end in messages(datagram):
                index = (sequence - first) & 0xFFFFFFFF
                if kind != n.NLMSG_ERROR or index >= count:
                    continue  # left over from a request whose answers were lost
                answer = _rejection(datagram, flags, start, end)
                if answer is not None:
                    rejected[index] = answer
                if index == count - 1:
                    return rejected

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE)
        except BlockingIOError:
            raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer on netlink") from None

    def ask(self, request: bytes) -> Message | Rejection:
        """Send one request and return the message, or the rejection, that answers it."""
        sequence = self._send(request)
        while True:
            datagram = self._receive()
            for kind, flags, answered, _, start, end in messages(datagram):
                if answered != sequence:
                    continue
                if kind != n.NLMSG_ERROR:
                    return kind, datagram, start, end
                answer = _rejection(datagram, flags, start, end)
                return answer or Rejection(errno.ENODATA, "an empty answer")

    def dump(self, request: bytes) -> list[Message]:
        """Return all messages of a dump that nothing interrupted.

        A dump during which the kernel's tables changed may lack entries or have them twice; it
        is taken again. Raises OSError when that does not help, or when the kernel refuses.
        """
        for _ in range(_DUMP_TRIES):
            parts: list[Message] = []
            if self._dump_once(self._send(request), parts):
                return parts
        raise OSError(errno.EINTR, "a netlink dump was interrupted by changes every time")

    def _dump_once(self, sequence: int, parts: list[Message]) -> bool:
        whole = True
        while True:
            try:
                datagram = self._receive()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                whole = False
                continue
            for kind, flags, answered, _, start, end in messages(datagram):
                if answered != sequence:
                    continue
                whole = whole and not flags & n.NLM_F_DUMP_INTR
                if kind == n.NLMSG_DONE:
                    code = -S32.unpack_from(datagram, start)[0] if end - start >= 4 else 0
                    if code:
                        raise OSError(code, f"netlink dump: {os.strerror(code)}")
                    return whole
                if kind == n.NLMSG_ERROR:
                    answer = _rejection(datagram, flags, start, end)
                    if answer is None:
                        continue
                    raise OSError(answer.errno, f"netlink dump: {answer.reason}")
                parts.append((kind, datagram, start, end))

    def _send(self, request: bytes) -> int:
        self._sequence += 1
        buffer = bytearray(request)
        U32.pack_into(buffer, 8, self._sequence & 0xFFFFFFFF)
        self._socket.send(buffer)
        return self._sequence & 0xFFFFFFFF


def _rejection(datagram: bytes, flags: int, start: int, end: int) -> Rejection | None:
    """Decode an NLMSG_ERROR body: errno, the request's header, then extended acknowledgement."""
    if end - start < 4 + HEADER.size:
        raise MalformedMessage(f"error message of {end - start} bytes")
    code = -S32.unpack_from(datagram, start)[0]
    if code == 0:
        return None
    reason = ""
    if flags & n.NLM_F_ACK_TLVS:
        length = HEADER.size
        if not flags & n.NLM_F_CAPPED:
            length = (HEADER.unpack_from(datagram, start + 4)[0] + 3) & ~3
        text = attributes(datagram, start + 4 + length, end).get(n.NLMSGERR_ATTR_MSG)
        if text is not None:
            reason = text.rstrip(b"\0").decode(errors="replace")
    return Rejection(code, reason or os.strerror(code))


class Monitor:
    """A socket that hears what happens to routes, neighbours, addresses and links."""

    GROUPS = (
        n.RTNLGRP_LINK,
        n.RTNLGRP_NEIGH,
        n.RTNLGRP_IPV6_IFADDR,
        n.RTNLGRP_IPV6_ROUTE,
        n.RTNLGRP_IPV6_RULE,
    )

    def __init__(self, groups: Iterable[int] = GROUPS) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, n.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        for group in groups:
            self._socket.setsockopt(n.SOL_NETLINK, n.NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """Return the file descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def events(self) -> Iterator[tuple[int, int, bytes, int, int] | None]:
        """Yield (type, port of the cause, datagram, start, end); None where some were lost."""
        while True:
            try:
                datagram = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield None
                continue
            for kind, _, _, port, start, end in messages(datagram):
                yield kind, port, datagram, start, end
