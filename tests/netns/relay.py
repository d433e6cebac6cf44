"""A cable that takes time: two TAP devices in two namespaces, and a thread that carries frames."""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from srv6dmm.dataplane import namespace

_TUNSETIFF = 0x400454CA
_TAP, _NO_INFORMATION = 0x0002, 0x1000
_FRAME = 70_000


class Relay:
    """Carries frames both ways, each `delay_s` late. It may be changed at any time."""

    def __init__(self, one: int, other: int, delay_s: float) -> None:
        self.delay_s = delay_s
        self._far = {one: other, other: one}
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and take the devices away."""
        os.close(self._waker)
        self._thread.join()
        for descriptor in (*self._far, self._wake):
            os.close(descriptor)

    def _run(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        number = 0
        while True:
            patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready, _, _ = select.select([*self._far, self._wake], [], [], patience)
            if self._wake in ready:
                return
            now = time.monotonic()
            for descriptor in ready:
                number += 1
                with suppress(OSError):
                    frame = os.read(descriptor, _FRAME)
                    heapq.heappush(waiting, (now + self.delay_s, number, descriptor, frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, descriptor, frame = heapq.heappop(waiting)
                with suppress(OSError):  # the far end is set down, say
                    os.write(self._far[descriptor], frame)


def _tap(space: str, interface: str) -> int:
    with namespace.inside(space):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        request = struct.pack("16sH22x", interface.encode(), _TAP | _NO_INFORMATION)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    return descriptor


@contextmanager
def slow_cable(
    one: tuple[str, str], other: tuple[str, str], delay_s: float, mtu: int = 1600
) -> Iterator[Relay]:
    """Lay a cable between two (namespace, interface) that are not there yet, both ends up."""
    relay = Relay(_tap(*one), _tap(*other), delay_s)
    try:
        for space, interface in (one, other):
            done = subprocess.run(
                ["ip", "-n", space, "link", "set", interface, "mtu", str(mtu), "up"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        yield relay
    finally:
        relay.close()
