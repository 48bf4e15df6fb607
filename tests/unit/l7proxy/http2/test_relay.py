"""Both codecs back to back: the four kinds of gRPC call, and what a finished request leaves behind."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

import hostile_http2 as raw
from h2_peers import frames_of, of_kind
from h2_relay import Relay
from weft.l7proxy.core.http2 import share_writes
from weft.l7proxy.core.stream import Failure

GRPC = [*raw.POST, (b"te", b"trailers"), (b"content-type", b"application/grpc")]
HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]
STATUS = [(b"grpc-status", b"0")]


@pytest.fixture
def relay() -> Relay:
    relay = Relay()
    relay.front.receive(raw.PREFACE + raw.SET + raw.frame(raw.SETTINGS, 1, 0))
    relay.back.receive(raw.SET + raw.frame(raw.SETTINGS, 1, 0))
    relay.front_wire.take()
    relay.back_wire.take()
    return relay


def call(stream: int, *messages: bytes, end: bool = True) -> bytes:
    asked = raw.get(stream, end=False, fields=GRPC)
    return asked + b"".join(
        raw.data(stream, message, end=end and i == len(messages) - 1) for i, message in enumerate(messages)
    )


def answer(stream: int, *messages: bytes) -> bytes:
    head = raw.get(stream, end=False, fields=HEAD)
    return head + b"".join(raw.data(stream, m, end=False) for m in messages) + raw.get(stream, fields=STATUS)


def up(relay: Relay) -> list[tuple[int, int, bytes]]:
    return [(kind, flags, data if kind == 0 else b"") for kind, flags, _, data in frames_of(relay.back_wire.take())]


def down(relay: Relay) -> list[tuple[int, int, bytes]]:
    return [
        (kind, flags, data if kind == 0 else b"") for kind, flags, _, data in frames_of(relay.front_wire.take())
    ]


def test_unary_is_one_write_each_way(relay: Relay) -> None:
    relay.front.receive(call(1, b"question"))
    assert len(relay.back_wire.written) == 1
    assert up(relay) == [(1, 4, b""), (0, 1, b"question")]
    relay.back.receive(answer(1, b"answer"))
    assert len(relay.front_wire.written) == 1
    assert down(relay) == [(1, 4, b""), (0, 0, b"answer"), (1, 5, b"")]


def test_client_streaming(relay: Relay) -> None:
    relay.front.receive(call(1, b"one", end=False))
    assert up(relay) == [(1, 4, b""), (0, 0, b"one")]
    relay.front.receive(raw.data(1, b"two", end=False))
    assert up(relay) == [(0, 0, b"two")]
    relay.front.receive(raw.data(1))
    assert up(relay) == [(0, 1, b"")]
    relay.back.receive(answer(1, b"all"))
    assert down(relay) == [(1, 4, b""), (0, 0, b"all"), (1, 5, b"")]


def test_server_streaming(relay: Relay) -> None:
    relay.front.receive(call(1, b"question"))
    relay.back.receive(raw.get(1, end=False, fields=HEAD))
    assert down(relay) == [(1, 4, b"")]
    for message in (b"one", b"two"):
        relay.back.receive(raw.data(1, message, end=False))
        assert down(relay) == [(0, 0, message)]
    relay.back.receive(raw.get(1, fields=STATUS))
    assert down(relay) == [(1, 5, b"")]


def test_bidirectional_streaming(relay: Relay) -> None:
    relay.front.receive(call(1, b"ping 0", end=False))
    relay.back.receive(raw.get(1, end=False, fields=HEAD))
    up(relay), down(relay)
    for turn in range(3):
        relay.back.receive(raw.data(1, b"pong %d" % turn, end=False))
        assert down(relay) == [(0, 0, b"pong %d" % turn)]
        relay.front.receive(raw.data(1, b"ping %d" % turn, end=False))
        assert up(relay) == [(0, 0, b"ping %d" % turn)]
    relay.front.receive(raw.data(1))
    relay.back.receive(raw.get(1, fields=STATUS))
    assert up(relay) == [(0, 1, b"")] and down(relay) == [(1, 5, b"")]


def test_an_error_of_trailers_alone_calls_the_upload_off_on_both_sides(relay: Relay) -> None:
    relay.front.receive(call(1, b"one", end=False))
    up(relay)
    relay.back.receive(raw.get(1, fields=[*HEAD, (b"grpc-status", b"7")]))
    assert down(relay) == [(1, 5, b""), (raw.RST, 0, b"")]
    assert up(relay) == [(raw.RST, 0, b"")]
    assert not relay.front.streams and not relay.back.streams


def test_a_cancel_reaches_the_server(relay: Relay) -> None:
    relay.front.receive(call(1, b"one", end=False) + raw.frame(raw.RST, 0, 1, raw.word(8)))
    assert [f[0] for f in up(relay)] == [raw.HEADERS, raw.DATA, raw.RST]


def test_five_mebibytes_pass(relay: Relay) -> None:
    got = bytearray()
    relay.back.receive(raw.setting(4, 1 << 24) + raw.frame(raw.UPDATE, 0, 0, raw.word(1 << 24)))
    relay.front.receive(call(1, b"x", end=False))
    for _ in range(5 << 6):
        relay.front.receive(raw.data(1, b"m" * 16384, end=False))
        got += b"".join(f[3] for f in of_kind(frames_of(relay.back_wire.take()), raw.DATA))
    assert len(got) == 1 + (5 << 20) and not relay.front_wire.closed


ENDS = {
    "answered": [("front", call(1, b"question")), ("back", answer(1, b"answer"))],
    "answered early": [("front", call(1, b"one", end=False)), ("back", raw.get(1, fields=[*HEAD, *STATUS]))],
    "called off by the client": [("front", call(1, b"one", end=False) + raw.frame(raw.RST, 0, 1, raw.word(8)))],
    "reset by the server": [("front", call(1, b"question")), ("back", raw.frame(raw.RST, 0, 1, raw.word(8)))],
    "refused by GOAWAY": [("front", call(1, b"question")), ("back", raw.frame(raw.GOAWAY, 0, 0, b"\0" * 8))],
    "malformed answer": [("front", call(1, b"question")), ("back", raw.data(1, b"x"))],
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_for_the_garbage_collector(relay: Relay, end: str) -> None:
    gc.collect()
    gc.disable()
    try:
        for side, data in ENDS[end]:
            getattr(relay, side).receive(data)
        assert not relay.front.streams and not relay.back.streams and relay.back.active == 0
        assert gc.collect() == 0
    finally:
        gc.enable()


# Turns that share their writes


@pytest.fixture
def soon() -> Iterator[list[Callable[[], object]]]:
    """What a loop was asked to call once it has read what there is."""
    asked: list[Callable[[], object]] = []
    share_writes(asked.append)
    yield asked
    share_writes(None)
    while asked:
        asked.pop()()


def test_requests_that_are_read_one_after_the_other_are_one_write(
    relay: Relay, soon: list[Callable[[], object]]
) -> None:
    for stream in (1, 3, 5):
        relay.front.receive(call(stream, b"m"))
    assert not relay.back_wire.written and len(soon) == 1
    soon.pop()()
    assert len(relay.back_wire.written) == 1
    assert [id for _, _, id, _ in frames_of(relay.back_wire.take())] == [1, 1, 3, 3, 5, 5]


def test_nobody_waits_for_more_than_a_few(relay: Relay, soon: list[Callable[[], object]]) -> None:
    for stream in range(1, 17, 2):
        relay.front.receive(call(stream, b"m"))
    assert len(relay.back_wire.written) == 1 and len(soon) == 1
    soon.pop()()
    assert len(relay.back_wire.written) == 1, "nothing was left"
    relay.front.receive(call(17, b"m"))
    assert len(relay.back_wire.written) == 1 and len(soon) == 1


def test_what_was_not_written_of_a_lost_connection_is_not_written(
    relay: Relay, soon: list[Callable[[], object]]
) -> None:
    relay.front.receive(call(1, b"m"))
    relay.back.lost(Failure.RESET)
    soon.pop()()
    assert not relay.back_wire.written
    assert len(relay.front_wire.written) == 1, "the others' is"
