"""An HTTP/2 relay in memory: transports that hand bytes over, and a handler that stands where the exchange
stands."""

from __future__ import annotations

from collections.abc import Callable

from weft.l7proxy.core.http2 import Client, Server
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.stream import Downstream, Failure, Headers, Peer, Request, Reset, Response, Upstream

PEER = ("10.0.0.1", 4000), ("10.0.0.2", 80)


class Wire:
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = self.aborted = self.reading_paused = False
        self.on_write: Callable[[bytes], None] | None = None

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after close"
        self.written.append(data)
        if self.on_write is not None:
            self.on_write(data)

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Splice:
    """One request, passed from a Downstream to an Upstream and back: what the exchange does, without thoughts."""

    __slots__ = ("downstream", "responded", "upstream")

    def __init__(self, downstream: Downstream, client: Client, request: Request, end: bool) -> None:
        self.downstream = downstream
        self.responded = False
        self.upstream: Upstream = client.open(self)
        self.upstream.request(request, end)

    def body(self, data: bytes) -> None:
        self.upstream.send(data)

    def end(self, trailers: Headers | None) -> None:
        self.upstream.finish(trailers)

    def gone(self, reason: Reset) -> None:
        self.upstream.reset(reason)

    def pause_response(self) -> None:
        self.upstream.pause()

    def resume_response(self) -> None:
        self.upstream.resume()

    def opened(self, upstream: Upstream) -> None: ...

    def informational(self, response: Response) -> None:
        self.downstream.informational(response)

    def response(self, response: Response, end: bool) -> None:
        self.responded = True
        self.downstream.respond(response, end)

    def response_body(self, data: bytes) -> None:
        self.downstream.send(data)

    def response_end(self, trailers: Headers | None) -> None:
        self.downstream.finish(trailers)

    def failed(self, failure: Failure, detail: str) -> None:
        if self.responded:
            self.downstream.reset(Reset.CANCEL)
        else:
            self.downstream.respond(Response(503, [], length=0), True)

    def pause_request(self) -> None:
        self.downstream.pause()

    def resume_request(self) -> None:
        self.downstream.resume()


class Relay:
    """`front` is what a client speaks to, `back` speaks to a server; bytes are fed in and taken out by the test."""

    def __init__(self, limits: Limits = DEFAULTS) -> None:
        self.clock = Clock()
        self.front_wire, self.back_wire = Wire(), Wire()
        self.back = Client(self.back_wire, limits, self.clock)
        self.front = Server(self.front_wire, self, Peer(*PEER), limits, self.clock)

    def request(self, request: Request, downstream: Downstream, end: bool) -> Splice:
        return Splice(downstream, self.back, request, end)
