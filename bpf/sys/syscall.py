"""The one system call: bpf(command, attributes, size). In: packed attributes. Out: what the call returned."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

from weft.bpf.abi import ENOTSUPP, Command

#: __NR_bpf by machine: the generic table (arm64, riscv64, loongarch64) has it at 280.
_NUMBER: Final = {"x86_64": 321, "s390x": 351, "ppc64le": 361}.get(platform.machine(), 280)
_TRIES: Final = 10

#: Where the info of a map and of a program has the name, and how much of the info that takes.
_NAME_AT: Final = {"bpf-map": 24, "bpf-prog": 64}
_NAME_SIZE: Final = 16
_NAMED: Final = 80
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


def info(fd: int, size: int, request: bytearray | None = None) -> bytes:
    """What the kernel tells of a map, a program or a link; `request`: with pointers to where it is to write more.
    An older kernel knows fewer fields than `size`: the rest stays zero."""
    room = request or bytearray(size)
    attributes = bytearray(struct.pack("=IIQ", fd, len(room), address(room)))
    result = call(Command.OBJ_GET_INFO_BY_FD, attributes)
    if result < 0:
        raise error(-result, f"info of descriptor {fd}")
    return bytes(room)


def text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode(errors="replace")


def done(result: int, what: str, fd: int = -1) -> int:
    """The result of a call, or its error, with the object's name: only then is that asked for."""
    if result >= 0:
        return result
    raise error(-result, f"{what} {_described(fd)}" if fd >= 0 else what)


def _described(fd: int) -> str:
    try:
        kind = os.readlink(f"/proc/self/fd/{fd}").removeprefix("anon_inode:")
        at = _NAME_AT.get(kind)
        name = text(info(fd, _NAMED)[at : at + _NAME_SIZE]) if at else ""
        return f"{name or kind} (descriptor {fd})"
    except OSError:
        return f"descriptor {fd}"
