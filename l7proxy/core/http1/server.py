"""The accepted side of HTTP/1.1: bytes of a client in, requests to the handler, one in work at a time.

A loop of steps: each consumes something, or says that it waits. Rule: what comes before its time stays in `_buffer`
unparsed and reading is paused, so a client's lead is what one read brings. States and ends: accepted.py.
"""

from __future__ import annotations

from collections.abc import Callable

from weft.l7proxy.core.http1 import requests
from weft.l7proxy.core.http1.accepted import (
    BODY,
    CLOSED,
    DRAIN,
    DROPPED_MOST,
    HEAD,
    LINGER,
    TUNNEL,
    WAIT,
    Accepted,
)
from weft.l7proxy.core.http1.answer import Answer
from weft.l7proxy.core.http1.body import Chunked, Fixed
from weft.l7proxy.core.http1.fields import Malformed
from weft.l7proxy.core.http2 import settings_of_upgrade
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Handler, Peer, Request, Transport

_LEADING_MOST = 4  # empty lines before a request: RFC 9112 (2.2) asks to pass over one
_TO_H2C = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"


class Server(Accepted):
    """`on_h2c(request, settings, rest)`: takes over after an h2c upgrade: the 101 is written, the request (it has
    no body) is HTTP/2's stream 1, `settings` a SETTINGS payload, `rest` what was read behind the request. This
    codec is closed then. None: such upgrades are ignored, as RFC 9110 (7.8) allows."""

    def __init__(
        self, transport: Transport, handler: Handler, peer: Peer, limits: Limits, now: Callable[[], float]
    ) -> None:
        super().__init__(transport, limits, now)
        self.on_h2c: Callable[[Request, bytes, bytes], None] | None = None
        self._handler, self._peer = handler, peer
        self._scanned = self._leading = self._served = 0

    def receive(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._running:
            self._run()

    def eof(self) -> None:
        self._eof = True
        self._go_on()

    def _run(self) -> None:
        self._running = True
        try:
            while self._buffer:
                if not (self._read_head() if self._state == HEAD else self._step()):
                    break
            if self._eof:
                self._at_eof()
        finally:
            self._running = False
        if self._held or self._buffer or self._body_paused:
            self._flow()

    def _step(self) -> bool:
        state = self._state
        if state == BODY:
            return not self._body_paused and self._read_body()
        if state == TUNNEL:
            return not self._body_paused and self._pass_on()
        return state != WAIT and self._drop()

    def _at_eof(self) -> None:
        """Answers that are owed still go out, to requests that wait in the buffer, too."""
        state = self._state
        if state == TUNNEL:
            if not self._buffer and not self._ended:
                self._ended = True
                if self._sink is not None:
                    self._sink.end(None)
                if self._finished:
                    self._close()
        elif state == BODY:
            if not self._buffer:
                self._refuse(Malformed(400, "the connection ends within a body"))
        elif state in (DRAIN, LINGER) or (state == HEAD and not (self._write_paused and self._buffer)):
            self._close()

    def _read_head(self) -> bool:
        if self._write_paused:
            return False
        buffer = self._buffer
        if buffer[0] < 33:  # llhttp passes over whatever CR and LF; we, over a few CRLF
            return self._skip_empty_line(buffer)
        stop = buffer.find(b"\r\n\r\n", self._scanned) + 4
        if stop == 3:
            return self._wait_for_head(buffer)
        self._scanned = self._leading = 0
        self._begun = False
        self._buffer = buffer[stop:]
        try:
            if stop > self._limits.head:
                raise Malformed(431, "head too long")
            request, keep, settings = requests.parse(buffer[:stop], self._limits)
        except Malformed as wrong:
            return self._refuse(wrong)
        self._progress += 1
        self._served += 1
        most = self._limits.requests_per_connection
        self.keep = keep and not self._draining and not 0 < most <= self._served
        if settings is not None and self.on_h2c is not None:
            return self._hand_over(request, settings, self.on_h2c)
        self._begin(request)
        return True

    def _begin(self, request: Request) -> None:
        length = request.length
        answer = self._answer = Answer(self, request, self._peer)
        if length:
            self._body = Fixed(length) if length > 0 else Chunked()
            self._state = BODY
            request.more = self._body.brings(self._buffer)
        else:
            self._state = WAIT
        sink = self._handler.request(request, answer, length == 0)
        if self._answer is answer:
            self._sink = sink
            if self._write_paused:
                sink.pause_response()
        elif answer.lost is not None:
            sink.gone(answer.lost)

    def _skip_empty_line(self, buffer: bytes) -> bool:
        self._time_head()
        if buffer == b"\r":
            return False
        self._leading += 1
        if not buffer.startswith(b"\r\n") or self._leading > _LEADING_MOST:
            return self._refuse(Malformed(400, "no request but empty lines"))
        self._buffer = buffer[2:]
        return True

    def _wait_for_head(self, buffer: bytes) -> bool:
        """What cannot become a head any more is refused at once."""
        limits, at = self._limits, self._scanned
        if not buffer[:1].isalpha() or buffer.count(b"\n", at) != buffer.count(b"\r\n", max(at - 1, 0)):
            return self._refuse(Malformed(400, "no request of HTTP/1"))
        if len(buffer) > limits.request_line + 1 and buffer.find(b"\r\n", 0, limits.request_line + 2) < 0:
            return self._refuse(Malformed(414, "request line too long"))
        if len(buffer) > limits.head:
            return self._refuse(Malformed(431, "head too long"))
        self._scanned = max(len(buffer) - 3, 0)
        self._time_head()
        return False

    def _time_head(self) -> None:
        """The head's first byte starts its time; those that follow do not start it again."""
        if not self._begun:
            self._begun, self._seen, self._since = True, self._progress, self._now()

    def _read_body(self) -> bool:
        body, sink, data = self._body, self._sink, self._buffer
        assert body is not None
        self._buffer = b""
        self._progress += 1
        try:
            piece, rest = body.feed(data)
        except Malformed as wrong:
            return self._refuse(wrong)
        if rest is not None:
            self._buffer, self._state, self._body = rest, WAIT, None
        if sink is not None and piece:
            sink.body(piece)
        if rest is not None and self._sink is sink is not None:
            sink.end(body.trailers)
        return True

    def _pass_on(self) -> bool:
        data, self._buffer = self._buffer, b""
        if self._sink is not None:
            self._sink.body(data)
        return True

    def _drop(self) -> bool:
        """DRAIN: to the end of the body. LINGER: until the client closes. CLOSED: whatever still comes."""
        data, self._buffer = self._buffer, b""
        self._dropped += len(data)
        if self._state == CLOSED:
            return False
        if self._dropped > DROPPED_MOST:
            self._close()
        elif self._state == DRAIN and self._body is not None:
            self._progress += 1
            try:
                _, rest = self._body.feed(data)
            except Malformed as wrong:
                return self._refuse(wrong)
            if rest is not None:
                self._buffer, self._body = rest, None
                self._turn()
        return True

    def _hand_over(
        self, request: Request, settings: bytes, on_h2c: Callable[[Request, bytes, bytes], None]
    ) -> bool:
        try:
            payload = settings_of_upgrade(settings)
        except ValueError as wrong:
            return self._refuse(Malformed(400, str(wrong)))
        rest, self._buffer, self._state = self._buffer, b"", CLOSED
        request.upgrade = b""
        self.transport.write(_TO_H2C)
        on_h2c(request, payload, rest)
        return False
