"""The Downstream of one request: what an exchange says, as HTTP/1.1 on the server's connection.

In: head, pieces, end. Out: bytes, never more of a body than its head declared and never fewer without the client
noticing (the connection ends instead). Rule: when the answer is over it lets go of its connection, and whatever is
said to it after that is nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.l7proxy.core.http1 import writer
from weft.l7proxy.core.stream import Headers, Peer, Request, Reset, Response

if TYPE_CHECKING:
    from weft.l7proxy.core.http1.accepted import Accepted

_PENDING = -1  # no head yet; afterwards one of the writer's modes


class Answer:
    __slots__ = ("_continued", "_held", "_left", "_mode", "_server", "lost", "peer", "request")

    def __init__(self, server: Accepted, request: Request, peer: Peer) -> None:
        self._server: Accepted | None = server
        self.request, self.peer = request, peer
        self._mode, self._left = _PENDING, 0
        self._held = b""  # a head that waits for its first piece
        self._continued = False
        self.lost: Reset | None = None  # why nobody listens any more

    @property
    def responded(self) -> bool:
        return self._mode != _PENDING

    @property
    def endless(self) -> bool:
        """Only the connection's end can end what was begun, so that an early end needs an RST to be seen."""
        return self._mode == writer.CLOSE or self._mode == writer.RAW

    def informational(self, response: Response) -> None:
        """Not for HTTP/1.0, which has none. 100 once, and only for who waits for it."""
        server, request = self._server, self.request
        if server is None or self._mode != _PENDING or request.version == "1.0" or response.status == 101:
            return
        if response.status == 100:
            if self._continued or not request.expect:
                return
            self._continued = True
        try:
            server.transport.write(writer.informational_head(response))
        except writer.Unsafe:
            return  # it is only a hint; the answer is still to come

    def respond(self, response: Response, end: bool) -> None:
        server, request = self._server, self.request
        if server is None or self._mode != _PENDING:
            return
        if response.status == 101 and (not request.upgrade or end):
            self._broken(server)
            return
        if request.expect and not self._continued:
            server.unread(True)  # the body may come or not: the next bytes have two readings
        elif end:
            server.unread(False)
        try:
            head, self._mode = writer.response_head(response, request, end, not server.keep)
        except writer.Unsafe:
            self._broken(server)
            return
        self._left = 0 if end else response.length
        if end:
            server.transport.write(head)
            self._over(server)
            return
        if self._mode == writer.CLOSE:
            server.keep = False
        if response.more and self._mode != writer.RAW:
            self._held = head
            return
        server.transport.write(head)
        if self._mode == writer.RAW:
            server.tunnel()

    def send(self, data: bytes) -> None:
        server, mode = self._server, self._mode
        if server is None or not data or mode == writer.NONE or mode == _PENDING:
            return
        if mode == writer.FIXED:
            self._left -= len(data)
            if self._left < 0:
                self.reset(Reset.INTERNAL_ERROR)
                return
        elif mode == writer.CHUNKED:
            self._chunk(server, data)
            return
        if self._held:
            data, self._held = self._held + data, b""
        server.transport.write(data)

    def _chunk(self, server: Accepted, data: bytes) -> None:
        held, self._held = self._held, b""
        if len(data) <= writer.WHOLE:
            server.transport.write(held + writer.chunk(data) if held else writer.chunk(data))
            return
        server.transport.write(b"%b%x\r\n" % (held, len(data)))
        server.transport.write(data)
        server.transport.write(b"\r\n")

    def finish(self, trailers: Headers | None = None) -> None:
        server, mode = self._server, self._mode
        if server is None or mode == _PENDING:
            return
        if mode == writer.RAW:
            server.half_close()
            return
        last = b""
        if mode == writer.CHUNKED:
            try:
                last = writer.last_chunk(trailers)
            except writer.Unsafe:
                self.reset(Reset.INTERNAL_ERROR)
                return
        elif mode == writer.FIXED and self._left:
            self.reset(Reset.INTERNAL_ERROR)
            return
        if self._held or last:
            last, self._held = self._held + last, b""
            server.transport.write(last)
        self._server = None
        server.answered()

    def _over(self, server: Accepted) -> None:
        self._server = None
        server.answered()

    def _broken(self, server: Accepted) -> None:
        """The response cannot be written as it is: the client learns that, and nothing of what was in it."""
        self._mode = writer.NONE
        server.break_off(502)

    def reset(self, reason: Reset) -> None:
        """A body that its framing cannot show to be cut short is cut by RST, others by the connection's end."""
        server = self._server
        if server is not None:
            self.flush()
            server.cut(hard=not self.responded or self.endless)
            self.lost = None  # who gave it up knows

    def flush(self) -> None:
        if self._held and self._server is not None:
            held, self._held = self._held, b""
            self._server.transport.write(held)

    def release(self, reason: Reset) -> None:
        """The connection is gone, or the answer is no longer wanted."""
        self._server, self.lost = None, reason

    def close_after(self) -> None:
        if self._server is not None:
            self._server.keep = False

    def pause(self) -> None:
        if self._server is not None:
            self._server.pause_body()

    def resume(self) -> None:
        if self._server is not None:
            self._server.resume_body()
