"""A path that a server reads in another way than a rule does is not let pass by that rule."""

from __future__ import annotations

import pytest

from weft.policies.l7 import HttpLimits, Request, judge
from weft.policies.model import HttpRule, ObjectRef, Origin
from weft.policies.paths import readings

ORIGIN = Origin(ObjectRef("CiliumNetworkPolicy", "shop", "api"), "spec.ingress[0]")


def passes(pattern: str, path: str) -> bool:
    return judge(HttpLimits(((ORIGIN, HttpRule(path=pattern)),)), Request(path=path)).allowed


@pytest.mark.parametrize(
    "path",
    [
        "/public/../private",
        "/public/./../private",
        "/public/x/../../private",
        "/public/%2e%2e/private",
        "/public/%2E./private",
        "/public/.%2e/private?x=/public/",
        "/public/..%2fprivate",
        "/public/..%2Fprivate",
        "/public%2f..%2fprivate",
        "/public/..\\private",
        "/public\\..\\private",
        "/public/..%5cprivate",
        "/public/..;/private",
        "/public/..;a=b/private",
        "/public/%2e%2e;/private",
        "/public/;/../../private",
        "/public//../../private",
        "/public/%c0%ae%c0%ae/private",
        "/public/..%c0%afprivate",
        "/public/..%c1%9cprivate",
        "/public/..",
        "/public/../private#/public/",
        "//public/../private",
    ],
)
def test_a_rule_for_one_folder_lets_nobody_out_of_it(path: str) -> None:
    assert not passes("/public/.*", path)


@pytest.mark.parametrize(
    "path", ["/private#/public", "/private/..%2fprivate#/public", "/x/%2e%2e/private/../public/../x"]
)
def test_a_rule_for_an_ending_is_not_met_by_what_servers_cut_off(path: str) -> None:
    assert not passes(".*/public", path)


@pytest.mark.parametrize("pattern", ["/private", "/private.*", "/private/.*"])
def test_what_a_server_reads_alone_is_not_enough_either(pattern: str) -> None:
    assert not passes(pattern, "/public/../private")


@pytest.mark.parametrize(
    "path",
    [
        "/public/",
        "/public/x",
        "/public/a//b",
        "/public/./x",
        "/public/x/../y",
        "/public/a%20b",
        "/public/a%2fb",
        "/public/.well-known/x",
        "/public/...",
        "/public/..x",
        "/public/x;v=1",
        "/public/?next=/../private",
        "/public/x?y=%2e%2e%2fz#f",
        "/public/100%",
        "/public/%zz",
    ],
)
def test_what_stays_in_the_folder_passes(path: str) -> None:
    assert passes("/public/.*", path)


def test_ordinary_paths_have_one_reading() -> None:
    for path in ("/", "/a/b.c/d", "*", "/pkg.Service/Method", "/a?b=//..%2e", ""):
        assert readings(path) == (path,)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b/../c", ("/a/b/../c", "/a/c")),
        ("/a//b", ("/a//b", "/a/b")),
        ("/a%2Fb/..", ("/a%2Fb/..", "/", "/a/")),
        ("/../../x", ("/../../x", "/x")),
        ("/a/.", ("/a/.", "/a/")),
        ("/%41", ("/%41", "/A")),
    ],
)
def test_readings_are_those_of_the_standard_and_of_loose_servers(path: str, expected: tuple[str, ...]) -> None:
    assert readings(path) == expected
