"""What was counted lately: rates and quantiles of the last minutes, for `weft stat`.

In: the ledger, looked at every `EVERY` seconds. Out: how much each series grew in a window.

Rules: 1. A look keeps the series that grew, and by how much: a quiet mesh costs nothing. 2. A series that is new
grew from zero; Prometheus would miss its first value. 3. Looks go when they are older than `KEPT`, or when all
together hold more than `most` growths; then a window covers less, and says so. 4. What was counted since the last
look belongs to every window, so that an answer is of now.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from weft.daemon.proxy.counts import Counts, Key, Total

#: Seconds between two looks, and for how long they are kept.
EVERY: Final = 5.0
KEPT: Final = 600.0
#: Growths of all looks together; one is about 250 bytes.
MOST: Final = 40_000
#: Series that are looked at before others in this loop get their turn.
TURN: Final = 128
#: Those that have a rate that somebody asks for.
FAMILIES: Final = (
    "istio_requests_total",
    "istio_request_duration_milliseconds",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
)


@dataclass(slots=True)
class Growth:
    """Of one series between two looks. `buckets`: (index, count) one after the other, of those that grew."""

    key: Key
    value: float
    buckets: tuple[int, ...] = ()


@dataclass(slots=True)
class Look:
    began: float
    grown: list[Growth]


@dataclass(slots=True)
class Seen:
    """A series at the last look. `buckets`: the ledger makes a new list for each change, so this one stays."""

    total: Total
    value: float
    buckets: list[int]


class Window:
    def __init__(self, ledger: Counts, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self.held = 0  # growths
        self._ledger, self._most, self._clock = ledger, most, clock
        self._looks: deque[Look] = deque()
        self._seen: dict[Key, Seen] = {}
        self._began = clock()
        self._turn = asyncio.Lock()

    async def look(self) -> None:
        """Every `EVERY` seconds. In turns, for ten thousand series that all grew take a tenth of a second."""
        async with self._turn:
            now = self._clock()
            grown = [growth async for growth in self._grown(note=True)]
            self._looks.append(Look(self._began, grown))
            self._began = now
            self.held += len(grown)
            self._trim(now)

    def _trim(self, now: float) -> None:
        while self._looks and (self.held > self._most or self._looks[0].began <= now - KEPT - EVERY):
            self.held -= len(self._looks.popleft().grown)
        for key in [key for key, seen in self._seen.items() if seen.total.dropped]:
            del self._seen[key]

    async def since(self, seconds: float) -> dict[str, Any]:
        """{seconds: what is really covered, families: as `Counts.as_json`, grown in that time}."""
        async with self._turn:  # a look in between would tell of some growth twice
            now, began = self._clock(), self._began
            taken = [[growth async for growth in self._grown()]]
            for look in reversed(self._looks):
                if now - began >= seconds:
                    break
                began = look.began
                taken.append(look.grown)
        return {"seconds": now - began, "families": await self._summed(taken)}

    async def _grown(self, *, note: bool = False) -> AsyncIterator[Growth]:
        for name in FAMILIES:
            family = self._ledger.families.get(name)
            series = [*family.series.items()] if family is not None else []
            for at, (labels, total) in enumerate(series, 1):
                seen = self._seen.get((name, labels))
                if seen is None or seen.total is not total:
                    seen = Seen(total, 0.0, [0] * len(total.buckets))
                if total.value != seen.value or total.buckets != seen.buckets:
                    yield Growth((name, labels), total.value - seen.value, _sparse(total.buckets, seen.buckets))
                    if note:
                        self._seen[name, labels] = Seen(total, total.value, total.buckets)
                if at % TURN == 0:
                    await asyncio.sleep(0)

    async def _summed(self, looks: list[list[Growth]]) -> dict[str, Any]:
        values: dict[Key, float] = {}
        buckets: dict[Key, list[int]] = {}
        for look in looks:
            for at, growth in enumerate(look, 1):
                values[growth.key] = values.get(growth.key, 0.0) + growth.value
                if growth.buckets:
                    _spread(growth.buckets, buckets.setdefault(growth.key, self._empty(growth.key[0])))
                if at % TURN == 0:
                    await asyncio.sleep(0)
        found: dict[str, Any] = {}
        for key, value in values.items():
            name, labels = key
            family = self._ledger.families[name]
            told = found.setdefault(name, {"type": family.kind, "bounds": list(family.bounds), "series": []})
            row: dict[str, Any] = {"labels": dict(labels), "value": value}
            if key in buckets:
                row |= {"count": sum(buckets[key]), "buckets": buckets[key]}
            told["series"].append(row)
        return found

    def _empty(self, name: str) -> list[int]:
        return [0] * (len(self._ledger.families[name].bounds) + 1)


def _sparse(now: list[int], then: list[int]) -> tuple[int, ...]:
    pairs = [(at, new - old) for at, (new, old) in enumerate(zip(now, then, strict=True)) if new != old]
    return tuple(number for pair in pairs for number in pair)


def _spread(pairs: tuple[int, ...], buckets: list[int]) -> None:
    for at in range(0, len(pairs), 2):
        buckets[pairs[at]] += pairs[at + 1]
