"""What is remembered of one request for the next is never what the next one must not get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.bench.relay import Http1, Http2, Pipe, Proxy

from weft.l7proxy.core import http1
from weft.l7proxy.core.http1 import responses, writer
from weft.l7proxy.core.http1.known import _MARKS, _MOST, _SHORT, Heads
from weft.l7proxy.core.limits import DEFAULTS
from weft.l7proxy.core.named import Named
from weft.l7proxy.core.parties import Permit
from weft.l7proxy.core.stream import Request, Response
from weft.policies import delta
from weft.policies.mesh.choose import Chooser
from weft.policies.mesh.model import Dialect, HostRouting, How, Matcher, Origin, RequestMatch, Route, Rule
from weft.policies.mesh.model import Named as NamedMatch
from weft.policies.model import ObjectRef

GET = b"GET / HTTP/1.1\r\nhost: orders\r\n%b\r\n"
HOST = "orders.default.svc.cluster.local"


def asked(proxy: Proxy, client: tuple[Pipe, Any], request: bytes) -> bytes:
    """What a server gets of it; or the proxy's own answer."""
    pipe, server = client
    server.receive(request)
    proxy.connector.open()
    for upstream, connection in proxy.connector.made:
        if upstream.out:
            said: bytes = upstream.take()
            connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            pipe.out.clear()
            return said
    answer: bytes = pipe.take()
    return answer


@pytest.mark.parametrize("make", [Http1, Http2, lambda: Http2(grpc=True)], ids=["http1", "http2", "grpc"])
def test_the_relay_answers_every_request_it_is_asked(make: Callable[[], Http1 | Http2]) -> None:
    relay = make()
    relay.turn()
    expected = 32 if isinstance(relay, Http1) else 160
    assert [relay.turn() for _ in range(5)] == [expected] * 5


def test_requests_with_the_same_head_bear_different_ids_and_share_no_list() -> None:
    proxy = Proxy("http")
    client = proxy.server(http1.Server, 1)
    said = [asked(proxy, client, GET % b"a: 1\r\n") for _ in range(6)]
    assert len({one.partition(b"x-request-id: ")[2][:36] for one in said}) == 6
    assert all(one.count(b"x-request-id") == 1 and one.count(b"a: 1") == 1 for one in said)


def test_the_next_request_of_a_connection_is_judged_by_the_new_policy() -> None:
    proxy = Proxy("http")
    client = proxy.server(http1.Server, 1)
    for _ in range(4):
        assert asked(proxy, client, GET % b"").startswith(b"GET /")
    proxy.world.permit = lambda *_: Permit(False)  # type: ignore[method-assign]
    proxy.world.update(delta.Update(2, "epoch", False, delta.ClusterDelta(), delta.NodeDelta()))
    assert asked(proxy, client, GET % b"").startswith(b"HTTP/1.1 403")


def test_a_cluster_that_was_let_go_is_asked_for_again() -> None:
    proxy = Proxy("http")
    client = proxy.server(http1.Server, 1)
    assert asked(proxy, client, GET % b"").startswith(b"GET /")
    for key in list(proxy.clusters.views):
        proxy.clusters._dismiss(key)
    assert asked(proxy, client, GET % b"").startswith(b"GET /")
    assert all(not view.retired for view in proxy.clusters.views.values())


@pytest.mark.parametrize(("name", "steady"), [("x-canary", True), ("x-request-id", False), ("X-Request-ID", False)])
def test_a_choice_by_an_id_of_ours_is_not_remembered(name: str, steady: bool) -> None:
    match = RequestMatch(headers=(NamedMatch(name, Matcher(How.EXACT, "1")),))
    rule = Rule(Origin("VirtualService", "default", "a", "spec.http[0]"), matches=(match,))
    ref = ObjectRef("VirtualService", "default", "a")
    routing = HostRouting(HOST, "default/orders", (Route(ref, Dialect.ISTIO, (HOST,), (rule,)),))
    assert Chooser(routing).steady is steady


def test_a_head_is_kept_when_it_comes_again_and_strangers_fill_nothing() -> None:
    heads: Heads[int] = Heads()
    assert not heads.worth(b"a") and heads.worth(b"a")
    assert not any(heads.worth(b"x" * (_SHORT + 1)) for _ in range(3))
    for number in range(_MOST + 10):
        heads.keep(b"%d" % number, number)
    assert len(heads) <= _MOST
    for number in range(3 * _MARKS):
        heads.worth(b"%d" % number)
    assert len(heads._marks) <= _MARKS


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_a_field_that_would_be_two_is_refused_each_time(value: bytes) -> None:
    for name in (b"x", b"x-request-id"):
        for _ in range(4):
            with pytest.raises(writer.Unsafe):
                writer.response_head(
                    Response(200, [(name, value)], length=0), Request(b"GET", b"/", b"a", []), True, False
                )


def test_an_answer_that_is_known_by_heart_is_the_same_for_everybody() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx: y\r\n\r\n"
    made = [responses.parse(head, b"GET", DEFAULTS) for _ in range(4)]
    for response, body, keep, upgrade in made:
        assert (response.status, response.headers, response.length, keep, upgrade) == (
            200, [(b"content-length", b"3"), (b"x", b"y")], 3, True, b"",
        )  # fmt: skip
        assert body is not None and body.feed(b"abcd") == (b"abc", b"d")
        response.headers = []
    to_head, body, _, _ = responses.parse(head, b"HEAD", DEFAULTS)
    assert body is None and to_head.length == 0


def test_heads_by_name_are_told_apart_as_objects() -> None:
    one, other = Named([(b"a", b"1")]), Named([(b"a", b"1")])
    assert one in {one: 1} and other not in {one: 1}
