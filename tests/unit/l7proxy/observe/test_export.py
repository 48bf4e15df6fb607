"""Spans to collectors that are real servers: Zipkin's JSON, OTLP over HTTP, OTLP over gRPC."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from weft.l7proxy.observe.export import Exporter
from weft.l7proxy.observe.spans import Outbox, Span
from weft.l7proxy.observe.telemetry import CLIENT, SERVER
from weft.policies.mesh.model import Provider
from weft.policies.model import Protocol
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem

TRACE, ONE, TWO = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "00f067aa0ba902b8"
PLACES = (("web.shop", "10.0.0.1", 40000), ("orders.shop", "fd00::2", 8080))
SPANS = [
    Span(TRACE, ONE, "", CLIENT, "orders:80/*", 1_700_000_000.5, 0.007, *PLACES, False, {"http.method": "GET"}),
    Span(TRACE, TWO, ONE, SERVER, "orders:80/*", 1_700_000_000.5, 0.007, PLACES[1], PLACES[0], True, {}),
]


class World:
    def __init__(self, port: int) -> None:
        item = ServicePortItem("http", Protocol.TCP, 9411, 0, "", (BackendItem("127.0.0.1", port),))
        self.item = ServiceItem("obs", "collector", "ClusterIP", ("10.96.1.1",), (item,))

    def service(self, host: str) -> ServiceItem | None:
        return self.item if host == self.item.host else None


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*given: Any, **named: Any) -> None:
        asyncio.run(test(*given, **named))

    return run


async def nobody(host: str) -> list[str]:
    return []


def exporter(port: int, outbox: Outbox) -> Exporter:
    return Exporter(outbox, World(port), nobody, time.monotonic)  # type: ignore[arg-type]


def outbox(provider: Provider) -> Outbox:
    made = Outbox()
    for span in SPANS:
        made.put(provider, span)
    return made


class Collector:
    """An HTTP server that keeps what it is sent."""

    def __init__(self, status: int = 202) -> None:
        self.status = status
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    async def __aenter__(self) -> Collector:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append((head[0], headers, body))
        writer.write(f"HTTP/1.1 {self.status} x\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


ZIPKIN = Provider("z", "zipkin", "collector.obs.svc.cluster.local", 9411)


@in_loop
async def test_zipkin_takes_json() -> None:
    waiting = outbox(ZIPKIN)
    async with Collector() as collector:
        made = exporter(collector.port, waiting)
        await made.flush()
    ((line, headers, body),) = collector.requests
    assert line == "POST /api/v2/spans HTTP/1.1"
    assert (headers["host"], headers["content-type"]) == (
        "collector.obs.svc.cluster.local:9411",
        "application/json",
    )
    first, second = json.loads(body)
    assert first["localEndpoint"] == {"serviceName": "web.shop", "ipv4": "10.0.0.1", "port": 40000}
    assert first["remoteEndpoint"]["ipv6"] == "fd00::2"
    assert (first["kind"], first["timestamp"], first["duration"]) == ("CLIENT", 1_700_000_000_500_000, 7000)
    assert "parentId" not in first and second["parentId"] == ONE
    assert (made.sent, waiting.lost, made.problems) == (2, 0, {})


@in_loop
async def test_otlp_over_http() -> None:
    provider = Provider(
        "o", "opentelemetry", "obs/collector.obs.svc.cluster.local", 9411, "/v1/traces", headers=(("X-Key", "k"),)
    )
    async with Collector(200) as collector:
        await exporter(collector.port, outbox(provider)).flush()
    ((line, headers, body),) = collector.requests
    assert (line, headers["x-key"]) == ("POST /v1/traces HTTP/1.1", "k")
    check(ExportTraceServiceRequest.FromString(body))


def check(request: Any) -> None:
    first, second = request.resource_spans
    assert [r.resource.attributes[0].value.string_value for r in request.resource_spans] == [
        "web.shop",
        "orders.shop",
    ]
    (one,), (two,) = first.scope_spans[0].spans, second.scope_spans[0].spans
    assert (one.trace_id.hex(), one.span_id.hex(), one.kind) == (TRACE, ONE, 3)
    assert (two.parent_span_id.hex(), two.kind, two.status.code) == (ONE, 2, 2)
    assert one.end_time_unix_nano - one.start_time_unix_nano == pytest.approx(7_000_000, abs=1000)


@in_loop
async def test_otlp_over_grpc() -> None:
    got: list[ExportTraceServiceRequest] = []
    server, port = grpc_server(got, grpc.StatusCode.OK)
    made = exporter(port, outbox(Provider("g", "opentelemetry", "collector.obs.svc.cluster.local", 9411)))
    try:
        await made.flush()
    finally:
        server.stop(0)
    check(got[0])
    assert made.problems == {}


@in_loop
async def test_a_grpc_status_is_a_problem() -> None:
    server, port = grpc_server([], grpc.StatusCode.UNAVAILABLE)
    waiting = outbox(Provider("g", "opentelemetry", "collector.obs.svc.cluster.local", 9411))
    made = exporter(port, waiting)
    try:
        await made.flush()
    finally:
        server.stop(0)
    assert made.problems == {"g": "the collector answered with gRPC status 14"}
    assert waiting.lost == 2


def grpc_server(got: list[ExportTraceServiceRequest], code: grpc.StatusCode) -> tuple[grpc.Server, int]:
    def export(request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        got.append(request)
        context.set_code(code)
        return ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    method = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@in_loop
async def test_what_is_not_taken_is_lost_counted_and_told_and_the_next_goes_through() -> None:
    waiting = outbox(ZIPKIN)
    async with Collector(503) as collector:
        made = exporter(collector.port, waiting)
        await made.flush()
        assert (made.problems, waiting.lost) == ({"z": "the collector answered with 503"}, 2)
        collector.status = 202
        waiting.put(ZIPKIN, SPANS[0])
        await made.flush()
    assert (made.problems, made.sent) == ({}, 1)


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        (Provider("x", "zipkin", "nowhere.example", 9411), "there is no host nowhere.example"),
        (Provider("x", "zipkin", "collector.obs.svc.cluster.local", 1), "nobody ready at port 1"),
        (Provider("x", "datadog", "collector.obs.svc.cluster.local", 9411), "takes no spans"),
    ],
    ids=["no such host", "no such port", "another kind of provider"],
)
@in_loop
async def test_whom_nobody_finds(provider: Provider, reason: str) -> None:
    waiting = outbox(provider)
    made = exporter(1, waiting)
    await made.flush()
    assert reason in made.problems["x"]
    assert waiting.lost == 2


def test_an_outbox_has_its_bound() -> None:
    waiting = Outbox(most=1)
    for span in SPANS:
        waiting.put(ZIPKIN, span)
    assert (waiting.lost, len(waiting.take(ZIPKIN))) == (1, 1)
