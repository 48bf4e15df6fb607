"""The upstream side of HTTP/2: one `ClientStream` (an `Upstream`) for each request, on one connection to an
endpoint.

How a stream ends is told so that it can be retried: REFUSED where the server says that it was not processed
(REFUSED_STREAM, GOAWAY below it), RESET_BEFORE_REQUEST where its head was never written, PROTOCOL where what came
is no response, RESET otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from weft.l7proxy.core.http2 import frames
from weft.l7proxy.core.http2.clientstream import REFUSED, ClientStream
from weft.l7proxy.core.http2.connection import Connection
from weft.l7proxy.core.http2.encoder import Line, pseudo
from weft.l7proxy.core.http2.frames import StreamFault
from weft.l7proxy.core.http2.heads import Malformed, ResponseHead, response_head, trailers
from weft.l7proxy.core.http2.hpack import Oversize
from weft.l7proxy.core.http2.streams import Stream
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Failure, Headers, Request, Reset, Response, ResponseSink, Transport

_NO_ADDRESS: Final = ("", 0)
_INFORMATIONAL: Final = 32  # 1xx heads before a final one: they pass whatever the windows say


class Client(Connection):
    """`on_change`: called when `available`, `active` or `closing` may have changed otherwise than by `open`."""

    __slots__ = ("_going", "_local", "_next", "_opened", "_unbegun", "active", "on_change")

    accepts_push_setting = False

    def __init__(self, transport: Transport, limits: Limits, now: Callable[[], float]) -> None:
        Connection.__init__(self, transport, limits, now)
        self.active = 0
        self.on_change: Callable[[], None] | None = None
        self._next = 1
        self._opened = 0
        self._going = False
        self._local: tuple[str, int] | None = None
        self._unbegun: dict[ClientStream, None] = {}
        self.out.append(frames.PREFACE)
        self.prefaced = True
        self.announce((frames.ENABLE_PUSH, 0))

    # What the pool asks

    def open(self, sink: ResponseSink) -> ClientStream:
        opened = self._opened
        stream = ClientStream(self, sink, not opened)
        self._opened = opened = opened + 1
        self.active += 1
        self._unbegun[stream] = None
        if opened == self.limits.requests_per_connection or opened >= frames.MAX_STREAM >> 1:
            self._going = True
            if self.on_change is not None:
                self.on_change()
        return stream

    @property
    def available(self) -> int:
        if self._going or self.dead:
            return 0
        left = self.peer_streams - self.active
        return left if left > 0 else 0

    @property
    def closing(self) -> bool:
        return self._going or self.dead

    @property
    def local(self) -> tuple[str, int]:
        if self._local is None:
            info = getattr(self.transport, "get_extra_info", None)
            name = info("sockname") if info is not None else None
            self._local = (name[0], name[1]) if isinstance(name, tuple) else _NO_ADDRESS
        return self._local

    def close(self) -> None:
        """When nothing is active any more."""
        if not self.dead:
            self.fail(Reset.NO_ERROR, "")

    # Streams

    def begin_stream(self, stream: ClientStream, request: Request, line: Line) -> bool:
        """Gives it a number. False: it cannot be sent, and was told why."""
        self._unbegun.pop(stream, None)
        if request.upgrade or self.peer_list:
            failure = self._why_not(request, line)
            if failure is not None:
                stream.open_in = stream.open_out = False
                self.over(stream)
                stream.let_go().failed(*failure)
                return False
        id = stream.id = self._next
        self._next = id + 2
        stream.send_window, stream.receive_window = self.peer_window, self.own_window
        self.streams[id] = stream
        return True

    def _why_not(self, request: Request, line: Line) -> tuple[Failure, str] | None:
        if request.upgrade:
            return Failure.PROTOCOL, "an upgrade has no way over HTTP/2"
        if self.peer_list and self.peer_list < self.limits.head:
            fields = pseudo(line) + request.headers
            size = sum(map(len, chain.from_iterable(fields))) + 32 * len(fields)
            if size > self.peer_list:
                return Failure.OVERFLOW, "a head larger than the server takes"
        return None

    def never_begun(self, stream: ClientStream) -> None:
        self._unbegun.pop(stream, None)
        self.over(stream)

    def over(self, stream: Stream) -> None:
        self.active -= 1
        if self._going and not self.active and not self.dead:
            self.hang_up(Reset.NO_ERROR, "the server went away")
        if self.on_change is not None:
            self.on_change()

    def is_idle(self, id: int) -> bool:
        return id >= self._next or not id & 1

    # What comes

    def on_settings(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def on_block(self, id: int, end: bool, block: bytes) -> None:
        stream = self.streams.get(id)
        if stream is None or not stream.open_in:
            self.late_headers(id, block)
            return
        assert isinstance(stream, ClientStream)
        made: Any = self.decoder.known.get(block)
        if type(made) is not (list if stream.answered else ResponseHead):
            made = self._made(stream, block)
        if stream.answered:
            if not end:
                raise StreamFault(id, Reset.PROTOCOL_ERROR, "a second head")
            self.input_ended(stream, made.copy() or None)
        else:
            self._response(stream, made, end)

    def _made(self, stream: ClientStream, block: bytes) -> ResponseHead | Headers:
        try:
            fields = self.decode(block)
            made = trailers(fields) if stream.answered else response_head(fields)
        except Malformed as error:
            raise StreamFault(stream.id, Reset.PROTOCOL_ERROR, str(error)) from None
        except Oversize:
            raise StreamFault(stream.id, Reset.PROTOCOL_ERROR, "a head over the limits") from None
        self.decoder.keep(block, made)
        return made

    def _response(self, stream: ClientStream, head: ResponseHead, end: bool) -> None:
        status = head.status
        if status < 200:
            stream.informed += 1
            if end or stream.informed > _INFORMATIONAL:
                raise StreamFault(stream.id, Reset.PROTOCOL_ERROR, "1xx at the end, or without end")
            stream.sink.informational(Response(status, head.headers.copy(), version="2"))
            return
        stream.answered = True
        if stream.head_only or status == 204 or status == 304:
            stream.head_only = True
            length = head.length
        else:
            length = stream.length = head.length
            if end:
                length = 0
        response = Response(status, head.headers, length=length, version="2")
        response.named = head.named
        if not end:
            stream.sink.response(response, False)
            return
        if stream.length > 0:
            raise StreamFault(stream.id, Reset.PROTOCOL_ERROR, "less DATA than content-length")
        stream.open_in = False
        sink = stream.let_go()
        if stream.open_out:
            stream.close(Reset.CANCEL)
        else:
            self.forget(stream, frames.END_STREAM)
        sink.response(response, True)

    # The end

    def on_goaway(self, last: int, code: int) -> None:
        """Streams above `last` were not processed; the others may end."""
        self._going = True
        for stream in [stream for id, stream in self.streams.items() if id > last]:
            self.end_stream(stream, frames.RST_STREAM)
            stream.broken(Reset.REFUSED_STREAM, "above the last stream of GOAWAY", REFUSED)
        self._drop_unbegun(Failure.REFUSED, "the server goes away")
        if not self.active and not self.dead:
            self.hang_up(Reset.NO_ERROR, "the server went away")
        elif self.on_change is not None:
            self.on_change()

    def _drop_unbegun(self, failure: Failure, detail: str) -> None:
        for stream in list(self._unbegun):
            del self._unbegun[stream]
            stream.open_in = stream.open_out = False
            self.over(stream)
            stream.let_go().failed(failure, detail)

    def abandon(self, reason: Reset, detail: str) -> None:
        """We found the server at fault, or hang up."""
        Connection.abandon(self, reason, detail)
        self._drop_unbegun(Failure.RESET_BEFORE_REQUEST, detail)
        if self.on_change is not None:
            self.on_change()

    def tick(self, now: float) -> None:
        """About once a second: ends a connection whose server stopped within a frame or a head."""
        stalled = "" if self.dead else self.stalled(now)
        if stalled:
            self.fail(Reset.ENHANCE_YOUR_CALM, stalled)

    def eof(self) -> None:
        if not self.dead:
            self.transport.close()
        self.lost(Failure.RESET)

    def lost(self, failure: Failure) -> None:
        self.dead = True
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            assert isinstance(stream, ClientStream)
            if stream.open_in or stream.open_out:
                stream.open_in = stream.open_out = False
                stream.backlog = None
                self.over(stream)
                stream.let_go().failed(failure, "connection lost")
        self.abandon(Reset.CANCEL, "connection lost")
        self.out.clear()
