"""Near endpoints first: who counts as near, and when the far ones get something."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster_lab import Lab, anybody, pod
from weft.l7proxy.core.hashring import hashed
from weft.l7proxy.core.localities import loads
from weft.policies.mesh.model import Balance, HashKey, LoadBalancer, Locality, Outlier
from weft.policies.snapshot import BackendItem

OUTLIER = Outlier(consecutive_5xx=1, max_ejection_percent=100)
HERE, ZONE, REGION, FAR, FARTHER = "eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "ap/a/1"
WHERE = {"10.0.1.1": HERE, "10.0.1.2": ZONE, "10.0.1.3": REGION, "10.0.1.4": FAR, "10.0.1.5": FARTHER}
ALL = list(WHERE)


def placed(
    locality: Locality | None = None,
    outlier: Outlier | None = OUTLIER,
    prefer: str = "",
    without: tuple[str, ...] = (),
    labels: dict[str, dict[str, str]] | None = None,
) -> Lab:
    lab = Lab()
    lab.client = lab.add(pod("10.0.0.1", "web", locality=HERE, node="n1", version="v2"))
    for number, (ip, where) in enumerate(WHERE.items()):
        lab.add(pod(ip, f"orders-{number}", locality=where, node=f"n{number + 1}", **(labels or {}).get(ip, {})))
    lab.policy(LoadBalancer(Balance.ROUND_ROBIN, locality=locality), outlier=outlier)
    lab.serve(*(ip for ip in ALL if ip not in without), prefer=prefer)
    return lab


def used(lab: Lab, draws: int = 500) -> list[str]:
    return sorted({lab.pick().ip for _ in range(draws)})


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ((), ALL[:1]),
        (ALL[:1], ALL[1:2]),
        (ALL[:2], ALL[2:3]),
        (ALL[:3], ALL[3:]),
    ],
)
def test_sub_zone_then_zone_then_region_then_anywhere(without: tuple[str, ...], expected: list[str]) -> None:
    assert used(placed(without=tuple(without))) == expected


def test_without_outlier_detection_there_is_no_failover_and_so_no_preference() -> None:
    assert used(placed(outlier=None)) == ALL
    assert used(placed(Locality(failover=(("eu", "us"),)), outlier=None)) == ALL


def test_disabled_is_everybody_alike() -> None:
    assert used(placed(Locality(enabled=False))) == ALL


def test_failover_names_the_next_region() -> None:
    lab = placed(Locality(failover=(("eu", "ap"),)), without=tuple(ALL[:3]))
    assert used(lab) == ["10.0.1.5"]


def test_an_ejected_neighbour_hands_over_to_the_next_level() -> None:
    lab = placed()
    lab.call(500, lab.pick())
    assert used(lab) == ["10.0.1.2"]


def test_failover_priority_ranks_by_the_labels_that_are_alike() -> None:
    labels = {"10.0.1.4": {"version": "v2"}, "10.0.1.5": {"version": "v1"}}
    priority = ("version", "topology.kubernetes.io/region")
    assert used(placed(Locality(priority=priority), labels=labels)) == ["10.0.1.4"]
    wanted = ("version=v1", "topology.kubernetes.io/region")
    assert used(placed(Locality(priority=wanted), labels=labels)) == ["10.0.1.5"]


def test_failover_priority_stops_at_the_first_label_that_differs() -> None:
    """Region alike counts for nothing where the zone before it is not."""
    priority = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
    lab = placed(Locality(priority=priority), without=("10.0.1.1", "10.0.1.2"))
    assert used(lab) == ["10.0.1.4", "10.0.1.5"], "zone a of us and ap comes before zone b of eu"


@pytest.mark.parametrize(
    ("prefer", "without", "expected"),
    [
        ("zone", (), ["10.0.1.1", "10.0.1.2"]),
        ("zone", ("10.0.1.1", "10.0.1.2"), ["10.0.1.3"]),
        ("zone", tuple(ALL[:3]), ALL[3:]),
        ("node", (), ["10.0.1.1"]),
        ("node", ("10.0.1.1",), ["10.0.1.2"]),
    ],
)
def test_a_service_prefers_near_endpoints_without_outlier_detection(
    prefer: str, without: tuple[str, ...], expected: list[str]
) -> None:
    assert used(placed(outlier=None, prefer=prefer, without=without)) == expected


def test_a_balancers_own_setting_stands_before_the_services() -> None:
    assert used(placed(Locality(enabled=False), outlier=None, prefer="zone")) == ALL


def test_distribute_gives_each_locality_its_share() -> None:
    shares = (("eu/a/*", 80), ("us/*", 20))
    lab = placed(Locality(distribute=(("eu/a/*", shares),)), outlier=None)
    counted = Counter(lab.pick().ip for _ in range(10_000))
    assert set(counted) == {"10.0.1.1", "10.0.1.2", "10.0.1.4"}
    assert abs(counted["10.0.1.4"] - 2000) <= 120
    assert abs(counted["10.0.1.1"] - 4000) <= 60, "the two of a share take turns"


def test_a_key_meets_the_same_endpoint_among_shares() -> None:
    shares = (("eu/*", 50), ("us/*", 50))
    lab = placed()
    balancer = LoadBalancer(Balance.HASH, HashKey(source_ip=True), locality=Locality(distribute=(("*", shares),)))
    lab.policy(balancer)
    chosen = [{lab.pick(hashed(b"%d" % key)).ip for _ in range(5)} for key in range(200)]
    assert all(len(one) == 1 for one in chosen)
    far = sum(one == {"10.0.1.4"} for one in chosen)
    assert 70 < far < 130


def test_distribute_for_other_clients_changes_nothing() -> None:
    lab = placed(Locality(distribute=(("us/*", (("us/*", 100),)),)), outlier=None)
    assert used(lab) == ALL


def test_the_nearer_pattern_takes_an_endpoint_first() -> None:
    shares = (("eu/*", 50), ("eu/a/1", 50))
    lab = placed(Locality(distribute=(("*", shares),)), outlier=None)
    counted = Counter(lab.pick().ip for _ in range(2_000))
    assert set(counted) == set(ALL[:3]) and 900 < counted["10.0.1.1"] < 1100


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([(10, 10), (10, 10)], [1.0, 0.0]),
        ([(8, 10), (10, 10)], [1.0, 0.0]),
        ([(5, 10), (10, 10)], [0.7, 0.3]),
        ([(0, 10), (10, 10)], [0.0, 1.0]),
        ([(2, 10), (2, 10)], [0.5, 0.5]),
        ([(0, 10), (0, 10)], [0.0, 0.0]),
        ([], []),
    ],
)
def test_a_level_carries_1_4_times_its_healthy_part(levels: list[tuple[int, int]], expected: list[float]) -> None:
    """Envoy's priority levels, docs/intro/arch_overview/upstream/load_balancing/priority."""
    assert loads(levels) == pytest.approx(expected)


def test_a_denied_level_is_passed_over() -> None:
    lab = placed()
    chosen = lab.cluster().pick(None, (), lambda one: one.ip in ("10.0.1.3", "10.0.1.4"))
    assert chosen.ip == "10.0.1.3"
    assert lab.cluster().pick(None, (), anybody).ip == "10.0.1.1"


def test_endpoints_of_an_entry_have_the_locality_they_declare() -> None:
    lab = Lab()
    lab.client = lab.add(pod("10.0.0.1", "web", locality=HERE))
    lab.policy(outlier=OUTLIER)
    lab.serve(BackendItem("1.1.1.1", 80, locality=FAR), BackendItem("2.2.2.2", 80, locality=HERE))
    assert used(lab) == ["2.2.2.2"]
