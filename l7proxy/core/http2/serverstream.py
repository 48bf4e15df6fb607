"""One request of an accepted connection: the `Downstream` that its handler answers by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from weft.l7proxy.core.http2 import frames
from weft.l7proxy.core.http2.heads import RequestHead, response_fields
from weft.l7proxy.core.http2.streams import Stream
from weft.l7proxy.core.stream import Headers, RequestSink, Reset, Response

if TYPE_CHECKING:
    from weft.l7proxy.core.http2.server import Server


class _Nobody:
    """Stands behind a stream that was answered here, and behind those that are over: a stream that still knew its
    sink would be a cycle with it, for the garbage collector to find."""

    def body(self, data: bytes) -> None: ...
    def end(self, trailers: Headers | None) -> None: ...
    def gone(self, reason: Reset) -> None: ...
    def pause_response(self) -> None: ...
    def resume_response(self) -> None: ...


NOBODY: Final = _Nobody()


class ServerStream(Stream):
    """`begun`: the final head has gone. `patient`: it may be silent for long. `seen`, `since`: how much of the body
    there was when it was last looked at, and since when there is no more."""

    __slots__ = ("head_only", "patient", "peer", "seen", "since", "sink")

    connection: Server
    sink: RequestSink

    def __init__(self, connection: Server, id: int, head: RequestHead, since: float) -> None:
        Stream.__init__(self, connection, id)
        self.peer = connection.peer
        self.length, self.patient = head.length, head.patient
        self.head_only = head.method == b"HEAD"
        self.seen, self.since = 0, since

    def informational(self, response: Response) -> None:
        if self.open_out and not self.begun and response.status != 101:
            self.connection.write_headers(self.id, response_fields(response.status, response.headers), False)

    def respond(self, response: Response, end: bool) -> None:
        if self.begun or not self.open_out:
            return
        self.begun = True
        connection, status = self.connection, response.status
        connection.answers += 1
        end = end or self.head_only or status == 204 or status == 304
        connection.write_headers(self.id, response_fields(status, response.headers), end)
        if end:
            self.sent_all()

    def sent_all(self) -> None:
        """An answer before the request's end: the rest is not wanted (8.1)."""
        self.open_out = False
        if self.open_in:
            self.close(Reset.NO_ERROR)
        else:
            self.connection.forget(self, frames.END_STREAM)
            self.sink = NOBODY

    def close(self, reason: Reset) -> None:
        Stream.close(self, reason)
        self.sink = NOBODY

    def close_after(self) -> None:
        self.connection.drain()

    def deliver(self, data: bytes) -> None:
        self.sink.body(data)

    def ended(self, trailers: Headers | None) -> None:
        self.sink.end(trailers)

    def broken(self, reason: Reset, detail: str, code: int = -1) -> None:
        sink, self.sink = self.sink, NOBODY
        sink.gone(reason)

    def ask_to_pause(self) -> None:
        self.sink.pause_response()

    def ask_to_resume(self) -> None:
        self.sink.resume_response()
