"""Records from the kernel's ring to the observer, a bounded number at a time.

The event loop calls us when there is something to read, and again at once if we leave something: policy and
command line have their turn in between. What the ring had no room for meanwhile is counted by the programs; the
difference since the last look is told to the observer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

#: Records in one turn: at some 10 microseconds each, 2 ms.
TURN = 200
#: Seconds between two looks at the count of lost records.
LOSS_INTERVAL = 1.0


class Source(Protocol):
    def fileno(self) -> int: ...

    def drain(self, limit: int = ...) -> Iterable[bytes]: ...


class Sink(Protocol):
    def feed(self, record: bytes) -> None: ...

    def lost(self, count: int) -> None: ...


class Pump:
    def __init__(self, ring: Source, sink: Sink, lost: Callable[[], int]) -> None:
        """`lost`: records lost so far, ever. What was lost before we came is not told again."""
        self._ring, self._sink, self._lost = ring, sink, lost
        self._told = lost()
        self.records = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._ring.fileno(), self.turn)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._ring.fileno())

    def turn(self) -> None:
        for record in self._ring.drain(TURN):
            self._sink.feed(record)
            self.records += 1

    def check_losses(self) -> None:
        lost = self._lost()
        if lost > self._told:
            self._sink.lost(lost - self._told)
        self._told = lost
