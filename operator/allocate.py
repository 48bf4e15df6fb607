"""Identity numbers that outlive the operator: the same labels keep their number across restarts.

Which way it errs: it may leak a number for a while but never re-uses one that a node may still hold. A released
number keeps its labels and gets them back if they return; fresh numbers go first; only when there are none is
the number taken that has been idle longest, and at least `grace` seconds.

The ledger is a file of one JSON line per event, appended before the number is used and forced to disk (`sync`)
before any node hears of it; a start replays and rewrites it. A torn last line was never heard of by anybody.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Container
from pathlib import Path

from weft.operator import durable
from weft.policies.identity import CLUSTER_MAX, CLUSTER_MIN
from weft.policies.labels import Labels
from weft.policies.numbers import Exhausted

log = logging.getLogger(__name__)

#: Seconds. Nodes follow within one; a node that was away longer gets a full snapshot when it is back.
GRACE = 900.0
_BUSY = 0.0


class Ledger:
    """An Allocator (policies.numbers). `now`: seconds of the wall clock, for the times must survive restarts."""

    def __init__(self, path: Path, now: Callable[[], float], grace: float = GRACE) -> None:
        self.problem = ""
        self._path = path
        self._now = now
        self._grace = grace
        self._numbers: dict[str, int] = {}
        self._labels: dict[int, str] = {}
        self._idle: dict[int, float] = {}  # number -> since when; longest idle first
        self._next = CLUSTER_MIN
        self._descriptor = -1
        self._unwritten: list[bytes] = []
        self._unsynced = False

    def __len__(self) -> int:
        """Numbers in use."""
        return len(self._labels) - len(self._idle)

    def allocate(self, labels: Labels) -> int:
        key = "\n".join(labels.strings())
        number = self._numbers.get(key)
        if number is None:
            number = self._fresh()
            self._bind(number, key)
            self._write(number, key, _BUSY)
        elif self._idle.pop(number, None) is not None:
            self._write(number, key, _BUSY)
        return number

    def release(self, number: int) -> None:
        self._idle[number] = self._now()
        self._write(number, self._labels[number], self._idle[number])

    def release_others(self, used: Container[int]) -> None:
        """After a start: whatever no object stands on any more."""
        for number in self._labels:
            if number not in used and number not in self._idle:
                self.release(number)

    def load(self) -> None:
        """Raises OSError when the ledger is there but cannot be read: guessing numbers would mix identities up."""
        lines = self._path.read_bytes().split(b"\n") if self._path.exists() else []
        for line in filter(None, lines):
            try:
                number, key, since = json.loads(line)
                self._replay(int(number), str(key), float(since))
            except (ValueError, TypeError) as error:
                log.error("%s: a line is unreadable, left out: %s", self._path, error)
        self._idle = dict(sorted(self._idle.items(), key=lambda item: item[1]))
        self._next = max(self._labels, default=CLUSTER_MIN - 1) + 1
        self._rewrite()

    def sync(self) -> None:
        """Blocks until all numbers given out are on the disk: for a thread."""
        if self._unwritten:
            self._append()
        if self._unsynced and not self._unwritten:
            try:
                os.fdatasync(self._descriptor)
                self._unsynced = False
            except OSError as error:
                self._fail(error)

    @property
    def unsynced(self) -> bool:
        return self._unsynced or bool(self._unwritten)

    def _fresh(self) -> int:
        if self._next <= CLUSTER_MAX:
            self._next += 1
            return self._next - 1
        number, since = next(iter(self._idle.items()), (0, 0.0))
        if not number or not 0 <= self._grace <= self._now() - since:
            raise Exhausted
        return number

    def _bind(self, number: int, key: str) -> None:
        self._idle.pop(number, None)
        before = self._labels.get(number)
        if before is not None:
            del self._numbers[before]
        self._labels[number], self._numbers[key] = key, number

    def _replay(self, number: int, key: str, since: float) -> None:
        if not CLUSTER_MIN <= number <= CLUSTER_MAX:
            raise ValueError(f"number {number}")
        other = self._numbers.get(key, number)
        if other != number:
            raise ValueError(f"{number} and {other} have the same labels")
        if self._labels.get(number) != key:
            self._bind(number, key)
        self._idle.pop(number, None)
        if since != _BUSY:
            self._idle[number] = min(since, self._now())  # the clock may have been set back

    def _write(self, number: int, key: str, since: float) -> None:
        self._unwritten.append(_line(number, key, since))
        self._append()

    def _append(self) -> None:
        """What cannot be written now goes with the next, in order, on a line of its own."""
        try:
            durable.write_all(self._descriptor, b"".join(self._unwritten))
        except OSError as error:
            self._fail(error)
            self._unwritten = [b"\n", *self._unwritten] if self._unwritten[0] != b"\n" else self._unwritten
        else:
            self._unwritten.clear()
            self._unsynced = True
            self.problem = ""

    def _fail(self, error: OSError) -> None:
        reason = f"identities are in use but not saved: {error.strerror}"
        if self.problem != reason:
            log.error("%s: %s", self._path, reason)
        self.problem = reason

    def _rewrite(self) -> None:
        lines = (_line(number, key, self._idle.get(number, _BUSY)) for number, key in self._labels.items())
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            durable.write(self._path, b"".join(lines))
            durable.sync([self._path])
        except OSError as error:  # the old ledger still holds; go on with it
            self._fail(error)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _line(number: int, key: str, since: float) -> bytes:
    return json.dumps([number, key, since]).encode() + b"\n"
