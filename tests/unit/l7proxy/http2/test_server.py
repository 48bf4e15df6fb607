"""The accepted side: requests as handlers see them, responses as clients see them, and how connections end."""

from __future__ import annotations

from dataclasses import replace

import hpack
import pytest

import hostile_http2 as raw
from h2_peers import Recorded, Recorder, body_of, frames_of, goaways, of_kind, resets_of, statuses
from h2_relay import PEER, Clock, Wire
from weft.l7proxy.core.http2 import Server, heads, settings_of_upgrade
from weft.l7proxy.core.http2.hpack import Sensitive
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.stream import Downstream, Peer, Request, Reset, Response

OPENING = raw.PREFACE + raw.SET + raw.frame(raw.SETTINGS, 1, 0)
GRPC = [*raw.POST, (b"te", b"trailers"), (b"content-type", b"application/grpc")]


class Accepted:
    def __init__(self, answer: bool = False, limits: Limits = DEFAULTS, opened: bool = True) -> None:
        self.wire, self.clock, self.handler = Wire(), Clock(), Recorder(answer)
        self.server = Server(self.wire, self.handler, Peer(*PEER), limits, self.clock)
        self.decoder = hpack.Decoder()
        if opened:
            self.server.receive(OPENING)
            self.wire.take()

    def gets(self, *sent: bytes) -> None:
        for one in sent:
            self.server.receive(one)

    def wrote(self) -> list[tuple[int, int, int, bytes]]:
        return frames_of(self.wire.take())

    def heads(self) -> list[tuple[int, int, list[tuple[bytes, bytes]]]]:
        """Stream, flags and fields of each HEADERS that was written."""
        frames = of_kind(self.wrote(), raw.HEADERS)
        return [(s, flags, [tuple(f) for f in self.decoder.decode(p, raw=True)]) for _, flags, s, p in frames]


@pytest.fixture
def accepted() -> Accepted:
    return Accepted()


def test_settings_go_out_once_the_client_has_shown_itself() -> None:
    accepted = Accepted(opened=False)
    assert not accepted.wire.written
    accepted.gets(raw.PREFACE[:10])
    assert not accepted.wire.written
    accepted.gets(raw.PREFACE[10:] + raw.SET)
    frames = accepted.wrote()
    assert [(kind, flags) for kind, flags, _, _ in frames] == [(4, 0), (8, 0), (4, 1)]
    assert raw.word(DEFAULTS.streams) in frames[0][3]


def test_a_request_has_its_parts(accepted: Accepted) -> None:
    accepted.gets(raw.post(1, (b"content-length", b"5"), (b"expect", b"100-continue"), (b"x", b"y")))
    request = accepted.handler.last.request
    assert (request.method, request.path, request.authority, request.scheme) == (b"POST", b"/", b"a.test", b"http")
    assert request.headers == [(b"content-length", b"5"), (b"expect", b"100-continue"), (b"x", b"y")]
    assert (request.length, request.version, request.expect, request.upgrade) == (5, "2", True, b"")


def test_the_length_is_zero_without_a_body_and_unknown_with_one(accepted: Accepted) -> None:
    accepted.gets(raw.get(1), raw.post(3))
    assert [r.request.length for r in accepted.handler.requests] == [0, -1]
    assert [r.ended for r in accepted.handler.requests] == [True, False]


def test_cookie_crumbs_are_one_header_where_the_first_stood(accepted: Accepted) -> None:
    accepted.gets(
        raw.get(1, (b"a", b"1"), (b"cookie", b"b=2"), (b"c", b"3"), (b"cookie", b"d=4"), (b"cookie", b"e=5"))
    )
    assert accepted.handler.last.request.headers == [(b"a", b"1"), (b"cookie", b"b=2; d=4; e=5"), (b"c", b"3")]


def test_host_is_the_authority_and_no_header(accepted: Accepted) -> None:
    accepted.gets(raw.get(1, (b"host", b"b.test"), fields=raw.changed(b":authority", None)))
    assert accepted.handler.last.request.authority == b"b.test"
    assert accepted.handler.last.request.headers == []


def test_what_must_not_be_indexed_is_told_so(accepted: Accepted) -> None:
    block = raw.block(raw.GET) + raw.literal(b"x-secret", b"s", 0x10)
    accepted.gets(raw.raw_block(block))
    assert type(accepted.handler.last.request.headers[0]) is Sensitive


def test_a_handler_may_change_headers_without_changing_the_next_request(accepted: Accepted) -> None:
    accepted.gets(raw.get(1, (b"x", b"y")))
    accepted.handler.last.request.headers.clear()
    accepted.gets(raw.get(3, (b"x", b"y")))
    assert accepted.handler.last.request.headers == [(b"x", b"y")]


def test_body_and_trailers_come_in_order(accepted: Accepted) -> None:
    accepted.gets(raw.post(), raw.data(1, b"ab", end=False) + raw.data(1, b"\x02cd\0\0", False, raw.PADDED))
    accepted.gets(raw.get(1, fields=[(b"x-sum", b"1"), (b"content-length", b"9")]))
    seen = accepted.handler.last
    assert (seen.pieces, seen.ended, seen.trailers) == ([b"ab", b"cd"], True, [(b"x-sum", b"1")])


def test_a_unary_answer_is_one_write_of_three_frames(accepted: Accepted) -> None:
    handler = accepted.handler
    accepted.gets(raw.get(1, end=False, fields=GRPC))
    original = handler.last.end

    def answer(trailers: object) -> None:
        original(None)
        downstream = handler.last.downstream
        downstream.respond(Response(200, [(b"content-type", b"application/grpc")]), False)
        downstream.send(b"message")
        downstream.finish([(b"grpc-status", b"0")])

    handler.last.end = answer  # type: ignore[method-assign]
    accepted.gets(raw.data(1, b"request"))
    assert len(accepted.wire.written) == 1
    kinds = [(kind, flags) for kind, flags, _, _ in accepted.wrote()]
    assert kinds == [(raw.HEADERS, 4), (raw.DATA, 0), (raw.HEADERS, 5)]
    assert not accepted.server.streams


def test_the_last_piece_says_the_end_itself() -> None:
    accepted = Accepted(answer=True)
    accepted.gets(raw.get())
    assert [(kind, flags) for kind, flags, _, _ in accepted.wrote()] == [(raw.HEADERS, 4), (raw.DATA, 1)]


def test_outside_of_a_turn_everything_goes_at_once(accepted: Accepted) -> None:
    accepted.gets(raw.get())
    downstream = accepted.handler.last.downstream
    downstream.respond(Response(200, []), False)
    assert [f[:3] for f in accepted.wrote()] == [(raw.HEADERS, 4, 1)]
    downstream.send(b"x")
    assert [f[:3] for f in accepted.wrote()] == [(raw.DATA, 0, 1)]
    downstream.finish()
    assert [f[:3] for f in accepted.wrote()] == [(raw.DATA, 1, 1)]


def test_informational_heads_come_before_the_final_one(accepted: Accepted) -> None:
    accepted.gets(raw.post(1, (b"expect", b"100-continue")))
    downstream = accepted.handler.last.downstream
    downstream.informational(Response(100, []))
    downstream.respond(Response(200, []), True)
    downstream.informational(Response(103, []))
    assert [(flags, fields[0][1]) for _, flags, fields in accepted.heads()] == [(4, b"100"), (5, b"200")]


@pytest.mark.parametrize("method, status", [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_no_body_where_there_is_none(accepted: Accepted, method: bytes, status: int) -> None:
    accepted.gets(raw.get(fields=raw.changed(b":method", method)))
    downstream = accepted.handler.last.downstream
    downstream.respond(Response(status, [(b"content-length", b"5")], length=5), False)
    downstream.send(b"hello")
    downstream.finish()
    frames = accepted.wrote()
    assert [f[:3] for f in frames] == [(raw.HEADERS, 5, 1)]


def test_an_answer_before_the_requests_end_calls_the_rest_off(accepted: Accepted) -> None:
    accepted.gets(raw.post())
    accepted.handler.last.downstream.respond(Response(413, [], length=0), True)
    frames = accepted.wrote()
    assert [f[0] for f in frames] == [raw.HEADERS, raw.RST]
    assert resets_of(frames) == [(1, Reset.NO_ERROR)]
    accepted.gets(raw.data(1, b"still on its way"))
    assert not accepted.wrote() and not accepted.handler.last.pieces


def test_after_the_end_calls_do_nothing(accepted: Accepted) -> None:
    accepted.gets(raw.get())
    downstream = accepted.handler.last.downstream
    downstream.respond(Response(200, []), True)
    accepted.wire.take()
    downstream.respond(Response(500, []), True)
    downstream.send(b"x")
    downstream.finish([(b"x", b"y")])
    downstream.reset(Reset.CANCEL)
    assert not accepted.wire.written


def test_a_reset_of_ours_says_why(accepted: Accepted) -> None:
    accepted.gets(raw.get())
    accepted.handler.last.downstream.reset(Reset.INTERNAL_ERROR)
    assert resets_of(accepted.wrote()) == [(1, Reset.INTERNAL_ERROR)]
    assert accepted.handler.last.reason is None


@pytest.mark.parametrize(
    "code, reason", [(8, Reset.CANCEL), (0, Reset.NO_ERROR), (13, Reset.CANCEL), (999, Reset.CANCEL)]
)
def test_a_reset_by_the_client_reaches_the_handler(accepted: Accepted, code: int, reason: Reset) -> None:
    accepted.gets(raw.post(), raw.frame(raw.RST, 0, 1, raw.word(code)))
    assert accepted.handler.last.reason is reason
    accepted.handler.last.downstream.respond(Response(200, []), True)
    assert not accepted.wire.written


def test_a_large_head_is_continued(accepted: Accepted) -> None:
    accepted.gets(raw.get())
    accepted.handler.last.downstream.respond(Response(200, [(b"x", b"y" * 40000)]), True)
    frames = accepted.wrote()
    assert [(f[0], f[1], len(f[3])) for f in frames][:2] == [(raw.HEADERS, 1, 16384), (raw.CONTINUATION, 0, 16384)]
    assert frames[-1][1] == raw.END_HEADERS
    fields = hpack.Decoder(max_header_list_size=1 << 20).decode(b"".join(f[3] for f in frames), raw=True)
    assert fields[1] == (b"x", b"y" * 40000)


def test_streams_over_the_limit_are_refused_and_cost_nothing_before_settings_are_read() -> None:
    accepted = Accepted(limits=replace(DEFAULTS, streams=2, resets=5), opened=False)
    accepted.gets(raw.PREFACE + raw.SET, *(raw.post(s) for s in range(1, 41, 2)))
    frames = accepted.wrote()
    assert len(accepted.handler.requests) == 2
    assert resets_of(frames) == [(s, Reset.REFUSED_STREAM) for s in range(5, 41, 2)]
    assert not goaways(frames)


def test_refused_heads_keep_the_table_in_step() -> None:
    accepted = Accepted(limits=replace(DEFAULTS, streams=1))
    accepted.gets(raw.post(1))
    refused = raw.block(raw.GET) + raw.literal(b"x-new", b"v", 0x40)
    accepted.gets(raw.raw_block(refused, 3), raw.frame(raw.RST, 0, 1, raw.word(8)))
    accepted.gets(raw.raw_block(raw.block(raw.GET) + b"\xbe", 5))
    assert accepted.handler.last.request.headers == [(b"x-new", b"v")]


def test_a_known_block_means_something_else_when_the_table_has_changed(accepted: Accepted) -> None:
    block = raw.block(raw.GET) + b"\xbe"
    accepted.gets(raw.raw_block(raw.block(raw.GET) + raw.literal(b"x", b"1", 0x40), 1))
    accepted.gets(raw.raw_block(block, 3), raw.raw_block(block, 5))
    assert accepted.handler.last.request.headers == [(b"x", b"1")]
    accepted.gets(raw.raw_block(raw.block(raw.GET) + raw.literal(b"x", b"2", 0x40), 7), raw.raw_block(block, 9))
    assert accepted.handler.last.request.headers == [(b"x", b"2")]


# How connections end


def test_drain_says_twice_that_it_ends_and_serves_what_comes_between(accepted: Accepted) -> None:
    accepted.gets(raw.post(1))
    accepted.server.drain()
    frames = accepted.wrote()
    assert [f[0] for f in frames] == [raw.GOAWAY, raw.PING]
    assert frames[0][3] == raw.word(2**31 - 1) + raw.word(0)
    accepted.gets(raw.get(3))
    assert len(accepted.handler.requests) == 2
    accepted.gets(raw.frame(raw.PING, 1, 0, frames[1][3]))
    assert [f[3] for f in of_kind(accepted.wrote(), raw.GOAWAY)] == [raw.word(3) + raw.word(0)]
    accepted.gets(raw.get(5))
    assert resets_of(accepted.wrote()) == [(5, Reset.REFUSED_STREAM)]
    assert not accepted.wire.closed
    accepted.gets(raw.data(1, b"x"))
    for one in accepted.handler.requests:
        one.downstream.respond(Response(200, []), True)
    assert accepted.wire.closed


def test_an_idle_connection_drains_within_a_round_trip(accepted: Accepted) -> None:
    accepted.server.drain()
    (ping,) = of_kind(accepted.wrote(), raw.PING)
    assert not accepted.wire.closed
    accepted.gets(raw.frame(raw.PING, 1, 0, ping[3]))
    assert accepted.wire.closed


def test_a_client_that_answers_no_ping_is_not_waited_for(accepted: Accepted) -> None:
    accepted.server.drain()
    accepted.clock.time += 1.5
    accepted.server.tick(accepted.clock())
    assert accepted.wire.closed


def test_close_after_drains(accepted: Accepted) -> None:
    accepted.gets(raw.get())
    accepted.handler.last.downstream.close_after()
    accepted.handler.last.downstream.respond(Response(200, []), True)
    assert goaways(accepted.wrote()) == [0]


def test_requests_per_connection_drain_it() -> None:
    accepted = Accepted(answer=True, limits=replace(DEFAULTS, requests_per_connection=2))
    accepted.gets(raw.get(1))
    assert not goaways(accepted.wrote())
    accepted.gets(raw.get(3))
    assert goaways(accepted.wrote()) == [0]


def test_the_clients_goaway_lets_its_requests_end(accepted: Accepted) -> None:
    accepted.gets(raw.get(), raw.frame(raw.GOAWAY, 0, 0, b"\0" * 8))
    assert not accepted.wire.closed
    accepted.handler.last.downstream.respond(Response(200, []), True)
    assert statuses(accepted.wrote()) == {1: 200}
    assert accepted.wire.closed


def test_eof_leaves_the_answers_that_are_owed(accepted: Accepted) -> None:
    accepted.gets(raw.get(1), raw.post(3))
    accepted.server.eof()
    whole, half = accepted.handler.requests
    assert half.reason is Reset.CANCEL and whole.reason is None
    whole.downstream.respond(Response(200, []), True)
    assert statuses(accepted.wrote()) == {1: 200}
    assert accepted.wire.closed


def test_a_lost_connection_is_told_to_all_and_never_written_to(accepted: Accepted) -> None:
    accepted.gets(raw.get(1), raw.post(3))
    accepted.server.lost()
    assert [one.reason for one in accepted.handler.requests] == [Reset.CANCEL] * 2
    for one in accepted.handler.requests:
        one.downstream.respond(Response(200, []), True)
        one.downstream.reset(Reset.CANCEL)
    accepted.gets(raw.get(5))
    accepted.server.drain()
    accepted.server.tick(1e9)
    assert not accepted.wire.written


def test_idle_is_between_two_requests(accepted: Accepted) -> None:
    assert accepted.server.idle
    accepted.gets(raw.get()[:5])
    assert not accepted.server.idle
    accepted.gets(raw.get()[5:])
    assert not accepted.server.idle
    accepted.handler.last.downstream.respond(Response(200, []), True)
    assert accepted.server.idle


# What the clock ends


def test_a_client_that_never_speaks_is_closed() -> None:
    accepted = Accepted(opened=False)
    accepted.gets(raw.PREFACE[:5])
    accepted.server.tick(accepted.clock.time + DEFAULTS.head_timeout + 1)
    assert accepted.wire.closed


@pytest.mark.parametrize("begun", [raw.HALF, raw.get()[:20]], ids=["no CONTINUATION comes", "a frame does not end"])
def test_a_head_that_does_not_end(accepted: Accepted, begun: bytes) -> None:
    accepted.gets(begun)
    accepted.server.tick(accepted.clock.time + DEFAULTS.head_timeout - 1)
    assert not accepted.wire.closed
    accepted.server.tick(accepted.clock.time + DEFAULTS.body_timeout + 1)
    assert goaways(accepted.wrote()) == [Reset.ENHANCE_YOUR_CALM]


def test_a_body_that_does_not_come_is_called_off_and_one_that_trickles_is_not(accepted: Accepted) -> None:
    accepted.gets(raw.post(1), raw.post(3))
    start = accepted.clock.time
    for passed in range(1, int(DEFAULTS.body_timeout) + 3):
        accepted.clock.time = start + passed
        accepted.gets(raw.data(3, b"x", end=False))
        accepted.server.tick(accepted.clock.time)
    silent, slow = accepted.handler.requests
    assert silent.reason is Reset.CANCEL and slow.reason is None
    assert resets_of(accepted.wrote()) == [(1, Reset.CANCEL)]


def test_grpc_may_be_silent(accepted: Accepted) -> None:
    accepted.gets(raw.get(1, end=False, fields=GRPC))
    for passed in range(1000):
        accepted.server.tick(accepted.clock.time + passed)
    assert accepted.handler.last.reason is None


def test_an_answer_that_is_not_taken_is_called_off() -> None:
    accepted = Accepted()
    accepted.gets(raw.setting(4, 0), raw.get())
    downstream = accepted.handler.last.downstream
    downstream.respond(Response(200, []), False)
    downstream.send(b"x" * 100)
    accepted.server.tick(accepted.clock.time + DEFAULTS.body_timeout - 1)
    assert accepted.handler.last.reason is None
    accepted.server.tick(accepted.clock.time + DEFAULTS.body_timeout + 1)
    assert accepted.handler.last.reason is Reset.CANCEL
    assert not accepted.server.streams


def test_a_quiet_connection_is_drained_at_last(accepted: Accepted) -> None:
    accepted.server.tick(accepted.clock.time + DEFAULTS.idle_timeout - 1)
    assert not accepted.wire.written
    accepted.server.tick(accepted.clock.time + DEFAULTS.idle_timeout + 1)
    assert goaways(accepted.wrote()) == [0]


# From HTTP/1.1


def test_an_upgraded_request_is_stream_1() -> None:
    wire, handler = Wire(), Recorder(answer=True)
    request = Request(b"GET", b"/", b"a.test", [(b"http2-settings", b"AAQ"), (b"x", b"y")], upgrade=b"h2c")
    server = Server.upgrade(wire, handler, Peer(*PEER), DEFAULTS, Clock(), request, b"AAMAAABkAAQAAAAB")
    assert handler.last.request is request and request.version == "2" and not request.upgrade
    assert request.headers == [(b"x", b"y")]
    frames = frames_of(wire.take())
    assert [f[0] for f in frames] == [raw.SETTINGS, raw.UPDATE, raw.HEADERS, raw.DATA]
    assert body_of(frames, 1) == b"o", "the window of HTTP2-Settings was 1"
    server.receive(raw.PREFACE + raw.SET + raw.frame(raw.UPDATE, 0, 1, raw.word(10)) + raw.get(3))
    frames = frames_of(wire.take())
    assert body_of(frames, 1) == b"k" and statuses(frames)[3] == 200


@pytest.mark.parametrize("value", [b"****", b"AAMAAAB", b"AAT_____", b"A"])
def test_broken_http2_settings_are_refused_before_the_switch(value: bytes) -> None:
    with pytest.raises(ValueError, match="HTTP2-Settings"):
        settings_of_upgrade(value)


def test_deadlines_that_pass_now_and_then_are_no_rapid_reset(accepted: Accepted) -> None:
    for stream in range(1, 4000, 4):
        accepted.gets(raw.get(stream))
        accepted.handler.last.downstream.respond(Response(200, []), True)
        accepted.gets(raw.post(stream + 2) + raw.frame(raw.RST, 0, stream + 2, raw.word(8)))
    assert not goaways(accepted.wrote())


def test_a_length_said_twice_alike_is_said_once(accepted: Accepted) -> None:
    accepted.gets(raw.post(1, (b"content-length", b"3"), (b"content-length", b"3")))
    assert accepted.handler.last.request.headers == [(b"content-length", b"3")]


def test_what_is_learned_of_names_and_paths_is_bounded() -> None:
    accepted = Accepted(answer=True)
    for i in range(3000):
        path = b"/%d/" % i + b"x" * (i % 300)
        fields = [*raw.changed(b":path", path), (b"x-%d" % i + b"y" * (i % 300), b"1")]
        accepted.gets(raw.get(2 * i + 1, fields=fields))
    assert len(accepted.handler.requests) == 3000
    assert len(heads._names) <= 2048 and len(heads._proven) <= 2048
    assert max(map(len, heads._names)) <= 128 and max(len(value) for _, value in heads._proven) <= 128


@pytest.mark.parametrize("size", [0, 40, 100])
def test_the_clients_table_size_is_obeyed(size: int) -> None:
    accepted = Accepted()
    accepted.decoder.max_allowed_table_size = size
    accepted.decoder.header_table_size = size
    accepted.gets(raw.setting(1, size))
    for stream in range(1, 21, 2):
        accepted.gets(raw.get(stream))
        accepted.handler.last.downstream.respond(Response(200, [(b"x-a", b"1"), (b"x-long", b"y" * 30)]), True)
    assert [fields[1:] for _, _, fields in accepted.heads()] == [[(b"x-a", b"1"), (b"x-long", b"y" * 30)]] * 10
    assert accepted.decoder.header_table_size == size


def test_a_body_that_we_do_not_read_is_not_the_clients_fault(accepted: Accepted) -> None:
    accepted.gets(raw.post())
    accepted.handler.last.downstream.pause()
    for passed in range(200):
        accepted.server.tick(accepted.clock.time + passed)
    assert accepted.handler.last.reason is None


def test_a_turn_within_a_turn_is_one_write(accepted: Accepted) -> None:
    serve = accepted.handler.request

    def last(request: Request, downstream: Downstream, end: bool) -> Recorded:
        downstream.close_after()
        downstream.respond(Response(200, []), True)
        return serve(request, downstream, end)

    accepted.handler.request = last  # type: ignore[method-assign]
    accepted.gets(raw.get())
    assert len(accepted.wire.written) == 1
    assert [f[0] for f in accepted.wrote()] == [raw.GOAWAY, raw.PING, raw.HEADERS]
