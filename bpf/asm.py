"""A few BPF instructions by hand, for programs so small that a compiler is the larger part (probes, tests)."""

from __future__ import annotations

import struct
from typing import Final

#: The context's register when a program starts, and the stack's.
R0, R1, R2, R3, R4, R5, R6, FRAME = 0, 1, 2, 3, 4, 5, 6, 10

EXIT: Final = bytes.fromhex("9500000000000000")


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, to | source << 4, offset, immediate)


def mov(to: int, value: int) -> bytes:
    return _instruction(0xB7, to, immediate=value)


def copy(to: int, source: int) -> bytes:
    return _instruction(0xBF, to, source)


def add(to: int, value: int) -> bytes:
    return _instruction(0x07, to, immediate=value)


def load_map(to: int, fd: int) -> bytes:
    """The map's address: two instructions long."""
    return _instruction(0x18, to, 1, immediate=fd) + _instruction(0)


def load(to: int, source: int, offset: int = 0) -> bytes:
    """64 bits from memory."""
    return _instruction(0x79, to, source, offset)


def load32(to: int, source: int, offset: int = 0) -> bytes:
    return _instruction(0x61, to, source, offset)


def store(to: int, source: int, offset: int = 0) -> bytes:
    """64 bits to memory."""
    return _instruction(0x7B, to, source, offset)


def store_value(to: int, offset: int, value: int) -> bytes:
    """A 64-bit constant to memory."""
    return _instruction(0x7A, to, offset=offset, immediate=value)


def skip_unless_zero(register: int, instructions: int) -> bytes:
    return _instruction(0x55, register, offset=instructions)


def call(helper: int) -> bytes:
    return _instruction(0x85, immediate=helper)


def returning(value: int) -> bytes:
    return mov(R0, value) + EXIT
