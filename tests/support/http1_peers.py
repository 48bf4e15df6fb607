"""What stands around the HTTP/1.1 codecs in tests: a transport that remembers, a handler that records, and a pipe
that carries requests from a server codec to a client codec as the exchange does, with nothing in between."""

from __future__ import annotations

from collections.abc import Callable

from weft.l7proxy.core.http1 import Client, Server
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.stream import (
    Downstream,
    Failure,
    Headers,
    Peer,
    Request,
    RequestSink,
    Reset,
    Response,
    Upstream,
)

PEER = Peer(("10.0.0.1", 40000), ("10.0.0.2", 80), 1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wire:
    """`writes`: one entry for each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.paused = self.closed = self.aborted = self.ended = False

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def take(self) -> bytes:
        taken = self.written
        self.writes.clear()
        return taken

    def write(self, data: bytes) -> None:
        if not (self.closed or self.aborted):
            assert not self.ended, "written after the half-close"
            self.writes.append(data)

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    @property
    def over(self) -> bool:
        """No answer follows any more."""
        return self.closed or self.aborted or self.ended


class Seen:
    """One request as a handler sees it, and its sink."""

    def __init__(self, request: Request, downstream: Downstream, end: bool) -> None:
        self.request, self.downstream, self.ended = request, downstream, end
        self.pieces: list[bytes] = []
        self.trailers: Headers | None = None
        self.lost: Reset | None = None
        self.paused = False

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def body(self, data: bytes) -> None:
        assert data and not self.ended and self.lost is None
        self.pieces.append(data)

    def end(self, trailers: Headers | None) -> None:
        assert self.lost is None
        self.ended, self.trailers = True, trailers

    def gone(self, reason: Reset) -> None:
        assert self.lost is None
        self.lost = reason

    def pause_response(self) -> None:
        self.paused = True

    def resume_response(self) -> None:
        self.paused = False

    def answer(self, body: bytes = b"ok", status: int = 200) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        self.downstream.respond(Response(status, headers, length=len(body)), not body)
        if body:
            self.downstream.send(body)
            self.downstream.finish()


class Recorder:
    """A handler that remembers. `at_once(seen)` is called within `request`."""

    def __init__(self, at_once: Callable[[Seen], None] | None = None) -> None:
        self.seen: list[Seen] = []
        self.at_once = at_once

    def request(self, request: Request, downstream: Downstream, end: bool) -> RequestSink:
        seen = Seen(request, downstream, end)
        self.seen.append(seen)
        if self.at_once is not None:
            self.at_once(seen)
        return seen


class Answers:
    """A response sink that remembers."""

    def __init__(self) -> None:
        self.informed: list[Response] = []
        self.head: Response | None = None
        self.pieces: list[bytes] = []
        self.ended = self.paused = False
        self.trailers: Headers | None = None
        self.failure: Failure | None = None
        self.detail = ""

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def opened(self, upstream: Upstream) -> None: ...

    def informational(self, response: Response) -> None:
        assert self.head is None
        self.informed.append(response)

    def response(self, response: Response, end: bool) -> None:
        assert self.head is None and self.failure is None
        self.head, self.ended = response, end

    def response_body(self, data: bytes) -> None:
        assert data and self.head is not None and not self.ended and self.failure is None
        self.pieces.append(data)

    def response_end(self, trailers: Headers | None) -> None:
        assert not self.ended and self.failure is None
        self.ended, self.trailers = True, trailers

    def failed(self, failure: Failure, detail: str) -> None:
        assert self.failure is None
        self.failure, self.detail = failure, detail

    def pause_request(self) -> None:
        self.paused = True

    def resume_request(self) -> None:
        self.paused = False


class Pipe:
    """Handler, RequestSink and ResponseSink at once: every request goes out on one client connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.down: Downstream | None = None
        self.up: Upstream | None = None

    def request(self, request: Request, downstream: Downstream, end: bool) -> RequestSink:
        self.down, self.up = downstream, self.client.open(self)
        self.up.request(request, end)
        return self

    def body(self, data: bytes) -> None:
        assert self.up
        self.up.send(data)

    def end(self, trailers: Headers | None) -> None:
        assert self.up
        self.up.finish(trailers)

    def gone(self, reason: Reset) -> None:
        assert self.up
        self.up.reset(reason)

    def opened(self, upstream: Upstream) -> None: ...

    def informational(self, response: Response) -> None:
        assert self.down
        self.down.informational(response)

    def response(self, response: Response, end: bool) -> None:
        assert self.down
        self.down.respond(response, end)

    def response_body(self, data: bytes) -> None:
        assert self.down
        self.down.send(data)

    def response_end(self, trailers: Headers | None) -> None:
        assert self.down
        self.down.finish(trailers)

    def failed(self, failure: Failure, detail: str) -> None:
        assert self.down
        self.down.respond(Response(503, [], length=0), True)

    def pause_response(self) -> None:
        assert self.up
        self.up.pause()

    def resume_response(self) -> None:
        assert self.up
        self.up.resume()

    def pause_request(self) -> None:
        assert self.down
        self.down.pause()

    def resume_request(self) -> None:
        assert self.down
        self.down.resume()


def accepted(
    at_once: Callable[[Seen], None] | None = None, limits: Limits = DEFAULTS
) -> tuple[Server, Wire, Recorder, Clock]:
    wire, recorder, clock = Wire(), Recorder(at_once), Clock()
    return Server(wire, recorder, PEER, limits, clock), wire, recorder, clock


def connected(limits: Limits = DEFAULTS) -> tuple[Client, Wire]:
    wire = Wire()
    return Client(wire, limits, Clock()), wire


def piped(limits: Limits = DEFAULTS) -> tuple[Server, Wire, Client, Wire]:
    """A whole proxy: server codec and wire, client codec and wire."""
    down, up, clock = Wire(), Wire(), Clock()
    client = Client(up, limits, clock)
    return Server(down, Pipe(client), PEER, limits, clock), down, client, up


def feeds(data: bytes) -> list[list[bytes]]:
    """The ways that bytes may come: whole, one by one, and all but the last first."""
    return [[data], [data[i : i + 1] for i in range(len(data))], [data[:-1], data[-1:]]]
