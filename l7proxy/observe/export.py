"""Spans on their way to a collector: once a second, in batches, and never in the way of requests.

A provider names a service of the mesh, or a host. It is reached from the node itself, by HTTP/1.1 (Zipkin, OTLP
over HTTP) or gRPC (OTLP). What a collector does not take is lost and counted, and the reason stands in `problems`.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
from collections.abc import Awaitable, Callable
from typing import Final, cast

from weft.l7proxy.core import http2
from weft.l7proxy.core.limits import DEFAULTS
from weft.l7proxy.core.parties import World
from weft.l7proxy.core.stream import Failure, Headers, Request, Response, Upstream
from weft.l7proxy.observe import encode
from weft.l7proxy.observe.spans import Outbox, Span
from weft.l7proxy.upstream.connection import Connection
from weft.policies.mesh.model import Provider

log = logging.getLogger("weft.l7proxy")

EVERY: Final = 1.0
TIMEOUT: Final = 5.0
EXPORT: Final = b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"

Resolve = Callable[[str], Awaitable[list[str]]]


class Undelivered(Exception):
    """A collector that cannot be reached, or does not want what we have."""


class Exporter:
    """`now`: for the codec of gRPC. `sent` counts spans."""

    def __init__(self, outbox: Outbox, world: World, resolve: Resolve, now: Callable[[], float]) -> None:
        self.problems: dict[str, str] = {}
        self.sent = 0
        self._outbox, self._world, self._resolve, self._now = outbox, world, resolve, now

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        """All that waits, one batch after the other; a provider that fails loses its batch and waits for the next
        turn."""
        for provider in self._outbox.providers():
            while spans := self._outbox.take(provider):
                if not await self._delivered(provider, spans):
                    break

    async def _delivered(self, provider: Provider, spans: list[Span]) -> bool:
        try:
            async with asyncio.timeout(provider.timeout or TIMEOUT):
                await self._deliver(provider, spans)
        except (Undelivered, OSError, TimeoutError, http.client.HTTPException, ValueError) as error:
            reason = str(error) or type(error).__name__
            if self.problems.get(provider.name) != reason:
                log.warning("spans for %s: %s", provider.name, reason)
            self.problems[provider.name] = reason
            self._outbox.lost += len(spans)
            return False
        self.sent += len(spans)
        self.problems.pop(provider.name, None)
        return True

    async def _deliver(self, provider: Provider, spans: list[Span]) -> None:
        host = provider.service.rpartition("/")[2]
        ip, port = await self._find(host, provider.port)
        authority = f"{host}:{provider.port}"
        if provider.type == "zipkin":
            path = provider.http_path or "/api/v2/spans"
            await _post(ip, port, authority, path, "application/json", encode.zipkin(spans), provider)
        elif provider.type == "opentelemetry" and provider.http_path:
            body = encode.otlp(spans)
            await _post(ip, port, authority, provider.http_path, "application/x-protobuf", body, provider)
        elif provider.type == "opentelemetry":
            await self._call(ip, port, authority, encode.otlp(spans), provider)
        else:
            raise Undelivered(f"a provider of type {provider.type} takes no spans")

    async def _find(self, host: str, port: int) -> tuple[str, int]:
        service = self._world.service(host)
        for item in service.ports if service is not None else ():
            if item.port == port and item.backends:
                return item.backends[0].ip, item.backends[0].port
        if service is not None:
            raise Undelivered(f"{host} has nobody ready at port {port}")
        found = await self._resolve(host)
        if not found:
            raise Undelivered(f"there is no host {host}")
        return found[0], port

    async def _call(self, ip: str, port: int, authority: str, body: bytes, provider: Provider) -> None:
        """One call of gRPC."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        owner = _Owner(answer)
        transport, shell = await loop.create_connection(lambda: _Opening(owner, self._now), ip, port)
        headers = [
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *((name.lower().encode(), value.encode()) for name, value in provider.headers),
        ]
        request = Request(b"POST", EXPORT, authority.encode(), headers, version="2", length=-1)
        try:
            upstream = shell.open(_Answer(answer))
            upstream.request(request, False)
            upstream.send(b"\x00" + len(body).to_bytes(4) + body)
            upstream.finish()
            status = await answer
        finally:
            transport.close()
        if status:
            raise Undelivered(f"the collector answered with gRPC status {status}")


async def _post(ip: str, port: int, authority: str, path: str, kind: str, body: bytes, provider: Provider) -> None:
    status = await asyncio.to_thread(_post_now, ip, port, authority, path, kind, body, provider)
    if status >= 300:
        raise Undelivered(f"the collector answered with {status}")


def _post_now(ip: str, port: int, authority: str, path: str, kind: str, body: bytes, provider: Provider) -> int:
    connection = http.client.HTTPConnection(ip, port, timeout=provider.timeout or TIMEOUT)
    try:
        headers = {"Host": authority, "Content-Type": kind, **dict(provider.headers)}
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


class _Owner:
    """`upstream.connection.Owner`, of a connection for one call."""

    def __init__(self, answer: asyncio.Future[int]) -> None:
        self._answer = answer

    def changed(self, connection: Connection) -> None:
        """It carries one call and no more."""

    def lost(self, connection: Connection) -> None:
        if not self._answer.done():
            self._answer.set_exception(Undelivered("the collector closed the connection"))


class _Opening(asyncio.Protocol):
    """Becomes a Connection with its codec once there is a transport."""

    def __init__(self, owner: _Owner, now: Callable[[], float]) -> None:
        self._owner, self._now = owner, now
        self._connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        there = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        codec = http2.Client(there, DEFAULTS, self._now)
        self._connection = Connection(self._owner, there, codec, self._now())

    def open(self, sink: _Answer) -> Upstream:
        assert self._connection is not None
        return self._connection.codec.open(sink)

    def data_received(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._connection.connection_lost(exc)


class _Answer:
    """A ResponseSink that waits for grpc-status."""

    def __init__(self, answer: asyncio.Future[int]) -> None:
        self._answer = answer
        self._status = 0

    def opened(self, upstream: Upstream) -> None:
        """We opened it ourselves."""

    def informational(self, response: Response) -> None:
        """Nothing that a caller needs."""

    def response(self, response: Response, end: bool) -> None:
        self._read(response.headers)
        if response.status != 200:
            self._status = self._status or 2
        if end:
            self._done()

    def response_body(self, data: bytes) -> None:
        """An ExportTraceServiceResponse says nothing that we would act on."""

    def response_end(self, trailers: Headers | None) -> None:
        self._read(trailers or [])
        self._done()

    def failed(self, failure: Failure, detail: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(Undelivered(detail or failure.value))

    def pause_request(self) -> None:
        """A batch is small: it may stand in the transport's buffer."""

    def resume_request(self) -> None: ...

    def _read(self, headers: Headers) -> None:
        for name, value in headers:
            if name == b"grpc-status" and value.isdigit():
                self._status = int(value)

    def _done(self) -> None:
        if not self._answer.done():
            self._answer.set_result(self._status)
