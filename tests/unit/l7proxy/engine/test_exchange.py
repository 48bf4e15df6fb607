"""Where requests go, what they and their answers carry, and what is said of them."""

from __future__ import annotations

import math

import pytest

from engine_lab import CLIENT, HOST, Lab, destination, rule
from weft.l7proxy.core.parties import Permit, Workload
from weft.l7proxy.core.stream import Failure, Reset
from weft.policies.l7 import HttpLimits
from weft.policies.mesh.model import (
    Destination,
    DirectResponse,
    Fault,
    HeaderChanges,
    How,
    Matcher,
    MeshSettings,
    Named,
    Redirect,
    RequestMatch,
    Retries,
    Rewrite,
)

V1, V2 = f"{HOST}/v1", f"{HOST}/v2"


def ok(one: object) -> None:
    one.respond(200, body=b"hello")  # type: ignore[attr-defined]


def test_a_request_and_its_answer() -> None:
    lab = Lab(rule(HOST))
    lab.server = ok
    client = lab.client(b"/x?y", [(b"a", b"b")])
    head = lab.tries[0].head
    assert head and (head.method, head.path, head.authority) == (b"GET", b"/x?y", b"api")
    assert lab.tries[0].headers == [(b"a", b"b"), (b"x-forwarded-proto", b"http"), (b"x-envoy-attempt-count", b"1")]
    assert (client.status, client.content) == (200, b"hello")
    assert client.header(b"x-envoy-upstream-service-time") == b"0"
    entry = lab.entry
    assert (entry.status, entry.flags, entry.details, entry.verdict) == (200, "", "via_upstream", "FORWARDED")
    assert (entry.cluster, entry.service, entry.destination) == (f"outbound|80||{HOST}", "shop/api", "shop/api")
    assert (entry.response_bytes, entry.tries, entry.upstream_local) == (5, 1, ("10.0.0.1", 61001))
    assert entry.allowed_by == ("CiliumNetworkPolicy shop/all",)
    lab.check_quiet()


def test_what_the_client_says_of_attempts_and_time_is_replaced_by_the_truth() -> None:
    lab = Lab(rule(HOST))
    lab.server = lambda one: one.respond(200, [(b"x-envoy-upstream-service-time", b"999")])
    client = lab.client(headers=[(b"x-envoy-attempt-count", b"7"), (b"x-forwarded-proto", b"https")])
    assert [value for name, value in lab.tries[0].headers if name == b"x-envoy-attempt-count"] == [b"1"]
    assert [value for name, value in lab.tries[0].headers if name == b"x-forwarded-proto"] == [b"https"]
    assert [value for name, value in client.headers if name == b"x-envoy-upstream-service-time"] == [b"0"]


# --- S2's canary ----------------


def canary() -> Lab:
    marked = RequestMatch(headers=(Named("x-canary", Matcher(How.EXACT, "true")),))
    lab = Lab(rule(V2, matches=(marked,)), rule(destination(V1, 90), destination(V2, 10)))
    lab.server = ok
    return lab


def test_the_canary_header_always_gets_the_canary() -> None:
    lab = canary()
    for _ in range(50):
        lab.client(headers=[(b"x-canary", b"true")])
    assert {one.cluster.subset for one in lab.tries} == {"v2"}


def test_ninety_ten_within_three_sigma_of_ten_thousand_requests() -> None:
    lab = canary()
    for _ in range(10_000):
        lab.client()
    second = len(lab.cluster(subset="v2").tries)
    assert abs(second - 1000) <= 3 * math.sqrt(10_000 * 0.1 * 0.9)
    assert len(lab.tries) == 10_000


# --- nowhere to go ----------------


def test_a_host_without_routes_goes_to_its_own_cluster_with_default_retries() -> None:
    lab = Lab()
    lab.cluster().connects = lambda number: Failure.CONNECT if number == 1 else "now"
    lab.server = ok
    client = lab.client()
    lab.advance(0.1)
    assert client.status == 200 and len(lab.tries) == 2 and lab.entry.route == "default"
    assert lab.tries[1].header(b"x-envoy-attempt-count") == b"2"


def test_an_address_of_nobody_is_passed_through() -> None:
    lab = Lab(rule(HOST))
    lab.server = ok
    assert lab.client(destination=("192.0.2.7", 8000)).status == 200
    assert lab.entry.cluster == "PassthroughCluster" and lab.entry.route == "allow_any"


def test_an_address_of_nobody_is_refused_where_only_declared_hosts_may_be_reached() -> None:
    lab = Lab()
    lab.world.settings = MeshSettings(allow_any=False)
    client = lab.client(destination=("192.0.2.7", 8000))
    assert client.status == 502 and not lab.tries and lab.entry.route == "block_all"


def test_no_rule_matches() -> None:
    lab = Lab(rule(HOST, matches=(RequestMatch(path=Matcher(How.EXACT, "/a")),)))
    client = lab.client(b"/b")
    assert (client.status, client.content) == (404, b"")
    assert (lab.entry.flags, lab.entry.details) == ("NR", "route_not_found")


@pytest.mark.parametrize(("missing", "status"), [(503, 503), (500, 500)])
def test_no_such_host_or_subset(missing: int, status: int) -> None:
    lab = Lab(rule(Destination("gone.shop.svc.cluster.local", 80, missing=missing)))
    lab.missing = {("gone.shop.svc.cluster.local", 80, "")}
    assert lab.client().status == status
    assert (lab.entry.flags, lab.entry.details) == ("NC", "cluster_not_found")


def test_a_destination_that_nobody_permits_is_not_sent_to() -> None:
    lab = Lab(rule(Destination(HOST, 80, missing=500, refused="no ReferenceGrant")))
    assert lab.client().status == 500 and not lab.tries


def test_a_rule_without_backends_answers_500_and_one_whose_weights_are_all_0_answers_503() -> None:
    assert Lab(rule()).client().status == 500
    assert Lab(rule(destination(V1, 0), destination(V2, 0))).client().status == 503


def test_nobody_is_there() -> None:
    lab = Lab(rule(HOST))
    lab.cluster().endpoints = []
    client = lab.client()
    assert (client.status, client.content) == (503, b"no healthy upstream")
    assert (lab.entry.flags, lab.entry.details) == ("UH", "no_healthy_upstream")


def test_a_port_that_only_one_side_names() -> None:
    lab = Lab(rule(Destination(HOST)))
    lab.server = ok
    lab.world.hosts[("10.9.0.1", 8080)] = (HOST, 8080)
    assert lab.client(destination=("10.9.0.1", 8080)).status == 200
    assert lab.tries[0].cluster.port == 80  # its only one


def test_a_pod_whose_routes_are_for_others_is_itself() -> None:
    lab = Lab()
    lab.route(rule(V1), clients=("other",))
    lab.server = ok
    lab.world.hosts["10.1.0.1", 8080] = (HOST, 80)
    lab.world.workloads["10.1.0.1"] = Workload("10.1.0.1", 400, "shop", "api-1")
    lab.client(destination=("10.1.0.1", 8080))
    lab.client()
    assert [one.cluster.name for one in lab.tries] == ["PassthroughCluster", f"outbound|80||{HOST}"]


# --- routed already ----------------


def test_what_comes_from_another_nodes_proxy_is_not_routed_again() -> None:
    lab = Lab(rule(destination(V1)))
    lab.world.workloads["10.2.0.9"] = Workload("10.2.0.9", 301, "shop", "far-1", node="n2")
    lab.world.hosts[("10.1.0.1", 8080)] = (HOST, 80)
    lab.server = ok
    client = lab.client(
        headers=[(b"x-envoy-attempt-count", b"2")], source=("10.2.0.9", 61005), destination=("10.1.0.1", 8080)
    )
    assert client.status == 200 and lab.entry.cluster == "PassthroughCluster"
    assert [value for name, value in lab.tries[0].headers if name == b"x-envoy-attempt-count"] == [b"2"]
    assert client.header(b"x-envoy-upstream-service-time") is None
    assert not lab.entry.reports_source and lab.entry.reports_destination


def test_a_client_outside_the_mesh_has_no_proxy_of_its_own_whatever_its_port() -> None:
    lab = Lab()
    lab.server = ok
    lab.client(source=("192.0.2.9", 61005), destination=("10.1.0.1", 8080))
    assert lab.entry.reports_source


# --- redirect, direct response, faults ----------------


def test_a_redirect_and_its_header_changes() -> None:
    lab = Lab(rule(redirect=Redirect(host="new", status=302), response_headers=HeaderChanges(set=(("a", "b"),))))
    client = lab.client(b"/x?y=1", authority=b"api:8080")
    assert (client.status, client.header(b"location"), client.header(b"a")) == (302, b"http://new/x?y=1", b"b")
    assert client.ended and client.content == b"" and lab.entry.details == "direct_response"


def test_a_direct_response() -> None:
    lab = Lab(rule(direct=DirectResponse(418, b"teapot")))
    client = lab.client()
    assert (client.status, client.content, client.header(b"content-length")) == (418, b"teapot", b"6")
    head = lab.client(method=b"HEAD")
    assert (head.status, head.content, head.header(b"content-length")) == (418, b"", b"6")


def test_faults_at_their_percentages_and_independent_of_each_other() -> None:
    lab = Lab(rule(HOST, fault=Fault(delay=1.0, delay_percent=30, abort_status=555, abort_percent=20)))
    lab.server = ok
    clients = [lab.client() for _ in range(4000)]
    lab.advance(1.05)
    seen = {"": 0, "DI": 0, "FI": 0, "DI,FI": 0}
    for entry in lab.observer.entries:
        seen[entry.flags] += 1
    for flags, share in (("", 0.56), ("DI", 0.24), ("FI", 0.14), ("DI,FI", 0.06)):
        assert abs(seen[flags] - 4000 * share) <= 3 * math.sqrt(4000 * share * (1 - share)), (flags, seen)
    assert {client.status for client in clients} == {200, 555}
    aborted = next(client for client in clients if client.status == 555)
    assert aborted.content == b"fault filter abort"
    lab.check_quiet()


def test_without_a_percentage_there_is_no_fault() -> None:
    lab = Lab(rule(HOST, fault=Fault(delay=1.0, abort_status=500)))
    lab.server = ok
    assert lab.client().status == 200


def test_the_delay_holds_the_request_back_and_a_client_that_goes_ends_it() -> None:
    lab = Lab(rule(HOST, fault=Fault(delay=5.0, delay_percent=100)))
    asking = lab.client()
    lab.advance(4.9)
    assert not lab.tries
    asking.sink.gone(Reset.CANCEL)
    lab.advance(1)
    assert not lab.tries and lab.entry.flags == "DI,DC"
    lab.check_quiet()


def test_an_abort_is_not_retried_and_the_rules_timeout_does_not_see_it() -> None:
    lab = Lab(
        rule(HOST, fault=Fault(abort_status=503, abort_percent=100), retries=Retries(attempts=3, on=("5xx",)))
    )
    assert lab.client().status == 503
    assert lab.entry.tries == 0 and lab.entry.flags == "FI" and lab.entry.details == "fault_filter_abort"


def test_an_abort_with_a_grpc_status() -> None:
    lab = Lab(rule(HOST, fault=Fault(abort_grpc=8, abort_percent=100)))
    client = lab.client(headers=[(b"content-type", b"application/grpc")])
    assert (client.status, client.header(b"grpc-status")) == (200, b"8")
    assert client.header(b"grpc-message") == b"fault filter abort" and client.ended
    assert lab.client().status == 429  # what it would be in HTTP


def test_an_abort_with_an_http2_error() -> None:
    lab = Lab(rule(HOST, fault=Fault(abort_h2=11, abort_percent=100)))
    client = lab.client()
    assert client.was_reset is Reset.ENHANCE_YOUR_CALM and not client.answers
    lab.check_quiet()


# --- header changes and rewrites on the way ----------------


def test_with_several_destinations_the_rule_wins_with_one_the_destination() -> None:
    of_rule = HeaderChanges(set=(("who", "rule"), ("host", "rule.example")))
    of_destination = HeaderChanges(set=(("who", "destination"),), add=(("also", "x"),))
    one = destination(V1, request_headers=of_destination, response_headers=of_destination)
    for destinations, winner in (((one,), b"destination"), ((one, destination(V2, 0)), b"rule")):
        lab = Lab(rule(*destinations, request_headers=of_rule, response_headers=of_rule))
        lab.server = ok
        client = lab.client(headers=[(b"who", b"client")])
        sent = lab.tries[0]
        assert [value for name, value in sent.headers if name == b"who"] == [winner]
        assert sent.header(b"also") == b"x" and sent.head and sent.head.authority == b"rule.example"
        assert client.header(b"who") == winner


def test_a_rewrite_of_path_and_authority() -> None:
    match = RequestMatch(path=Matcher(How.PREFIX, "/api"))
    lab = Lab(rule(HOST, matches=(match,), rewrite=Rewrite(prefix="/", authority="inner")))
    lab.server = ok
    lab.client(b"/api?x=1")
    head = lab.tries[0].head
    assert head and (head.path, head.authority) == (b"/?x=1", b"inner")
    assert lab.tries[0].header(b"x-envoy-original-path") == b"/api?x=1"
    assert lab.tries[0].header(b"x-envoy-original-host") == b"api"
    assert lab.entry.path == b"/api?x=1"


def test_what_only_proxies_say_of_a_request_is_not_taken_from_clients() -> None:
    lab = Lab(rule(HOST))
    lab.server = ok
    lab.client(headers=[(b"x-envoy-internal", b"true"), (b"x-envoy-original-path", b"/y"), (b"a", b"1")])
    sent = lab.tries[0]
    assert sent.header(b"x-envoy-internal") is None and sent.header(b"x-envoy-original-path") is None
    assert sent.header(b"a") == b"1"


@pytest.mark.parametrize("date", [b"", b"Sun, 06 Nov 1994 08:49:37 GMT"])
def test_an_answer_that_bears_no_date_is_dated(date: bytes) -> None:
    lab = Lab(rule(HOST))
    lab.server = lambda one: one.respond(200, [(b"date", date)] if date else [])
    client = lab.client()
    dates = [value for name, value in client.headers if name == b"date"]
    assert dates == [date] if date else [each for each in dates if each.endswith(b"GMT")] == dates != []


def test_a_request_keeps_what_it_was_whatever_is_changed_on_the_way() -> None:
    lab = Lab(rule(HOST, request_headers=HeaderChanges(remove=("a",), add=(("b", "2"),))))
    lab.server = ok
    headers = [(b"a", b"1")]
    lab.client(headers=headers)
    assert lab.entry.headers == [(b"a", b"1")]
    assert lab.tries[0].header(b"a") is None and lab.tries[0].header(b"b") == b"2"


def test_the_hash_is_of_the_request_that_the_server_sees() -> None:
    lab = Lab(rule(HOST, request_headers=HeaderChanges(set=(("user", "new"),))))
    lab.server = ok
    seen = []
    lab.cluster().hash_key = lambda request, peer: (seen.append(dict(request.headers)[b"user"]), (1, b""))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    lab.client(headers=[(b"user", b"old")])
    assert seen == [b"new"]


def test_a_cookie_for_the_hash_goes_to_the_client() -> None:
    lab = Lab(rule(HOST))
    lab.cluster().key = (7, b"session=abc; HttpOnly")
    lab.server = ok
    assert lab.client().header(b"set-cookie") == b"session=abc; HttpOnly"


# --- retries: hosts, limits ----------------

RETRYING = Retries(attempts=2, on=("5xx",))


def test_hosts_that_were_tried_are_avoided() -> None:
    lab = Lab(rule(HOST, retries=RETRYING))
    lab.server = lambda one: one.respond(503)
    client = lab.client()
    lab.advance(1)
    assert len({one.endpoint.ip for one in lab.tries}) == 3
    assert client.status == 503 and lab.entry.flags == "URX" and lab.entry.details == "via_upstream"
    assert [one.header(b"x-envoy-attempt-count") for one in lab.tries] == [b"1", b"2", b"3"]


def test_a_host_that_is_tried_again_and_again_is_remembered_once() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=20, on=("5xx",))))
    lab.server = lambda one: one.respond(503)
    seen: list[int] = []
    cluster = lab.cluster()
    pick = cluster.pick
    cluster.pick = lambda key, tried, allowed: (seen.append(len(tried)), pick(key, tried, allowed))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    lab.client()
    lab.advance(6)
    assert len(lab.tries) == 21 and max(seen) == 3


def test_where_a_hash_decides_it_decides_every_try() -> None:
    lab = Lab(rule(HOST, retries=RETRYING))
    cluster = lab.cluster()
    cluster.key, seen = (7, b""), []
    pick = cluster.pick
    cluster.pick = lambda key, tried, allowed: (seen.append((key, tuple(tried))), pick(key, tried, allowed))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    lab.server = lambda one: one.respond(503)
    lab.client()
    lab.advance(1)
    assert seen == [(7, ())] * 3


def test_a_spent_retry_limit_lets_the_response_in_hand_stand() -> None:
    lab = Lab(rule(HOST, retries=RETRYING))
    lab.cluster().most_retries = 0
    lab.server = lambda one: one.respond(503, body=b"mine")
    client = lab.client()
    assert (client.status, client.content, len(lab.tries)) == (503, b"mine", 1)
    assert lab.entry.flags == "UO"
    lab.check_quiet()


def test_a_limit_of_the_destination_is_said_and_not_retried() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=3, on=("5xx", "reset", "connect-failure", "gateway-error"))))
    lab.cluster().connects = Failure.OVERFLOW
    client = lab.client()
    assert client.status == 503 and client.header(b"x-envoy-overloaded") == b"true"
    assert client.content.endswith(b"reset reason: overflow")
    assert (lab.entry.flags, len(lab.tries)) == ("UO", 1)
    lab.check_quiet()


def test_nothing_that_speaks_no_http_gets_through() -> None:
    lab = Lab(rule(HOST))
    lab.server = lambda one: one.fail(Failure.PROTOCOL)
    assert lab.client().status == 502 and lab.entry.flags == "UPE"


@pytest.mark.parametrize(
    ("method", "fresh", "failure", "tries"),
    [
        (b"GET", False, Failure.RESET, 2),
        (b"POST", False, Failure.RESET, 1),
        (b"GET", True, Failure.RESET, 1),
        (b"POST", False, Failure.RESET_BEFORE_REQUEST, 2),
        (b"POST", True, Failure.RESET_BEFORE_REQUEST, 1),
        (b"POST", False, Failure.REFUSED, 1),
        (b"POST", False, Failure.LOCAL_CLOSE, 1),
    ],
    ids=["safe", "not safe", "a new one", "never sent", "never sent on a new one", "refused", "drained too late"],
)
def test_a_kept_connection_that_was_closed_costs_no_retry(
    method: bytes, fresh: bool, failure: Failure, tries: int
) -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=0)))

    def server(one: object) -> None:
        if len(lab.tries) == 1:
            one.fresh = fresh  # type: ignore[attr-defined]
            one.fail(failure)  # type: ignore[attr-defined]
        else:
            ok(one)

    lab.server = server
    client = lab.client(method=method)
    assert len(lab.tries) == tries and client.status == (200 if tries == 2 else 503)
    lab.check_quiet()


def test_a_goaway_loses_nothing_that_it_did_not_take() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=0)))
    client = lab.client(method=b"POST", version="2")
    lab.tries[0].fresh = False
    lab.tries[0].fail(Failure.REFUSED, "above the last stream of GOAWAY")
    lab.tries[1].respond(200)
    assert client.status == 200


def test_an_endpoint_that_is_drained_while_we_connect_is_left_for_another() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=0)))
    lab.cluster().connects = "later"
    client = lab.client(method=b"POST")
    lab.tries[0].fail(Failure.LOCAL_CLOSE)
    lab.tries[1].open().respond(200)
    assert client.status == 200
    lab.check_quiet()


def test_a_stream_that_the_server_reset_is_told_from_a_connection_that_was_lost() -> None:
    lab = Lab(rule(HOST))
    lab.client(version="2")
    lab.tries[0].fail(Failure.RESET, "reset by the peer: INTERNAL_ERROR")
    assert (lab.entry.flags, lab.entry.failure) == ("UR", "reset by the peer: INTERNAL_ERROR")
    assert lab.entry.details == "upstream_reset_before_response_started{remote_reset}"


def test_routing_that_changed_holds_for_the_next_request() -> None:
    lab = Lab(rule(V1))
    lab.server = ok
    lab.client()
    lab.route(rule(V2))
    lab.client()
    assert [one.cluster.subset for one in lab.tries] == ["v1", "v2"]


@pytest.mark.parametrize("where", ["workload", "routing", "permit", "judge"])
def test_a_fault_of_ours_ends_one_request_with_500_and_lets_nothing_through(where: str) -> None:
    lab = Lab(rule(HOST))
    lab.server = ok

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    lab.world.permits = {one.ip: Permit(True, ingress=HttpLimits(())) for one in lab.cluster().endpoints}
    setattr(lab.world, where, broken)
    client = lab.client()
    assert client.status == 500 or client.was_reset is Reset.INTERNAL_ERROR
    assert not lab.tries and lab.engine.errors == 1
    lab.check_quiet()


def test_a_fault_of_ours_in_a_second_try() -> None:
    lab = Lab(rule(HOST, retries=RETRYING))
    lab.server = lambda one: one.respond(503)
    client = lab.client()
    lab.cluster().endpoints = None  # type: ignore[assignment]
    lab.advance(1)
    assert client.status == 500 and lab.engine.errors == 1
    lab.check_quiet()


def test_the_client_is_a_workload_of_the_lab() -> None:
    lab = Lab(rule(HOST))
    lab.server = ok
    lab.client()
    assert lab.entry.client is CLIENT and lab.entry.reports_source
