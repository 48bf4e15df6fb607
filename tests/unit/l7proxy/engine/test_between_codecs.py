"""The engine between the real codecs, bytes in and bytes out: each pair of protocols, whole, byte by byte, in a
pipeline, early and late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from engine_lab import HOST, FakeCluster, Lab, rule
from weft.l7proxy.core import http1, http2
from weft.l7proxy.core.limits import DEFAULTS
from weft.l7proxy.core.stream import Failure, Peer
from weft.policies.mesh.model import Retries


class Wire:
    """A transport whose bytes the test takes."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = self.half_closed = self.paused = False

    def write(self, data: bytes) -> None:
        self.data += bytes(data)

    def write_eof(self) -> None:
        self.half_closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        data, self.data = self.data, b""
        return data


class CodecCluster(FakeCluster):
    """Opens on a client codec over a wire; one connection at a time, kept while it can be used."""

    def open(self, endpoint: Any, client: Any, protocol: str, sink: Any) -> None:
        codec = self.lab.codec  # type: ignore[attr-defined]
        if codec is None or not codec.available:
            self.lab.wire = Wire()  # type: ignore[attr-defined]
            made = http2.Client if protocol == "http2" else http1.Client
            codec = self.lab.codec = made(self.lab.wire, DEFAULTS, self.lab.clock.now)  # type: ignore[attr-defined]
        self.opened = getattr(self, "opened", 0) + 1
        sink.opened(codec.open(sink))

    def done(self, endpoint: Any, status: int, failure: Failure | None, seconds: float) -> None:
        self.opened -= 1

    def cancel(self, sink: Any) -> None: ...


class CodecLab(Lab):
    codec: Any = None
    wire: Wire

    def __init__(self, protocol: str = "", **fields: Any) -> None:
        super().__init__(rule(HOST, **fields))
        cluster = self.clusters[HOST, 80, ""] = CodecCluster(self, HOST, 80, "")
        cluster.protocol = protocol
        self.down = Wire()
        self.peer = Peer(("10.0.0.1", 40000), ("10.9.0.1", 80))
        handler = self.engine.handler(self.peer)
        self.http1 = http1.Server(self.down, handler, self.peer, DEFAULTS, self.clock.now)

    def over(self) -> None:
        assert self.cluster().opened == 0 and not self.engine.active


def whole(feed: Callable[[bytes], object], data: bytes) -> None:
    feed(data)


def bytewise(feed: Callable[[bytes], object], data: bytes) -> None:
    for at in range(len(data)):
        feed(data[at : at + 1])


GET = b"GET /a?b HTTP/1.1\r\nhost: api\r\nx: y\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nhost: api\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"POST /p HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: 1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@pytest.mark.parametrize("feed", [whole, bytewise])
def test_http1_to_http1(feed: Callable[..., None]) -> None:
    lab = CodecLab()
    for sent in (GET, POST, CHUNKED):
        feed(lab.http1.receive, sent)
        up = lab.wire.take()
        assert up.startswith(sent.partition(b"\r\n")[0]) and b"host: api\r\n" in up.lower()
        assert b"x-envoy-attempt-count: 1" in up and up.count(b"\r\n\r\n") >= 1
        if sent is not GET:
            body = up.partition(b"\r\n\r\n")[2]  # chunks come as the client cut them
            assert b"hello" in body.replace(b"\r\n1\r\n", b"").replace(b"1\r\n", b"")
        feed(lab.codec.receive, OK)
        answer = lab.down.take()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nhi")
        assert b"x-envoy-upstream-service-time: 0" in answer
        lab.over()
    assert not lab.down.closed and not lab.wire.closed  # one connection each way did it all


def test_a_pipeline_is_answered_in_its_order() -> None:
    lab = CodecLab()
    lab.http1.receive(GET + GET.replace(b"/a", b"/c"))
    assert b"/a?b" in lab.wire.take()
    lab.codec.receive(OK)
    assert b"/c?b" in lab.wire.take()
    lab.codec.receive(OK.replace(b"hi", b"ho"))
    answers = lab.down.take()
    assert answers.index(b"hi") < answers.index(b"ho")
    lab.over()


def test_the_connection_stays_after_an_answer_of_our_own() -> None:
    lab = CodecLab()
    lab.cluster().endpoints = []
    lab.http1.receive(GET)
    answer = lab.down.take()
    assert answer.startswith(b"HTTP/1.1 503 ") and answer.endswith(b"no healthy upstream")
    assert b"content-length: 19\r\n" in answer.lower() and not lab.down.closed
    lab.http1.receive(GET)
    assert lab.down.take().startswith(b"HTTP/1.1 503 ")


def test_a_retry_after_a_whole_response_and_the_body_goes_again() -> None:
    lab = CodecLab(retries=Retries(attempts=1, on=("5xx",)))
    lab.http1.receive(POST)
    assert lab.wire.take().endswith(b"hello")
    lab.codec.receive(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n")
    lab.advance(0.1)
    again = lab.wire.take()
    assert again.endswith(b"hello") and b"x-envoy-attempt-count: 2" in again
    lab.codec.receive(OK)
    assert lab.down.take().startswith(b"HTTP/1.1 200 OK")


def test_a_connection_that_breaks_before_the_response() -> None:
    lab = CodecLab(retries=Retries(attempts=0))
    lab.http1.receive(POST)
    lab.codec.lost(Failure.RESET)
    assert lab.down.take().startswith(b"HTTP/1.1 503 ") and lab.entry.flags == "UC"
    lab.over()


def test_a_connection_that_breaks_within_the_response_breaks_the_clients() -> None:
    lab = CodecLab()
    lab.http1.receive(GET)
    lab.codec.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal")
    assert lab.down.take().endswith(b"hal")
    lab.codec.lost(Failure.RESET)
    assert lab.down.closed and lab.entry.details.startswith("upstream_reset_after_response_started")
    lab.over()


def test_an_early_answer_to_a_request_that_is_not_over() -> None:
    lab = CodecLab()
    lab.http1.receive(b"POST /p HTTP/1.1\r\nhost: api\r\ncontent-length: 50000\r\n\r\nhello")
    lab.codec.receive(b"HTTP/1.1 413 no\r\ncontent-length: 2\r\n\r\nno")
    assert lab.down.take().endswith(b"\r\n\r\nno") and lab.wire.closed
    lab.over()


def test_expect_goes_through() -> None:
    lab = CodecLab()
    lab.http1.receive(b"POST /p HTTP/1.1\r\nhost: api\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
    assert b"expect: 100-continue" in lab.wire.take().lower()
    lab.codec.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert lab.down.take().startswith(b"HTTP/1.1 100 ")
    lab.http1.receive(b"hello")
    assert lab.wire.take() == b"hello"
    lab.codec.receive(OK)
    assert lab.down.take().startswith(b"HTTP/1.1 200 ")
    lab.over()


def test_a_websocket() -> None:
    lab = CodecLab()
    lab.http1.receive(b"GET /ws HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert b"upgrade: websocket" in lab.wire.take().lower()
    lab.codec.receive(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst")
    answer = lab.down.take()
    assert answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"first")
    lab.http1.receive(b"ping")
    assert lab.wire.take() == b"ping"
    lab.codec.receive(b"pong")
    assert lab.down.take() == b"pong"
    lab.http1.eof()
    assert lab.wire.half_closed
    lab.codec.receive(b"bye")
    lab.codec.eof()
    assert lab.down.take() == b"bye"
    lab.over()


def test_head() -> None:
    lab = CodecLab()
    lab.http1.receive(GET.replace(b"GET", b"HEAD"))
    lab.codec.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    assert lab.down.take().endswith(b"\r\n\r\n")
    lab.over()


# --- HTTP/2 ----------------


class H2Client:
    """`h2` as the client of our server codec."""

    def __init__(self, lab: CodecLab) -> None:
        self.lab, self.h2 = lab, h2.connection.H2Connection()
        handler = lab.engine.handler(lab.peer)
        self.server = http2.Server(lab.down, handler, lab.peer, DEFAULTS, lab.clock.now)
        self.h2.initiate_connection()

    def ask(self, path: str = "/p.S/M", end: bool = True, **headers: str) -> int:
        stream = self.h2.get_next_available_stream_id()
        head = {":method": "POST", ":path": path, ":scheme": "http", ":authority": "api"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.h2.send_headers(stream, [*head.items(), *named.items()], end)
        self.server.receive(self.h2.data_to_send())
        return stream

    def events(self) -> list[Any]:
        return self.h2.receive_data(self.lab.down.take())


def test_http2_to_http1_and_back() -> None:
    lab = CodecLab("http1")
    client = H2Client(lab)
    client.ask("/x")
    assert lab.wire.take().startswith(b"POST /x HTTP/1.1\r\n")
    lab.codec.receive(OK)
    events = client.events()
    head = next(one for one in events if isinstance(one, h2.events.ResponseReceived))
    assert (b":status", b"200") in [(bytes(name), bytes(value)) for name, value in as_bytes(head.headers)]
    assert any(isinstance(one, h2.events.StreamEnded) for one in events)
    lab.over()


def as_bytes(headers: Any) -> list[tuple[bytes, bytes]]:
    def one(text: Any) -> bytes:
        return text if isinstance(text, bytes) else text.encode()

    return [(one(name), one(value)) for name, value in headers]


def test_grpc_over_http2_on_both_sides() -> None:
    lab = CodecLab()
    client = H2Client(lab)
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    stream = client.ask(end=False, content_type="application/grpc", te="trailers")
    client.h2.send_data(stream, b"\0\0\0\0\x02hi", end_stream=True)
    client.server.receive(client.h2.data_to_send())
    server.initiate_connection()
    lab.codec.receive(server.data_to_send())
    events = server.receive_data(lab.wire.take())
    asked = next(one for one in events if isinstance(one, h2.events.RequestReceived))
    assert (b"te", b"trailers") in as_bytes(asked.headers)
    server.send_headers(asked.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
    server.send_data(asked.stream_id, b"\0\0\0\0\x01x")
    server.send_headers(asked.stream_id, [("grpc-status", "0")], end_stream=True)
    lab.codec.receive(server.data_to_send())
    trailers = next(one for one in client.events() if isinstance(one, h2.events.TrailersReceived))
    assert (b"grpc-status", b"0") in as_bytes(trailers.headers)
    assert (lab.entry.grpc_status, lab.entry.request_messages, lab.entry.response_messages) == (0, 1, 1)
    lab.over()


def test_a_denied_call_over_http2() -> None:
    lab = CodecLab()
    lab.cluster().endpoints = []
    client = H2Client(lab)
    client.ask(content_type="application/grpc")
    head = next(one for one in client.events() if isinstance(one, h2.events.ResponseReceived))
    assert dict(as_bytes(head.headers))[b"grpc-status"] == b"14"


def test_a_client_that_resets_its_stream_resets_the_servers() -> None:
    lab = CodecLab()
    client = H2Client(lab)
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    stream = client.ask(end=False)
    server.initiate_connection()
    lab.codec.receive(server.data_to_send())
    server.receive_data(lab.wire.take())
    client.h2.reset_stream(stream)
    client.server.receive(client.h2.data_to_send())
    assert any(isinstance(one, h2.events.StreamReset) for one in server.receive_data(lab.wire.take()))
    assert lab.entry.flags == "DC"
    lab.over()
