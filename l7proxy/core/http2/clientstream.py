"""One request on an upstream connection: the `Upstream` that whoever opened it sends by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from weft.l7proxy.core.http2.frames import StreamFault
from weft.l7proxy.core.http2.streams import Stream
from weft.l7proxy.core.stream import Failure, Headers, Request, Reset, Response, ResponseSink, Upstream

if TYPE_CHECKING:
    from weft.l7proxy.core.http2.client import Client

REFUSED: Final = Reset.REFUSED_STREAM.value  # the code that says: not processed, try elsewhere


class _Nobody:
    """Stands behind a stream that is over, so that no cycle is left of it."""

    def opened(self, upstream: Upstream) -> None: ...
    def informational(self, response: Response) -> None: ...
    def response(self, response: Response, end: bool) -> None: ...
    def response_body(self, data: bytes) -> None: ...
    def response_end(self, trailers: Headers | None) -> None: ...
    def failed(self, failure: Failure, detail: str) -> None: ...
    def pause_request(self) -> None: ...
    def resume_request(self) -> None: ...


_NOBODY: Final = _Nobody()


class ClientStream(Stream):
    """`id` 0: opened, not requested as yet. `answered`: the final head has come."""

    __slots__ = ("answered", "fresh", "head_only", "informed", "sink")

    connection: Client
    sink: ResponseSink

    def __init__(self, connection: Client, sink: ResponseSink, fresh: bool) -> None:
        Stream.__init__(self, connection, 0)
        self.sink, self.fresh = sink, fresh
        self.answered = self.head_only = False
        self.informed = 0

    @property
    def local(self) -> tuple[str, int]:
        return self.connection.local

    def request(self, request: Request, end: bool) -> None:
        if self.begun or not self.open_out:
            return
        connection, method = self.connection, request.method
        line = method, request.scheme, request.path, request.authority
        if not connection.begin_stream(self, request, line):
            return
        self.head_only = method == b"HEAD"
        self.begun, self.open_out = True, not end
        connection.write_block(self.id, connection.encoder.encode_request(line, request.headers), end)

    def let_go(self) -> ResponseSink:
        """It is over: who stood behind it is to be told one last thing."""
        sink, self.sink = self.sink, _NOBODY
        return sink

    def close(self, reason: Reset) -> None:
        self.sink = _NOBODY
        if self.id:
            Stream.close(self, reason)
            return
        self.open_in = self.open_out = False
        self.connection.never_begun(self)

    def deliver(self, data: bytes) -> None:
        if not self.answered or self.head_only:
            raise StreamFault(self.id, Reset.PROTOCOL_ERROR, "DATA where there is no body")
        self.sink.response_body(data)

    def ended(self, trailers: Headers | None) -> None:
        """A whole answer before our request's end: the rest of it is not wanted any more."""
        sink = self.let_go()
        if not self.answered:
            self.close(Reset.PROTOCOL_ERROR)
            sink.failed(Failure.PROTOCOL, "a response without a head")
            return
        if self.open_out:
            self.close(Reset.CANCEL)
        sink.response_end(trailers)

    def broken(self, reason: Reset, detail: str, code: int = -1) -> None:
        if code == REFUSED:
            failure = Failure.REFUSED
        elif code < 0:
            failure = Failure.PROTOCOL
        else:
            failure = Failure.RESET
        self.let_go().failed(failure, detail)

    def ask_to_pause(self) -> None:
        self.sink.pause_request()

    def ask_to_resume(self) -> None:
        self.sink.resume_request()
