"""A folder of manifests as it is on the disk: which files changed since the last look, and what they say.

Level, not edge: a sweep looks at every file, so a lost notification costs time and never truth. What counts is
regular files ending in .yaml, .yml or .json, links to them included; hidden ones and whatever else editors leave
behind are not looked at. A folder or file that cannot be read keeps what it had and is a problem.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from weft.operator.declared import Notice
from weft.policies.errors import Invalid, Where
from weft.policies.yamldoc import MAX_BYTES

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILES = 10_000
MAX_DEPTH = 16
#: Seconds. A file changed so recently may change again without its times showing it (they tick every 4 ms or so).
RACY = 0.1

Signature = tuple[int, int, int, int, int]


@dataclass(slots=True)
class Sweep:
    """`changed`: path -> text, or why there is none. `racy`: look again soon, whatever is notified."""

    changed: dict[str, str | Invalid] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    racy: bool = False


@dataclass(slots=True)
class _Seen:
    signature: Signature
    content: bytes | str  # of the last look: its hash, or the reason why it could not be read


class Folder:
    """`sweep` blocks: for a thread, one at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notices: tuple[Notice, ...] = ()
        self._seen: dict[str, _Seen] = {}

    def expect(self, files: set[str]) -> None:
        """Files that declared something in an earlier life; if they are gone, that is to be noticed."""
        for file in files:
            self._seen.setdefault(file, _Seen((0, 0, 0, 0, 0), b""))

    def identity(self) -> tuple[int, int] | None:
        """Changes when the folder is removed and made again. None: there is none."""
        try:
            status = self.root.stat()
        except OSError:
            return None
        return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None

    def sweep(self) -> Sweep:
        """A root that is gone says nothing about its files: an unmounted disk lifts no policy."""
        walk = _Walk(self.root)
        found = dict(walk.files()) if self.identity() else {}
        if self.identity() is None:
            self.notices = (_notice(self.root, "the folder is gone; what it declared stays in force"),)
            return Sweep()
        self.notices = tuple(walk.notices)
        sweep = Sweep(gone=[path for path in self._seen if path not in found and not walk.unsure_of(path)])
        for path in sweep.gone:
            del self._seen[path]
        now = time.time()
        for path, status in found.items():
            self._look(sweep, path, status, now)
        return sweep

    def _look(self, sweep: Sweep, path: str, status: os.stat_result, now: float) -> None:
        signature = _signature(status)
        racy = now - RACY < max(status.st_mtime, status.st_ctime) < now + RACY
        sweep.racy = sweep.racy or racy
        seen = self._seen.get(path)
        if seen and seen.signature == signature and not racy:
            return
        text = _read(path)
        content = str(text) if isinstance(text, Invalid) else _digest(text)
        if seen is None or seen.content != content:
            sweep.changed[path] = text
        self._seen[path] = _Seen(signature, content)


class _Walk:
    """One walk through a tree: files by path, and what could not be looked at."""

    def __init__(self, root: Path) -> None:
        self.notices: list[Notice] = []
        self._root = root
        self._unread: list[str] = []
        self._visited: set[tuple[int, int]] = set()
        self._count = 0

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        yield from self._walk(str(self._root), 0)

    def unsure_of(self, path: str) -> bool:
        return any(path.startswith(folder) for folder in self._unread)

    def _walk(self, folder: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in self._visited:
                return  # a link that leads back
            self._visited.add((status.st_dev, status.st_ino))
            names = sorted(os.listdir(folder)) if depth < MAX_DEPTH else self._give_up(folder, "nested too deeply")
        except OSError as error:
            self._give_up(folder, error.strerror or "unreadable")
            return
        for name in names:
            if not name.startswith("."):
                yield from self._entry(f"{folder}/{name}", depth)

    def _entry(self, path: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return  # gone meanwhile, or a link to nowhere
        except OSError as error:
            self._give_up(path, error.strerror or "unreadable")
            return
        if stat.S_ISDIR(status.st_mode):
            yield from self._walk(path, depth + 1)
        elif stat.S_ISREG(status.st_mode) and path.endswith(SUFFIXES):
            self._count += 1
            if self._count <= MAX_FILES:
                yield path, status
            elif self._count == MAX_FILES + 1:
                self._give_up(str(self._root), f"more than {MAX_FILES} files; the rest is not read")

    def _give_up(self, path: str, reason: str) -> list[str]:
        self._unread.append(path)
        self.notices.append(_notice(Path(path), reason))
        return []


def _read(path: str) -> str | Invalid:
    """The text, or why there is none. Never waits: the path may have become a pipe since it was looked at."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return Invalid(Where(path), f"cannot be read: {error.strerror}")
    if len(data) > MAX_BYTES:
        return Invalid(Where(path), f"larger than {MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Invalid(Where(path, line), f"is not UTF-8: byte 0x{data[error.start]:02x}")


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _notice(path: Path, reason: str) -> Notice:
    return Notice(Where(str(path)), reason)
