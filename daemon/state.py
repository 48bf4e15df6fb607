"""The last snapshot on disk, so that a daemon that starts needs nobody to know its policy.

A file of records, each a serialized control.v1.Update with its length and checksum: a full one first, then the
differences as they came. A difference is appended before it is put in force (a few kilobytes, no matter how
large the cluster is), so what is on disk is never behind what the kernel holds; when they outweigh the full one
the file is written anew, beside the old one, and takes its name when it is safely on disk.

Rules: a record that is cut off or does not check out ends the file, and that is told. An old snapshot would put
revoked policy back in force at the next start, none leaves the kernel as it is: so a file that cannot be kept
current is removed, and one that ends before the snapshot that the kernel is marked with (`digest`) is not used.
Nothing here raises: what failed is counted and shown.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from weft.policies.delta import OutOfOrder, Update, apply
from weft.policies.snapshot import Snapshot
from weft.policies.wire import convert
from weft.policies.wire.pb import control_pb2 as pb

MAGIC = b"weft snapshot 1\n"
HEAD = struct.Struct("<II")  # length of the record, its crc32
#: A file is written anew when its differences are this large, and larger than its full record.
COMPACT_BYTES = 1 << 20
LARGEST_RECORD = 1 << 30


@dataclass(slots=True)
class Health:
    written: int = 0
    failed: int = 0
    problem: str = ""  # of the last attempt; "" when it went well
    found: str = ""  # what was wrong with the file at start


class SnapshotFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._full_bytes = 0
        self._delta_bytes = 0
        self._kept = False
        self.health = Health()

    def load(self, node: str, marked: int = 0) -> tuple[Snapshot, str] | None:
        """The newest snapshot that the file holds, and its epoch; None if it holds none, or only older ones than
        the kernel is `marked` with (0: with none)."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.health.found = f"{self._path}: {error.strerror}"
            return None
        snapshot: Snapshot | None = None
        epoch, known = "", not marked
        try:
            for update in _updates(data):
                snapshot, epoch = apply(snapshot, update, node), update.epoch
                known = known or digest(epoch, snapshot.revision) == marked
        except (ValueError, DecodeError, OutOfOrder) as error:
            self.health.found = f"{self._path}: {error}"
        if snapshot is None and not self.health.found:
            self.health.found = f"{self._path}: holds no record"
        elif snapshot is not None and not known:
            found = self.health.found or f"{self._path}: revision {snapshot.revision}"
            self.health.found = f"{found}; older than what is in force, not used"
        return (snapshot, epoch) if snapshot and known else None

    def append(self, update: bytes, full: Callable[[], bytes]) -> None:
        """Keeps a difference, serialized. `full`: the whole snapshot with it, for when the file is made anew."""
        if not self._kept or self._delta_bytes > max(COMPACT_BYTES, self._full_bytes):
            self.replace(full())
        else:
            self._guarded(lambda: self._append(update))

    def replace(self, full: bytes) -> None:
        self._guarded(lambda: self._replace(full))

    def behind(self) -> bool:
        """Nothing is kept: `replace` should be tried again."""
        return not self._kept

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
            self.health.written += 1
            self.health.problem = ""
        except OSError as error:
            self.health.failed += 1
            self.health.problem = f"{self._path}: {error.strerror or error}"
            self._kept = False
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _append(self, record: bytes) -> None:
        """Not synced: a daemon that dies loses nothing, and a machine that dies loses the kernel's maps too."""
        data = _framed(record)
        with self._path.open("ab", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError("short write")
        self._delta_bytes += len(data)

    def _replace(self, full: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        try:
            with beside.open("wb") as file:
                file.write(MAGIC + _framed(full))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        _sync_directory(self._path.parent)
        self._full_bytes, self._delta_bytes, self._kept = len(full), 0, True


def digest(epoch: str, revision: int) -> int:
    """What the kernel is marked with; never 0."""
    return zlib.crc32(f"{epoch} {revision}".encode()) or 1


def _updates(data: bytes) -> Iterator[Update]:
    if not data.startswith(MAGIC):
        raise ValueError("not a snapshot of this version")
    at = len(MAGIC)
    while at < len(data):
        if at + HEAD.size > len(data):
            raise ValueError(f"cut off at byte {at}")
        length, checksum = HEAD.unpack_from(data, at)
        record = data[at + HEAD.size : at + HEAD.size + length]
        if length > LARGEST_RECORD or len(record) != length:
            raise ValueError(f"cut off at byte {at}")
        if zlib.crc32(record) != checksum:
            raise ValueError(f"wrong checksum at byte {at}")
        yield convert.from_update(pb.Update.FromString(record))
        at += HEAD.size + length


def _framed(record: bytes) -> bytes:
    return HEAD.pack(len(record), zlib.crc32(record)) + record


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
