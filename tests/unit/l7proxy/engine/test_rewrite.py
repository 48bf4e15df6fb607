"""Paths, redirects, header changes and CORS: pure functions, by rows."""

from __future__ import annotations

import pytest

from engine_lab import HOST, Lab, rule
from weft.l7proxy.core.headers import Changes
from weft.l7proxy.core.rewrite import location, path_change
from weft.l7proxy.core.stream import Request
from weft.policies.mesh.model import Cors, HeaderChanges, How, Matcher, Redirect, RequestMatch, Rewrite


def at(how: How, value: str) -> RequestMatch:
    return RequestMatch(path=Matcher(how, value))


@pytest.mark.parametrize(
    ("rewrite", "match", "path", "expected"),
    [
        (Rewrite(path="/new"), None, b"/old/x?q=1", b"/new?q=1"),
        (Rewrite(prefix="/new"), at(How.PREFIX, "/old"), b"/old/x?q=/old", b"/new/x?q=/old"),
        (Rewrite(prefix="/new"), at(How.PREFIX, "/old"), b"/older", b"/newer"),
        (Rewrite(prefix="/"), at(How.PREFIX, "/api/"), b"/api/x", b"/x"),
        (Rewrite(prefix="/"), at(How.PREFIX, "/api"), b"/api/x", b"//x"),  # Istio's known trap: raw bytes
        (Rewrite(prefix="/"), at(How.PREFIX, "/api"), b"/api?q", b"/?q"),
        (Rewrite(prefix="/new"), at(How.EXACT, "/old"), b"/old?q", b"/new?q"),
        (Rewrite(prefix="/new/"), None, b"/x", b"/new/x"),
        (Rewrite(prefix="/b"), at(How.SEGMENTS, "/a"), b"/a/c", b"/b/c"),
        (Rewrite(prefix="/"), at(How.SEGMENTS, "/a"), b"/a/c", b"/c"),
        (Rewrite(prefix="/"), at(How.SEGMENTS, "/a"), b"/a", b"/"),
        (Rewrite(prefix=""), at(How.SEGMENTS, "/a/"), b"/a?q", b"/?q"),
        (Rewrite(prefix="/b/"), at(How.SEGMENTS, "/"), b"/c", b"/b/c"),
        (Rewrite(regex="/v([0-9]+)", substitution=r"/api/\1"), None, b"/v2/x?y=/v3", b"/api/2/x?y=/v3"),
        (Rewrite(regex="a", substitution=r"\\"), None, b"/aXa", b"/\\X\\"),
        (Rewrite(regex="^/([^/]*)/(.*)$", substitution=r"/\2/\1"), None, b"/a/b", b"/b/a"),
        (Rewrite(regex="/", substitution=""), None, b"/x", b"/x"),
    ],
)
def test_paths_to_send(rewrite: Rewrite, match: RequestMatch | None, path: bytes, expected: bytes) -> None:
    change = path_change(rewrite, match)
    assert change and change(path) == expected


@pytest.mark.parametrize(
    ("redirect", "authority", "expected"),
    [
        (Redirect(host="new"), b"api:8080", b"http://new/x?q=1"),
        (Redirect(scheme="https"), b"api:8080", b"https://api/x?q=1"),
        (Redirect(path="/y"), b"api:8080", b"http://api:8080/y?q=1"),
        (Redirect(path="/y?z=2"), b"api", b"http://api/y?z=2"),
        (Redirect(port=8443), b"api", b"http://api:8443/x?q=1"),
        (Redirect(scheme="https", port=443), b"api", b"https://api/x?q=1"),
        (Redirect(scheme="http", port=80), b"api:81", b"http://api/x?q=1"),
        (Redirect(host="new", derive_port="request"), b"api", b"http://new:9080/x?q=1"),
        (Redirect(scheme="https", derive_port="protocol"), b"api:9080", b"https://api/x?q=1"),
        (Redirect(prefix="/p"), b"api", b"http://api/p/x?q=1"),
        (Redirect(path="/y"), b"[fd00::1]:80", b"http://[fd00::1]:80/y?q=1"),
        (Redirect(path="/y"), b"[fd00::1]", b"http://[fd00::1]/y?q=1"),
    ],
)
def test_where_redirects_point(redirect: Redirect, authority: bytes, expected: bytes) -> None:
    request = Request(b"GET", b"/x?q=1", authority, [])
    assert location(redirect, request, at(How.SEGMENTS, "/"), 9080) == expected


def test_headers_are_removed_set_and_added_in_this_order() -> None:
    changes = Changes(HeaderChanges(set=(("A", "2"),), add=(("a", "3"), ("b", "x")), remove=("B", "c")))
    given = [(b"a", b"1"), (b"a", b"1"), (b"b", b"1"), (b"c", b"1"), (b"d", b"1")]
    assert changes.apply(given) == [(b"d", b"1"), (b"a", b"2"), (b"a", b"3"), (b"b", b"x")]
    assert given[0] == (b"a", b"1") and len(given) == 5


# --- CORS ----------------

CORS = Cors(
    allow_origins=(Matcher(How.EXACT, "https://a.example"), Matcher(How.REGEX, r"https://.*\.b\.example")),
    allow_methods=("GET", "PUT"),
    allow_headers=("x-a", "x-b"),
    expose_headers=("x-c",),
    max_age=600.0,
    allow_credentials=True,
)
PREFLIGHT = [(b"access-control-request-method", b"PUT"), (b"access-control-request-headers", b"x-a")]


def asked(cors: Cors, origin: bytes, *more: tuple[bytes, bytes], method: bytes = b"OPTIONS") -> tuple[object, Lab]:
    lab = Lab(rule(HOST, cors=cors))
    lab.server = lambda one: one.respond(200, [(b"access-control-allow-origin", b"*"), (b"x", b"y")])
    return lab.client(headers=[(b"origin", origin), *more], method=method), lab


def named(client: object) -> dict[bytes, bytes]:
    return {name: value for name, value in client.headers if name.startswith(b"access-control")}  # type: ignore[attr-defined]


@pytest.mark.parametrize("origin", [b"https://a.example", b"https://x.b.example"])
def test_a_preflight_of_an_allowed_origin_is_answered_here(origin: bytes) -> None:
    client, lab = asked(CORS, origin, *PREFLIGHT)
    assert client.status == 200 and not lab.tries and lab.entry.details == "cors_response"  # type: ignore[attr-defined]
    assert named(client) == {
        b"access-control-allow-origin": origin,
        b"access-control-allow-credentials": b"true",
        b"access-control-allow-methods": b"GET,PUT",
        b"access-control-allow-headers": b"x-a,x-b",
        b"access-control-expose-headers": b"x-c",
        b"access-control-max-age": b"600",
    }


def test_a_star_allows_what_is_asked_for() -> None:
    client, _ = asked(Cors((Matcher(How.PRESENT),), ("*",), ("*",)), b"null", *PREFLIGHT)
    assert named(client)[b"access-control-allow-methods"] == b"PUT"
    assert named(client)[b"access-control-allow-headers"] == b"x-a"


@pytest.mark.parametrize(("forward", "tries"), [(True, 1), (False, 0)])
def test_a_preflight_of_another_origin(forward: bool, tries: int) -> None:
    cors = Cors(CORS.allow_origins, forward_unmatched=forward)
    client, lab = asked(cors, b"https://evil.example", *PREFLIGHT)
    assert client.status == 200 and len(lab.tries) == tries  # type: ignore[attr-defined]
    assert forward or named(client) == {}


def test_an_options_request_that_is_no_preflight_goes_on() -> None:
    _, lab = asked(CORS, b"https://a.example")
    assert len(lab.tries) == 1


def test_a_response_to_an_allowed_origin_says_so_in_place_of_the_server() -> None:
    client, _ = asked(CORS, b"https://a.example", method=b"GET")
    assert named(client) == {
        b"access-control-allow-origin": b"https://a.example",
        b"access-control-allow-credentials": b"true",
        b"access-control-expose-headers": b"x-c",
    }
    assert (b"x", b"y") in client.headers  # type: ignore[attr-defined]


def test_a_response_to_another_origin_stays_the_servers() -> None:
    client, _ = asked(CORS, b"https://evil.example", method=b"GET")
    assert named(client) == {b"access-control-allow-origin": b"*"}
