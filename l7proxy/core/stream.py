"""The small interface between codecs and what stands behind them: one request, one response, in pieces.

```
bytes -> server codec -> Handler.request() -> Exchange -> Endpoints.open() -> client codec -> bytes
bytes <- server codec <- Downstream        <- Exchange <- ResponseSink     <- client codec <- bytes
```

A server codec (HTTP/1.1 or HTTP/2, accepted side) makes a `Downstream` for each request and gets a `RequestSink`
for it. A client codec (upstream side) gets a `ResponseSink` for each request and gives an `Upstream`. The exchange
is both a RequestSink and a ResponseSink, so any codec can stand at either end.

Rules, for both directions:
1. head, body pieces, end: in this order, the head once, the end once. `end=True` with the head: no body follows.
2. After `reset`, `gone` or `failed` no call follows from that side, and calls to it are ignored.
3. `pause()` asks the other side to stop sending pieces; pieces on their way may still come. Nobody buffers more
   than one window (64 KiB) beyond a pause; `resume()` undoes it. Pausing twice is pausing once.
4. Callbacks may come from within a call that you make. Keep your state right before you call out.
5. Header names are lower case bytes. A codec has taken out what belongs to its framing: `connection` and what it
   names, `keep-alive`, `proxy-connection`, `transfer-encoding`, `upgrade`, `te` (but `te: trailers` stays), `host`
   (it is `authority`), and pseudo headers. `content-length` stays in the headers and is in `length`, too. A codec
   that writes adds what its framing needs, and trusts `length` for how the body is framed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from weft.l7proxy.core.named import Named

Headers = list[tuple[bytes, bytes]]


class Request:
    """`path` with its query string, as sent. `authority` "": there was none (HTTP/1.0). `length`: of the body; -1:
    not known beforehand; 0 with `end`: no body. `upgrade`: lower case protocol (b"websocket") where the client asks
    for one by HTTP/1.1, else b"". `expect`: the client waits for 100 Continue before it sends the body. `more`: a
    piece of the body follows within the same call of the codec, so a writer may hold the head back for it."""

    __slots__ = (
        "authority",
        "expect",
        "headers",
        "length",
        "method",
        "more",
        "named",
        "path",
        "scheme",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        path: bytes,
        authority: bytes,
        headers: Headers,
        *,
        scheme: bytes = b"http",
        version: str = "1.1",
        length: int = 0,
        upgrade: bytes = b"",
        expect: bool = False,
    ) -> None:
        self.method, self.path, self.authority, self.headers = method, path, authority, headers
        self.scheme, self.version, self.length = scheme, version, length  # version: "1.0", "1.1" or "2"
        self.upgrade, self.expect = upgrade, expect
        self.more = False
        self.named: Named | None = None


class Response:
    """`length`, `more` as of Request. `version` of the upstream, for the record. A 101 opens a tunnel: pieces then
    go both ways as they come, and `finish` closes one direction. `headers` may be shared with other responses: who
    changes them makes a list of their own. `named`: as they came, by name, if the codec has them so."""

    __slots__ = ("headers", "length", "more", "named", "reason", "status", "version")

    def __init__(
        self, status: int, headers: Headers, *, length: int = -1, version: str = "1.1", reason: bytes = b""
    ) -> None:
        self.status, self.headers, self.length = status, headers, length
        self.version, self.reason = version, reason
        self.more = False
        self.named: dict[bytes, bytes] | None = None


class Reset(enum.IntEnum):
    """Why a stream ends before its end: HTTP/2's error codes (RFC 9113, 7). HTTP/1.1 closes the connection."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Failure(enum.Enum):
    """What went wrong upstream, as the retry table distinguishes it."""

    CONNECT = "connect"  # refused, unreachable
    CONNECT_TIMEOUT = "connect-timeout"
    OVERFLOW = "overflow"  # a limit of the destination: never tried
    REFUSED = "refused"  # REFUSED_STREAM, or GOAWAY below our stream: not processed
    RESET_BEFORE_REQUEST = "reset-before-request"  # the connection ended before the head was written
    RESET = "reset"  # RST_STREAM, connection lost, closed before a whole response
    PROTOCOL = "protocol"  # what came is no response
    LOCAL_CLOSE = "local-close"  # the endpoint was drained or the pool closed


class Peer:
    """The accepted connection that requests come on. `source`: the client's address; `destination`: what the client
    addressed (its original destination). Both (ip, port), v4-mapped addresses unmapped."""

    __slots__ = ("destination", "id", "protocol", "source", "upgraded")

    def __init__(self, source: tuple[str, int], destination: tuple[str, int], id: int = 0) -> None:
        self.source, self.destination, self.id = source, destination, id
        self.protocol = ""  # "http1", "http2", "tcp" once known
        self.upgraded = False  # to HTTP/2, from HTTP/1.1: an offer of the client's, not what it needs


class Downstream(Protocol):
    """The way back to a client, for one request."""

    peer: Peer

    def informational(self, response: Response) -> None:
        """A 1xx other than 101. `100` answers Expect."""

    def respond(self, response: Response, end: bool) -> None: ...
    def send(self, data: bytes) -> None: ...
    def finish(self, trailers: Headers | None = None) -> None: ...
    def reset(self, reason: Reset) -> None:
        """The answer cannot be completed. Before `respond` an exchange answers instead."""

    def close_after(self) -> None:
        """The connection is not to be used again after this response (Connection: close, GOAWAY)."""

    def pause(self) -> None:
        """No more of the request's body for now."""

    def resume(self) -> None: ...


class RequestSink(Protocol):
    """Where a server codec brings what comes after the request's head."""

    def body(self, data: bytes) -> None: ...
    def end(self, trailers: Headers | None) -> None: ...
    def gone(self, reason: Reset) -> None:
        """The client reset the stream or its connection is lost."""

    def pause_response(self) -> None:
        """The client reads slowly: no more `send` for now."""

    def resume_response(self) -> None: ...


class Handler(Protocol):
    """What a server codec serves. One for each accepted connection."""

    def request(self, request: Request, downstream: Downstream, end: bool) -> RequestSink:
        """`end`: the request has no body. May answer before it returns."""


class Upstream(Protocol):
    """The way to one endpoint, for one request. Given to `ResponseSink.opened`."""

    @property
    def local(self) -> tuple[str, int]:
        """Our address on the connection that carries it, for the record."""

    @property
    def fresh(self) -> bool:
        """Nothing was carried on this connection before."""

    def request(self, request: Request, end: bool) -> None: ...
    def send(self, data: bytes) -> None: ...
    def finish(self, trailers: Headers | None = None) -> None: ...
    def reset(self, reason: Reset) -> None:
        """Nobody waits for the answer any more: HTTP/2 resets the stream, HTTP/1.1 gives the connection up."""

    def pause(self) -> None:
        """No more of the response's body for now."""

    def resume(self) -> None: ...


class ResponseSink(Protocol):
    """Where an upstream brings what happens. `opened` comes first (perhaps from within `open`), or `failed`."""

    def opened(self, upstream: Upstream) -> None: ...
    def informational(self, response: Response) -> None: ...
    def response(self, response: Response, end: bool) -> None: ...
    def response_body(self, data: bytes) -> None: ...
    def response_end(self, trailers: Headers | None) -> None: ...
    def failed(self, failure: Failure, detail: str) -> None:
        """`detail`: for the record (`upstream_reset_before_response_started{...}`), never for the client."""

    def pause_request(self) -> None: ...
    def resume_request(self) -> None: ...


class Transport(Protocol):
    """What a codec writes to: asyncio's transports fit."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None:
        """Half-close, after what was written has gone out: tunnels need it."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None:
        """After what was written has gone out."""

    def abort(self) -> None: ...


class ServerCodec(Protocol):
    """`http1.Server(transport, handler, peer, limits, clock)`, `http2.Server(...)`: the shell calls these."""

    def receive(self, data: bytes) -> None: ...
    def eof(self) -> None:
        """The client will send no more; answers that are owed still go out."""

    def lost(self) -> None:
        """The connection is gone."""

    def pause_writing(self) -> None:
        """The transport's buffer is over its high water mark."""

    def resume_writing(self) -> None: ...
    def drain(self) -> None:
        """No new requests: close when idle, else after the current ones; the client is told as the protocol can."""

    @property
    def idle(self) -> bool:
        """Between two requests, nothing half read: fit to be handed over or closed."""

    def tick(self, now: float) -> None:
        """Called about once a second: head and idle timeouts are judged here, with the clock's `now`."""


class ClientCodec(Protocol):
    """The upstream side: `http1.Client(transport, ...)`, `http2.Client(...)`. `on_change` is the pool's: called
    when `available`, `active` or `closing` has changed."""

    on_change: Callable[[], None] | None

    def open(self, sink: ResponseSink) -> Upstream:
        """Only while `available` > 0. Does not call `sink.opened`: the pool does."""

    @property
    def available(self) -> int:
        """How many requests may be opened now. HTTP/1.1: 1 when idle, else 0. 0 for ever once it is `closing`."""

    @property
    def active(self) -> int: ...
    @property
    def closing(self) -> bool:
        """The server said that it goes away, or the codec has failed: open nothing more on it."""

    def receive(self, data: bytes) -> None: ...
    def eof(self) -> None: ...
    def lost(self, failure: Failure) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def close(self) -> None:
        """When nothing is active any more."""
