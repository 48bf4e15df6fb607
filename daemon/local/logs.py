"""What containers and programs wrote: kept bounded, read and followed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MOST = 16 << 20  # bytes of one log
KEPT = 8 << 20  # of them stay when it is cut
CHUNK = 1 << 16
POLL = 0.1  # seconds


def trim(path: Path, most: int = MOST, kept: int = KEPT) -> bool:
    """Cuts the head off a log that is too long. Its writer appends, so it goes on at the new end; what it writes
    between our read and our cut is lost, which a log may."""
    try:
        if path.stat().st_size <= most:
            return False
        with open(path, "r+b") as file:
            file.seek(-kept, os.SEEK_END)
            tail = file.read(kept)
            file.truncate(0)
            file.seek(0)
            file.write(tail[tail.find(b"\n") + 1 :])
    except FileNotFoundError:
        return False
    return True


def last_lines(path: Path, count: int) -> int:
    """Where the last `count` lines begin."""
    data = path.read_bytes()
    at = len(data.removesuffix(b"\n")) if count else len(data)
    for _ in range(count):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1 if count else at


def read(path: Path, start: int = 0) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(start)
        while data := file.read(CHUNK):
            yield data


def follow(path: Path, lives: Callable[[], bool], start: int = 0) -> Iterator[bytes]:
    """What is there from `start` on and what comes, over restarts (a new file), until `lives` says no."""
    file = open(path, "rb")  # noqa: SIM115  (replaced while we read)
    file.seek(start)
    try:
        while True:
            if data := file.read(CHUNK):
                yield data
                continue
            last = not lives()
            if data := file.read(CHUNK):
                yield data
                continue
            if last:
                return
            file = _newer(file, path)
            time.sleep(POLL)
    finally:
        file.close()


def _newer(file, path: Path):  # type: ignore[no-untyped-def]
    """The file that has the name now; the same one from its start where it was cut."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return file
    mine = os.fstat(file.fileno())
    if (now.st_ino, now.st_dev) != (mine.st_ino, mine.st_dev):
        file.close()
        return open(path, "rb")
    if now.st_size < file.tell():
        file.seek(0)
    return file
