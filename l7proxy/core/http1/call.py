"""The Upstream of one request: what an exchange sends, as HTTP/1.1 on the client's connection.

Rule: as answer.py: never more of a body than its head declared, never fewer without the server noticing, and
when the call is over it lets go of its connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.l7proxy.core.http1 import writer
from weft.l7proxy.core.stream import Failure, Headers, Request, Reset, ResponseSink

if TYPE_CHECKING:
    from weft.l7proxy.core.http1.client import Client


class Call:
    __slots__ = (
        "_client",
        "_held",
        "_left",
        "_mode",
        "finished",
        "fresh",
        "local",
        "method",
        "sink",
        "upgrade",
        "written",
    )

    def __init__(self, client: Client, sink: ResponseSink, fresh: bool) -> None:
        self._client: Client | None = client
        self.sink, self.fresh, self.local = sink, fresh, client.local
        self.method = self.upgrade = b""
        self.written = self.finished = False  # the head; the whole request
        self._mode, self._left, self._held = writer.NONE, 0, b""

    def request(self, request: Request, end: bool) -> None:
        client = self._client
        if client is None or self.written:
            return
        try:
            head, self._mode = writer.request_head(request, end)
        except writer.Unsafe:
            client.unwritten(Failure.PROTOCOL, "a request that cannot be written as one")
            return
        self.method, self.upgrade, self._left = request.method, request.upgrade, request.length
        self.written, self.finished = True, end
        if request.more and not end:
            self._held = head
        else:
            client.transport.write(head)

    def send(self, data: bytes) -> None:
        client, mode = self._client, self._mode
        if client is None or not data or mode == writer.NONE or (self.finished and mode != writer.RAW):
            return
        if mode == writer.FIXED:
            self._left -= len(data)
            if self._left < 0:
                client.give_up(Failure.PROTOCOL, "a request body longer than its content-length")
                return
        elif mode == writer.CHUNKED:
            self._chunk(client, data)
            return
        if self._held:
            data, self._held = self._held + data, b""
        client.transport.write(data)

    def _chunk(self, client: Client, data: bytes) -> None:
        held, self._held = self._held, b""
        if len(data) <= writer.WHOLE:
            client.transport.write(held + writer.chunk(data) if held else writer.chunk(data))
            return
        client.transport.write(b"%b%x\r\n" % (held, len(data)))
        client.transport.write(data)
        client.transport.write(b"\r\n")

    def finish(self, trailers: Headers | None = None) -> None:
        client, mode = self._client, self._mode
        if client is None or not self.written:
            return
        if mode == writer.RAW:
            client.half_close()
            return
        if self.finished:
            return
        last = b""
        if mode == writer.FIXED and self._left:
            client.give_up(Failure.PROTOCOL, "a request body shorter than its content-length")
            return
        if mode == writer.CHUNKED:
            try:
                last = writer.last_chunk(trailers)
            except writer.Unsafe:
                client.give_up(Failure.PROTOCOL, "trailers that cannot be written")
                return
        self.finished = True
        if self._held or last:
            last, self._held = self._held + last, b""
            client.transport.write(last)

    def tunnel(self) -> None:
        self._mode = writer.RAW

    def release(self) -> None:
        self._client = None
        self._held = b""

    def reset(self, reason: Reset) -> None:
        client = self._client
        if client is None:
            return
        if self.written and not self._held:
            client.give_up(None, "")
        else:
            client.unwritten(None, "")

    def pause(self) -> None:
        if self._client is not None:
            self._client.pause()

    def resume(self) -> None:
        if self._client is not None:
            self._client.resume()
