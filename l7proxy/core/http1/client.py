"""The upstream side of HTTP/1.1: one request at a time on a connection of a pool, its response to the sink.

States: IDLE -> HEAD (a call is open, its response awaited) -> BODY -> IDLE; TUNNEL (after 101); CLOSED. Rules:
1. the connection is used again only if request and response both ended, both sides want it and nothing is left
in the buffer: surplus bytes would be the next client's response; 2. a failure is told once, as
RESET_BEFORE_REQUEST if nothing of the request was written; 3. state is set before each call out.
"""

from __future__ import annotations

from collections.abc import Callable

from weft.l7proxy.core.http1 import responses
from weft.l7proxy.core.http1.body import Body, Fixed, UntilClose
from weft.l7proxy.core.http1.call import Call
from weft.l7proxy.core.http1.fields import Malformed
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Failure, Response, ResponseSink, Transport

IDLE, HEAD, BODY, TUNNEL, CLOSED = range(5)
_INFORMATIONAL_MOST = 32  # 1xx of one request: no server needs more, and each costs us a write


class Client:
    """`on_change()`: `available`, `active` or `closing` changed. `local`: set by who connected, for the record.
    `available`: 1 while it is IDLE and not closing."""

    def __init__(self, transport: Transport, limits: Limits, now: Callable[[], float]) -> None:
        self.transport = transport
        self.on_change: Callable[[], None] | None = None
        self.local: tuple[str, int] = ("", 0)
        self._limits = limits
        self._state, self._buffer, self._scanned = IDLE, b"", 0
        self._call: Call | None = None
        self._body: Body | None = None
        self._keep, self._carried = True, 0
        self.available = 1
        self.closing = self._eof = self._running = self._paused = self._write_paused = False
        self._ended = self._finished = False  # of a tunnel: the way from the server, the way to it
        self._informational = 0

    # What the pool asks.

    def open(self, sink: ResponseSink) -> Call:
        call = self._call = Call(self, sink, self._carried == 0)
        self._state, self._keep, self._informational, self.available = HEAD, True, 0, 0
        self._carried += 1
        return call

    @property
    def active(self) -> int:
        return 0 if self._call is None else 1

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if self._state == IDLE:
                self._shut()
            self._changed()

    # What the shell tells.

    def receive(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._running:
            self._run()

    def eof(self) -> None:
        self._eof = True
        if not self._running:
            self._run()

    def lost(self, failure: Failure) -> None:
        """Also of a body that only the connection's end can end: an end without FIN may not be all of it."""
        self._fail(failure, "connection lost")

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._call is not None:
            self._call.sink.pause_request()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._call is not None:
            self._call.sink.resume_request()

    # What a Call asks.

    def pause(self) -> None:
        if not self._paused and self._state != CLOSED:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._state != CLOSED:
            self._paused = False
            self.transport.resume_reading()
            if not self._running:
                self._run()

    def half_close(self) -> None:
        if not self._finished:
            self._finished = True
            self.transport.write_eof()
            if self._ended:
                self._shut()
                self._changed()

    def give_up(self, failure: Failure | None, detail: str) -> None:
        """HTTP/1.1 has no other way to take a request back. `failure` None: who asks for it knows."""
        self._fail(failure, detail)
        self.transport.abort()

    def unwritten(self, failure: Failure | None, detail: str) -> None:
        """Nothing of the call went out: the connection is as good as before."""
        call = self._call
        if call is None:
            return
        call.release()
        self._call, self._state, self.available = None, IDLE, 1
        self._carried -= 1
        if self._paused:
            self.resume()
        if self.closing or self._buffer:
            self._shut()
        if failure is not None:
            call.sink.failed(failure, detail)
        self._changed()

    # The loop.

    def _run(self) -> None:
        self._running = True
        try:
            while self._buffer and not self._paused:
                if not (self._read_head() if self._state == HEAD else self._step()):
                    break
            if self._eof and not (self._buffer and self._paused):
                self._at_eof()
        except Malformed as wrong:
            self.give_up(Failure.PROTOCOL, wrong.detail)
        finally:
            self._running = False

    def _step(self) -> bool:
        state = self._state
        if state == BODY:
            return self._read_body()
        data, self._buffer = self._buffer, b""
        if state == TUNNEL and self._call is not None:
            self._call.sink.response_body(data)
        elif state == IDLE:  # nobody asked
            self.closing = True
            self._shut()
            self._changed()
        return True

    def _at_eof(self) -> None:
        if self._state == TUNNEL:
            if not self._ended and self._call is not None:
                self._ended = True
                self._call.sink.response_end(None)
                if self._finished:
                    self._shut()
                    self._changed()
        elif self._state == BODY and isinstance(self._body, UntilClose):
            self._complete()
        elif self._state == IDLE:
            self.closing = True
            self._shut()
            self._changed()
        elif self._state != CLOSED:
            self._fail(Failure.RESET, "closed before a whole response")
            self.transport.close()

    def _read_head(self) -> bool:
        call, buffer = self._call, self._buffer
        assert call is not None
        if not call.written:
            raise Malformed(502, "bytes before a request")
        stop = buffer.find(b"\r\n\r\n", self._scanned) + 4
        if stop == 3:
            return self._wait_for_head(buffer)
        if stop > self._limits.head:
            raise Malformed(502, "head too long")
        response, body, keep, upgrade = responses.parse(buffer[:stop], call.method, self._limits)
        self._buffer, self._scanned = buffer[stop:], 0
        if response.status >= 200:
            self._keep = keep
            self._begin(call, response, body)
        elif response.status == 101:
            self._switch(call, response, upgrade)
        else:
            self._inform(call, response)
        return True

    def _wait_for_head(self, buffer: bytes) -> bool:
        if len(buffer) > self._limits.head:
            raise Malformed(502, "head too long")
        if buffer.count(b"\n", self._scanned) != buffer.count(b"\r\n", max(self._scanned - 1, 0)):
            raise Malformed(502, "a line that ends in LF alone")
        self._scanned = max(len(buffer) - 3, 0)
        return False

    def _inform(self, call: Call, response: Response) -> None:
        self._informational += 1
        if self._informational > _INFORMATIONAL_MOST:
            raise Malformed(502, "too many informational responses")
        call.sink.informational(response)

    def _switch(self, call: Call, response: Response, upgrade: bytes) -> None:
        if not call.upgrade or upgrade != call.upgrade:
            raise Malformed(502, "a change of protocol that nobody asked for")
        self._state, self.closing = TUNNEL, True
        call.tunnel()
        call.sink.response(response, False)
        self._changed()

    def _begin(self, call: Call, response: Response, body: Body | None) -> None:
        if body is None:
            self._complete(response)
            return
        self._state, self._body = BODY, body
        buffer = self._buffer
        response.more = body.brings(buffer)
        call.sink.response(response, False)
        whole = type(body) is Fixed and len(buffer) == body.left and self._buffer is buffer
        if whole and self._call is call and not self._paused:  # head and body in one read, as most are
            self._buffer = b""
            call.sink.response_body(buffer)
            if self._call is call:
                self._complete()

    def _read_body(self) -> bool:
        call, body, data = self._call, self._body, self._buffer
        assert call is not None and body is not None
        self._buffer = b""
        piece, rest = body.feed(data)
        if piece:
            call.sink.response_body(piece)
        if rest is not None and self._call is call:
            self._buffer = rest
            self._complete()
        return True

    def _complete(self, response: Response | None = None) -> None:
        """The response is over. `response`: its head, where that is all of it."""
        call, body = self._call, self._body
        assert call is not None
        reuse = self._keep and call.finished and not (self._buffer or self.closing or self._eof)
        call.release()
        self._call = self._body = None
        if reuse:
            self._state, self.available = IDLE, 1
            if self._paused:
                self.resume()
        else:
            self.closing = True
            self._shut(hard=not call.finished)
        if response is not None:
            call.sink.response(response, True)
        else:
            call.sink.response_end(body.trailers if body is not None else None)
        self._changed()

    # Ends.

    def _fail(self, failure: Failure | None, detail: str) -> None:
        call = self._call
        self._call = self._body = None
        self._state, self._buffer, self.closing, self.available = CLOSED, b"", True, 0
        if call is not None:
            call.release()
            if failure is Failure.RESET and not call.written:
                failure = Failure.RESET_BEFORE_REQUEST
            if failure is not None:
                call.sink.failed(failure, detail)
        self._changed()

    def _shut(self, hard: bool = False) -> None:
        """`hard`: what is left to be sent is not wanted any more."""
        self._state, self._buffer, self.available = CLOSED, b"", 0
        call, self._call = self._call, None
        if call is not None:
            call.release()
        if hard:
            self.transport.abort()
        else:
            self.transport.close()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
