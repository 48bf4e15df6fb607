"""What maps, programs and links have alike: pins, and ids."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from weft.bpf.abi import Command
from weft.bpf.sys import syscall


def obj_pin(fd: int, path: Path) -> None:
    name = os.fsencode(path) + b"\0"
    syscall.done(
        syscall.call(Command.OBJ_PIN, bytearray(struct.pack("=QII", syscall.address(name), fd, 0))),
        f"pin at {path}",
    )


def obj_get(path: Path) -> int:
    """A descriptor of what is pinned there. Raises FileNotFoundError."""
    name = os.fsencode(path) + b"\0"
    return syscall.done(
        syscall.call(Command.OBJ_GET, bytearray(struct.pack("=QII", syscall.address(name), 0, 0))),
        f"open pin {path}",
    )


def map_ids() -> Iterator[int]:
    return _ids(Command.MAP_GET_NEXT_ID)


def prog_ids() -> Iterator[int]:
    return _ids(Command.PROG_GET_NEXT_ID)


def link_ids() -> Iterator[int]:
    return _ids(Command.LINK_GET_NEXT_ID)


def map_by_id(number: int) -> int:
    return syscall.done(
        syscall.call(Command.MAP_GET_FD_BY_ID, bytearray(struct.pack("=3I", number, 0, 0))), f"open map {number}"
    )


def prog_by_id(number: int) -> int:
    return syscall.done(
        syscall.call(Command.PROG_GET_FD_BY_ID, bytearray(struct.pack("=3I", number, 0, 0))),
        f"open program {number}",
    )


def link_by_id(number: int) -> int:
    return syscall.done(
        syscall.call(Command.LINK_GET_FD_BY_ID, bytearray(struct.pack("=3I", number, 0, 0))), f"open link {number}"
    )


def _ids(command: Command) -> Iterator[int]:
    number = 0
    while True:
        attributes = bytearray(struct.pack("=3I", number, 0, 0))
        result = syscall.call(command, attributes)
        if result == -errno.ENOENT:
            return
        syscall.done(result, f"walk ids ({command.name.lower()})")
        (number,) = struct.unpack_from("=I", attributes, 4)
        yield number
