"""Each way to match a request, by the letter of F12 to F15."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from weft.policies.mesh.choose import Asked
from weft.policies.mesh.matching import View, bare, query_of, request_test
from weft.policies.mesh.model import How, Matcher, Named, RequestMatch


@dataclass
class Pod:
    namespace: str = "shop"
    labels: dict[str, str] = field(default_factory=lambda: {"app": "web", "version": "v1"})


def passes(match: RequestMatch, asked: Asked, port: int = 80, client: Pod | None = None) -> bool:
    test = request_test(match)
    return test is None or test(View(asked, bare(asked.path), client or Pod(), port))


PATHS = [
    ("exact", Matcher(How.EXACT, "/a"), {b"/a": True, b"/a?q": True, b"/a/": False, b"/A": False}),
    ("raw prefix", Matcher(How.PREFIX, "/foo"), {b"/foobar": True, b"/foo/x": True, b"/fo": False}),
    (
        "segments",
        Matcher(How.SEGMENTS, "/a/b"),
        {b"/a/b": True, b"/a/b/": True, b"/a/b/c": True, b"/a/bc": False, b"/a": False, b"/a/b?x": True},
    ),
    ("segments with a slash at the end", Matcher(How.SEGMENTS, "/a/"), {b"/a": True, b"/a/b": True, b"/ab": False}),
    ("all segments", Matcher(How.SEGMENTS, "/"), {b"/": True, b"/x": True}),
    ("a regex of the whole path", Matcher(How.REGEX, "/v[0-9]"), {b"/v1": True, b"/v1/": False, b"/v1?x=1": True}),
    ("ignoring case, exact", Matcher(How.EXACT, "/Aa", ignore_case=True), {b"/aA": True, b"/ab": False}),
    ("ignoring case, prefix", Matcher(How.PREFIX, "/Aa", ignore_case=True), {b"/aA/b": True, b"/b": False}),
    ("ignoring case is not of regexes", Matcher(How.REGEX, "/A", ignore_case=True), {b"/a": False, b"/A": True}),
    ("suffix", Matcher(How.SUFFIX, ".png"), {b"/x.png": True, b"/x.png?y": True, b"/x": False}),
    ("contains", Matcher(How.CONTAINS, "adm"), {b"/xadmin": True, b"/x?adm": False}),
    ("inverted", Matcher(How.PREFIX, "/a", invert=True), {b"/a": False, b"/b": True}),
    ("bytes that are no text", Matcher(How.REGEX, "/.*"), {b"/\xff": False, b"/\xc3\xa9": True}),
    ("a fragment that should not be there", Matcher(How.EXACT, "/a"), {b"/a#x": True}),
]


@pytest.mark.parametrize(
    ("matcher", "path", "expected"),
    [
        pytest.param(matcher, path, expected, id=f"{name} {path!r}")
        for name, matcher, paths in PATHS
        for path, expected in paths.items()
    ],
)
def test_paths(matcher: Matcher, path: bytes, expected: bool) -> None:
    assert passes(RequestMatch(path=matcher), Asked(path=path)) is expected


COOKIE = Matcher(How.REGEX, "^(.*?;)?(user=jason)(;.*)?$")
HEADERS = [
    ("exact", Named("x-canary", Matcher(How.EXACT, "true")), [(b"x-canary", b"true")], True),
    ("exact, another value", Named("x-canary", Matcher(How.EXACT, "true")), [(b"x-canary", b"false")], False),
    ("exact, absent", Named("x-canary", Matcher(How.EXACT, "true")), [], False),
    ("a name with capitals", Named("X-Canary", Matcher(How.EXACT, "true")), [(b"x-canary", b"true")], True),
    ("present", Named("a", Matcher(How.PRESENT)), [(b"a", b"")], True),
    ("present, absent", Named("a", Matcher(How.PRESENT)), [], False),
    ("without, absent passes", Named("a", Matcher(How.EXACT, "1", invert=True)), [], True),
    ("without, the same fails", Named("a", Matcher(How.EXACT, "1", invert=True)), [(b"a", b"1")], False),
    ("without, another passes", Named("a", Matcher(How.EXACT, "1", invert=True)), [(b"a", b"2")], True),
    ("without present, absent passes", Named("a", Matcher(How.PRESENT, invert=True)), [], True),
    ("without present, there", Named("a", Matcher(How.PRESENT, invert=True)), [(b"a", b"")], False),
    ("several values are one list", Named("a", Matcher(How.EXACT, "1,2")), [(b"a", b"1"), (b"a", b"2")], True),
    ("a cookie", Named("cookie", COOKIE), [(b"cookie", b"a=1;user=jason;b=2")], True),
    ("crumbs of HTTP/2", Named("cookie", Matcher(How.EXACT, "a; b")), [(b"cookie", b"a"), (b"cookie", b"b")], True),
    ("another cookie", Named("cookie", COOKIE), [(b"cookie", b"user=jasonx")], False),
    ("a regex of part of it", Named("a", Matcher(How.REGEX, "b")), [(b"a", b"abc")], False),
    ("host is the authority", Named("host", Matcher(How.EXACT, "api")), [], True),
]  # fmt: skip


@pytest.mark.parametrize(("named", "headers", "expected"), [pytest.param(*row[1:], id=row[0]) for row in HEADERS])
def test_headers(named: Named, headers: list[tuple[bytes, bytes]], expected: bool) -> None:
    asked = Asked(authority=b"api", headers=headers)
    assert passes(RequestMatch(headers=(named,)), asked) is expected


@pytest.mark.parametrize(
    ("path", "matcher", "expected"),
    [
        (b"/?k", Matcher(How.EXACT, ""), True),
        (b"/?k=", Matcher(How.EXACT, ""), True),
        (b"/?k=v", Matcher(How.EXACT, ""), False),
        (b"/?k=v", Matcher(How.EXACT, "v"), True),
        (b"/?a=1&k=v&k=w", Matcher(How.EXACT, "v"), True),
        (b"/?a=1&k=v&k=w", Matcher(How.EXACT, "w"), False),
        (b"/?kk=v", Matcher(How.EXACT, "v"), False),
        (b"/", Matcher(How.PRESENT), False),
        (b"/?k=12", Matcher(How.REGEX, "[0-9]+"), True),
        (b"/?k=abc", Matcher(How.PREFIX, "ab"), True),
    ],
)
def test_query_parameters(path: bytes, matcher: Matcher, expected: bool) -> None:
    assert passes(RequestMatch(query=(Named("k", matcher),)), Asked(path=path)) is expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (RequestMatch(), True),
        (RequestMatch(port=80), True),
        (RequestMatch(port=81), False),
        (RequestMatch(method=Matcher(How.EXACT, "GET")), True),
        (RequestMatch(method=Matcher(How.REGEX, "GET|POST")), True),
        (RequestMatch(method=Matcher(How.EXACT, "get")), False),
        (RequestMatch(scheme=Matcher(How.EXACT, "http")), True),
        (RequestMatch(authority=Matcher(How.EXACT, "api:80")), True),
        (RequestMatch(authority=Matcher(How.EXACT, "api")), False),
        (RequestMatch(authority=Matcher(How.PREFIX, "api")), True),
        (RequestMatch(source_namespace="shop"), True),
        (RequestMatch(source_namespace="web"), False),
        (RequestMatch(source_labels=(("app", "web"),)), True),
        (RequestMatch(source_labels=(("app", "web"), ("version", "v1"))), True),
        (RequestMatch(source_labels=(("app", "web"), ("version", "v2"))), False),
        (RequestMatch(source_labels=(("tier", "x"),)), False),
        (RequestMatch(port=80, method=Matcher(How.EXACT, "GET"), source_namespace="web"), False),
        (RequestMatch(port=80, method=Matcher(How.EXACT, "GET"), source_namespace="shop"), True),
    ],
)
def test_everything_else_and_all_of_it_together(match: RequestMatch, expected: bool) -> None:
    assert passes(match, Asked(authority=b"api:80")) is expected


def test_a_query_is_read_up_to_the_fragment_and_only_the_first_value_counts() -> None:
    assert query_of(b"/a?x=1&y&x=2#z=3") == {b"x": b"1", b"y": b""}
    assert query_of(b"/a") == {}
