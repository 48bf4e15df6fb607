"""What the upstream side writes of a request, and what it makes of a server's bytes."""

from __future__ import annotations

import pytest

from http1_peers import Answers, connected, feeds
from weft.l7proxy.core.http1 import Client
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Failure, Request, Reset, Response, Upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Kind: One\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 9\r\n\r\n"


def get(**more: object) -> Request:
    return Request(b"GET", b"/a", b"shop", [(b"x", b"y")], **more)  # type: ignore[arg-type]


def asked(client: Client, request: Request | None = None) -> tuple[Answers, Upstream]:
    sink = Answers()
    call = client.open(sink)
    call.request(request or get(), True)
    return sink, call


@pytest.mark.parametrize("pieces", feeds(OK), ids=["whole", "byte by byte", "with a tail"])
def test_a_request_and_its_response(pieces: list[bytes]) -> None:
    client, wire = connected()
    assert (client.available, client.active) == (1, 0)
    sink, call = asked(client)
    assert wire.written == b"GET /a HTTP/1.1\r\nhost: shop\r\nx: y\r\n\r\n" and call.fresh
    assert (client.available, client.active) == (0, 1)
    for piece in pieces:
        client.receive(piece)
    assert sink.head is not None and sink.head.status == 200 and sink.head.length == 5
    assert sink.head.headers == [(b"content-length", b"5"), (b"x-kind", b"One")]
    assert sink.data == b"hello" and sink.ended and sink.trailers is None
    assert (client.available, client.active, client.closing) == (1, 0, False)
    assert not asked(client)[1].fresh


@pytest.mark.parametrize("pieces", feeds(CHUNKED), ids=["whole", "byte by byte", "with a tail"])
def test_a_chunked_response_with_trailers(pieces: list[bytes]) -> None:
    client, _ = connected()
    sink, _ = asked(client)
    for piece in pieces:
        client.receive(piece)
    assert sink.head is not None and (sink.head.reason, sink.head.length) == (b"Fine", -1)
    assert sink.data == b"hello" and sink.trailers == [(b"x-sum", b"9")] and client.available


CLOSED = b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello"


@pytest.mark.parametrize("pieces", feeds(CLOSED), ids=["whole", "byte by byte", "with a tail"])
def test_a_response_that_ends_with_the_connection(pieces: list[bytes]) -> None:
    client, wire = connected()
    sink, _ = asked(client)
    for piece in pieces:
        client.receive(piece)
    assert sink.data == b"hello" and not sink.ended
    client.eof()
    assert sink.ended and client.closing and wire.closed
    client.lost(Failure.RESET)
    assert sink.failure is None


def test_a_response_that_ends_with_a_reset_connection_has_failed() -> None:
    client, _ = connected()
    sink, _ = asked(client)
    client.receive(CLOSED)
    client.lost(Failure.RESET)
    assert not sink.ended and sink.failure == Failure.RESET


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_responses_without_a_body_end_with_their_head(method: bytes, head: bytes) -> None:
    client, _ = connected()
    for _ in range(2):
        sink, _ = asked(client, Request(method, b"/", b"a", []))
        client.receive(head)
        assert sink.ended and sink.data == b"" and client.available


def test_informational_responses_are_passed_on() -> None:
    client, _ = connected()
    sink, _ = asked(client)
    client.receive(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    assert [response.status for response in sink.informed] == [100, 103]
    assert sink.informed[1].headers == [(b"link", b"x")] and sink.data == b"hello" and client.available


def test_endless_informational_responses_are_a_failure() -> None:
    client, wire = connected()
    sink, _ = asked(client)
    client.receive(b"HTTP/1.1 102 Processing\r\n\r\n" * 33)
    assert sink.failure == Failure.PROTOCOL and wire.aborted


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_connection_that_the_server_closes_is_not_used_again(head: bytes) -> None:
    client, wire = connected()
    sink, _ = asked(client)
    client.receive(head)
    assert sink.ended and client.closing and not client.available and wire.closed


def test_http_1_0_may_keep_the_connection() -> None:
    client, _ = connected()
    asked(client)
    client.receive(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
    assert client.available


@pytest.mark.parametrize("surplus", [b"x", OK, b"\r\n"])
def test_surplus_bytes_are_nobodys_response(surplus: bytes) -> None:
    client, wire = connected()
    sink, _ = asked(client)
    client.receive(OK + surplus)
    assert sink.data == b"hello" and sink.ended and sink.failure is None
    assert not client.available and client.closing and wire.closed


def test_bytes_between_two_requests_end_the_connection() -> None:
    client, wire = connected()
    asked(client)
    client.receive(OK)
    client.receive(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert client.closing and not client.available and wire.closed


def test_bytes_before_a_request_was_written_are_a_failure() -> None:
    client, wire = connected()
    sink = Answers()
    client.open(sink)
    client.receive(OK)
    assert sink.failure == Failure.PROTOCOL and sink.head is None and wire.aborted


def test_a_connection_lost_before_the_head_was_written() -> None:
    client, wire = connected()
    sink = Answers()
    call = client.open(sink)
    client.lost(Failure.RESET)
    call.request(get(), True)
    assert sink.failure == Failure.RESET_BEFORE_REQUEST and wire.written == b"" and client.closing


@pytest.mark.parametrize("so_far", [b"", b"HTTP/1.1 200", OK[:-1], CHUNKED[:-2]])
@pytest.mark.parametrize("how", ["eof", "lost"])
def test_a_connection_that_ends_before_the_response_does(so_far: bytes, how: str) -> None:
    client, _ = connected()
    sink, _ = asked(client)
    if so_far:
        client.receive(so_far)
    if how == "eof":
        client.eof()
    client.lost(Failure.RESET)
    assert sink.failure == Failure.RESET and not sink.ended and client.closing and not client.active


def test_an_idle_connection_that_the_server_closes() -> None:
    client, wire = connected()
    changes: list[int] = []
    client.on_change = lambda: changes.append(client.available)
    client.eof()
    assert changes == [0] and wire.closed and client.closing


def test_the_pool_hears_of_changes_after_the_sink() -> None:
    client, _ = connected()
    sink, _ = asked(client)
    heard: list[tuple[int, bool]] = []
    client.on_change = lambda: heard.append((client.available, sink.ended))
    client.receive(OK)
    assert heard == [(1, True)]


def test_a_body_of_a_length() -> None:
    client, wire = connected()
    call = client.open(Answers())
    request = Request(b"POST", b"/", b"a", [(b"content-length", b"5")], length=5)
    request.more = True
    call.request(request, False)
    assert wire.writes == []
    call.send(b"hel")
    assert wire.writes == [b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel"]
    call.send(b"lo")
    call.finish()
    client.receive(OK)
    assert client.available and wire.written.endswith(b"\r\n\r\nhello")


def test_a_body_in_chunks_with_trailers() -> None:
    client, wire = connected()
    call = client.open(Answers())
    call.request(Request(b"POST", b"/", b"a", [], length=-1), False)
    call.send(b"hello")
    call.finish([(b"x-sum", b"9")])
    assert wire.written == (
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 9\r\n\r\n"
    )


def test_a_post_without_a_body_says_so() -> None:
    client, wire = connected()
    asked(client, Request(b"POST", b"/", b"a", []))
    assert wire.written == b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("body", [b"hell", b"hello!"])
def test_a_body_of_another_length_than_declared_gives_the_connection_up(body: bytes) -> None:
    client, wire = connected()
    sink = Answers()
    call = client.open(sink)
    call.request(Request(b"POST", b"/", b"a", [], length=5), False)
    call.send(body)
    call.finish()
    assert sink.failure == Failure.PROTOCOL and wire.aborted and b"hello!" not in wire.written


def test_an_early_response_ends_the_sending() -> None:
    client, wire = connected()
    sink = Answers()
    call = client.open(sink)
    call.request(Request(b"POST", b"/", b"a", [], length=-1), False)
    call.send(b"hel")
    wire.take()
    client.receive(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    call.send(b"lo")
    call.finish()
    assert sink.ended and sink.head is not None and sink.head.status == 413
    assert wire.written == b"" and wire.aborted and client.closing


def test_reset_gives_the_connection_up() -> None:
    client, wire = connected()
    sink, call = asked(client)
    call.reset(Reset.CANCEL)
    client.receive(OK)
    assert sink.head is None and sink.failure is None and wire.aborted and client.closing


def test_reset_before_the_head_leaves_the_connection_to_others() -> None:
    client, wire = connected()
    call = client.open(Answers())
    call.reset(Reset.CANCEL)
    assert client.available and not wire.over
    assert asked(client)[1].fresh


def test_backpressure_goes_both_ways() -> None:
    client, wire = connected()
    sink, call = asked(client)
    client.pause_writing()
    assert sink.paused
    client.resume_writing()
    assert not sink.paused
    call.pause()
    call.pause()
    assert wire.paused
    client.receive(OK)
    assert sink.head is None
    call.resume()
    assert sink.data == b"hello" and not wire.paused and client.available


def test_a_pause_does_not_outlive_its_call() -> None:
    client, wire = connected()
    sink, call = asked(client)
    sink.response = lambda response, end: call.pause()  # type: ignore[method-assign]
    client.receive(OK[:-5])
    assert wire.paused
    call.reset(Reset.CANCEL)
    assert wire.aborted


def test_close_waits_for_the_response() -> None:
    client, wire = connected()
    sink, _ = asked(client)
    client.close()
    assert client.closing and not wire.over
    client.receive(OK)
    assert sink.ended and wire.closed


def test_close_of_an_idle_connection() -> None:
    client, wire = connected()
    client.close()
    assert wire.closed and not client.available


UPGRADE = Request(b"GET", b"/ws", b"a", [], upgrade=b"websocket")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("server_first", [False, True])
def test_a_tunnel(server_first: bool) -> None:
    client, wire = connected()
    sink, call = asked(client, UPGRADE)
    assert wire.take() == b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    client.receive(SWITCHED + b"early")
    assert sink.head is not None and sink.head.status == 101 and sink.head.headers == [(b"x", b"y")]
    call.send(b"ping")
    client.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    assert sink.data == b"earlyHTTP/1.1 200 OK\r\n\r\n" and wire.take() == b"ping"
    if server_first:
        client.eof()
        assert sink.ended and not wire.closed
        call.send(b"rest")
        call.finish()
        assert wire.take() == b"rest"
    else:
        call.finish()
        assert wire.ended and not wire.closed
        client.receive(b"more")
        client.eof()
    assert wire.closed and sink.ended and client.closing and client.active == 0


def test_an_upgrade_that_is_declined() -> None:
    client, _ = connected()
    sink, _ = asked(client, UPGRADE)
    client.receive(OK)
    assert sink.data == b"hello" and client.available


def test_hop_by_hop_fields_of_a_response_stay_here() -> None:
    client, _ = connected()
    sink, _ = asked(client)
    client.receive(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 2\r\n"
        b"Proxy-Connection: x\r\nContent-Length: 0\r\n\r\n"
    )
    assert sink.head is not None and sink.head.headers == [(b"x-end", b"2"), (b"content-length", b"0")]


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"GET", b"/a b", b"shop", []),
        Request(b"GET", b"/a\r\nX: y", b"shop", []),
        Request(b"GET", b"/a\tb", b"shop", []),
        Request(b"GET", b"", b"shop", []),
        Request(b"GET", b"/\xc3", b"shop", []),
        Request(b"", b"/", b"shop", []),
        Request(b"GET /", b"/", b"shop", []),
        Request(b"GET", b"/", b"shop\r\n", []),
        Request(b"GET", b"/", b"shop x", []),
        Request(b"GET", b"/", b"shop", [(b"x", b"a\r\nb: c")]),
        Request(b"GET", b"/", b"shop", [(b"x", b"a\nb")]),
        Request(b"GET", b"/", b"shop", [(b"x", b"a\0b")]),
        Request(b"GET", b"/", b"shop", [(b"x\r\ny", b"a")]),
        Request(b"GET", b"/", b"shop", [], upgrade=b"web\r\nsocket"),
    ],
)
def test_what_would_be_read_as_something_else_is_never_written(request_: Request) -> None:
    client, wire = connected()
    sink, _ = asked(client, request_)
    assert sink.failure == Failure.PROTOCOL and wire.written == b"" and client.available


def test_framing_fields_are_the_codecs_own() -> None:
    client, wire = connected()
    headers = [(b"host", b"evil"), (b"content-length", b"9"), (b"transfer-encoding", b"chunked"), (b"x", b"y")]
    asked(client, Request(b"GET", b"/", b"a", headers))
    assert wire.written == b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n"


def test_a_response_head_has_a_limit() -> None:
    client, wire = connected(Limits(head=200))
    sink, _ = asked(client)
    client.receive(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 190)
    assert sink.failure == Failure.PROTOCOL and wire.aborted


def test_what_is_said_to_a_call_that_is_over_is_nobodys() -> None:
    client, wire = connected()
    _, call = asked(client)
    client.receive(OK)
    wire.take()
    call.send(b"x")
    call.finish()
    call.reset(Reset.CANCEL)
    call.pause()
    call.request(get(), True)
    assert wire.written == b"" and not wire.over and not wire.paused and client.available


def test_a_response_version_is_told() -> None:
    client, _ = connected()
    sink, _ = asked(client)
    client.receive(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(sink.head, Response) and sink.head.version == "1.0"


def test_a_request_opened_at_the_end_of_a_response_cannot_get_what_was_behind_it() -> None:
    client, wire = connected()
    sink, _ = asked(client)
    offered: list[int] = []
    sink.response_end = lambda trailers: offered.append(client.available)  # type: ignore[method-assign]
    client.on_change = lambda: offered.append(client.available)
    client.receive(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert set(offered) == {0} and wire.closed


def test_a_switch_to_another_protocol_than_was_asked_for() -> None:
    client, wire = connected()
    sink, _ = asked(client, UPGRADE)
    client.receive(SWITCHED.replace(b"WebSocket", b"h2c"))
    assert sink.failure == Failure.PROTOCOL and sink.head is None and wire.aborted
