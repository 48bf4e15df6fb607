"""The ring of what was seen lately: raw records with the names of that moment. Numbers grow by one and never
return, so every reader keeps its own place, and a reader that fell behind knows how much it missed. However
many readers there are and however slow, the ring holds `capacity` entries and no more.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from weft.daemon.observer.directory import Owner, PolicyName
from weft.daemon.observer.events import TYPE
from weft.daemon.observer.l7 import L7Entry

#: Flows kept for who asks later: 2^n - 1, as Hubble's ring.
DEFAULT_CAPACITY: Final = 4095
MAX_CAPACITY: Final = 65535

KERNEL_RING = 1  # flow.LostEventSource.PERF_EVENT_RING_BUFFER
OBSERVER_QUEUE = 2  # OBSERVER_EVENTS_QUEUE
FLOW_RING = 3  # HUBBLE_RING_BUFFER
L7_PROXY = 0  # UNKNOWN_LOST_EVENT_SOURCE: Hubble has no word for it


@dataclass(slots=True)
class Entry:
    """A record, not decoded yet. `time_ns` is the wall clock's."""

    number: int
    time_ns: int
    record: bytes
    source: Owner | None
    destination: Owner | None
    policies: tuple[PolicyName, ...]

    @property
    def kind(self) -> int:
        """`event_type.type` of the flow that it will be."""
        return self.record[TYPE]

    @property
    def at_ns(self) -> int:
        return self.time_ns


@dataclass(slots=True)
class Gap:
    """`count` events that never came here; `source` says where they got lost."""

    number: int
    time_ns: int
    source: int
    count: int


class Ring:
    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        if not 0 < capacity <= MAX_CAPACITY or capacity & (capacity + 1):
            raise ValueError(f"flow ring of {capacity}: has to be 2^n - 1, at most {MAX_CAPACITY}")
        self.capacity = capacity
        self.next = 0  # the number of the entry to come
        self.closed = False
        self._slots: list[Entry | L7Entry | Gap | None] = [None] * capacity
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def oldest(self) -> int:
        return max(0, self.next - self.capacity)

    def __len__(self) -> int:
        return self.next - self.oldest

    def append(self, entry: Entry | L7Entry | Gap) -> None:
        """`entry.number` must be `self.next`."""
        self._slots[entry.number % self.capacity] = entry
        self.next += 1
        if self._waiting:
            self._wake()

    def __getitem__(self, number: int) -> Entry | L7Entry | Gap:
        """IndexError: overwritten, or not here yet."""
        if self.oldest <= number < self.next:
            entry = self._slots[number % self.capacity]
            if entry is not None:
                return entry
        raise IndexError(number)

    def since(self, time_ns: int) -> int:
        """The oldest number that is not before `time_ns`, give or take what two CPUs put out of order."""
        key: Callable[[int], int] = lambda number: self[number].time_ns  # noqa: E731
        numbers = range(self.oldest, self.next)
        return self.oldest + bisect_left(numbers, time_ns, key=key)

    def rate(self, now_ns: int) -> float:
        """Flows per second of the last minute, or of as much of it as the ring holds."""
        begin = now_ns - 60_000_000_000
        first = self.since(begin)
        if first == self.next:
            return 0.0
        if first == self.oldest and first > 0:
            begin = self[first].time_ns
        return (self.next - first) * 1e9 / max(now_ns - begin, 1)

    def close(self) -> None:
        """Nothing comes any more: who waits need not."""
        self.closed = True
        self._wake()

    async def wait(self, number: int) -> None:
        """Returns when entry `number` is there, or never will be."""
        while self.next <= number and not self.closed:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
