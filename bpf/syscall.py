"""The one system call: bpf(command, attributes, size). In: packed attributes. Out: what the call returned."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from typing import Final

from weft.bpf.abi import ENOTSUPP, Command

#: __NR_bpf by machine: the generic table (arm64, riscv64, loongarch64) has it at 280.
_NUMBER: Final = {"x86_64": 321, "s390x": 351, "ppc64le": 361}.get(platform.machine(), 280)
_TRIES: Final = 10
_libc: Final = ctypes.CDLL(None, use_errno=True)


def address(buffer: bytes | bytearray | None) -> int:
    """Where the bytes are, for an attribute. The caller keeps the buffer alive until the call is done, and hands
    in a bytearray where the kernel writes. None and empty: 0, the kernel's "not given"."""
    if not buffer:
        return 0
    if isinstance(buffer, bytearray):
        return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0


def call(command: Command, attributes: bytearray) -> int:
    """What the kernel answers; it may write into `attributes`. Negative: minus errno.

    A signal while the verifier ran (EAGAIN), or a table that changed under a walk (EINTR): tried again.
    """
    where = ctypes.addressof(ctypes.c_char.from_buffer(attributes))
    number = 0
    for _ in range(_TRIES):
        result: int = _libc.syscall(
            ctypes.c_long(_NUMBER), ctypes.c_long(command), ctypes.c_void_p(where), ctypes.c_ulong(len(attributes))
        )
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number not in (errno.EINTR, errno.EAGAIN):
            break
    return -number


def error(number: int, what: str) -> OSError:
    """An OSError (of the subclass that the number has: FileNotFoundError...) which says what was attempted."""
    reason = "not supported by this kernel" if number == ENOTSUPP else os.strerror(number)
    return OSError(number, f"bpf: {what}: {reason}")
