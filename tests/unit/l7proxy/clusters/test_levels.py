"""Which policy holds: levels, ports, subsets, and whose rule decides."""

from __future__ import annotations

import pytest

from cluster_lab import HOST, Lab, anybody, pod
from weft.l7proxy.core import describe
from weft.policies.mesh.model import (
    Balance,
    ClientTls,
    ConnectionPool,
    DestinationPolicy,
    LeveledPolicy,
    LoadBalancer,
    Outlier,
    PortPolicy,
    Subset,
    TrafficPolicy,
)
from weft.policies.model import ObjectRef

RR, RANDOM = LoadBalancer(Balance.ROUND_ROBIN), LoadBalancer(Balance.RANDOM)
FEW, MANY = ConnectionPool(max_connections=1), ConnectionPool(max_connections=100)
OUTLIER = Outlier(consecutive_5xx=2)
DEFAULTS = (LoadBalancer(), ConnectionPool(), None)

DESTINATION = TrafficPolicy(RR, FEW, OUTLIER)


def rule(
    policy: TrafficPolicy = DESTINATION,
    ports: tuple[PortPolicy, ...] = (),
    subset: LeveledPolicy | None = None,
    **of: object,
) -> DestinationPolicy:
    ref = ObjectRef("DestinationRule", "shop", "orders")
    subsets = (Subset("v1", (("version", "v1"),), subset),)
    return DestinationPolicy(ref, HOST, LeveledPolicy(policy, ports), subsets, **of)  # type: ignore[arg-type]


def seen(lab: Lab, subset: str = "") -> tuple[object, ...]:
    policy = lab.cluster(subset).policy
    return policy.load_balancer, policy.connection_pool, policy.outlier


PORT80 = (PortPolicy(80, TrafficPolicy(RANDOM)),)
PORT81 = (PortPolicy(81, TrafficPolicy(RANDOM)),)
SUBSET = LeveledPolicy(TrafficPolicy(RANDOM))
SUBSET80 = LeveledPolicy(TrafficPolicy(outlier=OUTLIER), (PortPolicy(80, TrafficPolicy(connection_pool=MANY)),))


@pytest.mark.parametrize(
    ("declared", "subset", "expected"),
    [
        pytest.param(None, "", DEFAULTS, id="nothing declared"),
        pytest.param(rule(TrafficPolicy()), "", DEFAULTS, id="an empty policy"),
        pytest.param(rule(), "", (RR, FEW, OUTLIER), id="the destination's"),
        pytest.param(rule(ports=PORT81), "", (RR, FEW, OUTLIER), id="another port's settings"),
        pytest.param(rule(ports=PORT80), "", (RANDOM, ConnectionPool(), None), id="a port's replace the whole"),
        pytest.param(rule(), "v1", (RR, FEW, OUTLIER), id="a subset without policy"),
        pytest.param(rule(subset=SUBSET), "v1", (RANDOM, FEW, OUTLIER), id="a subset's, field by field"),
        pytest.param(rule(subset=SUBSET), "", (RR, FEW, OUTLIER), id="a subset's holds in it alone"),
        pytest.param(
            rule(ports=PORT80, subset=LeveledPolicy(TrafficPolicy(connection_pool=MANY))),
            "v1",
            (RANDOM, MANY, None),
            id="a subset's over the port's",
        ),
        pytest.param(
            rule(subset=SUBSET80), "v1", (LoadBalancer(), MANY, None), id="a subset's port's replace everything"
        ),
    ],
)
def test_the_policy_that_holds(
    declared: DestinationPolicy | None, subset: str, expected: tuple[object, ...]
) -> None:
    lab = Lab()
    lab.serve("10.0.1.1")
    if declared is not None:
        lab.declare(declared)
    assert seen(lab, subset) == expected


def test_the_first_rule_that_is_for_the_client_decides_alone() -> None:
    lab = Lab()
    lab.serve("10.0.1.1")
    mine = rule(TrafficPolicy(RANDOM), clients=("shop",), selector=(("app", "web"),))
    lab.declare(mine, rule(TrafficPolicy(RR, FEW), clients=("shop",)), rule(TrafficPolicy(connection_pool=MANY)))
    web = lab.add(pod("10.0.0.5", "web", app="web"))
    other = lab.add(pod("10.0.0.6", "other"))
    abroad = lab.add(pod("10.0.0.7", "web", namespace="abroad", app="web"))
    policies = [lab.cluster(client=client).policy for client in (web, other, abroad)]
    assert [(p.load_balancer, p.connection_pool) for p in policies] == [
        (RANDOM, ConnectionPool()),
        (RR, FEW),
        (LoadBalancer(), MANY),
    ]


def subsets(lab: Lab) -> None:
    lab.declare(rule())
    lab.add(pod("10.0.1.1", "orders-1", version="v1", app="orders"))
    lab.add(pod("10.0.1.2", "orders-2", version="v2", app="orders"))
    lab.serve("10.0.1.1", "10.0.1.2")


def test_a_subset_is_the_endpoints_that_bear_its_labels() -> None:
    lab = Lab()
    subsets(lab)
    assert {lab.pick(subset="v1").ip for _ in range(20)} == {"10.0.1.1"}
    assert {lab.pick().ip for _ in range(20)} == {"10.0.1.1", "10.0.1.2"}
    assert lab.cluster("v1").name == f"outbound|80|v1|{HOST}"


def test_an_undefined_subset_is_no_cluster_and_an_empty_one_has_nobody() -> None:
    lab = Lab()
    subsets(lab)
    assert lab.cluster("v3") is None
    lab.serve("10.0.1.2")
    cluster = lab.cluster("v1")
    assert cluster.pick(None, (), anybody) is None and not cluster.denied


@pytest.mark.parametrize(
    ("mode", "reached"), [("DISABLE", True), ("ISTIO_MUTUAL", True), ("SIMPLE", False), ("MUTUAL", False)]
)
def test_who_is_to_be_reached_by_tls_is_not_reached_in_the_clear(mode: str, reached: bool) -> None:
    lab = Lab()
    lab.serve("10.0.1.1")
    lab.declare(rule(TrafficPolicy(tls=ClientTls(mode))))
    cluster = lab.cluster()
    assert (cluster.pick(None, (), anybody) is not None) is reached
    assert not cluster.denied
    assert describe.clusters(lab.map)[0]["problem"] == ("" if reached else f"TLS mode {mode} is not served yet")


def test_an_unknown_host_or_port_is_no_cluster() -> None:
    lab = Lab()
    lab.serve("10.0.1.1")
    assert lab.cluster(port=81) is None and lab.cluster(host="nobody.shop.svc.cluster.local") is None


def test_a_subset_that_is_taken_back_is_no_cluster_any_more() -> None:
    lab = Lab()
    subsets(lab)
    lab.cluster("v1")
    lab.declare()
    assert lab.cluster("v1") is None


def test_a_destination_that_nobody_saw_for_a_while_is_seen_as_it_is_now() -> None:
    """Between the two, nobody had a view of it."""
    lab = Lab()
    subsets(lab)
    lab.cluster("v1")
    lab.declare()
    lab.add(pod("10.0.1.9", "orders-9", version="v1"))
    lab.serve("10.0.1.9")
    lab.declare(rule())
    assert lab.pick(subset="v1").ip == "10.0.1.9"


def test_a_pod_that_changes_its_labels_changes_subsets() -> None:
    lab = Lab()
    subsets(lab)
    lab.cluster("v1")
    lab.add(pod("10.0.1.2", "orders-2", version="v1"))
    lab.map.changed([HOST])
    assert {lab.pick(subset="v1").ip for _ in range(50)} == {"10.0.1.1", "10.0.1.2"}


def test_an_address_that_passes_to_another_workload_is_another_client() -> None:
    lab = Lab()
    lab.serve("10.0.1.1")
    lab.declare(rule(TrafficPolicy(RR), selector=(("app", "web"),)))
    lab.add(pod("10.0.0.5", "web", app="web"))
    before = lab.cluster(client=lab.world.workload("10.0.0.5"))
    lab.add(pod("10.0.0.5", "other"))
    after = lab.cluster(client=lab.world.workload("10.0.0.5"))
    assert before.policy.load_balancer == RR and after.policy.load_balancer == LoadBalancer()


def test_addresses_of_the_clients_family_are_used_as_far_as_there_are_any() -> None:
    lab = Lab()
    lab.serve("10.0.1.1", "fd00::1")
    six = lab.add(pod("fd00::99", "web"))
    assert {lab.pick().ip for _ in range(20)} == {"10.0.1.1"}
    assert {lab.pick(client=six).ip for _ in range(20)} == {"fd00::1"}
    lab.serve("fd00::1")
    assert lab.pick().ip == "fd00::1"
