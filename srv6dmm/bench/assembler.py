"""BPF programs written by hand: a few instructions each, so that no compiler is needed."""

from __future__ import annotations

import struct

ALU64, JUMP, LOAD, STORE = 0x07, 0x05, 0x61, 0x63
_WORD_BITS = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_IMMEDIATE_64 = 0x18
_PSEUDO_MAP = 1
CALL_MAP_LOOKUP, CALL_CLOCK_NS, CALL_LOAD_BYTES = 1, 5, 26


class Assembler:
    """Instructions in order, and jumps to labels that are placed later.

    Registers are numbers: 0 result, 1 to 5 arguments (gone after a call), 6 to 9 kept, 10 frame.
    """

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int, int]] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def _emit(
        self, code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
    ) -> None:
        self._code.append((code, target, source, offset, value))

    def set(self, target: int, value: int) -> None:
        """target = value"""
        self._emit(ALU64 | 0xB0, target, value=value)

    def copy(self, target: int, source: int) -> None:
        """target = source"""
        self._emit(ALU64 | 0xB8, target, source)

    def add(self, target: int, value: int) -> None:
        """target += value"""
        self._emit(ALU64, target, value=value)

    def subtract(self, target: int, source: int) -> None:
        """target -= source, both registers"""
        self._emit(ALU64 | 0x18, target, source)

    def mask(self, target: int, value: int) -> None:
        """target &= value"""
        self._emit(ALU64 | 0x50, target, value=value)

    def load(self, size: int, target: int, source: int, offset: int) -> None:
        """target = *(source + offset), `size` octets"""
        self._emit(LOAD | _WORD_BITS[size], target, source, offset)

    def store(self, size: int, target: int, offset: int, source: int) -> None:
        """*(target + offset) = source, `size` octets"""
        self._emit(STORE | _WORD_BITS[size], target, source, offset)

    def load_map(self, target: int, descriptor: int) -> None:
        """target = the map"""
        self._emit(_IMMEDIATE_64, target, _PSEUDO_MAP, value=descriptor)
        self._emit(0)

    def call(self, helper: int) -> None:
        """Call a helper; registers 1 to 5 are gone."""
        self._emit(JUMP | 0x80, value=helper)

    def leave(self, value: int) -> None:
        """Return a value."""
        self.set(0, value)
        self._emit(JUMP | 0x90)

    def label(self, name: str) -> None:
        """Jumps to this name lead here."""
        self._labels[name] = len(self._code)

    def _jump(self, code: int, label: str, target: int, source: int = 0, value: int = 0) -> None:
        self._jumps.append((len(self._code), label))
        self._emit(code, target, source, 0, value)

    def jump_if_equal(self, target: int, value: int, label: str) -> None:
        """Jump when target == value."""
        self._jump(JUMP | 0x10, label, target, value=value)

    def jump_if_not_equal(self, target: int, value: int, label: str) -> None:
        """Jump when target != value."""
        self._jump(JUMP | 0x50, label, target, value=value)

    def jump_if_bits(self, target: int, value: int, label: str) -> None:
        """Jump when target & value."""
        self._jump(JUMP | 0x40, label, target, value=value)

    def jump_if_same(self, target: int, source: int, label: str) -> None:
        """Jump when target == source, both registers."""
        self._jump(JUMP | 0x18, label, target, source)

    def jump_if_greater(self, target: int, source: int, label: str) -> None:
        """Jump when target > source, both registers, unsigned."""
        self._jump(JUMP | 0x28, label, target, source)

    def look_up(self, descriptor: int, stack: int, missing: str) -> None:
        """Register 0 = the element of the map whose key is on the stack there; else jump."""
        self.copy(2, 10)
        self.add(2, stack)
        self.load_map(1, descriptor)
        self.call(CALL_MAP_LOOKUP)
        self.jump_if_equal(0, 0, missing)

    def code(self) -> bytes:
        """Return the instructions, jumps resolved."""
        code = list(self._code)
        for at, label in self._jumps:
            kind, target, source, _, value = code[at]
            code[at] = (kind, target, source, self._labels[label] - at - 1, value)
        return b"".join(
            struct.pack("<BBhi", kind, source << 4 | target, offset, value)
            for kind, target, source, offset, value in code
        )
