"""The same ways past a policy in HTTP/2: streams that stay open, and heads that name one thing twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from adversary import declare, policy
from proxy_lab import ProxyLab, wait_for
from weft.policies.model import Direction, HttpRule

RULE = (HttpRule(method="POST", path="/x", host="api"),)


class Speaker:
    """An HTTP/2 client without manners: it sends what it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8"
        )
        self.sock, self.h2 = sock, h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.seen: dict[int, list[h2.events.Event]] = {}
        self.closed = False

    def ask(self, *headers: tuple[str, str], end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, list(headers), end_stream=end)
        self._flush()
        return stream

    def data(self, stream: int, data: bytes) -> None:
        self.h2.send_data(stream, data)
        self._flush()

    def until(self, stream: int, *kinds: type) -> object:
        """The first event of one of these kinds; None: the connection ended."""
        while True:
            for event in self.seen.get(stream, ()):
                if isinstance(event, kinds):
                    return event
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            for event in self.h2.receive_data(data):
                if getattr(event, "stream_id", 0):
                    self.seen.setdefault(event.stream_id, []).append(event)
            self._flush()

    def status(self, stream: int) -> int:
        """0: reset, or the connection ended."""
        found = self.until(stream, h2.events.ResponseReceived, h2.events.StreamReset)
        return int(dict(found.headers)[":status"]) if isinstance(found, h2.events.ResponseReceived) else 0

    def _flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())


def head(
    path: str = "/x", method: str = "POST", authority: str = "api", *more: tuple[str, str]
) -> tuple[tuple[str, str], ...]:
    return ((":method", method), (":scheme", "http"), (":authority", authority), (":path", path), *more)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        yield lab


def silent(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def patient(sock: socket.socket) -> None:
    """Answers when the whole of a chunked body is there."""
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        data += sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def test_streams_end_with_their_permit_and_others_go_on(lab: ProxyLab) -> None:
    server, other = lab.server("a", serve=silent, app="api"), lab.server("b", serve=patient, app="b")
    web = lab.pod("web", app="web")
    lab.service("api", server)
    lab.service("other", other)
    lab.start()
    with lab.connect(web, "api") as first, lab.connect(web, "other") as second:
        ending, lasting = Speaker(first), Speaker(second)
        streams = [ending.ask(*head(), end=False) for _ in range(3)]
        kept = lasting.ask(*head(), end=False)
        wait_for(lambda: lab.ask("status")["requests_active"] == 4, "they are not under way")
        declare(lab, policy(Direction.INGRESS, server, other))
        lab.change()
        assert [ending.status(stream) for stream in streams] == [403] * 3
        lasting.h2.end_stream(kept)
        lasting._flush()
        assert lasting.status(kept) == 200
    assert lab.ask("status")["requests_revoked"] == 3


SAID_TWICE = {
    "another host field": head("/x", "POST", "api", ("host", "other")),
    "two authorities": (
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "api"),
        (":authority", "b"),
        (":path", "/x"),
    ),
    "two paths": (
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "api"),
        (":path", "/x"),
        (":path", "/y"),
    ),
    "a path behind the fields": (
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "api"),
        ("a", "b"),
        (":path", "/y"),
    ),
    "a line within the path": head("/y HTTP/1.1\r\nhost: api\r\n\r\nPOST /x"),
    "a line within a field": head("/x", "POST", "api", ("a", "b\r\n\r\nPOST /y HTTP/1.1\r\nhost: api\r\n\r\n")),
    "a line within the method": head("/x", "POST /y HTTP/1.1\r\n\r\nPOST"),
    "a field with a capital": head("/x", "POST", "api", ("Transfer-Encoding", "chunked")),
    "a coding of HTTP/1.1": head("/x", "POST", "api", ("transfer-encoding", "chunked")),
    "a connection field": head("/x", "POST", "api", ("connection", "x-role")),
    "a field of a hop": head("/x", "POST", "api", ("upgrade", "websocket")),
    "a space before the colon": head("/x", "POST", "api", ("host ", "other")),
    "an absolute path": head("http://api/x"),
    "a fragment": head("/y#/x"),
    "CONNECT": ((":method", "CONNECT"), (":authority", "api")),
    "extended CONNECT": head("/x", "CONNECT", "api", (":protocol", "websocket")),
}


@pytest.mark.parametrize("case", SAID_TWICE, ids=str)
def test_a_head_that_can_be_read_in_two_ways_reaches_no_server(lab: ProxyLab, case: str) -> None:
    server, web = lab.server("a", app="api"), lab.pod("web", app="web")
    lab.service("api", server)
    declare(lab, policy(Direction.INGRESS, server, web, http=RULE))
    lab.start()
    with lab.connect(web, "api") as sock:
        speaker = Speaker(sock)
        assert speaker.status(speaker.ask(*SAID_TWICE[case])) in (0, 400, 403, 501)
    assert lab._servers[0].requests == 0
    with lab.connect(web, "api") as sock:
        speaker = Speaker(sock)
        assert [speaker.status(speaker.ask(*head(path))) for path in ("/x", "/y", "/x/../x", "/X")] == [
            200,
            403,
            403,
            403,
        ]


def test_trailers_change_nothing_of_what_was_judged(lab: ProxyLab) -> None:
    rule = HttpRule(path="/x")
    server, web = lab.server("a", app="api"), lab.pod("web", app="web")
    lab.service("api", server)
    declare(lab, policy(Direction.INGRESS, server, web, http=(rule,)))
    lab.start()
    with lab.connect(web, "api") as sock:
        speaker = Speaker(sock)
        stream = speaker.ask(*head(), end=False)
        speaker.data(stream, b"body")
        speaker.h2.send_headers(stream, [(":path", "/y"), ("host", "other")], end_stream=True)
        speaker._flush()
        assert speaker.status(stream) in (0, 400, 502, 503)
