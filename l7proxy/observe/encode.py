"""Spans as collectors take them: Zipkin's JSON (v2), OTLP as protobuf or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from weft.l7proxy.observe.spans import Span
from weft.l7proxy.observe.telemetry import CLIENT

_NS, _US = 1_000_000_000, 1_000_000


def zipkin(spans: Iterable[Span]) -> bytes:
    """The body of POST /api/v2/spans."""
    return json.dumps([_zipkin(span) for span in spans], separators=(",", ":")).encode()


def _zipkin(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "traceId": span.trace,
        "id": span.span,
        "kind": span.kind,
        "name": span.name,
        "timestamp": int(span.start * _US),
        "duration": max(1, int(span.seconds * _US)),
        "localEndpoint": _endpoint(span.local),
        "remoteEndpoint": _endpoint(span.remote),
        "tags": span.tags,
    }
    if span.parent:
        found["parentId"] = span.parent
    return found


def _endpoint(place: tuple[str, str, int]) -> dict[str, Any]:
    name, ip, port = place
    found: dict[str, Any] = {"serviceName": name}
    if ip:
        found["ipv6" if ip_address(ip).version == 6 else "ipv4"] = ip
        found["port"] = port
    return found


def otlp(spans: Sequence[Span]) -> bytes:
    """An ExportTraceServiceRequest: of gRPC, and of POST /v1/traces. The generated code is large, and asked for by
    those who send spans that way only."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    for service in dict.fromkeys(span.local[0] for span in spans):
        resource = request.resource_spans.add()
        attribute = resource.resource.attributes.add(key="service.name")
        attribute.value.string_value = service
        scope = resource.scope_spans.add()
        scope.scope.name = "weft"
        for span in spans:
            if span.local[0] == service:
                _fill(scope.spans.add(), span)
    return request.SerializeToString()


def _fill(message: Any, span: Span) -> None:
    message.trace_id = bytes.fromhex(f"{span.trace:0>32}")
    message.span_id = bytes.fromhex(span.span)
    if span.parent:
        message.parent_span_id = bytes.fromhex(span.parent)
    message.name = span.name
    message.kind = 3 if span.kind == CLIENT else 2
    message.start_time_unix_nano = int(span.start * _NS)
    message.end_time_unix_nano = int((span.start + span.seconds) * _NS)
    for key, value in span.tags.items():
        message.attributes.add(key=key).value.string_value = value
    if span.error:
        message.status.code = 2
