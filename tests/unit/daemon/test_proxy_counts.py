"""What workers count, added up: over workers and restarts, bounded, without those who are gone."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from weft.daemon.proxy import exposition
from weft.daemon.proxy.counts import GRACE, Counts
from weft.daemon.proxy.frames import BadFrame
from weft.policies.wire.pb import proxy_pb2 as pb

REQUESTS = "istio_requests_total"
DURATION = "istio_request_duration_milliseconds"
FROM_WEB = {
    "reporter": "source",
    "source_workload": "web",
    "source_workload_namespace": "shop",
    "destination_workload": "orders",
    "destination_workload_namespace": "shop",
}


def counted(value: float, labels: dict[str, str] = FROM_WEB, number: int = 1) -> pb.Counts:
    series = pb.Series(id=number, family=REQUESTS, labels=labels)
    return pb.Counts(series=[series], samples=[pb.Sample(id=number, value=value)])


def measured(total: float, *buckets: int) -> pb.Counts:
    series = pb.Series(id=2, family=DURATION, labels=FROM_WEB, bounds=[0.5, 1, 5])
    return pb.Counts(series=[series], samples=[pb.Sample(id=2, value=total, count=sum(buckets), buckets=buckets)])


def value(ledger: Counts, family: str = REQUESTS, **labels: str) -> Any:
    found = ledger.as_json()[family]["series"]
    rows = [each for each in found if labels.items() <= each["labels"].items()]
    return rows[0]["value"] if rows else None


def test_all_workers_add_to_one_series() -> None:
    ledger = Counts()
    for source in ("one", "two", "one"):
        ledger.add(source, counted(2))
    assert value(ledger) == 6 and ledger.series == 1


def test_a_series_is_described_once_and_meant_by_its_number_after() -> None:
    ledger = Counts()
    ledger.add("one", counted(1, number=4))
    ledger.add("one", pb.Counts(samples=[pb.Sample(id=4, value=5)]))
    assert value(ledger) == 6


def test_a_worker_that_comes_back_goes_on_where_it_was() -> None:
    ledger = Counts()
    ledger.add("one", counted(3))
    ledger.forget("one")
    with pytest.raises(BadFrame):
        ledger.add("one", pb.Counts(samples=[pb.Sample(id=1, value=1)]))
    ledger.add("two", counted(4))
    assert value(ledger) == 7


def test_histograms_are_cumulative_in_text_and_openmetrics_and_have_their_types() -> None:
    ledger = Counts()
    ledger.add("one", measured(6.5, 1, 0, 2, 1))
    ledger.add("two", measured(0.5, 1, 0, 0, 0))
    ledger.add("one", counted(5))
    for openmetrics, parse in ((False, parse_text), (True, parse_openmetrics)):
        text = asyncio.run(exposition.text(ledger.families, openmetrics)) + ("# EOF\n" if openmetrics else "")
        found = {family.name: family for family in parse(text)}
        assert found[DURATION].type == "histogram" and found["istio_requests"].type == "counter"
        samples = {
            (each.name, float(each.labels["le"]) if "le" in each.labels else None): each.value
            for each in found[DURATION].samples
        }
        buckets = [samples[f"{DURATION}_bucket", bound] for bound in (0.5, 1, 5, math.inf)]
        assert buckets == [2, 2, 4, 5]
        assert samples[f"{DURATION}_count", None] == 5 and samples[f"{DURATION}_sum", None] == 7
        assert [(s.name, s.value) for s in found["istio_requests"].samples] == [(REQUESTS, 5)]


def test_label_values_may_hold_anything() -> None:
    ledger = Counts()
    labels = {"a": 'quote " backslash \\ newline \n end', "b": "", "c": "ünïcode"}
    ledger.add("one", counted(1, labels))
    (family,) = parse_text(asyncio.run(exposition.text(ledger.families, False)))
    assert family.samples[0].labels == labels


def test_a_gauge_is_the_sum_of_those_who_live() -> None:
    def gauge(number: float) -> pb.Counts:
        series = pb.Series(id=1, family="weft_proxy_connections", gauge=True)
        return pb.Counts(series=[series], samples=[pb.Sample(id=1, value=number)])

    ledger = Counts()
    ledger.add("one", gauge(3))
    ledger.add("two", gauge(4))
    ledger.add("one", gauge(1))
    assert value(ledger, "weft_proxy_connections") == 5
    ledger.forget("two")
    assert value(ledger, "weft_proxy_connections") == 1


# those who are gone


def test_series_of_a_workload_that_is_gone_are_dropped_after_a_grace() -> None:
    now = [0.0]
    ledger = Counts(clock=lambda: now[0])
    ledger.add("one", counted(1))
    living = {("shop", "web"), ("shop", "orders")}
    for moment, there, kept in (
        (1.0, living, True),
        (2.0, {("shop", "web")}, True),
        (2.0 + GRACE - 0.1, {("shop", "web")}, True),
        (2.0 + GRACE, living, True),
        (3.0 + GRACE, {("other", "orders"), ("shop", "web")}, True),
        (3.0 + 2 * GRACE, {("shop", "web")}, False),
    ):
        now[0] = moment
        ledger.retire(there)
        assert bool(ledger.series) is kept, moment
    assert ledger.dropped == 1 and value(ledger) is None


def test_a_dropped_series_begins_anew_when_it_is_counted_again() -> None:
    now = [0.0]
    ledger = Counts(clock=lambda: now[0])
    ledger.add("one", counted(5))
    ledger.retire(frozenset())
    now[0] = GRACE
    ledger.retire(frozenset())
    ledger.add("one", pb.Counts(samples=[pb.Sample(id=1, value=2)]))
    assert value(ledger) == 2 and ledger.series == 1


@pytest.mark.parametrize(
    "labels",
    [{"reporter": "source"}, {**FROM_WEB, "source_workload": "unknown", "destination_workload": "unknown"}],
    ids=["no workloads", "unknown workloads"],
)
def test_series_of_nobody_in_particular_stay(labels: dict[str, str]) -> None:
    ledger = Counts(clock=lambda: 1000.0)
    ledger.add("one", counted(1, labels))
    ledger.retire(frozenset())
    ledger._clock = lambda: 10_000.0
    ledger.retire(frozenset())
    assert ledger.series == 1


# bounds


def test_series_are_bounded_and_what_finds_no_room_is_counted() -> None:
    ledger = Counts(max_series=10)
    for number in range(25):
        ledger.add("one", counted(1, {"path": str(number)}, number))
    ledger.add("one", pb.Counts(samples=[pb.Sample(id=0, value=1)]))
    assert (ledger.series, ledger.overflow) == (10, 15) and value(ledger, path="0") == 2


@pytest.mark.parametrize(
    "counts",
    [
        counted(-1),
        counted(math.nan),
        counted(math.inf),
        counted(1, {"0 bad": "x"}),
        pb.Counts(series=[pb.Series(id=1, family="bad name", gauge=True)]),
        pb.Counts(series=[pb.Series(id=1, family="counter_of_things")]),
        pb.Counts(series=[pb.Series(id=1, family="histogram_total", bounds=[1])]),
        pb.Counts(series=[pb.Series(id=1, family="other", bounds=[2, 1])]),
        pb.Counts(series=[pb.Series(id=1, family=DURATION, bounds=[0.5, 1])]),
        measured(1, 1, 2, 3),
        pb.Counts(samples=[pb.Sample(id=77, value=1)]),
    ],
    ids=[
        "less than nothing", "not a number", "without end", "bad label", "bad family", "counter by another name",
        "histogram by a counter's name", "bounds that fall", "other bounds", "too few buckets", "not described",
    ],
)  # fmt: skip
def test_what_makes_no_sense_adds_nothing(counts: pb.Counts) -> None:
    ledger = Counts()
    ledger.add("one", counted(1))
    ledger.add("one", measured(3, 0, 0, 1, 0))
    before = ledger.as_json()[REQUESTS], ledger.as_json()[DURATION]
    with pytest.raises(BadFrame):
        ledger.add("two", pb.Counts(series=[*counted(1).series, *counts.series], samples=[*counts.samples]))
    assert (ledger.as_json()[REQUESTS], ledger.as_json()[DURATION]) == before
