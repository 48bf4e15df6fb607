"""Flow control on both levels, both ways, and what is held when somebody does not read."""

from __future__ import annotations

from dataclasses import replace

import pytest

import hostile_http2 as raw
from h2_peers import Recorded, Recorder, Sink, body_of, frames_of, goaways, of_kind
from h2_relay import PEER, Clock, Relay, Wire
from weft.l7proxy.core.http2 import Client, Server
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.stream import Downstream, Peer, Request, Reset, Response

WINDOW = DEFAULTS.window
OPENING = raw.PREFACE + raw.SET + raw.frame(raw.SETTINGS, 1, 0)


class Answering:
    """A server with streams whose responses have begun."""

    def __init__(self, *settings: bytes, streams: int = 1, limits: Limits = DEFAULTS) -> None:
        self.wire, self.handler, self.clock = Wire(), Recorder(answer=False), Clock()
        self.server = Server(self.wire, self.handler, Peer(*PEER), limits, self.clock)
        self.server.receive(OPENING + b"".join(settings))
        for stream in range(1, 2 * streams, 2):
            self.server.receive(raw.get(stream))
            self.downstream(stream).respond(Response(200, []), False)
        self.wire.take()

    def downstream(self, stream: int = 1) -> Downstream:
        return self.handler.requests[stream // 2].downstream

    def sent(self, stream: int = 1) -> bytes:
        return body_of(frames_of(self.wire.take()), stream)


def update(stream: int, by: int) -> bytes:
    return raw.frame(raw.UPDATE, 0, stream, raw.word(by))


def test_no_more_goes_than_the_streams_window() -> None:
    answering = Answering(raw.setting(4, 10))
    answering.downstream().send(b"x" * 25)
    assert len(answering.sent()) == 10
    answering.server.receive(update(1, 7))
    assert len(answering.sent()) == 7
    answering.downstream().finish([(b"x", b"y")])
    assert not answering.wire.written
    answering.server.receive(update(1, 100))
    frames = frames_of(answering.wire.take())
    assert [(f[0], f[1]) for f in frames] == [(raw.DATA, 0), (raw.HEADERS, 5)]
    assert len(body_of(frames, 1)) == 8


def test_no_more_goes_than_the_connections_window_and_streams_share_it() -> None:
    answering = Answering(raw.setting(4, 1 << 20), streams=3)
    for stream in (1, 3, 5):
        for _ in range(4):
            answering.downstream(stream).send(b"x" * 16384)
    frames = frames_of(answering.wire.take())
    assert sum(len(f[3]) for f in of_kind(frames, raw.DATA)) == 65535
    answering.server.receive(update(0, 3 * 16384))
    frames = of_kind(frames_of(answering.wire.take()), raw.DATA)
    assert sum(len(f[3]) for f in frames) == 3 * 16384
    assert {f[2] for f in frames} >= {3, 5}, "each of those that wait gets its turn"


def test_a_window_may_become_negative() -> None:
    answering = Answering(raw.setting(4, 100))
    answering.downstream().send(b"x" * 150)
    assert len(answering.sent()) == 100
    answering.server.receive(raw.setting(4, 10))
    answering.server.receive(update(1, 90))
    assert answering.sent() == b""
    answering.server.receive(update(1, 5))
    assert len(answering.sent()) == 5


def test_frames_are_no_larger_than_the_peer_takes() -> None:
    answering = Answering(raw.setting(4, 1 << 20), raw.setting(5, 20000), update(0, 1 << 20))
    answering.downstream().send(b"x" * 50000)
    assert [len(f[3]) for f in frames_of(answering.wire.take())] == [20000, 20000, 10000]


def test_the_source_is_paused_once_and_resumed_once() -> None:
    answering = Answering(raw.setting(4, 0), update(0, 1 << 20))
    (seen,) = answering.handler.requests
    for _ in range(5):
        answering.downstream().send(b"x" * 16384)
    assert seen.pauses == ["pause"]
    answering.server.receive(update(1, 30000))
    assert seen.pauses == ["pause"]
    answering.server.receive(update(1, 50000))
    assert seen.pauses == ["pause", "resume"]


def test_a_full_transport_stops_data_and_nothing_is_lost() -> None:
    answering = Answering(raw.setting(4, 1 << 20), update(0, 1 << 20))
    (seen,) = answering.handler.requests
    answering.wire.take()
    answering.server.pause_writing()
    for piece in (b"a" * 16384, b"b" * 16384, b"c" * 16384):
        answering.downstream().send(piece)
    answering.downstream().finish()
    assert not answering.wire.written and seen.pauses == ["pause"]
    answering.server.resume_writing()
    frames = frames_of(answering.wire.take())
    assert body_of(frames, 1) == b"a" * 16384 + b"b" * 16384 + b"c" * 16384
    assert frames[-1][1] == raw.END_STREAM


def test_who_does_not_read_our_answers_is_not_read_any_more() -> None:
    answering = Answering(limits=replace(DEFAULTS, resets=1 << 30))
    answering.server.pause_writing()
    for _ in range(100):
        answering.server.receive(raw.frame(raw.PING, 0, 0, b"12345678") * 200)
    assert answering.wire.reading_paused
    answering.server.resume_writing()
    assert not answering.wire.reading_paused


def test_who_never_reads_is_given_up() -> None:
    answering = Answering()
    answering.server.pause_writing()
    answering.server.tick(answering.clock.time + DEFAULTS.body_timeout + 1)
    assert answering.wire.closed and answering.handler.last.reason is not None


# What comes


class Uploading:
    def __init__(self, limits: Limits = DEFAULTS, opening: bytes = OPENING) -> None:
        self.wire, self.handler = Wire(), Recorder(answer=False)
        self.server = Server(self.wire, self.handler, Peer(*PEER), limits, Clock())
        self.server.receive(opening + raw.post())
        self.wire.take()

    def upload(self, size: int, stream: int = 1) -> None:
        while size:
            piece = min(size, 16384)
            self.server.receive(raw.data(stream, b"x" * piece, end=False))
            size -= piece

    def credited(self, stream: int) -> int:
        frames = of_kind(frames_of(self.wire.take()), raw.UPDATE)
        return sum(int.from_bytes(f[3], "big") for f in frames if f[2] == stream)


def test_what_is_read_is_given_back_in_halves() -> None:
    uploading = Uploading()
    uploading.upload(WINDOW // 2 - 1)
    assert uploading.credited(1) == 0
    uploading.upload(1)
    assert uploading.credited(1) == WINDOW // 2


def test_a_paused_reader_gets_one_window_and_no_more() -> None:
    uploading = Uploading()
    downstream = uploading.handler.last.downstream
    downstream.pause()
    downstream.pause()
    uploading.upload(WINDOW)
    assert uploading.credited(1) == 0
    downstream.resume()
    assert uploading.credited(1) == WINDOW
    downstream.pause()
    uploading.upload(WINDOW)
    uploading.upload(1)
    assert uploading.handler.last.reason is Reset.FLOW_CONTROL_ERROR


def test_a_paused_reader_does_not_stop_its_neighbours() -> None:
    uploading = Uploading(limits=replace(DEFAULTS, connection_window=4 * WINDOW))
    uploading.handler.last.downstream.pause()
    uploading.upload(WINDOW)
    uploading.server.receive(raw.post(3))
    for _ in range(20):
        uploading.upload(WINDOW // 2, stream=3)
    assert len(uploading.handler.last.data) == 10 * WINDOW
    assert not uploading.wire.closed


def test_padding_counts() -> None:
    uploading = Uploading()
    for _ in range(WINDOW // 2 // 256):
        uploading.server.receive(raw.data(1, b"\xfe" + b"x" + b"\0" * 254, False, raw.PADDED))
    assert uploading.credited(1) == WINDOW // 2
    assert uploading.handler.last.data == b"x" * (WINDOW // 2 // 256)


def test_the_connections_window_is_held_to() -> None:
    small = replace(DEFAULTS, window=1 << 20, connection_window=1 << 17)
    uploading = Uploading(limits=small)
    uploading.server.uncredited = -(1 << 30)  # as if nothing were ever given back
    uploading.upload(1 << 17)
    assert not uploading.wire.closed
    uploading.upload(1)
    assert goaways(frames_of(uploading.wire.take())) == [Reset.FLOW_CONTROL_ERROR]


def test_a_window_below_the_default_holds_from_the_acknowledgement_on() -> None:
    small = replace(DEFAULTS, window=1000)
    uploading = Uploading(limits=small, opening=raw.PREFACE + raw.SET)
    uploading.handler.last.downstream.pause()
    uploading.upload(60000)
    assert uploading.handler.last.reason is None, "sent before our SETTINGS were read"
    uploading.server.receive(raw.frame(raw.SETTINGS, 1, 0) + raw.post(3))
    uploading.handler.last.downstream.pause()
    uploading.upload(1000, stream=3)
    assert uploading.handler.last.reason is None
    uploading.upload(1, stream=3)
    assert uploading.handler.last.reason is Reset.FLOW_CONTROL_ERROR


# Through both


def test_a_slow_server_holds_back_the_client() -> None:
    relay = Relay()
    relay.front.receive(OPENING + raw.post())
    relay.back.receive(raw.setting(4, 0) + update(0, 1 << 20))
    relay.front_wire.take()
    for _ in range(4):
        relay.front.receive(raw.data(1, b"x" * 16384, end=False))
    given = of_kind(frames_of(relay.front_wire.take()), raw.UPDATE)
    assert sum(int.from_bytes(f[3], "big") for f in given if f[2] == 1) <= WINDOW // 2
    relay.back_wire.take()
    relay.back.receive(update(1, 4 * 16384))
    assert len(body_of(frames_of(relay.back_wire.take()), 1)) == 4 * 16384
    assert [f[2] for f in of_kind(frames_of(relay.front_wire.take()), raw.UPDATE)] == [1]


def test_a_slow_client_holds_back_the_server() -> None:
    relay = Relay()
    relay.front.receive(raw.PREFACE + raw.setting(4, 0) + update(0, 1 << 20) + raw.get())
    relay.back.receive(raw.SET + raw.get(1, end=False, fields=[(b":status", b"200")]))
    relay.back_wire.take()
    for _ in range(4):
        relay.back.receive(raw.data(1, b"x" * 16384, end=False))
    given = of_kind(frames_of(relay.back_wire.take()), raw.UPDATE)
    assert sum(int.from_bytes(f[3], "big") for f in given if f[2] == 1) <= WINDOW // 2
    relay.front.receive(update(1, 4 * 16384))
    assert len(body_of(frames_of(relay.front_wire.take()), 1)) == 4 * 16384


@pytest.mark.parametrize("window", [1, 7, 100])
def test_tiny_windows_move_a_body_whole(window: int) -> None:
    answering = Answering(raw.setting(4, window))
    answering.downstream().send(bytes(range(200)))
    answering.downstream().finish()
    got = answering.sent()
    for _ in range(200):
        if answering.server.streams:
            answering.server.receive(update(1, window))
            got += answering.sent()
    assert got == bytes(range(200)) and not answering.server.streams


def test_an_upload_waits_for_a_window_too() -> None:
    wire, sink = Wire(), Sink()
    client = Client(wire, DEFAULTS, Clock())
    client.receive(raw.setting(4, 5))
    upstream = client.open(sink)
    upstream.request(Request(b"POST", b"/", b"a.test", [], length=-1), False)
    upstream.send(b"0123456789")
    upstream.finish()
    frames = frames_of(wire.take())
    assert body_of(frames, 1) == b"01234"
    client.receive(update(1, 5))
    frames = of_kind(frames_of(wire.take()), raw.DATA)
    assert body_of(frames, 1) == b"56789" and frames[-1][1] == raw.END_STREAM


def test_an_end_is_never_written_into_another_frame() -> None:
    """The stream's last DATA has gone out long ago; as many frames wait now as waited then."""
    answering = Answering()
    answering.downstream().send(b"first")
    answering.wire.take()
    serve = answering.handler.request

    def finishing(request: Request, downstream: Downstream, end: bool) -> Recorded:
        answering.downstream(1).finish()
        return serve(request, downstream, end)

    answering.handler.request = finishing  # type: ignore[method-assign]
    answering.server.receive(raw.frame(raw.PING, 0, 0, b"12345678") * 2 + raw.get(3))
    frames = frames_of(answering.wire.take())
    assert [f[:3] for f in frames] == [(raw.PING, 1, 0), (raw.PING, 1, 0), (raw.DATA, 1, 1)]


def test_who_was_not_asked_to_pause_is_not_asked_to_resume() -> None:
    answering = Answering(raw.setting(4, 10))
    answering.downstream().send(b"x" * 100)
    answering.server.receive(update(1, 1000) + update(0, 1000))
    assert answering.handler.last.pauses == []


def test_settings_that_widen_are_acknowledged_before_what_they_let_through() -> None:
    answering = Answering(raw.setting(4, 0))
    answering.downstream().send(b"abc")
    answering.server.receive(raw.setting(4, 2))
    assert [f[:3] for f in frames_of(answering.wire.take())] == [(raw.SETTINGS, 1, 0), (raw.DATA, 0, 1)]


def test_nothing_is_given_back_to_a_stream_that_has_ended() -> None:
    uploading = Uploading()
    downstream = uploading.handler.last.downstream
    downstream.pause()
    uploading.upload(WINDOW - 1)
    uploading.server.receive(raw.data(1, b"x"))
    downstream.resume()
    assert uploading.credited(1) == 0
