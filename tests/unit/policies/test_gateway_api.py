"""HTTPRoute, GRPCRoute, ReferenceGrant: what each field means, and what is refused where."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from declared import declared
from weft.policies.errors import Invalid
from weft.policies.mesh.model import (
    DEFAULT_RETRIES,
    Cors,
    DirectResponse,
    HeaderChanges,
    How,
    Matcher,
    Named,
    Redirect,
    ReferenceGrant,
    RequestMatch,
    Rewrite,
    Route,
    Rule,
)

ROOT = RequestMatch(path=Matcher(How.SEGMENTS, "/"))
HEAD = """
apiVersion: gateway.networking.k8s.io/{version}
kind: {kind}
metadata: {{name: r, namespace: shop, creationTimestamp: "2024-05-01T00:00:00Z"}}
spec:
"""
PARENT = 'parentRefs: [{group: "", kind: Service, name: orders}]\n'


def route(spec: str, kind: str = "HTTPRoute", version: str = "v1") -> Route:
    text = HEAD.format(kind=kind, version=version) + textwrap.indent(textwrap.dedent(spec), "  ")
    found = declared(text)
    assert isinstance(found, Route)
    return found


def rule(entry: str, kind: str = "HTTPRoute") -> Rule:
    (found,) = route(f"{PARENT}rules: [{{{entry}}}]", kind).http
    return found


def refusal(entry: str, kind: str = "HTTPRoute") -> str:
    with pytest.raises(Invalid) as caught:
        rule(entry, kind)
    return f"{caught.value.where.path}: {caught.value.reason}"


def test_it_is_attached_to_services_by_their_hosts() -> None:
    found = route(
        'parentRefs: [{group: "", kind: Service, name: orders, port: 80}, {group: "", kind: Service, name: b, namespace: bank}]'
    )
    assert found.hosts == ("orders.shop.svc.cluster.local", "b.bank.svc.cluster.local")
    assert found.parents == (("orders.shop.svc.cluster.local", 80), ("b.bank.svc.cluster.local", 0))
    assert found.created == "2024-05-01T00:00:00Z"


@pytest.mark.parametrize(
    ("parent", "warning"),
    [
        ("{name: g}", "Gateway g is no Service"),
        ('{group: "", kind: Service, name: orders, sectionName: http}', "chosen by number"),
    ],
)
def test_other_parents_are_left_out_and_told(parent: str, warning: str) -> None:
    found = route(f"parentRefs: [{parent}]")
    assert found.hosts == ()
    assert warning in found.warnings[0]


def test_hostnames_mean_nothing_in_the_mesh() -> None:
    assert "hostnames" in route(PARENT + "hostnames: [a.example]").warnings[0]


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha2"])
@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_every_version_is_read(kind: str, version: str) -> None:
    assert route(PARENT, kind, version).grpc is (kind == "GRPCRoute")


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ("{}", ROOT),
        ("{path: {value: /a}}", RequestMatch(path=Matcher(How.SEGMENTS, "/a"))),
        ("{path: {type: Exact, value: /a}}", RequestMatch(path=Matcher(How.EXACT, "/a"))),
        ("{path: {type: RegularExpression, value: '/a.*'}}", RequestMatch(path=Matcher(How.REGEX, "/a.*"))),
        ("{method: GET}", RequestMatch(path=Matcher(How.SEGMENTS, "/"), method=Matcher(How.EXACT, "GET"))),
        (
            "{headers: [{name: X-A, value: b}, {name: x-a, value: c}, {type: RegularExpression, name: W, value: z+}]}",
            RequestMatch(
                path=Matcher(How.SEGMENTS, "/"),
                headers=(Named("x-a", Matcher(How.EXACT, "b")), Named("w", Matcher(How.REGEX, "z+"))),
            ),
        ),
        (
            "{queryParams: [{name: Q, value: v}]}",
            RequestMatch(path=Matcher(How.SEGMENTS, "/"), query=(Named("Q", Matcher(How.EXACT, "v")),)),
        ),
    ],
    ids=[
        "nothing: every path",
        "a prefix",
        "an exact path",
        "a pattern",
        "a method",
        "headers, the first of a name",
        "a parameter",
    ],
)
def test_what_a_request_must_be_like(match: str, wanted: RequestMatch) -> None:
    assert rule(f"matches: [{match}]").matches == (wanted,)


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ("{method: {service: a.B, method: C}}", Matcher(How.EXACT, "/a.B/C")),
        ("{method: {service: a.B}}", Matcher(How.PREFIX, "/a.B/")),
        ("{method: {method: C}}", Matcher(How.REGEX, "/[^/]+/C")),
        ("{method: {type: RegularExpression, service: 'a.*'}}", Matcher(How.REGEX, "/(?:a.*)/(?:[^/]+)")),
        ("{headers: [{name: x, value: w}]}", None),
    ],
    ids=["a method", "a whole service", "a method of any service", "a pattern", "no method: every one"],
)
def test_which_calls_of_grpc(match: str, wanted: Matcher | None) -> None:
    assert rule(f"matches: [{match}]", "GRPCRoute").matches[0].path == wanted


def test_backends_have_weights_and_ports_and_answer_500_when_they_are_missing() -> None:
    found = rule("backendRefs: [{name: a, port: 80}, {name: b, namespace: bank, port: 81, weight: 3}]").destinations
    assert [(d.host, d.port, d.weight, d.missing) for d in found] == [
        ("a.shop.svc.cluster.local", 80, 1, 500),
        ("b.bank.svc.cluster.local", 81, 3, 500),
    ]


def test_a_backend_that_is_no_service_is_refused_where_it_stands() -> None:
    found = route(PARENT + "rules: [{backendRefs: [{group: x.io, kind: Bucket, name: a, port: 80}]}]")
    assert found.http[0].destinations[0].refused == "InvalidKind: Bucket"
    assert "Bucket" in found.warnings[0]


def test_weights_that_are_all_zero_leave_500() -> None:
    found = rule("backendRefs: [{name: a, port: 80, weight: 0}]")
    assert (found.destinations, found.direct) == ((), DirectResponse(500))


FILTERS: list[tuple[str, str, Any]] = [
    (
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: A, value: b}], add: [{name: C, value: d}], remove: [E]}}",
        "request_headers",
        HeaderChanges((("a", "b"),), (("c", "d"),), ("e",)),
    ),
    (
        "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: A, value: b}]}}",
        "response_headers",
        HeaderChanges((("a", "b"),)),
    ),
    (
        "{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example}}",
        "redirect",
        Redirect("https", "a.example", 0, "protocol", "", None, 302),
    ),
    (
        "{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}, statusCode: 301}}",
        "redirect",
        Redirect("", "", 0, "request", "", "/b", 301),
    ),
    (
        "{type: RequestRedirect, requestRedirect: {port: 8443}}",
        "redirect",
        Redirect("", "", 8443, "", "", None, 302),
    ),
    ("{type: URLRewrite, urlRewrite: {hostname: a.example}}", "rewrite", Rewrite(authority="a.example")),
    (
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}",
        "rewrite",
        Rewrite(path="/x"),
    ),
    (
        "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}",
        "rewrite",
        Rewrite(prefix=""),
    ),
    (
        "{type: CORS, cors: {allowOrigins: ['https://a.b', 'https://*.c', '*'], allowMethods: [GET], maxAge: 9, allowCredentials: true}}",
        "cors",
        Cors(
            (Matcher(How.EXACT, "https://a.b"), Matcher(How.REGEX, r"https://[^/]+\.c"), Matcher(How.PRESENT)),
            ("GET",),
            max_age=9.0,
            allow_credentials=True,
            forward_unmatched=False,
        ),
    ),
]


@pytest.mark.parametrize(("entry", "field", "wanted"), FILTERS)
def test_what_filters_do(entry: str, field: str, wanted: object) -> None:
    assert getattr(rule(f"filters: [{entry}]"), field) == wanted


@pytest.mark.parametrize(
    ("share", "percent"),
    [
        ("", 100.0),
        (", percent: 5", 5.0),
        (", fraction: {numerator: 1, denominator: 1000}", 0.1),
        (", fraction: {numerator: 7}", 7.0),
    ],
    ids=["all", "a percentage", "a fraction", "of a hundred"],
)
def test_mirrors_have_a_share(share: str, percent: float) -> None:
    (mirror,) = rule(
        f"filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: a, port: 80}}{share}}}}}]"
    ).mirrors
    assert (mirror.destination.host, mirror.percent) == ("a.shop.svc.cluster.local", pytest.approx(percent))


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("{type: ExtensionRef, extensionRef: {group: x, kind: Y, name: z}}", "HTTPRoute"),
        ("{type: URLRewrite, urlRewrite: {hostname: a.example}}", "GRPCRoute"),
    ],
)
def test_a_filter_that_is_not_served_answers_500_and_is_told(entry: str, kind: str) -> None:
    found = route(f"{PARENT}rules: [{{filters: [{entry}], backendRefs: [{{name: a, port: 80}}]}}]", kind)
    assert (found.http[0].destinations, found.http[0].direct) == ((), DirectResponse(500))
    assert "500" in found.warnings[0]


def test_of_a_backend_only_headers_can_be_changed() -> None:
    changed = rule(
        "backendRefs: [{name: a, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}]}]"
    )
    assert changed.destinations[0].request_headers == HeaderChanges(remove=("x",))
    other = rule("backendRefs: [{name: a, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]}]")
    assert other.destinations[0].refused == "UnsupportedFilter"


def test_timeouts_and_retries() -> None:
    found = rule(
        "timeouts: {request: 10s, backendRequest: 2s}, retry: {codes: [500, 503], attempts: 4, backoff: 100ms}"
    )
    assert (found.timeout, found.retries.per_try_timeout) == (10.0, 2.0)
    assert (found.retries.attempts, found.retries.statuses) == (4, (500, 503))
    assert (found.retries.base, found.retries.maximum) == (0.1, 1.0)
    assert "connect-failure" in found.retries.on
    assert rule("").retries == DEFAULT_RETRIES
    assert rule("timeouts: {request: 0s}").timeout == 0.0


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("matches: [{path: {value: a}}]", "path.value: \"a\": starts with '/'"),
        ("matches: [{path: {value: /a//b}}]", "has no '//'"),
        ("matches: [{path: {type: Glob, value: /a}}]", "path.type"),
        ("matches: [{path: {type: RegularExpression, value: '('}}]", "no regular expression of RE2"),
        ("matches: [{method: get}]", "matches[0].method"),
        ("matches: [{headers: [{name: 'a b', value: c}]}]", "headers[0].name"),
        ("matches: [{uri: /a}]", "uri: unknown field"),
        ("backendRefs: [{name: a}]", "needs its port"),
        ("backendRefs: [{name: a, port: 0}]", "backendRefs[0].port"),
        ("backendRefs: [{name: a, port: 80, weight: -1}]", "backendRefs[0].weight"),
        ("filters: [{type: Magic}]", "filters[0].type"),
        ("filters: [{type: URLRewrite}]", "filters[0].urlRewrite: is missing"),
        ("filters: [{type: URLRewrite, urlRewrite: {}, cors: {}}]", "filters[0].cors: does not belong"),
        (
            "filters: [{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}]",
            "exclude each other",
        ),
        ("filters: [{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]", "there twice"),
        (
            'filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: "b\\r\\nc"}]}}]',
            "no control characters",
        ),
        ("filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]", "statusCode: 304 is not one of"),
        (
            "filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 80}]",
            "a rule that redirects has no backends",
        ),
        (
            "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 3, denominator: 2}}}]",
            "is more than one",
        ),
        ("timeouts: {request: 1s, backendRequest: 2s}", "timeouts.backendRequest: is longer"),
        ("timeouts: {request: soon}", "no duration"),
        ("retry: {codes: [200]}", "retry.codes[0]"),
    ],
)
def test_what_is_refused_says_where(entry: str, wanted: str) -> None:
    assert wanted in refusal(entry)


def test_a_method_of_grpc_is_a_name() -> None:
    assert "no name of gRPC" in refusal("matches: [{method: {service: 'a/b'}}]", "GRPCRoute")


def test_grants() -> None:
    found = declared(
        """
        apiVersion: gateway.networking.k8s.io/v1beta1
        kind: ReferenceGrant
        metadata: {name: g, namespace: bank}
        spec:
          from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}, {group: x.io, kind: Y, namespace: z}]
          to: [{group: "", kind: Service}, {group: "", kind: Service, name: teller}, {group: x.io, kind: Bucket}]
        """
    )
    assert isinstance(found, ReferenceGrant)
    assert found.sources == (("HTTPRoute", "shop"),)
    assert found.targets == (("Service", ""), ("Service", "teller"))
