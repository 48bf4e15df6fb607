"""What this worker tells the daemon of its work: records in a bounded ring, and series of counters.

In: `Ring.add` and `Counter.add`, on the path of every request and nothing more than that. Out: `pb.Records` and
`pb.Counts`, made when the feed asks (every 50 ms, and every second). Counts are what came since the last message:
what could not be told yet stays, so a daemon that restarts misses none. A record that finds the ring full is lost,
and counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from weft.policies.wire.pb import proxy_pb2 as pb

#: Records that wait for the feed: a burst that is told within a second.
RING: Final = 1024
#: Records in one message, twenty of which go a second: making one takes some 10 us, for which all requests wait.
#: Beyond that rate flows are a sample (the rest is told as lost), and metrics count all.
BATCH: Final = 50
#: Items that wait as they are. Of more the records are made at once: those are cut, and an item holds whole heads,
#: 60 KiB of a stranger's.
WHOLE: Final = 2 * BATCH


class Ring:
    """`make` turns an item into a record; it is called when the record is sent, not when it is added, unless many
    wait."""

    def __init__(self, make: Callable[[Any], pb.Record], size: int = RING) -> None:
        self._make = make
        self._items: deque[Any] = deque()
        self._size = size
        self.lost = self.lost_ever = 0

    def add(self, item: Any) -> None:
        if len(self._items) >= self._size:
            self.lost += 1
            self.lost_ever += 1
        else:
            self._items.append(item if len(self._items) < WHOLE else self._make(item))

    def __len__(self) -> int:
        return len(self._items)

    def take(self) -> pb.Records | None:
        """None: there is nothing to tell."""
        if not self._items and not self.lost:
            return None
        items, lost = self._items, self.lost
        count = min(len(items), BATCH)
        self.lost = 0
        waiting = [items.popleft() for _ in range(count)]
        records = [item if isinstance(item, pb.Record) else self._make(item) for item in waiting]
        return pb.Records(records=records, lost=lost)


class Counter:
    """`value`: since the last message."""

    __slots__ = ("id", "value")

    def __init__(self, number: int) -> None:
        self.id, self.value = number, 0.0

    def add(self, value: float = 1.0) -> None:
        self.value += value

    def sample(self) -> pb.Sample | None:
        value, self.value = self.value, 0.0
        return pb.Sample(id=self.id, value=value) if value else None


class Gauge(Counter):
    """`read` is asked when the message is made; told only if it is another than before."""

    __slots__ = ("_told", "read")

    def __init__(self, number: int, read: Callable[[], float]) -> None:
        super().__init__(number)
        self.read = read
        self._told: float | None = None

    def sample(self) -> pb.Sample | None:
        value = self.read()
        if value == self._told:
            return None
        self._told = value
        return pb.Sample(id=self.id, value=value)

    def forget(self) -> None:
        self._told = None


class Histogram:
    __slots__ = ("bounds", "buckets", "count", "id", "value")

    def __init__(self, number: int, bounds: Sequence[float]) -> None:
        self.id, self.bounds = number, tuple(bounds)
        self.buckets = [0] * (len(bounds) + 1)
        self.value, self.count = 0.0, 0

    def observe(self, value: float) -> None:
        """A value equal to a bound is in its bucket (`le`)."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.value += value
        self.count += 1

    def sample(self) -> pb.Sample | None:
        if not self.count:
            return None
        told = pb.Sample(id=self.id, value=self.value, count=self.count, buckets=self.buckets)
        self.buckets = [0] * len(self.buckets)
        self.value, self.count = 0.0, 0
        return told


class Counts:
    """The series of this worker. Ask for one once and keep it. `most`: beyond it, new series are not made but share
    one that is told as lost, for labels come from clients."""

    def __init__(self, most: int = 50_000) -> None:
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], Counter | Histogram] = {}
        self._described: dict[int, pb.Series] = {}
        self._new: list[pb.Series] = []
        self._next, self._most = 1, most
        self.overflowed = 0
        self._others: list[tuple[Callable[[], Sequence[pb.Counts]], Callable[[], None]]] = []

    def share(self, take: Callable[[], Sequence[pb.Counts]], connected: Callable[[], None]) -> None:
        """Somebody else's counts go in the same messages. Their numbers must be none of ours."""
        self._others.append((take, connected))

    def counter(self, family: str, labels: Mapping[str, str] | None = None) -> Counter:
        made = self._get(family, labels or {}, Counter)
        assert isinstance(made, Counter)
        return made

    def gauge(self, family: str, read: Callable[[], float], labels: Mapping[str, str] | None = None) -> Gauge:
        made = self._get(family, labels or {}, lambda number: Gauge(number, read), gauge=True)
        assert isinstance(made, Gauge)
        return made

    def histogram(self, family: str, bounds: Sequence[float], labels: Mapping[str, str] | None = None) -> Histogram:
        made = self._get(family, labels or {}, lambda number: Histogram(number, bounds), bounds=bounds)
        assert isinstance(made, Histogram)
        return made

    def forget(self, family: str, labels: Mapping[str, str]) -> None:
        """The series of somebody who is gone. What was counted of it since the last message is not told."""
        series = self._series.pop((family, tuple(sorted(labels.items()))), None)
        if series is not None:
            self._described.pop(series.id, None)

    def connected(self) -> None:
        """Nobody at the other end knows any series yet."""
        self._new = list(self._described.values())
        for _, connected in self._others:
            connected()
        for series in self._series.values():
            if isinstance(series, Gauge):
                series.forget()

    def take(self) -> pb.Counts:
        samples = [sample for series in self._series.values() if (sample := series.sample()) is not None]
        new, self._new = self._new, []
        counts = pb.Counts(series=new, samples=samples)
        for take, _ in self._others:
            for more in take():
                counts.MergeFrom(more)
        return counts

    def _get(
        self,
        family: str,
        labels: Mapping[str, str],
        make: Callable[[int], Counter | Histogram],
        *,
        gauge: bool = False,
        bounds: Sequence[float] = (),
    ) -> Counter | Histogram:
        key = family, tuple(sorted(labels.items()))
        found = self._series.get(key)
        if found is not None:
            return found
        if len(self._series) >= self._most:
            self.overflowed += 1
            return make(0)
        number, self._next = self._next, self._next + 1
        found = self._series[key] = make(number)
        described = pb.Series(id=number, family=family, labels=dict(labels), bounds=bounds, gauge=gauge)
        self._described[number] = described
        self._new.append(described)
        return found
