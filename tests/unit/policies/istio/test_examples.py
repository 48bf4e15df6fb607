"""The examples that people have: each is read as it is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.policies.dialects.registry import Parsed, parse
from weft.policies.errors import Invalid
from weft.policies.mesh.model import (
    Destination,
    DestinationPolicy,
    How,
    Matcher,
    Named,
    RequestMatch,
    Retries,
    Route,
    Subset,
    Telemetry,
    Tracing,
)
from weft.policies.yamldoc import documents

EXAMPLES = Path(__file__).parents[3] / "support" / "examples"
LOCAL = "default.svc.cluster.local"


def example(name: str) -> Parsed | None:
    (document,) = documents((EXAMPLES / name).read_text(), name)
    return parse(document)


def example_route(name: str) -> Route:
    found = example(name)
    assert isinstance(found, Route)
    return found


def test_s0_sends_orders_to_a_subset_of_payments() -> None:
    found = example_route("s0-orders-route.yaml")
    assert found.hosts == (f"orders.{LOCAL}",)
    assert found.http[0].destinations == (Destination(f"payments.{LOCAL}", subset="v1", weight=100),)


def test_s2_sends_who_asks_for_it_to_the_canary_and_a_tenth_of_the_others() -> None:
    asked, others = example_route("s2-canary.yaml").http
    assert asked.matches == (RequestMatch(headers=(Named("x-canary", Matcher(How.EXACT, "true")),)),)
    assert [each.subset for each in asked.destinations] == ["v2"]
    assert others.matches == ()
    assert [(each.subset, each.weight) for each in others.destinations] == [("v1", 90), ("v2", 10)]


def test_s2_retries_within_a_timeout() -> None:
    (only,) = example_route("s2-retries.yaml").http
    assert only.timeout == 10.0
    assert only.retries == Retries(3, ("gateway-error", "connect-failure", "retriable-4xx"), per_try_timeout=3.0)


def test_s2_samples_a_tenth() -> None:
    found = example("s2-tracing.yaml")
    assert isinstance(found, Telemetry)
    assert found.tracing == (Tracing(providers=("jaeger",), sampling_percent=10.0),)


@pytest.mark.parametrize("name", ["s2-mtls-strict.yaml", "s2-payment-auth.yaml"])
def test_s2_what_needs_identity_is_not_let_pass_unread(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        example(name)
    assert caught.value.not_enforced


def test_s3_subsets_and_shares() -> None:
    rule, shares = (
        example("s3-destination-rule.yaml"),
        example_route("s3-virtual-service.yaml").http[0].destinations,
    )
    assert isinstance(rule, DestinationPolicy)
    assert rule.host == f"api-service.{LOCAL}"
    assert rule.subsets == (Subset("v1", (("version", "v1"),)), Subset("v2", (("version", "v2"),)))
    assert [(each.host, each.subset, each.weight) for each in shares] == [
        (rule.host, "v1", 90),
        (rule.host, "v2", 10),
    ]


def test_s3_a_split_by_serviceMember() -> None:
    found = example_route("s3-traffic-split.yaml")
    assert [(each.host, each.weight) for each in found.http[0].destinations] == [
        (f"api-service-v1.{LOCAL}", 90),
        (f"api-service-v2.{LOCAL}", 10),
    ]
    assert len(found.warnings) == 2


def test_s4_a_weight_in_the_wrong_place() -> None:
    found = example_route("s4-backend.yaml")
    assert found.http[0].destinations == (Destination(f"backend.{LOCAL}", weight=100),)
    assert len(found.warnings) == 1
