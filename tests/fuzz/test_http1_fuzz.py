"""Whatever bytes come:

1. they are a request, or are refused with a status and the connection's end; nothing raises;
2. how they are cut into reads changes nothing of what is accepted;
3. what a connection holds stays within a head and one read;
4. what is accepted, two other readers read the same way: a strict one of RFC 9112's grammar, and llhttp;
5. what is accepted and written again by the client codec, both read as that same request and nothing behind it;
6. a response is one response, or fails its request once; the connection is kept only if nothing is left over;
7. whatever an exchange says, what is written is one response with those fields, or none of it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import http1_reference as reference
from hostile_http1 import REQUESTS, RESPONSES
from http1_peers import Answers, Seen, accepted, connected
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Failure, Request, Response

MORE = int(os.environ.get("WEFT_FUZZ", "1"))  # times as many examples, for a night
SMALL = Limits(head=600, headers=12, request_line=200)
_HEAD = [
    *(
        b"GET / HTTP/1.1\r\n",
        b"POST /a?b=c HTTP/1.1\r\n",
        b"HEAD http://shop/x HTTP/1.1\r\n",
        b"PUT / HTTP/1.0\r\n",
    ),
    *(b"OPTIONS * HTTP/1.1\r\n", b"TRACE / HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"M-SEARCH / HTTP/1.1\r\n"),
]
_FIELDS = [
    *(b"Host: shop\r\n", b"host:a\r\n", b"Host: [::1]:80\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:CHUNKED\r\n", b"X-A: b \t\r\n", b"X-Empty:\r\n"),
    *(
        b"Connection: close, x-a\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: upgrade\r\n",
        b"TE: trailers\r\n",
    ),
    *(b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"Keep-Alive: 5\r\n", b"X-Bytes: \xe2\x82\xac\r\n"),
]
_BODIES = [
    b"hello",
    b"5\r\nhello\r\n",
    b"a;b=c\r\n0123456789\r\n",
    b"0\r\n\r\n",
    b"0\r\nX-T: u\r\n\r\n",
    b'1;q="\\""\r\nx\r\n',
]
_NOISE = [
    b"\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b"GET ",
    b"HTTP/1.1",
    b"0",
    b"\x0b",
    b"\xff",
    b"#",
    b"@",
]

plain = st.builds(
    lambda line, fields, bodies: line + b"".join(fields) + b"\r\n" + b"".join(bodies),
    st.sampled_from(_HEAD),
    st.lists(st.sampled_from(_FIELDS), max_size=5),
    st.lists(st.sampled_from(_BODIES), max_size=3),
)
known = st.sampled_from([case.data[:1500] for case in REQUESTS])
pieces = st.lists(st.sampled_from(_HEAD + _FIELDS + _BODIES + _NOISE) | st.binary(max_size=4), max_size=12).map(
    b"".join
)


@st.composite
def bent(draw: Any, whole: st.SearchStrategy[bytes]) -> bytes:
    """Up to three places of something whole are overwritten, removed or added to."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        noise = draw(st.sampled_from(_NOISE) | st.binary(max_size=2))
        data = data[:at] + noise + data[at + draw(st.integers(0, 2)) :]
    return data


streams = st.lists(plain | bent(plain) | bent(known) | pieces, min_size=1, max_size=3).map(b"".join)
cuts = st.lists(st.integers(1, 40), max_size=30)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return [part for part in (*parts, data[at:]) if part]


def serve(parts: list[bytes], limits: Limits) -> tuple[list[Seen], bytes, bool]:
    """What a handler that answers each request at its end saw, what was written, and whether it is over."""
    server, wire, recorder, _ = accepted(limits=limits)
    answered = 0
    for part in parts:
        server.receive(part)
        assert len(server._buffer) <= limits.head + len(part)
        while answered < len(recorder.seen) and recorder.seen[answered].ended:
            answered += 1
            recorder.seen[answered - 1].answer()
    over = wire.over
    server.eof()
    for seen in recorder.seen:
        assert seen.ended or seen.lost is not None or seen.request.upgrade
    assert wire.closed
    return recorder.seen, wire.written, over


def told(seen: Seen) -> tuple[Any, ...]:
    request = seen.request
    return (
        request.method,
        request.path,
        request.authority,
        request.version,
        request.headers,
        seen.data,
        seen.trailers,
    )


_TARGET = re.compile(rb"(?i:https?)://[^/?]*(.*)", re.DOTALL)
_HOP = {
    b"connection",
    b"host",
    b"keep-alive",
    b"transfer-encoding",
    b"upgrade",
    b"te",
    b"proxy-connection",
    b"http2-settings",
}


def path_of(target: bytes, method: bytes) -> bytes:
    matched = _TARGET.fullmatch(target)
    if matched is None:
        return target
    rest = matched[1]
    return (b"*" if method == b"OPTIONS" else b"/") if not rest else rest if rest[:1] == b"/" else b"/" + rest


def end_to_end(message: reference.Message) -> reference.Fields:
    named = {token.strip().lower() for value in message.values(b"connection") for token in value.split(b",")}
    return without_length([item for item in message.fields if item[0] not in _HOP | named])


def without_length(fields: reference.Fields) -> reference.Fields:
    """Written for PUT and POST also where there was none; the body says whether it is right."""
    return [item for item in fields if item[0] != b"content-length"]


def compare(seen: Seen, message: reference.Message) -> None:
    method, target, minor = message.start
    request = seen.request
    assert (method, path_of(target, method), f"1.{minor}") == (request.method, request.path, request.version)
    assert end_to_end(message) == [item for item in without_length(request.headers) if item != (b"te", b"trailers")]
    assert (message.body, message.trailers) == (seen.data, seen.trailers or [])
    for host in message.values(b"host"):
        assert host.lower() == request.authority.lower()


def compare_with_llhttp(data: bytes, message: reference.Message) -> None:
    other = reference.by_llhttp(data)
    assert (other.start, other.body) == (message.start, message.body)
    assert other.fields == message.fields + message.trailers


def written_again(seen: Seen) -> bytes:
    client, wire = connected()
    call = client.open(Answers())
    call.request(seen.request, seen.request.length == 0)
    for piece in seen.pieces:
        call.send(piece)
    call.finish(seen.trailers)
    assert not wire.aborted
    return wire.written


def check_requests(data: bytes, sizes: list[int], limits: Limits = SMALL) -> None:
    seen, written, over = serve([data], limits)
    again, written_cut, over_cut = serve(cut(data, sizes), limits)
    whole = [told(one) for one in seen if one.ended and one.lost is None]
    assert whole == [told(one) for one in again if one.ended and one.lost is None]
    assert (len(seen), over) == (len(again), over_cut)
    assert written.count(b"HTTP/1.1 ") == written_cut.count(b"HTTP/1.1 ")
    at = 0
    for one in seen:
        if not one.ended or one.lost is not None:
            break
        while data.startswith(b"\r\n", at):
            at += 2
        message = reference.request(data, at)
        compare(one, message)
        # A body beside an upgrade is the tunnel's to llhttp; the server drops the upgrade and keeps the body.
        if not (one.request.length and message.values(b"upgrade")):
            compare_with_llhttp(data[at : message.end], message)
        at = message.end
        copy = written_again(one)
        message = reference.request(copy)
        assert message.end == len(copy)
        one.request.version = "1.1"
        compare(one, message)
        compare_with_llhttp(copy, message)


@settings(max_examples=600 * MORE, deadline=None)
@given(streams, cuts)
def test_requests(data: bytes, sizes: list[int]) -> None:
    check_requests(data, sizes)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_hostile_requests_in_small_pieces(case: Any) -> None:
    check_requests(case.data[:3000], [7] * 500, Limits())


_STATUS = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204\r\n", b"HTTP/1.1 304 Not Modified\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 503 \r\n"),
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
]
answers = st.builds(
    lambda lines, fields, bodies: b"".join(lines) + b"".join(fields) + b"\r\n" + b"".join(bodies),
    st.lists(st.sampled_from(_STATUS), min_size=1, max_size=3),
    st.lists(st.sampled_from(_FIELDS), max_size=4),
    st.lists(st.sampled_from(_BODIES), max_size=3),
)
replies = answers | bent(answers) | bent(st.sampled_from([case.data[:1500] for case in RESPONSES])) | pieces
methods = st.sampled_from([b"GET", b"HEAD", b"POST"])


def ask(parts: list[bytes], method: bytes, upgrade: bytes) -> tuple[Any, ...]:
    client, wire = connected(SMALL)
    sink = Answers()
    call = client.open(sink)
    call.request(Request(method, b"/", b"shop", [], upgrade=upgrade), True)
    for part in parts:
        client.receive(part)
        assert len(client._buffer) <= SMALL.head + len(part)
    kept = client.available
    assert not kept or (sink.ended and not wire.over)
    tunnel = sink.head is not None and sink.head.status == 101
    client.eof()
    if tunnel and sink.failure is None:
        call.finish()
    client.lost(Failure.RESET)
    assert client.closing and not client.available and not client.active
    assert sink.ended is not (sink.failure is not None)
    head = sink.head and (sink.head.status, sink.head.headers, sink.head.reason)
    return kept, head, sink.data if sink.ended else b"", sink.trailers, len(sink.informed), sink.failure


@settings(max_examples=500 * MORE, deadline=None)
@given(replies, cuts, methods, st.sampled_from([b"", b"websocket"]))
def test_responses(data: bytes, sizes: list[int], method: bytes, upgrade: bytes) -> None:
    kept, head, body, trailers, informed, failure = ask([data], method, upgrade)
    in_pieces = ask(cut(data, sizes), method, upgrade)
    # What comes in a later read than the response's end is found between two requests, not behind this one.
    assert in_pieces[1:] == (head, body, trailers, informed, failure)
    if failure is None and head and head[0] != 101 and not informed:
        bodiless = method == b"HEAD" or head[0] in (204, 304)
        message = reference.response(data, bodiless=bodiless)
        assert head[0] == message.start[0] and trailers in (None, message.trailers)
        if message.values(b"content-length") or message.values(b"transfer-encoding"):
            assert body == message.body and kept <= (message.end == len(data))


names = st.sampled_from([b"x", b"content-length", b"transfer-encoding", b"connection", b"te"]) | st.binary(
    min_size=1, max_size=3
)
values = st.sampled_from([b"y", b"", b"chunked", b"5", b"a\r\nb: c", b"close"]) | st.binary(max_size=4)


@settings(max_examples=300 * MORE, deadline=None)
@given(
    st.sampled_from([200, 204, 304, 404, 599]),
    st.lists(st.tuples(names, values), max_size=4),
    st.integers(-1, 6),
    st.lists(st.binary(max_size=4), max_size=3),
    st.lists(st.tuples(names, values), max_size=2),
    methods,
)
def test_what_an_exchange_says(
    status: int,
    headers: list[tuple[bytes, bytes]],
    length: int,
    body: list[bytes],
    trailers: list[tuple[bytes, bytes]],
    method: bytes,
) -> None:
    server, wire, recorder, _ = accepted()
    server.receive(method + b" / HTTP/1.1\r\nHost: shop\r\n\r\n")
    down = recorder.seen[0].downstream
    response = Response(status, headers, length=length)
    response.more = bool(body)
    down.respond(response, False)
    for piece in body:
        down.send(piece)
    down.finish(trailers)
    written = wire.written
    assert written.count(b"\r\n\r\n") >= 1 or wire.over
    tokens = all(re.fullmatch(rb"[\w\-]+", name) for name, _ in headers + trailers)
    clean = all(re.fullmatch(rb"[\t\x20-\x7e\x80-\xff]*", value) for _, value in headers + trailers)
    if not tokens or not clean:
        with suppress(reference.Unreadable):  # nobody may read it as more than one message
            message = reference.response(written, bodiless=method == b"HEAD" or status in (204, 304))
            assert message.end == len(written)
        return
    if wire.over:
        assert sum(map(len, body)) != length >= 0
        return
    message = reference.response(written, bodiless=method == b"HEAD" or status in (204, 304))
    assert message.end == len(written) and message.start[0] == status
    if method != b"HEAD" and status not in (204, 304):
        assert message.body == b"".join(body)
