"""Shares: 10,000 draws each, within 3 sigma of what the balancer promises."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import sqrt

import pytest

from cluster_lab import Lab, anybody
from weft.l7proxy.core.warmup import factor
from weft.policies.mesh.model import Balance, LoadBalancer, Warmup
from weft.policies.snapshot import BackendItem

DRAWS = 10_000
IPS = ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4"]
WEIGHTS = [1, 2, 3, 4]


def balanced(balance: Balance, weights: list[int] | None = None, warmup: Warmup | None = None) -> Lab:
    lab = Lab()
    lab.policy(LoadBalancer(balance, warmup=warmup))
    lab.serve(*(BackendItem(ip, 80, weight=w) for ip, w in zip(IPS, weights or [1] * 4, strict=True)))
    return lab


def shares(lab: Lab, draws: int = DRAWS, allowed: object = anybody, tried: tuple[object, ...] = ()) -> Counter[str]:
    cluster = lab.cluster()
    return Counter(cluster.pick(None, tried, allowed).ip for _ in range(draws))


def within_3_sigma(counted: Counter[str], expected: dict[str, float], draws: int = DRAWS) -> None:
    for ip, share in expected.items():
        sigma = sqrt(draws * share * (1 - share))
        assert abs(counted[ip] - draws * share) <= 3 * sigma, f"{ip}: {counted[ip]} of {draws}, promised {share}"


@pytest.mark.parametrize("balance", [Balance.LEAST_REQUEST, Balance.RANDOM, Balance.ROUND_ROBIN])
def test_equal_endpoints_get_equal_shares(balance: Balance) -> None:
    within_3_sigma(shares(balanced(balance)), dict.fromkeys(IPS, 0.25))


@pytest.mark.parametrize("balance", [Balance.LEAST_REQUEST, Balance.RANDOM, Balance.ROUND_ROBIN])
def test_weights_are_shares(balance: Balance) -> None:
    expected = {ip: weight / 10 for ip, weight in zip(IPS, WEIGHTS, strict=True)}
    within_3_sigma(shares(balanced(balance, WEIGHTS)), expected)


@pytest.mark.parametrize("balance", [Balance.LEAST_REQUEST, Balance.RANDOM, Balance.ROUND_ROBIN])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_who_is_denied_gets_nothing_and_the_rest_keep_their_proportions(
    balance: Balance, weights: list[int] | None
) -> None:
    counted = shares(balanced(balance, weights), allowed=lambda one: one.ip != IPS[3])
    left = (weights or [1] * 4)[:3]
    if balance is Balance.ROUND_ROBIN and weights is None:
        # who is passed over gives his turns to the next in line
        assert counted[IPS[3]] == 0 and min(counted.values()) >= 2400
    else:
        within_3_sigma(counted, {ip: w / sum(left) for ip, w in zip(IPS, left, strict=False)} | {IPS[3]: 0.0})


def test_round_robin_takes_turns() -> None:
    cluster = balanced(Balance.ROUND_ROBIN).cluster()
    turns = [cluster.pick(None, (), anybody).ip for _ in range(12)]
    assert sorted(turns[:4]) == IPS and turns[:4] == turns[4:8] == turns[8:]


def test_weighted_turns_are_spread_and_not_in_a_row() -> None:
    cluster = balanced(Balance.ROUND_ROBIN, [1, 1, 1, 5]).cluster()
    turns = [cluster.pick(None, (), anybody).ip for _ in range(80)]
    gaps = [at for at, ip in enumerate(turns) if ip != IPS[3]]
    assert turns.count(IPS[3]) in (49, 50, 51)
    assert max(b - a for a, b in pairwise(gaps)) <= 6


def test_least_request_avoids_the_loaded_one() -> None:
    """Of four, the busiest is taken only if it is drawn twice, which power of two choices never does."""
    lab = balanced(Balance.LEAST_REQUEST)
    lab.open(endpoint=lab.cluster().group.members[0])
    counted = shares(lab)
    assert counted[IPS[0]] == 0
    within_3_sigma(counted, dict.fromkeys(IPS[1:], 1 / 3))


def test_least_request_of_two_is_the_less_loaded() -> None:
    lab = Lab()
    lab.serve(*IPS[:2])
    lab.open(endpoint=lab.cluster().group.members[1])
    assert {lab.pick().ip for _ in range(50)} == {IPS[0]}


def test_least_request_counts_load_by_weight() -> None:
    """Two under way at weight 4 are less than one at weight 1."""
    lab = Lab()
    lab.serve(BackendItem(IPS[0], 80, weight=1), BackendItem(IPS[1], 80, weight=4))
    light, heavy = lab.cluster().group.members
    lab.open(endpoint=light)
    assert shares(lab, 1000)[IPS[1]] > 900
    for _ in range(12):
        lab.open(endpoint=heavy)
    assert shares(lab, 1000)[IPS[0]] > 300


@pytest.mark.parametrize("balance", [Balance.LEAST_REQUEST, Balance.RANDOM, Balance.ROUND_ROBIN])
def test_hosts_tried_before_are_avoided(balance: Balance) -> None:
    lab = balanced(balance)
    tried = tuple(lab.cluster().group.members[:3])
    assert set(shares(lab, 200, tried=tried)) == {IPS[3]}


def test_when_all_were_tried_one_of_them_is_tried_again() -> None:
    lab = balanced(Balance.LEAST_REQUEST)
    assert len(shares(lab, 200, tried=tuple(lab.cluster().group.members))) == 4


def test_a_tried_host_is_better_than_a_denied_one() -> None:
    lab = balanced(Balance.RANDOM)
    first = lab.cluster().group.members[0]
    assert set(shares(lab, 50, allowed=lambda one: one is first, tried=(first,))) == {IPS[0]}


def test_denied_says_whether_anybody_was_there() -> None:
    lab = balanced(Balance.LEAST_REQUEST)
    cluster = lab.cluster()
    assert cluster.pick(None, (), lambda one: False) is None and cluster.denied
    lab.serve()
    assert cluster.pick(None, (), anybody) is None and not cluster.denied
    lab.serve(IPS[0])
    assert cluster.pick(None, (), anybody) is not None and not cluster.denied


@pytest.mark.parametrize("balance", [Balance.LEAST_REQUEST, Balance.ROUND_ROBIN])
def test_a_new_endpoint_warms_up(balance: Balance) -> None:
    """At half its time a line is at half its weight: 0.5 of 3.5."""
    lab = Lab()
    lab.policy(LoadBalancer(balance, warmup=Warmup(100.0)))
    lab.serve(*IPS[:3])
    lab.cluster()
    lab.serve(*IPS)
    lab.after(50, step=1)
    within_3_sigma(shares(lab), {IPS[3]: 0.5 / 3.5, IPS[0]: 1 / 3.5})
    lab.after(51, step=1)
    within_3_sigma(shares(lab), {IPS[3]: 0.25})


@pytest.mark.parametrize(
    ("setting", "age", "expected"),
    [
        (Warmup(100.0), 0.0, 0.1),
        (Warmup(100.0), 5.0, 0.1),
        (Warmup(100.0), 50.0, 0.5),
        (Warmup(100.0), 100.0, 1.0),
        (Warmup(100.0), 1000.0, 1.0),
        (Warmup(100.0, 25.0), 10.0, 0.25),
        (Warmup(100.0, 0.0), 0.0, 0.001),
        (Warmup(100.0, aggression=2.0), 25.0, 0.5),
        (Warmup(100.0, aggression=0.5), 50.0, 0.25),
        (Warmup(0.0), 0.0, 1.0),
    ],
)
def test_the_share_of_a_new_endpoint_grows(setting: Warmup, age: float, expected: float) -> None:
    assert factor(setting, age) == pytest.approx(expected)


def test_the_first_endpoints_of_a_destination_do_not_warm_up() -> None:
    lab = balanced(Balance.ROUND_ROBIN, [1, 1, 2, 4], Warmup(1000.0))
    assert shares(lab, 800)[IPS[3]] in range(390, 411)


def test_warming_up_does_not_touch_other_balancers() -> None:
    lab = Lab()
    lab.policy(LoadBalancer(Balance.RANDOM, warmup=Warmup(100.0)))
    lab.serve(*IPS[:3])
    lab.cluster()
    lab.serve(*IPS)
    within_3_sigma(shares(lab), {IPS[3]: 0.25})
