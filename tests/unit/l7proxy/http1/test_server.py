"""What the accepted side makes of a client's bytes, and what it writes back."""

from __future__ import annotations

import pytest

from http1_peers import Seen, accepted, feeds
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Request, Reset, Response

GET = b"GET /a?b=c HTTP/1.1\r\nHost: shop\r\nX-Kind: One\r\n\r\n"
POST = b"POST /o HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"POST /o HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNKS + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 9\r\n\r\n"


def ok(seen: Seen) -> None:
    seen.answer()


@pytest.mark.parametrize("pieces", feeds(GET), ids=["whole", "byte by byte", "with a tail"])
def test_a_request_without_a_body(pieces: list[bytes]) -> None:
    server, wire, recorder, _ = accepted()
    for piece in pieces:
        server.receive(piece)
    (seen,) = recorder.seen
    request = seen.request
    assert (request.method, request.path, request.authority) == (b"GET", b"/a?b=c", b"shop")
    assert request.headers == [(b"x-kind", b"One")]
    assert (request.version, request.scheme, request.length, seen.ended) == ("1.1", b"http", 0, True)
    assert not server.idle
    seen.answer()
    assert wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" and server.idle and not wire.over


@pytest.mark.parametrize("pieces", feeds(POST), ids=["whole", "byte by byte", "with a tail"])
def test_a_body_of_a_length(pieces: list[bytes]) -> None:
    server, _, recorder, _ = accepted()
    for piece in pieces:
        server.receive(piece)
    (seen,) = recorder.seen
    assert (seen.data, seen.ended, seen.trailers, seen.request.length) == (b"hello", True, None, 5)
    assert seen.request.headers == [(b"content-length", b"5")]


@pytest.mark.parametrize("pieces", feeds(CHUNKED), ids=["whole", "byte by byte", "with a tail"])
def test_a_chunked_body_with_trailers(pieces: list[bytes]) -> None:
    server, _, recorder, _ = accepted()
    for piece in pieces:
        server.receive(piece)
    (seen,) = recorder.seen
    assert (seen.data, seen.ended, seen.trailers) == (b"hello", True, [(b"x-sum", b"9")])
    assert seen.request.length == -1 and seen.request.headers == []


def test_chunks_of_one_read_come_as_one_piece() -> None:
    server, _, recorder, _ = accepted()
    server.receive(CHUNKED)
    assert recorder.seen[0].pieces == [b"hello"]


def test_keep_alive_carries_many() -> None:
    server, wire, recorder, _ = accepted(ok)
    for _ in range(3):
        server.receive(GET)
        server.receive(POST)
        server.receive(CHUNKED)
    assert len(recorder.seen) == 9 and not wire.over and server.idle
    assert wire.written.count(b"HTTP/1.1 200 OK\r\n") == 9


@pytest.mark.parametrize("pieces", feeds(GET + POST + CHUNKED + GET), ids=["whole", "byte by byte", "with a tail"])
def test_pipelined_requests_are_worked_on_one_by_one(pieces: list[bytes]) -> None:
    server, wire, recorder, _ = accepted()
    for piece in pieces:
        server.receive(piece)
    assert len(recorder.seen) == 1 and wire.paused
    for i in range(4):
        assert len(recorder.seen) == i + 1
        recorder.seen[i].answer(b"%d" % i)
    assert wire.written == b"".join(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % i for i in range(4))
    assert not wire.paused and server.idle


def test_pipelined_requests_answered_at_once_do_not_recurse() -> None:
    server, wire, recorder, _ = accepted(ok)
    server.receive(GET * 5000)
    assert len(recorder.seen) == 5000 and server.idle and wire.written.count(b"200 OK") == 5000


def test_a_client_that_pipelines_and_does_not_read_is_not_served_on() -> None:
    server, wire, recorder, _ = accepted(ok)
    server.pause_writing()
    server.receive(GET + GET)
    assert recorder.seen == [] and wire.paused
    server.resume_writing()
    assert len(recorder.seen) == 2 and not wire.paused


def test_a_slow_reader_pauses_the_response() -> None:
    server, _, recorder, _ = accepted()
    server.receive(GET)
    server.pause_writing()
    assert recorder.seen[0].paused
    server.resume_writing()
    assert not recorder.seen[0].paused


def test_a_paused_body_stays_with_the_client() -> None:
    server, wire, recorder, _ = accepted(lambda seen: seen.downstream.pause())
    server.receive(POST[:-3])
    (seen,) = recorder.seen
    assert wire.paused and seen.pieces == []
    server.receive(POST[-3:])
    assert seen.pieces == []
    seen.downstream.resume()
    assert seen.data == b"hello" and seen.ended and not wire.paused


def test_a_response_in_chunks_with_trailers() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    down = recorder.seen[0].downstream
    down.respond(Response(200, [(b"content-type", b"text/plain")]), False)
    down.send(b"hello")
    down.send(b"")
    down.finish([(b"grpc-status", b"0")])
    assert wire.written == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/plain\r\n\r\n"
        b"5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n"
    )
    assert server.idle


def test_a_large_chunk_is_not_copied() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    down, data = recorder.seen[0].downstream, b"x" * 100_000
    down.respond(Response(200, []), False)
    down.send(data)
    assert any(write is data for write in wire.writes)
    assert wire.written.endswith(b"\r\n\r\n186a0\r\n" + data + b"\r\n")


def test_head_and_first_piece_are_one_write() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    response = Response(200, [], length=2)
    response.more = True
    recorder.seen[0].downstream.respond(response, False)
    assert wire.writes == []
    recorder.seen[0].downstream.send(b"ok")
    assert len(wire.writes) == 1


@pytest.mark.parametrize(
    ("behind", "more"),
    [(b"", False), (b"5", False), (b"5\r\n", False), (b"5\r\nh", True), (b"0\r\nX", False), (b"0\r\n\r\n", True)],
)
def test_a_request_says_whether_a_piece_of_its_body_is_there(behind: bytes, more: bool) -> None:
    said: list[bool] = []
    server, _, recorder, _ = accepted(lambda seen: said.append(seen.request.more))
    server.receive(CHUNKS + behind)
    assert said == [more] and bool(recorder.seen[0].pieces or recorder.seen[0].ended) is more


def test_a_reset_within_the_handler_is_not_told_back() -> None:
    server, wire, recorder, _ = accepted(lambda seen: seen.downstream.reset(Reset.CANCEL))
    server.receive(GET)
    assert wire.aborted and recorder.seen[0].lost is None


def test_a_head_held_for_a_piece_that_does_not_come_goes_out_with_the_tick() -> None:
    server, wire, recorder, clock = accepted()
    server.receive(GET)
    response = Response(200, [], length=2)
    response.more = True
    recorder.seen[0].downstream.respond(response, False)
    server.tick(clock.now)
    assert wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status", "length", "expected"),
    [
        (b"HEAD", 200, 7, b"content-length: 7\r\n"),
        (b"GET", 304, 7, b"content-length: 7\r\n"),
        (b"GET", 204, 0, b""),
        (b"GET", 200, 0, b"content-length: 0\r\n"),
    ],
)
def test_responses_that_have_no_body(method: bytes, status: int, length: int, expected: bytes) -> None:
    server, wire, recorder, _ = accepted()
    server.receive(method + GET[3:])
    headers = [(b"content-length", b"%d" % length)] if status != 204 else [(b"content-length", b"5")]
    down = recorder.seen[0].downstream
    down.respond(Response(status, headers, length=length), False)
    if method == b"HEAD":
        down.send(b"no body!")
    down.finish()
    assert wire.written.split(b"\r\n", 1)[1] == expected + b"\r\n" and server.idle


def test_a_body_longer_than_declared_is_never_written() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    down = recorder.seen[0].downstream
    down.respond(Response(200, [], length=2), False)
    down.send(b"ok!HTTP/1.1 200 OK\r\n")
    assert wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" and wire.closed


def test_a_body_shorter_than_declared_ends_the_connection() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    down = recorder.seen[0].downstream
    down.respond(Response(200, [], length=5), False)
    down.send(b"ok")
    down.finish()
    assert wire.closed


@pytest.mark.parametrize("held", [False, True])
def test_a_response_without_a_length_to_http_1_0_ends_with_the_connection(held: bool) -> None:
    server, wire, recorder, _ = accepted()
    server.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert recorder.seen[0].request.version == "1.0" and recorder.seen[0].request.authority == b""
    down, response = recorder.seen[0].downstream, Response(200, [])
    response.more = held
    down.respond(response, False)
    down.send(b"hello")
    down.finish([(b"x", b"y")])
    assert wire.written == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello" and wire.closed


def test_a_close_delimited_response_that_fails_is_reset() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(b"GET / HTTP/1.0\r\n\r\n")
    down = recorder.seen[0].downstream
    down.respond(Response(200, []), False)
    down.send(b"hel")
    down.reset(Reset.CANCEL)
    assert wire.aborted and recorder.seen[0].lost is None


@pytest.mark.parametrize(
    ("request_", "kept", "said"),
    [
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", False, b"connection: close\r\n"),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", True, b"connection: keep-alive\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", False, b"connection: close\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", True, b""),
    ],
)
def test_who_wants_the_connection_kept(request_: bytes, kept: bool, said: bytes) -> None:
    server, wire, _, _ = accepted(ok)
    server.receive(request_)
    assert wire.closed is not kept
    assert wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + said + b"\r\nok"


def test_hop_by_hop_fields_stay_here() -> None:
    server, _, recorder, _ = accepted()
    server.receive(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, te\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"TE: gzip, Trailers\r\nProxy-Connection: keep-alive\r\nUpgrade: websocket\r\nX-End: 2\r\n\r\n"
    )
    request = recorder.seen[0].request
    assert request.headers == [(b"x-end", b"2"), (b"te", b"trailers")] and request.upgrade == b""


@pytest.mark.parametrize(
    ("line", "path", "authority"),
    [
        (b"GET http://Shop:80/a?b HTTP/1.1", b"/a?b", b"Shop:80"),
        (b"GET http://shop:80 HTTP/1.1", b"/", b"shop:80"),
        (b"GET http://shop:80?x HTTP/1.1", b"/?x", b"shop:80"),
        (b"OPTIONS http://shop:80 HTTP/1.1", b"*", b"shop:80"),
        (b"OPTIONS * HTTP/1.1", b"*", b"shop:80"),
        (b"TRACE //x HTTP/1.1", b"//x", b"shop:80"),
    ],
)
def test_targets(line: bytes, path: bytes, authority: bytes) -> None:
    server, _, recorder, _ = accepted()
    server.receive(line + b"\r\nHost: shop:80\r\n\r\n")
    assert (recorder.seen[0].request.path, recorder.seen[0].request.authority) == (path, authority)


def test_a_few_empty_lines_may_lead() -> None:
    server, _, recorder, _ = accepted(ok)
    for piece in feeds(b"\r\n\r\n" + GET)[1]:
        server.receive(piece)
    server.receive(b"\r\n" + GET)
    assert len(recorder.seen) == 2 and server.idle


def test_continue_is_written_once_and_only_to_who_waits() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    recorder.seen[0].downstream.informational(Response(100, []))
    assert wire.take() == b""
    recorder.seen[0].answer()
    wire.take()
    server.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
    seen = recorder.seen[1]
    assert seen.request.expect
    seen.downstream.informational(Response(100, []))
    seen.downstream.informational(Response(100, []))
    seen.downstream.informational(Response(103, [(b"link", b"</a>")]))
    assert wire.take() == b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    server.receive(b"ok")
    seen.answer()
    assert seen.data == b"ok" and server.idle and b"close" not in wire.written


def test_an_answer_instead_of_continue_closes() -> None:
    server, wire, recorder, _ = accepted(lambda seen: seen.answer(b"", 403))
    server.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert b"connection: close" in wire.written and wire.ended and not wire.closed
    server.receive(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    server.eof()
    assert wire.closed and len(recorder.seen) == 1


def test_no_informational_response_for_http_1_0() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    recorder.seen[0].downstream.informational(Response(103, []))
    assert wire.written == b"" and not recorder.seen[0].request.expect


def test_an_early_answer_lets_the_rest_of_the_body_pass_by() -> None:
    server, wire, recorder, _ = accepted(ok)
    server.receive(POST[:-3])
    assert wire.written and not server.idle
    server.receive(POST[-3:] + GET)
    assert len(recorder.seen) == 2 and recorder.seen[0].pieces == [] and server.idle


def test_an_early_answer_to_a_large_body_closes() -> None:
    server, wire, _, _ = accepted(lambda seen: seen.answer(b"", 413))
    server.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
    assert b"connection: close" in wire.written
    for _ in range(40):
        server.receive(b"x" * 10_000)
    assert wire.closed


def test_an_early_answer_to_endless_chunks_closes() -> None:
    server, wire, recorder, _ = accepted(ok)
    server.receive(CHUNKS)
    for _ in range(40):
        server.receive(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
    assert wire.closed and len(recorder.seen) == 1


UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("client_first", [False, True])
def test_a_tunnel_closes_one_way_after_the_other(client_first: bool) -> None:
    server, wire, recorder, _ = accepted()
    server.receive(UPGRADE + b"early")
    (seen,) = recorder.seen
    assert seen.request.upgrade == b"websocket" and seen.request.headers == [(b"x", b"y")] and wire.paused
    seen.ended = False  # the request has no body; what comes after the 101 is the tunnel's
    seen.downstream.respond(Response(101, [(b"sec-websocket-accept", b"x")]), False)
    assert wire.take() == (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-accept: x\r\n\r\n"
    )
    seen.body(b"-")
    assert seen.data == b"early-" and not wire.paused
    server.receive(b"\0\r\n\r\n")
    seen.downstream.send(b"back")
    assert seen.data == b"early-\0\r\n\r\n" and wire.take() == b"back"
    if client_first:
        server.eof()
        assert seen.ended and not wire.closed
        seen.downstream.send(b"rest")
        seen.downstream.finish()
        assert wire.take() == b"rest"
    else:
        seen.downstream.finish()
        assert wire.ended and not wire.closed and not seen.ended
        server.receive(b"more")
        server.eof()
    assert seen.ended and wire.closed


def test_an_upgrade_that_is_declined_is_a_request_as_any() -> None:
    server, wire, recorder, _ = accepted(ok)
    server.receive(UPGRADE + GET)
    assert len(recorder.seen) == 2 and server.idle and not wire.over


def test_a_switch_that_nobody_asked_for_is_a_bad_gateway() -> None:
    server, wire, recorder, _ = accepted(lambda seen: seen.downstream.respond(Response(101, []), False))
    server.receive(GET)
    assert wire.written.startswith(b"HTTP/1.1 502 ") and wire.ended and recorder.seen[0].lost is not None


H2C = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nX: y\r\n\r\n"
)


def test_h2c_is_handed_to_who_registered() -> None:
    server, wire, recorder, _ = accepted()
    taken: list[tuple[Request, bytes, bytes]] = []
    server.on_h2c = lambda *args: taken.append(args)
    server.receive(H2C + b"PRI")
    ((request, settings, rest),) = taken
    assert request.headers == [(b"x", b"y")] and settings == bytes.fromhex("0003000000640004 0000ffff")
    assert rest == b"PRI" and recorder.seen == [] and wire.written.startswith(b"HTTP/1.1 101 ") and not wire.over


def test_h2c_is_passed_over_where_nobody_registered() -> None:
    server, _, recorder, _ = accepted()
    server.receive(H2C)
    assert recorder.seen[0].request.upgrade == b"" and recorder.seen[0].request.headers == [(b"x", b"y")]


@pytest.mark.parametrize("settings", [b"A", b"AAMAAABkAAQ*AP__", b"AAMAAABkAAQA"])
def test_h2c_settings_that_are_none_are_refused_before_the_switch(settings: bytes) -> None:
    server, wire, _, _ = accepted()
    server.on_h2c = lambda *args: pytest.fail("handed over")
    server.receive(H2C.replace(b"AAMAAABkAAQAAP__", settings))
    assert wire.written.startswith(b"HTTP/1.1 400 ")


def test_drain_closes_an_idle_connection_at_once() -> None:
    server, wire, _, _ = accepted(ok)
    server.receive(GET)
    server.drain()
    assert wire.closed


def test_drain_lets_the_answer_say_close() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    server.drain()
    assert not wire.over
    recorder.seen[0].answer()
    assert b"connection: close" in wire.written and wire.closed


def test_close_after_is_said_to_the_client() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    recorder.seen[0].downstream.close_after()
    recorder.seen[0].answer()
    assert b"connection: close" in wire.written and wire.closed


def test_a_connection_carries_as_many_as_its_limit() -> None:
    server, wire, recorder, _ = accepted(ok, Limits(requests_per_connection=2))
    server.receive(GET + GET + GET)
    assert len(recorder.seen) == 2 and wire.written.count(b"connection: close") == 1 and wire.over


def test_answers_owed_go_out_after_the_client_half_closed() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET + POST)
    server.eof()
    assert not wire.over
    recorder.seen[0].answer()
    recorder.seen[1].answer()
    assert wire.written.count(b"200 OK") == 2 and wire.closed


def test_a_body_cut_short_by_the_client() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(POST[:-1])
    server.eof()
    assert wire.written.startswith(b"HTTP/1.1 400 ") and wire.closed
    assert recorder.seen[0].lost == Reset.PROTOCOL_ERROR


def test_the_connection_lost_is_told_once_and_nothing_is_written_after() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(POST[:-1])
    server.lost()
    server.lost()
    assert recorder.seen[0].lost == Reset.CANCEL
    recorder.seen[0].answer()
    assert wire.written == b""


def test_lost_within_the_handler_is_told_to_its_sink() -> None:
    server, _, recorder, _ = accepted(lambda seen: server.lost())
    server.receive(GET)
    assert recorder.seen[0].lost == Reset.CANCEL


@pytest.mark.parametrize("value", [b"a\r\nX: y", b"a\nb", b"a\rb", b"a\0b"])
@pytest.mark.parametrize("where", ["value", "name", "reason", "trailer"])
def test_bytes_that_end_a_line_are_never_written(where: str, value: bytes) -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    down, response = recorder.seen[0].downstream, Response(200, [])
    if where == "value":
        response.headers = [(b"x", value)]
    elif where == "name":
        response.headers = [(value, b"x")]
    elif where == "reason":
        response.reason = value
    down.respond(response, False)
    if where == "trailer":
        down.finish([(b"x", value)])
        assert wire.closed and b"0\r\n" not in wire.written.partition(b"\r\n\r\n")[2]
    else:
        assert wire.written == b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        assert wire.ended and recorder.seen[0].lost == Reset.INTERNAL_ERROR
    assert value not in wire.written


def test_framing_fields_are_the_codecs_own() -> None:
    server, wire, recorder, _ = accepted()
    server.receive(GET)
    headers = [(b"transfer-encoding", b"gzip"), (b"content-length", b"99"), (b"connection", b"close")]
    recorder.seen[0].downstream.respond(Response(200, headers, length=0), True)
    assert wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def test_a_head_that_does_not_end_times_out() -> None:
    server, wire, _, clock = accepted()
    refused: list[int] = []
    server.on_refused = lambda status, detail: refused.append(status)
    clock.now += 500
    server.tick(clock.now)
    server.receive(GET[:10])
    for _ in range(9):
        clock.now += 1
        server.receive(b"a")
        server.tick(clock.now)
    assert wire.written == b""
    clock.now += 1
    server.tick(clock.now)
    assert wire.written.startswith(b"HTTP/1.1 408 ") and refused == [408] and wire.ended
    clock.now += 2
    server.tick(clock.now)
    assert wire.closed


def test_a_body_that_does_not_go_on_times_out_unless_we_paused_it() -> None:
    server, wire, recorder, clock = accepted()
    server.receive(POST[:-1])
    server.tick(clock.now)
    recorder.seen[0].downstream.pause()
    clock.now += 100
    server.tick(clock.now)
    recorder.seen[0].downstream.resume()
    server.tick(clock.now)
    clock.now += 59
    server.tick(clock.now)
    assert wire.written == b""
    clock.now += 1
    server.tick(clock.now)
    assert wire.written.startswith(b"HTTP/1.1 408 ") and recorder.seen[0].lost is not None


def test_an_idle_connection_is_closed_without_a_word() -> None:
    server, wire, _, clock = accepted(ok)
    server.receive(GET)
    wire.take()
    server.tick(clock.now)
    clock.now += 3599
    server.tick(clock.now)
    assert not wire.over
    clock.now += 1
    server.tick(clock.now)
    assert wire.closed and wire.written == b""


def test_an_answer_may_take_its_time() -> None:
    server, wire, recorder, clock = accepted()
    server.receive(GET)
    for _ in range(10):
        clock.now += 1000
        server.tick(clock.now)
    assert not wire.over
    recorder.seen[0].answer()
    assert server.idle
