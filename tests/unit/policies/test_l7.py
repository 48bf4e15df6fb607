"""Which requests HTTP rules let through: each row is one statement of L1 to L9."""

from __future__ import annotations

import pytest

from weft.policies import l7
from weft.policies.l7 import HttpLimits, Request, judge, limits
from weft.policies.model import L7, Action, Direction, HeaderMatch, HttpRule, ObjectRef, Origin
from weft.policies.snapshot import ResolvedPeers, ResolvedRule, ResolvedSpec

ORIGIN = Origin(ObjectRef("CiliumNetworkPolicy", "default", "p"), "spec.ingress[0]")
OTHER = Origin(ORIGIN.ref, "spec.ingress[1]")
TOKEN = Request(headers={"x-token": ("1",)})
GET, PUT_X = HttpRule(method="GET"), HttpRule(method="PUT", path="/x")


def of(*rules: HttpRule) -> HttpLimits:
    return HttpLimits(tuple((ORIGIN, rule) for rule in rules))


ROWS = [
    ("an empty rule lets everything pass", HttpRule(), Request(method="DELETE", path="/x"), True),
    ("a path is matched in full", HttpRule(path="/public"), Request(path="/public"), True),
    ("a longer path is another", HttpRule(path="/public"), Request(path="/public/x"), False),
    ("the query belongs to the path", HttpRule(path="/public"), Request(path="/public?x=1"), False),
    ("a pattern may let the query pass", HttpRule(path=r"/public(\?.*)?"), Request(path="/public?x=1"), True),
    ("an end mark changes nothing", HttpRule(path="/path1$"), Request(path="/path1"), True),
    ("an end mark is no newline", HttpRule(path="/path1$"), Request(path="/path1\n"), False),
    ("a method is a pattern too", HttpRule(method="GET|HEAD"), Request(method="HEAD"), True),
    ("a method is matched in full", HttpRule(method="GE"), Request(method="GET"), False),
    ("a method's case counts", HttpRule(method="GET"), Request(method="get"), False),
    ("a host is a pattern", HttpRule(host=r".*\.example\.com"), Request(host="a.example.com"), True),
    ("another host", HttpRule(host=r".*\.example\.com"), Request(host="example.com"), False),
    ("all fields must match", HttpRule(path="/x", method="PUT"), Request(path="/x", method="GET"), False),
    ("a header that must be there", HttpRule(headers=(HeaderMatch("X-Token"),)), TOKEN, True),
    ("a header that is missing", HttpRule(headers=(HeaderMatch("X-Other"),)), TOKEN, False),
    ("a header's value is exact", HttpRule(headers=(HeaderMatch("X-Token", "1"),)), TOKEN, True),
    ("a header's other value", HttpRule(headers=(HeaderMatch("X-Token", "12"),)), TOKEN, False),
    (
        "two headers must both match",
        HttpRule(headers=(HeaderMatch("X-Token", "1"), HeaderMatch("X-Other"))),
        TOKEN,
        False,
    ),
    (
        "several values are one list",
        HttpRule(headers=(HeaderMatch("X-Token", "1,2"),)),
        Request(headers={"x-token": ("1", "2")}),
        True,
    ),
    (
        "a mismatch that only logs denies nothing",
        HttpRule(headers=(HeaderMatch("X-Token", "2", "LOG"),)),
        TOKEN,
        True,
    ),
    ("a mismatch that replaces denies nothing", HttpRule(headers=(HeaderMatch("A", "2", "REPLACE"),)), TOKEN, True),
    (
        "a secret that is missing never matches",
        HttpRule(headers=(HeaderMatch("X-Token", secret=("default", "s")),)),
        TOKEN,
        False,
    ),
    (
        "a missing secret with a value beside it is that value",
        HttpRule(headers=(HeaderMatch("X-Token", "1", secret=("default", "s")),)),
        TOKEN,
        True,
    ),
]


@pytest.mark.parametrize(("rule", "request_", "allowed"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_rule(rule: HttpRule, request_: Request, allowed: bool) -> None:
    assert judge(of(rule), request_).allowed is allowed


def test_a_secret_that_is_there_counts() -> None:
    rule = HttpRule(headers=(HeaderMatch("X-Token", "other", secret=("default", "s")),))
    assert judge(of(rule), TOKEN, {("default", "s"): "1"}).allowed
    assert not judge(of(rule), TOKEN, {("default", "s"): "2"}).allowed


def test_any_rule_is_enough_and_all_that_fit_are_named() -> None:
    assert judge(of(GET, PUT_X), Request("PUT", "/x")).rules == ((ORIGIN, PUT_X),)
    assert judge(of(GET, HttpRule()), Request()).rules == ((ORIGIN, GET), (ORIGIN, HttpRule()))


def test_no_rule_lets_nothing_pass() -> None:
    assert not judge(of(), Request()).allowed


def test_the_nearest_miss_is_the_rule_with_the_fewest_failures() -> None:
    answer = judge(of(PUT_X, HttpRule(method="GET", path="/y")), Request("PUT", "/z"))
    assert (answer.nearest, answer.failed) == ((ORIGIN, PUT_X), "path")


def rule(origin: Origin, *http: HttpRule) -> ResolvedRule:
    return ResolvedRule(
        origin, Direction.INGRESS, Action.ALLOW, ResolvedPeers(any=True), None, L7(http) if http else None
    )


def spec(*rules: ResolvedRule, default_deny: bool = True) -> ResolvedSpec:
    return ResolvedSpec(frozenset({300}), default_deny, default_deny, rules)


def test_rules_of_several_policies_are_one_list() -> None:
    get, put = rule(ORIGIN, GET), rule(OTHER, PUT_X)
    given = limits([(spec(get), get), (spec(put), put)])
    assert given.rules == ((ORIGIN, GET), (OTHER, PUT_X))
    assert not given.lifted


def test_a_plain_allow_beside_l7_rules_lifts_them() -> None:
    get, plain = rule(ORIGIN, GET), rule(OTHER)
    given = limits([(spec(get), get), (spec(plain), plain)])
    assert (given.lifted, given.by) == (True, (OTHER,))
    assert judge(given, Request("POST")).allowed


def test_l7_rules_without_default_deny_only_watch() -> None:
    get = rule(ORIGIN, GET)
    assert judge(limits([(spec(get, default_deny=False), get)]), Request("POST")).allowed


def test_the_nodes_own_requests_all_pass() -> None:
    get = rule(ORIGIN, GET)
    assert judge(limits([(spec(get), get)], bypass=True), Request("POST")).allowed


def test_patterns_are_compiled_once() -> None:
    assert l7.compiled("/a.*") is l7.compiled("/a.*")
