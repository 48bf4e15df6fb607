"""bpf(2) without a compiler or a library: maps, programs, links and pins as calls on descriptors and bytes.

In: descriptors, bytes in the kernel's layout. Out: the same, or OSError whose message names the operation and the
object. Nothing here knows what Weft's maps mean: that is `maps`. Descriptors are the caller's to close; the kernel
makes every one of them close-on-exec. Not finding a key is an answer (None, False), not an error.

Capabilities: creating maps, opening pins, reading, writing and info need CAP_BPF; loading and attaching networking
programs and running them on packets CAP_NET_ADMIN as well; walking ids and opening by id CAP_SYS_ADMIN.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from weft.bpf.abi import ANY, ENOTSUPP, NAME_LENGTH, Command, MapKind, ProgKind
from weft.bpf.syscall import address, call, error


@dataclass(frozen=True, slots=True)
class MapInfo:
    kind: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


@dataclass(frozen=True, slots=True)
class ProgInfo:
    """`tag`: hash of the instructions, hex. `verified`: instructions that the verifier walked. `maps`: ids."""

    kind: int
    id: int
    tag: str
    name: str
    verified: int
    run_count: int
    run_ns: int
    maps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """`target`: interface index of a tcx link (0: the interface is gone), cgroup id of a cgroup link."""

    kind: int
    id: int
    prog_id: int
    target: int
    attach_type: int


class VerifierError(OSError):
    """The kernel refused a program. `log`: what the verifier said, last lines last."""

    def __init__(self, number: int, name: str, log: str) -> None:
        tail = "\n".join(line[:200] for line in log.strip().splitlines()[-12:])
        super().__init__(number, f"bpf: load program {name}: {os.strerror(number)}\n{tail}".rstrip())
        self.log = log


# maps


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
    return _done(call(Command.MAP_CREATE, attributes), f"create {kind.name.lower()} map {name}")


def map_lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value, `size` bytes (a per-CPU map: every CPU's, each rounded up to 8), or None."""
    value = bytearray(size)
    result = call(Command.MAP_LOOKUP_ELEM, _element(fd, key, value))
    if result == -errno.ENOENT:
        return None
    _done(result, "look up in", fd)
    return bytes(value)


def map_update(fd: int, key: bytes, value: bytes, flags: int = ANY) -> None:
    _done(call(Command.MAP_UPDATE_ELEM, _element(fd, key, value, flags)), "write to", fd)


def map_delete(fd: int, key: bytes) -> bool:
    """False: there was none."""
    result = call(Command.MAP_DELETE_ELEM, _element(fd, key, None))
    if result == -errno.ENOENT:
        return False
    _done(result, "delete from", fd)
    return True


def map_next_key(fd: int, key: bytes | None, size: int) -> bytes | None:
    """The key after `key`; the first one for None, and for a key that has vanished meanwhile."""
    following = bytearray(size)
    result = call(Command.MAP_GET_NEXT_KEY, _element(fd, key, following))
    if result == -errno.ENOENT:
        return None
    _done(result, "walk", fd)
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
        result = call(Command.MAP_LOOKUP_BATCH, attributes)
        if result == -errno.ENOSPC:  # one bucket of the hash holds more than a chunk
            chunk *= 2
            continue
        if result < 0 and result != -errno.ENOENT:
            _done(result, "read a batch from", fd)
        count = _batch_count(attributes)
        if count:
            yield bytes(keys[: count * key_size]), bytes(values[: count * value_size]), count
        if result == -errno.ENOENT:
            return
        cursor, started = following, True


def map_update_batch(fd: int, keys: bytes | bytearray, values: bytes | bytearray, count: int) -> None:
    """Writes `count` entries in order. Raises OSError: some first part of them may be written."""
    attributes = _batch(fd, None, None, keys, values, count)
    result = call(Command.MAP_UPDATE_BATCH, attributes) if count else 0
    if result == -ENOTSUPP:
        key_size, value_size = len(keys) // count, len(values) // count
        for at in range(count):
            key = bytes(keys[at * key_size : (at + 1) * key_size])
            map_update(fd, key, bytes(values[at * value_size : (at + 1) * value_size]))
        return
    _done(result, f"write {count} entries, failed after {_batch_count(attributes)}, to", fd)


def map_delete_batch(fd: int, keys: bytes | bytearray, count: int) -> None:
    """Deletes those of `keys` that are there."""
    done, size = 0, len(keys) // count if count else 0
    while done < count:
        rest = keys[done * size :]
        attributes = _batch(fd, None, None, rest, None, count - done)
        result = call(Command.MAP_DELETE_BATCH, attributes)
        if result == 0:
            return
        if result == -errno.ENOENT:  # the one after those counted is not there: go on behind it
            done += _batch_count(attributes) + 1
        elif result == -ENOTSUPP:
            for at in range(count):
                map_delete(fd, bytes(keys[at * size : (at + 1) * size]))
            return
        else:
            _done(result, "delete a batch from", fd)


# programs


def prog_load(
    kind: ProgKind, instructions: bytes, *, name: str = "", attach: int = 0, license: str = "Dual BSD/GPL"
) -> int:
    """A loaded program's descriptor. Raises VerifierError; the log is only made when the kernel refused."""
    terms = license.encode() + b"\0"
    result, _ = _load(kind, instructions, terms, name, attach, log_size=0)
    if result >= 0:
        return result
    again, log = _load(kind, instructions, terms, name, attach, log_size=1 << 24)
    if again >= 0:  # refused for a reason that has passed, such as memory
        return again
    raise VerifierError(-result, name, log)


def _load(
    kind: ProgKind, instructions: bytes, terms: bytes, name: str, attach: int, log_size: int
) -> tuple[int, str]:
    log = bytearray(log_size)
    attributes = bytearray(
        struct.pack(
            "=IIQQIIQII16sII",
            *(kind, len(instructions) // 8, address(instructions), address(terms)),
            *(1 if log_size else 0, log_size, address(log), 0, 0),
            *(name[:NAME_LENGTH].encode(), 0, attach),
        )
    )
    return call(Command.PROG_LOAD, attributes), bytes(log).split(b"\0", 1)[0].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class TestRun:
    """`verdict`: what the program returned. `ns`: mean duration of one run."""

    __test__ = False  # not a test, whatever pytest makes of the name
    verdict: int
    data: bytes
    context: bytes
    ns: int


def prog_test_run(fd: int, data: bytes, *, context: bytes = b"", repeat: int = 1, room: int = 256) -> TestRun:
    """Runs the program on a packet, in the caller's network namespace. `room`: by how much the packet may grow."""
    out, context_out = bytearray(len(data) + room), bytearray(len(context))
    attributes = bytearray(
        struct.pack(
            "=4IQQ4IQQ3I4x",
            *(fd, 0, len(data), len(out), address(data), address(out), repeat, 0),
            *(len(context), len(context_out), address(context), address(context_out), 0, 0, 0),
        )
    )
    _done(call(Command.PROG_TEST_RUN, attributes), "test run of program", fd)
    _, verdict, _, size, _, _, _, ns = struct.unpack_from("=4IQQ2I", attributes)
    return TestRun(verdict, bytes(out[:size]), bytes(context_out), ns)


def prog_attach(prog_fd: int, target_fd: int, attach_type: int, flags: int = 0) -> None:
    """The way without links: what is attached so outlives every process, until it is detached."""
    _done(call(Command.PROG_ATTACH, _attach(target_fd, prog_fd, attach_type, flags)), "attach program", prog_fd)


def prog_detach(prog_fd: int, target_fd: int, attach_type: int) -> None:
    _done(call(Command.PROG_DETACH, _attach(target_fd, prog_fd, attach_type, 0)), "detach program", prog_fd)


# links


def link_create(prog_fd: int, target: int, attach_type: int, flags: int = 0) -> int:
    """`target`: interface index for tcx, descriptor of the directory for a cgroup."""
    attributes = bytearray(struct.pack("=4I32x", prog_fd, target, attach_type, flags))
    return _done(
        call(Command.LINK_CREATE, attributes), f"link (attach type {attach_type}, target {target}) program", prog_fd
    )


def link_update(link_fd: int, prog_fd: int) -> None:
    """The link runs the other program from the next packet on; there is no moment without one."""
    _done(call(Command.LINK_UPDATE, bytearray(struct.pack("=4I", link_fd, prog_fd, 0, 0))), "update link", link_fd)


def link_detach(link_fd: int) -> None:
    _done(call(Command.LINK_DETACH, bytearray(struct.pack("=I", link_fd))), "detach link", link_fd)


# pins


def obj_pin(fd: int, path: Path) -> None:
    name = os.fsencode(path) + b"\0"
    _done(call(Command.OBJ_PIN, bytearray(struct.pack("=QII", address(name), fd, 0))), f"pin at {path}")


def obj_get(path: Path) -> int:
    """A descriptor of what is pinned there. Raises FileNotFoundError."""
    name = os.fsencode(path) + b"\0"
    return _done(call(Command.OBJ_GET, bytearray(struct.pack("=QII", address(name), 0, 0))), f"open pin {path}")


# what there is


def map_info(fd: int) -> MapInfo:
    kind, number, key, value, entries, flags, name = struct.unpack_from("=6I16s", _info(fd, 88))
    return MapInfo(kind, number, key, value, entries, flags, _text(name))


def prog_info(fd: int) -> ProgInfo:
    raw = _info(fd, 232)
    kind, number, tag = struct.unpack_from("=II8s", raw)
    (maps,) = struct.unpack_from("=I", raw, 52)
    ids = bytearray(4 * maps)
    if maps:
        request = bytearray(232)
        struct.pack_into("=IQ", request, 52, maps, address(ids))
        _info(fd, 232, request)
    run_ns, runs, _, verified = struct.unpack_from("=QQQI", raw, 192)
    name = _text(raw[64:80])
    return ProgInfo(kind, number, tag.hex(), name, verified, runs, run_ns, struct.unpack(f"={maps}I", ids))


def link_info(fd: int) -> LinkInfo:
    raw = _info(fd, 64)
    kind, number, program = struct.unpack_from("=3I", raw)
    target, attach_type = struct.unpack_from("=II" if kind == 11 else "=QI", raw, 16)
    return LinkInfo(kind, number, program, target, attach_type)


def map_ids() -> Iterator[int]:
    return _ids(Command.MAP_GET_NEXT_ID)


def prog_ids() -> Iterator[int]:
    return _ids(Command.PROG_GET_NEXT_ID)


def link_ids() -> Iterator[int]:
    return _ids(Command.LINK_GET_NEXT_ID)


def map_by_id(number: int) -> int:
    return _done(call(Command.MAP_GET_FD_BY_ID, bytearray(struct.pack("=3I", number, 0, 0))), f"open map {number}")


def prog_by_id(number: int) -> int:
    return _done(
        call(Command.PROG_GET_FD_BY_ID, bytearray(struct.pack("=3I", number, 0, 0))), f"open program {number}"
    )


def link_by_id(number: int) -> int:
    return _done(
        call(Command.LINK_GET_FD_BY_ID, bytearray(struct.pack("=3I", number, 0, 0))), f"open link {number}"
    )


# attributes


def _element(fd: int, key: bytes | None, value: bytes | bytearray | None, flags: int = 0) -> bytearray:
    return bytearray(struct.pack("=I4xQQQ", fd, address(key), address(value), flags))


def _batch(
    fd: int,
    cursor: bytearray | None,
    following: bytearray | None,
    keys: bytes | bytearray,
    values: bytes | bytearray | None,
    count: int,
) -> bytearray:
    parts = (address(cursor), address(following), address(keys), address(values), count, fd, 0, 0)
    return bytearray(struct.pack("=4QIIQQ", *parts))


def _batch_count(attributes: bytearray) -> int:
    return int(struct.unpack_from("=I", attributes, 32)[0])


def _attach(target_fd: int, prog_fd: int, attach_type: int, flags: int) -> bytearray:
    return bytearray(struct.pack("=5I", target_fd, prog_fd, attach_type, flags, 0))


def _info(fd: int, size: int, request: bytearray | None = None) -> bytes:
    """An older kernel knows fewer fields than `size`: the rest stays zero."""
    room = request or bytearray(size)
    attributes = bytearray(struct.pack("=IIQ", fd, len(room), address(room)))
    result = call(Command.OBJ_GET_INFO_BY_FD, attributes)
    if result < 0:
        raise error(-result, f"info of descriptor {fd}")
    return bytes(room)


def _ids(command: Command) -> Iterator[int]:
    number = 0
    while True:
        attributes = bytearray(struct.pack("=3I", number, 0, 0))
        result = call(command, attributes)
        if result == -errno.ENOENT:
            return
        _done(result, f"walk ids ({command.name.lower()})")
        (number,) = struct.unpack_from("=I", attributes, 4)
        yield number


def _text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode(errors="replace")


def _done(result: int, what: str, fd: int = -1) -> int:
    """The result, or the error with the object's name, which only then is asked for."""
    if result >= 0:
        return result
    raise error(-result, f"{what} {_described(fd)}" if fd >= 0 else what)


def _described(fd: int) -> str:
    """Every info starts with type and id; maps have their name at 24, programs at 64."""
    try:
        link = os.readlink(f"/proc/self/fd/{fd}")
        info = map_info(fd).name if "bpf-map" in link else prog_info(fd).name if "bpf-prog" in link else ""
        return f"{info or link} (descriptor {fd})"
    except OSError:
        return f"descriptor {fd}"
