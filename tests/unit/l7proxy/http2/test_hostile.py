"""Every row of the table of hostile bytes: the right refusal, whole and in pieces, and nothing is held after it."""

from __future__ import annotations

import pytest

import hostile_http2 as hostile
from h2_peers import Recorder, frames_of, goaways, resets_of, statuses
from h2_relay import PEER, Clock, Wire
from weft.l7proxy.core.http2 import Server
from weft.l7proxy.core.limits import DEFAULTS
from weft.l7proxy.core.stream import Peer

OPENING = hostile.PREFACE + hostile.SET
WHOLE = {name: (OPENING + sent, outcome) for name, (sent, outcome) in hostile.CASES.items()} | hostile.PREFACES
SMALL = {name: case for name, case in WHOLE.items() if len(case[0]) < 4000}


class Examined:
    def __init__(self) -> None:
        self.wire, self.handler = Wire(), Recorder()
        self.server = Server(self.wire, self.handler, Peer(*PEER), DEFAULTS, Clock())

    def feed(self, sent: bytes, piece: int = 1 << 30) -> None:
        for at in range(0, len(sent), piece):
            self.server.receive(sent[at : at + piece])

    def must_be(self, outcome: hostile.Outcome) -> None:
        seen = frames_of(self.wire.take())
        match outcome:
            case hostile.Goaway(code):
                assert goaways(seen) == [code]
                assert self.wire.closed
                assert not self.server.streams
                assert all(r.over for r in self.handler.requests)
            case hostile.Rst(stream, code):
                assert (stream, code) in resets_of(seen)
                self._still_serves()
            case hostile.Status(stream, status):
                assert statuses(seen)[stream] == status
                assert not self.handler.requests
                self._still_serves()
            case hostile.Served(count):
                assert not goaways(seen)
                assert len(self.handler.requests) == count

    def _still_serves(self) -> None:
        assert not self.wire.closed
        for one in self.handler.requests:
            if not one.over:
                one.downstream.reset(hostile.X)
        before = len(self.handler.requests)
        self.feed(hostile.get(1001))
        assert len(self.handler.requests) == before + 1
        assert statuses(frames_of(self.wire.take()))[1001] == 200


def test_the_table_is_long_enough() -> None:
    assert len(WHOLE) >= 120


@pytest.mark.parametrize("name", WHOLE)
def test_whole(name: str) -> None:
    sent, outcome = WHOLE[name]
    examined = Examined()
    examined.feed(sent)
    examined.must_be(outcome)


@pytest.mark.parametrize("name", SMALL)
def test_byte_by_byte(name: str) -> None:
    sent, outcome = WHOLE[name]
    examined = Examined()
    examined.feed(sent, 1)
    examined.must_be(outcome)


@pytest.mark.parametrize("name", WHOLE)
def test_with_a_tail(name: str) -> None:
    """Another frame right behind, begun and not ended: it changes nothing."""
    sent, outcome = WHOLE[name]
    examined = Examined()
    examined.feed(sent + hostile.data(1, b"x" * 100)[:50] if not name.startswith("HTTP/1.1") else sent)
    if isinstance(outcome, hostile.Goaway):
        examined.must_be(outcome)
