"""Files that survive: replaced whole or not at all, and forced to disk behind the back of whoever wrote them.

`write` returns when a killed process loses nothing (the page cache has it); `sync`, run in a thread, when a
power cut loses nothing. Both raise OSError, which the callers show as a problem: a full disk stops no policy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TEMPORARY = ".tmp"


def write(path: Path, data: bytes) -> None:
    """What people declare may hold secrets: for the owner's eyes only."""
    temporary = path.with_name(path.name + TEMPORARY)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
    except OSError:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)
        raise
    os.close(descriptor)
    temporary.replace(path)


def write_all(descriptor: int, data: bytes) -> None:
    """A nearly full disk takes a part and refuses the rest."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(paths: Iterable[Path]) -> None:
    """The files, then the folders that name them. A file that is gone again needs nothing but its folder."""
    folders = set()
    for path in paths:
        folders.add(path.parent)
        _fsync(path)
    for folder in folders:
        _fsync(folder)


def _fsync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
