"""Maps: create, read, write and walk, one entry at a time or in batches."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from weft.bpf.abi import ANY, ENOTSUPP, NAME_LENGTH, Command, MapKind
from weft.bpf.sys import syscall

_INFO_SIZE = 88


@dataclass(frozen=True, slots=True)
class MapInfo:
    kind: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


def map_create(
    kind: MapKind,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    name: str = "",
    inner: int = 0,
) -> int:
    """A new map's descriptor. `inner`: for a map of maps, the descriptor of one that is like its future values."""
    attributes = bytearray(
        struct.pack(
            "=7I16s5IQ",
            *(kind, key_size, value_size, max_entries, flags, inner, 0),
            *(name[:NAME_LENGTH].encode(), 0, 0, 0, 0, 0, 0),
        )
    )
    return syscall.done(syscall.call(Command.MAP_CREATE, attributes), f"create {kind.name.lower()} map {name}")


def map_lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value, `size` bytes (a per-CPU map: every CPU's, each rounded up to 8), or None."""
    value = bytearray(size)
    result = syscall.call(Command.MAP_LOOKUP_ELEM, _element(fd, key, value))
    if result == -errno.ENOENT:
        return None
    syscall.done(result, "look up in", fd)
    return bytes(value)


def map_update(fd: int, key: bytes, value: bytes, flags: int = ANY) -> None:
    syscall.done(syscall.call(Command.MAP_UPDATE_ELEM, _element(fd, key, value, flags)), "write to", fd)


def map_delete(fd: int, key: bytes) -> bool:
    """False: there was none."""
    result = syscall.call(Command.MAP_DELETE_ELEM, _element(fd, key, None))
    if result == -errno.ENOENT:
        return False
    syscall.done(result, "delete from", fd)
    return True


def map_next_key(fd: int, key: bytes | None, size: int) -> bytes | None:
    """The key after `key`; the first one for None, and for a key that has vanished meanwhile."""
    following = bytearray(size)
    result = syscall.call(Command.MAP_GET_NEXT_KEY, _element(fd, key, following))
    if result == -errno.ENOENT:
        return None
    syscall.done(result, "walk", fd)
    return bytes(following)


def map_lookup_batch(
    fd: int, key_size: int, value_size: int, chunk: int = 4096
) -> Iterator[tuple[bytes, bytes, int]]:
    """(keys, values, how many) until the end. Entries written meanwhile may be missed or come twice, no others.

    Raises OSError with errno ENOTSUPP (524) where the kind of map has no batches in this kernel.
    """
    cursor, started = bytearray(max(key_size, 8)), False
    while True:
        keys, values, following = bytearray(key_size * chunk), bytearray(value_size * chunk), bytearray(len(cursor))
        attributes = _batch(fd, cursor if started else None, following, keys, values, chunk)
        result = syscall.call(Command.MAP_LOOKUP_BATCH, attributes)
        if result == -errno.ENOSPC:  # one bucket of the hash holds more than a chunk
            chunk *= 2
            continue
        if result < 0 and result != -errno.ENOENT:
            syscall.done(result, "read a batch from", fd)
        count = _batch_count(attributes)
        if count:
            yield bytes(keys[: count * key_size]), bytes(values[: count * value_size]), count
        if result == -errno.ENOENT:
            return
        cursor, started = following, True


def map_update_batch(fd: int, keys: bytes | bytearray, values: bytes | bytearray, count: int) -> None:
    """Writes `count` entries in order. Raises OSError: some first part of them may be written."""
    attributes = _batch(fd, None, None, keys, values, count)
    result = syscall.call(Command.MAP_UPDATE_BATCH, attributes) if count else 0
    if result == -ENOTSUPP:
        key_size, value_size = len(keys) // count, len(values) // count
        for at in range(count):
            key = bytes(keys[at * key_size : (at + 1) * key_size])
            map_update(fd, key, bytes(values[at * value_size : (at + 1) * value_size]))
        return
    syscall.done(result, f"write {count} entries, failed after {_batch_count(attributes)}, to", fd)


def map_delete_batch(fd: int, keys: bytes | bytearray, count: int) -> None:
    """Deletes those of `keys` that are there."""
    done, size = 0, len(keys) // count if count else 0
    while done < count:
        rest = keys[done * size :]
        attributes = _batch(fd, None, None, rest, None, count - done)
        result = syscall.call(Command.MAP_DELETE_BATCH, attributes)
        if result == 0:
            return
        if result == -errno.ENOENT:  # the one after those counted is not there: go on behind it
            done += _batch_count(attributes) + 1
        elif result == -ENOTSUPP:
            for at in range(count):
                map_delete(fd, bytes(keys[at * size : (at + 1) * size]))
            return
        else:
            syscall.done(result, "delete a batch from", fd)


def map_info(fd: int) -> MapInfo:
    kind, number, key, value, entries, flags, name = struct.unpack_from("=6I16s", syscall.info(fd, _INFO_SIZE))
    return MapInfo(kind, number, key, value, entries, flags, syscall.text(name))


def _element(fd: int, key: bytes | None, value: bytes | bytearray | None, flags: int = 0) -> bytearray:
    return bytearray(struct.pack("=I4xQQQ", fd, syscall.address(key), syscall.address(value), flags))


def _batch(
    fd: int,
    cursor: bytearray | None,
    following: bytearray | None,
    keys: bytes | bytearray,
    values: bytes | bytearray | None,
    count: int,
) -> bytearray:
    parts = (
        syscall.address(cursor),
        syscall.address(following),
        syscall.address(keys),
        syscall.address(values),
        count,
        fd,
        0,
        0,
    )
    return bytearray(struct.pack("=4QIIQQ", *parts))


def _batch_count(attributes: bytearray) -> int:
    return int(struct.unpack_from("=I", attributes, 32)[0])
