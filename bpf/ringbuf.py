"""The consumer's side of a BPF ring buffer, by mmap: no library, no callback, no copy but the record's own.

The kernel shows three things in one file: the consumer's page (ours to write), the producer's page, and the data,
mapped twice in a row so that a record which wraps around the end reads as one piece. Both positions only grow.

Rule: a record is read only when its header's busy bit is clear, and handed back (by moving our position on) only
when it was copied. Loads must keep that order. x86 keeps loads in order, and stores behind loads; other machines
get a barrier by membarrier(2). Positions are 8 bytes and aligned: memoryview reads and writes them in one go.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from typing import Final

from weft.bpf import sys as bpf

BUSY: Final = 1 << 31  # being written: neither it nor anything behind it can be read yet
DISCARD: Final = 1 << 30  # given up by the program
_HEADER: Final = 8
_PAGE: Final = mmap.PAGESIZE
_WORD: Final = 1 << 64


class Ring:
    """One consumer: two would read the same records. Readable (poll, epoll) while there are records."""

    def __init__(self, fd: int, size: int | None = None) -> None:
        """`fd` of a ring buffer's map; it stays the caller's, and must stay open for `fileno` to be polled. `size`:
        of its data in bytes, a power of two; None: the kernel is asked. Raises OSError."""
        self._fd = fd
        self._size = bpf.map_info(fd).max_entries if size is None else size
        self._consumer = mmap.mmap(fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(fd, _PAGE + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        self._read = memoryview(self._consumer).cast("Q")
        self._written = memoryview(self._producer)[:8].cast("Q")
        self._data = memoryview(self._producer)[_PAGE:]
        self._headers = self._data.cast("I")
        self._barrier = Barrier()

    def fileno(self) -> int:
        return self._fd

    @property
    def pending(self) -> int:
        """Bytes, headers included, that wait to be read."""
        return (self._written[0] - self._read[0]) % _WORD

    def drain(self, limit: int = 4096) -> list[bytes]:
        """At most `limit` records, oldest first; none when the oldest is still being written."""
        spans, position = self._ready(limit)
        if position == self._read[0]:
            return []
        self._barrier()
        records = [bytes(self._data[start : start + length]) for start, length in spans]
        self._barrier()
        self._read[0] = position
        return records

    def _ready(self, limit: int) -> tuple[list[tuple[int, int]], int]:
        """Where complete records lie, and the position behind the last of them."""
        spans: list[tuple[int, int]] = []
        position, end = self._read[0], self._written[0]
        self._barrier()
        while position != end and len(spans) < limit:
            offset = position & (self._size - 1)
            header = self._headers[offset >> 2]
            if header & BUSY:
                break
            length = header & ~DISCARD
            if not header & DISCARD:
                spans.append((offset + _HEADER, length))
            position = (position + _HEADER + (length + 7 & ~7)) % _WORD
        return spans, position

    def close(self) -> None:
        for view in (self._headers, self._data, self._written, self._read):
            view.release()
        self._producer.close()
        self._consumer.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Barrier:
    """Orders this thread's loads and stores before it and after it. Nothing to do on x86."""

    _PRIVATE_EXPEDITED: Final = 8
    _REGISTER: Final = 16
    _NUMBER: Final = {"x86_64": 324, "s390x": 356, "ppc64le": 365}.get(platform.machine(), 283)

    def __init__(self, needed: bool = platform.machine() != "x86_64") -> None:
        """Raises OSError on a kernel without membarrier(2), which is older than ring buffers are."""
        self._libc = ctypes.CDLL(None, use_errno=True) if needed else None
        self._membarrier(self._REGISTER)

    def __call__(self) -> None:
        if self._libc:
            self._membarrier(self._PRIVATE_EXPEDITED)

    def _membarrier(self, command: int) -> None:
        if self._libc and self._libc.syscall(ctypes.c_long(self._NUMBER), command, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, "membarrier")
