"""Counters that all workers of a node's proxy see, and later the programs: an array map, mapped into each of them.

One row for each key (client workload, destination, endpoint), any of which may be "". A row is a key of 16 bytes
and, for each counter, one cell for each column: a worker writes in its own column alone, and who reads takes the
sum. So there is one writer for each cell, and no atomic operation is needed. What workers must agree on, which
row is whose, changes rarely and under a lock (on a file beside the pin). A column is a lease on a byte of that
file: the kernel gives it back when its process dies, and who takes it over clears it first.

When no map is handed in (tests, one worker without rights), `Private` keeps the same counters in plain lists. A
full map costs nothing but sight: keys beyond it are counted privately, and `refused` says how many.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from weft.bpf import sys as bpf
from weft.bpf.abi import MapKind

ACTIVE: Final = 0  # requests
CONNECTIONS: Final = 1
PENDING: Final = 2  # requests that wait for a connection
RETRIES: Final = 3
EJECTED: Final = (
    4  # milliseconds of CLOCK_MONOTONIC until which an endpoint is ejected: who reads takes the greatest
)
COUNTERS: Final = 5
_HELD: Final = 5  # by how many views of a worker: a row that nobody holds may serve another key

COLUMNS: Final = 8  # workers at once, those that drain included; a cache line for each counter
ROW: Final = 16 + (_HELD + 1) * COLUMNS * 8
ROWS: Final = 16384  # 6.5 MB: 160 client workloads with 100 destinations each
F_MMAPABLE: Final = 1 << 10

_WORDS: Final = ROW // 8
#: Rows that are looked at for one key: of a map that is nine tenths full, one key in 1,000 finds no place.
_PROBES: Final = 64
#: Bytes of the lock file: one for each column, and one for the keys.
_KEYS: Final = COLUMNS


class Row:
    """`mine`: this worker's cells, by counter. Write there what you counted, and nowhere else."""

    __slots__ = ("_cells", "_columns", "index", "mine")

    def __init__(self, cells: Any, columns: int = 1, column: int = 0, index: int = -1) -> None:
        self._cells, self._columns, self.index = cells, columns, index
        self.mine: Any = cells if columns == 1 else cells[column::columns]

    def total(self, counter: int) -> int:
        start = counter * self._columns
        return sum(self._cells[start : start + self._columns])

    def greatest(self, counter: int) -> int:
        start = counter * self._columns
        return int(max(self._cells[start : start + self._columns]))


class Rows(Protocol):
    """`alone`: no other worker counts, so that what you counted is the sum."""

    alone: bool
    refused: int

    def row(self, client: str, destination: str, endpoint: str) -> Row: ...
    def release(self, row: Row) -> None: ...
    def look_around(self) -> None:
        """About once a second: whether there are other workers, and what dead ones left."""


class Private:
    """Counters of one process."""

    def __init__(self) -> None:
        self.alone, self.refused = True, 0

    def row(self, client: str, destination: str, endpoint: str) -> Row:
        return Row([0] * COUNTERS)

    def release(self, row: Row) -> None:
        pass

    def look_around(self) -> None:
        pass


def create(rows: int = ROWS) -> int:
    """A new map's descriptor; pin it (`sys.obj_pin`) or hand it on. Needs CAP_BPF. Raises OSError."""
    return bpf.map_create(MapKind.ARRAY, 4, ROW, rows, flags=F_MMAPABLE, name="proxy_counters")


def pinned(path: Path) -> int:
    """The descriptor of the map that is pinned there; it is made where it is missing. Raises OSError."""
    try:
        return bpf.obj_get(path)
    except FileNotFoundError:
        fd = create()
    try:
        bpf.obj_pin(fd, path)
    except FileExistsError:  # another worker was faster
        os.close(fd)
        return bpf.obj_get(path)
    except OSError:
        os.close(fd)
        raise
    return fd


class OtherShape(Exception):
    """What was handed in is no map of this release's layout."""


class NoColumn(Exception):
    """As many workers are alive as there are columns."""


class Shared:
    """One worker's view. `fd`: of the map, may be closed afterwards. `lock`: a file of the node's own, the same for
    all workers; made when it is missing. Raises OtherShape, NoColumn, OSError."""

    def __init__(self, fd: int, lock: Path) -> None:
        info = bpf.map_info(fd)
        if (info.kind, info.key_size, info.value_size) != (MapKind.ARRAY, 4, ROW) or not info.flags & F_MMAPABLE:
            raise OtherShape(f"map {info.name}: kind {info.kind}, {info.value_size}-byte values; layout has {ROW}")
        self.rows, self.refused = info.max_entries, 0
        self._held: dict[int, int] = {}  # row -> how often
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._map = mmap.mmap(fd, _pages(self.rows * ROW), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            self._words: Any = memoryview(self._map).cast("Q")
            self.column = self._lease()
        except BaseException:
            os.close(self._lock)
            raise
        self._neighbours: set[int] = set()
        self.alone = True
        self.look_around()

    def row(self, client: str, destination: str, endpoint: str) -> Row:
        text = "\0".join((client, destination, endpoint))
        key = struct.unpack("=2Q", hashlib.blake2b(text.encode(), digest_size=16).digest())
        with self._locked(_KEYS):
            index = self._place(key)
            if index is None:
                self.refused += 1
                return Row([0] * COUNTERS)
            self._held[index] = self._held.get(index, 0) + 1
            base = index * _WORDS
            self._words[base], self._words[base + 1] = key
            row = Row(self._words[base + 2 : base + _WORDS], COLUMNS, self.column, index)
            row.mine[_HELD] = self._held[index]
        return row

    def release(self, row: Row) -> None:
        if row.index < 0:
            return
        left = self._held.pop(row.index) - 1
        if left:
            self._held[row.index] = row.mine[_HELD] = left
            return
        for counter in range(COUNTERS + 1):
            row.mine[counter] = 0

    def look_around(self) -> None:
        now = {column for column in range(COLUMNS) if column != self.column and self._taken(column)}
        for column in self._neighbours - now:
            self._bury(column)
        self._neighbours, self.alone = now, not now

    def close(self) -> None:
        """Views of rows stay readable; nothing is counted any more."""
        self._clear(self.column)
        os.close(self._lock)

    def _place(self, key: tuple[int, ...]) -> int | None:
        """The key's row, else the first one on its way that nobody holds."""
        free = None
        for step in range(min(_PROBES, self.rows)):
            index = (key[0] + step) % self.rows
            base = index * _WORDS
            found = (self._words[base], self._words[base + 1])
            if found == key:
                return index
            if free is None and not any(self._words[base + _WORDS - COLUMNS : base + _WORDS]):
                free = index
            if found == (0, 0):
                break  # never used: the key is nowhere behind it
        return free

    # columns

    def _lease(self) -> int:
        for column in range(COLUMNS):
            if self._try(column):
                self._clear(column)
                return column
        raise NoColumn(f"{COLUMNS} workers of this node are alive already")

    def _bury(self, column: int) -> None:
        """What a worker that died had counted; not if its successor has the column already."""
        if self._try(column):
            self._clear(column)
            _record_lock(self._lock, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, column)

    def _clear(self, column: int) -> None:
        nothing = memoryview(array("Q", bytes(8 * self.rows)))
        for counter in range(COUNTERS + 1):
            start = 2 + counter * COLUMNS + column
            self._words[start : self.rows * _WORDS : _WORDS] = nothing

    def _try(self, column: int) -> bool:
        try:
            _record_lock(self._lock, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, column)
        except BlockingIOError:
            return False
        return True

    def _taken(self, column: int) -> bool:
        return _record_lock(self._lock, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, column) != fcntl.F_UNLCK

    @contextlib.contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        _record_lock(self._lock, fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, byte)
        try:
            yield
        finally:
            _record_lock(self._lock, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, byte)


def _record_lock(fd: int, command: int, kind: int, byte: int) -> int:
    """struct flock. Locks of the open file description: two views in one process exclude each other, too."""
    answer = fcntl.fcntl(fd, command, struct.pack("hhqqi0q", kind, os.SEEK_SET, byte, 1, 0))
    return int(struct.unpack("hhqqi0q", answer)[0])


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
