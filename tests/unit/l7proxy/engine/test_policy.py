"""Network policy on requests: who may be reached, which request, judged as whom."""

from __future__ import annotations

from engine_lab import HOST, Lab, rule
from weft.l7proxy.core.parties import Permit
from weft.l7proxy.core.stream import Failure
from weft.policies.l7 import HttpLimits
from weft.policies.mesh.model import How, Matcher, Mirror, RequestMatch, Retries, Rewrite
from weft.policies.model import HeaderMatch, HttpRule, ObjectRef, Origin

POLICY = ObjectRef("CiliumNetworkPolicy", "shop", "api")


def limits(*rules: HttpRule) -> HttpLimits:
    return HttpLimits(tuple((Origin(POLICY, f"spec.ingress[{at}]"), one) for at, one in enumerate(rules)))


def lab_with(permit: Permit, **fields: object) -> Lab:
    lab = Lab(rule(HOST, **fields))
    lab.server = lambda one: one.respond(200)
    for endpoint in lab.cluster().endpoints:
        lab.world.permits[endpoint.ip] = permit
    return lab


def test_a_client_that_may_reach_no_endpoint_gets_403_and_keeps_its_connection() -> None:
    lab = lab_with(Permit(False, reason="default deny", denied_by=("CiliumNetworkPolicy shop/deny",)))
    client = lab.client()
    assert (client.status, client.content) == (403, b"Access denied\r\n")
    assert client.was_reset is None and not lab.tries
    assert (lab.entry.verdict, lab.entry.denied_by) == ("DROPPED", ("CiliumNetworkPolicy shop/deny",))


def test_an_endpoint_that_the_client_may_not_reach_is_no_candidate() -> None:
    lab = Lab(rule(HOST))
    lab.server = lambda one: one.respond(200)
    first, second, third = lab.cluster().endpoints
    lab.world.permits = {first.ip: Permit(False), third.ip: Permit(False)}
    assert [lab.client().status for _ in range(5)] == [200] * 5
    assert {one.endpoint for one in lab.tries} == {second}
    assert lab.entry.verdict == "FORWARDED"


def test_ingress_limits_let_pass_what_they_name_and_nothing_else() -> None:
    lab = lab_with(Permit(True, ingress=limits(HttpRule(method="GET", path="/public"))))
    assert lab.client(b"/public").status == 200
    assert lab.entry.allowed_by == (str(POLICY),) and lab.entry.ingress and not lab.entry.egress
    for path, method in ((b"/private", b"GET"), (b"/public?x=1", b"GET"), (b"/public", b"POST")):
        client = lab.client(path, method=method)
        assert (client.status, client.content) == (403, b"Access denied\r\n")
        assert lab.entry.denied_by == (str(POLICY),) and lab.entry.details == "policy_denied"
    assert len(lab.tries) == 1


def test_a_grpc_call_is_denied_in_its_own_words() -> None:
    lab = lab_with(Permit(True, egress=limits(HttpRule(path="/pkg.Svc/Get"))))
    client = lab.client(b"/pkg.Svc/Put", [(b"content-type", b"application/grpc")], method=b"POST", version="2")
    assert (client.status, client.header(b"grpc-status")) == (200, b"7")
    assert client.header(b"grpc-message") == b"Access denied%0D%0A" and client.ended


def test_egress_is_judged_as_the_client_sent_it_and_ingress_as_the_server_sees_it() -> None:
    match = (RequestMatch(path=Matcher(How.PREFIX, "/v1")),)
    rewriting = {"matches": match, "rewrite": Rewrite(prefix="/v2", authority="inner")}
    outside, inside = HttpRule(path="/v1/x", host="api"), HttpRule(path="/v2/x", host="inner")
    passes = lab_with(Permit(True, egress=limits(outside), ingress=limits(inside)), **rewriting)
    assert passes.client(b"/v1/x").status == 200
    for egress, ingress in ((inside, inside), (outside, outside)):
        fails = lab_with(Permit(True, egress=limits(egress), ingress=limits(ingress)), **rewriting)
        assert fails.client(b"/v1/x").status == 403 and not fails.tries


def test_limits_that_are_lifted_limit_nothing() -> None:
    lab = lab_with(Permit(True, ingress=HttpLimits((), lifted=True)))
    assert lab.client(b"/anything").status == 200


def test_header_matches_change_what_the_server_gets() -> None:
    ops = HttpRule(
        headers=(
            HeaderMatch("x-add", "new", "ADD"),
            HeaderMatch("x-gone", "only-this", "DELETE"),
            HeaderMatch("x-swap", "right", "REPLACE"),
            HeaderMatch("x-log", "quiet", "LOG"),
        )
    )
    lab = lab_with(Permit(True, ingress=limits(ops)))
    client = lab.client(
        headers=[(b"x-add", b"old"), (b"x-gone", b"that"), (b"x-swap", b"wrong"), (b"x-log", b"loud")]
    )
    sent = [pair for pair in lab.tries[0].headers if pair[0] in (b"x-add", b"x-gone", b"x-swap", b"x-log")]
    assert client.status == 200
    assert sorted(sent) == [(b"x-add", b"new"), (b"x-add", b"old"), (b"x-log", b"loud"), (b"x-swap", b"right")]
    assert (b"x-add", b"new") not in lab.entry.headers


def test_the_host_header_is_the_authority() -> None:
    for value, status in (("api", 200), ("other", 403)):
        named = HttpRule(headers=(HeaderMatch("Host", value, ""),))
        assert lab_with(Permit(True, ingress=limits(named))).client().status == status
    for action, wanted in (("REPLACE", b"other"), ("ADD", b"api"), ("DELETE", b"api")):
        lab = lab_with(Permit(True, ingress=limits(HttpRule(headers=(HeaderMatch("Host", "other", action),)))))
        assert lab.client().status == 200
        (sent,) = lab.tries
        assert sent.head.authority == wanted and b"host" not in {name for name, _ in sent.headers}


def test_what_policy_adds_is_added_once_however_often_it_is_tried() -> None:
    ops = HttpRule(headers=(HeaderMatch("x-add", "new", "ADD"),))
    lab = lab_with(Permit(True, ingress=limits(ops)), retries=Retries(attempts=2, on=("reset",)))
    lab.server = lambda one: one.fail(Failure.RESET)
    lab.client(headers=[(b"x-add", b"old")])
    lab.advance(1)
    assert [sum(name == b"x-add" for name, _ in one.headers) for one in lab.tries] == [2, 2, 2]
    assert [one.header(b"x-envoy-attempt-count") for one in lab.tries] == [b"1", b"2", b"3"]


def test_each_try_is_judged_for_its_own_endpoint() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=1, on=("5xx",))))
    lab.server = lambda one: one.respond(503)
    first, second, third = lab.cluster().endpoints
    denying = Permit(True, ingress=limits(HttpRule(path="/other")))
    lab.world.permits = {first.ip: denying, third.ip: denying}
    lab.cluster().pick = lambda key, tried, allowed: first if tried else second  # type: ignore[method-assign]
    client = lab.client()
    lab.advance(1)
    assert client.status == 403 and len(lab.tries) == 1
    lab.check_quiet()


def test_a_mirror_does_not_get_around_policy() -> None:
    shadow = "shadow.shop.svc.cluster.local"
    lab = Lab(rule(HOST, mirrors=(Mirror(rule(shadow).destinations[0]),)))
    lab.server = lambda one: one.respond(200)
    for endpoint in lab.cluster(shadow).endpoints:
        endpoint.ip = endpoint.ip.replace("10.1", "10.5")
        lab.world.permits[endpoint.ip] = Permit(True, ingress=limits(HttpRule(path="/other")))
    assert lab.client().status == 200
    assert not lab.cluster(shadow).tries
    lab.check_quiet()
