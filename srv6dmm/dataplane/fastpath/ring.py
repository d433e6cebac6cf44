"""The ring buffer of arrivals, read by mapping its pages (Documentation/bpf/ringbuf.rst)."""

from __future__ import annotations

import mmap
import os
import struct

from srv6dmm.dataplane.fastpath import syscalls
from srv6dmm.dataplane.fastpath.layout import Event

_BUSY, _DISCARDED = 1 << 31, 1 << 30
_HEADER = 8
_POSITION = struct.Struct("=Q")


class Ring:
    """One consumer of a ring buffer. Begins with what is written next: older arrivals are past.

    Raises OSError when it cannot be mapped.
    """

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is the map's; it stays the caller's."""
        self._size = syscalls.map_info(descriptor)[3]
        self._descriptor = os.dup(descriptor)
        try:
            self._consumer = mmap.mmap(self._descriptor, mmap.PAGESIZE)
            # The kernel maps the data twice in a row, so that no record is ever split.
            self._data = mmap.mmap(
                self._descriptor,
                mmap.PAGESIZE + 2 * self._size,
                prot=mmap.PROT_READ,
                offset=mmap.PAGESIZE,
            )
        except OSError:
            os.close(self._descriptor)
            raise
        self.read()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something was written."""
        return self._descriptor

    def close(self) -> None:
        """Unmap; what is written from now on waits for the next reader."""
        self._consumer.close()
        self._data.close()
        os.close(self._descriptor)

    def read(self) -> list[Event]:
        """Take every whole record that was written since the last call."""
        (at,) = _POSITION.unpack_from(self._consumer)
        (end,) = _POSITION.unpack_from(self._data)
        found: list[Event] = []
        while at < end:
            place = mmap.PAGESIZE + at % self._size
            (header,) = struct.unpack_from("=I", self._data, place)
            if header & _BUSY:
                break  # its program is still writing; the descriptor stays readable
            length = header & ~_DISCARDED
            if not header & _DISCARDED:
                found.append(Event.unpack(self._data[place + _HEADER : place + _HEADER + length]))
            at += (length + _HEADER + 7) // 8 * 8
        _POSITION.pack_into(self._consumer, 0, at)
        return found
