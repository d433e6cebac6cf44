"""bpf(2) as the tests need it: maps by their pins, and programs run on one frame.

Written from bpf(2) and include/uapi/linux/bpf.h, apart from the code under test.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

SYS_BPF = 321
MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, NEXT_KEY, OBJ_GET, TEST_RUN, OBJ_INFO = 1, 2, 3, 4, 7, 10, 15
PER_CPU = (5, 6)  # BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY
ARRAYS = (2, 6)
RING = 27
SK_BUFF = 192  # octets of struct __sk_buff
IFINDEX, GSO_SEGS, GSO_SIZE = 40, 164, 176
LONGEST = 4096
_Octet = ctypes.c_char
_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall


def _call(command: int, attributes: ctypes.Array[ctypes.c_char], size: int) -> int:
    result = int(_syscall(SYS_BPF, command, attributes, size))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf command {command}: {os.strerror(number)}")
    return result


def obj_get(path: Path) -> int:
    """Return a file descriptor of what is pinned there."""
    name = ctypes.create_string_buffer(str(path).encode())
    attributes = struct.pack("=QII", ctypes.addressof(name), 0, 0)
    return _call(OBJ_GET, ctypes.create_string_buffer(attributes, 16), 16)


def processors() -> int:
    """Return how many values a per-CPU element has."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().split("-")[-1]
    return int(last.split(",")[-1]) + 1


class Map:
    """A pinned map; keys and values are bytes of exactly its sizes."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.fd = obj_get(path)
        info = ctypes.create_string_buffer(80)
        attributes = struct.pack("=IIQ", self.fd, 80, ctypes.addressof(info))
        _call(OBJ_INFO, ctypes.create_string_buffer(attributes, 16), 16)
        self.type, _, self.key_size, self.value_size, self.max_entries, self.flags = (
            struct.unpack_from("=6I", info)
        )
        self.copies = processors() if self.type in PER_CPU else 1
        self._value = ctypes.create_string_buffer(max(8, self.value_size) * self.copies)
        self._key = ctypes.create_string_buffer(max(1, self.key_size))
        at = ctypes.addressof(self._key), ctypes.addressof(self._value)
        self._lookup = ctypes.create_string_buffer(struct.pack("=IIQQQ", self.fd, 0, *at, 0), 32)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def _element(self, command: int, key: bytes | None, value: int = 0) -> int:
        held = ctypes.create_string_buffer(key, self.key_size) if key is not None else None
        at = ctypes.addressof(held) if held is not None else 0
        attributes = struct.pack("=IIQQQ", self.fd, 0, at, value, 0)
        return _call(command, ctypes.create_string_buffer(attributes, 32), 32)

    def put(self, key: bytes, value: bytes) -> None:
        """Write one element, on every CPU alike."""
        assert len(key) == self.key_size, (self.name, key)
        assert len(value) == self.value_size, (self.name, len(value), self.value_size)
        held = ctypes.create_string_buffer(value * self.copies, len(value) * self.copies)
        self._element(MAP_UPDATE, key, ctypes.addressof(held))

    def get(self, key: bytes) -> list[bytes]:
        """Return an element's value of every CPU."""
        ctypes.memmove(self._key, key, self.key_size)
        _call(MAP_LOOKUP, self._lookup, 32)
        size = len(self._value) // self.copies
        raw = self._value.raw
        return [raw[n * size : n * size + self.value_size] for n in range(self.copies)]

    def keys(self) -> list[bytes]:
        """Return every key."""
        return list(self._walk())

    def _walk(self) -> Iterator[bytes]:
        following = ctypes.create_string_buffer(self.key_size)
        key = None
        while True:
            try:
                self._element(NEXT_KEY, key, ctypes.addressof(following))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            key = following.raw
            yield key

    def clear(self) -> None:
        """Delete every element."""
        for key in self.keys():
            self._element(MAP_DELETE, key)


class Ring:
    """A reader of a pinned ring buffer (Documentation/bpf/ringbuf.rst)."""

    BUSY, DISCARDED = 1 << 31, 1 << 30

    def __init__(self, path: Path) -> None:
        self.map = Map(path)
        assert self.map.type == RING, self.map.type
        self.size = self.map.max_entries
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(self.map.fd, page)
        self._data = mmap.mmap(self.map.fd, page + 2 * self.size, prot=mmap.PROT_READ, offset=page)

    def read(self) -> list[bytes]:
        """Take everything that was written since the last time."""
        (at,) = struct.unpack_from("=Q", self._consumer)
        (end,) = struct.unpack_from("=Q", self._data)
        found = []
        while at < end:
            place = mmap.PAGESIZE + at % self.size
            (header,) = struct.unpack_from("=I", self._data, place)
            assert not header & self.BUSY, "a record of a program that is still running"
            length = header & ~(self.BUSY | self.DISCARDED)
            if not header & self.DISCARDED:
                found.append(self._data[place + 8 : place + 8 + length])
            at += (length + 8 + 7) // 8 * 8
        struct.pack_into("=Q", self._consumer, 0, end)
        return found

    def close(self) -> None:
        """Unmap and give the descriptor back."""
        self._consumer.close()
        self._data.close()
        self.map.close()


class Program:
    """A pinned program, run on frames as if they came in at a device of the caller's namespace."""

    # union bpf_attr of BPF_PROG_TEST_RUN
    ATTRIBUTES = struct.Struct("=IIIIQQIIIIQQII")

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.fd = obj_get(path)

    def run(self, frame: bytes, ifindex: int, gso: tuple[int, int] = (0, 0)) -> tuple[int, bytes]:
        """Return the verdict and what the program left. `gso`: octets and number of segments."""
        verdict, left = self.runner(ifindex, gso)(frame)
        return verdict, bytes(left)

    def runner(
        self, ifindex: int, gso: tuple[int, int] = (0, 0)
    ) -> Callable[[bytes], tuple[int, bytearray]]:
        """Return `run` for one device with everything prepared that is the same for all frames."""
        given, left = bytearray(LONGEST), bytearray(LONGEST)
        context = bytearray(SK_BUFF)
        struct.pack_into("=I", context, IFINDEX, ifindex)  # Linux 5.10 takes no ingress_ifindex
        struct.pack_into("=I", context, GSO_SEGS, gso[1])
        struct.pack_into("=I", context, GSO_SIZE, gso[0])
        # These views also keep the areas alive and where they are.
        views = [_Octet.from_buffer(area) for area in (given, left, context)]
        at = [ctypes.addressof(view) for view in views]
        packed = self.ATTRIBUTES.pack(
            *(self.fd, 0, 0, 0, at[0], at[1], 1, 0, SK_BUFF, 0, at[2], 0, 0, 0)
        )
        attributes = ctypes.create_string_buffer(packed, len(packed))
        command, size = ctypes.c_long(TEST_RUN), ctypes.c_long(len(packed))
        set_sizes, get_answer = struct.Struct("=II").pack_into, struct.Struct("=III").unpack_from

        def run(frame: bytes) -> tuple[int, bytearray]:
            length = len(frame)
            assert views
            given[:length] = frame
            set_sizes(attributes, 8, length, LONGEST)
            if _syscall(SYS_BPF, command, attributes, size) < 0:
                number = ctypes.get_errno()
                raise OSError(number, f"{self.name}: {os.strerror(number)}: {frame.hex()}")
            verdict, _, length = get_answer(attributes, 4)
            return verdict, left[:length]

        return run
