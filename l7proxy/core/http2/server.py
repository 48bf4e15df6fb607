"""The accepted side of HTTP/2: requests in, responses out.

Answered here, without the handler: CONNECT (501), heads over the limits (431). Refused with REFUSED_STREAM, so that
the client may send them elsewhere: streams over the limit, and those that come after the last GOAWAY.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from weft.l7proxy.core.http2 import control, frames, guard
from weft.l7proxy.core.http2.connection import Connection
from weft.l7proxy.core.http2.frames import Fault, StreamFault
from weft.l7proxy.core.http2.heads import Malformed, RequestHead, trailers
from weft.l7proxy.core.http2.hpack import Oversize
from weft.l7proxy.core.http2.serverstream import NOBODY, ServerStream
from weft.l7proxy.core.http2.shapes import Shapes
from weft.l7proxy.core.http2.streams import Stream
from weft.l7proxy.core.http2.turn import TURN
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Handler, Peer, Request, Reset, Response, Transport

_DRAIN: Final = b"weftdrai"  # the PING whose answer says that the first GOAWAY was read
_DRAIN_WAIT: Final = 1.0  # seconds, for a peer that answers no PING


class Server(Connection):
    __slots__ = ("_drained_at", "_final", "_handler", "_last_seen", "_quiet_since", "_shapes", "answers", "peer")

    accepts_push_setting = True

    def __init__(
        self, transport: Transport, handler: Handler, peer: Peer, limits: Limits, now: Callable[[], float]
    ) -> None:
        Connection.__init__(self, transport, limits, now)
        self._handler, self.peer = handler, peer
        peer.protocol = "http2"
        self._drained_at: float | None = None
        self._final = False  # the last GOAWAY has gone
        self._last_seen, self._quiet_since = 0, now()
        self.answers = 0
        self._shapes = Shapes()
        self.announce((frames.MAX_CONCURRENT_STREAMS, limits.streams))

    @classmethod
    def upgrade(
        cls,
        transport: Transport,
        handler: Handler,
        peer: Peer,
        limits: Limits,
        now: Callable[[], float],
        request: Request,
        settings_header_bytes: bytes,
    ) -> Server:
        """After the 101 was written to `transport`: `request`, wholly read and without a body, becomes stream 1.
        `settings_header_bytes`: the value of HTTP2-Settings, checked before the 101 by `settings_of_upgrade`
        (ValueError: answer 400). What the client sends after it, beginning with the preface, goes to `receive`."""
        payload = frames.settings_of_upgrade(settings_header_bytes)
        server = cls(transport, handler, peer, limits, now)
        TURN.depth += 1
        try:
            server.touch()
            control.apply(server, frames.parse_settings(payload))
            server.last_in = 1
            request.upgrade, request.version = b"", "2"
            request.headers = [field for field in request.headers if field[0] != b"http2-settings"]
            head = RequestHead(request.method, b"", b"", [], b"", 0, False, False)
            server._serve(1, head, request, True)
        finally:
            TURN.leave()
        return server

    # Requests

    def on_block(self, id: int, end: bool, block: bytes) -> None:
        stream = self.streams.get(id)
        if stream is not None and stream.open_in:
            self._trailers(stream, end, block)
            return
        if id <= self.last_in:
            self.late_headers(id, block)
            return
        if not id & 1:
            raise Fault(Reset.PROTOCOL_ERROR, "a stream of even number from a client")
        self.last_in = id
        head = self.decoder.known.get(block)
        if type(head) is not RequestHead:
            head = self._head(id, end, block)
            if head is None:
                return
        if self._final or len(self.streams) >= self.limits.streams:
            self._refuse(id)
            return
        method, path, authority, headers, scheme, length, expect, _, named = head
        if end:
            if length > 0:
                raise StreamFault(id, Reset.PROTOCOL_ERROR, "less DATA than content-length")
            length = 0
        request = Request(method, path, authority, headers.copy())
        request.scheme, request.version, request.length = scheme, "2", length
        request.expect, request.named = expect, named
        self._serve(id, head, request, end)
        if self.limits.requests_per_connection and id + 1 >= 2 * self.limits.requests_per_connection:
            self.drain()

    def _refuse(self, id: int) -> None:
        """Counted once the client has read how many it may open, and while it may open any."""
        self.append(frames.rst_stream(id, Reset.REFUSED_STREAM))
        self.remember(id, frames.RST_STREAM)
        if self.acknowledged and not self._final:
            self.guard.count(guard.ERRORS)

    def _head(self, id: int, end: bool, block: bytes) -> RequestHead | None:
        """A head that was not seen before. None: it was answered."""
        try:
            head = self._shapes.head(self.decode(block), self.decoder.fresh)
        except Malformed as error:
            raise StreamFault(id, Reset.PROTOCOL_ERROR, str(error)) from None
        except Oversize:
            self._answer(id, end, 431)
            return None
        if self.decoder.keep(block, head) and head.named is not None:
            head.named.steady = True
        return head

    def _serve(self, id: int, head: RequestHead, request: Request, end: bool) -> None:
        if head.method == b"CONNECT":
            self._answer(id, end, 501)
            return
        stream = ServerStream(self, id, head, self.now())
        stream.open_in = not end
        stream.sink = NOBODY
        self.streams[id] = stream
        sink = self._handler.request(request, stream, end)
        if stream.open_in or stream.open_out:
            stream.sink = sink

    def _answer(self, id: int, end: bool, status: int) -> None:
        """By ourselves. Counted, for it costs the client nothing."""
        self.guard.count(guard.ERRORS)
        stream = ServerStream(self, id, RequestHead(b"", b"", b"", [], b"", -1, False, False), self.now())
        stream.open_in, stream.sink = not end, NOBODY
        self.streams[id] = stream
        stream.respond(Response(status, [(b"content-length", b"0")], length=0), True)

    def _trailers(self, stream: Stream, end: bool, block: bytes) -> None:
        try:
            fields = trailers(self.decode(block))
        except (Malformed, Oversize) as error:
            raise StreamFault(stream.id, Reset.PROTOCOL_ERROR, str(error) or "trailers too large") from None
        if not end:
            raise StreamFault(stream.id, Reset.PROTOCOL_ERROR, "a second head")
        self.input_ended(stream, fields or None)

    def is_idle(self, id: int) -> bool:
        return id > self.last_in or not id & 1

    def was_reset(self, stream: Stream) -> None:
        """Rapid reset: work that is called off before it was answered."""
        assert isinstance(stream, ServerStream)
        if not stream.begun:
            self.guard.count(guard.RESETS, self.answers)

    # The end

    def on_goaway(self, last: int, code: int) -> None:
        """The client opens nothing more: what is there is answered."""
        self._final = True
        if not self.streams:
            self.hang_up(Reset.NO_ERROR, "the client goes away")

    def drain(self) -> None:
        """Twice (6.8): first that it ends, then, when the client must have read that, what was taken."""
        if self.dead or self._drained_at is not None:
            return
        self._drained_at = self.now()
        TURN.depth += 1
        try:
            if not self.settled:
                self._last_goaway()
                return
            self.append(frames.goaway(frames.MAX_STREAM, Reset.NO_ERROR))
            self.append(frames.ping(_DRAIN))
        finally:
            TURN.leave()

    def on_pong(self, data: bytes) -> None:
        if data == _DRAIN and self._drained_at is not None:
            self._last_goaway()

    def _last_goaway(self) -> None:
        if self._final or self.dead:
            return
        self._final = True
        self.append(frames.goaway(self.last_in, Reset.NO_ERROR))
        if not self.streams:
            self.hang_up(Reset.NO_ERROR, "drained")

    def over(self, stream: Stream) -> None:
        if self._final and not self.streams and not self.dead:
            self.hang_up(Reset.NO_ERROR, "drained")

    def eof(self) -> None:
        if self.dead:
            return
        self._final = True
        for stream in list(self.streams.values()):
            if stream.open_in:
                self.end_stream(stream, -1)
                stream.broken(Reset.CANCEL, "the client sends no more")
        if not self.streams and not self.dead:
            self.hang_up(Reset.NO_ERROR, "the client sends no more")

    def lost(self) -> None:
        self.abandon(Reset.CANCEL, "connection lost")
        self.out.clear()

    @property
    def idle(self) -> bool:
        return not self.streams and not self.pending and self.block is None and self.settled

    def tick(self, now: float) -> None:
        if self.dead:
            return
        TURN.depth += 1
        try:
            self._judge(now)
        finally:
            TURN.leave()

    def _judge(self, now: float) -> None:
        limits = self.limits
        stalled = self.stalled(now)
        if stalled:
            self.fail(Reset.ENHANCE_YOUR_CALM, stalled)
            return
        for stream in list(self.streams.values()):
            assert isinstance(stream, ServerStream)
            if self._is_stuck(stream, now):
                self.append(frames.rst_stream(stream.id, Reset.CANCEL))
                self.end_stream(stream, frames.RST_STREAM)
                stream.broken(Reset.CANCEL, "nothing moves")
        if self._drained_at is not None and now - self._drained_at > _DRAIN_WAIT:
            self._last_goaway()
        if self.streams or self.last_in != self._last_seen:
            self._last_seen, self._quiet_since = self.last_in, now
        elif now - self._quiet_since > (limits.idle_timeout if self.settled else limits.head_timeout):
            self.drain()

    def _is_stuck(self, stream: ServerStream, now: float) -> bool:
        """An answer that the client does not take, or a body that it announced and does not send."""
        if stream.backlog is not None and now - stream.backlog.since > self.limits.body_timeout:
            return True
        if not stream.open_in or stream.begun or stream.patient or stream.paused or stream.seen != stream.received:
            stream.seen, stream.since = stream.received, now
            return False
        return now - stream.since > self.limits.body_timeout
