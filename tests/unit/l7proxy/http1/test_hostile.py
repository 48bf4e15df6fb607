"""The table of hostile bytes, each fed whole, byte by byte and with a tail, and with a request behind it."""

from __future__ import annotations

import pytest

from hostile_http1 import REQUESTS, RESPONSES, SMUGGLED, Hostile, HostileResponse
from http1_peers import Answers, accepted, connected, feeds, piped
from weft.l7proxy.core.stream import Failure, Request


def ways(data: bytes) -> list[list[bytes]]:
    """Byte by byte where it is quick; long ones in small pieces."""
    if len(data) < 2000:
        return feeds(data)
    return [[data], [data[i : i + 997] for i in range(0, len(data), 997)]]


def test_the_table_is_large_and_its_names_are_different() -> None:
    assert len(REQUESTS) + len(RESPONSES) >= 300 and len(REQUESTS) >= 220
    assert len({case.name for case in REQUESTS}) == len(REQUESTS)
    assert len({case.name for case in RESPONSES}) == len(RESPONSES)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
@pytest.mark.parametrize("behind", [b"", SMUGGLED], ids=["alone", "smuggling"])
def test_a_hostile_request_is_refused_and_nothing_behind_it_is_read(case: Hostile, behind: bytes) -> None:
    for pieces in ways(case.data + behind):
        server, wire, recorder, _ = accepted()
        refused: list[int] = []
        server.on_refused = lambda status, detail, refused=refused: refused.append(status)  # type: ignore[misc]
        for piece in pieces:
            server.receive(piece)
        assert wire.written == b"" or wire.written.startswith(b"HTTP/1.1 %d " % case.status), wire.written
        assert wire.written.count(b"HTTP/1.1") == 1 and b"\r\nconnection: close\r\n" in wire.written
        assert wire.over and not server.idle and refused == [case.status]
        assert len(recorder.seen) == case.seen
        assert all(seen.lost is not None and not seen.ended for seen in recorder.seen)
        server.eof()
        assert wire.closed


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_a_hostile_request_never_reaches_a_server_whole(case: Hostile) -> None:
    """Through both codecs: nothing goes up, or a head and a body that its connection's end cuts short."""
    for pieces in ways(case.data + SMUGGLED):
        server, _, _, up = piped()
        for piece in pieces:
            server.receive(piece)
        assert b"smuggled" not in up.written and b"0\r\n\r\n" not in up.written
        assert up.written == b"" or (case.seen and up.aborted)


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case.name)
def test_a_hostile_response_fails_its_request(case: HostileResponse) -> None:
    for pieces in ways(case.data):
        client, wire = connected()
        sink = Answers()
        client.open(sink).request(Request(case.method, b"/", b"shop", []), True)
        for piece in pieces:
            client.receive(piece)
        assert sink.failure == Failure.PROTOCOL and not sink.ended and sink.detail
        assert (sink.head is not None) is case.begun
        assert wire.aborted and client.closing and not client.available and not client.active
