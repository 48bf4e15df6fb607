"""Pins that appear whole: the file system of pins, its lock, and renaming over what was there."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from weft.bpf import sys as bpf

BPFFS: Final = Path("/sys/fs/bpf")
_MAGIC: Final = 0xCAFE4A11  # BPF_FS_MAGIC
_TEMPORARY: Final = "new_"  # no dot: the file system refuses names with one


def ensure_bpffs(root: Path = BPFFS) -> None:
    """Mounts the file system of pins at `root` if nothing did. Needs CAP_SYS_ADMIN only then."""
    if _is_bpffs(root):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(root), b"bpf", ctypes.c_ulong(0), b"mode=0700") != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount the bpf file system at {root}: {os.strerror(number)}")


def _is_bpffs(root: Path) -> bool:
    libc, room = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(256)  # struct statfs is 120 bytes
    return libc.statfs(os.fsencode(root), room) == 0 and int.from_bytes(room.raw[:4], "little") == _MAGIC


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One loader at a time works in a pin directory; it is made if it is not there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def publish(folder: Path, descriptors: Mapping[str, int]) -> None:
    """Pins each descriptor under its name, over what is pinned there, or none of them.

    Two steps, because the first one can fail (no memory, a name that is taken): all are pinned under temporary
    names, then renamed. Whoever opens a name finds the old object or the new one.
    """
    made: list[Path] = []
    try:
        for name, fd in descriptors.items():
            path = folder / f"{_TEMPORARY}{name}"
            path.unlink(missing_ok=True)  # of a loader that was killed here
            bpf.obj_pin(fd, path)
            made.append(path)
        for path in made:
            path.rename(folder / path.name.removeprefix(_TEMPORARY))
    finally:
        for path in made:
            path.unlink(missing_ok=True)
