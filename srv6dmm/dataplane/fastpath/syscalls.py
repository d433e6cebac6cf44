"""bpf(2), by ctypes: maps, pins and test runs. Every failure is an OSError that says of what."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE, _NEXT_KEY, _PROG_LOAD = 0, 1, 2, 3, 4, 5
_OBJ_PIN, _OBJ_GET, _ATTACH, _DETACH, _TEST_RUN = 6, 7, 8, 9, 10
_PROGRAM_BY_ID, _INFO, _QUERY = 13, 15, 16
_REPLACE, _BEFORE = 4, 8
_LOOKUP_BATCH, _UPDATE_BATCH, _DELETE_BATCH = 24, 26, 27
_BATCH = 4096
_ATTRIBUTE = 144
SCHED_CLS = 3
PREFIX = "srv6dmm_"
"""Of the names of all our programs: by it they are ours, wherever they are attached."""
_MEMBARRIER = {"x86_64": 324}.get(os.uname().machine, 283)
_GLOBAL = 1
_libc = ctypes.CDLL(None, use_errno=True)
_number = _NUMBERS.get(os.uname().machine)


def bpf(command: int, attribute: bytes, about: str) -> int:
    """Call bpf(2) and return its result. Raises OSError that names `about`."""
    return _call(command, ctypes.create_string_buffer(attribute, _ATTRIBUTE), about)


def _call(command: int, attribute: ctypes.Array[ctypes.c_char], about: str) -> int:
    if _number is None:
        raise OSError(errno.ENOSYS, f"{about}: bpf(2) has no number on {os.uname().machine}")
    result: int = _libc.syscall(_number, command, attribute, _ATTRIBUTE)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{about}: {os.strerror(code)}")
    return result


def _create(command: int, attribute: bytes, about: str) -> int:
    """Make a map or program.

    Linux before 5.11 counts them as locked memory, of which a process may have 64 kB unless it
    asks for more; what it says then is EPERM.
    """
    try:
        return bpf(command, attribute, about)
    except PermissionError as refused:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        if resource.getrlimit(resource.RLIMIT_MEMLOCK) == unlimited:
            raise
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
        except ValueError:  # without CAP_SYS_RESOURCE
            words = f"{refused.strerror}; `ulimit -l unlimited` (LimitMEMLOCK=infinity) may help"
            raise OSError(refused.errno, words) from refused
        return bpf(command, attribute, about)


def _address(buffer: object) -> int:
    return ctypes.addressof(buffer)  # type: ignore[arg-type]


def _pointer(data: bytes) -> int:
    """Return the address of bytes that the kernel only reads; the caller keeps them alive."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def map_create(
    kind: int, key_size: int, value_size: int, max_entries: int, flags: int, name: str
) -> int:
    """Return the descriptor of a new map."""
    attribute = struct.pack(
        "=IIIIIII16s", kind, key_size, value_size, max_entries, flags, 0, 0, name.encode()[:15]
    )
    return _create(_MAP_CREATE, attribute, f"create map {name}")


def load_program(code: bytes, kind: int, name: str) -> int:
    """Return the descriptor of a program given as instructions; PREFIX is put before its name."""
    licence = b"Dual BSD/GPL\0"
    attribute = struct.pack(
        "=IIQQIIQII16s",
        *(kind, len(code) // 8, _pointer(code), _pointer(licence)),
        *(0, 0, 0, 0, 0, (PREFIX + name).encode()[:15]),
    )
    return _create(_PROG_LOAD, attribute, f"load program {name}")


def pin(descriptor: int, path: str) -> None:
    """Give a map or program a name in a bpffs."""
    name = path.encode() + b"\0"
    bpf(_OBJ_PIN, struct.pack("=QI", _pointer(name), descriptor), f"pin {path}")


def get(path: str) -> int:
    """Return a descriptor of what is pinned at a path."""
    name = path.encode() + b"\0"
    return bpf(_OBJ_GET, struct.pack("=QI", _pointer(name), 0), f"open {path}")


def program_id(descriptor: int) -> int:
    """Return the kernel's number of a program."""
    info = ctypes.create_string_buffer(8)  # type, id
    attribute = struct.pack("=IIQ", descriptor, len(info), _address(info))
    bpf(_INFO, attribute, "ask about a program")
    return int(struct.unpack("=II", info.raw)[1])


def program_by_id(number: int) -> int:
    """Return a descriptor of the program of a number. Raises FileNotFoundError for none."""
    return bpf(_PROGRAM_BY_ID, struct.pack("=III", number, 0, 0), f"open program {number}")


def program_name(descriptor: int) -> str:
    """Return the name a program was loaded under."""
    info = ctypes.create_string_buffer(80)
    attribute = struct.pack("=IIQ", descriptor, len(info), _address(info))
    bpf(_INFO, attribute, "ask about a program")
    return info.raw[64:80].rstrip(b"\0").decode(errors="replace")


def attach_program(program: int, index: int, hook: int, replaced: int | None, about: str) -> None:
    """Put a program before those at a device's hook, or atomically in the place of one of them."""
    flags = _BEFORE if replaced is None else _REPLACE
    attribute = struct.pack("=IIIIIIQ", index, program, hook, flags, replaced or 0, 0, 0)
    bpf(_ATTACH, attribute, f"attach at {about}")


def detach_program(program: int, index: int, hook: int, about: str) -> None:
    """Take a program from a device's hook; not there is fine."""
    attribute = struct.pack("=IIIIIIQ", index, program, hook, 0, 0, 0, 0)
    with suppress(FileNotFoundError):
        bpf(_DETACH, attribute, f"detach at {about}")


def programs_at(index: int, hook: int, about: str) -> list[int]:
    """Return the numbers of the programs at a device's hook, in their order."""
    room = 64
    numbers = ctypes.create_string_buffer(4 * room)
    attribute = ctypes.create_string_buffer(
        struct.pack("=IIIIQI", index, hook, 0, 0, _address(numbers), room), _ATTRIBUTE
    )
    try:
        _call(_QUERY, attribute, f"ask about {about}")
    except FileNotFoundError:
        return []
    (count,) = struct.unpack_from("=I", attribute.raw, 24)
    return list(struct.unpack_from(f"={min(count, room)}I", numbers.raw))


def map_info(descriptor: int) -> tuple[int, int, int, int]:
    """Return a map's (type, key size, value size, number of entries at most)."""
    info = ctypes.create_string_buffer(24)
    bpf(_INFO, struct.pack("=IIQ", descriptor, len(info), _address(info)), "ask about a map")
    kind, _, key_size, value_size, entries, _ = struct.unpack("=IIIIII", info.raw)
    return kind, key_size, value_size, entries


def lookup(descriptor: int, key: bytes, value_size: int, about: str) -> bytes | None:
    """Return an element's value, or None. Per-CPU maps want all CPUs' values in `value_size`."""
    value = ctypes.create_string_buffer(value_size)
    attribute = struct.pack("=IIQQQ", descriptor, 0, _pointer(key), _address(value), 0)
    try:
        bpf(_LOOKUP, attribute, f"look into map {about}")
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw


def read_array(descriptor: int, first: int, count: int, value_size: int, about: str) -> bytes:
    """Return `count` values of an array from index `first` on, one after the other."""
    keys = ctypes.create_string_buffer(count * 4)
    values = ctypes.create_string_buffer(count * value_size)
    before = ctypes.create_string_buffer(struct.pack("=I", first - 1 if first else 0), 4)
    after = ctypes.create_string_buffer(4)
    attribute = ctypes.create_string_buffer(
        struct.pack(
            "=QQQQIIQQ",
            _address(before) if first else 0,
            _address(after),
            _address(keys),
            _address(values),
            count,
            descriptor,
            0,
            0,
        ),
        _ATTRIBUTE,
    )
    try:
        _call(_LOOKUP_BATCH, attribute, f"read map {about}")
    except OSError as error:
        if error.errno in _ABSENT:
            return b"".join(
                lookup(descriptor, struct.pack("=I", index), value_size, about) or bytes(value_size)
                for index in range(first, first + count)
            )
        if error.errno != errno.ENOENT:  # the array's end
            raise
    return values.raw


def update(descriptor: int, key: bytes, value: bytes, about: str) -> None:
    """Create or replace an element."""
    attribute = struct.pack("=IIQQQ", descriptor, 0, _pointer(key), _pointer(value), 0)
    bpf(_UPDATE, attribute, f"write to map {about}")


def delete(descriptor: int, key: bytes, about: str) -> None:
    """Delete an element; none there is fine."""
    try:
        bpf(
            _DELETE,
            struct.pack("=IIQQQ", descriptor, 0, _pointer(key), 0, 0),
            f"delete from map {about}",
        )
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _next_key(descriptor: int, key: bytes | None, size: int, about: str) -> bytes | None:
    found = ctypes.create_string_buffer(size)
    before = 0 if key is None else _pointer(key)
    try:
        bpf(
            _NEXT_KEY,
            struct.pack("=IIQQQ", descriptor, 0, before, _address(found), 0),
            f"walk through map {about}",
        )
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return found.raw


_ABSENT = (errno.EINVAL, errno.ENOTSUP, 524)
"""What kernels without a batch operation (before 5.6, or for this type of map) answer."""


def update_batch(
    descriptor: int, keys: Sequence[bytes], values: Sequence[bytes], about: str
) -> None:
    """Create or replace elements; on an error those before it are written."""
    for start in range(0, len(keys), _BATCH):
        part = keys[start : start + _BATCH]
        key_data = b"".join(part)
        value_data = b"".join(values[start : start + _BATCH])
        attribute = struct.pack(
            "=QQQQIIQQ", 0, 0, _pointer(key_data), _pointer(value_data), len(part), descriptor, 0, 0
        )
        try:
            bpf(_UPDATE_BATCH, attribute, f"write to map {about}")
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            for key, value in zip(part, values[start : start + _BATCH], strict=True):
                update(descriptor, key, value, about)


def delete_each(descriptor: int, keys: Sequence[bytes], about: str) -> None:
    """Delete elements; those that are not there are fine.

    One by one: the kernel's batch stops at the first that is not there.
    """
    for key in keys:
        delete(descriptor, key, about)


def items(
    descriptor: int, key_size: int, value_size: int, about: str
) -> Iterator[tuple[bytes, bytes]]:
    """Yield every element. One that is written meanwhile may be seen or not."""
    try:
        yield from _batches(descriptor, key_size, value_size, about)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        key = _next_key(descriptor, None, key_size, about)
        while key is not None:
            value = lookup(descriptor, key, value_size, about)
            if value is not None:
                yield key, value
            key = _next_key(descriptor, key, key_size, about)


def _batches(
    descriptor: int, key_size: int, value_size: int, about: str
) -> Iterator[tuple[bytes, bytes]]:
    size = _BATCH
    keys = ctypes.create_string_buffer(size * key_size)
    values = ctypes.create_string_buffer(size * value_size)
    place = ctypes.create_string_buffer(max(key_size, 4))
    started, more = False, True
    while more:
        attribute = ctypes.create_string_buffer(
            struct.pack(
                "=QQQQIIQQ",
                _address(place) if started else 0,
                _address(place),
                _address(keys),
                _address(values),
                size,
                descriptor,
                0,
                0,
            ),
            _ATTRIBUTE,
        )
        try:
            _call(_LOOKUP_BATCH, attribute, f"read map {about}")
        except OSError as error:
            if error.errno == errno.ENOSPC:  # a bucket does not fit
                size *= 4
                keys = ctypes.create_string_buffer(size * key_size)
                values = ctypes.create_string_buffer(size * value_size)
                continue
            if error.errno != errno.ENOENT:
                raise
            more = False  # the last part
        started = True
        (count,) = struct.unpack_from("=I", attribute.raw, 32)
        key_data, value_data = keys.raw, values.raw
        for number in range(count):
            yield (
                key_data[number * key_size : (number + 1) * key_size],
                value_data[number * value_size : (number + 1) * value_size],
            )


def run_program(
    program: int, frame: bytes, context: bytes = b"", repeat: int = 1
) -> tuple[int, bytes]:
    """Run a program over a frame; return its verdict and the frame it left."""
    room = ctypes.create_string_buffer(len(frame) + 512)
    changed = ctypes.create_string_buffer(max(len(context), 1))
    attribute = ctypes.create_string_buffer(
        struct.pack(
            "=IIIIQQIIIIQQ",
            program,
            0,
            len(frame),
            len(room),
            _pointer(frame),
            _address(room),
            repeat,
            0,
            len(context),
            len(context),
            _pointer(context) if context else 0,
            _address(changed) if context else 0,
        ),
        _ATTRIBUTE,
    )
    _call(_TEST_RUN, attribute, "test run")
    verdict, _, size = struct.unpack_from("=III", attribute.raw, 4)
    return verdict, room.raw[:size]


def wait_for_programs() -> None:
    """Return when every program that runs now has ended: membarrier(2) waits a grace period."""
    if _libc.syscall(_MEMBARRIER, _GLOBAL, 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"membarrier: {os.strerror(code)}")


def close(descriptor: int) -> None:
    """Close a descriptor of a map or a program."""
    os.close(descriptor)
