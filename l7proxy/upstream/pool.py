"""One client's connections to one endpoint in one protocol, and the requests that wait for one.

Rules:
1. A connection that can take a request gets it at once, the one used last first: no task, no future. Otherwise the
   request waits, and connections are opened until all that wait have a place, as far as the limits go.
2. What fails to connect fails all that wait: whoever asked decides what to do (Envoy does so, too).
3. A connection that got bytes or an end while idle is `closing` in its codec's eyes, and is never used again. One
   that has carried its number of requests, is too old or leads to a drained endpoint is retired: it ends what it
   has and closes.
4. State is right before anything is called that may come back here.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final, Protocol

from weft.l7proxy.core.circuit import Circuit
from weft.l7proxy.core.endpoints import Backend
from weft.l7proxy.core.stream import Failure, ResponseSink
from weft.l7proxy.upstream.connection import Cancel, Connection, Plumbing
from weft.policies.mesh.model import ConnectionPool

#: Streams that one new HTTP/2 connection is expected to take, until the server says: RFC 9113 asks for 100 at
#: least.
EXPECTED_STREAMS: Final = 100


class Owner(Protocol):
    """The client's view of the destination."""

    settings: ConnectionPool
    circuit: Circuit
    source: str
    waiting: dict[ResponseSink, Pool]


class Pool:
    """`_ready`: connections that could take a request when they were last looked at; the last used is the last.
    `multiplexed`: several streams run on one connection."""

    __slots__ = (
        "_make",
        "_owner",
        "_plumbing",
        "_ready",
        "connections",
        "dialling",
        "draining",
        "endpoint",
        "multiplexed",
        "pending",
        "protocol",
    )

    def __init__(self, owner: Owner, endpoint: Backend, protocol: str, plumbing: Plumbing) -> None:
        self._owner, self.endpoint, self.protocol, self._plumbing = owner, endpoint, protocol, plumbing
        self._make = plumbing.codecs[protocol]
        self.multiplexed = protocol == "http2"
        self._ready: list[Connection] = []
        self.connections: dict[Connection, None] = {}
        self.dialling: dict[_Dial, None] = {}
        self.pending: dict[ResponseSink, None] = {}
        self.draining = False

    def open(self, sink: ResponseSink) -> None:
        connection = self._usable()
        if connection is not None:
            self._carry(connection, sink)
        elif self._owner.circuit.wait(self._owner.settings):
            self.pending[sink] = None
            self._owner.waiting[sink] = self
            self._grow()
        else:
            self._owner.circuit.begin(self._owner.settings)
            sink.failed(Failure.OVERFLOW, "too_many_pending_requests")

    def cancel(self, sink: ResponseSink) -> None:
        """A request that waits here."""
        self._take(sink)
        self._owner.circuit.begin(self._owner.settings)

    def changed(self, connection: Connection) -> None:
        """The codec's: a stream ended, the server allows more or fewer, or goes away."""
        codec = connection.codec
        if codec.closing:
            self.retire(connection)
            if self.pending:
                self._grow()
        elif not connection.retired and codec.available > 0:
            connection.since = self._plumbing.now()
            if self.pending:
                self._serve(connection)
            if not connection.listed and connection in self.connections:
                connection.listed = True
                self._ready.append(connection)

    def lost(self, connection: Connection) -> None:
        if connection in self.connections:
            del self.connections[connection]
            self._forget(connection)
            if self.pending:
                self._grow()

    def retire(self, connection: Connection) -> None:
        if not connection.retired:
            connection.retired = True
            self._unlist(connection)
            connection.codec.close()

    def drain(self) -> None:
        """The endpoint is gone: what is under way or waits ends as it would; nothing stays open behind it."""
        self.draining = True
        for connection in list(self.connections):
            self.retire(connection)

    def sweep(self, now: float) -> bool:
        """Closes what is idle for too long or too old. Whether anything is left."""
        settings = self._owner.settings
        for connection in list(self.connections):
            idle = not connection.codec.active and now - connection.since >= settings.idle_timeout
            lasts = settings.max_connection_duration
            if idle or (lasts and now - connection.born >= lasts):
                self.retire(connection)
        if self.draining and not self.pending:
            self._hang_up()
        elif self.pending:
            self._grow()
        return bool(self.connections or self.pending or self.dialling)

    def close(self) -> None:
        """The worker ends: connections are cut."""
        self._hang_up()
        for connection in list(self.connections):
            connection.transport.abort()

    @property
    def idle(self) -> int:
        return sum(not connection.codec.active for connection in self.connections)

    # to connections

    def _usable(self) -> Connection | None:
        ready = self._ready
        if not ready:
            return None
        most = self._owner.settings.max_concurrent_streams if self.multiplexed else 0
        while ready:
            connection = ready[-1]
            codec = connection.codec
            if codec.available > 0 and not (most and codec.active >= most):
                return connection
            ready.pop()
            connection.listed = False
        return None

    def _carry(self, connection: Connection, sink: ResponseSink) -> None:
        owner = self._owner
        settings = owner.settings
        if not owner.circuit.begin(settings):
            sink.failed(Failure.OVERFLOW, "too_many_requests")
            return
        upstream = connection.codec.open(sink)
        connection.carried += 1
        if connection.carried == settings.max_requests_per_connection:
            self.retire(connection)
        sink.opened(upstream)

    def _serve(self, connection: Connection) -> None:
        """To those that wait, first come first."""
        most = self._owner.settings.max_concurrent_streams if self.multiplexed else 0
        codec = connection.codec
        while self.pending and not connection.retired and codec.available > 0:
            if most and codec.active >= most:
                break
            sink = next(iter(self.pending))
            self._take(sink)
            self._carry(connection, sink)

    def _take(self, sink: ResponseSink) -> None:
        del self.pending[sink]
        self._owner.waiting.pop(sink, None)
        self._owner.circuit.waited()

    # from nothing

    def _grow(self) -> None:
        settings = self._owner.settings
        each = (settings.max_concurrent_streams or EXPECTED_STREAMS) if self.multiplexed else 1
        while len(self.dialling) * each < len(self.pending):
            first = not self.connections and not self.dialling
            if not self._owner.circuit.connect(settings, first):
                break
            dial = _Dial(self)
            self.dialling[dial] = None
            self.endpoint.connections += 1
            dial.attempt = self._plumbing.connector.connect(
                self._owner.source,
                (self.endpoint.ip, self.endpoint.port),
                settings.connect_timeout,
                dial.opened,
                dial.failed,
                settings.keepalive,
            )

    def _opened(self, dial: _Dial, transport: asyncio.Transport) -> asyncio.Protocol:
        del self.dialling[dial]
        codec = self._make(transport, self._plumbing.limits, self._plumbing.now)
        connection = Connection(self, transport, codec, self._plumbing.now())
        self.connections[connection] = None
        codec.on_change = partial(self.changed, connection)
        self.changed(connection)
        if self.draining:
            self.retire(connection)
        return connection

    def _failed(self, dial: _Dial, failure: Failure, detail: str) -> None:
        del self.dialling[dial]
        self._count_out()
        waiting = list(self.pending)
        for sink in waiting:
            self._take(sink)
            self._owner.circuit.begin(self._owner.settings)
        for sink in waiting:
            sink.failed(failure, detail)

    # away

    def _hang_up(self) -> None:
        for dial in list(self.dialling):
            del self.dialling[dial]
            self._count_out()
            dial.cancel()

    def _forget(self, connection: Connection) -> None:
        self._unlist(connection)
        connection.retired = True
        self._count_out()

    def _unlist(self, connection: Connection) -> None:
        if connection.listed:
            connection.listed = False
            self._ready.remove(connection)

    def _count_out(self) -> None:
        self._owner.circuit.disconnect()
        self.endpoint.connections -= 1


class _Dial:
    """One attempt to connect."""

    __slots__ = ("attempt", "pool")

    def __init__(self, pool: Pool) -> None:
        self.pool: Pool = pool
        self.attempt: Cancel | None = None

    def opened(self, transport: asyncio.Transport) -> asyncio.Protocol:
        return self.pool._opened(self, transport)

    def failed(self, failure: Failure, detail: str) -> None:
        self.pool._failed(self, failure, detail)

    def cancel(self) -> None:
        if self.attempt is not None:
            self.attempt.cancel()
