"""Routing and resilience on two live nodes: what a server or a link does, and what the client gets.

Each case has a Service of its own in front of the same few pods, so everything is applied once, at the start. The
server's answers depend on what the request asks of it (`mesh_server`).
"""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from inside import Inside
from mesh_lab import Mesh, running, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

CLIENTS = ("client", "client-far")

# --- what there is: Services a (pod a), b (pod b), ab (both), and one for each case that leads to them


def manifest(api: str, kind: str, name: str, spec: str, namespace: str = "default") -> str:
    head = f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n"
    return head + "".join(f"  {line}\n" for line in spec.strip("\n").splitlines())


def virtual_service(name: str, spec: str) -> str:
    return manifest("networking.istio.io/v1", "VirtualService", name, f"hosts: [{name}]\n{spec}")


def destination_rule(name: str, policy: str) -> str:
    spec = f"host: {name}\ntrafficPolicy: {policy}"
    return manifest("networking.istio.io/v1", "DestinationRule", name, spec)


def routed(name: str, rule: str, to: str = "a") -> tuple[str, str]:
    """A Service of pod a, and a rule that leads to `to`."""
    text = f"http: [{{route: [{{destination: {{host: {to}}}}}], {rule}}}]"
    return Mesh.service(name, app="a"), virtual_service(name, text)


def limited(
    name: str, policy: str, selector: str = "both", rule: str = "retries: {attempts: 0}"
) -> tuple[str, ...]:
    """A Service of its own with a DestinationRule, without retries unless the rule says so."""
    labels = {"both": {"group": "ab"}, "a": {"app": "a"}, "b": {"app": "b"}}[selector]
    return (
        Mesh.service(name, **labels),
        virtual_service(name, f"http: [{{route: [{{destination: {{host: {name}}}}}], {rule}}}]"),
        destination_rule(name, policy),
    )


#: token -> what it fires on; the other events of EVENTS end with their first try.
NO_ANSWER = {"refused", "reset", "close", "hang"}
GATEWAY = {"502", "503", "504"}
TABLE = {
    "5xx": {"500", *GATEWAY} | NO_ANSWER,
    "gateway-error": GATEWAY | NO_ANSWER,
    "reset": NO_ANSWER,
    "reset-before-request": {"refused"},
    "connect-failure": {"refused"},
    "refused-stream": set(),
    "retriable-4xx": {"409"},
    "retriable-status-codes": set(),
    "'503,429'": {"503", "429"},
    "envoy-ratelimited": {"limited"},
    "unavailable": set(),
    "nonsense": set(),
    "' connect-failure , xxx,retriable-4xx'": {"409", "refused"},
}
EVENTS = {
    "refused": "",
    "reset": "do=reset",
    "close": "do=close",
    "hang": "do=hang",
    **{status: f"status={status}" for status in ("200", "400", "404", "409", "429", "500", "502", "503", "504")},
    "limited": "status=429&header=x-envoy-ratelimited:true",
}
RETRY = "retries: {{attempts: 1, perTryTimeout: 0.5s, backoff: 1ms, retryOn: {}}}"
OUTLIER = "{{outlierDetection: {{consecutive5xxErrors: 2, interval: 0.2s, baseEjectionTime: 1.5s, {}}}}}"
POOL = "{{connectionPool: {{{}}}}}"
HASH = "{{loadBalancer: {{consistentHash: {{{}}}}}}}"
CORS = (
    "corsPolicy: {allowOrigins: [{exact: 'https://a.test'}], allowMethods: [GET, PUT], allowHeaders: [x-a],"
    " exposeHeaders: [x-b], maxAge: 1h, allowCredentials: true}"
)
OPERATIONS = (
    "headers: {request: {set: {x-set: new}, add: {x-add: more}, remove: [x-gone]},"
    " response: {set: {x-told: 'yes'}, remove: [x-hidden]}}"
)
PARENT = "parentRefs: [{{group: '', kind: Service, name: {}, port: 80}}]\n"


def http_route(name: str, spec: str, namespace: str = "default", kind: str = "HTTPRoute") -> str:
    return manifest("gateway.networking.k8s.io/v1", kind, name, spec, namespace)


def all_manifests() -> Iterator[str]:
    for name, node in (("a", 1), ("b", 2)):
        yield Mesh.pod(name, node, app=name, group="ab")
        yield Mesh.service(name)
    yield Mesh.pod("deaf", 1, port=9999, app="deaf", half="yes")
    yield Mesh.pod("hears", 1, app="hears", half="yes")
    yield Mesh.service("half", half="yes")
    yield Mesh.service("ab", group="ab")
    for at, token in enumerate(TABLE):
        rule = RETRY.format(token)
        yield from routed(f"retry-{at}", rule)
        yield from routed(f"half-{at}", rule, to="half")
    yield from routed("plain", "timeout: 5s")
    yield from routed("default", "timeout: 5s", to="half")
    yield from routed("either", "timeout: 5s", to="ab")
    yield from routed("untried", "retries: {attempts: 0}", to="half")
    yield from routed("slow", "timeout: 0.5s")
    yield from routed(
        "tries", "timeout: 2s, retries: {attempts: 2, perTryTimeout: 0.3s, retryOn: 5xx, backoff: 1ms}"
    )
    yield from limited("one", POOL.format("tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}"), "a")
    yield from limited("two", POOL.format("http: {http2MaxRequests: 2}"), "a")
    yield from limited("ejecting", OUTLIER.format("maxEjectionPercent: 100"))
    yield from limited("half-ejecting", OUTLIER.format("maxEjectionPercent: 50"))
    yield from limited("panicking", OUTLIER.format("maxEjectionPercent: 100, minHealthPercent: 60"))
    yield from limited("by-header", HASH.format("httpHeaderName: x-user"))
    yield from limited("by-cookie", HASH.format("httpCookie: {name: seat, ttl: 60s}"))
    yield from limited("by-address", HASH.format("useSourceIp: true"))
    yield from routed("mirrored", "mirror: {host: b}, mirrorPercentage: {value: 30}")
    fault = "delay: {fixedDelay: 0.2s, percentage: {value: 30}}, abort: {httpStatus: 418, percentage: {value: 20}}"
    yield from routed("faulty", f"fault: {{{fault}}}")
    yield from routed("crossing", CORS)
    yield from routed("operated", OPERATIONS)
    yield Mesh.service("answering", app="a")
    yield virtual_service(
        "answering",
        """
http:
- match: [{uri: {prefix: /old}}]
  rewrite: {uri: /new, authority: inner.test}
  route: [{destination: {host: a}}]
- match: [{uri: {regex: '/re/.*'}}]
  rewrite: {uriRegexRewrite: {match: '^/re/([^/]+)/(.*)$', rewrite: '/\\2/\\1'}}
  route: [{destination: {host: a}}]
- match: [{uri: {exact: /moved}}]
  redirect: {uri: /there, authority: other.test, redirectCode: 302}
- match: [{uri: {exact: /said}}]
  directResponse: {status: 418, body: {string: teapot}}
- match: [{uri: {prefix: /}, headers: {x-a: {exact: '1'}}, queryParams: {q: {exact: b}}, method: {exact: PUT}}]
  route: [{destination: {host: b}}]
- route: [{destination: {host: a}}]
""",
    )
    yield Mesh.service("tcp-split", "tcp", app="a")
    split = "[{destination: {host: tcp-a}, weight: 70}, {destination: {host: tcp-b}, weight: 30}]"
    yield virtual_service("tcp-split", f"tcp: [{{route: {split}}}]")
    yield from (Mesh.service(f"tcp-{name}", "tcp", app=name) for name in "ab")
    yield from gateway_api()
    yield from entries()


def gateway_api() -> Iterator[str]:
    yield "apiVersion: v1\nkind: Namespace\nmetadata: {name: consumer}\n"
    yield Mesh.service("produced", app="a")
    yield Mesh.service("called", "grpc", app="a")
    rules = """
rules:
- matches: [{path: {type: PathPrefix, value: /v2}, headers: [{name: x-a, value: '1'}]}]
  filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-via, value: route}]}}]
  backendRefs: [{name: b, port: 80}]
- backendRefs: [{name: a, port: 80}]
"""
    yield http_route("produced", PARENT.format("produced") + rules)
    parent = "parentRefs: [{group: '', kind: Service, name: produced, namespace: default, port: 80}]\n"
    yield http_route(
        "consumed",
        parent + "rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302}}]}]",
        "consumer",
    )
    calls = "rules: [{matches: [{method: {service: pkg.Svc, method: Get}}], backendRefs: [{name: b, port: 80}]}]"
    yield http_route("called", PARENT.format("called") + calls, kind="GRPCRoute")


CONSUMER = """
apiVersion: v1
kind: Pod
metadata: {name: consumer, namespace: consumer, labels: {app: consumer}}
spec: {nodeName: node-1, containers: [{name: c, command: [sleep, "1000000"]}]}
"""


def entries() -> Iterator[str]:
    entry = "networking.istio.io/v1", "ServiceEntry"
    ports = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]"
    outside = "metadata: {name: outside, annotations: {weft.dev/external-address: '203.0.113.10'}}"
    yield (
        Mesh.pod("outside")
        .replace("metadata: {name: outside, labels: {}}", outside)
        .replace("nodeName: node-1", "")
    )
    static = "hosts: [static.example.com]\nlocation: MESH_EXTERNAL\nresolution: STATIC\n" + ports
    yield manifest(*entry, "static", static + "\nendpoints: [{address: 203.0.113.10}]")
    named = "hosts: [named.example.com]\nlocation: MESH_EXTERNAL\nresolution: DNS\n" + ports
    yield manifest(
        *entry, "named", named + "\nendpoints: [{address: b.default.svc.cluster.local, ports: {http: 80}}]"
    )


# --- asking


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def pod(self) -> str:
        return str(self.told["pod"]) if self.body[:1] == b"{" else ""


class Asking:
    """Requests from pods to Services, by name; a connection each unless told otherwise."""

    def __init__(self, mesh: Mesh) -> None:
        self.inside = Inside(mesh.name)
        listed = json.loads(mesh.weft("local", "get", "services", "-o", "json"))
        self.addresses = {each["metadata"]["name"]: each["spec"]["clusterIPs"] for each in listed}

    def connect(self, service: str, client: str = "client") -> http.client.HTTPConnection:
        return self.inside.http(client, self.addresses[service][0], timeout=15)

    def one(
        self,
        service: str,
        path: str = "/",
        headers: dict[str, str] | None = None,
        *,
        client: str = "client",
        method: str = "GET",
        body: bytes | None = None,
        over: http.client.HTTPConnection | None = None,
    ) -> Answer:
        connection = over or self.connect(service, client)
        started = time.monotonic()
        try:
            connection.request(method, path, body, {"Host": service, **(headers or {})})
            reply = connection.getresponse()
            data = reply.read()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, found, data, time.monotonic() - started)
        finally:
            if over is None:
                connection.close()

    def many(self, service: str, count: int, path: str = "/", **how: Any) -> list[Answer]:
        """One after the other, over one connection."""
        connection = self.connect(service, how.pop("client", "client"))
        try:
            return [self.one(service, path, over=connection, **how) for _ in range(count)]
        finally:
            connection.close()

    def together(self, service: str, count: int, path: str = "/", **how: Any) -> list[Answer]:
        """At the same time, over a connection each."""
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.one(service, path, **how), range(count)))


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with running("wt-v2", *all_manifests(), CONSUMER) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def ask(mesh: Mesh) -> Asking:
    return Asking(mesh)


def within_three_sigma(count: int, share: float, of: int) -> bool:
    return abs(count - share * of) <= 3 * math.sqrt(of * share * (1 - share))


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


# --- retries


@pytest.mark.parametrize("client", CLIENTS)
def test_the_retry_table(ask: Asking, client: str) -> None:
    """One bad answer, then good ones: 200 where the token fires on it. POST: of what is safe to repeat, a try
    more is free where a kept connection turns out to be closed."""
    cases = [(at, token, event) for at, token in enumerate(TABLE) for event in EVENTS if event != "refused"]

    def tried(case: tuple[int, str, str]) -> str:
        at, token, event = case
        path = f"/?{EVENTS[event]}&times=1&key={client}.{at}.{event}"
        answer = ask.one(f"retry-{at}", path, client=client, method="POST", body=b"x")
        fires = event in TABLE[token] or event == "200"
        return "" if (answer.status == 200) == fires else f"{token} at {event}: {answer.status} {answer.body!r:.80}"

    with ThreadPoolExecutor(16) as pool:
        wrong = [text for text in pool.map(tried, cases) if text]
    assert not wrong, "\n".join(wrong)


def test_the_retry_table_where_connections_are_refused(ask: Asking) -> None:
    """Of two endpoints one refuses; each request has a connection of its own to the proxy."""

    def tried(at: int) -> Counter[int]:
        return statuses([ask.one(f"half-{at}") for _ in range(12)])

    with ThreadPoolExecutor(4) as pool:
        met = dict(zip(TABLE, pool.map(tried, range(len(TABLE))), strict=True))
    wrong = {token: seen for token, seen in met.items() if (503 in seen) == ("refused" in TABLE[token])}
    assert not wrong
    assert statuses([ask.one("untried") for _ in range(12)])[503] > 0
    assert statuses([ask.one("default") for _ in range(12)]) == {200: 12}, "what Istio does where nothing is said"


def test_a_request_may_ask_for_retries_itself(ask: Asking, mesh: Mesh) -> None:
    asked = {"x-envoy-retry-on": "retriable-status-codes", "x-envoy-retriable-status-codes": "404"}
    answer = ask.one("plain", "/?status=404&times=2&key=asked", {**asked, "x-envoy-max-retries": "2"})
    assert answer.status == 200 and mesh.count("client", "a", "asked", 80) == 3
    assert not {name for name in answer.told["headers"] if name.startswith("x-envoy-retr")}
    assert ask.one("plain", "/?status=404&times=1&key=unasked").status == 404


def test_a_body_is_sent_again_with_each_try(ask: Asking) -> None:
    answer = ask.one("retry-0", "/?status=503&times=1&key=body", method="POST", body=b"x" * 30_000)
    assert (answer.status, answer.told["body"], answer.told["method"]) == (200, 30_000, "POST")


def test_timeouts(ask: Asking, mesh: Mesh) -> None:
    hung = ask.one("slow", "/?do=hang")
    assert hung.status == 504 and hung.body == b"upstream request timeout"
    assert hung.seconds == pytest.approx(0.5, abs=0.25)
    tried = ask.one("tries", "/?do=hang&key=tries")
    assert tried.status == 504 and tried.seconds == pytest.approx(0.9, abs=0.35)
    assert mesh.count("client", "a", "tries", 80) == 3
    asked = ask.one("plain", "/?do=hang", {"x-envoy-upstream-rq-timeout-ms": "300"})
    assert asked.status == 504 and asked.seconds == pytest.approx(0.3, abs=0.25)


# --- limits


def test_connections_and_those_who_wait_are_bounded(ask: Asking) -> None:
    answers = ask.together("one", 8, "/?delay=0.6")
    assert statuses(answers) == {200: 2, 503: 6}, "one has the connection, one waits"
    over = [answer for answer in answers if answer.status == 503]
    assert {answer.headers.get("x-envoy-overloaded") for answer in over} == {"true"}
    assert max(answer.seconds for answer in over) < 0.5
    assert ask.one("one").status == 200


def test_requests_at_a_time_are_bounded(ask: Asking, mesh: Mesh) -> None:
    answers = ask.together("two", 8, "/?delay=0.6")
    assert statuses(answers) == {200: 2, 503: 6}
    assert {a.headers.get("x-envoy-overloaded") for a in answers if a.status == 503} == {"true"}
    told = until(lambda: mesh.total("istio_requests_total", reporter="source", response_flags="UO"), "flag UO")
    assert told >= 6


# --- outliers


def pods(answers: list[Answer]) -> set[str]:
    return {answer.pod for answer in answers}


def test_an_outlier_is_ejected_and_comes_back(ask: Asking) -> None:
    bad = ask.many("ejecting", 12, "/?status=500&only=b")
    assert statuses(bad)[500] == 2, "ejected after two"
    ejected = time.monotonic()
    while time.monotonic() - ejected < 1.0:
        assert pods(ask.many("ejecting", 10)) == {"a"}
    until(lambda: pods(ask.many("ejecting", 6)) == {"a", "b"}, "its return", 4)
    assert time.monotonic() - ejected > 1.4
    bad = ask.many("ejecting", 12, "/?status=500&only=b")
    assert statuses(bad)[500] == 2
    ejected = time.monotonic()
    until(lambda: pods(ask.many("ejecting", 6)) == {"a", "b"}, "its second return", 6)
    assert time.monotonic() - ejected > 2.8, "twice as long the second time"


def test_no_more_are_ejected_than_their_share(ask: Asking) -> None:
    bad = ask.many("half-ejecting", 20, "/?status=500")
    assert statuses(bad) == {500: 20}
    assert len(pods(ask.many("half-ejecting", 10))) == 1, "one of two is out, the other has to stay"


def test_too_few_left_is_as_bad_as_none_ejected(ask: Asking) -> None:
    ask.many("panicking", 12, "/?status=500&only=b")
    assert pods(ask.many("panicking", 12)) == {"a", "b"}


# --- balancing


@pytest.mark.parametrize("client", CLIENTS)
def test_a_key_keeps_its_endpoint(ask: Asking, client: str) -> None:
    seats = {}
    for user in map(str, range(12)):
        found = pods(ask.many("by-header", 4, headers={"x-user": user}, client=client))
        assert len(found) == 1
        seats[user] = found.pop()
    assert set(seats.values()) == {"a", "b"}
    assert len(pods([ask.one("by-address", client=client) for _ in range(8)])) == 1


def test_a_cookie_keeps_its_endpoint(ask: Asking) -> None:
    first = ask.one("by-cookie")
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("seat=") and "max-age=60" in first.headers["set-cookie"].lower()
    again = [ask.one("by-cookie", headers={"cookie": cookie}) for _ in range(8)]
    assert pods(again) == {first.pod} and not [a for a in again if "set-cookie" in a.headers]
    assert len(pods([ask.one("by-cookie") for _ in range(16)])) == 2


def test_tcp_goes_by_weight(ask: Asking) -> None:
    with ThreadPoolExecutor(8) as pool:
        count = Counter(pool.map(lambda _: ask.one("tcp-split").pod, range(300)))
    assert sum(count.values()) == 300 and within_three_sigma(count["b"], 0.3, 300), count


# --- faults and mirrors


@pytest.mark.parametrize("client", CLIENTS)
def test_a_mirror_gets_its_share_and_changes_nothing(ask: Asking, mesh: Mesh, client: str) -> None:
    key = f"mirror.{client}"
    answers = ask.many("mirrored", 400, f"/?key={key}", client=client)
    assert pods(answers) == {"a"}
    time.sleep(0.3)
    count = mesh.count("client", "b", key, 80)
    assert within_three_sigma(count, 0.3, 400), count
    slow = ask.many("mirrored", 10, "/?delay=1&only=b", client=client)
    assert max(answer.seconds for answer in slow) < 0.9, "who waits for a mirror?"


def test_faults_come_at_their_percentages(ask: Asking) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = [a for some in pool.map(lambda _: ask.many("faulty", 30), range(16)) for a in some]
    aborted = [answer for answer in answers if answer.status == 418]
    assert within_three_sigma(len(aborted), 0.2, 480), len(aborted)
    assert {answer.body for answer in aborted} == {b"fault filter abort"}
    assert statuses(answers)[200] + len(aborted) == 480
    delayed = sum(answer.seconds >= 0.2 for answer in answers)
    assert within_three_sigma(delayed, 0.3, 480), delayed


# --- what rules do to requests and answers


def test_cors(ask: Asking) -> None:
    asked = {"origin": "https://a.test", "access-control-request-method": "PUT"}
    preflight = ask.one("crossing", method="OPTIONS", headers=asked)
    assert preflight.status == 200 and not preflight.pod
    allowed = {
        name[len("access-control-") :]: value for name, value in preflight.headers.items() if "access-" in name
    }
    assert allowed["allow-origin"] == "https://a.test" and allowed["allow-credentials"] == "true"
    assert (
        allowed["allow-methods"] == "GET,PUT" and allowed["allow-headers"] == "x-a" and allowed["max-age"] == "3600"
    )
    answer = ask.one("crossing", headers={"origin": "https://a.test"})
    assert answer.pod == "a" and answer.headers["access-control-allow-origin"] == "https://a.test"
    assert answer.headers["access-control-expose-headers"] == "x-b"
    other = ask.one("crossing", headers={"origin": "https://b.test"})
    assert other.pod == "a" and "access-control-allow-origin" not in other.headers


def test_headers_are_set_added_and_removed(ask: Asking) -> None:
    given = {"x-set": "old", "x-add": "one", "x-gone": "x"}
    answer = ask.one("operated", "/?header=x-hidden:secret", given)
    seen = answer.told["headers"]
    assert seen["x-set"] == "new" and "x-gone" not in seen and seen["x-add"] in ("more", "one,more", "one, more")
    assert answer.headers["x-told"] == "yes" and "x-hidden" not in answer.headers


def test_rewrites_redirects_direct_answers_and_matches(ask: Asking) -> None:
    prefix = ask.one("answering", "/old/x?y=1")
    assert (prefix.told["path"], prefix.told["headers"]["host"]) == ("/new/x?y=1", "inner.test")
    assert ask.one("answering", "/re/a/b/c").told["path"] == "/b/c/a"
    moved = ask.one("answering", "/moved?x=1")
    assert (moved.status, moved.headers["location"]) == (302, "http://other.test/there?x=1")
    said = ask.one("answering", "/said")
    assert (said.status, said.body) == (418, b"teapot")
    assert ask.one("answering", "/?q=b", {"x-a": "1"}, method="PUT", body=b"").pod == "b"
    for path, headers, method in (
        ("/?q=b", {"x-a": "1"}, "GET"),
        ("/?q=c", {"x-a": "1"}, "PUT"),
        ("/?q=b", {}, "PUT"),
    ):
        assert ask.one("answering", path, headers, method=method, body=b"").pod == "a"


# --- Gateway API, ServiceEntry


@pytest.mark.parametrize("client", CLIENTS)
def test_an_http_route_holds_for_all_clients_of_its_service(ask: Asking, client: str) -> None:
    marked = ask.one("produced", "/v2/x", {"x-a": "1"}, client=client)
    assert marked.pod == "b" and marked.told["headers"]["x-via"] == "route"
    assert ask.one("produced", "/v2x", {"x-a": "1"}, client=client).pod == "a"
    assert ask.one("produced", "/v2", client=client).pod == "a"


def test_a_consumers_route_holds_for_its_own_namespace(ask: Asking) -> None:
    assert ask.one("produced", client="consumer/consumer").status == 302
    assert ask.one("produced").status == 200


def test_a_grpc_route_matches_service_and_method(ask: Asking) -> None:
    def call(path: str) -> Answer:
        return ask.one("called", path, {"content-type": "application/grpc"}, method="POST", body=b"")

    assert call("/pkg.Svc/Get").pod == "b"
    other = call("/pkg.Svc/Put")
    assert (other.status, other.headers.get("grpc-status")) == (200, "12"), "no rule: unimplemented"


@pytest.mark.parametrize(("host", "pod"), [("static.example.com", "outside"), ("named.example.com", "b")])
def test_hosts_of_service_entries_are_found_by_name(mesh: Mesh, host: str, pod: str) -> None:
    for client in CLIENTS:
        reply = mesh.one(client, f"http://{host}/x")
        assert (reply.status, reply.pod) == (200, pod), reply
        assert reply.seen["host"] == host


# --- whose routes apply


@pytest.mark.parametrize("client", CLIENTS)
def test_a_service_without_routes_is_not_taken_for_one_that_shares_its_pods(mesh: Mesh, client: str) -> None:
    """Pods a and b stand behind many Services with routes; a, b and their TCP twins have none."""
    for url, pod in (("http://a/", "a"), ("http://b/", "b"), ("http://tcp-a/", "a"), ("http://tcp-b/", "b")):
        assert {reply.pod for reply in mesh.get(client, url, count=8)} == {pod}, url


# --- policy chooses, too


@pytest.mark.parametrize("client", CLIENTS)
def test_an_endpoint_that_policy_forbids_is_no_candidate(ask: Asking, mesh: Mesh, client: str) -> None:
    closed = "endpointSelector: {matchLabels: {app: %s}}\ningress: [{fromEndpoints: [{matchLabels: {app: hears}}]}]"
    policies = {app: manifest("cilium.io/v2", "CiliumNetworkPolicy", app, closed % app) for app in "ab"}
    assert pods(ask.many("either", 12, client=client)) == {"a", "b"}
    mesh.apply(policies["b"])
    try:
        assert pods(ask.many("either", 20, client=client)) == {"a"}
        mesh.apply(policies["a"])
        denied = ask.one("either", client=client)
        assert (denied.status, denied.body) == (403, b"Access denied\r\n")
    finally:
        mesh.delete(*policies.values())
    assert pods(ask.many("either", 12, client=client)) == {"a", "b"}


# --- endpoints come and go


class Load:
    """Requests one after the other over several kept connections, until stopped."""

    def __init__(self, ask: Asking, service: str, path: str = "/", connections: int = 4, keep: bool = True) -> None:
        self.seen: Counter[object] = Counter()
        self._ask, self._service, self._path, self._keep = ask, service, path, keep
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(connections)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        connection = self._ask.connect(self._service)
        while not self._stop.is_set():
            try:
                answer = self._ask.one(self._service, self._path, over=connection if self._keep else None)
                self.seen[(answer.status, answer.pod)] += 1
                if answer.headers.get("connection") == "close":
                    connection = self._ask.connect(self._service)
            except Exception as error:
                self.seen[repr(error)] += 1
                connection.close()
                connection = self._ask.connect(self._service)
        connection.close()

    def result(self) -> Counter[object]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.seen


MORE = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: more}}
spec:
  replicas: 1
  selector: {{matchLabels: {{more: "yes"}}}}
  template:
    metadata: {{labels: {{app: a, more: "yes"}}}}
    spec: {spec}
"""


@pytest.mark.parametrize("keep", [True, False], ids=["kept connections", "a connection each"])
def test_an_endpoint_that_ends_loses_no_request(ask: Asking, mesh: Mesh, keep: bool) -> None:
    spec = Mesh.pod("more", 2).partition("spec:\n")[2].replace("\n", "\n     ")
    deployment = MORE.format(spec="\n     " + spec)
    load = Load(ask, "plain", "/?delay=0.02", keep=keep)
    try:
        mesh.apply(deployment)
        until(lambda: (200, "more") in load.seen, "requests at the new endpoint")
        mesh.delete(deployment)
        until(lambda: "more-" not in mesh.weft("local", "get", "pods"), "its end")
    finally:
        seen = load.result()
    assert set(seen) == {(200, "a"), (200, "more")}, seen
    assert seen[(200, "more")] > 5 and sum(seen.values()) > 50


def test_an_endpoint_that_is_not_ready_gets_nothing(ask: Asking, mesh: Mesh) -> None:
    ready = mesh.folder / "ready"
    pod = Mesh.pod("moody", 2, app="a").replace(
        "tcpSocket: {port: 8080}", f"exec: {{command: [test, -f, {ready}]}}"
    )
    ready.touch()
    mesh.apply(pod)
    try:
        until(lambda: "moody" in pods(ask.many("plain", 6)), "requests at the ready one")
        ready.unlink()
        until(lambda: "moody" not in pods(ask.many("plain", 40)), "none any more")
        assert pods(ask.many("plain", 30)) == {"a"}
    finally:
        mesh.delete(pod)
