"""What was counted lately: windows of the ledger, bounded, honest about what they cover."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from weft.daemon.proxy.counts import GRACE, Counts
from weft.daemon.proxy.window import EVERY, KEPT, Window
from weft.policies.wire.pb import proxy_pb2 as pb

REQUESTS, DURATION = "istio_requests_total", "istio_request_duration_milliseconds"


class Lab:
    """A ledger, its window and their clock, which moves by looks."""

    def __init__(self, most: int = 1000) -> None:
        self.now = 100.0
        self.ledger = Counts(clock=lambda: self.now)
        self.window = Window(self.ledger, most, lambda: self.now)

    def count(self, value: float, number: int = 1, **labels: str) -> None:
        series = pb.Series(id=number, family=REQUESTS, labels=labels or {"reporter": "source"})
        self.ledger.add("worker", pb.Counts(series=[series], samples=[pb.Sample(id=number, value=value)]))

    def measure(self, total: float, *buckets: int) -> None:
        series = pb.Series(id=99, family=DURATION, labels={"reporter": "source"}, bounds=[1, 5])
        sample = pb.Sample(id=99, value=total, buckets=buckets)
        self.ledger.add("worker", pb.Counts(series=[series], samples=[sample]))

    def pass_time(self, looks: int = 1) -> None:
        for _ in range(looks):
            self.now += EVERY
            asyncio.run(self.window.look())

    def since(self, seconds: float) -> dict[str, Any]:
        return asyncio.run(self.window.since(seconds))

    def grown(self, seconds: float, family: str = REQUESTS) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.since(seconds)["families"].get(family, {"series": []})["series"]
        return found

    def value(self, seconds: float) -> float:
        return sum(row["value"] for row in self.grown(seconds))


def test_a_window_holds_what_was_counted_in_it_and_no_more() -> None:
    lab = Lab()
    lab.count(100)
    lab.pass_time(12)
    lab.count(7)
    lab.pass_time()
    assert lab.value(10) == 7
    assert lab.value(60) == 7, "the hundred came 65 seconds ago"
    assert lab.value(65) == 107


def test_what_was_counted_since_the_last_look_belongs_to_it() -> None:
    lab = Lab()
    lab.pass_time()
    lab.count(3)
    lab.now += 1
    assert lab.value(1) == 3 and lab.since(1)["seconds"] == 1


def test_the_first_value_of_a_series_counts_in_full() -> None:
    lab = Lab()
    lab.pass_time(5)
    lab.count(4)
    lab.pass_time()
    assert lab.value(60) == 4


def test_a_histogram_grows_by_bucket() -> None:
    lab = Lab()
    lab.measure(10, 1, 2, 3)
    lab.pass_time()
    lab.measure(20, 0, 5, 0)
    lab.measure(2, 1, 0, 0)
    lab.pass_time()
    (row,) = lab.grown(5, DURATION)
    assert (row["value"], row["count"], row["buckets"]) == (22, 6, [1, 5, 0])
    (row,) = lab.grown(60, DURATION)
    assert (row["count"], row["buckets"]) == (12, [2, 7, 3])
    assert lab.since(60)["families"][DURATION]["bounds"] == [1, 5]


def test_a_window_says_how_much_time_it_covers() -> None:
    lab = Lab()
    lab.pass_time(3)
    assert lab.since(60)["seconds"] == 15, "the daemon has been looking for so long"
    lab.pass_time(200)
    assert lab.since(60)["seconds"] == 60
    assert lab.since(1e9)["seconds"] == pytest.approx(KEPT, abs=2 * EVERY)


def test_a_quiet_series_takes_no_room() -> None:
    lab = Lab()
    for number in range(1, 51):
        lab.count(1, number, path=str(number))
    lab.pass_time()
    assert lab.window.held == 50
    lab.pass_time(10)
    assert lab.window.held == 50
    lab.pass_time(int(KEPT / EVERY) + 1)
    assert lab.window.held == 0, "and in the end none at all"


def test_what_is_held_is_bounded_and_the_window_gets_shorter() -> None:
    lab = Lab(most=100)
    for _ in range(20):
        for number in range(1, 31):
            lab.count(1, number, path=str(number))
        lab.pass_time()
    assert lab.window.held <= 100
    told = lab.since(100)
    assert told["seconds"] == 3 * EVERY and lab.value(100) == 90


def test_a_series_that_was_dropped_and_comes_back_begins_at_zero() -> None:
    lab = Lab()
    party = {"source_workload": "web", "source_workload_namespace": "shop"}
    lab.count(50, 1, **party)
    lab.pass_time()
    lab.ledger.retire(frozenset())
    lab.now += GRACE
    lab.ledger.retire(frozenset())
    lab.count(5, 2, **party)  # before anybody has looked
    lab.pass_time()
    assert lab.value(5) == 5


def test_other_families_are_not_kept() -> None:
    lab = Lab()
    series = pb.Series(id=1, family="istio_request_bytes", labels={}, bounds=[1.0])
    lab.ledger.add("w", pb.Counts(series=[series], samples=[pb.Sample(id=1, value=1, buckets=[1, 0])]))
    lab.pass_time()
    assert lab.since(60)["families"] == {}


def test_what_grows_while_a_window_is_told_is_told_once() -> None:
    """In turns: workers tell of more between two of them, and it is time for another look."""
    lab = Lab(most=100_000)
    for number in range(1, 1001):
        lab.count(1, number, path=str(number))

    async def main() -> list[dict[str, Any]]:
        asked = asyncio.ensure_future(lab.window.since(60))
        looked = asyncio.ensure_future(lab.window.look())
        await asyncio.sleep(0)
        lab.count(5, 1, path="1")
        lab.count(5, 999, path="999")
        return [await asked, await lab.window.since(60)] if await looked is None else []

    first, then = (
        sum(row["value"] for row in told["families"][REQUESTS]["series"]) for told in asyncio.run(main())
    )
    assert 1000 <= first <= 1010 and then == 1010
