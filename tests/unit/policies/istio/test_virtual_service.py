"""VirtualService as a whole: hosts, gateways, exportTo, matches, delegates, tls and tcp (F10 to F15, F24)."""

from __future__ import annotations

import pytest

from istio_manifests import ROUTE, istio, refusal, route, rule, with_rule
from weft.policies.mesh.model import (
    Destination,
    Dialect,
    How,
    Matcher,
    Named,
    RequestMatch,
    TcpMatch,
)
from weft.policies.model import ObjectRef

B = "b.shop.svc.cluster.local"
RULES = "http: [{route: [{destination: {host: b}}]}]"

# Hosts

HOSTS = {
    "F03 a short name is a Service in the namespace of the rule": ("orders", "orders.shop.svc.cluster.local"),
    "F03 name.namespace.svc is one too": ("orders.pay.svc", "orders.pay.svc.cluster.local"),
    "F03 a full name": ("orders.pay.svc.cluster.local", "orders.pay.svc.cluster.local"),
    "a dot at the end falls away": ("orders.pay.svc.cluster.local.", "orders.pay.svc.cluster.local"),
    "case is folded": ("Orders", "orders.shop.svc.cluster.local"),
    "F10 another name with dots is as written": ("api.example.com", "api.example.com"),
    "a name with one dot is no Service, as in Istio": ("example.com", "example.com"),
    "F10 a wildcard": ("'*.example.com'", "*.example.com"),
    "a wildcard of one label": ("'*.local'", "*.local"),
    "an address": ("10.0.0.1", "10.0.0.1"),
    "an IPv6 address": ("'fd00::1'", "fd00::1"),
    "digits alone are a short name": ("'42'", "42.shop.svc.cluster.local"),
}


@pytest.mark.parametrize(("written", "meant"), HOSTS.values(), ids=HOSTS)
def test_hosts(written: str, meant: str) -> None:
    assert route(f"hosts: [{written}]\n{RULES}").hosts == (meant,)


BAD_HOSTS = {
    "* is for gateways": ("['*']", "is for gateways"),
    "empty": ("['']", "must not be empty"),
    "a partial wildcard": ("['*foo.com']", "is no host"),
    "a wildcard in the middle": ("['a.*.com']", "is no host"),
    "an underscore": ("[a_b]", "is no host"),
    "a space": ("['a b']", "is no host"),
    "a port": ("['a:80']", "is no host"),
    "an empty label": ("[a..b]", "is no host"),
    "a label that is too long": (f"[{'a' * 64}]", "is no host"),
    "a name that is too long": (f"[{'.'.join(['abc'] * 64)}.de]", "is no host"),
    "a number": ("[5]", "put it in quotes"),
    "null": ("[null]", "is null"),
    "twice": ("[a, a]", "overlap"),
    "twice, once in full": ("[a, a.shop.svc.cluster.local]", "overlap"),
    "one covers the other": ("['*.example.com', a.example.com]", "overlap"),
    "wildcards that overlap": ("['*.com', '*.example.com']", "overlap"),
    "no list": ("a", "must be a list"),
}


@pytest.mark.parametrize(("hosts", "reason"), BAD_HOSTS.values(), ids=BAD_HOSTS)
def test_hosts_that_are_refused(hosts: str, reason: str) -> None:
    error = refusal(istio("VirtualService", f"hosts: {hosts}\n{RULES}"))
    assert reason in error.reason
    assert error.where.path.startswith("spec.hosts")


def test_neighbouring_wildcards_do_not_overlap() -> None:
    assert route(f"hosts: ['*.a.com', '*.b.com', a.com]\n{RULES}").hosts == ("*.a.com", "*.b.com", "a.com")


def test_what_a_route_knows_of_its_object() -> None:
    found = route(f"hosts: [a]\n{RULES}")
    assert (found.ref, found.dialect) == (ObjectRef("VirtualService", "shop", "x"), Dialect.ISTIO)
    assert str(found.http[0].origin) == "VirtualService shop/x spec.http[0]"
    assert not found.warnings


# exportTo

EXPORTS = {
    "F10 left out: all namespaces": ("", None),
    "an empty list: all": ("exportTo: []", None),
    "* is all": ("exportTo: ['*']", None),
    ". is its own": ("exportTo: ['.']", ("shop",)),
    "names": ("exportTo: [pay, .]", ("pay", "shop")),
}


@pytest.mark.parametrize(("text", "clients"), EXPORTS.values(), ids=EXPORTS)
def test_export_to(text: str, clients: tuple[str, ...] | None) -> None:
    assert route(f"hosts: [a]\n{RULES}\n{text}").clients == clients


BAD_EXPORTS = {
    "* beside another": ("['*', pay]", "stands alone"),
    "twice": ("[pay, pay]", "is there twice"),
    ". and its own name": ("['.', shop]", "is there twice"),
    "no namespace": ("[a.b]", "at most 63"),
    "~ is for ServiceEntries": ("['~']", "at most 63"),
    "empty": ("['']", "must not be empty"),
}


@pytest.mark.parametrize(("text", "reason"), BAD_EXPORTS.values(), ids=BAD_EXPORTS)
def test_export_to_that_is_refused(text: str, reason: str) -> None:
    assert reason in refusal(istio("VirtualService", f"hosts: [a]\n{RULES}\nexportTo: {text}")).reason


# Gateways

IN_MESH = {
    "F10 left out": "",
    "an empty list": "gateways: []",
    "mesh": "gateways: [mesh]",
    "a gateway and mesh": "gateways: [ns/gw, mesh]",
}


@pytest.mark.parametrize("gateways", IN_MESH.values(), ids=IN_MESH)
def test_is_for_the_mesh(gateways: str) -> None:
    found = route(f"hosts: [a]\n{RULES}\n{gateways}")
    assert (len(found.http), found.warnings) == (1, ())


@pytest.mark.parametrize("gateway", ["gw", "ns/gw", "gw.ns.svc.cluster.local"])
def test_is_for_gateways_alone_so_it_speaks_for_no_host(gateway: str) -> None:
    found = route(f"hosts: ['*']\ngateways: [{gateway}]\n{RULES}")
    assert (found.hosts, found.http) == ((), ())
    assert found.warnings == ("spec.gateways: is without mesh: it is for gateways alone, and routes nothing here",)


@pytest.mark.parametrize("gateway", ["''", "/gw", "ns/", "a/b/c", "'*'", "a b"])
def test_a_gateway_that_is_none(gateway: str) -> None:
    assert refusal(istio("VirtualService", f"hosts: [a]\ngateways: [{gateway}]\n{RULES}")).where.path.startswith(
        "spec.gateways[0]"
    )


def test_a_rule_that_is_for_other_gateways_is_left_out_and_told() -> None:
    found = route(
        f"""
        hosts: [a]
        gateways: [gw, mesh]
        http:
        - match: [{{gateways: [gw]}}, {{gateways: [gw], port: 80}}]
          {ROUTE}
        - match: [{{gateways: [gw]}}, {{port: 81, gateways: [mesh]}}]
          {ROUTE}
        """
    )
    (kept,) = found.http
    assert kept.matches == (RequestMatch(port=81),)
    assert found.warnings == (
        "spec.http[0].match[0]: is for other gateways than mesh, so it is left out",
        "spec.http[0].match[1]: is for other gateways than mesh, so it is left out",
        "spec.http[0]: matches nothing in the mesh, so it is left out",
        "spec.http[1].match[0]: is for other gateways than mesh, so it is left out",
    )


def test_nothing_left_for_the_mesh_is_a_route_for_no_host() -> None:
    assert route(f"hosts: [a]\nhttp: [{{match: [{{gateways: [gw]}}], {ROUTE}}}]").hosts == ()


# Sections

BAD_SPECS = {
    "no spec": ("{}", "spec", "needs rules in http, tls or tcp"),
    "no rules": ("hosts: [a]", "spec", "needs rules"),
    "empty rules": ("hosts: [a]\nhttp: []", "spec", "needs rules"),
    "an unknown field": (f"hosts: [a]\n{RULES}\nhost: a", "spec.host", "unknown field"),
    "a misspelt field": (f"hosts: [a]\n{RULES}\nexportto: a", "spec.exportto", "did you mean exportTo?"),
    "http is no list": ("hosts: [a]\nhttp: {}", "spec.http", "must be a list"),
    "a rule that is null": ("hosts: [a]\nhttp: [null]", "spec.http[0]", "is null"),
    "a rule that does nothing": ("hosts: [a]\nhttp: [{}]", "spec.http[0]", "needs a route, redirect"),
    "a rule with an empty route": ("hosts: [a]\nhttp: [{route: []}]", "spec.http[0]", "needs a route"),
    "F24 a delegate with tcp": (f"tcp: [{{{ROUTE}}}]", "spec.tcp", "is a delegate"),
    "F24 a delegate with tls": (
        f"{RULES}\ntls: [{{match: [{{sniHosts: [a]}}], {ROUTE}}}]",
        "spec.tls",
        "is a delegate",
    ),
    "F24 a delegate with gateways": (f"{RULES}\ngateways: [gw]", "spec.gateways", "is a delegate"),
    "F24 a delegate that delegates": ("http: [{delegate: {name: y}}]", "spec.http[0].delegate", "one level"),
}


@pytest.mark.parametrize(("spec", "path", "reason"), BAD_SPECS.values(), ids=BAD_SPECS)
def test_specs_that_are_refused(spec: str, path: str, reason: str) -> None:
    error = refusal(istio("VirtualService", spec))
    assert (error.where.path, error.where.object) == (path, "VirtualService shop/x")
    assert reason in error.reason


def test_a_rule_behind_one_that_matches_everything_is_told() -> None:
    found = route(f"hosts: [a]\nhttp: [{{{ROUTE}}}, {{{ROUTE}}}]")
    assert len(found.http) == 2
    assert found.warnings == ("spec.http[1]: is never reached: spec.http[0] matches every request",)


# Matches

EXACT, PREFIX, REGEX = Matcher(How.EXACT, "v"), Matcher(How.PREFIX, "v"), Matcher(How.REGEX, "v.*")
MATCHES = {
    "F14 exact path": ("uri: {exact: v}", RequestMatch(path=EXACT)),
    "F14 prefix, as it is written": ("uri: {prefix: /foo}", RequestMatch(path=Matcher(How.PREFIX, "/foo"))),
    "F14 regular expression": ("uri: {regex: v.*}", RequestMatch(path=REGEX)),
    "F14 case": ("uri: {prefix: v}\nignoreUriCase: true", RequestMatch(path=Matcher(How.PREFIX, "v", True))),
    "F14 case of an exact one": (
        "uri: {exact: v}\nignoreUriCase: true",
        RequestMatch(path=Matcher(How.EXACT, "v", True)),
    ),
    "F14 case says nothing of expressions": ("uri: {regex: v.*}\nignoreUriCase: true", RequestMatch(path=REGEX)),
    "an empty match of the path is any": ("uri: {}", RequestMatch()),
    "F15 method": ("method: {exact: GET}", RequestMatch(method=Matcher(How.EXACT, "GET"))),
    "F15 method by expression": ("method: {regex: v.*}", RequestMatch(method=REGEX)),
    "F15 scheme": ("scheme: {exact: v}", RequestMatch(scheme=EXACT)),
    "F15 authority": ("authority: {prefix: v}", RequestMatch(authority=PREFIX)),
    "F12 header": ("headers: {x-canary: {exact: v}}", RequestMatch(headers=(Named("x-canary", EXACT),))),
    "F12 header by prefix": ("headers: {x: {prefix: v}}", RequestMatch(headers=(Named("x", PREFIX),))),
    "F12 header by expression": ("headers: {x: {regex: v.*}}", RequestMatch(headers=(Named("x", REGEX),))),
    "F12 an empty value": ("headers: {x: {exact: ''}}", RequestMatch(headers=(Named("x", Matcher(How.EXACT)),))),
    "F12 {} is presence": ("headers: {x: {}}", RequestMatch(headers=(Named("x", Matcher(How.PRESENT)),))),
    "F12 keys are lower case": (
        "headers: {X-Canary: {exact: v}}",
        RequestMatch(headers=(Named("x-canary", EXACT),)),
    ),
    "F12 all must hold": (
        "headers: {a: {exact: v}, b: {prefix: v}}",
        RequestMatch(headers=(Named("a", EXACT), Named("b", PREFIX))),
    ),
    "F12 without": (
        "withoutHeaders: {x: {exact: v}}",
        RequestMatch(headers=(Named("x", Matcher(How.EXACT, "v", invert=True)),)),
    ),
    "F12 without, presence": (
        "withoutHeaders: {x: {}}",
        RequestMatch(headers=(Named("x", Matcher(How.PRESENT, invert=True)),)),
    ),
    "F13 a cookie": (
        "headers: {cookie: {regex: '^(.*?;)?(user=jason)(;.*)?$'}}",
        RequestMatch(headers=(Named("cookie", Matcher(How.REGEX, "^(.*?;)?(user=jason)(;.*)?$")),)),
    ),
    "F15 query parameter": ("queryParams: {Ab: {exact: v}}", RequestMatch(query=(Named("Ab", EXACT),))),
    "F15 query parameter without value": (
        "queryParams: {k: {exact: ''}}",
        RequestMatch(query=(Named("k", Matcher(How.EXACT)),)),
    ),
    "F15 query parameter by prefix": ("queryParams: {k: {prefix: v}}", RequestMatch(query=(Named("k", PREFIX),))),
    "F15 query parameter by expression": (
        "queryParams: {k: {regex: v.*}}",
        RequestMatch(query=(Named("k", REGEX),)),
    ),
    "F15 query parameter that is there": (
        "queryParams: {k: {}}",
        RequestMatch(query=(Named("k", Matcher(How.PRESENT)),)),
    ),
    "F15 the authority among the headers": (
        "headers: {':authority': {exact: v}, x: {exact: v}}",
        RequestMatch(authority=EXACT, headers=(Named("x", EXACT),)),
    ),
    "F15 another method, among the headers": (
        "withoutHeaders: {':method': {exact: v}}",
        RequestMatch(method=Matcher(How.EXACT, "v", invert=True)),
    ),
    "F15 port": ("port: 8080", RequestMatch(port=8080)),
    "F15 labels of the client": (
        "sourceLabels: {b: '2', app/a: x}",
        RequestMatch(source_labels=(("app/a", "x"), ("b", "2"))),
    ),
    "F15 namespace of the client": ("sourceNamespace: pay", RequestMatch(source_namespace="pay")),
    "a name": ("name: one", RequestMatch(name="one")),
    "F15 statPrefix is for figures that Weft does not make": ("statPrefix: s", RequestMatch()),
    "nothing: every request": ("{}", RequestMatch()),
}


@pytest.mark.parametrize(("match", "expected"), MATCHES.values(), ids=MATCHES)
def test_matches(match: str, expected: RequestMatch) -> None:
    body = "match:\n- " + match.replace("\n", "\n  ")
    assert rule(body).matches == (expected,)


def test_blocks_are_alternatives_in_their_order() -> None:
    assert rule("match: [{port: 1}, {port: 2}]").matches == (RequestMatch(port=1), RequestMatch(port=2))


@pytest.mark.parametrize("key", ["uri", "scheme", "method", "authority"])
def test_keys_that_are_no_headers_are_ignored_and_told(key: str) -> None:
    found = route(with_rule(f"match: [{{headers: {{{key}: {{exact: v}}}}}}]"))
    assert found.http[0].matches == (RequestMatch(),)
    assert found.warnings == (
        f"spec.http[0].match[0].headers.{key}: {key} is no header here and is ignored: it has a field of its own",
    )


BAD_MATCHES = {
    "two ways at once": ("uri: {exact: a, prefix: b}", "uri", "exclude each other"),
    "an unknown way": ("uri: {suffix: a}", "uri.suffix", "unknown field"),
    "a text instead": ("uri: /a", "uri", "must be a mapping"),
    "an empty prefix": ("uri: {prefix: ''}", "uri.prefix", "must not be empty"),
    "an empty expression": ("headers: {x: {regex: ''}}", "headers.x.regex", "must not be empty"),
    "a number": ("headers: {x: {exact: 5}}", "headers.x.exact", "put it in quotes"),
    "a boolean": ("headers: {x-canary: {exact: true}}", 'headers["x-canary"].exact', "put it in quotes"),
    "null": ("headers: {x: null}", "headers.x", "is null"),
    "no expression": ("uri: {regex: 'a('}", "uri.regex", "is no regular expression of RE2"),
    "what only Perl has": ("uri: {regex: 'a(?=b)'}", "uri.regex", "look-around"),
    "a backreference": ("method: {regex: '(a)\\1'}", "method.regex", "backreferences"),
    "an expression too long": (f"uri: {{regex: {'a' * 1025}}}", "uri.regex", "more than 1024"),
    "no name of a header": ("headers: {'a b': {exact: v}}", 'headers["a b"]', "is no name of a header"),
    "a pseudo-header": ("headers: {':path': {exact: v}}", 'headers[":path"]', "is no name of a header"),
    "the authority twice": (
        "authority: {exact: a}, headers: {':authority': {exact: v}}",
        "",
        "one of them only",
    ),
    "a token's claim": (
        "headers: {'@request.auth.claims.sub': {exact: v}}",
        'headers["@request.auth.claims.sub"]',
        "gateways alone",
    ),
    "a parameter without a name": ("queryParams: {'': {exact: v}}", 'queryParams[""]', "must not be empty"),
    "port 0": ("port: 0", "port", "1 to 65535"),
    "port 65536": ("port: 65536", "port", "1 to 65535"),
    "a port as text": ("port: '80'", "port", "without quotes"),
    "a label that is none": ("sourceLabels: {'a b': c}", 'sourceLabels["a b"]', "no label key"),
    "a label's value that is none": ("sourceLabels: {a: 'b c'}", "sourceLabels.a", "no label value"),
    "a namespace that is none": ("sourceNamespace: A.b", "sourceNamespace", "at most 63"),
    "ignoreUriCase as text": ("ignoreUriCase: 'yes'", "ignoreUriCase", "true or false"),
    "an unknown condition": ("path: {exact: a}", "path", "unknown field"),
    "a gateway that is none": ("gateways: ['*']", "gateways[0]", "is no gateway"),
}


@pytest.mark.parametrize(("match", "path", "reason"), BAD_MATCHES.values(), ids=BAD_MATCHES)
def test_matches_that_are_refused(match: str, path: str, reason: str) -> None:
    error = refusal(istio("VirtualService", with_rule(f"match: [{{{match}}}]")))
    assert error.where.path == f"spec.http[0].match[0].{path}".rstrip(".")
    assert reason in error.reason


# Destinations and weights

DESTINATIONS = {
    "F10 a host": ("[{destination: {host: b}}]", (Destination(B),)),
    "F10 subset and port": (
        "[{destination: {host: b, subset: v1, port: {number: 80}}}]",
        (Destination(B, 80, "v1"),),
    ),
    "F10 in another namespace": (
        "[{destination: {host: b.pay.svc.cluster.local}}]",
        (Destination("b.pay.svc.cluster.local"),),
    ),
    "a wildcard, as of a ServiceEntry": ("[{destination: {host: '*.b.com'}}]", (Destination("*.b.com"),)),
    "F11 weights": (
        "[{destination: {host: b, subset: v1}, weight: 90}, {destination: {host: b, subset: v2}, weight: 10}]",
        (Destination(B, subset="v1", weight=90), Destination(B, subset="v2", weight=10)),
    ),
    "F11 their sum need not be 100": (
        "[{destination: {host: b}, weight: 1}, {destination: {host: b}, weight: 2}]",
        (Destination(B, weight=1), Destination(B, weight=2)),
    ),
    "F11 a weight of 0 among several": (
        "[{destination: {host: b}, weight: 0}, {destination: {host: b}, weight: 2}]",
        (Destination(B, weight=0), Destination(B, weight=2)),
    ),
    "F11 a single one with weight 0": ("[{destination: {host: b}, weight: 0}]", (Destination(B, weight=0),)),
    "an empty subset is none": ("[{destination: {host: b, subset: ''}}]", (Destination(B),)),
}


@pytest.mark.parametrize(("text", "expected"), DESTINATIONS.values(), ids=DESTINATIONS)
def test_destinations(text: str, expected: tuple[Destination, ...]) -> None:
    found = route(with_rule(f"route: {text}"))
    assert (found.http[0].destinations, found.warnings) == (expected, ())


def test_a_destination_without_a_weight_among_several_gets_nothing_and_that_is_told() -> None:
    found = route(with_rule("route: [{destination: {host: b}}, {destination: {host: b}, weight: 1}]"))
    assert [each.weight for each in found.http[0].destinations] == [0, 1]
    assert found.warnings == ("spec.http[0].route[0]: has no weight, so it gets nothing",)


def test_a_weight_inside_the_destination_is_read_and_told() -> None:
    found = route(with_rule("route: [{destination: {host: b, weight: 7}}, {destination: {host: b}, weight: 3}]"))
    assert [each.weight for each in found.http[0].destinations] == [7, 3]
    assert found.warnings[0].startswith("spec.http[0].route[0].destination.weight: belongs beside destination")


def test_a_weight_inside_the_destination_yields_to_the_one_beside_it() -> None:
    found = route(
        with_rule("route: [{destination: {host: b, weight: 7}, weight: 5}, {destination: {host: b}, weight: 3}]")
    )
    assert [each.weight for each in found.http[0].destinations] == [5, 3]
    assert "is ignored" in found.warnings[0]


BAD_DESTINATIONS = {
    "no destination": ("[{weight: 1}]", "[0].destination", "is missing"),
    "no host": ("[{destination: {subset: v1}}]", "[0].destination.host", "is missing"),
    "an empty host": ("[{destination: {host: ''}}]", "[0].destination.host", "must not be empty"),
    "any host": ("[{destination: {host: '*'}}]", "[0].destination.host", "is no destination"),
    "port 0": ("[{destination: {host: b, port: {number: 0}}}]", "[0].destination.port.number", "1 to 65535"),
    "a port without number": ("[{destination: {host: b, port: {}}}]", "[0].destination.port.number", "is missing"),
    "a port by name": ("[{destination: {host: b, port: {name: x}}}]", "[0].destination.port.name", "unknown field"),
    "a bare port": ("[{destination: {host: b, port: 80}}]", "[0].destination.port", "must be a mapping"),
    "a subset that is none": ("[{destination: {host: b, subset: V_1}}]", "[0].destination.subset", "at most 63"),
    "a negative weight": ("[{destination: {host: b}, weight: -1}]", "[0].weight", "must be 0 to"),
    "a fraction": ("[{destination: {host: b}, weight: 0.5}]", "[0].weight", "whole number"),
    "a weight in quotes": ("[{destination: {host: b}, weight: '1'}]", "[0].weight", "without quotes"),
    "all weights 0": (
        "[{destination: {host: b}, weight: 0}, {destination: {host: b}, weight: 0}]",
        "",
        "must not all be 0",
    ),
    "no weights": ("[{destination: {host: b}}, {destination: {host: c}}]", "", "must not all be 0"),
    "an unknown field": ("[{destination: {host: b}, mirror: c}]", "[0].mirror", "unknown field"),
    "an unknown field inside": ("[{destination: {hosts: b}}]", "[0].destination.hosts", "unknown field"),
}


@pytest.mark.parametrize(("text", "path", "reason"), BAD_DESTINATIONS.values(), ids=BAD_DESTINATIONS)
def test_destinations_that_are_refused(text: str, path: str, reason: str) -> None:
    error = refusal(istio("VirtualService", with_rule(f"route: {text}")))
    assert error.where.path == f"spec.http[0].route{path}"
    assert reason in error.reason


# Delegates

DELEGATES = {
    "F24 in the same namespace": ("{name: other}", "shop/other"),
    "F24 in another": ("{name: other, namespace: pay}", "pay/other"),
}


@pytest.mark.parametrize(("text", "expected"), DELEGATES.values(), ids=DELEGATES)
def test_delegates(text: str, expected: str) -> None:
    found = rule(f"match: [{{uri: {{prefix: /a}}}}]\ndelegate: {text}")
    assert (found.delegate, found.destinations) == (expected, ())


def test_a_virtual_service_without_hosts_is_a_delegate() -> None:
    found = route(f"http: [{{match: [{{uri: {{exact: /a}}}}], {ROUTE}}}]")
    assert (found.hosts, len(found.http)) == ((), 1)


BAD_DELEGATES = {
    "beside a route": (f"delegate: {{name: y}}\n{ROUTE}", "spec.http[0].route"),
    "beside a redirect": ("delegate: {name: y}\nredirect: {uri: /}", "spec.http[0].redirect"),
    "beside a direct response": (
        "delegate: {name: y}\ndirectResponse: {status: 200}",
        "spec.http[0].directResponse",
    ),
    "without a name": ("delegate: {}", "spec.http[0].delegate.name"),
    "a name that is none": ("delegate: {name: A}", "spec.http[0].delegate.name"),
    "a namespace that is none": ("delegate: {name: a, namespace: b.c}", "spec.http[0].delegate.namespace"),
    "an expression": (
        "delegate: {name: y}\nmatch: [{uri: {regex: a}}]",
        "spec.http[0].match[0].uri",
    ),
    "an expression for a header": (
        "delegate: {name: y}\nmatch: [{headers: {x: {regex: a}}}]",
        "spec.http[0].match[0].headers.x",
    ),
}


@pytest.mark.parametrize(("text", "path"), BAD_DELEGATES.values(), ids=BAD_DELEGATES)
def test_delegates_that_are_refused(text: str, path: str) -> None:
    assert refusal(istio("VirtualService", with_rule(text))).where.path == path


def test_expressions_are_refused_in_the_delegate_too() -> None:
    error = refusal(istio("VirtualService", f"http: [{{match: [{{uri: {{regex: a}}}}], {ROUTE}}}]"))
    assert "two cannot be compared" in error.reason


# Connections

TCP = {
    "F24 every connection": ("{}", ()),
    "F24 a port": ("match: [{port: 27017}]", (TcpMatch(port=27017),)),
    "F24 subnets": (
        "match: [{destinationSubnets: [10.0.0.0/8, 192.0.2.1, 'fd00::/8']}]",
        (TcpMatch(subnets=("10.0.0.0/8", "192.0.2.1/32", "fd00::/8")),),
    ),
    "F24 labels and namespace of the client": (
        "match: [{sourceLabels: {a: b}, sourceNamespace: pay}]",
        (TcpMatch(source_labels=(("a", "b"),), source_namespace="pay"),),
    ),
    "F24 alternatives": ("match: [{port: 1}, {port: 2}]", (TcpMatch(port=1), TcpMatch(port=2))),
    "an empty list of matches": ("match: []", ()),
}


@pytest.mark.parametrize(("text", "expected"), TCP.values(), ids=TCP)
def test_tcp(text: str, expected: tuple[TcpMatch, ...]) -> None:
    found = route(f"hosts: [a]\ntcp:\n- {ROUTE}" + ("\n  " + text if text != "{}" else ""))
    (only,) = found.tcp
    assert (only.matches, only.destinations) == (expected, (Destination(B),))
    assert (str(only.origin), found.http) == ("VirtualService shop/x spec.tcp[0]", ())


TLS = {
    "F24 a server name": ("{sniHosts: [a.example.com]}", TcpMatch(sni=("a.example.com",))),
    "F24 a wildcard that is a host": ("{sniHosts: ['*.example.com']}", TcpMatch(sni=("*.example.com",))),
    "F24 a narrower wildcard": ("{sniHosts: ['*.b.example.com']}", TcpMatch(sni=("*.b.example.com",))),
    "F24 with a port": ("{sniHosts: [a.example.com], port: 443}", TcpMatch(port=443, sni=("a.example.com",))),
}


@pytest.mark.parametrize(("match", "expected"), TLS.values(), ids=TLS)
def test_tls(match: str, expected: TcpMatch) -> None:
    (only,) = route(f"hosts: ['*.example.com']\ntls: [{{match: [{match}], {ROUTE}}}]").tls
    assert only.matches == (expected,)


def test_an_address_as_server_name_is_told() -> None:
    found = route(f"hosts: [a.com]\ntls: [{{match: [{{sniHosts: [192.0.2.1]}}], {ROUTE}}}]")
    assert found.tls[0].matches == (TcpMatch(sni=("192.0.2.1",)),)
    assert "clients send names" in found.warnings[0]


def test_what_is_for_gateways_alone_is_not_read_and_so_not_refused() -> None:
    claim = "headers: {'@request.auth.claims.sub': {exact: v}}"
    assert (
        route(f"hosts: [outbound_.80_._.a]\ngateways: [gw]\nhttp: [{{match: [{{{claim}}}], {ROUTE}}}]").hosts == ()
    )
    found = route(with_rule(f"match: [{{gateways: [gw], {claim}}}, {{port: 80}}]"))
    assert found.http[0].matches == (RequestMatch(port=80),)


BAD_CONNECTIONS = {
    "tcp without a route": ("tcp: [{match: [{port: 1}]}]", "spec.tcp[0]", "needs a route"),
    "tcp with an empty route": ("tcp: [{route: []}]", "spec.tcp[0].route", "needs a route"),
    "tcp with headers": (
        "tcp: [{route: [{destination: {host: b}, headers: {}}]}]",
        "spec.tcp[0].route[0].headers",
        "unknown field",
    ),
    "tcp with server names": (
        f"tcp: [{{match: [{{sniHosts: [a]}}], {ROUTE}}}]",
        "spec.tcp[0].match[0].sniHosts",
        "unknown field",
    ),
    "tcp with a source subnet": (
        f"tcp: [{{match: [{{sourceSubnet: 10.0.0.0/8}}], {ROUTE}}}]",
        "spec.tcp[0].match[0].sourceSubnet",
        "was never in effect",
    ),
    "a subnet that is none": (
        f"tcp: [{{match: [{{destinationSubnets: [10.0.0.0/33]}}], {ROUTE}}}]",
        "spec.tcp[0].match[0].destinationSubnets[0]",
        "is no",
    ),
    "tls without matches": (f"tls: [{{{ROUTE}}}]", "spec.tls[0].match", "is missing"),
    "tls with no match": (f"tls: [{{match: [], {ROUTE}}}]", "spec.tls[0].match", "at least one match"),
    "tls without server names": (
        f"tls: [{{match: [{{port: 443}}], {ROUTE}}}]",
        "spec.tls[0].match[0].sniHosts",
        "is missing",
    ),
    "tls with no server name": (
        f"tls: [{{match: [{{sniHosts: []}}], {ROUTE}}}]",
        "spec.tls[0].match[0].sniHosts",
        "at least one",
    ),
    "tls for another's name": (
        f"tls: [{{match: [{{sniHosts: [a.other.com]}}], {ROUTE}}}]",
        "spec.tls[0].match[0].sniHosts[0]",
        "lies within none",
    ),
    "tls for more than its hosts": (
        f"tls: [{{match: [{{sniHosts: ['*.com']}}], {ROUTE}}}]",
        "spec.tls[0].match[0].sniHosts[0]",
        "lies within none",
    ),
    "tls without a route": ("tls: [{match: [{sniHosts: [a.example.com]}]}]", "spec.tls[0]", "needs a route"),
}


@pytest.mark.parametrize(("text", "path", "reason"), BAD_CONNECTIONS.values(), ids=BAD_CONNECTIONS)
def test_connections_that_are_refused(text: str, path: str, reason: str) -> None:
    error = refusal(istio("VirtualService", f"hosts: ['*.example.com']\n{text}"))
    assert error.where.path == path
    assert reason in error.reason
