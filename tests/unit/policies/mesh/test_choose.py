"""Which rule decides: order, authority, clients, weights, and patterns that are none."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import pytest

from weft.policies.errors import Invalid
from weft.policies.mesh.choose import Asked, Chooser, Weighted, check
from weft.policies.mesh.model import (
    Cors,
    Destination,
    DestinationPolicy,
    Dialect,
    HostRouting,
    How,
    Matcher,
    Origin,
    RequestMatch,
    Rewrite,
    Route,
    Rule,
)
from weft.policies.model import ObjectRef

HOST = "orders.shop.svc.cluster.local"


@dataclass
class Pod:
    namespace: str = "shop"
    labels: dict[str, str] = field(default_factory=dict)


def rule(name: str, *matches: RequestMatch, **more: object) -> Rule:
    return Rule(Origin("VirtualService", "shop", "orders", f"spec.{name}"), name, matches, **more)  # type: ignore[arg-type]


def route(name: str, *rules: Rule, hosts: tuple[str, ...] = (HOST,), **more: object) -> Route:
    return Route(ObjectRef("VirtualService", "shop", name), Dialect.ISTIO, hosts, rules, **more)  # type: ignore[arg-type]


def path(value: str, how: How = How.EXACT, **more: bool) -> RequestMatch:
    return RequestMatch(path=Matcher(how, value, **more))


def decided(chooser: Chooser, asked: Asked | None = None, client: Pod | None = None, port: int = 80) -> str | None:
    """The name of the rule; "404": none matches; None: no route."""
    asked = asked or Asked()
    chosen = chooser.rule(asked, client or Pod(), asked.authority, port)
    if chosen is None:
        return None
    return chosen.rule.name if chosen.rule else "404"


def choosing(*routes: Route, **more: object) -> Chooser:
    return Chooser(HostRouting(HOST, "shop/orders", routes, **more))  # type: ignore[arg-type]


ORDER = choosing(
    route(
        "orders",
        rule("first", path("/a", How.PREFIX)),
        rule("exact", path("/a/b"), path("/c")),
        rule("header", RequestMatch(path=Matcher(How.EXACT, "/d"), method=Matcher(How.EXACT, "POST"))),
        rule("again", path("/d")),
        rule("late", path("/c")),
    )
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked(path=b"/a/b"), "first"),
        (Asked(path=b"/c"), "exact"),
        (Asked(path=b"/c?x=/a"), "exact"),
        (Asked(path=b"/d"), "again"),
        (Asked(path=b"/d", method=b"POST"), "header"),
        (Asked(path=b"/e"), "404"),
    ],
)
def test_the_first_rule_that_matches_decides_also_among_exact_paths(asked: Asked, expected: str) -> None:
    assert decided(ORDER, asked) == expected


def test_a_rule_without_matches_takes_everything_and_hides_what_follows() -> None:
    chooser = choosing(route("orders", rule("x", path("/x")), rule("all"), rule("never", path("/y"))))
    assert [decided(chooser, Asked(path=p)) for p in (b"/x", b"/y", b"/z")] == ["x", "all", "all"]


def test_the_choice_names_the_match_that_hit() -> None:
    chooser = choosing(route("orders", rule("r", path("/a", How.PREFIX), path("/b", How.PREFIX))))
    chosen = chooser.rule(Asked(path=b"/b/1"), Pod(), b"", 80)
    assert chosen and chosen.match and chosen.match.path and chosen.match.path.value == "/b"


def test_the_same_request_gets_the_same_object_so_that_a_plan_can_stay_with_it() -> None:
    assert ORDER.rule(Asked(path=b"/c"), Pod(), b"", 80) is ORDER.rule(Asked(path=b"/c"), Pod(), b"", 80)


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"orders", "own"),
        (b"orders.shop", "own"),
        (b"ORDERS.shop.svc:8080", "own"),
        (b"orders.shop.svc.cluster.local", "own"),
        (b"orders.shop.svc.cluster.local.", "own"),
        (b"shop.example.com", "public"),
        (b"shop.example.com:80", "public"),
        (b"a.wild.example.com", "wild"),
        (b"wild.example.com", "public"),  # `*.` needs a label; nothing fits, so the first
        (b"10.1.2.3:80", "public"),
        (b"[fd00::1]:80", "public"),
        (b"", "public"),
    ],
)
def test_the_authority_picks_among_the_routes_of_a_service(authority: bytes, expected: str) -> None:
    chooser = choosing(
        route("1", rule("public"), hosts=("shop.example.com",)),
        route("2", rule("wild"), hosts=("*.wild.example.com",)),
        route("3", rule("own")),
    )
    assert decided(chooser, Asked(authority=authority)) == expected


def test_a_route_is_for_its_clients_and_ports_only() -> None:
    chooser = choosing(
        route("consumer", rule("mine"), clients=("web",)),
        route("ported", rule("ported"), ports=(8080,)),
    )
    assert decided(chooser, client=Pod("web")) == "mine"
    assert decided(chooser, client=Pod("shop"), port=8080) == "ported"
    assert decided(chooser, client=Pod("shop"), port=80) is None


def test_a_host_whose_routes_are_all_for_tcp_is_as_one_without_routes() -> None:
    assert decided(choosing(route("orders"))) is None


def test_what_is_only_delegated_to_routes_nothing_by_itself() -> None:
    assert decided(choosing(route("child", rule("child"), hosts=()))) is None


def test_a_pattern_that_re2_refuses_takes_its_route_out_and_no_other() -> None:
    bad = route("bad", rule("look", RequestMatch(method=Matcher(How.REGEX, "(?=x)"))))
    chooser = choosing(bad, route("good", rule("good"), hosts=("other",)))
    assert decided(chooser, Asked(authority=b"other")) == "good"
    assert decided(chooser) == "refused", "its host is not one without routes"
    assert [str(one.where) for one in chooser.refused] == ["VirtualService shop/bad: spec.look"]
    assert chooser.refused[0].reason


@pytest.mark.parametrize(
    "broken",
    [
        rule("header", RequestMatch(authority=Matcher(How.REGEX, "["))),
        rule("rewrite", rewrite=Rewrite(regex="(", substitution="x")),
        rule("group", rewrite=Rewrite(regex="(a)", substitution=r"\2")),
        rule("origin", cors=Cors(allow_origins=(Matcher(How.REGEX, "*"),))),
    ],
    ids=lambda one: one.name,
)
def test_every_pattern_of_a_route_is_checked(broken: Rule) -> None:
    with pytest.raises(Invalid, match="VirtualService shop/orders"):
        check(route("orders", broken))


def test_the_first_policy_for_the_client_decides_alone() -> None:
    def policy(name: str, **more: object) -> DestinationPolicy:
        return DestinationPolicy(ObjectRef("DestinationRule", "shop", name), HOST, **more)  # type: ignore[arg-type]

    chooser = choosing(
        policies=(
            policy("selected", selector=(("app", "web"),)),
            policy("consumer", clients=("web",)),
            policy("all"),
        )
    )
    found = [
        chooser.policy(client)
        for client in (Pod("shop", {"app": "web"}), Pod("web", {"app": "x"}), Pod("shop", {"app": "x"}))
    ]
    assert [one.ref.name for one in found if one] == ["selected", "consumer", "all"]


# --- weights -----------------------------------------------------------------------------------------------------


def weights(*numbers: int) -> Weighted:
    return Weighted([Destination("h", weight=number) for number in numbers])


def test_ninety_ten_within_three_sigma_of_ten_thousand() -> None:
    draw, split = random.Random(8).random, weights(90, 10)
    second = sum(split.at(draw()) for _ in range(10_000))
    assert abs(second - 1000) <= 3 * math.sqrt(10_000 * 0.1 * 0.9)


@pytest.mark.parametrize(
    ("numbers", "draws", "expected"),
    [
        ((1, 3), (0.0, 0.2499, 0.25, 0.9999), [0, 0, 1, 1]),
        ((0, 5, 0), (0.0, 0.5, 0.9999), [1, 1, 1]),
        ((0,), (0.0, 0.9999), [0, 0]),
        ((0, 0), (0.0, 0.5), [-1, -1]),
        ((30, 30), (0.4999, 0.5), [0, 1]),
    ],
    ids=[
        "a share of the sum",
        "zero among several gets none",
        "a single one gets all",
        "all zero: nobody",
        "halves",
    ],
)
def test_shares(numbers: tuple[int, ...], draws: tuple[float, ...], expected: list[int]) -> None:
    assert [weights(*numbers).at(draw) for draw in draws] == expected
