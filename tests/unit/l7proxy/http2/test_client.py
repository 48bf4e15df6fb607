"""The upstream side: how requests are written and responses read, and how each end is told to the retry table."""

from __future__ import annotations

from dataclasses import replace

import hpack
import pytest

import hostile_http2 as raw
from h2_peers import Sink, frames_of, goaways, of_kind, resets_of
from h2_relay import Clock, Wire
from weft.l7proxy.core.http2 import Client
from weft.l7proxy.core.http2.client import ClientStream
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.stream import Failure, Request, Reset

GET = Request(b"GET", b"/", b"a.test", [(b"x", b"y")])
OK = [(b":status", b"200")]


def head(stream: int = 1, *more: raw.Field, end: bool = False, status: bytes = b"200") -> bytes:
    return raw.get(stream, *more, end=end, fields=[(b":status", status)])


class Opened:
    """A client whose server has sent its SETTINGS."""

    def __init__(self, limits: Limits = DEFAULTS, greeting: bytes = raw.SET) -> None:
        self.wire, self.sinks, self.changes = Wire(), [], 0
        self.client = Client(self.wire, limits, Clock())
        self.client.on_change = self._changed
        self.sinks: list[Sink] = []
        if greeting:
            self.client.receive(greeting)
            self.wire.take()

    def _changed(self) -> None:
        self.changes += 1

    def ask(self, request: Request = GET, end: bool = True) -> tuple[Sink, ClientStream]:
        sink = Sink()
        self.sinks.append(sink)
        upstream = self.client.open(sink)
        upstream.request(request, end)
        return sink, upstream

    def gets(self, *sent: bytes) -> None:
        for one in sent:
            self.client.receive(one)

    def wrote(self) -> list[tuple[int, int, int, bytes]]:
        return frames_of(self.wire.take())


@pytest.fixture
def opened() -> Opened:
    return Opened()


def test_the_first_write_is_preface_settings_and_the_request() -> None:
    opened = Opened(greeting=b"")
    opened.ask()
    sent = opened.wire.take()
    assert sent.startswith(raw.PREFACE)
    assert [f[0] for f in frames_of(sent)] == [raw.SETTINGS, raw.UPDATE, raw.HEADERS]
    assert b"\0\2\0\0\0\0" in sent, "push is off"


def test_a_request_has_its_pseudo_headers_first(opened: Opened) -> None:
    opened.ask(Request(b"POST", b"/p?q", b"a.test", [(b"te", b"trailers")], scheme=b"https"))
    (frame,) = opened.wrote()
    assert frame[:3] == (raw.HEADERS, 5, 1)
    assert hpack.Decoder().decode(frame[3], raw=True) == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/p?q"),
        (b":authority", b"a.test"),
        (b"te", b"trailers"),
    ]


def test_streams_are_numbered_by_when_they_ask_not_when_they_open(opened: Opened) -> None:
    first, second = opened.client.open(Sink()), opened.client.open(Sink())
    second.request(GET, True)
    first.request(GET, True)
    assert (second.id, first.id) == (1, 3)
    assert (first.fresh, second.fresh) == (True, False)


def test_a_response_in_pieces(opened: Opened) -> None:
    sink, _ = opened.ask()
    opened.gets(
        head(1, status=b"103"), head(1, (b"content-length", b"4")), raw.data(1, b"ab", False), raw.data(1, b"cd")
    )
    assert [info.status for info in sink.infos] == [103]
    assert sink.head is not None and (sink.head.status, sink.head.length, sink.head.version) == (200, 4, "2")
    assert (sink.data, sink.ended, sink.trailers) == (b"abcd", True, None)
    assert (opened.client.active, opened.client.closing) == (0, False)


def test_trailers_alone_are_a_head_that_ends(opened: Opened) -> None:
    sink, _ = opened.ask()
    opened.gets(head(1, (b"grpc-status", b"5"), end=True))
    assert sink.head is not None and sink.ended and sink.head.length == 0


def test_trailers_after_a_body(opened: Opened) -> None:
    sink, _ = opened.ask()
    trailers = raw.get(1, fields=[(b"grpc-status", b"0")])
    opened.gets(head(), raw.data(1, b"x", False), trailers)
    assert sink.trailers == [(b"grpc-status", b"0")]


@pytest.mark.parametrize("method, status", [(b"HEAD", b"200"), (b"GET", b"304"), (b"GET", b"204")])
def test_a_length_without_a_body(opened: Opened, method: bytes, status: bytes) -> None:
    sink, _ = opened.ask(Request(method, b"/", b"a.test", []))
    opened.gets(head(1, (b"content-length", b"100"), end=True, status=status))
    assert sink.ended and sink.head is not None and sink.head.length == 100


@pytest.mark.parametrize("answer", [head(1, end=True), head() + raw.data(1, b"x"), head() + raw.get(1, fields=[])])
def test_a_whole_answer_before_our_end_calls_our_rest_off(opened: Opened, answer: bytes) -> None:
    sink, upstream = opened.ask(end=False)
    upstream.send(b"abc")
    opened.wire.take()
    opened.gets(answer)
    assert sink.ended
    assert resets_of(opened.wrote()) == [(1, Reset.CANCEL)]
    upstream.send(b"def")
    upstream.finish()
    assert not opened.wire.written
    assert opened.client.active == 0


# How it ends


PROTOCOL = {
    "no status": raw.get(1, fields=[(b"x", b"y")]),
    "a status of two digits": head(1, status=b"20"),
    "a status of 600": head(1, status=b"600"),
    "a status that is a word": head(1, status=b"2xx"),
    "two statuses": head(1, *OK),
    "a request's pseudo header": head(1, (b":path", b"/")),
    "a pseudo header after a header": raw.get(1, fields=[(b"x", b"y"), *OK]),
    "101": head(1, status=b"101"),
    "103 at the end": head(1, end=True, status=b"103"),
    "103 without end": head(1, status=b"103") * 100,
    "connection": head(1, (b"connection", b"close")),
    "transfer-encoding": head(1, (b"transfer-encoding", b"chunked")),
    "a name in upper case": head(1, (b"X", b"y")),
    "a value with CR LF": head(1, (b"x", b"y\r\nz: 1")),
    "two content-lengths": head(1, (b"content-length", b"1"), (b"content-length", b"2")),
    "content-length that is no number": head(1, (b"content-length", b"-1")),
    "content-length and no body": head(1, (b"content-length", b"1"), end=True),
    "more DATA than content-length": head(1, (b"content-length", b"1")) + raw.data(1, b"xy"),
    "less DATA than content-length": head(1, (b"content-length", b"3")) + raw.data(1, b"xy"),
    "DATA before a head": raw.data(1, b"x", end=False),
    "an end before a head": raw.data(1),
    "a second head that does not end": head() + head(),
    "trailers with a status": head() + head(1, end=True),
    "DATA of a 204": head(1, status=b"204") + raw.data(1, b"x"),
    "a head of 200 headers": head(1, *[(b"x-%d" % i, b"y") for i in range(200)]),
    "more DATA than the window": head() + raw.data(1, b"x" * 16384, False) * 5,
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_what_is_no_response_resets_its_stream_alone(opened: Opened, name: str) -> None:
    sink, upstream = opened.ask()
    other, _ = opened.ask()
    if "window" in name:
        upstream.pause()
    opened.gets(PROTOCOL[name])
    assert sink.failure is Failure.PROTOCOL
    assert [stream for stream, _ in resets_of(opened.wrote())] == [1]
    opened.gets(head(3, end=True))
    assert other.ended


FAULTS = {
    "a push": raw.frame(raw.PUSH, 4, 1, raw.word(2) + raw.block(raw.GET)),
    "HEADERS on an idle stream": head(5),
    "HEADERS on a stream of even number": head(2),
    "DATA on an idle stream": raw.data(9, b"x"),
    "a server that enables push": raw.setting(2, 1),
    "a broken block": raw.raw_block(b"\x80"),
    "a frame too large": b"\x01\0\0\0\0\0\0\0\1",
    "a flood of SETTINGS": raw.SET * 1000,
    "a flood of PINGs": raw.frame(raw.PING, 0, 0, b"12345678") * 1000,
    "a flood of CONTINUATION": raw.frame(raw.HEADERS, 0, 1, b"") + raw.frame(raw.CONTINUATION, 0, 1) * 1000,
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_server_at_fault_loses_the_connection(opened: Opened, name: str) -> None:
    sinks = [opened.ask()[0] for _ in range(2)]
    waiting = Sink()
    opened.client.open(waiting)
    opened.gets(FAULTS[name])
    assert [sink.failure for sink in sinks] == [Failure.PROTOCOL] * 2
    assert waiting.failure is Failure.RESET_BEFORE_REQUEST
    assert len(goaways(opened.wrote())) == 1
    assert opened.wire.closed and opened.client.closing
    assert (opened.client.available, opened.client.active) == (0, 0)


@pytest.mark.parametrize(
    "code, failure", [(7, Failure.REFUSED), (8, Failure.RESET), (0, Failure.RESET), (13, Failure.RESET)]
)
def test_a_reset_by_the_server(opened: Opened, code: int, failure: Failure) -> None:
    sink, upstream = opened.ask(end=False)
    opened.wire.take()
    opened.gets(raw.frame(raw.RST, 0, 1, raw.word(code)))
    assert sink.failure is failure
    upstream.send(b"x")
    upstream.reset(Reset.CANCEL)
    assert not opened.wire.written
    assert opened.client.available > 0


def test_goaway_refuses_what_is_above_and_lets_the_rest_end(opened: Opened) -> None:
    low, high = opened.ask()[0], opened.ask()[0]
    unasked = Sink()
    opened.client.open(unasked)
    opened.gets(raw.frame(raw.GOAWAY, 0, 0, raw.word(1) + raw.word(0)))
    assert (high.failure, unasked.failure, low.failure) == (Failure.REFUSED, Failure.REFUSED, None)
    assert opened.client.closing and opened.client.available == 0 and not opened.wire.closed
    opened.gets(head(1, end=True))
    assert low.ended and opened.wire.closed


def test_goaway_twice_narrows(opened: Opened) -> None:
    sinks = [opened.ask()[0] for _ in range(2)]
    opened.gets(raw.frame(raw.GOAWAY, 0, 0, raw.word(2**31 - 1) + raw.word(0)))
    assert [s.failure for s in sinks] == [None, None] and opened.client.closing
    opened.gets(raw.frame(raw.GOAWAY, 0, 0, raw.word(1) + raw.word(0)))
    assert [s.failure for s in sinks] == [None, Failure.REFUSED]


def test_a_lost_connection_distinguishes_who_had_asked(opened: Opened) -> None:
    asked, _ = opened.ask()
    unasked = Sink()
    opened.client.open(unasked)
    opened.client.lost(Failure.RESET)
    assert (asked.failure, unasked.failure) == (Failure.RESET, Failure.RESET_BEFORE_REQUEST)
    assert opened.client.active == 0 and opened.client.closing


def test_eof_ends_all_that_is_open(opened: Opened) -> None:
    sink, _ = opened.ask()
    opened.client.eof()
    assert sink.failure is Failure.RESET and opened.wire.closed


def test_our_reset_is_told_to_the_server_only(opened: Opened) -> None:
    sink, upstream = opened.ask()
    opened.wire.take()
    upstream.reset(Reset.CANCEL)
    assert resets_of(opened.wrote()) == [(1, Reset.CANCEL)]
    opened.gets(head(1), raw.data(1, b"on its way"), raw.get(1, fields=[(b"grpc-status", b"0")]))
    assert sink.failure is None and sink.head is None
    assert not goaways(opened.wrote()) and opened.client.active == 0


def test_a_reset_before_the_request_writes_nothing(opened: Opened) -> None:
    upstream = opened.client.open(Sink())
    upstream.reset(Reset.CANCEL)
    upstream.request(GET, True)
    assert not opened.wire.written and opened.client.active == 0


# What the pool sees


def test_available_obeys_the_servers_limit() -> None:
    opened = Opened(greeting=raw.setting(3, 2))
    assert opened.client.available == 2
    opened.ask()
    opened.client.open(Sink())
    assert (opened.client.available, opened.client.active) == (0, 2)
    opened.gets(head(1, end=True))
    assert opened.client.available == 1
    opened.gets(raw.setting(3, 0))
    assert opened.client.available == 0


def test_changes_are_told(opened: Opened) -> None:
    before = opened.changes
    opened.ask()
    assert opened.changes == before, "whoever opens a stream knows"
    opened.gets(head(1, end=True))
    assert opened.changes == before + 1
    opened.gets(raw.setting(3, 7))
    assert opened.changes == before + 2
    opened.gets(raw.frame(raw.GOAWAY, 0, 0, b"\0" * 8))
    assert opened.changes > before + 2


def test_a_connection_may_carry_only_so_many() -> None:
    opened = Opened(limits=replace(DEFAULTS, requests_per_connection=2))
    first, _ = opened.ask()
    assert opened.client.available
    second, _ = opened.ask()
    assert opened.client.closing and opened.client.available == 0
    opened.gets(head(1, end=True), head(3, end=True))
    assert first.ended and second.ended and opened.wire.closed


def test_a_head_that_the_server_does_not_take_is_not_sent() -> None:
    opened = Opened(greeting=raw.setting(6, 1000))
    sink, _ = opened.ask(Request(b"GET", b"/", b"a.test", [(b"x", b"y" * 1000)]))
    assert sink.failure is Failure.OVERFLOW
    assert not of_kind(opened.wrote(), raw.HEADERS)
    assert opened.client.active == 0 and not opened.client.closing
    sink, _ = opened.ask()
    opened.gets(head(1, end=True))
    assert sink.ended


def test_an_upgrade_has_no_way(opened: Opened) -> None:
    sink, _ = opened.ask(Request(b"GET", b"/", b"a.test", [], upgrade=b"websocket"))
    assert sink.failure is Failure.PROTOCOL and not opened.wire.written


def test_close_says_goaway(opened: Opened) -> None:
    opened.client.close()
    assert goaways(opened.wrote()) == [0] and opened.wire.closed and opened.client.closing


STALLS = {
    "within a head": raw.frame(raw.HEADERS, 0, 1, raw.block([(b":status", b"200")])),
    "within a frame": head()[:12],
}


@pytest.mark.parametrize("name", STALLS)
def test_a_server_that_stops_midway_loses_the_connection(opened: Opened, name: str) -> None:
    sink, _ = opened.ask()
    opened.gets(STALLS[name])
    opened.client.tick(opened.client.now() + DEFAULTS.head_timeout - 1)
    assert not opened.wire.closed
    opened.client.tick(opened.client.now() + DEFAULTS.body_timeout + 1)
    assert opened.wire.closed and sink.failure is Failure.PROTOCOL


def test_a_response_keeps_headers_that_only_requests_give_a_meaning(opened: Opened) -> None:
    sink, _ = opened.ask()
    opened.gets(head(1, (b"host", b"b.test"), (b"te", b"trailers"), end=True))
    assert sink.head is not None and sorted(sink.head.headers) == [(b"host", b"b.test"), (b"te", b"trailers")]
